"""Trained parameters are the same bytes with any number of threads, and on a processor with fewer instructions."""

import ast
import hashlib

import numpy as np
import pytest
import torch

from diffplast.core import params, registry, seeds
from diffplast.core.exact import adam, gradient_norm
from tests.conftest import ROOT, small_task
from tests.made_up import COURSES
from tests.other_machines import printed_by

ARMS = [(name, arm) for name in ("binary", "binary_small", "images") for arm in COURSES[name]]
UPDATES = 3


def full_task(name, arm):
    """A task at its full size, with random images where it needs some."""
    kind, block = registry.load(name), getattr(params.load(name, ROOT / "params.yaml"), name)
    images = np.random.default_rng(0).uniform(-1, 1, (20, 1024)).astype(np.float32)
    data = {"train": images, "test": images} if kind.dataset else None
    return kind(block.experiment, block.laptop, arm, torch.device("cpu"), data)


def trained(task, batch, threads):
    """Digest of parameters, losses and norms of the gradient after UPDATES updates."""
    torch.set_num_threads(threads)
    network, generator = task.network(seeds.generator(0, "init")), seeds.generator(0, "training")
    optimizer, found = adam(network.parameters(), 1e-3), hashlib.sha256()
    for _ in range(UPDATES):
        step = task.step(network, task.episodes("train", generator, batch))
        optimizer.zero_grad()
        step.loss.backward()
        for value in (step.loss, gradient_norm(list(network.parameters())), *step.metrics.values()):
            found.update(value.detach().numpy().tobytes())
        optimizer.step()
    for parameter in network.parameters():
        found.update(parameter.detach().numpy().tobytes())
    return found.hexdigest()


def digests(threads):
    """Of every arm, small with two sizes of batch, and at its full size."""
    before = torch.get_num_threads()
    try:
        found = {(name, arm): trained(full_task(name, arm), 1, threads) for name, arm in ARMS}
        for name, arm in ARMS:
            for batch in (1, 5):
                found[name, arm, batch] = trained(small_task(name, arm), batch, threads)
        return found
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def with_one_thread():
    return digests(1)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_bits_do_not_depend_on_threads(with_one_thread, threads):
    assert digests(threads) == with_one_thread


def test_bits_do_not_depend_on_the_processor(with_one_thread):
    found = ast.literal_eval(printed_by("digests(2)", "from tests.test_bits import digests"))
    assert found == with_one_thread


def test_arms_are_told_apart(with_one_thread):
    assert len(set(with_one_thread.values())) == len(with_one_thread)
