"""Claims: every rule with made-up results on both sides of it, and every verdict that follows."""

import json
from dataclasses import replace

import numpy as np
import pytest

from diffplast.core import params, registry
from diffplast.report import claims, findings, numbers, readme, statistics, tables
from diffplast.report.claims import AGREES, NOT_DECIDED, NOT_REPRODUCED, REPRODUCED, Claim, Measured
from diffplast.report.conditions import Conditions, differences, is_flat
from diffplast.report.paper import SOURCES, curve
from diffplast.report.results import ResultsError
from diffplast.tasks.binary_small.findings.paper import FIGURE_3
from diffplast.tasks.binary_small.findings.sweep import sweep

from .made_up import COURSES, ROOT, Tree

CLAIMS = {(task, claim.name): claim for task in registry.names() for claim in findings.load(task).claims}
CHANGED = Conditions(always=("another experiment",))


@pytest.fixture
def make_tree(tmp_path, monkeypatch):
    """A function that makes a tree of the results of one task in an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def make(task, seeds=2, **settings):
        changes = tuple(f"{task}.laptop.{key}={value}" for key, value in settings.items())
        return Tree(tmp_path, "laptop", range(seeds), (task,), changes)

    return make


def claim_of(task, part):
    """The claim of `task` whose name begins with `part`, or else has it."""
    named = [claim for (name, _), claim in CLAIMS.items() if name == task and part in claim.name]
    (found,) = [claim for claim in named if claim.name.startswith(part)] or named
    return found


def judged(tree, task, part, conditions=None):
    """The verdict on a claim: as it is, or under conditions that are given in place of the paper's."""
    claim = claim_of(task, part)
    if conditions is not None:
        claim = replace(claim, conditions=conditions)
    (verdict,) = claims.judge(tree.read(task), (claim,))
    return verdict


def both_verdicts(tree, task, part):
    """The verdicts on a claim: where nothing differs from the paper, and where something does."""
    found = tuple(judged(tree, task, part, conditions) for conditions in (Conditions(), CHANGED))
    assert found[0].differs == [] and found[1].differs == ["another experiment"]
    return tuple(verdict.verdict for verdict in found)


AGREEING, DISAGREEING, OPEN = (REPRODUCED, AGREES), (NOT_REPRODUCED, NOT_DECIDED), (NOT_DECIDED, NOT_DECIDED)


def set_curves(tree, task, arm, *curves):
    """Set the training curves of the seeds of an arm."""
    for run, points in zip(tree.runs(task, arm), curves, strict=True):
        tree.set_curve(run, points)


def falling(level_at, end, step=10, before=0.2, after=0.005):
    """A training curve that is at `before` until an episode and at `after` from it on."""
    return {episode: before if episode < level_at else after for episode in range(step, end + 1, step)}


# Binary patterns


@pytest.mark.parametrize(
    "curves, verdicts, words",
    [
        ((falling(50, 400), falling(300, 400)), AGREEING, "after 175 episodes (50–300; 2 seeds)"),
        ((falling(50, 400), falling(310, 400)), DISAGREEING, "1 of 2 seeds need more episodes"),
        ((falling(50, 400), falling(900, 400)), DISAGREEING, "in 1 of 2 seeds"),
        ((falling(50, 200), falling(900, 200)), OPEN, "trained for 200 of 300 episodes"),
    ],
    ids=["in time", "too late", "one never", "trained too little"],
)
def test_binary(make_tree, curves, verdicts, words):
    tree = make_tree("binary")
    set_curves(tree, "binary", "plastic", *curves)
    tree.set_values("binary", "plastic", *(list(points.values())[-1] for points in curves))
    assert both_verdicts(tree, "binary", "restore") == verdicts
    found = judged(tree, "binary", "restore")
    assert words in found.measured.ours + found.measured.why


def test_one_lucky_window_does_not_count(make_tree):
    tree = make_tree("binary")
    lucky = falling(900, 400) | {100: 0.001, 110: 0.001, 120: 0.001, 130: 0.001}
    set_curves(tree, "binary", "plastic", lucky, lucky | {140: 0.001})
    tree.set_values("binary", "plastic", 0.2, 0.2)
    runs = tree.read("binary").finished("plastic")
    assert [run.stays_below("wrong_bits", 0.01) for run in runs] == [None, 100]
    tree.set_values("binary", "plastic", 0.009, 0.2)  # held-out episodes tell as well, by the end of training
    runs = tree.read("binary").finished("plastic")
    assert [run.stays_below("wrong_bits", 0.01) for run in runs] == [400, 100]


@pytest.mark.parametrize(
    "plastic, other, verdicts",
    [((0.01, 0.02), (0.24, 0.25), AGREEING), ((0.01, 0.02), (0.24, 0.15), DISAGREEING),
     ((0.01, 0.2), (0.24, 0.25), OPEN)],
    ids=["near chance", "one is not", "plastic has not learned"],
)
def test_binary_control(make_tree, plastic, other, verdicts):
    tree = make_tree("binary")
    tree.set_values("binary", "plastic", *plastic)
    tree.set_values("binary", "nonplastic", *other)
    assert both_verdicts(tree, "binary", "chance") == verdicts


def test_binary_control_is_open_where_the_nonplastic_network_was_trained_less(make_tree):
    tree = make_tree("binary", episodes="{plastic: 400, homogeneous: 400, nonplastic: 200}")
    tree.set_values("binary", "plastic", 0.01, 0.02)
    tree.set_values("binary", "nonplastic", 0.24, 0.25)
    assert judged(tree, "binary", "chance").why == "trained shorter than the plastic network"


# Binary patterns, small


def plateau(level, end=1_000_000, start=0.25):
    """A training curve that comes down to a level within a tenth of its length."""
    return {
        int(place * end): start + (level - start) * min(1, 10 * place) for place in np.linspace(0, 1, 201)[1:]
    }


@pytest.mark.parametrize(
    "levels, verdicts",
    [((0.12, 0.139), AGREEING), ((0.12, 0.145), DISAGREEING), ((0.12, 0.105), DISAGREEING)],
    ids=["at the figure's level", "one higher", "one lower"],
)
def test_the_rnn_flatlines(make_tree, levels, verdicts):
    tree = make_tree("binary_small")
    set_curves(tree, "binary_small", "nonplastic", *map(plateau, levels))
    assert both_verdicts(tree, "binary_small", "flatlines") == verdicts


def test_a_short_run_of_the_rnn_counts_where_it_is_flat(make_tree):
    tree = make_tree("binary_small")
    paper = Conditions(episodes=1_000_000)
    set_curves(tree, "binary_small", "nonplastic", *[plateau(0.12, end=200_000)] * 2)
    assert judged(tree, "binary_small", "flatlines", paper).verdict == REPRODUCED
    sinking = {episode: 0.25 - 0.13 * (episode / 200_000) ** 0.2 for episode in range(1000, 200_001, 1000)}
    set_curves(tree, "binary_small", "nonplastic", *[sinking] * 2)
    found = judged(tree, "binary_small", "flatlines", paper)
    assert found.verdict == AGREES
    assert found.differs == ["200,000 of 1,000,000 training episodes while its curve still moved"]
    assert not is_flat(tree.read("binary_small"), "nonplastic")


@pytest.mark.parametrize(
    "curves, verdicts, why",
    [
        ((plateau(0.016), plateau(0.028)), AGREEING, ""),
        ((plateau(0.016), plateau(0.04)), DISAGREEING, "not between 1\u00a0% and 3\u00a0%"),
        ((plateau(0.016, end=400_000),) * 2, OPEN, "trained for 400,000 of 500,000 episodes"),
        ((falling(30_000, 100_000, 1000),) * 2, DISAGREEING, "much sooner than the paper's"),
    ],
    ids=["as the figure", "one higher", "trained too little", "much faster"],
)
def test_the_lstm_solves_it_imperfectly(make_tree, curves, verdicts, why):
    tree = make_tree("binary_small")
    set_curves(tree, "binary_small", "lstm", *curves)
    assert both_verdicts(tree, "binary_small", "imperfectly") == verdicts
    assert why in judged(tree, "binary_small", "imperfectly").measured.why


@pytest.mark.parametrize("arm, part", [("plastic_long", "network: under"), ("plastic", "README")])
@pytest.mark.parametrize(
    "curves, verdicts",
    [
        ((falling(1600, 20_000, 100), falling(2000, 20_000, 100)), AGREEING),
        ((falling(1600, 20_000, 100), falling(9000, 20_000, 100)), DISAGREEING),
        ((falling(1600, 1900, 100, after=0.02),) * 2, OPEN),
    ],
    ids=["in time", "one too late", "trained too little"],
)
def test_the_plastic_network_is_under_one_per_cent(make_tree, arm, part, curves, verdicts):
    tree = make_tree("binary_small")
    set_curves(tree, "binary_small", arm, *curves)
    tree.set_values("binary_small", arm, *(list(points.values())[-1] for points in curves))
    assert both_verdicts(tree, "binary_small", part) == verdicts


def descending(paper, end, factor=1.0):
    """A training curve that reaches every level of the sweep after `factor` times the episodes of a paper's curve."""
    rows = {level: paper.first_below(level) for level in (0.05, 0.03, 0.02, 0.015, 0.01)}
    known = {level: factor * episode for level, episode in rows.items() if episode is not None}
    step = max(1, end // 2000)
    return {
        episode: min((level for level, by in known.items() if episode >= by), default=0.2) - 1e-4
        for episode in range(step, end + 1, step)
    }


@pytest.mark.parametrize(
    "plastic, lstm, verdicts, words",
    [
        (1.0, 1.0, AGREEING, "times at 1.5"),
        (1.5, 1.0, AGREEING, "times at 1.5"),
        (1.0, 0.4, DISAGREEING, "times at 1.5"),
        (2.5, 1.0, DISAGREEING, "times at 1.5"),
        (1.0, 3.0, DISAGREEING, "times at 3"),
        (1.0, 9.0, DISAGREEING, "no ratio yet"),
    ],
    ids=["as the figure", "nearly", "LSTM faster", "plastic slower", "LSTM slower", "LSTM much slower"],
)
def test_times_faster(make_tree, plastic, lstm, verdicts, words):
    tree = make_tree("binary_small")
    set_curves(tree, "binary_small", "plastic_long", *[descending(FIGURE_3["plastic_long"], 20_000, plastic)] * 2)
    set_curves(tree, "binary_small", "lstm", *[descending(FIGURE_3["lstm"], 1_000_000, 0.97 * lstm)] * 2)
    tree.set_values("binary_small", "lstm", 0.2, 0.2)
    assert both_verdicts(tree, "binary_small", "times faster") == verdicts
    assert words in judged(tree, "binary_small", "times faster").short


def test_times_faster_is_open_until_the_lstm_solves_the_task(make_tree):
    tree = make_tree("binary_small")
    set_curves(tree, "binary_small", "plastic_long", *[descending(FIGURE_3["plastic_long"], 20_000)] * 2)
    set_curves(tree, "binary_small", "lstm", *[descending(FIGURE_3["lstm"], 350_000)] * 2)
    tree.set_values("binary_small", "lstm", 0.2, 0.2)
    assert both_verdicts(tree, "binary_small", "times faster") == OPEN
    found = judged(tree, "binary_small", "times faster")
    assert found.why == "the LSTM, trained for 350,000 episodes, has not solved the task"
    assert "3\u00a0%: 283 (figure 283); 2\u00a0%: more than 250 (figure 292)" in found.measured.ours


def test_the_sweep_has_the_papers_own_curves(make_tree):
    rows = sweep(make_tree("binary_small").read("binary_small"))
    assert [row.level for row in rows] == [0.05, 0.03, 0.02, 0.015, 0.01]
    assert [row.paper_ratio and round(row.paper_ratio, -1) for row in rows] == [310, 280, 290, 350, None]
    assert rows[-1].paper["plastic_long"] == 1640 and rows[0].paper["nonplastic"] == np.inf


# Natural images


@pytest.mark.parametrize(
    "errors, sem, verdicts",
    [((20, 50), 1, AGREEING), ((20, 70), 1, DISAGREEING), ((20, 54), 3, OPEN)],
    ids=["restored", "one is not", "too near to tell"],
)
def test_unseen_images_are_restored(make_tree, errors, sem, verdicts):
    tree = make_tree("images")
    tree.set_values("images", "plastic", *errors)
    for run in tree.runs("images", "plastic"):
        tree.change(run, squared_error_sem=sem, blank_error=110.0, blank_error_sem=1.0)
    assert both_verdicts(tree, "images", "restored") == verdicts


@pytest.mark.parametrize(
    "plastic, other, sem, verdicts",
    [((20, 22), (60, 50), 0.5, AGREEING), ((20, 40), (60, 50), 0.5, DISAGREEING), ((20, 26), (60, 50), 2, OPEN),
     ((20, 22), (60, 50), float("nan"), OPEN)],
    ids=["fails", "does not", "too near to tell", "one test image"],
)
def test_nonplastic_networks_fail_on_images(make_tree, plastic, other, sem, verdicts):
    tree = make_tree("images")
    tree.set_values("images", "plastic", *plastic)
    tree.set_values("images", "nonplastic", *other)
    for run in tree.runs("images"):
        tree.change(run, squared_error_sem=sem)
    assert both_verdicts(tree, "images", "fail") == verdicts


@pytest.mark.parametrize(
    "values, verdicts",
    [((0.2, 0.25), AGREEING), ((0.2, 0.01), OPEN), ((-0.2, -0.3), DISAGREEING)],
    ids=["structure", "none to be seen", "the other way round"],
)
def test_alpha_has_structure(make_tree, values, verdicts):
    tree = make_tree("images")
    for run, value in zip(tree.runs("images", "plastic"), values, strict=True):
        tree.change(run, alpha_structure=value, alpha_structure_shuffled_mean=0.0, alpha_structure_shuffled_sd=0.01)
    assert both_verdicts(tree, "images", "structure") == verdicts


def test_independent_coefficients_are_compared_with_figure_5_at_equal_episodes(make_tree):
    tree = make_tree("images", 4)
    for arm, value in (("plastic", 20), ("homogeneous", 29)):
        set_curves(tree, "images", arm, *[{1000: value + 5, 5000: value}] * 4)
    ours = judged(tree, "images", "own α").measured.ours
    assert "25 / 34 (figure: 28.9 / 31.1) at 1,000, 20 / 29 (figure: 20.4 / 27.9) at 5,000" in ours
    set_curves(tree, "images", "homogeneous", *[{1000: 30}] * 4)
    found = judged(tree, "images", "own α")
    assert found.verdict == NOT_DECIDED and "unequal numbers of episodes" in found.why


# Two arms by a rank-sum test


@pytest.mark.parametrize("task, part, sign", [("images", "own α", -1), ("maze", "plastic beats", 1)])
@pytest.mark.parametrize(
    "seeds, lead, verdicts, why",
    [
        (2, 50, OPEN, "too few seeds for the test (least possible p 0.33)"),
        (4, 50, AGREEING, ""),
        (4, -50, DISAGREEING, "is ahead"),
        (4, 1, OPEN, "seeds"),
        (15, 1, DISAGREEING, "no significant difference"),
    ],
    ids=["too few", "ahead", "behind", "no difference", "no difference in the paper's number of seeds"],
)
def test_two_arms(make_tree, task, part, sign, seeds, lead, verdicts, why):
    tree = make_tree(task, seeds)
    base = np.arange(seeds) * 2.0 + 100
    claim = claim_of(task, part)
    tree.set_values(task, claim.arms[0], *(base + sign * lead))
    tree.set_values(task, claim.arms[1], *base)
    assert both_verdicts(tree, task, part) == verdicts
    found = judged(tree, task, part)
    assert why in found.why and found.measured.effect.value == pytest.approx(sign * lead)
    if abs(lead) > 1:
        assert found.p_holm == pytest.approx({2: 1 / 3, 4: 2 / 70}[seeds])


# Maze


def rising(end, at_half, start=10, length=1_000_000):
    """A training curve of 100 windows, straight to its value at half of training and straight from there to its end."""
    places = np.linspace(0, 1, 101)[1:]
    values = np.interp(places, [0, 0.5, 1], [start, at_half, end])
    return {int(place * length): float(value) for place, value in zip(places, values, strict=True)}


@pytest.mark.parametrize(
    "plastic, other, verdicts, why",
    [
        ((150, 90), (57, 47), AGREEING, ""),
        ((150, 90), (90, 80), DISAGREEING, "earns more than half"),
        ((150, 120), (60, 40), DISAGREEING, "still learns"),
    ],
    ids=["stuck", "not so bad", "still learns"],
)
def test_the_nonplastic_agent_gets_stuck(make_tree, plastic, other, verdicts, why):
    tree = make_tree("maze")
    set_curves(tree, "maze", "plastic", *[rising(*plastic)] * 2)
    set_curves(tree, "maze", "nonplastic", *[rising(*other)] * 2)
    assert both_verdicts(tree, "maze", "stuck") == verdicts
    assert why in judged(tree, "maze", "stuck").why


def crossing(at, length=1_000_000):
    """Curves of the plastic and the non-plastic agent that cross at an episode."""
    episodes = np.linspace(0, length, 201)[1:].astype(int)
    return {int(e): 40 + 0.0001 * (e - at) for e in episodes}, {int(e): 40.0 for e in episodes}


@pytest.mark.parametrize(
    "at, length, verdicts, why",
    [
        (240_000, 1_000_000, AGREEING, ""),
        (400_000, 1_000_000, AGREEING, ""),
        (100_000, 1_000_000, DISAGREEING, "sooner than the paper's"),
        (600_000, 1_000_000, DISAGREEING, "later than the paper's"),
        (1_200_000, 1_000_000, DISAGREEING, "the curves have not crossed"),
        (240_000, 200_000, OPEN, "trained for 200,000 of 412,500 episodes"),
    ],
)
def test_where_the_curves_cross(make_tree, at, length, verdicts, why):
    tree = make_tree("maze")
    plastic, other = crossing(at, length)
    set_curves(tree, "maze", "plastic", plastic, plastic)
    set_curves(tree, "maze", "nonplastic", other, other)
    assert both_verdicts(tree, "maze", "cross") == verdicts
    found = judged(tree, "maze", "cross").measured
    assert why in found.why
    if at < length:
        assert float(found.short.replace(",", "")) == pytest.approx(at, abs=2_500)  # half a window


def test_the_papers_own_maze_curves_pass_their_rules(make_tree):
    tree = make_tree("maze", 4)
    for arm in ("plastic", "nonplastic"):
        theirs = curve(6, "maze", arm)
        points = {episode: theirs.at(episode) for episode in range(10_000, 1_000_001, 10_000)}
        set_curves(tree, "maze", arm, *[points] * 4)
        tree.set_values("maze", arm, *(theirs.end() + np.arange(4)))
    assert [both_verdicts(tree, "maze", part) for part in ("plastic beats", "stuck", "cross")] == [AGREEING] * 3


# Omniglot


@pytest.mark.parametrize("arm, part", [("homogeneous", "accuracy, by"), ("plastic", "own α: accuracy, by")])
@pytest.mark.parametrize(
    "values, agrees",
    [((0.98, 0.99, 0.985), True), ((0.999, 0.998, 0.999), True), ((0.95, 0.951, 0.952), False), ((0.98, 0.99), None)],
    ids=["within", "above", "below", "too few seeds"],
)
def test_accuracy_as_published(make_tree, arm, part, values, agrees):
    tree = make_tree("omniglot", len(values))
    tree.set_values("omniglot", arm, *values, metric="accuracy_released")
    found = judged(tree, "omniglot", part, Conditions())
    assert found.measured.agrees is agrees
    if arm == "homogeneous":
        assert found.verdict == {True: REPRODUCED, False: NOT_REPRODUCED, None: NOT_DECIDED}[agrees]
    else:
        assert found.verdict == NOT_DECIDED and "rests on v3? alone, which decides nothing" in found.why


@pytest.mark.parametrize(
    "values, verdicts",
    [((0.98, 0.981, 0.982), AGREEING), ((0.95, 0.951, 0.952), DISAGREEING), ((0.97, 0.98, 0.975), OPEN)],
    ids=["above", "below", "interval too wide"],
)
def test_accuracy_on_new_characters(make_tree, values, verdicts):
    tree = make_tree("omniglot", 3)
    tree.set_values("omniglot", "homogeneous", *values, metric="accuracy_final")
    assert both_verdicts(tree, "omniglot", "accuracy on new") == verdicts


@pytest.mark.parametrize(
    "plastic, other, verdicts",
    [((0.9, 0.95), (0.19, 0.21), AGREEING), ((0.9, 0.95), (0.19, 0.25), DISAGREEING),
     ((0.9, 0.3), (0.19, 0.21), OPEN)],
)
def test_omniglot_control(make_tree, plastic, other, verdicts):
    tree = make_tree("omniglot")
    tree.set_values("omniglot", "plastic", *plastic)
    tree.set_values("omniglot", "nonplastic", *other)
    assert both_verdicts(tree, "omniglot", "chance") == verdicts


def test_what_plasticity_adds(make_tree):
    tree = make_tree("omniglot")
    ours = judged(tree, "omniglot", "adds").measured.ours
    assert "320 coefficients α (or one shared by all) and η, beside 111,424" in ours
    tree.set("omniglot.experiment.ways=20", "omniglot.experiment.features=8")
    assert judged(tree, "omniglot", "adds").measured.agrees is False


# What holds for all claims


def toy(agrees=True, p=None, **changes):
    """A claim about the maze whose rule always finds the same."""
    fields = {
        "name": "a", "text": "A", "place": "section 1", "source": "text 1", "published": "1", "test": "t",
        "arms": ("plastic", "nonplastic"), "judge": lambda found: Measured(agrees, "ours", "1", "because", p=p),
        "conditions": Conditions(),
    }
    return Claim(**fields | changes)


@pytest.mark.parametrize(
    "agrees, conditions, verdict, why",
    [
        (True, Conditions(), REPRODUCED, ""),
        (True, CHANGED, AGREES, ""),
        (False, Conditions(), NOT_REPRODUCED, "because"),
        (False, CHANGED, NOT_DECIDED, "does not hold under changed conditions: because"),
        (None, Conditions(), NOT_DECIDED, "because"),
        (None, CHANGED, NOT_DECIDED, "because"),
    ],
)
def test_what_pleases_and_what_does_not_are_held_to_the_same_standard(make_tree, agrees, conditions, verdict, why):
    found = make_tree("maze").read("maze")
    (got,) = claims.judge(found, (toy(agrees, conditions=conditions),))
    assert (got.verdict, got.why) == (verdict, why)


@pytest.mark.parametrize("agrees, words", [(True, "it holds"), (False, "it does not hold")])
def test_one_seed_decides_nothing(make_tree, agrees, words):
    found = make_tree("maze", 1).read("maze")
    (got,) = claims.judge(found, (toy(agrees),))
    assert (got.verdict, got.why) == (NOT_DECIDED, f"{words}, but in 1 seed only")
    (got,) = claims.judge(found, (toy(agrees, seeds=1),))
    assert got.verdict == (REPRODUCED if agrees else NOT_REPRODUCED)


@pytest.mark.parametrize("agrees", [True, False, None])
def test_what_is_only_believed_of_version_3_decides_nothing(make_tree, agrees):
    (got,) = claims.judge(make_tree("maze").read("maze"), (toy(agrees, source="v3?"),))
    assert got.verdict == NOT_DECIDED and got.why.startswith("rests on v3? alone")


def test_p_values_are_corrected_over_the_claims_that_count(make_tree):
    found = make_tree("maze").read("maze")
    three = (toy(p=0.02), toy(p=0.04), toy(p=0.01), toy(p=0.02, apart="ours"), toy())
    got = claims.judge(found, three)
    assert [each.p_holm for each in got] == [0.04, 0.04, 0.03, 0.02, None]
    assert [each.verdict for each in got] == [REPRODUCED] * 5
    got = claims.judge(found, (toy(p=0.03), toy(p=0.04)))
    assert [each.p_holm for each in got] == [0.06, 0.06] and {each.verdict for each in got} == {NOT_DECIDED}
    assert got[0].short == "1, p = 0.06"


def test_holm_and_hodges_lehmann():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([]) == [] and statistics.holm([0.6, 0.7]) == [1, 1]
    first, second = [10.0, 12.0, 15.0, 11.0, 14.5], [1.0, 2.5, 0.0, 4.0, 3.0]
    test = statistics.rank_sum(first, second, higher_is_better=True)
    differences = sorted(a - b for a in first for b in second)
    assert test.shift == differences[12] and test.wins == 1
    # The interval holds exactly the shifts that the test does not reject.
    edges = (test.low + 0.01, True), (test.low - 0.01, False), (test.high - 0.01, True), (test.high + 0.01, False)
    for shift, kept in edges:
        p = statistics.rank_sum(np.array(first) - shift, second, higher_is_better=True).p
        assert (p > 0.05) == kept
    few = statistics.rank_sum([1.0, 2.0], [3.0, 4.0], higher_is_better=False)
    assert (few.low, few.high, few.smallest, few.wins) == (None, None, pytest.approx(1 / 3), 1)


def test_a_failed_run_leaves_the_claim_open_and_is_named(make_tree):
    tree = make_tree("binary", episodes=400)
    set_curves(tree, "binary", "plastic", falling(50, 400), falling(50, 400))
    assert judged(tree, "binary", "restore", Conditions()).verdict == REPRODUCED
    tree.fail(tree.runs("binary", "plastic")[1])
    found = judged(tree, "binary", "restore", Conditions())
    assert found.verdict == NOT_DECIDED and "1 failed run" in found.measured.ours
    assert found.why == "plastic, seed 1: after episode 300 the loss (nan) is not finite"
    tree.fail(tree.runs("binary", "plastic")[0])
    assert judged(tree, "binary", "restore").measured.ours == "no finished run of plastic"


def test_what_was_not_run_or_not_asked_for_leaves_the_claim_open(make_tree):
    tree = make_tree("maze", 3)
    for run in tree.runs("maze", "homogeneous"):
        tree.remove(run)
    assert "not run yet" in judged(tree, "maze", "own α").why
    tree.list_runs({"maze": (0, 1, 2)}, ("plastic", "nonplastic"))
    assert "params.yaml lists no run of homogeneous α" in judged(tree, "maze", "own α").why


def test_a_result_that_an_older_evaluation_did_not_leave_is_named(make_tree):
    tree = make_tree("omniglot", 3)
    run = tree.runs("omniglot", "homogeneous")[0]
    path = run.results / "metrics.json"
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key != "accuracy_final"}
    path.write_text(json.dumps(kept))
    with pytest.raises(ResultsError, match=r"has no accuracy_final; make it again with: dvc repro .*homogeneous-0"):
        judged(tree, "omniglot", "accuracy on new")


# Conditions


def test_differences_are_named_with_what_the_paper_has(make_tree):
    tree = make_tree("binary", episodes=400, batch=8, lr="{plastic: 1e-3, homogeneous: 1e-3, nonplastic: 3e-4}")
    found = tree.read("binary")
    paper = Conditions(
        experiment={"bits": 900, "times.shown": frozenset({3, 6})},
        settings={"batch": 1, "lr": 1e-3, "clip": None, "decay": None}, episodes=2000, flat_counts=False, data=None,
    )
    assert differences(found, ("plastic", "nonplastic"), paper) == [
        "bits 1,000 (paper: 900)", "times shown 10 (paper: 3 or 6)", "batch 8 (paper: 1)",
        "400 of 2,000 training episodes", "non-plastic: rate 0.0003 (paper: 0.001)",
    ]
    own = Conditions(settings={"batch": 8, "lr": {"plastic": 1e-3, "nonplastic": 3e-4}}, episodes=400)
    assert differences(found, ("plastic", "nonplastic"), own) == []


def test_other_data_are_a_difference(make_tree):
    tree = make_tree("images")
    paper = Conditions(data="cifar10")
    assert differences(tree.read("images"), ("plastic",), paper) == ["data made-up images (paper: cifar10)"]
    tree.set_data("images", name="folder", description="JPEG copies of CIFAR-10")
    assert differences(tree.read("images"), ("plastic",), paper) == ["data JPEG copies of CIFAR-10 (paper: cifar10)"]
    tree.set_data("images", name="cifar10")
    assert differences(tree.read("images"), ("plastic",), paper) == []


@pytest.mark.parametrize("scale", params.SCALES)
def test_conditions_are_of_parameters_that_exist(tmp_path, monkeypatch, scale):
    monkeypatch.chdir(tmp_path)
    for (task, _), claim in CLAIMS.items():
        found = Tree(tmp_path, scale, (0,), (task,)).read(task)
        assert isinstance(differences(found, claim.arms, claim.conditions), list)


# What the claims say


def test_every_claim_names_its_source_and_arms_that_exist():
    for (task, _), claim in CLAIMS.items():
        assert set(claim.arms) <= set(registry.load(task).arms)
        assert claim.source.startswith(SOURCES) and claim.place and claim.published
        assert claim.apart or claim.source != "v3?", "what rests on v3? alone is not counted"
    for task in registry.names():
        assert all(quoted.source.startswith(SOURCES) for quoted in findings.load(task).quoted)
        names = [claim.name for claim in findings.load(task).claims]
        assert len(set(names)) == len(names)


def test_a_task_without_findings_has_no_claims(make_tree, monkeypatch):
    monkeypatch.setattr(findings, "load", lambda task: findings.Findings())
    assert claims.judge_all({"binary": make_tree("binary").read("binary")}) == []


def test_claims_follow_the_files(make_tree):
    tree = make_tree("maze", 4)
    before = claims.judge_all({"maze": tree.read("maze")})
    tree.set_values("maze", "plastic", 1, 2, 3, 4)
    after = claims.judge_all({"maze": tree.read("maze")})
    assert before[0].measured.agrees and not after[0].measured.agrees
    entry = json.loads(tables.as_json(after, {"maze": "Maze"}))[0]
    assert entry["arms"]["plastic"]["values"] == [1, 2, 3, 4] and entry["mark"] == claims.MARKS[entry["verdict"]]
    assert "plastic 2.5 (1.8–3.2; 4 seeds)" in tables.as_markdown(after, {"maze": "Maze"})


def test_markdown_has_a_table_of_what_counts_and_one_of_what_does_not(make_tree):
    tree = make_tree("binary")
    found = claims.judge_all({"binary": tree.read("binary")})
    text = tables.as_markdown(found, {"binary": "a | b"})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3 + 3 and {line.replace("\\|", "").count("|") for line in rows} == {7}
    assert text.startswith("1 claims of the paper: ") or text.startswith("1 claim of the paper: ")
    assert text.index("Controls") < text.index("control: the paper shows no")


def test_the_readmes_table_has_one_number_a_cell_of_both_scales(make_tree):
    tree = make_tree("maze", 4)
    found = claims.judge_all({"maze": tree.read("maze")})
    entries = json.loads(tables.as_json(found, {"maze": "Maze"}))
    counted = [entry for entry in entries if entry["counted"]]
    lines = readme.table({"laptop": counted, "study": counted[:1]}).splitlines()
    assert lines[0] == "| | claim | paper | [laptop](reports/laptop/claims.md) | [study](reports/study/claims.md) |"
    assert len(lines) == 2 + len(counted) < 2 + len(entries)
    assert lines[2].startswith("| **Maze** | plastic beats non-plastic | 148 vs 56.9 | ")
    assert lines[3].startswith("|  | non-plastic gets stuck | ") and lines[3].endswith(" | not run yet |")
    assert "reproduced (0 laptop, 0 study)" in readme.legend({"laptop": counted, "study": counted[:1]})


def test_summaries():
    bits, reward = (registry.load(task).metrics[name] for task, name in (("binary", "wrong_bits"), ("maze", "reward")))
    assert numbers.spread(bits, [0.0123]) == "1.2\N{NO-BREAK SPACE}% (1 seed)"
    assert numbers.spread(reward, [100, 200]) == "150 (100–200; 2 seeds)"
    assert numbers.spread(reward, [1, 2, 3, 4, 100]) == "3 (2–4; 5 seeds)"
    assert numbers.spread(reward, []) == "no finished run"
    assert [numbers.percent(share) for share in (0.001, 0.0123, 0.983, 0.98, 0.25, 1)] == [
        f"{text}\N{NO-BREAK SPACE}%" for text in ("0.1", "1.2", "98.3", "98", "25", "100")
    ]
    assert [numbers.number(value) for value in (0.01234, 1.26, 12.34, 999.4, 999.7, 123456.7, 3e-5, np.nan)] == [
        "0.012", "1.3", "12.3", "999", "1,000", "123,457", "3e-05", "nan",
    ]
    assert statistics.interquartile_mean(np.array([0.0, 10, 12, 1000])) == 11
    assert statistics.bootstrap_interval([1, 2, 3, 4]) is None
    low, high = statistics.bootstrap_interval([1, 2, 3, 4, 5])
    assert 1 <= low < 3 < high <= 5 and (low, high) == statistics.bootstrap_interval([1, 2, 3, 4, 5])
    assert statistics.mean_interval([1.0, 2.0]) is None
    assert statistics.mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2, 2 - 2.4841, 2 + 2.4841), abs=1e-3)


def test_the_papers_curves_are_those_of_its_figures():
    assert curve(2, "binary", "plastic").at(200) == 45.7
    assert curve(5, "images", "plastic").at(1000) == pytest.approx(28.9, abs=0.05)
    assert curve(6, "maze", "plastic").at(100_000) == pytest.approx(25, abs=1)
    assert np.isnan(curve(6, "maze", "plastic").at(2e6))
    small = curve(3, "binary_small", "plastic")
    assert small.first_below(0.01) == 1640 and curve(3, "binary_small", "lstm").first_below(0.01) is None
    with pytest.raises(KeyError):
        curve(6, "maze", "homogeneous")


def test_made_up_courses_are_of_every_arm():
    assert {task: set(arms) for task, arms in COURSES.items()} == {
        task: set(registry.load(task).arms) for task in registry.names()
    }
    assert (ROOT / "params.yaml").exists()
