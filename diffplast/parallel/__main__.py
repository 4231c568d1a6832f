"""Run the pipeline: python -m diffplast.parallel [TARGET ...] [--workers N].

Does what `dvc repro` does, with as many stages at a time as this machine has cores and memory for.
"""

import argparse
import sys
from queue import SimpleQueue

from dvc.exceptions import DvcException

from diffplast import UserError
from diffplast.parallel.pipeline import Pipeline
from diffplast.parallel.processes import Processes
from diffplast.parallel.schedule import run_stages


def main() -> int:
    """Command line: see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as for `dvc repro`; default: all")
    parser.add_argument("--workers", type=int, help="stages at a time; default: as many as cores and memory allow")
    arguments = parser.parse_args()
    try:
        with Pipeline(arguments.targets) as pipeline:
            events = SimpleQueue()
            host = Processes(pipeline, events, arguments.workers)
            failed = run_stages(pipeline, lambda stage: host, events)
    except (UserError, DvcException) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    if failed:
        done = "all that does not need them is done, and the same command tries them again"
        print(f"{len(failed)} stages failed: {', '.join(failed)}; {done}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
