"""Decide the claims and write the report: python stages/report.py SCALE. Writes to reports/SCALE/."""

import sys

from diffplast import params, report, results


def main() -> int:
    """Read and check params, read the results of every task, write claims and page."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    scale = sys.argv[1]
    try:
        report.write(scale, results.read_all(scale, params.read()))
    except (params.ParamsError, results.ResultsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
