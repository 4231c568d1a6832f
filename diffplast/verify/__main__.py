"""Replay committed runs with today's code, and compare: see docs/verify.md."""

import argparse
import math
import sys
import time
from pathlib import Path

from diffplast.core import machine, params
from diffplast.core.runs import report_user_errors
from diffplast.verify import plan, table
from diffplast.verify.committed import SCALES, find
from diffplast.verify.pool import Replays
from diffplast.verify.replay import Job

SPARE_SECONDS = 10  # of the time given: evaluations are not cut off


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
    alone = {"action": "append", "default": []}
    parser.add_argument("--task", **alone, help="runs of this task alone; several may be named, --task each")
    parser.add_argument("--run", **alone, metavar="SCALE/TASK/ARM-SEED", help="this run alone, or several likewise")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the table to a file")
    parser.add_argument("--relock", action="store_true", help="then have DVC take today's code for that of these runs")
    chosen = parser.parse_args(arguments)
    if not math.isfinite(chosen.minutes) or (chosen.windows is not None and chosen.windows < 1):
        parser.error("--minutes is a number, and --windows at least 1")
    named = dict.fromkeys(name.split("/")[0] for name in chosen.run)
    scales = (chosen.scale,) if chosen.scale else tuple(named) or SCALES
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
