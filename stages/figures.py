"""Draw the figures of a task: python stages/figures.py TASK SCALE. Writes reports/SCALE/figures/ and curves/."""

import sys
from pathlib import Path

from diffplast import figures, params, results


def main() -> int:
    """Read and check params, read the task's results, draw."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    task, scale = sys.argv[1:]
    try:
        found = results.read(task, scale, params.load(task))
        figures.write(found, Path("reports", scale))
    except (params.ParamsError, results.ResultsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
