"""Claims: every verdict that each claim can come to."""

import json

import numpy as np
import pandas as pd
import pytest

from diffplast.core import params
from diffplast.report import claims, numbers, published, statistics
from diffplast.report.claims import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED

from .made_up import ROOT, Tree


@pytest.fixture
def make_tree(tmp_path, monkeypatch):
    """A function that makes a tree of the results of one task in an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def make(task, seeds=2, **settings):
        changes = tuple(f"{task}.laptop.{key}={value}" for key, value in settings.items())
        return Tree(tmp_path, "laptop", range(seeds), (task,), changes)

    return make


def finding(tree, task, part):
    """The finding of the claim of `task` whose text has `part`."""
    found = [entry for entry in claims.judge_all({task: tree.read(task)}) if part in entry.claim]
    assert len(found) == 1
    return found[0].finding


def curve(tree, task, arm, *curves):
    """Set the training curves of the seeds of an arm."""
    for run, points in zip(tree.runs(task, arm), curves, strict=True):
        tree.set_curve(run, points)


@pytest.mark.parametrize(
    "settings, curves, verdict",
    [
        ({"episodes": 400, "lr": 1e-3}, ({100: 0.2, 200: 0.009, 400: 0.02}, {400: 0.005}), REPRODUCED),
        ({"episodes": 800, "lr": 1e-3}, ({400: 0.005}, {400: 0.2, 410: 0.005, 800: 0.004}), NOT_REPRODUCED),
        ({"episodes": 400, "lr": 1e-3}, ({400: 0.005}, {400: 0.011}), NOT_REPRODUCED),
        ({"episodes": 300, "lr": 1e-3}, ({300: 0.005}, {300: 0.02}), NOT_DECIDED),
        ({"episodes": 400, "lr": 3e-4}, ({400: 0.02}, {400: 0.02}), NOT_DECIDED),
        ({"episodes": 400, "lr": 0.1}, ({400: 0.02}, {400: 0.02}), NOT_DECIDED),
        ({"episodes": 400, "lr": 1e-3, "batch": 64}, ({400: 0.02}, {400: 0.02}), NOT_DECIDED),
    ],
    ids=[
        "in time", "too late", "one seed never", "trained too little", "slower than the claim's",
        "faster than the claim's", "in batches",
    ],
)
def test_binary_solved(make_tree, settings, curves, verdict):
    tree = make_tree("binary", **settings)
    curve(tree, "binary", "plastic", *curves)
    assert finding(tree, "binary", "hundred episodes").verdict == verdict


@pytest.mark.parametrize(
    "plastic, other, verdict",
    [((0.01, 0.02), (0.24, 0.25), REPRODUCED), ((0.01, 0.02), (0.24, 0.15), NOT_REPRODUCED),
     ((0.01, 0.2), (0.24, 0.25), NOT_DECIDED)],
    ids=["near chance", "one is not", "plastic has not learned"],
)
def test_binary_chance(make_tree, plastic, other, verdict):
    tree = make_tree("binary")
    tree.set_values("binary", "plastic", *plastic)
    tree.set_values("binary", "nonplastic", *other)
    assert finding(tree, "binary", "near chance").verdict == verdict


def test_binary_chance_is_open_where_the_nonplastic_network_was_trained_less(make_tree):
    tree = make_tree("binary", episodes="{plastic: 400, homogeneous: 400, nonplastic: 200}")
    tree.set_values("binary", "plastic", 0.01, 0.02)
    tree.set_values("binary", "nonplastic", 0.24, 0.25)
    found = finding(tree, "binary", "near chance")
    assert (found.verdict, found.why) == (NOT_DECIDED, "trained shorter than the plastic")


SMALL = {
    "batch": 1, "lr": "{plastic: 3e-4, nonplastic: 3e-5, lstm: 3e-5}", "stop_below": 0.01, "curve_every": 100
}


@pytest.mark.parametrize(
    "episodes, curves, verdict, words",
    [
        (20000, ({1000: 0.2, 2000: 0.008}, {2500: 0.009}), REPRODUCED, "after episode 2,250 (2,000–2,500; 2 seeds)"),
        (20000, ({2000: 0.008}, {9000: 0.009}), NOT_REPRODUCED, "after episode 5,500 (2,000–9,000; 2 seeds)"),
        (20000, ({2000: 0.008}, {20000: 0.1}), NOT_REPRODUCED, "in 1 of 2 seeds"),
        (3000, ({3000: 0.1}, {3000: 0.1}), NOT_DECIDED, "not reached within 3,000 episodes (2 seeds)"),
        # The thinned curve's last stretch is above the threshold, but the run was ended by it.
        (20000, ({2000: 0.012}, {1500: 0.013}), REPRODUCED, "after episode 1,750 (1,500–2,000; 2 seeds)"),
    ],
    ids=["in time", "too late", "one never", "trained too little", "hidden by thinning"],
)
def test_small_plastic(make_tree, episodes, curves, verdict, words):
    tree = make_tree("binary_small", episodes=episodes, **SMALL)
    curve(tree, "binary_small", "plastic", *curves)
    found = finding(tree, "binary_small", "plastic network solves")
    assert found.verdict == verdict
    assert words in found.ours
    unseen = numbers.spread("wrong_bits", tree.read("binary_small").values("plastic"))
    assert found.ours.endswith(f"; {unseen} on unseen episodes")


def test_small_plastic_is_open_where_its_episodes_do_not_compare(make_tree):
    tree = make_tree("binary_small", episodes=20000, **SMALL | {"batch": 64})
    curve(tree, "binary_small", "plastic", {20000: 0.2}, {20000: 0.2})
    found = finding(tree, "binary_small", "plastic network solves")
    assert found.verdict == NOT_DECIDED and "batches of 64 with rate 0.0003" in found.why


BATCHES = "trained in batches of 16 with rate 3e-05, where the paper has 1 and 3e-05"


@pytest.mark.parametrize(
    "episodes, batch, last, verdict, why",
    [
        (1000000, 1, 0.2, REPRODUCED, ""),
        (5000, 1, 0.2, NOT_DECIDED, "trained for 5,000 of 1,000,000 episodes"),
        (5000, 1, 0.009, NOT_REPRODUCED, "a seed solves it"),
        (1000000, 16, 0.2, NOT_DECIDED, BATCHES),
        (5000, 16, 0.2, NOT_DECIDED, f"trained for 5,000 of 1,000,000 episodes; {BATCHES}"),
        (5000, 16, 0.009, NOT_DECIDED, f"a seed solves it; {BATCHES}"),
    ],
    ids=[
        "never", "trained too little", "solved", "never, in batches", "trained too little, in batches",
        "solved, in batches",
    ],
)
def test_small_nonplastic(make_tree, episodes, batch, last, verdict, why):
    tree = make_tree("binary_small", episodes=episodes, **SMALL | {"batch": batch})
    curve(tree, "binary_small", "nonplastic", {episodes: 0.2}, {episodes: last})
    found = finding(tree, "binary_small", "RNN")
    assert (found.verdict, found.why) == (verdict, why)


@pytest.mark.parametrize(
    "episodes, batch, plastic, lstm, verdict, words",
    [
        (1000000, 1, (2000, 0.001), (500000, 0.001), REPRODUCED, "250 times"),
        (1000000, 1, (2000, 0.001), (20000, 0.001), NOT_REPRODUCED, "10 times"),
        (1000000, 1, (2000, 0.001), (1000000, 0.2), NOT_DECIDED, "more than 500 times"),
        (1000000, 1, (1000, 0.001), (1000000, 0.2), NOT_REPRODUCED, "more than 1,000 times"),
        (20000, 1, (2000, 0.001), (20000, 0.2), NOT_DECIDED, "more than 10 times"),
        (20000, 1, (20000, 0.2), (20000, 0.2), NOT_DECIDED, "has not solved it"),
        (1000000, 16, (2000, 0.001), (500000, 0.001), NOT_DECIDED, "250 times"),
        (1000000, 16, (2000, 0.001), (20000, 0.001), NOT_DECIDED, "10 times"),
        (1000000, 16, (1000, 0.001), (1000000, 0.2), NOT_DECIDED, "more than 1,000 times"),
        (20000, 16, (2000, 0.001), (20000, 0.2), NOT_DECIDED, "more than 10 times"),
    ],
    ids=[
        "as the paper", "smaller", "bound within", "bound beyond", "bound below", "none", "as the paper, in batches",
        "smaller, in batches", "bound beyond, in batches", "bound below, in batches",
    ],
)
def test_small_ratio(make_tree, episodes, batch, plastic, lstm, verdict, words):
    lstm_batch = f"{{plastic: 1, nonplastic: 1, lstm: {batch}}}"
    tree = make_tree("binary_small", episodes=episodes, **SMALL | {"batch": lstm_batch})
    curve(tree, "binary_small", "plastic", *[dict([plastic])] * 2)
    curve(tree, "binary_small", "lstm", *[dict([lstm])] * 2)
    found = finding(tree, "binary_small", "LSTM")
    assert (found.verdict, words in found.ours) == (verdict, True)
    assert (f"LSTM {BATCHES}" in found.why) == (batch == 16)
    assert not (batch == 16 and "bound" in found.why)


def test_small_ratio_is_bounded_by_the_seeds_that_got_there(make_tree):
    tree = make_tree("binary_small", episodes=1000000, **SMALL)
    curve(tree, "binary_small", "plastic", *[{1100: 0.001}] * 2)
    curve(tree, "binary_small", "lstm", {20000: 0.001}, {1000000: 0.2})
    found = finding(tree, "binary_small", "LSTM")
    assert found.verdict == NOT_DECIDED
    assert found.ours.startswith("more than 464 times; ")
    assert found.ours.endswith(": LSTM after episode 20,000 (1 seed), in 1 of 2 seeds, plastic after 1,100")


@pytest.mark.parametrize(
    "episodes, data, restored, verdict",
    [(4000, "photographs", True, REPRODUCED), (4000, "cifar10", False, NOT_DECIDED),
     (100000, "photographs", False, NOT_DECIDED), (100000, "cifar10", False, NOT_REPRODUCED)],
)
def test_images_restored(make_tree, episodes, data, restored, verdict):
    tree = make_tree("images", episodes=episodes)
    tree.set_data("images", name=data)
    if not restored:
        run = tree.runs("images", "plastic")[1]
        shown = tree.read("images").finished("plastic")[1].examples()
        np.savez(run.results / "examples.npz", **shown | {"restored": shown["cue"]})
    found = finding(tree, "images", "never been trained on")
    assert found.verdict == verdict
    assert f"an unseen image, on {data}; on 6 of them a seed, " in found.ours


def test_images_are_not_restored_by_what_the_nonplastic_network_guesses_too(make_tree):
    tree = make_tree("images", episodes=100000)
    tree.set_data("images", name="cifar10")
    for arm in ("plastic", "nonplastic"):
        run = tree.runs("images", arm)[1]
        shown = dict(np.load(run.results / "examples.npz"))
        np.savez(run.results / "examples.npz", **shown | {"restored": 0.4 * shown["cue"] + 0.6 * shown["target"]})
    assert finding(tree, "images", "never been trained on").verdict == NOT_REPRODUCED


@pytest.mark.parametrize(
    "episodes, data, plastic, other, verdict",
    [(4000, "photographs", (20, 22), (60, 50), REPRODUCED), (4000, "cifar10", (20, 40), (60, 50), NOT_DECIDED),
     (100000, "photographs", (20, 26), (60, 50), NOT_DECIDED), (100000, "cifar10", (20, 26), (60, 50), NOT_REPRODUCED)],
)
def test_images_nonplastic(make_tree, episodes, data, plastic, other, verdict):
    tree = make_tree("images", episodes=episodes)
    tree.set_data("images", name=data)
    tree.set_values("images", "plastic", *plastic)
    tree.set_values("images", "nonplastic", *other)
    found = finding(tree, "images", "fails")
    assert (found.verdict, found.ours.endswith(f"of the error, on {data}")) == (verdict, True)


@pytest.mark.parametrize("error, verdict", [(0.2, REPRODUCED), (0.5, NOT_DECIDED), (float("nan"), NOT_DECIDED)])
def test_images_nonplastic_is_open_within_the_error_of_the_test_images(make_tree, error, verdict):
    tree = make_tree("images", episodes=100000)
    tree.set_data("images", name="cifar10")
    tree.set_values("images", "plastic", 20, 24)
    tree.set_values("images", "nonplastic", 60, 50)
    for run in tree.runs("images"):
        tree.change(run, squared_error_sem=error)
    found = finding(tree, "images", "fails")
    assert (found.verdict, "at most 48.0 ± " in found.ours) == (verdict, True)
    assert found.why == ("" if verdict == REPRODUCED else f"nearer to 50{numbers.NBSP}% than the test images can tell")


@pytest.mark.parametrize(
    "task, part, episodes, seeds, ahead, verdict, why",
    [
        ("images", "Independent", 4000, 2, True, NOT_DECIDED, "plastic is ahead"),
        ("images", "Independent", 4000, 4, True, REPRODUCED, ""),
        ("images", "Independent", 100000, 4, False, NOT_DECIDED, "ahead; other data than the paper's: made-up images"),
        ("maze", "non-plastic ones", 50000, 2, False, NOT_DECIDED, "non-plastic is ahead"),
        ("maze", "non-plastic ones", 50000, 4, True, REPRODUCED, ""),
        ("maze", "non-plastic ones", 50000, 4, False, NOT_DECIDED, "significantly ahead; training shorter"),
        ("maze", "non-plastic ones", 1000000, 4, False, NOT_REPRODUCED, "significantly ahead"),
        ("maze", "non-plastic ones", 50000, 4, None, NOT_DECIDED, "no significant difference; training shorter"),
        ("maze", "non-plastic ones", 1000000, 4, None, NOT_REPRODUCED, "no significant difference"),
        ("maze", "Independent", 50000, 4, True, REPRODUCED, ""),
        ("maze", "Homogeneous", 50000, 4, True, REPRODUCED, ""),
    ],
)
def test_rank_sum_claims(make_tree, task, part, episodes, seeds, ahead, verdict, why):
    tree = make_tree(task, seeds, episodes=episodes)
    base = np.arange(seeds) * 2.0 + 100
    sign = -1 if task == "images" else 1
    lead = {True: 50, False: -50, None: 1}[ahead]
    tree.set_values(task, "plastic", *(base + sign * lead))
    tree.set_values(task, "homogeneous", *(base + sign * lead / 2))
    tree.set_values(task, "nonplastic", *base)
    found = finding(tree, task, part)
    assert (found.verdict, why in found.why) == (verdict, True)
    assert found.p == (1 / 3 if seeds == 2 else 2 / 70) or ahead is None


def test_one_seed_reproduces_nothing_and_leads_nobody(make_tree):
    tree = make_tree("images", 1)
    tree.set_values("images", "plastic", 20)
    tree.set_values("images", "nonplastic", 60)
    fails = finding(tree, "images", "fails")
    assert (fails.verdict, fails.why) == (NOT_DECIDED, "it holds, but in one seed only")
    assert finding(tree, "images", "Independent").why == "too few seeds for the test"


@pytest.mark.parametrize(
    "data, episodes, values, verdict",
    [("glyphs", 480000, (0.99, 0.99), NOT_DECIDED), ("omniglot", 480000, (0.97, 0.98), REPRODUCED),
     ("omniglot", 480000, (0.9, 0.9), NOT_DECIDED), ("omniglot", 5000000, (0.9, 0.9), NOT_REPRODUCED)],
)
def test_omniglot_accuracy(make_tree, data, episodes, values, verdict):
    tree = make_tree("omniglot", episodes=episodes, batch=240)
    tree.set_values("omniglot", "plastic", *values)
    tree.set_data("omniglot", name=data)
    found = finding(tree, "omniglot", "one drawing")
    assert found.verdict == verdict
    curves = [pd.read_csv(run.results / "curve.csv") for run in tree.runs("omniglot", "plastic")]
    seen = np.median([curve[curve["metric"] == "accuracy"]["value"].iloc[-1] for curve in curves])
    assert f" on {data}, each ± " in found.ours
    assert f"{numbers.show('accuracy', seen)} on the characters of training" in found.ours


@pytest.mark.parametrize(
    "plastic, other, verdict",
    [((0.9, 0.95), (0.19, 0.21), REPRODUCED), ((0.9, 0.95), (0.19, 0.25), NOT_REPRODUCED),
     ((0.9, 0.3), (0.19, 0.21), NOT_DECIDED)],
)
def test_omniglot_chance(make_tree, plastic, other, verdict):
    tree = make_tree("omniglot")
    tree.set_values("omniglot", "plastic", *plastic)
    tree.set_values("omniglot", "nonplastic", *other)
    assert finding(tree, "omniglot", "α = 0").verdict == verdict


def test_a_failed_run_leaves_the_claim_open_and_is_named(make_tree):
    tree = make_tree("binary")
    tree.fail(tree.runs("binary", "plastic")[1])
    found = finding(tree, "binary", "hundred episodes")
    assert found.verdict == NOT_DECIDED
    assert "1 failed run" in found.ours
    assert found.why == "plastic, seed 1: after episode 300 the loss (nan) is not finite"
    tree.fail(tree.runs("binary", "plastic")[0])
    assert finding(tree, "binary", "hundred episodes").ours == "no finished run of plastic"


def test_an_arm_that_was_not_asked_for_leaves_the_claim_open(make_tree):
    tree = make_tree("maze")
    tree.set("maze.arms=[plastic, nonplastic]")
    found = finding(tree, "maze", "Independent")
    assert (found.verdict, found.why) == (NOT_DECIDED, "params.yaml does not list homogeneous α")


def test_claims_follow_the_files(make_tree):
    tree = make_tree("maze", 4)
    before = claims.judge_all({"maze": tree.read("maze")})
    tree.set_values("maze", "plastic", 1, 2, 3, 4)
    after = claims.judge_all({"maze": tree.read("maze")})
    assert before[0].finding.verdict == REPRODUCED != after[0].finding.verdict
    assert json.loads(claims.as_json(after))[0]["arms"]["plastic"]["values"] == [1, 2, 3, 4]
    assert "plastic 2.5 (1.8–3.2; 4 seeds)" in claims.as_markdown(after, {"maze": "Maze"})


def test_every_claim_is_about_a_task_and_arms_that_exist():
    from diffplast.core import registry

    for name, entries in claims.CLAIMS.items():
        assert all(set(entry.arms) <= set(registry.load(name).arms) for entry in entries)
    assert set(claims.CLAIMS) <= set(params.read(ROOT / "params.yaml"))


def test_markdown_is_one_table(make_tree):
    tree = make_tree("binary")
    lines = claims.as_markdown(claims.judge_all({"binary": tree.read("binary")}), {"binary": "a | b"}).splitlines()
    assert len(lines) == 4
    assert {line.replace("\\|", "").count("|") for line in lines} == {6}


def test_summaries():
    assert numbers.spread("wrong_bits", [0.0123]) == "1.2\N{NO-BREAK SPACE}% (1 seed)"
    assert numbers.spread("reward", [100, 200]) == "150 (100–200; 2 seeds)"
    assert numbers.spread("reward", [1, 2, 3, 4, 100]) == "3 (2–4; 5 seeds)"
    assert numbers.spread("reward", []) == "no finished run"
    assert [numbers.number(value) for value in (0.01234, 1.26, 12.34, 999.4, 999.7, 123456.7, 3e-5, np.nan)] == [
        "0.012", "1.3", "12.3", "999", "1,000", "123,457", "3e-05", "nan",
    ]
    assert statistics.interquartile_mean(np.array([0.0, 10, 12, 1000])) == 11
    assert statistics.bootstrap_interval([1, 2, 3, 4]) is None
    low, high = statistics.bootstrap_interval([1, 2, 3, 4, 5])
    assert 1 <= low < 3 < high <= 5 and (low, high) == statistics.bootstrap_interval([1, 2, 3, 4, 5])
    test = statistics.rank_sum([1, 2, 3], [4, 5, 6], higher_is_better=False)
    assert (test.wins, test.p, test.smallest, test.can_decide) == (1, pytest.approx(0.1), 0.1, False)
    assert published.OMNIGLOT["DP (the paper)"] == (0.983, 0.008)
