"""What the report shows of natural images: claims, figures."""

from diffplast.report.findings import Findings

from . import claims, figures, paper

FINDINGS = Findings(
    claims=claims.CLAIMS,
    quoted=paper.QUOTED,
    curves=paper.FIGURE_5,
    figures={"images_restored": figures.restored, "images_matrices": figures.matrices},
    program_seconds=paper.PROGRAM_SECONDS,
)
