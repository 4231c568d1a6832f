"""Draw the figures of a task: python -m stages.figures TASK SCALE. Writes reports/SCALE/figures/ and curves/."""

import sys
from pathlib import Path

from diffplast.core import params, runs
from diffplast.report import figures, results


@runs.report_user_errors()
def main(arguments: list[str]) -> None:
    """Read and check params, read the task's results, draw."""
    if len(arguments) != 2:
        sys.exit(__doc__)
    task, scale = arguments[0], params.known_scale(arguments[1])
    found = results.read(task, scale, params.load(task))
    with runs.writing_to(Path("reports", scale)):
        figures.write(found, Path("reports", scale))


if __name__ == "__main__":
    main(sys.argv[1:])
