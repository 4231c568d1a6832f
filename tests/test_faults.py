"""The real stages under bad conditions: killed, without room to write, with damaged files."""

import multiprocessing
import os
import random
import resource
import runpy
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from diffplast.core import dataset, params, registry, runs
from diffplast.core.checkpoint import load_tensors
from tests.conftest import ROOT, SMALL

# Experiments as small as the formats of data allow, and lengths that leave time to be killed. Who is not killed makes
# FEW updates.
EXPERIMENTS = SMALL | {"images": {"times": {"patterns": 2, "rounds": 1, "shown": 3, "gap": 1, "test": 2}}}
UPDATES = {"images": 80, "omniglot": 150}
FEW = 10
DATA = {
    "images": {
        "train": np.random.default_rng(1).integers(0, 256, (30, 1024)).astype(np.uint8),
        "test": np.random.default_rng(2).integers(0, 256, (10, 1024)).astype(np.uint8),
        "train_source": np.zeros(30, int),
        "test_source": np.zeros(10, int),
        "sources": np.array(["noise"]),
    },
    "omniglot": {
        "drawings": np.random.default_rng(3).integers(0, 256, (22, 20, 31, 31)).astype(np.uint8),
        "names": np.array([str(number) for number in range(22)]),
        "train_classes": np.arange(10),
        "test_classes": np.arange(10, 16),
        "final_classes": np.arange(16, 22),
    },
}

# Every stage starts as a copy of one process that has imported what takes seconds.
context = multiprocessing.get_context("forkserver")
MODULES = [f"diffplast.tasks.{name}.experiment.task" for name in registry.names()]
context.set_forkserver_preload(["pandas", "torch._dynamo", *MODULES])


def _run(folder: Path, stage: str, arguments: tuple[str, ...], largest_file: int | None) -> None:
    os.chdir(folder)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 2)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.argv = [stage, *arguments]
    runpy.run_path(str(ROOT / "stages" / f"{stage}.py"), run_name="__main__")


class Folder:
    """A folder with params.yaml and data in which stages of one run are run."""

    def __init__(self, path: Path, task: str, checkpoint_seconds: float, updates: int = FEW):
        self.path, self.run = path, runs.Run(task, "smoke", "plastic", 0)
        content = params.read(ROOT / "params.yaml")
        content["checkpoint_seconds"] = checkpoint_seconds
        content[task]["experiment"] |= EXPERIMENTS[task]
        content[task]["smoke"] |= {"episodes": 4 * updates, "batch": 4, "curve_every": 20}
        path.mkdir()
        with (path / "params.yaml").open("w") as file:
            YAML().dump(content, file)
        kind = registry.load(task).dataset
        if kind is not None:
            data = path / runs.data_folder(kind, "smoke")
            data.mkdir(parents=True)
            dataset.write(data / "data.npz", kind, DATA[kind])
            runs.write_json(data / "source.json", {})

    def start(self, stage: str, largest_file: int | None = None):
        """The process of a stage, started. largest_file: in bytes; writing more fails as on a full disk."""
        arguments = (self.run.task, self.run.scale, self.run.name)
        process = context.Process(target=_run, args=(self.path, stage, arguments, largest_file))
        process.start()
        return process

    def finish(self, stage: str, largest_file: int | None = None) -> int:
        """Run a stage to its end; its exit status."""
        process = self.start(stage, largest_file)
        process.join()
        return process.exitcode

    def said(self) -> str:
        """What the last stage wrote to standard error, but for how far it is, which a busy machine says more often."""
        lines = (self.path / "said").read_text().splitlines(keepends=True)
        return "".join(line for line in lines if ": episode " not in line)

    def refusal(self) -> str:
        """What the last stage wrote to standard error, which is one line."""
        said = self.said()
        assert said.count("\n") == 1, said
        return said

    def results(self) -> dict[str, bytes]:
        """The files that must not differ between runs, by name. What they cost, and where, may."""
        kept = [
            file
            for folder in (self.run.folder, self.run.results)
            for file in (self.path / folder).iterdir()
            if file.name != "run.json"
        ]
        return {str(file.relative_to(self.path)): file.read_bytes() for file in kept}


def wait_for_saves(process, checkpoint: Path, saves: int) -> None:
    """Return when the checkpoint has been replaced `saves` times, at least, or the process has ended."""
    last = checkpoint.stat().st_ino if checkpoint.exists() else None
    while saves and process.is_alive():
        now = checkpoint.stat().st_ino if checkpoint.exists() else None
        saves, last = saves - (now != last), now
        time.sleep(0.0005)


@pytest.mark.slow
@pytest.mark.parametrize("task", registry.names())
def test_killed_five_times_ends_in_the_same_bytes(task, tmp_path):
    """The uninterrupted run shares the machine with the killed one, as runs of `dvc queue` do, and saves but once."""
    chance = random.Random(task)
    updates = UPDATES.get(task, 300)
    whole, killed = Folder(tmp_path / "whole", task, 1e9, updates), Folder(tmp_path / "killed", task, 1e-6, updates)
    uninterrupted, episodes = whole.start("train"), []
    for _ in range(5):
        process = killed.start("train")
        wait_for_saves(process, killed.path / killed.run.checkpoint, chance.randrange(1, 9))
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        episodes.append(load_tensors(killed.path / killed.run.checkpoint)["state"]["episode"])
    assert 0 < episodes[0] and episodes == sorted(set(episodes)), "every sitting resumes where the last one was"
    assert killed.finish("train") == 0
    uninterrupted.join()
    assert uninterrupted.exitcode == 0
    for folder in (whole, killed):
        assert "damaged" not in folder.said() and "other parameters" not in folder.said()
        assert folder.finish("evaluate") == 0
        assert not (folder.path / folder.run.checkpoint).exists()
    assert whole.results() == killed.results()
    assert len(whole.results()) == 7 + (registry.load(task).dataset is not None)


@pytest.fixture
def folder(tmp_path):
    """A folder for the smallest run there is."""
    return Folder(tmp_path / "run", "binary", 1e9)


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """What the same run leaves where nothing goes wrong."""
    folder = Folder(tmp_path_factory.mktemp("unharmed") / "run", "binary", 1e9)
    assert folder.finish("train") == 0 and folder.finish("evaluate") == 0
    return folder.results()


def flip_a_bit(path: Path) -> None:
    """Damage a file in its middle, with its length and date as they were."""
    date, content = path.stat().st_mtime_ns, bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(date, date))


def test_full_disk_at_the_end_of_training(folder, unharmed):
    assert folder.finish("train", largest_file=4000) == 1
    warning, refusal = folder.said().splitlines()
    assert f"the state could not be saved ({folder.run.checkpoint}: File too large)" in warning
    assert refusal.startswith(f"{folder.run.folder}: File too large; mend this")
    assert not list(folder.path.glob("checkpoints/**/*.p*t*")), "what could not be written leaves nothing behind"
    assert folder.finish("train") == 0 and folder.finish("evaluate") == 0
    assert folder.results() == unharmed


def test_full_disk_in_evaluation(folder, unharmed):
    assert folder.finish("train") == 0
    assert folder.finish("evaluate", largest_file=100) == 1
    assert folder.refusal().startswith(f"{folder.run.results}: File too large; mend this")
    assert folder.finish("evaluate") == 0
    assert folder.results() == unharmed


@pytest.mark.parametrize(("stage", "top"), [("train", "runs"), ("evaluate", "reports")])
def test_folder_that_cannot_be_made_is_named(folder, unharmed, stage, top):
    """A file in the place of the folder, which stops the superuser too."""
    if stage == "evaluate":
        assert folder.finish("train") == 0
    (folder.path / top).touch()
    assert folder.finish(stage) == 1
    assert top in folder.refusal() and "Not a directory; mend this" in folder.said()
    (folder.path / top).unlink()
    assert folder.finish("train") == 0 and folder.finish("evaluate") == 0
    assert folder.results() == unharmed


def test_training_continues_where_no_state_can_be_saved(folder, unharmed):
    (folder.path / "checkpoints").touch()
    assert folder.finish("train") == 0
    assert "the state could not be saved (checkpoints/smoke/binary: Not a directory)" in folder.refusal()
    (folder.path / "checkpoints").unlink()
    assert folder.finish("evaluate") == 0
    assert folder.results() == unharmed


def test_damaged_checkpoint_is_left_out(folder, unharmed):
    assert folder.finish("train") == 0
    flip_a_bit(folder.path / folder.run.checkpoint)
    assert folder.finish("train") == 0
    assert "plastic-0.pt: damaged (bad checksum" in folder.refusal()
    assert folder.finish("evaluate") == 0
    assert folder.results() == unharmed


@pytest.mark.parametrize("name", ["weights.pt", "outcome.json", "curve.csv"])
def test_damaged_results_of_training_are_not_evaluated(folder, name):
    assert folder.finish("train") == 0
    if name == "weights.pt":
        flip_a_bit(folder.path / folder.run.folder / name)
    else:
        (folder.path / folder.run.folder / name).write_bytes(b"")
    assert folder.finish("evaluate") == 1
    assert f"{folder.run.folder}: damaged" in folder.refusal() and "dvc repro" in folder.said()
    assert not (folder.path / folder.run.results).exists()


def test_other_data_start_training_from_the_beginning(tmp_path):
    folder = Folder(tmp_path / "run", "omniglot", 1e9)
    assert folder.finish("train") == 0
    weights = folder.path / folder.run.folder / "weights.pt"
    before = weights.read_bytes()
    other = DATA["omniglot"] | {"drawings": 255 - DATA["omniglot"]["drawings"]}
    dataset.write(folder.path / runs.data_folder("omniglot", "smoke") / "data.npz", "omniglot", other)
    assert folder.finish("train") == 0
    assert "other parameters, data or code" in folder.refusal()
    assert weights.read_bytes() != before
