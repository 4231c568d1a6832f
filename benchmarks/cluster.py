"""The long study on a cluster: how its time falls with the number of workers, and what then limits it.

    python -m benchmarks.cluster [--quick]

Calculated from times measured here, in the same threads: of updates and evaluation of every arm at its `paper`
settings, and of what DVC adds. Runs are taken to their full length; those that solve their task end earlier. As Dask
does, each worker takes the next run of the plan when it is free.
"""

import argparse
import heapq
import re
import statistics
import tempfile
from pathlib import Path

from benchmarks.episodes import opened, prepare
from benchmarks.timing import environment, interleaved, table
from diffplast.core import params, training
from stages.evaluate import evaluate

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128)
STAGE_SECONDS = 7  # of a stage on a worker around its work: Python, DVC, push; measured on eight stages of the maze
COLLECT_SECONDS = 1.5  # of DVC here for a stage whose results are in the remote; about
REPORT_SECONDS = 60  # figures and report; about


def study_seeds():
    """Number of seeds of every task in the long study, as the Makefile has them."""
    makefile = Path("Makefile").read_text().replace("\\\n", " ")
    line = re.search(r"^SEEDS_paper := (.*)$", makefile, re.MULTILINE).group(1)
    return {name: len(listed.split(",")) for name, listed in re.findall(r"(\w+)\.seeds=\[([\d,]+)\]", line)}


def measured(name, arm, folder, seconds):
    """(hours of training, hours of evaluation) of one run at `paper`, from some `seconds` of each."""
    task, held_out = opened(name, folder, arm, "paper"), getattr(params.load(name), name).test.paper
    state, batch = training.State(task, 0), task.settings.for_arm("batch", arm)

    def update():
        training._update(task, state.network, state.optimizer, state.generator, batch)

    def test():
        evaluate(task, state.network, held_out.model_copy(update={"episodes": held_out.batch}), 0)

    times = interleaved({"update": update, "test": test}, seconds)
    trained = statistics.median(times["update"]) / batch * task.settings.for_arm("episodes", arm)
    evaluated = statistics.median(times["test"]) / held_out.batch * held_out.episodes
    return trained / 3600, evaluated / 3600


def makespan(hours, workers):
    """Hours until the last run has ended, each taken in order by the first worker that is free."""
    free = [0.0] * workers
    for run in hours:
        heapq.heapreplace(free, free[0] + run)
    return max(free)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer updates")
    seconds = 1 if parser.parse_args().quick else 5
    print(environment())
    rows, runs = [["task", "arm", "runs", "hours a run", "minutes its evaluation"]], {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        for name, count in study_seeds().items():
            for arm in getattr(params.load(name), name).arms:
                trained, evaluated = measured(name, arm, folder, seconds)
                rows.append([name, arm, str(count), f"{trained:.2f}", f"{60 * evaluated:.1f}"])
                runs |= {(name, arm, seed): trained + evaluated + 2 * STAGE_SECONDS / 3600 for seed in range(count)}
    print("\n" + table(rows))

    collecting = (REPORT_SECONDS + COLLECT_SECONDS * 2 * len(runs)) / 3600
    longest = max(runs, key=runs.get)
    rows = [["workers", "hours", "times as fast", "limited by"]]
    for workers in WORKERS:
        taken = makespan(runs.values(), workers)
        limit = "work" if sum(runs.values()) / workers > runs[longest] else f"longest run: {longest[0]} {longest[1]}"
        alone = sum(runs.values()) + collecting
        rows.append([str(workers), f"{taken + collecting:.1f}", f"{alone / (taken + collecting):.1f}", limit])
    print(f"\n{len(runs)} runs, {sum(runs.values()):.0f} hours in all; collecting takes {60 * collecting:.0f} minutes")
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
