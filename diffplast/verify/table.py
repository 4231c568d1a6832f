"""What was replayed, in one table for terminal and file."""

from collections import defaultdict

from diffplast.core.runs import Run
from diffplast.verify.committed import Committed
from diffplast.verify.replay import NOT_REPLAYED, Outcome

HEAD = ("run", "made by commit", "windows", "episodes", "curve", "untrained network", "trained network")


def name(run: Run) -> str:
    """Name a run as --run takes it."""
    return f"{run.scale}/{run.task}/{run.name}"


def report(runs: list[Committed], outcomes: dict[Run, Outcome], commit: str) -> str:
    """Return the table as Markdown, with the differences, what was not replayed and why, and how much was.

    runs: all that are committed. commit: of today's code.
    """
    found = [outcomes[each.run] for each in runs if each.run in outcomes]
    replayed = [outcome for outcome in found if outcome.verdict != NOT_REPLAYED]
    lines = [f"Replayed with commit {commit}.", ""]
    if replayed:
        lines += [*_aligned([HEAD, *map(_row, replayed)]), ""]
    differences = [f"- {name(each.committed.run)}: {text}" for each in replayed for text in each.differs]
    if differences:
        lines += ["Not the same:", "", *differences, ""]
    left = defaultdict(list)
    for each in runs:
        outcome = outcomes.get(each.run)
        if outcome is None or outcome.verdict == NOT_REPLAYED:
            left[outcome.why if outcome else "no time left"].append(name(each.run))
    if left:
        lines += ["Not replayed:", "", *(f"- {why}: {', '.join(names)}" for why, names in left.items()), ""]
    lines += [_amount(scale, runs, replayed) for scale in dict.fromkeys(each.run.scale for each in runs)]
    kept = {_arm(each) for each in runs if each.keeps_network}
    large = dict.fromkeys(f"{each.run.task} {each.run.arm}" for each in runs if _arm(each) not in kept)
    if large:
        lines.append(f"Trained networks that git does not keep, `dvc repro` trains them: {', '.join(large)}.")
    return "\n".join(lines) + "\n"


def _row(outcome: Outcome) -> tuple[str, ...]:
    committed = outcome.committed
    return (
        name(committed.run), committed.record["commit"], f"{outcome.windows:,} of {len(committed.ends):,}",
        f"{outcome.episode:,} of {committed.episodes:,}", outcome.verdict, outcome.untrained or "–",
        outcome.network or ("not evaluated" if committed.keeps_network else "–"),
    )  # fmt: skip


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    return [lines[0], f"| {' | '.join('-' * width for width in widths)} |", *lines[1:]]


def _amount(scale: str, runs: list[Committed], replayed: list[Outcome]) -> str:
    runs = [each for each in runs if each.run.scale == scale]
    replayed = [each for each in replayed if each.committed.run.scale == scale]
    arms, of_arms = len({_arm(each.committed) for each in replayed}), len({_arm(each) for each in runs})
    share = 100 * sum(each.episode for each in replayed) / sum(each.episodes for each in runs)
    networks, of_networks = sum(each.network is not None for each in replayed), sum(each.keeps_network for each in runs)
    return (
        f"{scale}: {len(replayed)} of {len(runs)} runs replayed, of {arms} of {of_arms} arms, {share:.3g} % of their "
        f"episodes; {networks} of {of_networks} trained networks evaluated again."
    )


def _arm(committed: Committed) -> tuple[str, str, str]:
    return committed.run.scale, committed.run.task, committed.run.arm
