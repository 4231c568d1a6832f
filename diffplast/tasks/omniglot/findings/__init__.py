"""What the report shows of Omniglot: claims, figures."""

from diffplast.report.findings import Findings

from . import claims, figures, paper

FINDINGS = Findings(
    claims=claims.CLAIMS,
    quoted=paper.QUOTED,
    heading=figures.heading,
    figures={"omniglot_table": figures.table_1},
    program_seconds=paper.PROGRAM_SECONDS,
)
