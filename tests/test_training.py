"""Training: the same seed gives the same bits, cut off or not; what goes wrong is said."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
import torch

from diffplast.core.checkpoint import Checkpoint, fingerprint
from diffplast.core.progress import LiveCurve
from diffplast.core.runs import Run
from diffplast.core.task import Decay
from diffplast.core.training import Interrupted, train
from tests.conftest import ROOT
from tests.helpers import no_checkpoint


def same(first, second) -> bool:
    """Whether two trained networks are equal to the bit, with their curves."""
    weights = zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    return first.curve == second.curve and all(torch.equal(a, b) for a, b in weights)


@pytest.fixture
def small_files():
    """A context in which no file may grow beyond some bytes: writing fails as on a full disk."""

    @contextlib.contextmanager
    def limited(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


def at_update(task, number: int, action):
    """Have a task call `action` at the beginning of its update `number`."""
    step, count = task.step, 0

    def acting(network, episodes):
        nonlocal count
        count += 1
        if count == number:
            action()
        return step(network, episodes)

    task.step = acting


def interrupt_after(task, updates: int):
    """Make a task ask this process to stop during its update number `updates`."""
    at_update(task, updates, lambda: os.kill(os.getpid(), signal.SIGINT))


def test_same_seed_same_bits(task_arm, make_task):
    runs = [train(make_task(*task_arm), 1, no_checkpoint(), 1e9, "test") for _ in range(2)]
    assert same(*runs)


def test_interrupted_training_ends_in_the_same_bits(task_arm, make_task, tmp_path):
    settings = {"episodes": 24, "batch": 4, "curve_every": 8, "decay": Decay(factor=0.5, every=8), "stop_below": None}
    whole = train(make_task(*task_arm, **settings), 1, no_checkpoint(), 1e9, "test", tmp_path / "whole.tsv")

    task, live = make_task(*task_arm, **settings), tmp_path / "live.tsv"
    interrupt_after(task, 3)
    with pytest.raises(Interrupted, match="episode 12"):
        train(task, 1, Checkpoint(tmp_path / "c.pt", "run"), 1e9, "test", live)
    with live.open("a") as file:
        file.write("16\t0.5")  # of a window after the saved state, as a power cut leaves it
    resumed = train(make_task(*task_arm, **settings), 1, Checkpoint(tmp_path / "c.pt", "run"), 1e9, "test", live)
    assert same(whole, resumed)
    assert resumed.episodes == 24
    assert live.read_bytes() == (tmp_path / "whole.tsv").read_bytes()


def test_the_live_curve_grows_while_training(make_task, tmp_path):
    """What an earlier run left is gone from the start; at the end it is the curve."""
    task, live, seen = make_task("binary", "plastic", episodes=20, batch=4, curve_every=8), tmp_path / "a" / "b.tsv", []
    live.parent.mkdir()
    live.write_text("of an earlier run\n")
    for update in (1, 3, 5):
        at_update(task, update, lambda: seen.append(pd.read_csv(live, sep="\t")))
    trained = train(task, 1, no_checkpoint(), 1e9, "test", live)
    assert [list(table["episode"]) for table in seen] == [[], [8], [8, 16]]
    whole = pd.read_csv(live, sep="\t")
    assert list(whole) == ["episode", "loss", "wrong_bits"], "DVC draws the last column"
    rows = whole.melt("episode", var_name="metric")[["episode", "metric", "value"]]
    assert sorted(rows.itertuples(index=False, name=None)) == sorted(trained.curve)


def test_a_live_curve_that_cannot_be_written_does_not_end_training(make_task, tmp_path, capsys):
    (tmp_path / "file").touch()
    trained = train(make_task("binary", "plastic"), 1, no_checkpoint(), 1e9, "test", tmp_path / "file" / "live.tsv")
    assert same(trained, train(make_task("binary", "plastic"), 1, no_checkpoint(), 1e9, "test"))
    said = capsys.readouterr().err
    assert said == f"test: the live curve could not be written ({tmp_path / 'file'}: File exists); training goes on\n"


def test_the_live_curve_is_whole_again_once_there_is_room(make_task, tmp_path, capsys, small_files):
    settings = {"episodes": 24, "batch": 4, "curve_every": 4}
    task, full = make_task("binary", "plastic", **settings), contextlib.ExitStack()
    at_update(task, 2, lambda: full.enter_context(small_files(70)))
    at_update(task, 5, full.close)
    trained = train(task, 1, no_checkpoint(), 1e9, "test", tmp_path / "live.tsv")
    whole = train(make_task("binary", "plastic", **settings), 1, no_checkpoint(), 1e9, "test", tmp_path / "whole.tsv")
    assert same(trained, whole)
    assert (tmp_path / "live.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"could not be written ({tmp_path / 'live.tsv'}: File too large)" in said


def test_dvc_draws_the_live_curve_of_a_run_in_progress(make_task, tmp_path, monkeypatch):
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", "live/.gitignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / ".dvc" / "plots", tmp_path / ".dvc" / "plots")
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    monkeypatch.chdir(tmp_path)

    def drawn() -> tuple[dict, list[str]]:
        """Plots that DVC draws, by name, and the names of those that it complains of."""
        command = [sys.executable, "-m", "dvc", "plots", "show", "--json"]
        content = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return content["data"], [error["name"] for error in content.get("errors", [])]

    live = Run("binary", "smoke", "plastic", 0).live
    plots, errors = drawn()
    assert not [name for name in [*plots, *errors] if "live" in name], "no run, and nothing to complain of"

    task = make_task("binary", "plastic", episodes=24, batch=4, curve_every=4)
    interrupt_after(task, 3)
    with pytest.raises(Interrupted):
        train(task, 0, no_checkpoint(), 1e9, "test", live)
    plots, errors = drawn()
    assert str(live) not in errors
    (plot,) = plots[str(live)]
    rows = plot["content"]["data"]["values"]
    assert [row["episode"] for row in rows] == ["4", "8", "12"]
    assert all(float(row["wrong_bits"]) < 1 for row in rows)
    axes = plot["content"]["encoding"]["x"]["title"], plot["content"]["layer"][0]["encoding"]["y"]["title"]
    assert axes == ("training episodes", "wrong_bits")
    assert (tmp_path / LiveCurve.signal).exists(), "the extension is told to draw"


def test_checkpoint_of_another_run_is_left_out_and_said(make_task, tmp_path, capsys):
    task = make_task("binary", "plastic")
    path = tmp_path / "c.pt"
    Checkpoint(path, "other").save({"episode": 1})
    trained = train(task, 1, Checkpoint(path, "this"), 1e9, "test")
    assert same(trained, train(task, 1, no_checkpoint(), 1e9, "test"))
    assert "other parameters, data or code" in capsys.readouterr().err


def test_a_run_that_is_done_is_not_trained_again(make_task, tmp_path):
    """What ends after training and before its results are safe, a power cut say, costs nothing."""
    checkpoint = Checkpoint(tmp_path / "c.pt", "run")
    trained = train(make_task("binary", "plastic"), 1, checkpoint, 1e9, "test")
    task = make_task("binary", "plastic")
    task.step = None
    assert same(trained, train(task, 1, checkpoint, 1e9, "test"))


def test_a_state_that_cannot_be_saved_does_not_end_training(make_task, tmp_path, capsys):
    (tmp_path / "file").touch()
    nowhere = Checkpoint(tmp_path / "file" / "c.pt", "run")
    trained = train(make_task("binary", "plastic"), 1, nowhere, 1e-9, "test")
    assert same(trained, train(make_task("binary", "plastic"), 1, no_checkpoint(), 1e9, "test"))
    said = capsys.readouterr().err
    assert f"test: the state could not be saved ({nowhere.path.parent}: File exists); training goes on" in said


def test_full_disk_leaves_the_last_state(make_task, tmp_path, small_files):
    checkpoint = Checkpoint(tmp_path / "c.pt", "run")
    checkpoint.save({"episode": 1})
    with small_files(1000), pytest.raises(OSError, match="File too large") as error:
        checkpoint.save({"episode": 2, "weights": torch.zeros(10000)})
    assert error.value.filename == str(checkpoint.path)
    assert checkpoint.load() == {"episode": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize(("saved_at", "way"), [(None, "begins anew"), (4, "goes on from episode 4")])
def test_interrupted_where_no_state_can_be_saved(make_task, tmp_path, small_files, saved_at, way):
    checkpoint = Checkpoint(tmp_path / "c.pt", "run")
    if saved_at is not None:
        task = make_task("binary", "plastic", episodes=24, batch=4)
        interrupt_after(task, saved_at // 4)
        with pytest.raises(Interrupted, match="the state is saved"):
            train(task, 1, checkpoint, 1e9, "test")
    task = make_task("binary", "plastic", episodes=24, batch=4)
    interrupt_after(task, 2)
    with small_files(1000), pytest.raises(Interrupted, match=rf"could not be saved \(.*c\.pt: File too .*\), .* {way}"):
        train(task, 1, checkpoint, 1e9, "test")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 not a checkpoint", os.urandom(1000)], ids=["empty", "cut", "noise"]
)
def test_damaged_checkpoint_is_left_out_and_said(make_task, tmp_path, capsys, content):
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    assert Checkpoint(path, "this").load() is None
    assert "damaged" in capsys.readouterr().err


def test_a_flipped_bit_is_found(tmp_path, capsys):
    checkpoint = Checkpoint(tmp_path / "c.pt", "this")
    checkpoint.save({"weights": torch.zeros(1000)})
    content = bytearray(checkpoint.path.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.path.write_bytes(content)
    assert checkpoint.load() is None
    assert "damaged (bad checksum" in capsys.readouterr().err


def test_checkpoint_executes_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"run": "this", "state": Evil()}, tmp_path / "c.pt")
    assert Checkpoint(tmp_path / "c.pt", "this").load() is None
    assert not (tmp_path / "executed").exists()


def test_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_good_network(make_task):
    good = train(make_task("binary", "plastic", episodes=8, batch=4), 0, no_checkpoint(), 1e9, "test")
    task = make_task("binary", "plastic", episodes=40, batch=4)
    step, count = task.step, 0

    def poisoned(network, episodes):
        nonlocal count
        count += 1
        result = step(network, episodes)
        if count == 3:
            result.loss = result.loss * float("nan")
        return result

    task.step = poisoned
    checkpoint = no_checkpoint()
    failed = train(task, 0, checkpoint, 1e9, "test")
    assert failed.failure.startswith("after episode 8 the loss (nan)")
    assert failed.episodes == 8
    assert same(good, failed)
    again = train(make_task("binary", "plastic", episodes=40, batch=4), 0, checkpoint, 1e9, "test")
    assert again.failure == failed.failure and same(again, failed), "the failure is kept with the state"


def test_fingerprint_is_bound_to_parameters_and_data(tmp_path):
    data = tmp_path / "data.npz"
    data.write_bytes(b"some")
    first = fingerprint({"lr": 1.0}, [data])
    assert fingerprint({"lr": 1.0}, [data]) == first
    assert fingerprint({"lr": 2.0}, [data]) != first
    data.write_bytes(b"other")
    assert fingerprint({"lr": 1.0}, [data]) != first


def test_training_stops_once_the_metric_is_low_enough(make_task):
    task = make_task("binary", "plastic", episodes=100, batch=5, curve_every=10, stop_below=0.9)
    assert train(task, 0, no_checkpoint(), 1e9, "test").episodes == 10


def test_rate_decays(make_task):
    """With a rate that falls to nothing after the first update, the second changes nothing to speak of."""
    first = train(make_task("binary", "plastic", episodes=4, batch=4), 0, no_checkpoint(), 1e9, "test")
    decayed = make_task("binary", "plastic", episodes=8, batch=4, decay=Decay(factor=1e-12, every=4))
    second = train(decayed, 0, no_checkpoint(), 1e9, "test")
    assert torch.allclose(first.network.weight, second.network.weight, atol=1e-9)


def test_signals_are_given_back(make_task):
    before = signal.getsignal(signal.SIGTERM)
    train(make_task("binary", "plastic"), 0, no_checkpoint(), 1e9, "test")
    assert signal.getsignal(signal.SIGTERM) is before
