"""Training: the same seed gives the same bits, cut off or not; what goes wrong is said."""

import contextlib
import os
import resource
import signal

import pytest
import torch

from diffplast.core.checkpoint import Checkpoint, fingerprint
from diffplast.core.task import Decay
from diffplast.core.training import Interrupted, train
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


def interrupt_after(task, updates: int):
    """Make a task ask this process to stop during its update number `updates`."""
    step, count = task.step, 0

    def interrupting(network, episodes):
        nonlocal count
        count += 1
        if count == updates:
            os.kill(os.getpid(), signal.SIGINT)
        return step(network, episodes)

    task.step = interrupting


def test_same_seed_same_bits(task_arm, make_task):
    runs = [train(make_task(*task_arm), 1, no_checkpoint(), 1e9, "test") for _ in range(2)]
    assert same(*runs)


def test_interrupted_training_ends_in_the_same_bits(task_arm, make_task, tmp_path):
    settings = {"episodes": 24, "batch": 4, "curve_every": 8, "decay": Decay(factor=0.5, every=8), "stop_below": None}
    whole = train(make_task(*task_arm, **settings), 1, no_checkpoint(), 1e9, "test")

    task = make_task(*task_arm, **settings)
    interrupt_after(task, 3)
    with pytest.raises(Interrupted, match="episode 12"):
        train(task, 1, Checkpoint(tmp_path / "c.pt", "run"), 1e9, "test")
    resumed = train(make_task(*task_arm, **settings), 1, Checkpoint(tmp_path / "c.pt", "run"), 1e9, "test")
    assert same(whole, resumed)
    assert resumed.episodes == 24


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
