"""The paper's claims, each decided from the results of its task.

A claim is a function of the task's `TaskResults` that returns a `Finding`; the decorator `claim` files it under the
task, with the paper's figure and the arms it needs. How a verdict is reached:

- "reproduced" where the claim's criterion holds, in every seed or by the test named, and there are two seeds at least;
- "not reproduced" where it does not, though our training was as long as the claim speaks of, and on the paper's data;
  where the claim counts episodes, also at the paper's batch and learning rate;
- "not decided at this scale" otherwise: shorter or other training, other data, too few seeds, a failed run.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from diffplast.report import numbers, published, statistics
from diffplast.report.results import RunResult, TaskResults

REPRODUCED, NOT_REPRODUCED, NOT_DECIDED = "reproduced", "not reproduced", "not decided at this scale"
SIGNIFICANT = 0.05
ABOUT = 2
"""The paper's "about" and "some": within this factor."""
FAILS = 0.5
"""A network fails where another one's error is at most this share of its own."""
HALF = numbers.show("wrong_bits", FAILS)
"""FAILS in words."""
NEAR_CHANCE_BITS = 0.20
"""Share of wrong bits that is near chance, 25 %: half of the bits are given, half of the others are guessed."""
CHANCE_MARGIN = 0.02
"""Accuracies this near to chance are at chance."""
SOLVED = numbers.show("wrong_bits", published.SOLVED_ERROR)
"""The share of wrong bits below which a binary task is solved, in words."""
SHORTER = "training shorter than the paper's"
"""Why a criterion that fails does not count against most claims."""


@dataclass(frozen=True)
class Finding:
    """What the results say of a claim. why: the reason of a verdict that is not "reproduced"."""

    ours: str
    test: str
    verdict: str
    why: str = ""
    p: float | None = None
    effect: float | None = None


@dataclass(frozen=True)
class Claim:
    """A claim of the paper with what we found."""

    task: str
    claim: str
    paper: str
    arms: dict[str, dict]
    """Of each arm concerned: the task's metric on held-out episodes over seeds, as `statistics.describe`."""
    finding: Finding = field(repr=False)

    def as_dict(self) -> dict:
        """One flat entry of claims.json."""
        entry = asdict(self)
        finding = entry.pop("finding")
        return entry | finding


@dataclass(frozen=True)
class _Registered:
    text: str
    paper: str
    arms: tuple[str, ...]
    judge: Callable[[TaskResults], Finding]


CLAIMS: dict[str, list[_Registered]] = {}
"""Claims by task, in the order of this file."""


def claim(task: str, text: str, paper: str, arms: tuple[str, ...]):
    """File the decorated function as a claim of `task` about `arms`."""

    def register(judge):
        CLAIMS.setdefault(task, []).append(_Registered(text, paper, arms, judge))
        return judge

    return register


def judge_all(results: dict[str, TaskResults]) -> list[Claim]:
    """All claims about the given tasks."""
    return [
        Claim(
            name, entry.text, entry.paper, {arm: statistics.describe(found.values(arm)) for arm in entry.arms},
            _judge(entry, found),
        )
        for name, found in results.items()
        for entry in CLAIMS.get(name, [])
    ]


def _judge(entry: _Registered, found: TaskResults) -> Finding:
    """What holds for every claim: no verdict without all its arms, nor where one of their runs has failed."""
    missing = [found.label(arm) for arm in entry.arms if not found.finished(arm)]
    failures = [run.failure for arm in entry.arms for run in found.failed(arm)]
    why = "; ".join(failures)
    if missing:
        ours = f"no finished run of {' and '.join(missing)}"
        return Finding(ours, "none", NOT_DECIDED, why or f"params.yaml does not list {' and '.join(missing)}")
    finding = entry.judge(found)
    if finding.verdict == REPRODUCED and any(len(found.finished(arm)) < 2 for arm in entry.arms):
        finding = replace(finding, verdict=NOT_DECIDED, why="it holds, but in one seed only")
    if failures:
        return Finding(f"{finding.ours}; {_count_failed(len(failures))}", finding.test, NOT_DECIDED, why)
    return finding


def _count_failed(count: int) -> str:
    return f"{count} failed run" + ("" if count == 1 else "s")


def _decide(holds: bool, counts: bool, against: str, open_: str = SHORTER) -> dict:
    """Verdict of a criterion that holds or does not.

    counts: whether its failing would count against the claim. against, open_: the reasons of the two other verdicts.
    """
    if holds:
        return {"verdict": REPRODUCED}
    return {"verdict": NOT_REPRODUCED, "why": against} if counts else {"verdict": NOT_DECIDED, "why": open_}


def _trained(found: TaskResults, arm: str) -> int:
    """Training episodes of an arm, at most."""
    return found.settings.for_arm("episodes", arm)


def _other_data(found: TaskResults) -> str:
    """What is wrong with data that are not the paper's; empty where they are, or where a task has none."""
    if found.data is None or found.data["name"] == published.DATA[found.data["kind"]]:
        return ""
    return f"other data than the paper's: {found.data_label}"


def _left_open(found: TaskResults, arms: tuple[str, ...], paper_episodes: int) -> str:
    """Why a criterion that fails would not count against a claim about `arms`; empty where it would."""
    shorter = min(_trained(found, arm) for arm in arms) < paper_episodes
    return _other_data(found) or (SHORTER if shorter else "")


def _other_training(found: TaskResults, arm: str) -> str:
    """How an arm of a binary task was trained, where its episodes do not compare with the paper's; else empty."""
    batch, rate = (found.settings.for_arm(name, arm) for name in ("batch", "lr"))
    published_rate = published.BINARY_LR[found.name][arm]
    if (batch, rate) == (1, published_rate):
        return ""
    return f"trained in batches of {batch} with rate {rate:g}, where the paper has 1 and {published_rate:g}"


def _summaries(found: TaskResults, *arms: str) -> str:
    return "; ".join(f"{found.label(arm)} {numbers.spread(found.metric, found.values(arm))}" for arm in arms)


def _better(found: TaskResults, first: str, second: str, paper_episodes: int) -> Finding:
    """Whether the seeds of one arm are better than those of another, by a rank-sum test."""
    values = [found.values(arm) for arm in (first, second)]
    higher = found.measure.higher_is_better
    test = statistics.rank_sum(*values, higher)
    shared = {"ours": _summaries(found, first, second), "test": str(test), "p": test.p, "effect": test.wins}
    if test.p < SIGNIFICANT and test.wins > 0.5:
        return Finding(**shared, verdict=REPRODUCED)
    if not test.can_decide:
        why = "too few seeds for the test"
        if min(map(len, values)) > 1:
            medians = np.median(values[0]), np.median(values[1])
            ahead = found.label(first if (medians[0] > medians[1]) == higher else second)
            why += f"; by the medians, {ahead} is ahead"
        return Finding(**shared, verdict=NOT_DECIDED, why=why)
    what = "no significant difference" if test.p >= SIGNIFICANT else f"{found.label(second)} is significantly ahead"
    if open_ := _left_open(found, (first, second), paper_episodes):
        return Finding(**shared, verdict=NOT_DECIDED, why=f"{what}; {open_}")
    return Finding(**shared, verdict=NOT_REPRODUCED, why=what)


# Binary patterns ----------------------------------------------------------------------------------------------------


def _needed(episodes: list[int | None], within: int) -> str:
    """Training episodes that runs needed, in words."""
    reached = [value for value in episodes if value is not None]
    if not reached:
        return f"not reached within {within:,} episodes ({numbers.seeds(len(episodes))})"
    text = f"after episode {numbers.spread('episodes', reached)}"
    if len(reached) < len(episodes):
        text += f", in {len(reached)} of {numbers.seeds(len(episodes))}"
    return text


def _solved_by(found: TaskResults, episode: int, against: str) -> tuple[str, dict]:
    """What the plastic network needed, in words, and the verdict: whether every seed solved its task by `episode`."""
    needed = found.episodes_to("plastic", published.SOLVED_ERROR)
    holds = all(value is not None and value <= episode for value in needed)
    open_ = _other_training(found, "plastic") or _left_open(found, ("plastic",), episode)
    words = f"first under {SOLVED} {_needed(needed, _trained(found, 'plastic'))}"
    return words, _decide(holds, not open_, against, open_)


@claim(
    "binary",
    "Plastic networks learn to restore 1,000-bit patterns within some hundred episodes",
    f"under {SOLVED} wrong bits within about {published.BINARY_EPISODES} episodes "
    f"({numbers.seeds(published.BINARY_SEEDS)})",
    ("plastic",),
)
def binary_solved(found: TaskResults) -> Finding:
    """In every seed the training error falls below 1 % within twice the paper's number of episodes."""
    limit = ABOUT * published.BINARY_EPISODES
    reached, verdict = _solved_by(found, limit, "more episodes needed")
    ours = f"{numbers.spread(found.metric, found.values('plastic'))} on unseen episodes; {reached}"
    return Finding(ours, f"training error in every seed by episode {limit}", **verdict)


@claim("binary", "A non-plastic network stays near chance", "near 25 % wrong bits", ("plastic", "nonplastic"))
def binary_chance(found: TaskResults) -> Finding:
    """Every non-plastic seed is near chance, where every plastic one, trained as long, is far from it."""
    plastic, other = found.values("plastic"), found.values("nonplastic")
    learned = plastic.max() < FAILS * NEAR_CHANCE_BITS
    near = other.min() > NEAR_CHANCE_BITS
    test = (
        f"every seed above {numbers.show(found.metric, NEAR_CHANCE_BITS)}, every plastic one below "
        f"{numbers.show(found.metric, FAILS * NEAR_CHANCE_BITS)}"
    )
    fair = _trained(found, "nonplastic") >= _trained(found, "plastic")
    why = "the plastic network has not learned the task either" if not learned else "trained shorter than the plastic"
    verdict = _decide(near and learned and fair, not near and learned, "a non-plastic seed is better", why)
    return Finding(_summaries(found, "nonplastic"), test, **verdict)


# Binary patterns, small ---------------------------------------------------------------------------------------------


@claim(
    "binary_small",
    "A plastic network solves the small task",
    f"within about {published.SMALL_PLASTIC_EPISODES:,} episodes",
    ("plastic",),
)
def small_plastic(found: TaskResults) -> Finding:
    """In every seed the training error falls below 1 % within twice the paper's number of episodes.

    The level is ours: the paper does not say what solved is.
    """
    limit = ABOUT * published.SMALL_PLASTIC_EPISODES
    reached, verdict = _solved_by(found, limit, f"more episodes needed for {SOLVED}")
    return Finding(
        f"{reached}; {numbers.spread(found.metric, found.values('plastic'))} on unseen episodes",
        f"training error under {SOLVED}, a level of ours, in every seed by episode {limit:,}",
        **verdict,
    )


@claim(
    "binary_small",
    "A non-plastic RNN with 2,000 extra neurons never solves it",
    f"not within {published.SMALL_CAP:,} episodes",
    ("nonplastic",),
)
def small_nonplastic(found: TaskResults) -> Finding:
    """Decided against the claim by one seed that solves it; for it only by training as long as the paper's.

    Both only where it was trained like the paper's.
    """
    longest = _trained(found, "nonplastic")
    needed = found.episodes_to("nonplastic", published.SOLVED_ERROR)
    solved = any(value is not None for value in needed)
    other = _other_training(found, "nonplastic")
    shorter = f"trained for {longest:,} of {published.SMALL_CAP:,} episodes" if longest < published.SMALL_CAP else ""
    why = "; ".join(filter(None, ["a seed solves it" if solved else shorter, other]))
    holds = not solved and longest >= published.SMALL_CAP and not other
    return Finding(
        f"under {SOLVED} {_needed(needed, longest)}",
        f"no seed under {SOLVED} in {published.SMALL_CAP:,} episodes",
        **_decide(holds, solved and not other, "a seed solves it", why),
    )


@claim(
    "binary_small",
    "An LSTM needs several hundred times as many episodes as the plastic network",
    f"some {published.SMALL_LSTM_RATIO} times as many",
    ("plastic", "lstm"),
)
def small_ratio(found: TaskResults) -> Finding:
    """The ratio of the medians, or a lower bound of it, against the paper's, where both are trained as there."""
    ratio, factor = published.SMALL_LSTM_RATIO, ABOUT
    test = f"ratio of medians between {ratio / factor:g} and {ratio * factor:g}"
    needed = {arm: found.episodes_to(arm, published.SOLVED_ERROR) for arm in ("plastic", "lstm")}
    plastic, lstm = (np.median([np.inf if value is None else value for value in v]) for v in needed.values())
    longest = _trained(found, "lstm")
    other = "; ".join(
        f"{found.label(arm)} {how}" for arm in ("plastic", "lstm") if (how := _other_training(found, arm))
    )
    if not np.isfinite(plastic):
        return Finding("the plastic network has not solved it", test, NOT_DECIDED, "no ratio to form")
    if np.isfinite(lstm):
        ours = f"{numbers.number(lstm / plastic)} times ({lstm:,.0f} against {plastic:,.0f} episodes)"
        within = ratio / factor <= lstm / plastic <= ratio * factor
        return Finding(ours, test, **_decide(within and not other, not other, "another ratio", other))
    bound = np.median([longest if value is None else value for value in needed["lstm"]]) / plastic
    ours = (
        f"more than {numbers.number(bound)} times; under {SOLVED}: LSTM {_needed(needed['lstm'], longest)}, plastic "
        f"after {plastic:,.0f}"
    )
    why = f"the LSTM was trained for {longest:,} episodes" + (f"; {other}" if other else ": a lower bound only")
    return Finding(ours, test, **_decide(False, bound > ratio * factor and not other, "a larger ratio", why))


# Natural images -----------------------------------------------------------------------------------------------------


@claim(
    "images",
    "Plastic networks restore images they have never been trained on",
    "shown as pictures",
    ("plastic", "nonplastic"),
)
def images_restored(found: TaskResults) -> Finding:
    """On the examples kept, the error is at most half of what leaving the blanked half grey would cost.

    And less than that of the non-plastic network of the same seed, which is shown the same images: what can be guessed
    from the half that is given, without having stored the image.
    """
    plastic, other = (
        {run.run.seed: _share_of_blank(run) for run in found.finished(arm)} for arm in ("plastic", "nonplastic")
    )
    shown = len(found.finished("plastic")[0].examples()["target"])
    ours = (
        f"squared error {numbers.spread(found.metric, found.values('plastic'))} an unseen image, on "
        f"{found.data_label}; on {shown} of them a seed, {numbers.spread('wrong_bits', list(plastic.values()))} of the "
        "error of leaving the half blank, where the non-plastic network has "
        f"{numbers.spread('wrong_bits', list(other.values()))}"
    )
    test = f"every seed at most {HALF} of leaving it blank, and less than the non-plastic one"
    better = all(plastic[seed] < other[seed] for seed in plastic.keys() & other.keys())
    holds = max(plastic.values()) <= FAILS and better
    open_ = _left_open(found, ("plastic", "nonplastic"), published.IMAGES_EPISODES)
    return Finding(ours, test, **_decide(holds, not open_, "a seed leaves more", open_))


def _share_of_blank(run: RunResult) -> float:
    """Error of a network on the examples of its run, as a share of that of leaving the blanked half grey."""
    shown = {name: value.astype(float) for name, value in run.examples().items()}
    restored, blank = (np.square(shown[name] - shown["target"]).sum() for name in ("restored", "cue"))
    return float(restored / blank)


@claim("images", "A non-plastic network fails at it", "shown as pictures", ("plastic", "nonplastic"))
def images_nonplastic(found: TaskResults) -> Finding:
    """Every plastic seed has at most half the error of every non-plastic one, on unseen images.

    Undecided where the two that are closest are nearer to half than two standard errors, which the number of test
    images gives.
    """
    plastic = max(found.finished("plastic"), key=lambda run: run.metrics[found.metric])
    other = min(found.finished("nonplastic"), key=lambda run: run.metrics[found.metric])
    share = plastic.metrics[found.metric] / other.metrics[found.metric]
    errors = [run.metrics[f"{found.metric}_sem"] / run.metrics[found.metric] for run in (plastic, other)]
    margin = 2 * share * float(np.hypot(*errors))
    open_ = _left_open(found, ("plastic", "nonplastic"), published.IMAGES_EPISODES)
    if not abs(share - FAILS) >= margin:  # of a single test image there is no error, but nan
        open_ = f"nearer to {HALF} than the test images can tell"
    at_most = f"{100 * share:.1f} ± {100 * margin:.1f}{numbers.NBSP}%"
    return Finding(
        f"{_summaries(found, 'plastic', 'nonplastic')}: plastic has at most {at_most} of the error, on "
        f"{found.data_label}",
        f"every plastic seed at most {HALF} of every non-plastic one, by 2 standard errors",
        **_decide(share + margin <= FAILS, not open_, "they are closer", open_),
        effect=share,
    )


@claim(
    "images",
    "Independent coefficients α beat one shared by all connections",
    "shown as learning curves",
    ("plastic", "homogeneous"),
)
def images_independent(found: TaskResults) -> Finding:
    """Squared error on unseen images."""
    finding = _better(found, "plastic", "homogeneous", published.IMAGES_EPISODES)
    return replace(finding, ours=f"{finding.ours}, on {found.data_label}")


# Omniglot -----------------------------------------------------------------------------------------------------------


@claim(
    "omniglot",
    "A plastic layer learns new characters from one drawing each (5-way, unseen characters)",
    f"98.3 ± 0.80{numbers.NBSP}%",
    ("plastic",),
)
def omniglot_accuracy(found: TaskResults) -> Finding:
    """The median accuracy is within the paper's ± or above. On other data than Omniglot nothing is decided.

    The released evaluation shuffles the characters anew, so that most of what it tests on was trained on: the accuracy
    on such characters stands beside ours on unseen ones.
    """
    accuracy, margin = published.OMNIGLOT["DP (the paper)"]
    values = found.values("plastic")
    seen = [found.curve(run)[1][-1] for run in found.finished("plastic")]
    error = 2 * max(run.metrics[f"{found.metric}_sem"] for run in found.finished("plastic"))
    ours = (
        f"{numbers.spread(found.metric, values)} on {found.data_label}, each ± {numbers.show(found.metric, error)} by "
        f"two standard errors of its test; {numbers.show(found.metric, np.median(seen))} on the characters of training "
        "at its end"
    )
    test = f"median at least {numbers.show(found.metric, accuracy - margin)}, on Omniglot"
    if other_data := _other_data(found):
        return Finding(ours, test, NOT_DECIDED, other_data)
    as_long = _trained(found, "plastic") >= published.OMNIGLOT_EPISODES
    holds = float(np.median(values)) >= accuracy - margin
    below = "below the paper's range; its released evaluation is mostly on characters that were trained on"
    return Finding(ours, test, **_decide(holds, as_long, below))


@claim(
    "omniglot",
    "Without plasticity (α = 0) the same network cannot do it",
    f"chance, {numbers.show('accuracy', 1 / published.OMNIGLOT_WAYS)}, by construction",
    ("plastic", "nonplastic"),
)
def omniglot_chance(found: TaskResults) -> Finding:
    """Every α = 0 seed is at chance, and every plastic one is above twice chance."""
    chance = 1 / published.OMNIGLOT_WAYS
    plastic, other = found.values("plastic"), found.values("nonplastic")
    at_chance = bool((np.abs(other - chance) <= CHANCE_MARGIN).all())
    learned = bool((plastic > 2 * chance).all())
    margin = f"{numbers.bare(found.metric, chance)} ± {numbers.show(found.metric, CHANCE_MARGIN)}"
    test = f"every α = 0 seed {margin}, every plastic one above {numbers.show(found.metric, 2 * chance)}"
    not_learned = "the plastic network has not learned the task either"
    verdict = _decide(at_chance and learned, not at_chance, "an α = 0 seed is not at chance", not_learned)
    return Finding(_summaries(found, "plastic", "nonplastic"), test, **verdict)


# Maze ---------------------------------------------------------------------------------------------------------------


def _maze(first: str, second: str, text: str) -> None:
    @claim("maze", text, f"significant ({numbers.seeds(published.MAZE_SEEDS)})", (first, second))
    def judge(found: TaskResults) -> Finding:
        """Reward of an episode in unseen mazes."""
        return _better(found, first, second, published.MAZE_EPISODES)


_maze("plastic", "nonplastic", "Plastic agents earn more reward than non-plastic ones")
_maze("plastic", "homogeneous", "Independent coefficients α earn more than one shared by all connections")
_maze("homogeneous", "nonplastic", "Homogeneous plasticity earns more than none")


# Writing ------------------------------------------------------------------------------------------------------------


def as_json(claims: list[Claim]) -> str:
    """The text of claims.json."""
    return json.dumps([entry.as_dict() for entry in claims], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_markdown(claims: list[Claim], titles: dict[str, str]) -> str:
    """The text of claims.md: a table with a row for each claim. titles: of the tasks, by name."""
    lines = ["| claim | paper | ours (seeds) | test | verdict |", "| --- | --- | --- | --- | --- |"]
    for entry in claims:
        found = entry.finding
        verdict = f"**{found.verdict}**" + (f": {found.why}" if found.why else "")
        cells = (f"{titles[entry.task]}: {entry.claim}", entry.paper, found.ours, found.test, verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
