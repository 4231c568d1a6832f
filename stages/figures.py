"""Draw the figures of a task: python -m stages.figures TASK SCALE. Writes reports/SCALE/figures/ and curves/."""

import sys
from pathlib import Path

from diffplast.core import params, runs
from diffplast.report import figures, results


@runs.errors_told()
def main() -> None:
    """Read and check params, read the task's results, draw."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    task, scale = sys.argv[1:]
    found = results.read(task, scale, params.load(task))
    with runs.writing_to(Path("reports", scale)):
        figures.write(found, Path("reports", scale))


if __name__ == "__main__":
    main()
