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
from diffplast.core.training import Interrupted, new_network, set_rate
from tests.conftest import ROOT
from tests.helpers import no_checkpoint, trained


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
    runs = [trained(make_task(*task_arm), 1) for _ in range(2)]
    assert same(*runs)


def test_interrupted_training_ends_in_the_same_bits(task_arm, make_task, tmp_path):
    settings = {"episodes": 24, "batch": 4, "curve_every": 8, "decay": Decay(factor=0.5, every=8)}
    whole = trained(make_task(*task_arm, **settings), 1, live=tmp_path / "whole.tsv")

    task, live = make_task(*task_arm, **settings), tmp_path / "live.tsv"
    interrupt_after(task, 3)
    with pytest.raises(Interrupted, match="episode 12"):
        trained(task, 1, Checkpoint(tmp_path / "c.pt", "run"), live)
    with live.open("a") as file:
        file.write("16\t0.5")  # of a window after the saved state, as a power cut leaves it
    resumed = trained(make_task(*task_arm, **settings), 1, Checkpoint(tmp_path / "c.pt", "run"), live)
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
    result = trained(task, 1, live=live)
    assert [list(table["episode"]) for table in seen] == [[], [8], [8, 16]]
    whole = pd.read_csv(live, sep="\t")
    assert list(whole) == ["episode", "loss", "wrong_bits"], "DVC draws the last column"
    rows = whole.melt("episode", var_name="metric")[["episode", "metric", "value"]]
    assert sorted(rows.itertuples(index=False, name=None)) == sorted(result.curve)


def test_a_live_curve_that_cannot_be_written_does_not_end_training(make_task, tmp_path, capsys):
    (tmp_path / "file").touch()
    result = trained(make_task("binary", "plastic"), 1, live=tmp_path / "file" / "live.tsv")
    assert same(result, trained(make_task("binary", "plastic"), 1))
    said = capsys.readouterr().err
    assert said == f"test: the live curve could not be written ({tmp_path / 'file'}: File exists); training continues\n"


def test_the_live_curve_is_whole_again_once_there_is_room(make_task, tmp_path, capsys, small_files):
    settings = {"episodes": 24, "batch": 4, "curve_every": 4}
    task, full = make_task("binary", "plastic", **settings), contextlib.ExitStack()
    at_update(task, 2, lambda: full.enter_context(small_files(70)))
    at_update(task, 5, full.close)
    result = trained(task, 1, live=tmp_path / "live.tsv")
    whole = trained(make_task("binary", "plastic", **settings), 1, live=tmp_path / "whole.tsv")
    assert same(result, whole)
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
        return content.get("data", {}), [error["name"] for error in content.get("errors", [])]

    live = Run("binary", "smoke", "plastic", 0).live
    plots, errors = drawn()
    assert not [name for name in [*plots, *errors] if "live" in name], "no run, and nothing to complain of"

    task = make_task("binary", "plastic", episodes=24, batch=4, curve_every=4)
    interrupt_after(task, 3)
    with pytest.raises(Interrupted):
        trained(task, 0, live=live)
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
    result = trained(task, 1, Checkpoint(path, "this"))
    assert same(result, trained(task, 1))
    assert "other parameters, data or code" in capsys.readouterr().err


def test_a_run_that_is_done_is_not_trained_again(make_task, tmp_path):
    """What ends after training and before its results are safe, a power cut say, costs nothing."""
    checkpoint = Checkpoint(tmp_path / "c.pt", "run")
    result = trained(make_task("binary", "plastic"), 1, checkpoint)
    task = make_task("binary", "plastic")
    task.step = None
    assert same(result, trained(task, 1, checkpoint))


def test_a_state_that_cannot_be_saved_does_not_end_training(make_task, tmp_path, capsys):
    (tmp_path / "file").touch()
    nowhere = Checkpoint(tmp_path / "file" / "c.pt", "run")
    result = trained(make_task("binary", "plastic"), 1, nowhere, save_every=1e-9)
    assert same(result, trained(make_task("binary", "plastic"), 1))
    said = capsys.readouterr().err
    assert f"test: the state could not be saved ({nowhere.path.parent}: File exists); training continues" in said


def test_full_disk_leaves_the_last_state(make_task, tmp_path, small_files):
    checkpoint = Checkpoint(tmp_path / "c.pt", "run")
    checkpoint.save({"episode": 1})
    with small_files(1000), pytest.raises(OSError, match="File too large") as error:
        checkpoint.save({"episode": 2, "weights": torch.zeros(10000)})
    assert error.value.filename == str(checkpoint.path)
    assert checkpoint.load() == {"episode": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize(("saved_at", "way"), [(None, "starts from the beginning"), (4, "resumes from episode 4")])
def test_interrupted_where_no_state_can_be_saved(make_task, tmp_path, small_files, saved_at, way):
    checkpoint = Checkpoint(tmp_path / "c.pt", "run")
    if saved_at is not None:
        task = make_task("binary", "plastic", episodes=24, batch=4)
        interrupt_after(task, saved_at // 4)
        with pytest.raises(Interrupted, match="the state is saved"):
            trained(task, 1, checkpoint)
    task = make_task("binary", "plastic", episodes=24, batch=4)
    interrupt_after(task, 2)
    with small_files(1000), pytest.raises(Interrupted, match=rf"could not be saved \(.*c\.pt: File too .*\), .* {way}"):
        trained(task, 1, checkpoint)


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
    good = trained(make_task("binary", "plastic", episodes=8, batch=4), 0)
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
    failed = trained(task, 0, checkpoint)
    assert failed.failure.startswith("after episode 8 the loss (nan)")
    assert failed.episodes == 8
    assert same(good, failed)
    again = trained(make_task("binary", "plastic", episodes=40, batch=4), 0, checkpoint)
    assert again.failure == failed.failure and same(again, failed), "the failure is kept with the state"


def test_fingerprint_is_bound_to_parameters_and_data(tmp_path):
    data = tmp_path / "data.npz"
    data.write_bytes(b"some")
    first = fingerprint({"lr": 1.0}, [data])
    assert fingerprint({"lr": 1.0}, [data]) == first
    assert fingerprint({"lr": 2.0}, [data]) != first
    data.write_bytes(b"other")
    assert fingerprint({"lr": 1.0}, [data]) != first


def test_rate_decays(make_task):
    """With a rate that falls to nothing after the first update, the second changes nothing to speak of."""
    first = trained(make_task("binary", "plastic", episodes=4, batch=4), 0)
    decayed = make_task("binary", "plastic", episodes=8, batch=4, decay=Decay(factor=1e-12, every=4))
    second = trained(decayed, 0)
    assert torch.allclose(first.network.weight, second.network.weight, atol=1e-9)


def test_signals_are_given_back(make_task):
    before = signal.getsignal(signal.SIGTERM)
    trained(make_task("binary", "plastic"), 0)
    assert signal.getsignal(signal.SIGTERM) is before


def test_rate_is_annealed_to_nothing_at_the_end(make_task):
    settings = make_task("binary", "plastic", episodes=100, batch=10, anneal=0.2, lr=1.0).settings
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1)
    rates = []
    for episode in (0, 80, 90, 95):
        set_rate(optimizer, settings, episode)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1, 1, 0.5, 0.25])


def test_the_average_of_the_parameters_is_the_trained_network(make_task, tmp_path):
    """And it resumes with the rest: after an interruption it is the same to the bit."""
    settings = {"episodes": 12, "batch": 4}
    lengths = [settings | {"episodes": number} for number in (4, 8, 12)]
    plain = [trained(make_task("binary", "plastic", **length), 1).network.weight for length in lengths]
    start = new_network(make_task("binary", "plastic"), 1).weight.detach()
    expected = start
    for weight in plain:
        expected = 0.75 * expected + 0.25 * weight.detach()
    task = make_task("binary", "plastic", average=0.75, **settings)
    whole = trained(task, 1)
    torch.testing.assert_close(whole.network.weight.detach(), expected)
    task = make_task("binary", "plastic", average=0.75, **settings)
    interrupt_after(task, 2)
    with pytest.raises(Interrupted):
        trained(task, 1, Checkpoint(tmp_path / "c.pt", "run"))
    task = make_task("binary", "plastic", average=0.75, **settings)
    assert same(whole, trained(task, 1, Checkpoint(tmp_path / "c.pt", "run")))
