"""Replays: what was committed comes out again, and every fault in the code or in what is committed is found."""

import csv
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from diffplast.core import dataset, params, registry, runs, training
from diffplast.core.errors import UserError
from diffplast.core.runs import Run
from diffplast.page.replays import replays
from diffplast.verify import __main__ as verify
from diffplast.verify import plan, table
from diffplast.verify.committed import Committed, Row, find, read
from diffplast.verify.compare import ALL, compare_curves, compare_metrics, digits
from diffplast.verify.data import DataSets
from diffplast.verify.replay import NOT_REPLAYED, OTHER, SAME, Job, Outcome, replay
from stages import evaluate, train
from tests.conftest import ROOT, SMALL, small_data
from tests.made_up import Tree
from tests.test_pipeline import Clone

# Experiments as small as the formats of data allow.
EXPERIMENTS = SMALL | {"images": {"times": {"patterns": 2, "rounds": 1, "shown": 3, "gap": 1, "test": 2}}}
NOISE = np.random.default_rng(1).integers(0, 256, (40, 1024)).astype(np.uint8)
DATA = {
    "images": {
        "train": NOISE[:30], "test": NOISE[30:], "train_source": np.zeros(30, int), "test_source": np.zeros(10, int),
        "sources": np.array(["noise"]),
    },
    "omniglot": small_data("omniglot") | {"names": np.array([str(number) for number in range(22)])},
}  # fmt: skip


def make_run(folder: Path, task: str, arm: str = "plastic") -> Run:
    """Train and evaluate a small run in a folder, which must be the current one, as the stages do."""
    content = params.read(ROOT / "params.yaml")
    content[task]["experiment"] |= EXPERIMENTS[task]
    content[task]["smoke"] |= {"episodes": 24, "batch": 4, "curve_every": 8}
    content[task]["test"]["smoke"] = {"episodes": 8, "batch": 4}
    content["device"] = "cpu"
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(content, file)
    kind = registry.load(task).dataset
    if kind is not None:
        data = folder / runs.data_folder(kind, "smoke")
        data.mkdir(parents=True, exist_ok=True)
        dataset.write(data / "data.npz", kind, DATA[kind])
        source = {"kind": kind, "name": "noise", "options": {}, "sha256_pixels": dataset.digest(kind, DATA[kind])}
        runs.write_json(data / "source.json", source)
    run = Run(task, "smoke", arm, 0)
    for stage in (train, evaluate):
        stage.main([task, "smoke", run.name])
    return run


@pytest.fixture(scope="module", params=registry.names())
def made(request, tmp_path_factory):
    """A folder with one committed run of each task, and the run."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, make_run(folder, request.param)


@pytest.fixture
def committed(made, monkeypatch) -> Committed:
    """The committed run of each task, in its folder, where data are prepared."""
    folder, run = made
    monkeypatch.chdir(folder)
    return read(run)


def job_of(committed: Committed, windows: int = 99) -> Job:
    kind = registry.load(committed.run.task).dataset
    data = None if kind is None else runs.data_folder(kind, "smoke") / "data.npz"
    return Job(committed, windows, data, network=True)


def test_what_is_committed_comes_out_again(committed):
    outcome = replay(job_of(committed))
    assert outcome.agrees, outcome.differs
    assert (outcome.verdict, outcome.untrained, outcome.windows, outcome.episode) == (SAME, SAME, 3, 24)
    assert outcome.network == (SAME if committed.keeps_network else None)
    assert committed.keeps_network == (committed.run.task in ("binary", "binary_small", "omniglot", "maze"))


def test_one_window_is_replayed_alone(committed):
    outcome = replay(job_of(committed, windows=1))
    assert (outcome.verdict, outcome.windows, outcome.episode) == (SAME, 1, 8)


def test_a_run_that_failed_fails_again_where_it_did(tmp_path, monkeypatch):
    def poisoned(state, task, size, draw=training.State.draw):
        episodes = draw(state, task, size)
        return replace(episodes, target=episodes.target * np.nan) if state.episode >= 12 else episodes

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training.State, "draw", poisoned)
    run = make_run(tmp_path, "binary")
    assert read(run).metrics["failure"].startswith("after episode 12 the loss (nan)")
    outcome = replay(job_of(read(run)))
    assert (outcome.verdict, outcome.differs) == (SAME, [])


def test_a_rate_that_is_one_millionth_larger_is_found(committed, monkeypatch):
    def faulty(optimizer, settings, episode, set_rate=training.set_rate):
        set_rate(optimizer, settings.model_copy(update={"lr": settings.lr * (1 + 1e-6)}), episode)

    monkeypatch.setattr(training, "set_rate", faulty)
    outcome = replay(job_of(committed))
    assert outcome.verdict == OTHER
    assert re.match(r"curve: window 1 \(episode 8\): .*, now ", outcome.differs[0])


def test_a_changed_order_of_random_draws_is_found(committed, monkeypatch):
    def faulty(state, task, size, draw=training.State.draw):
        state.generator.random()
        return draw(state, task, size)

    monkeypatch.setattr(training.State, "draw", faulty)
    outcome = replay(job_of(committed))
    assert outcome.verdict == OTHER and outcome.differs[0].startswith("curve: window 1 (episode 8): ")


def changed_loss(curve: tuple[Row, ...], window: int, factor: float) -> tuple[Row, ...]:
    """A curve with the loss of one window, counted from 1, multiplied."""
    return tuple((*row[:2], row[2] * factor) if row[:2] == (8 * window, "loss") else row for row in curve)


@pytest.mark.parametrize("window", [1, 3])
def test_a_changed_digit_of_a_committed_curve_is_found(committed, window):
    changed = changed_loss(committed.curve, window, factor=1 + 2**-52)
    outcome = replay(job_of(replace(committed, curve=changed)))
    assert outcome.verdict == OTHER
    ((before, now),) = [(a[2], b[2]) for a, b in zip(changed, committed.curve, strict=True) if a != b]
    assert outcome.differs == [f"curve: window {window} (episode {8 * window}): loss {before!r}, now {now!r}"]


def test_a_fault_of_the_evaluation_is_found(committed, monkeypatch):
    monkeypatch.setattr(evaluate, "_values", lambda *arguments, found=evaluate._values: _shifted(found(*arguments)))
    outcome = replay(job_of(committed))
    assert outcome.verdict == SAME and not outcome.agrees
    assert outcome.untrained == "other numbers" and outcome.differs[0].startswith("evaluation: ")
    assert outcome.network in (None, "other numbers")


def test_a_metric_that_is_gone_is_found():
    one = {"reward": 1.0, "reward_sem": 0.1, "train_episodes": 5, "failure": None}
    assert compare_metrics(one, {"reward": 1.0, "reward_sem": 0.1}, exact=True).digits == ALL
    gone = compare_metrics(one, {"reward": 1.0}, exact=True)
    assert gone.digits == 0 and gone.where == "reward_sem 0.1, now none"


def _shifted(values: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [value + 1e-9 for value in each] for name, each in values.items()}


def test_a_changed_network_is_found(committed):
    if not committed.keeps_network:
        pytest.skip("not kept")
    before = committed.network.read_bytes()
    with np.load(committed.network) as file:
        arrays = {name: np.random.default_rng(0).normal(0, 1, file[name].shape).astype("f4") for name in file.files}
    try:
        np.savez_compressed(committed.network, **arrays)
        outcome = replay(job_of(committed))
    finally:
        committed.network.write_bytes(before)
    assert outcome.verdict == SAME and outcome.network == "other numbers" and not outcome.agrees


def test_a_run_of_another_time_is_said_and_no_error(committed):
    record = {name: value for name, value in committed.record.items() if name != "untrained"}
    outcome = replay(job_of(replace(committed, record=record)))
    assert outcome.verdict == NOT_REPLAYED and outcome.agrees and "made before" in outcome.why


def test_parameters_that_are_no_longer_accepted_are_a_difference(committed):
    settings = committed.record["settings"] | {"momentum": 0.9}
    outcome = replay(job_of(replace(committed, record=committed.record | {"settings": settings})))
    assert not outcome.agrees and "momentum" in outcome.differs[0]


def test_other_data_are_said_and_no_other_curve(committed):
    if committed.data is None:
        pytest.skip("needs no data")
    outcome = replay(job_of(replace(committed, record=committed.record | {"data_sha256": "0"})))
    assert outcome.verdict == NOT_REPLAYED and outcome.agrees and "other data" in outcome.why
    elsewhere = replace(committed, data=committed.data | {"sha256_pixels": "0"})
    with pytest.raises(UserError, match=r"its data, noise, are not in data/ \(`dvc repro prepare_\w+@smoke` prepares"):
        DataSets(Path("unused"), None, [elsewhere]).file(elsewhere)


def test_on_another_kind_of_device_digits_are_compared(committed):
    made_on_gpu = replace(committed, record=committed.record | {"device": "NVIDIA H100"})
    near, far = (
        replace(made_on_gpu, curve=changed_loss(committed.curve, window=1, factor=factor)) for factor in (1 + 1e-6, 1.1)
    )
    assert replay(job_of(near)).verdict in ("equal to 5 digits", "equal to 6 digits")
    assert replay(job_of(far)).verdict == OTHER


@pytest.fixture
def maze(tmp_path, monkeypatch):
    """A folder with one committed run of the maze, the current one; the run."""
    monkeypatch.chdir(tmp_path)
    return make_run(tmp_path, "maze")


def test_the_command_says_what_it_replayed_and_changes_nothing(maze, tmp_path, capsys):
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert verify.main(["--scale", "smoke", "--all"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\| smoke/maze/plastic-0 +\| \S+ +\| 3 of 3 +\| 24 of 24 +\|( the same bytes +\|){3}", said)
    assert "smoke: 1 of 1 runs replayed, of 1 of 1 arms, 100 % of their episodes; 1 of 1 trained" in said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files

    curve = maze.results / "curve.csv"
    lines = curve.read_text().splitlines()
    digit = lines[1][-3]
    lines[1] = lines[1][:-3] + str((int(digit) + 1) % 10) + lines[1][-2:]
    curve.write_text("\n".join(lines) + "\n")
    assert verify.main(["--run", "smoke/maze/plastic-0", "--minutes", "0", "--write", "found.md"]) == 1
    said = capsys.readouterr().out
    assert "- smoke/maze/plastic-0: curve: window 1 (episode 8): " in said
    assert Path("found.md").read_text() == said


def test_what_is_not_there_is_said(maze, capsys):
    with pytest.raises(SystemExit):
        verify.main(["--run", "smoke/maze/plastic-0", "--run", "smoke/maze/plastic-7"])
    assert "no committed run of smoke/maze/plastic-7" in capsys.readouterr().err
    (maze.results / "curve.csv").write_text("episode,metric\n")
    (maze.results / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="git checkout"):
        find(["smoke"])


def made_up(task: str, arm: str, seed: int, windows: int = 10, seconds: float = 10.0) -> Committed:
    """A run of `windows` windows of 10 episodes that took `seconds`, made of nothing."""
    curve = tuple((10 * (place + 1), "loss", 1.0) for place in range(windows))
    record = {"seconds": seconds, "device": "cpu", "commit": "abc"}
    metrics = {"train_episodes": 10 * windows, "failure": None}
    return Committed(Run(task, "laptop", arm, seed), record, metrics, curve, None)


def test_one_seed_of_every_arm_first_then_more_seeds_then_more_windows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no trained network lies
    found = [made_up("maze", arm, seed) for arm in ("plastic", "nonplastic") for seed in range(3)]
    first = plan.first_of_arms(found)
    assert [each.run.name for each in first] == ["plastic-0", "nonplastic-0"]
    done = {each.run: Outcome(each, SAME, windows=1) for each in first}
    each = plan.estimate(found[0], 1, False, 1.0)
    assert plan.choose(found, done, each / 2, 1.0, 1, 99) == []
    few = plan.choose(found, done, 2.5 * each, 1.0, 1, 99)
    assert sorted(job.committed.run.name for job in few) == ["nonplastic-1", "plastic-1"]
    more = plan.choose(found, done, 1000, 1.0, 1, 99)
    assert len(more) == 6 and all(job.windows == 10 for job in more)
    whole = {job.committed.run: Outcome(job.committed, SAME, windows=10) for job in more}
    assert plan.choose(found, whole, 1000, 1.0, 1, 99) == []
    differs = done | {first[0].run: Outcome(first[0], OTHER, windows=1, differs=["curve"])}
    assert first[0].run not in {job.committed.run for job in plan.choose(found, differs, 1000, 1.0, 1, 99)}
    capped = plan.choose(found, done, 1000, 1.0, 1, 1)
    assert sorted(job.committed.run.seed for job in capped) == [1, 1, 2, 2]


def test_a_slow_machine_replays_less(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [made_up("maze", "plastic", 0, windows=100, seconds=1000)]
    fast, slow = (plan.choose(found, {}, 300, speed, 1, 999)[0].windows for speed in (1.0, 4.0))
    assert fast == 16 and slow == 4


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [(1.0, 1.0, ALL), (1.0, 1 + 2**-52, 15), (123.456, 123.457, 5), (1.0, 2.0, 0), (0.0, 1e-9, 0), (math.nan, 1.0, 0)],
)
def test_digits_in_common(first, second, common):
    assert digits(first, second) == common == digits(second, first)


@pytest.mark.parametrize("replayed", [1, 5, 6, 7, 8, 40, 399, 500])
def test_a_thinned_curve_is_compared_as_far_as_its_windows_are_whole(replayed):
    rng = np.random.default_rng(0)
    windows = [(10 * (place + 1), name, float(rng.normal())) for place in range(500) for name in ("loss", "reward")]
    frame = pd.DataFrame(windows, columns=["episode", "metric", "value"])
    thinned = evaluate.thin(frame.assign(task="maze", arm="plastic", seed=0))
    curve = tuple(zip(*(thinned[name] for name in ("episode", "metric", "value")), strict=True))
    run = replace(made_up("maze", "plastic", 0), curve=curve)
    rows = windows[: 2 * replayed]
    comparison = compare_curves(run, rows, ended=replayed == 500)
    assert comparison.where is None and comparison.digits == ALL
    assert comparison.windows == sum(end <= 10 * replayed for end in run.ends)
    if replayed == 500:
        assert comparison.windows == 200
    rows[2 * (replayed - 1)] = (10 * replayed, "loss", rows[2 * (replayed - 1)][2] * (1 + 1e-12))
    found = compare_curves(run, rows, ended=replayed == 500)
    assert (found.where is not None) == (10 * replayed in run.ends)


def test_a_curve_that_ends_elsewhere_is_another_one():
    run = made_up("maze", "plastic", 0, windows=3)
    assert "now none" in compare_curves(run, list(run.curve[:2]), ended=True).where
    assert compare_curves(run, [*run.curve, (40, "loss", 1.0)], ended=True).where.startswith("window 4")
    assert "metrics" in compare_curves(run, [(10, "reward", 1.0)], ended=False).where


def test_the_table_counts_what_was_replayed():
    found = [made_up("maze", "plastic", seed) for seed in range(2)]
    said = table.report(found, {found[0].run: Outcome(found[0], SAME, windows=1, episode=10, untrained=SAME)}, "def")
    assert "laptop: 1 of 2 runs replayed, of 1 of 1 arms, 5 % of their episodes" in said
    assert "- no time left: laptop/maze/plastic-1" in said


def test_curves_are_committed_to_the_last_bit(committed):
    """Text and back gives the number that training had, so that equal texts are equal bits."""
    with (committed.run.folder / "curve.csv").open(newline="") as file:
        whole = {(int(row["episode"]), row["metric"]): row["value"] for row in csv.DictReader(file)}
    assert {key: repr(float(text)) for key, text in whole.items()} == whole
    assert {(episode, metric): repr(value) for episode, metric, value in committed.curve} == whole


def test_kept_networks_execute_nothing(committed):
    with np.load(committed.network, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind == "f" for name in arrays.files)
    assert committed.network.stat().st_size < evaluate.KEPT_BYTES
    network = json.loads((committed.run.results / "run.json").read_text())
    assert network["test"] == {"episodes": 8, "batch": 4}


def test_a_new_evaluation_takes_away_what_an_earlier_replay_says(committed):
    committed.run.replayed.write_text("{}")
    evaluate.main([committed.run.task, "smoke", committed.run.name])
    assert not committed.run.replayed.exists()


def test_the_page_says_by_which_commit_a_run_was_made_and_replayed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = Tree(tmp_path, names=("maze",))
    run = tree.runs("maze")[0]
    replay = {"commit": "0123456789ab", "curve": SAME, "windows": 1, "of_windows": 40, "episodes": 1600}
    runs.write_json(run.replayed, replay)
    first, second, *_ = replays(tree.read("maze"))
    assert first["commit"] == "0123456789ab" and (first["windows"], first["episodes"]) == ("1 of 40", "1,600")
    assert second["commit"] == "not yet" and second["made"] == first["made"]


# `make relock` with real DVC, in a fresh clone of a project whose results are committed: no cache, no data.
TARGETS = ("stages/binary_small/dvc.yaml", "stages/images/dvc.yaml")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which binary_small and a run of images were made at `smoke`, and their results committed."""
    project = Clone(tmp_path_factory.mktemp("project"))
    small = ("binary_small.experiment.extra_neurons=10", "binary_small.experiment.lstm_hidden=60")
    project.set("scale=smoke", "images.runs=[plastic-0]", *small)
    project.repro(*TARGETS)
    for task in set(registry.names()) - {"binary_small", "images"}:  # which have no results, as the page says
        (project.folder / "reports" / "smoke" / "runs" / task).mkdir(parents=True)
        (project.folder / "reports" / "smoke" / "runs" / task / ".gitkeep").touch()
        project.repro("--single-item", f"stages/{task}/dvc.yaml:figures@smoke")
    project.repro("--single-item", "report@smoke")
    project.commit("results")
    return project


@pytest.fixture
def clone(project, tmp_path):
    """A fresh clone of it."""
    project.run("git", "clone", "--quiet", str(project.folder), str(tmp_path / "clone"))
    return Clone(tmp_path / "clone", copied=True)


def edit_loop(clone: Clone, line: str) -> None:
    """Have another line in the place of the backward pass, and commit that."""
    path = clone.folder / "diffplast" / "core" / "training.py"
    text, before = path.read_text(), "step.loss.backward()"
    assert text.count(before) == 1
    path.write_text(text.replace(before, line))
    clone.commit("an edit")


def relock(clone: Clone, succeeds: bool = True) -> str:
    """What the command says that replays all, then takes today's code into the lock files."""
    return clone.run(sys.executable, "-m", "diffplast.verify", "--relock", "--scale", "smoke", succeeds=succeeds)


def waiting(clone: Clone) -> set[str]:
    """Names of the stages that `dvc repro` would run, what is only in a cache not missed; the first of chains."""
    names = clone.repro("--single-item", "--dry", "report@smoke")
    command = ("dvc", "repro", "--allow-missing", "--keep-going", "--dry", *TARGETS)
    said, _ = clone.start(*command).communicate()  # fails at stages that need what a first one would make
    names |= {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage ")}
    assert names or "Data and pipelines are up to date" in said
    return names


@pytest.mark.slow
def test_a_comment_in_the_loop_trains_nothing_once_relocked(clone):
    assert waiting(clone) == set()
    edit_loop(clone, "step.loss.backward()  # here")
    assert "stages/binary_small/dvc.yaml:train@smoke-plastic-0" in waiting(clone)
    assert f"smoke: {1 + len(registry.load('binary_small').arms)} runs were replayed" in relock(clone)
    assert waiting(clone) == set()
    assert not (clone.folder / "runs").exists() and not (clone.folder / "data").exists()
    commit = clone.run("git", "rev-parse", "HEAD").strip()
    for name in ("binary_small", "images"):
        record = json.loads((clone.folder / f"reports/smoke/runs/{name}/plastic-0/replayed.json").read_text())
        assert commit.startswith(record["commit"]) and record["windows"] == 1 and record["curve"] == SAME
        assert record["network"] == (SAME if name == "binary_small" else None)
    assert f"<td>{record['commit']}</td>" in (clone.folder / "reports/smoke/index.html").read_text()
    changed = {line.split()[-1] for line in clone.run("git", "status", "--short", "-uall").splitlines()}
    locks = {name for name in changed if name.endswith(".lock")}
    assert locks == {"dvc.lock", "stages/binary_small/dvc.lock", "stages/images/dvc.lock"}
    assert all(name.startswith("reports/smoke/") for name in changed - locks)


@pytest.mark.slow
def test_a_loss_that_is_one_millionth_larger_is_not_relocked(clone):
    edit_loop(clone, "(step.loss * (1 + 1e-6)).backward()")
    said = relock(clone, succeeds=False)
    assert "No lock file is changed" in said
    for name in ("binary_small", "images"):
        assert re.search(rf"- smoke/{name}/plastic-0: curve: window 1 \(episode \d+\): ", said)
    assert clone.run("git", "status", "--short") == ""


@pytest.mark.slow
def test_changed_parameters_are_not_taken_for_code(clone):
    clone.set("binary_small.smoke.lr.plastic=0.002")
    said = relock(clone)
    assert "binary_small/dvc.yaml:train@smoke-plastic-0: params.yaml says something else" in said
    train = {stage for stage in waiting(clone) if ":train@" in stage}
    assert train == {"stages/binary_small/dvc.yaml:train@smoke-plastic-0"}, "the other arms' rates are what they were"
