"""Many replays, on all cores, in processes that load what they need once."""

import signal
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from diffplast.core.errors import UserError
from diffplast.core.progress import Progress
from diffplast.core.runs import Run
from diffplast.parallel.resources import usable_cores
from diffplast.verify import plan
from diffplast.verify.committed import Committed
from diffplast.verify.data import DataSets
from diffplast.verify.replay import Job, Outcome, replay


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
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
