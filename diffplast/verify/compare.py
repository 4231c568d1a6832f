"""How numbers made again compare with those that are committed."""

import math
from dataclasses import dataclass

from diffplast.verify.committed import Committed, Row

ALL = 17
"""Digits that two numbers have in common where they are the same bits."""
OF_TRAINING = ("train_episodes", "failure")
"""What metrics.json says that is not of an evaluation."""
FEWEST = 3
"""Digits that must agree where the same bits are not to be had."""


@dataclass(frozen=True)
class Comparison:
    """How far a replay agrees.

    windows: of the committed curve, compared. digits: that all their numbers have in common at least, ALL for the same
    bits. where: the first number that is not the same, in words; None where there is none. first: its window, from 1.
    """

    windows: int
    digits: int
    where: str | None = None
    first: int | None = None


def digits(first: float, second: float) -> int:
    """Return how many leading digits two numbers have in common; ALL where they are the same."""
    if first == second or (math.isnan(first) and math.isnan(second)):
        return ALL
    if not (math.isfinite(first) and math.isfinite(second)):
        return 0
    return max(0, min(ALL - 1, math.floor(-math.log10(abs(first - second) / max(abs(first), abs(second))))))


def compare_curves(committed: Committed, replayed: list[Row], ended: bool) -> Comparison:
    """Compare a committed curve with the windows that a replay has come to, as far as both go.

    A row that stands for several windows is compared with the exact mean of those. ended: whether the replay ended, so
    that the committed curve must end there too.
    """
    theirs = {(episode, metric): value for episode, metric, value in committed.curve}
    metrics = list(dict.fromkeys(metric for _, metric, _ in committed.curve))
    ours: dict[str, dict[int, float]] = {}
    for episode, metric, value in replayed:
        ours.setdefault(metric, {})[episode] = value
    reached = replayed[-1][0] if replayed else 0
    if set(ours) != set(metrics) and replayed:
        return Comparison(0, 0, f"window 1: the metrics are {', '.join(ours)}, not {', '.join(metrics)}", 1)
    agreed, where, first, windows, before = ALL, None, None, 0, 0
    for end in committed.ends:
        if end > reached and not ended:
            break
        windows += 1
        for metric in metrics:
            values = [value for episode, value in ours.get(metric, {}).items() if before < episode <= end]
            whole = end in ours.get(metric, {})
            value = math.fsum(values) / len(values) if whole else math.nan
            same = digits(theirs.get((end, metric), math.nan), value) if whole else 0
            if same < ALL and where is None:
                found = repr(value) if whole else "none"
                where = f"window {windows} (episode {end:,}): {metric} {theirs.get((end, metric))!r}, now {found}"
                first = windows
            agreed = min(agreed, same)
        before = end
    if ended and reached > before:
        agreed, first = 0, first or windows + 1
        where = where or f"window {windows + 1} (episode {reached:,}): none, now one"
    return Comparison(windows, agreed, where, first)


def compare_fingerprints(committed: Committed, replayed: list[tuple[int, str]]) -> Comparison:
    """Compare the fingerprints of the network's parameters after the first windows, as far as both go."""
    theirs = committed.record["parameters_sha256"]
    pairs = [(episode, theirs[str(episode)], value) for episode, value in replayed if str(episode) in theirs]
    for number, (episode, before, now) in enumerate(pairs, 1):
        if before != now:
            where = f"window {number} (episode {episode:,}): SHA-256 of the parameters {before[:12]}, now {now[:12]}"
            return Comparison(len(pairs), 0, where, number)
    return Comparison(len(pairs), ALL)


def compare_metrics(committed: dict, measured: dict, exact: bool) -> Comparison:
    """Compare the metrics of an evaluation, by name. exact: whether texts, which are fingerprints, must agree too."""
    agreed, where = ALL, None
    if gone := [name for name in committed if name not in measured and name not in OF_TRAINING]:
        return Comparison(1, 0, f"{gone[0]} {committed[gone[0]]!r}, now none")
    for name, value in measured.items():
        if isinstance(value, str):
            if not exact:
                continue
            same = ALL if committed.get(name) == value else 0
        else:
            same = digits(committed.get(name, math.inf), value)
        if same < ALL and where is None:
            where = f"{name} {committed.get(name)!r}, now {value!r}"
        agreed = min(agreed, same)
    return Comparison(1, agreed, where)
