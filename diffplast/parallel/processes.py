"""Stages in processes of this machine.

The engine is the fork server of Python's `multiprocessing`: it imports torch and the like once, and each stage gets a
copy of it, in which nothing else has run. No port is opened.
"""

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue

from diffplast.parallel import child
from diffplast.parallel.pipeline import Pipeline
from diffplast.parallel.resources import available_memory, usable_cores
from diffplast.parallel.schedule import Ended, Host, Printed

# What stages import and is not of the project: files of the project are read when a stage starts.
PRELOADED = [
    "torch", "torch._dynamo", "numba", "pandas", "scipy.stats", "pydantic", "ruamel.yaml", "tqdm", "gymnasium",
]  # fmt: skip
MEMORY_OF_A_STAGE = 1.2e9  # bytes; reports/*/cost.md says what the most was


@dataclass
class Running:
    """A stage and the cores that are its own."""

    process: BaseProcess
    threads: int


class Processes(Host):
    """As many stages at a time as there are cores, or as memory allows; cores that would be idle are shared out."""

    tries = 3

    def __init__(self, pipeline: Pipeline, events: SimpleQueue, workers: int | None = None):
        """workers: how many stages at a time; None: by cores and memory."""
        super().__init__(pipeline, events)
        cores = usable_cores()
        self.workers = workers or max(1, min(cores, int(available_memory() / MEMORY_OF_A_STAGE)))
        self.threads = max(cores, self.workers)  # of all stages together
        # A fork is safe where no thread runs yet; macOS says of its own libraries that there it never is.
        self._context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        self._context.set_forkserver_preload(PRELOADED)
        self._running: dict[str, Running] = {}

    def has_room(self, stage: str) -> bool:
        """See `Host`."""
        return not self._running or (len(self._running) < self.workers and self._free() > 0)

    def is_better_later(self, stage: str) -> bool:
        """See `Host`. Runs that wait for memory slow each other: half of the workers are for others."""
        return self._is_memory_bound(stage) and 2 * sum(map(self._is_memory_bound, self._running)) >= self.workers

    def start(self, stage: str, ready: int) -> None:
        """See `Host`."""
        slots = min(ready, self.workers - len(self._running))
        threads = max(1, self._free() // slots)
        self.pipeline.begin(stage)
        reader, writer = self._context.Pipe(duplex=False)
        dvc_stage = self.pipeline.stages[stage]
        process = self._context.Process(target=child.run, args=(dvc_stage.cmd, dvc_stage.wdir, threads, writer))
        process.start()
        writer.close()
        self._running[stage] = Running(process, threads)
        threading.Thread(target=self._follow, args=(stage, process, reader), daemon=True).start()

    def finish(self, stage: str) -> None:
        """See `Host`."""
        del self._running[stage]
        self.pipeline.record(stage)

    def cancel(self, stage: str) -> None:
        """See `Host`."""
        del self._running[stage]
        self.pipeline.cancel(stage)

    def stop(self) -> None:
        """See `Host`."""
        for running in self._running.values():
            with suppress(ProcessLookupError):  # it has ended, and its event is still to come
                os.kill(running.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """See `Host`."""
        for running in self._running.values():
            running.process.kill()

    def _free(self) -> int:
        return self.threads - sum(running.threads for running in self._running.values())

    def _is_memory_bound(self, stage: str) -> bool:
        """Whether memory decides how fast a stage runs, by `meta` of its dvc.yaml, which names the arms of such runs:

        meta: {memory_bound: [nonplastic, lstm]}
        """
        arms = (self.pipeline.stages[stage].meta or {}).get("memory_bound", [])
        return stage.rpartition("@")[2].partition("-")[2].rpartition("-")[0] in arms

    def _follow(self, stage: str, process: BaseProcess, reader: Connection) -> None:
        with os.fdopen(os.dup(reader.fileno()), encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.strip():
                    self.events.put(Printed(stage, line.rstrip()))
        process.join()
        status = process.exitcode
        if status == 0:
            self.events.put(Ended(stage))
        elif status < 0:
            self.events.put(Ended(stage, f"killed by {signal.Signals(-status).name}", by_chance=True))
        else:
            self.events.put(Ended(stage, f"exit status {status}", by_chance=status == 130))
