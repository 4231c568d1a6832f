"""The real pipeline through DVC, at `smoke`, in a clean copy of the project: minutes, so in CI and `make test-all`."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffplast.core import params, registry
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


class Clone:
    """A copy of the project with a git history and a DVC cache of its own. copied: the folder is one already."""

    def __init__(self, folder: Path, copied: bool = False):
        self.folder = folder
        if copied:
            return
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).exists() and not name.startswith("reports/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.run("git", "init", "--quiet")
        self.commit("copy")

    def commit(self, message: str) -> None:
        """Commit all that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=test", "-c", "user.email=test", "commit", "--quiet", "-m", message)

    def start(self, *command: str) -> subprocess.Popen:
        """A command in the copy, started, with its output in a pipe. Nothing but its folder leads it to the copy."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path}
        return subprocess.Popen(
            [str(part) for part in command], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *command: str, succeeds: bool = True) -> str:
        """Output of a command in the copy that succeeds, or fails, as said; else it is shown with what it printed."""
        process = self.start(*command)
        output, _ = process.communicate()
        assert (process.returncode == 0) == succeeds, f"{command}\n{output[-4000:]}"
        return output

    def repro(self, *options: str) -> set[str]:
        """`dvc repro`; names of the stages that ran."""
        output = self.run("dvc", "repro", *options)
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage ")}

    def would_run(self, *targets: str) -> set[str]:
        """Names of the stages that `dvc repro` would run, by the state of the files alone."""
        return self.repro("--dry", *targets)

    def set(self, *assignments: str) -> None:
        """Change params.yaml."""
        params.assign(list(assignments), self.folder / "params.yaml")

    def edit(self, name: str) -> None:
        """Change a source file without changing what it does."""
        with (self.folder / name).open("a") as file:
            file.write("\n# edited\n")


def tasks_of(stages: set[str], kind: str) -> set[str]:
    """Tasks that the stages called `kind` are of."""
    return {stage.split("/")[1] for stage in stages if f"/dvc.yaml:{kind}@" in stage}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A copy in which the whole pipeline has run once at `smoke`."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    clone.set("scale=smoke")
    clone.repro()
    return clone


@pytest.fixture
def clone(reproduced):
    """The reproduced copy; every change of params or sources, but not of dvc.lock, is taken back after the test."""
    yield reproduced
    reproduced.run("git", "checkout", "--quiet", "--", "params.yaml", "diffplast", "stages/*.py")
    reproduced.set("scale=smoke")


def test_everything_is_made(reproduced):
    reports = reproduced.folder / "reports" / "smoke"
    for name in registry.names():
        assert (reports / "figures" / name / f"{name}.png").stat().st_size > 1000
        assert (reports / "figures" / name / f"{name}.svg").stat().st_size > 1000
        for run in params.read(reproduced.folder / "params.yaml")[name]["runs"]:
            assert (reports / "runs" / name / run / "metrics.json").exists()
    assert (reports / "claims.md").exists() and (reports / "claims.json").exists()
    assert (reports / "index.html").exists()


def test_again_does_nothing_and_quickly(clone):
    started = time.monotonic()
    assert clone.repro() == set()
    assert time.monotonic() - started < 15


def test_a_parameter_of_one_task_runs_that_task_only(clone):
    clone.set("maze.smoke.lr=0.002")
    ran = clone.repro()
    assert tasks_of(ran, "train") == {"maze"}
    assert all(stage.startswith("stages/maze/dvc.yaml:") for stage in ran - {"report@smoke"})
    assert len([stage for stage in ran if ":train@" in stage]) == 3

    clone.set("maze.smoke.lr=0.001")
    assert not tasks_of(clone.repro(), "train"), "training is restored from the run cache"


def test_the_file_of_one_task_runs_that_task_alone(clone):
    clone.set("maze.smoke.lr=0.003", "images.smoke.lr=0.003")
    assert tasks_of(clone.would_run(), "train") == {"maze", "images"}
    ran = clone.would_run("stages/maze/dvc.yaml")
    assert tasks_of(ran, "train") == {"maze"} and all(stage.startswith("stages/maze/") for stage in ran)


def test_options_of_data_sets_matter_only_to_what_uses_them(clone):
    clone.set("data.images.folder.test_share=0.2", "data.omniglot.omniglot.test_classes=50")
    assert clone.would_run() == set()
    clone.set("data.images.natural-patches.seed=1")
    assert clone.would_run() == {"prepare_images@smoke", "report@smoke"}
    clone.set("data.images.natural-patches.seed=0", "datasets.omniglot=omniglot")
    assert clone.would_run() == {"prepare_omniglot@smoke", "report@smoke"}


def test_an_edited_figure_trains_nothing(clone):
    clone.edit("diffplast/tasks/maze/findings/figures.py")
    stages = clone.would_run()
    assert stages == {"stages/maze/dvc.yaml:figures@smoke", "report@smoke"}


@pytest.mark.parametrize("file", ["page/templates/report.css", "tasks/maze/page/lab.css", "page/tables.py"])
def test_what_only_the_page_uses_runs_the_report_alone(clone, file):
    clone.edit(f"diffplast/{file}")
    assert clone.would_run() == {"report@smoke"}
    clone.repro()


def test_an_edited_task_leaves_the_others_alone(clone):
    clone.edit("diffplast/tasks/maze/experiment/task.py")
    assert tasks_of(clone.would_run(), "train") == {"maze"}


def test_a_run_that_is_no_longer_finite_is_shown_as_failed_and_the_rest_completes(clone):
    with (clone.folder / "diffplast" / "tasks" / "binary" / "experiment" / "task.py").open("a") as file:
        file.write(
            "\n\nclass Poisoned(Binary):\n"
            "    def step(self, network, episodes):\n"
            "        step = super().step(network, episodes)\n"
            "        step.loss = step.loss * (float('nan') if self.arm == 'homogeneous' else 1)\n"
            "        return step\n\n\nTASK = Poisoned\n"
        )
    output = clone.run("dvc", "repro")
    assert "binary smoke homogeneous seed 0 failed: after episode 0 the loss (nan)" in output
    reports = clone.folder / "reports" / "smoke"
    assert "failed: homogeneous, seed 0: after episode 0 the loss (nan)" in (reports / "index.html").read_text()
    outcomes = {
        folder.name: json.loads((folder / "metrics.json").read_text())["failure"]
        for folder in (reports / "runs" / "binary").iterdir()
    }
    assert outcomes.pop("homogeneous-0") is not None and set(outcomes.values()) == {None}
    assert clone.would_run() == set()


def test_a_new_run_trains_only_that_run(clone):
    clone.set("binary.runs=[plastic-0,plastic-1,homogeneous-0,nonplastic-0]")
    ran = clone.repro()
    assert {stage for stage in ran if ":train@" in stage} == {"stages/binary/dvc.yaml:train@smoke-plastic-1"}


def test_training_again_gives_the_same_bytes(clone):
    for name in registry.names():
        arm = next(iter(registry.load(name).arms))
        stage = f"stages/{name}/dvc.yaml:train@smoke-{arm}-0"
        folder = clone.folder / "runs" / "smoke" / name / f"{arm}-0"
        before = {file: (folder / file).read_bytes() for file in ("curve.csv", "weights.pt")}
        clone.run("dvc", "repro", "--force", "--single-item", stage)
        after = {file: (folder / file).read_bytes() for file in before}
        assert before == after, stage
