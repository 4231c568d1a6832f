"""The pipeline on Dask's workers: what becomes of failures, and that results are those of `dvc repro`."""

import contextlib
import json
import time

import psutil
import pytest
from distributed import Client, LocalCluster, WorkerPlugin, get_worker
from dvc.repo import Repo

from diffplast import cluster
from diffplast.core import params
from diffplast.core.runs import Run
from tests.conftest import ROOT
from tests.test_pipeline import Clone

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

# Long enough to be killed in the middle, with networks small enough for a test; the LSTMs need no kernels, which every
# copy of the project compiles anew.
SMALL = [
    "scale=smoke", "threads=1", "checkpoint_seconds=0.5", "binary_small.arms=[lstm]", "omniglot.arms=[lstm]",
    "binary_small.seeds=[0, 1]", "omniglot.seeds=[0]", "binary_small.experiment.lstm_hidden=50",
    "binary_small.smoke.stop_below=null", "binary_small.smoke.episodes={plastic: 10, nonplastic: 10, lstm: 15000}",
]  # fmt: skip
FIGURE = "reports/smoke/figures/binary_small.png"
METRICS = "reports/smoke/runs/omniglot/lstm-0/metrics.json"  # of a task with a data set


def stage_of(folder, path: str) -> str:
    """Name of the stage that makes a file of a copy of the project, as it is called in its top folder."""
    with contextlib.chdir(folder), Repo() as repo:
        (out,) = repo.find_outs_by_path(str(folder / path))
        return out.stage.addressing


class Stages(WorkerPlugin):
    """In the place of a `cluster.Checkout`: runs stages that only tell where they ran."""

    name = "stages"

    def setup(self, worker):
        self.worker = worker

    def run(self, stage: str) -> None:
        self.worker.log_event("ran", {"stage": stage, "worker": self.worker.address})
        self.worker.log_event(cluster.TOPIC, {"stage": stage, "worker": self.worker.address, "line": "started"})
        if stage.startswith("broken") or (stage == "unlucky" and not get_worker().name):
            time.sleep(0.5)  # until the event is there
            raise RuntimeError(f"{stage} on {self.worker.address}")


@pytest.fixture
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as workers,
        Client(workers) as client,
    ):
        client.register_plugin(Stages())
        yield client


def ran(client) -> list[tuple[str, str]]:
    """(stage, worker) of all that ran, in order."""
    return [(message["stage"], message["worker"]) for _, message in client.get_events("ran")]


def test_a_stage_runs_after_those_that_it_needs(client):
    planned = {"b": {"a"}, "a": set(), "c": {"a", "b"}}
    assert cluster.run_all(client, "stages", planned, retries=0) == {}
    assert [stage for stage, _ in ran(client)] == ["a", "b", "c"]


def test_a_stage_that_keeps_failing_is_named_and_the_others_complete(client):
    planned = {"broken": set(), "needs it": {"broken"}, "a": set(), "b": {"a"}}
    failed = cluster.run_all(client, "stages", planned, retries=2)
    assert list(failed) == ["broken"] and "broken on " in failed["broken"]
    tried = [stage for stage, _ in ran(client)]
    assert sorted(tried) == ["a", "b", "broken", "broken", "broken"]


def test_a_failed_stage_is_tried_again_on_another_worker(client):
    cluster.run_all(client, "stages", {"broken": set()}, retries=1)
    first, second = (worker for _, worker in ran(client))
    assert first != second


def test_nothing_that_needs_a_failed_stage_is_left(monkeypatch):
    monkeypatch.chdir(ROOT)
    repo = Repo(ROOT)
    reports = f"reports/{params.read(ROOT / 'params.yaml')['scale']}"  # whichever the clone is set to
    everything = set(cluster.unaffected(repo, [], set()))
    figures = {stage_of(ROOT, f"{reports}/figures/{task}.png") for task in ("maze", "binary")}
    evaluation = stage_of(ROOT, f"{reports}/runs/maze/plastic-0/metrics.json")
    report = stage_of(ROOT, f"{reports}/index.html")
    lost = everything - set(cluster.unaffected(repo, [], {evaluation}))
    assert lost == {evaluation, report, stage_of(ROOT, f"{reports}/figures/maze.png")} and figures & lost
    assert figures - lost


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A copy in which `dvc repro` has made everything on its own."""
    clone = copy(tmp_path_factory.mktemp("alone"))
    clone.repro(*targets(clone))
    return clone


def copy(folder) -> Clone:
    clone = Clone(folder)
    clone.set(*SMALL)
    return clone


def targets(clone) -> list[str]:
    return [stage_of(clone.folder, path) for path in (FIGURE, METRICS)]


def results(clone) -> dict[str, bytes]:
    """Every file that stages made, by path; but for time and host, which are in files of their own."""
    files = [file for top in ("runs", "reports", "data") for file in (clone.folder / top).rglob("*")]
    return {
        str(file.relative_to(clone.folder)): file.read_bytes()
        for file in files
        if file.is_file() and file.name not in ("run.json", ".gitignore")
    }


def command(*options: str) -> list[str]:
    return ["python", "-m", "diffplast.cluster", *options]


@pytest.mark.slow
def test_two_local_workers_give_what_dvc_gives_alone(alone, tmp_path):
    clone = copy(tmp_path)
    said = clone.run(*command("--workers", "2", *targets(clone)))
    assert said.count(": done") == 6
    assert results(clone) == results(alone)
    assert clone.repro(*targets(clone)) == set()
    assert ": done" not in clone.run(*command(*targets(clone)))
    assert clone.run("git", "status", "--porcelain") == alone.run("git", "status", "--porcelain")


def runs(worker: int, stage: str) -> bool:
    """Whether the worker with this process id has a child that runs a stage."""
    return any(stage in child.cmdline() for child in psutil.Process(worker).children())


@pytest.mark.slow
def test_workers_that_share_only_the_remote_one_of_them_killed(alone, tmp_path):
    for folder in ("clone", "one", "two"):
        (tmp_path / folder).mkdir()
    clone = copy(tmp_path / "clone")
    killed = Run("binary_small", "smoke", "lstm", 1)
    stage = stage_of(clone.folder, str(killed.folder))
    clone.run("dvc", "remote", "add", "--default", "share", tmp_path / "share")
    file = tmp_path / "scheduler.json"
    started = [clone.start("dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file)]
    options = ("--scheduler-file", file, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory")
    started += [clone.start("dask", "worker", *options, tmp_path / name) for name in ("one", "two")]
    try:
        while not file.exists():
            time.sleep(0.1)
        run = clone.start(*command("--scheduler", json.loads(file.read_text())["address"], *targets(clone)))
        checkpoint = clone.folder / killed.checkpoint
        while not checkpoint.exists():
            assert run.poll() is None, run.communicate()[0]
            time.sleep(0.1)
        (at_work,) = [worker for worker in started[1:] if runs(worker.pid, stage)]
        at_work.kill()
        said, _ = run.communicate()
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert run.returncode == 0 and said.count(": done") == 6, said
    assert results(clone) == results(alone)
    assert clone.repro(*targets(clone)) == set()
