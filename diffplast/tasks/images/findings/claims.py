"""What the paper says of natural images."""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from diffplast.report import numbers, statistics
from diffplast.report.claims import Claim, Effect, Measured, better
from diffplast.report.conditions import PLAIN, Conditions
from diffplast.report.results import RunResult, TaskResults
from diffplast.tasks.images.experiment.task import SHUFFLES

from .paper import DATA, FIGURE_5, LENGTH, LR, RUNS
from .structure import structure

HALF = 0.5
"""A half is restored where the error is at most this share of that of leaving it blank; a network fails where
another's error is at most this share of its own."""
ERRORS = 2
"""Standard errors, of the test images, by which a share has to be on one side of a half."""
END = 0.25
"""Share of figure 5 that its end is the mean of: its single points are noisy, and the last two low."""
EPISODES = (1_000, 5_000, 20_000, 40_000)
"""Where figure 5 is compared with ours, as far as ours go."""

PAPER = Conditions(
    experiment={
        "side": 32, "times.patterns": 3, "times.rounds": 3, "times.shown": 20,
        "times.gap": frozenset({2, 3}),  # program and text
    },
    settings=PLAIN | {"batch": 1, "lr": LR.value},
    episodes=int(LENGTH.value),
    data=DATA,
    program=("lr",),
)


def _share(run: RunResult, metric: str, other: RunResult, other_metric: str) -> tuple[float, float]:
    """Return one error as a share of another, and by how much that can be wrong, by ERRORS standard errors."""
    share = run.metric(metric) / other.metric(other_metric)
    parts = [one.metric(f"{name}_sem") / one.metric(name) for one, name in ((run, metric), (other, other_metric))]
    return share, ERRORS * share * float(np.hypot(*parts))


def _beside(curves: dict[str, pd.Series], episode: int) -> str:
    """Write our curves beside figure 5's at an episode; at the figure's end, the means of its last quarter."""
    last = (1 - END) * FIGURE_5["plastic"].episodes[-1]
    if episode < last:
        ours = [curve.asof(episode) for curve in curves.values()]
        theirs = [FIGURE_5[arm].at(episode) for arm in curves]
        where = f"at {episode:,}"
    else:
        ours = [curve[(curve.index >= last) & (curve.index <= episode)].mean() for curve in curves.values()]
        theirs = [FIGURE_5[arm].end(END) for arm in curves]
        where = f"over {last:,.0f} to {episode:,}"
    write = " / ".join
    return f"{write(map(numbers.number, ours))} (figure: {write(map(numbers.number, theirs))}) {where}"


def restored(found: TaskResults) -> Measured:
    """On all held-out images, the error of every plastic seed is at most half of that of leaving the half blank."""
    shares = [_share(run, found.metric, run, "blank_error") for run in found.finished("plastic")]
    values = [share for share, _ in shares]
    middle, low, high = (numbers.percent(value) for value in numbers.band(values))
    blank = numbers.show(found.measure, float(np.median(found.values("plastic", "blank_error"))))
    ours = (
        f"squared error {numbers.spread(found.measure, found.values('plastic'))}; a half left blank costs {blank}, of "
        f"which {middle} ({low} to {high}) is left, on {found.data_label}"
    )
    measured = Measured(True, ours, f"{middle} of blank", each={"plastic, share of the error of a blank half": values})
    if all(share + margin <= HALF for share, margin in shares):
        return measured
    if any(share - margin > HALF for share, margin in shares):
        return replace(measured, agrees=False, why="a seed leaves more than half of it")
    return replace(measured, agrees=None, why="nearer to a half than the test images can tell")


def fails(found: TaskResults) -> Measured:
    """Every plastic seed has at most half of every non-plastic one's error, which is over half of a blank half's."""
    plastic = max(found.finished("plastic"), key=lambda run: run.metric(found.metric))
    other = min(found.finished("nonplastic"), key=lambda run: run.metric(found.metric))
    share, margin = _share(plastic, found.metric, other, found.metric)
    medians = [numbers.band(found.values(arm))[0] for arm in ("nonplastic", "plastic")]
    spreads = [
        f"{found.label(arm)} {numbers.spread(found.measure, found.values(arm))}" for arm in ("nonplastic", "plastic")
    ]
    ours = (
        f"{'; '.join(spreads)}; of the closest two, the plastic one has {numbers.percent(share)} ± "
        f"{numbers.percent(margin)} of the other's error, on {found.data_label}"
    )
    short = f"{numbers.number(medians[0])} vs {numbers.number(medians[1])}"
    what = "of these two seeds, by the test images, plastic error as a share of the non-plastic"
    low, high = (share - margin, share + margin) if np.isfinite(margin) else (None, None)  # of one test image: nan
    effect = Effect(what, share, low, high, percent=True)
    if low is None or low < HALF < high:
        return Measured(None, ours, short, "nearer to a half than the test images can tell", effect=effect)
    if share > HALF:
        return Measured(False, ours, short, "they are closer than that", effect=effect)
    left, margin = min(_share(run, found.metric, run, "blank_error") for run in found.finished("nonplastic"))
    ours = f"{ours}; it leaves {numbers.percent(left)} of a blank half's error"
    if left - margin > HALF:
        return Measured(True, ours, short, effect=effect)
    why = "a non-plastic seed leaves less than that of a blank half's error"
    return Measured(False if left + margin <= HALF else None, ours, short, why, effect=effect)


def independent(found: TaskResults) -> Measured:
    """The seeds of independent α have the smaller error, by a rank-sum test; curves beside figure 5's."""
    measured = better(found, "plastic", "homogeneous")
    length = min(run.episodes for arm in ("plastic", "homogeneous") for run in found.finished(arm))
    curves = {arm: found.curves(arm).median(axis=1) for arm in ("plastic", "homogeneous")}
    parts = [_beside(curves, episode) for episode in EPISODES if episode <= length]
    beside = f"; in training, independent / shared: {', '.join(parts)}" if parts else ""
    return replace(measured, ours=f"{measured.ours}, on {found.data_label}{beside}")


def structured(found: TaskResults) -> Measured:
    """In every seed the α of neighbouring pixels' connections are more alike than in shuffled matrices."""
    every = [structure(run, "alpha") for run in found.finished("plastic")]
    values = np.array([each.value for each in every])
    scores = np.array([each.score for each in every])
    middle, low, high = map(numbers.number, numbers.band(values))
    interval = statistics.mean_interval(values)
    ours = (
        f"correlation of the α of neighbouring pixels' connections (Moran's I) {middle} ({low} to {high}; "
        f"{numbers.seeds(len(every))}), in the least clear seed {numbers.number(scores.min())} standard deviations of "
        "shuffled matrices above them"
    )
    return Measured(
        agrees=bool(scores.min() > 0),
        ours=ours,
        short=f"r = {middle}",
        why="" if scores.min() > 0 else "no more alike than in shuffled matrices",
        p=max(float(2 * stats.norm.sf(abs(scores).min())), 1 / (SHUFFLES + 1)),
        effect=Effect("mean correlation", *interval) if interval else Effect("mean correlation", float(values.mean())),
        each={"plastic, correlation": values.tolist()},
    )


CLAIMS = (
    Claim(
        name="unseen images are restored",
        text="A plastic network restores images that it was never trained on",
        place="section 4.3, figure 4a",
        source="text 4.3",
        published="pictures",
        test="every seed leaves at most half of a blank half's error, on all held-out images, by 2 standard errors",
        arms=("plastic",),
        judge=restored,
        conditions=PAPER,
    ),
    Claim(
        name="non-plastic networks fail",
        text="A non-plastic network fails to solve this task",
        place="abstract",
        source="text abstract",
        published="no number",
        test="every plastic seed has at most half the error of every non-plastic one, which leaves over half of a "
        "blank half's, by 2 standard errors",
        arms=("plastic", "nonplastic"),
        judge=fails,
        conditions=PAPER,
    ),
    Claim(
        name="own α beat a shared one",
        text="Independent coefficients α do better than one that all connections share",
        place="section 4.3, figure 5",
        source="text 4.3",
        published=" vs ".join(numbers.number(FIGURE_5[arm].end(END)) for arm in ("plastic", "homogeneous"))
        + " in training",
        test="rank-sum test over seeds on held-out images, trained for equally many episodes",
        arms=("plastic", "homogeneous"),
        judge=independent,
        conditions=PAPER,
        paper_seeds=int(RUNS.value),
    ),
    Claim(
        name="α has structure",
        text="The trained coefficients α show considerable structure",
        place="section 4.3, figure 4b",
        source="text 4.3",
        published="pictures",
        test="correlation of the α of neighbouring pixels' connections, in every seed, against matrices whose pixels "
        "have changed places (Mantel's test)",
        arms=("plastic",),
        judge=structured,
        conditions=PAPER,
    ),
)
