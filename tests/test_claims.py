"""Claims: every verdict that follows from what a rule has found, and how claims are written down."""

import json
from dataclasses import replace

import numpy as np
import pytest

from diffplast.core import params, registry
from diffplast.page import readme, tables
from diffplast.report import claims, findings, numbers, statistics
from diffplast.report.claims import AGREES, NOT_DECIDED, NOT_REPRODUCED, REPRODUCED, Claim, Measured
from diffplast.report.conditions import Conditions, differences
from diffplast.report.paper import SOURCES, curve
from diffplast.report.results import ResultsError

from .made_up import CHANGED, CLAIMS, COURSES, ROOT, SAME_NETWORKS, Tree, falling, judged, set_curves, tree_maker


@pytest.fixture
def make_tree(tmp_path, monkeypatch):
    """See `tree_maker`."""
    monkeypatch.chdir(tmp_path)
    return tree_maker(tmp_path)


# What holds for all claims


HELPED = Conditions(helps=("a larger network",))


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
        (True, HELPED, AGREES, ""),
        (False, HELPED, NOT_REPRODUCED, "because"),
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


def test_equal_values_of_two_arms_are_counted_in_the_rank_sum_test():
    # Of the 70 ways to deal out three values of 0.9 and five of 1, five leave the first arm without a 0.9.
    assert statistics.rank_sum([1, 1, 1, 1], [1, 0.9, 0.9, 0.9], higher_is_better=True).p == pytest.approx(10 / 70)
    assert statistics.rank_sum([1, 1], [1, 1], higher_is_better=True).p == 1
    many = statistics.rank_sum([1.0] * 15, [0.9] * 14 + [1.0], higher_is_better=True)
    assert 0 < many.p < 1e-5


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
    tree = make_tree("binary", episodes=400, batch=8, lr="{nonplastic: 3e-4, others: 1e-3}")
    found = tree.read("binary")
    paper = Conditions(
        experiment={"bits": 900, "times.shown": frozenset({3, 6})},
        settings={"batch": 1, "lr": 1e-3, "clip": None, "decay": None}, episodes=2000, flat_counts=False, data=None,
        program=("times.shown",),
    )
    assert differences(found, ("plastic", "nonplastic"), paper) == [
        "bits 1,000 (paper: 900)", "each pattern shown for 10 steps (program: 3 or 6)", "batch 8 (paper: 1)",
        "400 of 2,000 training episodes", "non-plastic: rate 3e-4 (paper: 1e-3)",
    ]
    own = Conditions(settings={"batch": 8, "lr": {"plastic": 1e-3, "nonplastic": 3e-4}}, episodes=400)
    assert differences(found, ("plastic", "nonplastic"), own) == []


def test_longer_training_is_named_too_where_the_claim_does_not_count_episodes(make_tree):
    found = make_tree("binary", episodes=4000).read("binary")
    paper = Conditions(episodes=2000)
    assert differences(found, ("plastic",), paper) == ["4,000 training episodes (paper: 2,000)"]
    assert differences(found, ("plastic",), replace(paper, flat_counts=False)) == []


@pytest.mark.parametrize(
    "task, change",
    [
        ("maze", {"goal_reward": 1000.0}), ("maze", {"bump_reward": 0.0}), ("maze", {"discount": 0.5}),
        ("maze", {"eta": 0.9}), ("binary", {"eta": 0.9}), ("binary", {"times": {"test": 60}}),
    ],
)  # fmt: skip
def test_another_environment_is_a_difference(make_tree, task, change):
    found = make_tree(task).read(task)
    (claim, *_) = findings.load(task).claims
    before = differences(found, claim.arms, claim.conditions)
    block = found.block.model_dump(by_alias=True)
    for key, value in change.items():
        block["experiment"][key] = block["experiment"][key] | value if isinstance(value, dict) else value
    changed = replace(found, block=type(found.block).model_validate(block))
    (new,) = set(differences(changed, claim.arms, claim.conditions)) - set(before)
    assert next(iter(change)).replace("times", "test_of_60_steps") in new.replace(" ", "_")


def test_a_decay_that_never_comes_is_no_difference(make_tree):
    paper = Conditions(settings={"decay": None})
    tree = make_tree("images", decay="{factor: 0.5, every: 1200}", episodes=1200)
    assert differences(tree.read("images"), ("plastic",), paper) == []
    tree.set("images.laptop.episodes=1201")
    (words,) = differences(tree.read("images"), ("plastic",), paper)
    assert words == "decay of the rate: factor 0.5 every 1,200 (paper: none)"
    other = Conditions(settings={"decay": {"factor": 0.5, "every": 9}})
    (words,) = differences(tree.read("images"), ("plastic",), other)
    assert words.endswith("(paper: factor 0.5 every 9)")
    same = Conditions(settings={"decay": {"factor": 0.5, "every": 1200}})
    tree.set("images.laptop.episodes=600")
    assert differences(tree.read("images"), ("plastic",), same) == [], "the paper's own decay, in a shorter training"


def test_other_data_are_a_difference(make_tree):
    tree = make_tree("images")
    paper = Conditions(data="cifar10")
    assert differences(tree.read("images"), ("plastic",), paper) == ["data made-up images (paper: CIFAR-10)"]
    assert differences(tree.read("images"), ("plastic",), Conditions(counts={"train_classes": 1623})) == [
        "1,523 characters for training (paper: 1,623)"
    ]
    tree.set_data("images", name="folder", description="JPEG copies of CIFAR-10")
    assert differences(tree.read("images"), ("plastic",), paper) == ["data JPEG copies of CIFAR-10 (paper: CIFAR-10)"]
    tree.set_data("images", name="cifar10")
    assert differences(tree.read("images"), ("plastic",), paper) == []


@pytest.mark.parametrize("scale", params.SCALES)
def test_conditions_are_of_parameters_that_exist(tmp_path, monkeypatch, scale):
    monkeypatch.chdir(tmp_path)
    tree = Tree(tmp_path, scale, (0,), registry.names())
    found = {task: tree.read(task) for task in registry.names()}
    for (task, _), claim in CLAIMS.items():
        assert isinstance(differences(found[task], claim.arms, claim.conditions), list)


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
    assert "plastic 2.5 (1.8–3.2; 4 seeds)" in tables.as_markdown(after, {"maze": "Maze"}, "laptop")


def test_markdown_has_a_table_of_what_counts_and_one_of_what_does_not(make_tree):
    tree = make_tree("binary")
    found = claims.judge_all({"binary": tree.read("binary")})
    text = tables.as_markdown(found, {"binary": "a | b"}, "laptop")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3 + 4 and {line.replace("\\|", "").count("|") for line in rows} == {5}
    assert text.startswith("# Claims at scale laptop\n\n1 claim of the paper: ")
    assert text.index("Controls") < text.index("control: the paper shows no")
    assert text.count("\n### ") == len(found) and "- Every seed: " in text[text.index("## In detail") :]


def test_the_readmes_table_has_one_number_a_cell_of_both_scales(make_tree):
    tree = make_tree("maze", 4)
    found = claims.judge_all({"maze": tree.read("maze")})
    entries = json.loads(tables.as_json(found, {"maze": "Maze"}))
    counted = [entry for entry in entries if entry["counted"]]
    lines = readme.table({"laptop": counted, "study": counted[:1]}).splitlines()
    heads = "[laptop: half an hour](reports/laptop/claims.md) | [study: the paper's lengths](reports/study/claims.md)"
    assert lines[0] == f"| | claim | paper | {heads} |"
    assert len(lines) == 2 + len(counted) < 2 + len(entries)
    assert lines[2].startswith("| **Maze** | plastic beats non-plastic | 148 vs 56.9 in training | ")
    assert lines[3].startswith("|  | non-plastic gets stuck | ") and lines[3].endswith(" | not run yet |")
    assert "reproduced (0 laptop, 0 study)" in readme.legend({"laptop": counted, "study": counted[:1]})
    assert readme.beside({"laptop": entries}) == ""
    failing = [entry | {"verdict": "not reproduced"} for entry in entries if not entry["counted"]][:1]
    said = f"\nNot counted, and not reproduced: Maze, {failing[0]['name']}: "
    assert readme.beside({"laptop": counted + failing}).startswith(said)
    lonely = [entry | {"arms": {"plastic": {"values": [1.0]}}} for entry in counted]
    assert "(1 seed) |" in readme.table({"laptop": lonely}) and "(1 seed)" not in readme.table({"laptop": counted})


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
    assert [numbers.setting(value) for value in (3e-5, 7e-4, 0.0, 0.01, 2 / 3, 0.9995, 4.0, 1234.0, -0.1)] == [
        "3e-5", "7e-4", "0", "0.01", "0.6667", "0.9995", "4", "1,234", "-0.1",
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
        task: set(registry.load(task).arms) - SAME_NETWORKS for task in registry.names()
    }
    assert (ROOT / "params.yaml").exists()
