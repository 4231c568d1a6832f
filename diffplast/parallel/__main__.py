"""Run the pipeline side by side: python -m diffplast.parallel [TARGET ...].

Does what `dvc repro` does, with as many stages at a time as this machine has cores and memory for. With --scheduler,
training and evaluation run on the workers of a Dask cluster.
"""

import argparse
import sys
from queue import SimpleQueue

from dvc.exceptions import DvcException
from dvc.repo import Repo

from diffplast.core.errors import UserError
from diffplast.parallel.pipeline import Pipeline
from diffplast.parallel.processes import Processes
from diffplast.parallel.schedule import Host, run_stages

# What workers of a cluster run: it takes long, and needs no network.
ON_WORKERS = ("python -m stages.train ", "python -m stages.evaluate ")


def reproduce_here(targets: list[str], workers: int | None) -> dict[str, str]:
    """Run the pipeline on this machine. Returns the failed stages: why."""
    events = SimpleQueue()
    with Pipeline(targets) as pipeline:
        processes = Processes(pipeline, events, workers)
        return run_stages(pipeline, lambda stage: processes, events)


def reproduce_on_cluster(targets: list[str], workers: int | None, scheduler: str, tries: int) -> dict[str, str]:
    """Run the pipeline with the stages of single runs on a Dask cluster. Returns the failed stages: why."""
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise UserError("a cluster needs one more package: pip install --editable '.[cluster]'") from None

    from diffplast.parallel.cluster import Checkout, Workers, remote

    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise UserError(f"--scheduler {scheduler}: {error}") from None
    events, config = SimpleQueue(), remote(Repo())
    with client, Pipeline(targets, config) as pipeline:
        checkout = Checkout(config)
        client.register_plugin(checkout)
        processes = Processes(pipeline, events, workers)
        cluster = Workers(pipeline, events, client, checkout.name, tries)

        def host_of(stage: str) -> Host:
            return cluster if str(pipeline.stages[stage].cmd).startswith(ON_WORKERS) else processes

        return run_stages(pipeline, host_of, events)


def main(options: list[str]) -> int:
    """Command line: see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as for `dvc repro`; default: all")
    parser.add_argument("--workers", type=int, help="stages at a time here; default: as cores and memory allow")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster")
    parser.add_argument("--tries", type=int, default=3, help="of a stage that fails on a cluster (default: 3)")
    arguments = parser.parse_args(options)
    try:
        if arguments.scheduler is None:
            failed = reproduce_here(arguments.targets, arguments.workers)
        else:
            failed = reproduce_on_cluster(arguments.targets, arguments.workers, arguments.scheduler, arguments.tries)
    except (UserError, DvcException) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:  # a disk that is full
        print(f"{error}; when that is set right, the same command resumes", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130
    for stage, why in failed.items():
        print(f"{stage} failed: {why}", file=sys.stderr)
    if failed:
        print("all that does not need these stages is done; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
