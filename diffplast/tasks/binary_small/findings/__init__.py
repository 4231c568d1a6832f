"""What the report shows of small binary patterns: claims, figures, a laboratory, page text."""

from diffplast.report.findings import Findings

from . import claims, figures, lab, paper, portrait

FINDINGS = Findings(
    claims=claims.CLAIMS,
    quoted=paper.QUOTED,
    curves=paper.FIGURE_3,
    heading=figures.heading,
    level=paper.LEVEL.value,
    log_episodes=True,
    figures={"binary_small_sweep": figures.levels},
    laboratory=lab.laboratory,
    portrait=portrait.portrait,
)
