"""What the user sees of stages that run side by side."""

import re
import sys
import time

from tqdm import tqdm

PROGRESS = re.compile(r": \w+ [\d,]+ of [\d,]+ \(\d+ %\)|: +\d+%\|")
"""In a line of `diffplast.core.progress` or of tqdm: the next takes its place. Other lines of a stage stay in sight."""


class View:
    """Progress over all stages on standard error. Use as a context manager.

    On a terminal: a bar, and below it a line for each running stage. Elsewhere: a line for each now and then.
    """

    seconds_between_lines = 30

    def __init__(self, total: int):
        self._bar = tqdm(total=total, unit="stage", dynamic_ncols=True, disable=not sys.stderr.isatty())
        self._total, self._done = total, 0
        self._started: dict[str, float] = {}
        self._last: dict[str, str] = {}
        self._rows: dict[str, tqdm] = {}
        self._lines_due = time.monotonic() + self.seconds_between_lines

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *exception) -> None:
        for row in [*self._rows.values(), self._bar]:
            row.close()

    def started(self, stage: str) -> None:
        """Show that a stage runs."""
        self._started[stage] = time.monotonic()
        self._last[stage] = stage

    def printed(self, stage: str, line: str) -> None:
        """Show a line that a stage has printed."""
        if not PROGRESS.search(line):
            self.say(line)
            return
        self._last[stage] = line
        if not self._bar.disable:
            if stage not in self._rows:
                self._rows[stage] = tqdm(bar_format="{desc}", leave=False, dynamic_ncols=True)
            self._rows[stage].set_description_str(f"  {line}")

    def tick(self) -> None:
        """To be called every second or so: has lines shown when they are due."""
        if self._bar.disable and time.monotonic() >= self._lines_due:
            self._lines_due = time.monotonic() + self.seconds_between_lines
            self.say(f"{self._done} of {self._total} stages are done; running:")
            for line in self._last.values():
                self.say(f"  {line}")

    def ended(self, stage: str, how: str) -> None:
        """Show that a stage does not run any more."""
        del self._last[stage]
        if stage in self._rows:
            self._rows.pop(stage).close()
        self.say(f"{stage}: {time.monotonic() - self._started.pop(stage):.1f} s, {how}")

    def count(self) -> None:
        """Count one more stage whose results are there."""
        self._done += 1
        self._bar.update()

    def say(self, text: str) -> None:
        """Show a line for good."""
        tqdm.write(text, file=sys.stderr)
