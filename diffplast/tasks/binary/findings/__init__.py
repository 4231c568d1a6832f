"""What the report shows of binary patterns: claims, figures."""

from diffplast.report.findings import Findings

from . import claims, figures, paper

FINDINGS = Findings(
    claims=claims.CLAIMS,
    quoted=paper.QUOTED,
    level=paper.LEVEL.value,
    figures={"binary_loss": figures.beside_figure_2},
    headline=True,
    program_seconds=paper.PROGRAM_SECONDS,
)
