"""Replay committed runs with today's code, and compare: see docs/verify.md."""

import argparse
import math
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from diffplast.core import machine, params
from diffplast.core.errors import UserError
from diffplast.core.progress import Progress
from diffplast.core.runs import Run, report_user_errors
from diffplast.parallel.resources import usable_cores
from diffplast.verify import plan, table
from diffplast.verify.committed import SCALES, Committed, find
from diffplast.verify.data import DataSets
from diffplast.verify.replay import Job, Outcome, replay

SPARE_SECONDS = 10  # of the time given: evaluations are not cut off


class Replays:
    """Replays of committed runs, on all cores. Use as a context manager."""

    def __init__(self, runs: list[Committed]):
        self.runs = runs
        self.outcomes: dict[Run, Outcome] = {}
        self.cores = usable_cores()
        self.speed = 1.0  # this machine's time, as a multiple of the records'

    def __enter__(self) -> "Replays":
        self._pool = ProcessPoolExecutor(self.cores, get_context("spawn"), _begin)
        self._folder = tempfile.TemporaryDirectory()
        self._data = DataSets(Path(self._folder.name), self._pool, self.runs)
        return self

    def __exit__(self, *exception) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._folder.cleanup()

    def run(self, jobs: Iterable[Job], deadline: float | None = None) -> None:
        """Do jobs, those without data first, and keep their outcomes. deadline: see `Job`."""
        jobs = sorted(jobs, key=lambda job: job.committed.data is not None)
        futures = []
        for job in jobs:
            try:
                job = replace(job, data=self._data.file(job.committed), deadline=deadline)
            except UserError as error:
                self.outcomes[job.committed.run] = Outcome(job.committed, why=str(error))
            else:
                futures.append(self._pool.submit(replay, job))
        took = estimated = 0.0
        with Progress("verify", len(futures), unit="replay") as progress:
            for future in as_completed(futures):
                outcome = future.result()
                progress.update(1)
                self._keep(outcome)
                took += outcome.seconds
                estimated += outcome.trained * plan.seconds_per_episode(outcome.committed)
        if estimated:
            self.speed = took / estimated

    def _keep(self, outcome: Outcome) -> None:
        before = self.outcomes.get(outcome.committed.run)
        if before is not None and outcome.why is not None:
            return  # an earlier, shorter replay says more
        if before is not None and outcome.network is None:
            outcome.network = before.network
        self.outcomes[outcome.committed.run] = outcome

    def fill(self, until: float, least: int, most: int) -> None:
        """Replay more seeds and more windows until a time; see `plan.choose`."""
        while (left := until - time.time()) > 0:
            jobs = plan.choose(self.runs, self.outcomes, left * self.cores, self.speed, least, most)
            if not jobs:
                return
            self.run(jobs, until)


def _begin() -> None:
    """Begin a process of the pool: one thread, and an end at Ctrl-C without a word."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def replay_within(replays: Replays, minutes: float, windows: int | None) -> None:
    """Replay one seed of every arm, then what fits the time. windows: of every run; None: as many as fit."""
    until = time.time() + 60 * minutes - SPARE_SECONDS
    least, most = windows or 1, windows or sys.maxsize
    replays.run(Job(committed, least) for committed in plan.first_of_arms(replays.runs))
    replays.fill(until, least, most)


def replay_all(replays: Replays, windows: int | None) -> None:
    """Replay every run, and evaluate every network that is kept. windows: of every run; None: all."""
    replays.run(Job(committed, windows or sys.maxsize, network=True) for committed in replays.runs)


@report_user_errors()
def main(arguments: list[str]) -> int:
    """Command line: see docs/verify.md. Returns 1 where something that was made again is another number."""
    parser = argparse.ArgumentParser(prog="python -m diffplast.verify", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="to fill, after one seed of every arm; default: 5")
    parser.add_argument("--all", action="store_true", help="every run, whatever the time it takes")
    parser.add_argument("--windows", type=int, metavar="N", help="of every curve; default: as many as fit, or all")
    parser.add_argument("--scale", choices=params.SCALES, help=f"default: {' and '.join(SCALES)}")
    parser.add_argument("--task", help="runs of this task alone")
    parser.add_argument("--run", metavar="SCALE/TASK/ARM-SEED", help="this run alone")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the table to a file")
    parser.add_argument("--relock", action="store_true", help="then have DVC take today's code for that of these runs")
    chosen = parser.parse_args(arguments)
    if not math.isfinite(chosen.minutes) or (chosen.windows is not None and chosen.windows < 1):
        parser.error("--minutes is a number, and --windows at least 1")
    scales = (chosen.scale,) if chosen.scale else (chosen.run.split("/")[0],) if chosen.run else SCALES
    runs = find(scales, chosen.task, chosen.run)
    with Replays(runs) as replays:
        if chosen.relock:
            replay_all(replays, chosen.windows or 1)
        elif chosen.all:
            replay_all(replays, chosen.windows)
        else:
            replay_within(replays, chosen.minutes, chosen.windows)
        said = table.report(runs, replays.outcomes, machine.commit())
    print(said, end="")
    if chosen.write:
        chosen.write.write_text(said, encoding="utf-8")
    agree = all(outcome.agrees for outcome in replays.outcomes.values())
    if chosen.relock:
        from diffplast.verify.relock import relock

        return relock(replays.outcomes)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
