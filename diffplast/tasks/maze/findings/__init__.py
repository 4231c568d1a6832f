"""What the report shows of the maze: claims, figures, an animation."""

from diffplast.report.findings import Findings

from . import animation, claims, figures, paper

FINDINGS = Findings(
    claims=claims.CLAIMS,
    quoted=paper.QUOTED,
    curves=paper.FIGURE_6,
    figures={"maze_paths": figures.paths},
    animations={"maze_episodes": animation.animation},
    headline=True,
    program_seconds=paper.PROGRAM_SECONDS,
)
