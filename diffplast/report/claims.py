"""The paper's claims, each judged from the results of its task by a rule that was fixed before.

A claim is a sentence of the paper. Its rule measures something and says whether that agrees with the sentence; what
follows is the same for all claims:

- "reproduced": it agrees, with the paper's environment, architecture, inputs, data and training, at the paper's length
  or where the curve is flat;
- "agrees under changed conditions": it agrees, and what differs from the paper is named;
- "not reproduced": it disagrees, though nothing differs but what could only help;
- "not decided": it disagrees under changed conditions; or there are too few seeds, or too little training to tell, or a
  run has failed or was not run; or the claim rests on "v3?" alone. The reason is named.

So what differs costs a result that pleases its "reproduced", and one that does not please its "not reproduced". The
p-values of a task's claims are corrected together by Holm's method. A claim that is listed apart (a control, or a
comparison of ours) is judged by the same rules and neither counted nor corrected with the others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from diffplast.report import findings, numbers, statistics
from diffplast.report.conditions import Conditions, differences
from diffplast.report.results import TaskResults
from diffplast.report.statistics import SIGNIFICANT

REPRODUCED, AGREES = "reproduced", "agrees under changed conditions"
NOT_REPRODUCED, NOT_DECIDED = "not reproduced", "not decided"
MARKS = {REPRODUCED: "✔", AGREES: "≈", NOT_REPRODUCED: "✘", NOT_DECIDED: "?"}
"""The sign of each verdict, in the order in which they are counted."""


@dataclass(frozen=True)
class Effect:
    """How large a difference is. low, high: its 95 % interval, None where there are too few seeds. name: of what.

    percent: whether it is a share.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    percent: bool = False

    def __str__(self) -> str:
        write = numbers.percent if self.percent else numbers.number
        if self.low is None or self.high is None:
            return f"{self.name} {write(self.value)}, too few seeds for an interval"
        return f"{self.name} {write(self.value)} (95{numbers.NBSP}% interval {write(self.low)} to {write(self.high)})"


@dataclass(frozen=True)
class Measured:
    """What a rule found.

    agrees: whether it is as the claim says; None where these results cannot tell. ours: what was found, in words.
    short: in one number. why: the reason, where agrees is False or None. p: of the test that the rule rests on, with
    `smallest`, the least that so many seeds could give; the engine corrects it and takes it into account. each: every
    seed's value of what the rule measures, by arm in words; where it is empty, that is the metric on held-out episodes.
    """

    agrees: bool | None
    ours: str
    short: str
    why: str = ""
    p: float | None = None
    smallest: float = 0.0
    effect: Effect | None = None
    each: dict[str, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper and the rule that judges it.

    name: the sentence in a few words. text: what the paper says, in our words. place: section or figure. source: one
    of `paper.SOURCES`. published: the paper's result in one number or two. test: the rule in words. arms: what it is
    about. seeds: how many runs of each arm it needs. paper_seeds: how many the paper has, where it compares arms.
    same_length: whether arms that it compares must have been trained for equally many episodes.
    apart: why it is listed apart and not counted; empty for a claim that counts.
    """

    name: str
    text: str
    place: str
    source: str
    published: str
    test: str
    arms: tuple[str, ...]
    judge: Callable[[TaskResults], Measured]
    conditions: Conditions
    seeds: int = 2
    paper_seeds: int | None = None
    same_length: bool = True
    apart: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim with what was found. p_holm: p after correction. differs: what is not as in the paper."""

    task: str
    claim: Claim
    measured: Measured
    verdict: str
    why: str
    p_holm: float | None
    differs: list[str]
    values: dict[str, dict]
    """Of each arm: its label, the metric on held-out episodes and every seed's value, as `statistics.describe`."""

    @property
    def short(self) -> str:
        """The result in one number, with its p-value where the verdict rests on one."""
        tested = "" if self.p_holm is None else f", {numbers.p_value(self.p_holm)}"
        return self.measured.short + tested

    @property
    def counted(self) -> bool:
        """Whether it is a claim of the paper, and not a control or a comparison of ours."""
        return not self.claim.apart

    def as_dict(self) -> dict:
        """Return one flat entry of claims.json."""
        claim, measured, effect = self.claim, self.measured, self.measured.effect
        return {
            "task": self.task, "name": claim.name, "claim": claim.text, "place": claim.place, "source": claim.source,
            "paper": claim.published, "counted": self.counted, "apart": claim.apart, "verdict": self.verdict,
            "mark": MARKS[self.verdict], "short": self.short, "ours": measured.ours, "test": claim.test,
            "why": self.why, "differs": self.differs, "p": measured.p, "p_holm": self.p_holm if self.counted else None,
            "effect": None if effect is None else vars(effect), "each": measured.each,
            "arms": self.values,
        }


def judge_all(results: dict[str, TaskResults]) -> list[Verdict]:
    """Judge all claims about the given tasks, in the order of tasks and of their claims."""
    return [verdict for name, found in results.items() for verdict in judge(found, findings.load(name).claims)]


def judge(found: TaskResults, claims: tuple[Claim, ...]) -> list[Verdict]:
    """Judge the claims about one task."""
    measured = [_measure(claim, found) for claim in claims]
    p_holm = [each.p for each in measured]
    tested = [i for i, claim in enumerate(claims) if p_holm[i] is not None and not claim.apart]
    for i, p in zip(tested, statistics.holm([measured[i].p for i in tested]), strict=True):
        p_holm[i] = p
    return [_decide(*each, found) for each in zip(claims, measured, p_holm, strict=True)]


def _measure(claim: Claim, found: TaskResults) -> Measured:
    """Apply the rule, unless an arm has no finished run."""
    absent = [found.label(arm) for arm in claim.arms if not found.finished(arm)]
    if not absent:
        return claim.judge(found)
    failures = [run.failure for arm in claim.arms for run in found.failed(arm)]
    what = " and ".join(absent)
    listed = all(arm in found.arms for arm in claim.arms)
    why = "; ".join(failures) or ("not run yet" if listed else f"params.yaml lists no run of {what}")
    return Measured(None, f"no finished run of {what}", "–", why)


def _decide(claim: Claim, measured: Measured, p_holm: float | None, found: TaskResults) -> Verdict:
    """Come to a verdict: see the module's docstring."""
    agrees, why = measured.agrees, measured.why
    if p_holm is not None and agrees is not None:
        agrees, why = _significant(claim, measured, p_holm, found)
    if agrees is not None and claim.same_length and (unequal := _unequal_lengths(claim, found)):
        agrees, why = None, unequal
    least = min(len(found.finished(arm)) for arm in claim.arms)
    if agrees is not None and least < claim.seeds:
        agrees, why = None, f"it {'holds' if agrees else 'does not hold'}, but in {numbers.seeds(least)} only"
    failures = [run.failure for arm in claim.arms for run in found.failed(arm)]
    if failures and least:
        agrees, why = None, "; ".join(failures)
        measured = replace(measured, ours=f"{measured.ours}; {_count_failed(len(failures))}")
    differs = differences(found, claim.arms, claim.conditions) if least else []
    if claim.source == "v3?":
        sign = {True: "it would hold", False: f"it would not hold: {why}", None: why}[agrees]
        verdict, why = NOT_DECIDED, f"rests on v3? alone, which decides nothing ({sign})"
    elif agrees is None:
        verdict = NOT_DECIDED
    elif agrees:
        verdict, why = (AGREES, "") if differs else (REPRODUCED, "")
    elif set(differs) - set(claim.conditions.helps):
        verdict, why = NOT_DECIDED, f"does not hold under changed conditions: {why}"
    else:
        verdict = NOT_REPRODUCED
    values = {
        arm: {"label": found.label(arm), "metric": found.metric, **statistics.describe(found.values(arm))}
        for arm in claim.arms
    }
    return Verdict(found.name, claim, measured, verdict, why, p_holm, differs, values)


def _unequal_lengths(claim: Claim, found: TaskResults) -> str:
    """Say how long each arm was trained, where that is not equally long; empty where it is."""
    lengths = {found.label(arm): [run.episodes for run in found.finished(arm)] for arm in claim.arms}
    if len({episodes for each in lengths.values() for episodes in each}) <= 1:
        return ""
    said = ", ".join(f"{label} {min(each):,}" for label, each in lengths.items())
    return f"the arms were not trained for equally many episodes ({said})"


def _significant(claim: Claim, measured: Measured, p: float, found: TaskResults) -> tuple[bool | None, str]:
    """Return whether a tested claim agrees, and why not: a difference has to be significant, in either direction."""
    if p < SIGNIFICANT:
        return measured.agrees, measured.why
    said = f"no significant difference, {numbers.p_value(p)}"
    if measured.smallest >= SIGNIFICANT:
        return None, f"too few seeds for the test (least possible p {measured.smallest:.2g})"
    least = min(len(found.finished(arm)) for arm in claim.arms)
    if claim.paper_seeds is None or least < claim.paper_seeds:
        few = "" if claim.paper_seeds is None else f", with {least} of the paper's {claim.paper_seeds} seeds"
        return None, said + few
    return False, said


def _count_failed(count: int) -> str:
    return f"{count} failed run" + ("" if count == 1 else "s")


# Rules that several tasks use -------------------------------------------------------------------------------------


def better(found: TaskResults, first: str, second: str, unit: str = "") -> Measured:
    """Compare the seeds of two arms on held-out episodes by a rank-sum test. unit: of the difference, in words."""
    values = [found.values(arm) for arm in (first, second)]
    test = statistics.rank_sum(*values, found.measure.higher_is_better)
    ahead = test.wins > 0.5
    medians = [numbers.bare(found.measure, numbers.band(each)[0]) for each in values]
    ours = "; ".join(
        f"{found.label(arm)} {numbers.spread(found.measure, each)}"
        for arm, each in zip((first, second), values, strict=True)
    )
    name = f"{found.label(first)} minus {found.label(second)}{unit}"
    return Measured(
        agrees=ahead,
        ours=ours,
        short=f"{medians[0]} vs {medians[1]}",
        why="" if ahead else f"{found.label(second)} is ahead",
        p=test.p,
        smallest=test.smallest,
        effect=Effect(name, test.shift, test.low, test.high, found.measure.percent),
    )


def reaching(found: TaskResults, arm: str, level: float, within: int) -> Measured:
    """Say whether every seed of an arm gets below `level` of the metric after at most `within` training episodes."""
    runs = found.finished(arm)
    needed = [run.gets_below(found.metric, level) for run in runs]
    ok = [value is not None and value <= within for value in needed]
    shown = numbers.show(found.measure, level)
    later = [
        values[episodes > value].max()
        for run, value in zip(runs, needed, strict=True)
        for episodes, values in [run.series(found.metric)]
        if value is not None and episodes[-1] > value
    ]
    highest = f", later windows at most {numbers.show(found.measure, max(later))}" if later else ""
    ours = (
        f"gets under {shown} {needed_in_words(needed, max(run.episodes for run in runs))}{highest}, in "
        f"{windows_in_words(found, arm)}; "
        f"{numbers.spread(found.measure, found.values(arm))} on unseen episodes"
    )
    reached = [value for value in needed if value is not None]
    all_there = len(reached) == len(needed)
    short = f"in {len(reached)} of {numbers.seeds(len(needed))}"
    if all_there:
        short = f"after {numbers.band(reached)[0]:,.0f}"
    each = {f"{found.label(arm)}, episodes until it gets under {shown}": needed}
    if all(ok):
        return Measured(True, ours, short, each=each)
    too_short = [run.episodes for run, by in zip(runs, ok, strict=True) if not by and run.episodes < within]
    if too_short:
        return Measured(None, ours, short, f"trained for {min(too_short):,} of {within:,} episodes", each=each)
    return Measured(False, ours, short, f"{ok.count(False)} of {numbers.seeds(len(ok))} need more episodes", each=each)


def windows_in_words(found: TaskResults, arm: str) -> str:
    """Say over how many training episodes the points of an arm's curves are means: of few, they get under sooner."""
    steps = np.concatenate([np.diff(run.series(found.metric)[0], prepend=0) for run in found.finished(arm)])
    low, high = steps.min(), steps.max()
    return f"windows of {low:,} episodes" if low == high else f"windows of {low:,} to {high:,} episodes"


def needed_in_words(needed: list[int | None], longest: int) -> str:
    """Write the training episodes that runs needed, of which None never got there in at most `longest`."""
    reached = [value for value in needed if value is not None]
    if not reached:
        return f"not within {longest:,} episodes ({numbers.seeds(len(needed))})"
    middle, low, high = numbers.band(reached)
    between = "" if low == high else f"{low:,.0f}–{high:,.0f}; "
    text = f"after {middle:,.0f} episodes ({between}{numbers.seeds(len(reached))})"
    return text if len(reached) == len(needed) else f"{text}, in {len(reached)} of {numbers.seeds(len(needed))}"
