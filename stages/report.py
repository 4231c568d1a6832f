"""Decide the claims and write the report: python -m stages.report SCALE. Writes to reports/SCALE/."""

import sys
from pathlib import Path

from diffplast.core import params, runs
from diffplast.report import page as report
from diffplast.report import results


@runs.errors_told()
def main() -> None:
    """Read and check params, read the results of every task, write claims and page."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    scale = sys.argv[1]
    found = results.read_all(scale, params.read())
    with runs.writing_to(Path("reports", scale)):
        report.write(scale, found)


if __name__ == "__main__":
    main()
