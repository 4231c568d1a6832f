"""Fixtures shared by the tests."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diffplast.core import params, registry
from diffplast.core.task import Task

ROOT = Path(__file__).parents[1]

# Numbers that make each experiment small enough for a test; the structure stays the paper's.
SMALL = {
    "binary": {"bits": 20},
    "binary_small": {"bits": 10, "extra_neurons": 10, "lstm_hidden": 12},
    "images": {"side": 4},
    "omniglot": {},
    "maze": {"neurons": 12, "steps": 20},
}
# Settings of their own: a batch has as many characters, and `small_data` has few.
SETTINGS = {"omniglot": {"batch": 10}}


def small_data(kind: str | None) -> dict[str, np.ndarray] | None:
    """A data set in the prepared form, drawn at random, of the size that `SMALL` needs."""
    rng = np.random.default_rng(5)
    if kind == "images":
        return {split: rng.uniform(0.1, 1, (n, 16)).astype(np.float32) for split, n in (("train", 30), ("test", 10))}
    if kind == "omniglot":
        drawings = rng.integers(0, 256, (22, 20, 31, 31)).astype(np.uint8)
        classes = {"train": np.arange(10), "test": np.arange(10, 16), "final": np.arange(16, 22)}
        return {"drawings": drawings, **{f"{split}_classes": numbers for split, numbers in classes.items()}}
    return None


def small_task(name: str, arm: str, **settings) -> Task:
    """A task at `smoke` settings, with its experiment made small and `settings` changed."""
    torch.set_num_threads(1)  # the small networks of tests only lose by sharing their work
    block = getattr(params.load(name, ROOT / "params.yaml"), name)
    kind = registry.load(name)
    experiment = block.experiment.model_copy(update=SMALL.get(name, {}))
    settings = block.smoke.model_copy(update=SETTINGS.get(name, {}) | settings)
    return kind(experiment, settings, arm, torch.device("cpu"), small_data(kind.dataset))


def pytest_generate_tests(metafunc):
    """Run every test that asks for `task_arm` for every arm of every task: found, not listed."""
    if "task_arm" in metafunc.fixturenames:
        pairs = [(name, arm) for name in registry.names() for arm in registry.load(name).arms]
        metafunc.parametrize("task_arm", pairs, ids=["-".join(pair) for pair in pairs])


@pytest.fixture
def make_task():
    """The function `small_task`."""
    return small_task


@pytest.fixture(scope="session")
def browser():
    """A Chromium of the system, or else the one that `playwright install chromium` fetches."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        try:
            opened = driver.chromium.launch(executable_path=found)
        except playwright.Error:
            pytest.skip("no Chromium here; get one with: playwright install --with-deps chromium")
        yield opened
        opened.close()
