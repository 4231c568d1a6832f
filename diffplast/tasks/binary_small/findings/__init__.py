"""What the report shows of small binary patterns: claims, figures."""

from diffplast.report.findings import Findings

from . import claims, figures, paper

FINDINGS = Findings(
    claims=claims.CLAIMS,
    quoted=paper.QUOTED,
    curves=paper.FIGURE_3,
    heading=figures.heading,
    level=paper.LEVEL.value,
    log_episodes=True,
    figures={"binary_small_sweep": figures.levels},
)
