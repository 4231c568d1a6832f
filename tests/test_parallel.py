"""Stages side by side: the same files as `dvc repro`, and what becomes of failures. On a small pipeline of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import psutil
import pytest
from dvc.repo import Repo
from tqdm import tqdm

from diffplast.core.progress import Progress
from diffplast.parallel import resources
from diffplast.parallel.processes import Processes
from diffplast.parallel.schedule import Ended, Host, run_stages
from diffplast.parallel.view import PROGRESS
from tests.conftest import ROOT

PARAMS = """\
runs: [a, b, c]
number: 1
"""

# Two files, as the project has them, and every kind of output.
PIPELINE = """\
stages:
  prepare:
    cmd: python -m stages.prepare
    deps: [stages/prepare.py]
    outs: [data]
  report:
    cmd: cat results/*/metrics.json > report.txt
    deps: [results]
    outs:
      - report.txt: {cache: false}
"""
RUNS = """\
vars: [../../params.yaml]
stages:
  train:
    wdir: ../..
    matrix: &runs
      run: ${runs}
    cmd: python -m stages.train ${item.run}
    params: [number]
    deps: [stages/train.py, data]
    outs: ["runs/${item.run}"]
  evaluate:
    wdir: ../..
    matrix: *runs
    cmd: python -m stages.evaluate ${item.run}
    deps: [stages/evaluate.py, "runs/${item.run}"]
    metrics:
      - results/${item.run}/metrics.json: {cache: false}
    outs:
      - results/${item.run}/run.json: {cache: false}
"""
SCRIPTS = {
    "prepare": """\
from pathlib import Path
Path("data").mkdir()
Path("data", "numbers").write_text("1 2 3")
""",
    "train": """\
import json, os, sys
from pathlib import Path
from diffplast.core.progress import Progress
folder = Path("runs", sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
with Progress("train " + sys.argv[1], 2) as progress:
    progress.update(1)
number = next(line for line in Path("params.yaml").read_text().splitlines() if line.startswith("number"))
ours = sorted(name for name in sys.modules if name.startswith(("diffplast", "stages")))  # a checkpoint is bound to them
(folder / "weights").write_text(json.dumps([number, sys.argv[1:], os.getcwd() == sys.path[0], __name__, ours]))
""",
    "evaluate": """\
import sys
from pathlib import Path
folder = Path("results", sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
(folder / "metrics.json").write_text('{"error": %d}' % len(Path("runs", sys.argv[1], "weights").read_text()))
(folder / "run.json").write_text('{"seconds": %d}' % ord(sys.argv[1][0]))
""",
}


class Project:
    """A folder with a pipeline, under git and DVC. Every start of a script is noted in the file `starts`."""

    def __init__(self, folder: Path):
        self.folder = folder
        for path, content in {
            "params.yaml": PARAMS,
            "dvc.yaml": PIPELINE,
            "stages/runs/dvc.yaml": RUNS,
            ".gitignore": "/runs/\n/data/\n/starts\n__pycache__\n",
            ".dvcignore": "__pycache__\n",
            **{f"stages/{name}.py": script for name, script in SCRIPTS.items()},
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        for name in SCRIPTS:
            self.prepend(name, "import sys; print(*sys.argv[1:], file=open('starts', 'a'))")
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        Repo.init(str(folder)).close()

    def prepend(self, script: str, *lines: str) -> None:
        """Put lines before a script of `stages`."""
        path = self.folder / "stages" / f"{script}.py"
        path.write_text("\n".join([*lines, path.read_text()]))

    def start(self, *command: str) -> subprocess.Popen:
        """A command in the folder, started, with its output in a pipe."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            command, cwd=self.folder, env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *command: str, status: int = 0) -> str:
        """Output of a command that ends with this status."""
        process = self.start(*command)
        output, _ = process.communicate()
        assert process.returncode == status, output[-4000:]
        return output

    def parallel(self, *arguments: str, status: int = 0) -> str:
        """Output of the command that is tested."""
        return self.run(*COMMAND, *arguments, status=status)

    def started(self) -> list[str]:
        """Arguments of the scripts that were started since the last call, in order."""
        path = self.folder / "starts"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if line]

    def files(self) -> dict[str, bytes]:
        """All that DVC and the stages wrote, DVC's cache and the locks included, by path."""
        skipped = (".git/", ".dvc/tmp/", "starts")
        paths = [path for path in self.folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
        named = {str(path.relative_to(self.folder)): path for path in paths}
        return {name: path.read_bytes() for name, path in named.items() if not name.startswith(skipped)}

    def wait_for(self, path: str, process: subprocess.Popen) -> None:
        """Return as soon as a file is there. Fails where the process ends before, or after minutes."""
        deadline = time.monotonic() + 200
        while not (self.folder / path).exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)


COMMAND = ("python", "-m", "diffplast.parallel")
WAIT = """\
import signal, time
from pathlib import Path
def stop(number, frame):
    Path("saved-" + sys.argv[1]).write_text("")
    sys.exit(130)
def wait():
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    Path("waits-" + sys.argv[1]).write_text("")
    while not Path("go").exists():
        time.sleep(0.02)
"""


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A project that `dvc repro` has made."""
    project = Project(tmp_path_factory.mktemp("alone"))
    project.run("dvc", "repro")
    return project


def test_the_files_are_those_of_dvc(project, alone):
    project.parallel("--workers", "3")
    assert project.files() == alone.files()
    assert "up to date" in project.run("dvc", "repro")
    assert len(project.started()) == 6
    project.parallel()
    assert project.started() == []


@pytest.mark.slow
def test_new_runs_come_after_those_that_were_there_in_every_lock(tmp_path):
    projects = [Project(tmp_path / name) for name in ("one", "other")]
    for project, command in zip(projects, (("dvc", "repro"), COMMAND), strict=True):
        project.run(*command, "stages/runs/dvc.yaml:evaluate@b")
        (project.folder / "params.yaml").write_text(PARAMS.replace("a, b, c", "d, c, b, a"))
        project.run(*command)
    assert projects[0].files() == projects[1].files()


@pytest.mark.slow
def test_only_what_changed_runs_and_what_was_there_comes_from_the_run_cache(project):
    project.parallel()
    project.started()
    (project.folder / "params.yaml").write_text(PARAMS.replace("1", "2"))
    project.parallel("stages/runs/dvc.yaml:evaluate@b")
    assert project.started() == ["b", "b"]
    (project.folder / "params.yaml").write_text(PARAMS)
    assert "run cache" in project.parallel()
    assert project.started() == ["b"], "an evaluation, which is in git and not in the run cache"
    assert "up to date" in project.run("dvc", "repro")


@pytest.mark.slow
def test_stages_run_at_the_same_time(project):
    project.prepend("train", "import sys", WAIT, "wait()")
    process = project.start(*COMMAND, "--workers", "3")
    for run in "abc":
        project.wait_for(f"waits-{run}", process)
    sockets = [c for p in psutil.Process(process.pid).children(recursive=True) for c in p.net_connections("inet")]
    assert sockets == [] and psutil.Process(process.pid).net_connections("inet") == []
    (project.folder / "go").touch()
    assert process.wait() == 0, process.communicate()[0]


@pytest.mark.slow
def test_the_longest_run_goes_first(project):
    project.parallel()
    project.started()
    (project.folder / "params.yaml").write_text(PARAMS.replace("1", "2"))
    project.parallel("--workers", "1")
    assert [run for run in dict.fromkeys(project.started())] == ["c", "b", "a"]  # by what their run.json says


@pytest.mark.slow
def test_of_runs_that_memory_slows_half_of_the_workers_have_one(project):
    runs = project.folder / "stages/runs/dvc.yaml"
    runs.write_text(RUNS.replace("matrix: &runs", "meta: {memory_bound: [slow]}\n    matrix: &runs", 1))
    names = ["x-slow-1", "x-slow-2", "x-quick-1"]
    (project.folder / "params.yaml").write_text(PARAMS.replace("a, b, c", ", ".join(names)))
    project.prepend("train", "import sys", WAIT, "wait()")
    process = project.start(*COMMAND, "--workers", "2")
    project.wait_for("waits-x-quick-1", process)
    assert not (project.folder / "waits-x-slow-2").exists(), "the second of those named starts before it"
    (project.folder / "go").touch()
    assert process.wait() == 0, process.communicate()[0]


@pytest.mark.slow
def test_a_stage_alone_has_all_cores(project):
    project.prepend("train", "import torch; print('threads', torch.get_num_threads())")
    assert f"threads {resources.usable_cores()}\n" in project.parallel("stages/runs/dvc.yaml:train@a")
    (project.folder / "params.yaml").write_text(PARAMS.replace("a, b, c", "a, d, e, f, g, h, i, j, k, l"))
    if resources.usable_cores() <= 8:
        assert "threads 1\n" in project.parallel("stages/runs/dvc.yaml")


def test_a_failing_run_leaves_the_others_going(project):
    project.prepend("train", "import sys", "if sys.argv[1] == 'b': print('for no reason'); sys.exit(3)")
    said = project.parallel(status=1)
    assert "for no reason" in said and "stages/runs/dvc.yaml:train@b failed: exit status 3" in said
    assert sorted(project.started()) == ["a", "a", "c", "c"]
    project.run("dvc", "repro", "stages/runs/dvc.yaml:evaluate@a")
    assert project.started() == []
    assert not (project.folder / "report.txt").exists()


def test_a_stage_whose_process_is_killed_is_tried_again(project, alone):
    train = (project.folder / "stages" / "train.py").read_text()
    dies = "import os, pathlib, sys\nif sys.argv[1] == 'b' and not pathlib.Path('died').exists():\n"
    (project.folder / "stages" / "train.py").write_text(
        dies + "    pathlib.Path('died').touch()\n    os.kill(os.getpid(), 9)\n" + train
    )
    assert "killed by SIGKILL, so it is tried again" in project.parallel()
    assert "up to date" in project.run("dvc", "repro")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_has_stages_save_their_state_and_goes_on(project, number):
    project.prepend("train", "import sys", WAIT, "if sys.argv[1] != 'a': wait()")
    process = project.start(*COMMAND, "--workers", "2")
    for run in "bc":
        project.wait_for(f"waits-{run}", process)
    process.send_signal(number)
    said, _ = process.communicate()
    assert process.returncode == 130 and "the same command resumes" in said
    assert (project.folder / "saved-b").exists() and (project.folder / "saved-c").exists()
    (project.folder / "go").touch()
    project.started()
    project.parallel()
    assert sorted(run for run in project.started() if run != "a") == ["b", "b", "c", "c"]
    assert "up to date" in project.run("dvc", "repro")


@pytest.mark.slow
def test_nothing_is_left_of_a_killed_command(project):
    project.prepend("train", "import sys", WAIT, "wait()")
    process = project.start(*COMMAND, "--workers", "1")
    project.wait_for("waits-a", process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert (project.folder / "saved-a").exists()
    process.communicate()
    (project.folder / "go").touch()
    project.parallel()
    assert "up to date" in project.run("dvc", "repro")


@pytest.mark.slow
def test_results_of_files_that_are_edited_meanwhile_are_not_recorded(project):
    project.prepend("train", "import sys", WAIT, "if sys.argv[1] == 'a': wait()")
    process = project.start(*COMMAND)
    project.wait_for("waits-a", process)
    (project.folder / "params.yaml").write_text(PARAMS.replace("1", "2"))
    (project.folder / "go").touch()
    said, _ = process.communicate()
    assert process.returncode == 1 and "params.yaml changed while it ran" in said
    assert "train@a" in project.run("dvc", "status")


@pytest.mark.slow
def test_another_command_of_dvc_cannot_write_what_a_stage_writes(project):
    project.prepend("train", "import sys", WAIT, "wait()")
    process = project.start(*COMMAND, "--workers", "1")
    project.wait_for("waits-a", process)
    assert "is busy" in project.run("dvc", "repro", "stages/runs/dvc.yaml:train@a", status=255)
    assert "results/b/metrics.json" in project.run("dvc", "metrics", "show")
    (project.folder / "go").touch()
    assert process.wait() == 0


def test_a_wrong_target_is_an_error_in_a_sentence(project):
    said = project.parallel("nothing@a", status=1)
    assert "nothing@a" in said and "Traceback" not in said


def test_a_scheduler_that_does_not_answer_is_an_error_in_a_sentence(project):
    said = project.parallel("--scheduler", "nowhere://127.0.0.1:9", "train@a", status=1)
    assert "--scheduler nowhere://127.0.0.1:9: " in said and "Traceback" not in said


def test_a_stage_that_has_just_ended_is_not_in_the_way_of_a_stop(tmp_path):
    events = SimpleQueue()
    stage = SimpleNamespace(cmd="python -m this", wdir=str(tmp_path), meta=None)
    host = Processes(SimpleNamespace(stages={"a": stage}, begin=lambda stage: None), events, workers=1)
    host.start("a", 1)
    while not isinstance(event := events.get(timeout=60), Ended):
        pass
    assert event == Ended("a")  # and nobody has heard of it yet
    host.stop()
    host.kill()


class Steps(Host):
    """A host whose stages end as soon as they start; `finish` does what it is told to."""

    tries = 1

    def __init__(self, stages, finish, ends=1):
        pipeline = SimpleNamespace(
            stages=dict.fromkeys(stages), needs={stage: set() for stage in stages}, is_up_to_date=lambda stage: False,
            last_seconds=lambda stage: None, restore=lambda stage: False,
        )
        super().__init__(pipeline, SimpleQueue())
        self.finish, self.ends, self.stopped = finish, ends, False

    def run(self):
        return run_stages(self.pipeline, lambda stage: self, self.events)

    def has_room(self, stage):
        return True

    def start(self, stage, ready):
        for _ in range(self.ends):
            self.events.put(Ended(stage))

    def finish(self, stage):
        """See above."""

    def cancel(self, stage):
        """See `Host`."""

    def stop(self):
        self.stopped = True

    def kill(self):
        """See `Host`."""


def test_a_stage_may_end_twice():
    done = []
    assert Steps(["a", "b"], done.append, ends=2).run() == {} and sorted(done) == ["a", "b"]


def test_where_a_result_cannot_be_kept_the_other_stages_are_stopped():
    def full(stage):
        raise OSError(28, "No space left on device")

    host = Steps(["a", "b"], full)
    with pytest.raises(OSError, match="No space left"):
        host.run()
    assert host.stopped


def test_lines_of_progress_are_known_as_such(capsys, monkeypatch):
    monkeypatch.setattr(Progress, "seconds_between_lines", 0)
    with Progress("maze laptop plastic seed 0", 12000, 400) as progress:
        progress.update(800, loss=0.5)
    assert PROGRESS.search(capsys.readouterr().err)
    assert PROGRESS.search(tqdm.format_meter(5, 20, 1.0, prefix="patches"))
    assert not PROGRESS.search("maze laptop plastic seed 0: stopped at episode 1,200; the state is saved")


def test_limits_of_a_container_count(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    assert resources.usable_cores() == len(psutil.Process().cpu_affinity())
    free = resources.available_memory()
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert resources.usable_cores() == 1 and resources.available_memory() == 2000
    (tmp_path / "memory.stat").write_text("anon 100\nactive_file 7\ninactive_file 500\n")
    assert resources.available_memory() == 2500
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.usable_cores() == len(psutil.Process().cpu_affinity()) and resources.available_memory() > free / 2
