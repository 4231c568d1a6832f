"""Stages on the workers of a Dask cluster: what becomes of failures, and that results are those of `dvc repro`."""

import contextlib
import json
import time
from queue import SimpleQueue
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, LocalCluster, WorkerPlugin, get_worker
from dvc.repo import Repo

from diffplast.core.runs import Run
from diffplast.parallel.cluster import TOPIC, Workers
from diffplast.parallel.schedule import run_stages
from tests.test_pipeline import Clone

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

# Long enough to be killed in the middle, with networks small enough for a test.
SMALL = [
    "scale=smoke", "checkpoint_seconds=0.5", "binary_small.runs=[plastic_long-0, lstm-0, lstm-1]",
    "omniglot.runs=[nonplastic-0]", "binary_small.experiment.lstm_hidden=50",
    "binary_small.smoke.episodes={plastic: 10, plastic_long: 10, nonplastic: 10, lstm: 15000}",
]  # fmt: skip
FIGURE = "reports/smoke/figures/binary_small"
METRICS = "reports/smoke/runs/omniglot/nonplastic-0/metrics.json"  # of a task with a data set


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
        self.worker.log_event(TOPIC, {"stage": stage, "worker": self.worker.address, "line": f"{stage} runs"})
        if stage.startswith("broken"):
            time.sleep(0.5)  # until the event is there
            raise RuntimeError(f"{stage} on {get_worker().address}")


class Plan:
    """In the place of a `Pipeline`: stages of which nothing is there yet."""

    def __init__(self, needs: dict[str, set[str]]):
        self.stages = self.needs = needs
        self.pushed, self.pulled = [], []
        self.repo = SimpleNamespace(push=self.pushed.append)
        self.pull = self.pulled.append

    def is_up_to_date(self, name: str) -> bool:
        return False

    def restore(self, name: str) -> bool:
        return False

    def last_seconds(self, name: str) -> None:
        return None


@pytest.fixture
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as workers,
        Client(workers) as client,
    ):
        client.register_plugin(Stages())
        yield client


def run(client, needs: dict[str, set[str]], tries: int) -> tuple[dict[str, str], Plan]:
    """Failed stages, and what was done beside."""
    plan, events = Plan(needs), SimpleQueue()
    workers = Workers(plan, events, client, "stages", tries)
    return run_stages(plan, lambda stage: workers, events), plan


def ran(client) -> list[tuple[str, str]]:
    """(stage, worker) of all that ran, in order."""
    return [(message["stage"], message["worker"]) for _, message in client.get_events("ran")]


def test_a_stage_runs_after_those_that_it_needs_and_its_results_come_here(client, capsys):
    failed, plan = run(client, {"b": {"a"}, "a": set(), "c": {"a", "b"}}, tries=1)
    assert failed == {} and [stage for stage, _ in ran(client)] == ["a", "b", "c"]
    assert plan.pulled == ["a", "b", "c"] and plan.pushed == [], "workers have pushed what they made"
    assert "c runs" in capsys.readouterr().err


def test_a_stage_that_keeps_failing_is_named_and_the_others_complete(client):
    failed, _ = run(client, {"broken": set(), "needs it": {"broken"}, "a": set(), "b": {"a"}}, tries=3)
    assert list(failed) == ["broken"] and "broken on " in failed["broken"]
    assert sorted(stage for stage, _ in ran(client)) == ["a", "b", "broken", "broken", "broken"]


def test_a_failed_stage_is_tried_again_on_another_worker(client):
    run(client, {"broken": set()}, tries=2)
    first, second = (worker for _, worker in ran(client))
    assert first != second


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


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A copy in which `dvc repro` has made everything on its own."""
    clone = copy(tmp_path_factory.mktemp("alone"))
    clone.repro(*targets(clone))
    return clone


@pytest.mark.slow
def test_side_by_side_on_this_machine_gives_what_dvc_gives(alone, tmp_path):
    clone = copy(tmp_path)
    said = clone.run("python", "-m", "diffplast.parallel", *targets(clone))
    assert said.count(", done") == 10  # a data set, four runs trained and evaluated, a figure
    assert results(clone) == results(alone)
    assert clone.repro(*targets(clone)) == set()
    assert clone.run("git", "status", "--porcelain") == alone.run("git", "status", "--porcelain")


@pytest.mark.slow
def test_a_checkpoint_of_dvc_repro_is_gone_on_from(tmp_path):
    clone = copy(tmp_path)
    stage = stage_of(clone.folder, "runs/smoke/binary_small/lstm-0")
    process = clone.start("python", "-m", "stages.train", "binary_small", "smoke", "lstm-0")
    checkpoint = clone.folder / Run("binary_small", "smoke", "lstm", 0).checkpoint
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    process.terminate()
    assert "the state is saved" in process.communicate()[0]
    assert "starts from the beginning" not in clone.run("python", "-m", "diffplast.parallel", stage)


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
        address = json.loads(file.read_text())["address"]
        run = clone.start("python", "-m", "diffplast.parallel", "--scheduler", address, *targets(clone))
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
    assert run.returncode == 0, said
    assert results(clone) == results(alone)
    assert clone.repro(*targets(clone)) == set()
