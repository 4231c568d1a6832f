"""Progress of long work: a bar on a terminal, a line now and then elsewhere; and a curve that DVC draws meanwhile."""

import csv
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm


class Progress:
    """Shows how far `total` units of work are. Use as a context manager."""

    seconds_between_lines = 15

    def __init__(self, label: str, total: int, done: int = 0, unit: str = "episode"):
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, desc=label, unit=unit, dynamic_ncols=True, mininterval=0.5)
        self._label, self._total, self._done, self._unit = label, total, done, unit
        self._line_due = time.monotonic() + self.seconds_between_lines

    def update(self, amount: int, **metrics: float) -> None:
        """Add `amount` units; the metrics are shown beside the bar."""
        self._done += amount
        if self._bar is not None:
            if metrics:
                self._bar.set_postfix({name: f"{value:.4g}" for name, value in metrics.items()}, refresh=False)
            self._bar.update(amount)
        elif time.monotonic() >= self._line_due:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            share = 100 * self._done / self._total
            print(
                f"{self._label}: {self._unit} {self._done:,} of {self._total:,} ({share:.0f} %) {shown}",
                file=sys.stderr,
                flush=True,
            )
            self._line_due = time.monotonic() + self.seconds_between_lines

    def say(self, text: str) -> None:
        """A line of its own on standard error, beside the bar."""
        tqdm.write(f"{self._label}: {text}", file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        if self._bar is not None:
            self._bar.close()


class LiveCurve:
    """The curve of a training in progress, in a file that `dvc plots show` and the DVC extension of VS Code draw.

    Tab-separated, a line for each window of the curve, there as soon as the window is closed. DVC draws the last
    column. A file that cannot be written is reported once, by `say`; the next window then starts it again, with all
    lines.
    """

    seconds_between_signals = 15  # the extension calls `dvc plots diff` at each, which takes it seconds
    signal = Path(".dvc", "tmp", "exps", "run", "DVCLIVE_STEP_COMPLETED")  # DVCLive's name: the extension watches it

    def __init__(self, path: Path | None, metrics: list[str], say: Callable[[str], None]):
        """path: of the file; None: none is written. metrics: of every window, in the order of the columns."""
        self._path, self._columns, self._say = path, ["episode", *metrics], say
        self._rows, self._told, self._signal_due = 0, False, 0.0  # rows of the curve that are in the file

    def show(self, curve: list[tuple[int, str, float]]) -> None:
        """Bring the file up to date with a curve: rows of (episode, metric, value)."""
        if self._path is None:
            return
        windows: dict[int, dict[str, float]] = {}
        for episode, metric, value in curve[self._rows :]:
            windows.setdefault(episode, {"episode": episode})[metric] = value
        fresh, self._rows = self._rows == 0, 0
        try:
            if fresh:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("w" if fresh else "a", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, self._columns, delimiter="\t", lineterminator="\n")
                if fresh:
                    table.writeheader()
                table.writerows(windows.values())
            self._rows = len(curve)
            self._have_drawn()
        except OSError as error:
            if not self._told:
                self._told = True
                problem = f"{error.filename or self._path}: {error.strerror}"
                self._say(f"the live curve could not be written ({problem}); training continues")

    def _have_drawn(self) -> None:
        if time.monotonic() >= self._signal_due and self.signal.parents[3].is_dir():
            self.signal.parent.mkdir(parents=True, exist_ok=True)
            self.signal.write_text(json.dumps({"pid": os.getpid(), "step": self._rows}))
            self._signal_due = time.monotonic() + self.seconds_between_signals
