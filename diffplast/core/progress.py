"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

import sys
import time

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
