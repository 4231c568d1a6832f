"""What the page's live pattern completion is made of: the plastic networks and the times of their episodes."""

from diffplast.page.networks import Laboratory, kept
from diffplast.report import numbers
from diffplast.report.results import TaskResults

TIMES = {"plastic_long": "long_times", "plastic": "times"}
"""Arms whose networks are small enough for the page, and where their times stand."""
OTHERS = ("nonplastic", "lstm")
"""Arms whose networks are not: theirs have millions of numbers."""


def laboratory(results: TaskResults) -> Laboratory | None:
    """Return the plastic networks and how each was trained; None where no network is kept.

    data: bits. networks, one a network: times as in `Presentation`, and its wrong bits on unseen episodes. others: the
    same of the networks that are not in the page, by label, in words.
    """
    found = kept(results, tuple(TIMES))
    if not found:
        return None
    each = [
        {
            "times": results.experiment(TIMES[network.arm]),
            "wrong": numbers.percent(run.metric(results.metric)),
        }
        for network, run in found
    ]
    others = {
        results.label(arm): numbers.spread(results.measure, results.values(arm))
        for arm in OTHERS
        if arm in results.arms and results.finished(arm)
    }
    data = {"bits": results.experiment("bits"), "networks": each, "others": others}
    return Laboratory([network for network, _ in found], data)
