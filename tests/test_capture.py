"""Updates recorded on a GPU: those of the plain loop, and a run that is interrupted resumes."""

import os
import signal

import pytest
import torch

from diffplast.core.checkpoint import Checkpoint
from diffplast.core.training import Interrupted
from diffplast.tasks.binary_small.experiment.lstm import cuda_lstm, lstm_by_steps
from tests.helpers import trained
from tests.test_training import same

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

ARMS = ["nonplastic", "lstm"]


def test_the_lstm_of_a_gpu_is_the_one_by_steps():
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = {"inputs": (7, 3, 5), "input_weight": (5, 48), "recurrent_weight": (12, 48), "bias": (48,)}
    given = {name: torch.randn(*shape, device="cuda", generator=generator) for name, shape in shapes.items()}
    cotangent = torch.randn(3, 12, device="cuda", generator=generator)
    found = []
    for function in (cuda_lstm, lstm_by_steps):
        tensors = {name: value.clone().requires_grad_(name != "inputs") for name, value in given.items()}
        output = function(**tensors)
        output.backward(cotangent)
        found.append([output.detach(), *(value.grad for name, value in tensors.items() if name != "inputs")])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.fixture
def on_gpu(make_task):
    def make(arm, captured, **settings):
        task = make_task("binary_small", arm, **settings)
        task.device = torch.device("cuda")
        task.captured = frozenset({arm} if captured else ())
        return task

    return make


@pytest.mark.parametrize("arm", ARMS)
def test_a_recorded_update_is_the_plain_one(on_gpu, arm):
    settings = {"episodes": 20, "batch": 1, "curve_every": 5}
    plain, recorded = (trained(on_gpu(arm, captured, **settings), 1) for captured in (False, True))
    for (episode, name, value), (other_episode, other_name, other) in zip(plain.curve, recorded.curve, strict=True):
        assert (episode, name) == (other_episode, other_name)
        assert other == pytest.approx(value, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("arm", ARMS)
def test_an_interrupted_run_resumes(on_gpu, arm, tmp_path):
    settings = {"episodes": 24, "batch": 1, "curve_every": 8}
    whole = trained(on_gpu(arm, True, **settings), 1)
    task = on_gpu(arm, True, **settings)
    draw, count = task.episodes, 0

    def drawing(*arguments):
        nonlocal count
        count += 1
        if count == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return draw(*arguments)

    task.episodes = drawing
    with pytest.raises(Interrupted):
        trained(task, 1, Checkpoint(tmp_path / "c.pt", "run"))
    assert same(whole, trained(on_gpu(arm, True, **settings), 1, Checkpoint(tmp_path / "c.pt", "run")))
