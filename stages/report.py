"""Decide the claims and write the report: python -m stages.report SCALE. Writes to reports/SCALE/."""

import sys
from pathlib import Path

from diffplast.core import params, runs
from diffplast.page import report
from diffplast.report import results


@runs.report_user_errors()
def main(arguments: list[str]) -> None:
    """Read and check params, read the results of every task, write claims and page."""
    if len(arguments) != 1:
        sys.exit(__doc__)
    scale = params.known_scale(arguments[0])
    found = results.read_all(scale, params.read())
    with runs.writing_to(Path("reports", scale)):
        report.write(scale, found)


if __name__ == "__main__":
    main(sys.argv[1:])
