"""The order in which stages run, and what becomes of those that fail."""

import signal
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from dvc.exceptions import DvcException

from diffplast.parallel.pipeline import Pipeline
from diffplast.parallel.view import View


@dataclass(frozen=True)
class Printed:
    """A running stage has printed a line."""

    stage: str
    line: str


@dataclass(frozen=True)
class Ended:
    """A stage does not run any more.

    failure: None, or what went wrong. by_chance: whether that may be no fault of the stage, which is then tried again.
    """

    stage: str
    failure: str | None = None
    by_chance: bool = False


class Stop:
    """The user asks for an end; the second time, for one without delay."""


class Host(ABC):
    """Where stages run. What happens to them is put into `events` as `Printed`, and after each start, `Ended`."""

    tries: int
    """How often a stage is started, where it fails by chance."""

    def __init__(self, pipeline: Pipeline, events: SimpleQueue):
        self.pipeline, self.events = pipeline, events

    @abstractmethod
    def has_room(self, stage: str) -> bool:
        """Whether the stage can start now."""

    def is_better_later(self, stage: str) -> bool:
        """Whether the stage would slow what runs, and had better wait for as long as others can start."""
        return False

    @abstractmethod
    def start(self, stage: str, ready: int) -> None:
        """Start a stage, one of `ready` that can. Raises DvcException where DVC does not let it."""

    @abstractmethod
    def finish(self, stage: str) -> None:
        """Record what a stage has made. Raises DvcException where DVC cannot."""

    @abstractmethod
    def cancel(self, stage: str) -> None:
        """Take note that a stage has failed."""

    @abstractmethod
    def stop(self) -> None:
        """Ask what runs to save its state and end."""

    @abstractmethod
    def kill(self) -> None:
        """End what runs at once."""


def run_stages(pipeline: Pipeline, host_of: Callable[[str], Host], events: SimpleQueue) -> dict[str, str]:
    """Run every stage that is not up to date, each when all that it needs is there. Returns the failed ones: why.

    Stages that need no failed one are all done. Raises KeyboardInterrupt after SIGINT or SIGTERM, once all has ended.
    """
    waiting = {stage: needs & set(pipeline.stages) for stage, needs in pipeline.needs.items()}
    alike = Counter()
    place = {}  # of a stage among those that differ by their run alone
    for stage in pipeline.stages:
        kind = stage.partition("@")[0]
        place[stage] = alike[kind]
        alike[kind] += 1
    ready: list[str] = []
    running: dict[str, Host] = {}
    starts, stops = Counter(), 0
    failed: dict[str, str] = {}

    def done(stage: str) -> None:
        view.count()
        for needs in waiting.values():
            needs.discard(stage)

    def look_for_ready() -> None:
        while free := [stage for stage, needs in waiting.items() if not needs]:
            for stage in free:
                del waiting[stage]
                with _noting(failed, stage):
                    if pipeline.is_up_to_date(stage):
                        done(stage)
                    else:
                        ready.append(stage)
            # First what takes seconds or was never done, then the longest run: what ends last is to be short. Of what
            # was never done, the first of every task first: the next one finds compiled what that one has compiled.
            ready.sort(key=lambda stage: (-(pipeline.last_seconds(stage) or float("inf")), place[stage]))

    def start_ready() -> None:
        while able := [stage for stage in ready if host_of(stage).has_room(stage)]:
            stage = min(able, key=lambda stage: host_of(stage).is_better_later(stage))
            host = host_of(stage)
            ready.remove(stage)
            with _noting(failed, stage):
                if pipeline.restore(stage):
                    view.say(f"{stage}: from the run cache")
                    done(stage)
                else:
                    starts[stage] += 1
                    host.start(stage, 1 + len(ready))
                    running[stage] = host
                    view.started(stage)

    def end(event: Ended) -> None:
        stage, host, failure = event.stage, running.pop(event.stage, None), event.failure
        if host is None:  # it has ended twice: by itself, and left to its worker
            return
        if failure is None:
            with _noting(failed, stage):
                host.finish(stage)
                view.ended(stage, "done")
                done(stage)
                return
            failure = failed[stage]
        else:
            host.cancel(stage)
        if stops:
            view.ended(stage, "stopped")
        elif event.by_chance and starts[stage] < host.tries:
            view.ended(stage, f"{failure}, so it is tried again")
            ready.append(stage)
        else:
            view.ended(stage, f"failed ({failure})")
            failed[stage] = failure

    with View(len(pipeline.stages)) as view, _stop_signals(events), _stopping(running):
        while True:
            look_for_ready()
            start_ready()
            if not all(waiting.values()):  # what came from the run cache was needed
                continue
            if not running and not ready:
                break
            match _next(events):
                case Printed(stage, line):
                    view.printed(stage, line)
                case Ended() as event:
                    end(event)
                case Stop():
                    stops += 1
                    waiting.clear()
                    ready.clear()
                    for host in set(running.values()):
                        host.stop() if stops == 1 else host.kill()
            view.tick()
    if stops:
        raise KeyboardInterrupt
    return failed


def _next(events: SimpleQueue) -> Printed | Ended | Stop | None:
    """The next event; None where there is none for a second."""
    try:
        return events.get(timeout=1)
    except Empty:
        return None


@contextmanager
def _noting(failed: dict[str, str], stage: str) -> Iterator[None]:
    """Note what DVC says against a stage; the others continue."""
    try:
        yield
    except DvcException as error:
        failed[stage] = str(error)


@contextmanager
def _stopping(running: dict[str, Host]) -> Iterator[None]:
    """Have what runs save its state and end where something goes wrong here, as for want of room on the disk."""
    try:
        yield
    except BaseException:
        for host in set(running.values()):
            host.stop()
        raise


@contextmanager
def _stop_signals(events: SimpleQueue) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into events, so that none of them leaves a dvc.lock half written."""
    asked = 0

    def ask(number, frame) -> None:
        nonlocal asked
        asked += 1
        if asked > 2:  # what should have answered waits for something
            raise KeyboardInterrupt
        events.put(Stop())

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
