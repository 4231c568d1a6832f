"""What the report shows of the maze: claims, figures, an animation, a laboratory, a player, page text."""

from diffplast.report.findings import Findings

from . import animation, claims, figures, lab, paper

FINDINGS = Findings(
    claims=claims.CLAIMS,
    quoted=paper.QUOTED,
    curves=paper.FIGURE_6,
    figures={"maze_paths": figures.paths},
    animations={"maze_episodes": animation.animation},
    laboratory=lab.laboratory,
    player=animation.episodes,
    headline=True,
    program_seconds=paper.PROGRAM_SECONDS,
)
