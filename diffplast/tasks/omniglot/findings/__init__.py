"""What the report shows of Omniglot: claims, figures, a laboratory, page text."""

from diffplast.report.findings import Findings

from . import claims, figures, lab, paper

FINDINGS = Findings(
    claims=claims.CLAIMS,
    quoted=paper.QUOTED,
    figures={"omniglot_table": figures.table_1},
    laboratory=lab.laboratory,
    program_seconds=paper.PROGRAM_SECONDS,
)
