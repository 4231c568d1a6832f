"""By which commit each run was made, and with which it was last replayed."""

import json

from diffplast.report import numbers
from diffplast.report.results import TaskResults


def replays(found: TaskResults) -> list[dict[str, str]]:
    """Return one row a run of a task: who it is, the commit that made it, and its last replay in words."""
    rows = []
    for result in found.runs:
        row = {"arm": found.label(result.run.arm), "seed": str(result.run.seed), "made": result.record["commit"]}
        row |= {"commit": "not yet", "windows": "", "episodes": "", "curve": ""}
        if result.run.replayed.exists():
            replay = json.loads(result.run.replayed.read_text(encoding="utf-8"))
            row |= {"commit": replay["commit"], "curve": replay["curve"]}
            row["episodes"] = numbers.number(replay["episodes"])
            row["windows"] = f"{replay['windows']} of {replay['of_windows']}"
        rows.append(row)
    return rows
