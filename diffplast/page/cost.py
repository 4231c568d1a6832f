"""What the runs took, on which machines, what the released programs would have taken, and which runs are missing."""

from collections import Counter
from datetime import timedelta
from math import ceil

from diffplast.core.task import of_arm
from diffplast.report import findings, numbers
from diffplast.report.results import TaskResults


def machines(results: dict[str, TaskResults]) -> list[tuple[str, int]]:
    """Return machine, versions and commit that runs were made on, with the number of runs, most first."""
    counts = Counter(
        f"{m['processor']}, {m['device']}, {threads(m)} of {m['cores']} cores; Python {m['python']}, "
        f"PyTorch {m['torch']}; commit {m['commit']}"
        for m in (run.record for result in results.values() for run in result.runs)
    )
    return counts.most_common()


def cost(scale: str, results: dict[str, TaskResults]) -> str:
    """Say what all runs took, and what those that can be compared would have taken with the released programs."""
    costs = [run.record for result in results.values() for run in result.runs]
    if not costs:
        return f"Scale {scale}: nothing was run yet."
    total = sum(machine["seconds"] for machine in costs)
    places = [
        f"{machine['processor']} ({threads(machine)})" if machine["device"] == "cpu" else machine["device"]
        for machine in costs
    ]
    where = ", ".join(dict.fromkeys(places))
    peaks = [machine["peak_memory_mb"] for machine in costs if machine["peak_memory_mb"] is not None]
    memory = f"; none needed more than {ceil(max(peaks) / 100) / 10:.1f} GB of memory" if peaks else ""
    return (
        f"Scale {scale}: the wall times of {len(costs)} training runs add up to {duration(total)} on {where}{memory}."
    ) + _against_programs(results)


def _against_programs(results: dict[str, TaskResults]) -> str:
    known = []
    for name, result in results.items():
        seconds = findings.load(name).program_seconds
        known += [
            (run.record["seconds"], seconds[run.run.arm] * run.episodes)
            for run in result.runs
            if run.run.arm in seconds
        ]
    if not known:
        return ""
    ours, theirs = (sum(seconds) for seconds in zip(*known, strict=True))
    runs = f"{len(known)} run" + ("" if len(known) == 1 else "s")
    return (
        f" The {runs} whose cost with the authors' programs is known took {duration(ours)}; those programs would take "
        f"{duration(theirs)} ({numbers.number(theirs / ours)} times), by their time an episode on two cores of another "
        "machine (docs/paper.md)."
    )


def runs_table(results: dict[str, TaskResults]) -> str:
    """Return a table in Markdown: of each arm the finished runs, how many `seeds` asks for, their time, the missing.

    Beside their time stands that of the authors' programs for as many episodes, where it is known.
    """
    lines = ["| task | arm | runs | of | time | authors' programs | missing |", "|" + " --- |" * 7]
    for name, found in results.items():
        programs = findings.load(name).program_seconds
        for arm in found.kind.arms:
            times = {run.run.seed: run.record["seconds"] for run in found.runs if run.run.arm == arm}
            asked = of_arm(getattr(found.block.seeds, found.scale), arm)
            missing = [seed for seed in range(asked) if seed not in times]
            if times or asked:
                names = [f"{arm}-{seed}" for seed in missing] or ["–"]
                if len(names) > 2 and missing[-1] - missing[0] == len(missing) - 1:
                    names = [f"{names[0]} to {names[-1]}"]
                took = sum(times.values())
                theirs = programs.get(arm, 0) * sum(run.episodes for run in found.runs if run.run.arm == arm)
                beside = f"{duration(theirs)} ({numbers.number(theirs / took)} times)" if theirs else "–"
                took = duration(took) if times else "–"
                cells = found.kind.title, found.label(arm), len(times), asked, took, beside, ", ".join(names)
                lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def threads(machine: dict) -> str:
    """Write the number of threads that a run had."""
    return "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"


def duration(seconds: float) -> str:
    """Write a time in words, to two units."""
    left = timedelta(seconds=round(seconds))
    hours, minutes, rest = left // timedelta(hours=1), left.seconds // 60 % 60, left.seconds % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
