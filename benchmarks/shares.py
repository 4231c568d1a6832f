"""Where the time of training goes: the real loop of every task, at its laptop settings, for some seconds.

    python -m benchmarks.shares [--quick]

"binary" has the text's 201 steps here. "recurrence" is the compiled loops with what prepares their arguments, forward
and backward: in the maze whole episodes, with agent, maze and loss; "loop" is progress, curves and checkpoints; "rest"
is convolutions, input and output layers, loss and the update of the weights.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from benchmarks.episodes import opened, prepare
from benchmarks.timing import environment, table
from diffplast.core import params, training
from diffplast.core.checkpoint import Checkpoint
from diffplast.plasticity.fused import FusedRecording
from diffplast.tasks.maze.experiment.compiled import _Run

TASKS = ("binary", "images", "maze", "omniglot")


class Clock:
    """Seconds spent in the functions that it watches, a call inside another one counted once."""

    def __init__(self):
        self.seconds, self._inside = 0.0, False

    def watch(self, owner, *names):
        """Patches that make the clock run during `owner.name`."""
        return [patch.object(owner, name, self._timed(getattr(owner, name))) for name in names]

    def _timed(self, function):
        def timed(*args, **kwargs):
            if self._inside:
                return function(*args, **kwargs)
            self._inside, start = True, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False
                self.seconds += time.perf_counter() - start

        return timed


def shares(name, folder, seconds):
    """One row of the table: the plastic network of a task."""
    period = params.load(name).checkpoint_seconds

    def train(episodes):
        task = opened(name, folder, episodes=episodes)
        clocks = {part: Clock() for part in ("recurrence", "episodes drawn", "update")}
        with ExitStack() as stack:
            for patched in (
                *clocks["recurrence"].watch(FusedRecording, "__init__", "step", "run", "gradients"),
                *clocks["episodes drawn"].watch(task, "episodes"),
                *clocks["recurrence"].watch(_Run, "__init__", "gradients"),
                *clocks["update"].watch(training, "update"),
            ):
                stack.enter_context(patched)
            checkpoint = Checkpoint(Path(folder) / "state.pt", "benchmark")
            total = training.train(task, 0, checkpoint=checkpoint, save_every=period, label=name).seconds
            checkpoint.path.unlink(missing_ok=True)
        return total, {part: clock.seconds for part, clock in clocks.items()}

    batch = opened(name, folder).settings.batch
    first, _ = train(4 * batch)  # compiles, and tells how many fit
    episodes = max(4, int(4 * seconds / first)) * batch
    total, spent = train(episodes)
    update = spent.pop("update")
    spent |= {"rest": update - sum(spent.values()), "loop": total - update}
    order = ("recurrence", "episodes drawn", "loop", "rest")
    return [name, str(batch), f"{1e3 * total / episodes:.2f}", *(f"{spent[part] / total:.0%}" for part in order)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer episodes")
    seconds = 3 if parser.parse_args().quick else 15
    print(environment())
    rows = [["task", "batch", "ms an episode", "recurrence", "episodes drawn", "loop", "rest"]]
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        for name in TASKS:
            rows.append(shares(name, folder, seconds))
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
