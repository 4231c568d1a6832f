"""The pipeline on many machines: python -m diffplast.cluster [--scheduler ADDRESS | --workers N] [TARGET ...].

Does what `dvc repro` does, with the stages of single runs (training and evaluation) handed to the workers of Dask. Each
worker runs the real stage in a checkout of its own; data and results pass through the cache and the run cache of a DVC
remote, and nothing else. What all runs share (data sets, figures, report) DVC runs here, before and after.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, LocalCluster, WorkerPlugin, as_completed, get_worker
from dvc.dvcfile import PROJECT_FILE
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, plan_repro
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from tqdm import tqdm

from diffplast.core.errors import UserError

TOPIC = "diffplast"  # of the events in which workers tell how far they are
LIBRARIES = ("torch", "numpy", "numba", "dvc")  # of another release, they would give other bits, or another dvc.lock

Config = dict[str, dict[str, Any]]
"""A part of DVC's configuration."""


def remote(repo: Repo) -> Config:
    """DVC's configuration of the remote that workers share: the default one, or else this clone's own cache.

    A cache has the layout of a remote, and serves as one where workers see this folder.
    """
    name = repo.config["core"].get("remote")
    if name is None:
        return {"core": {"remote": "home"}, "remote": {"home": {"url": repo.cache.legacy.path}}}
    return {"core": {"remote": name}, "remote": {name: dict(repo.config["remote"][name])}}


# Planning -------------------------------------------------------------------------------------------------------------


def folders_of_runs() -> list[Path]:
    """Where the stages of single runs write: the folders of all runs of params.yaml. Raises ParamsError."""
    from diffplast.core import (
        params,
        registry,  # with these lines, it imports torch: seconds a worker would lose
    )
    from diffplast.core.runs import Run

    checked = params.load()
    runs = [
        Run(name, checked.scale, arm, seed)
        for name in registry.names()
        for arm in getattr(checked, name).arms
        for seed in getattr(checked, name).seeds
    ]
    return [folder.absolute() for run in runs for folder in (run.folder, run.results)]


def in_run_cache(stage: PipelineStage) -> bool:
    """Whether this clone holds the results of the stage, as it stands, from an earlier time."""
    stage.save_deps()
    try:
        stage.repo.stage_cache.restore(stage, dry=True)
    except RunCacheNotFoundError:
        return False
    return True


def plan(repo: Repo, targets: list[str]) -> dict[str, set[str]]:
    """Stages of single runs that `dvc repro` would have to run, each with those of them that it needs, in order.

    As `dvc repro` does, it takes every stage after those that it depends on. What is not up to date, and does not wait
    for what is planned, is made at once if all runs share it or the run cache has it.
    """
    folders = folders_of_runs()
    planned: dict[str, set[str]] = {}
    waiting = set()
    with lock_repo(repo):
        graph = repo.index.graph
        for stage in plan_repro(graph, collect_stages(repo, targets or [PROJECT_FILE])):
            paths = [Path(out.fs_path) for out in stage.outs]
            of_run = any(folder in (path, *path.parents) for path in paths for folder in folders)
            needs = {needed.addressing for needed in graph.successors(stage)}
            if needs & waiting or (of_run and stage.changed() and not in_run_cache(stage)):
                waiting.add(stage.addressing)
                if of_run:
                    planned[stage.addressing] = needs & waiting
            elif stage.changed():
                repo.reproduce(stage.addressing, single_item=True)
    return planned


def inputs(repo: Repo, planned: dict[str, set[str]]) -> list[str]:
    """Stages that are up to date and whose outputs planned stages need."""
    graph = repo.index.graph
    needed = {need.addressing for stage in graph if stage.addressing in planned for need in graph.successors(stage)}
    return sorted(needed - set(planned))


# Workers --------------------------------------------------------------------------------------------------------------


def git(*arguments: str, folder: Path = Path(), **environment: str) -> str:
    """Output of a git command. Raises UserError with what git says where it fails."""
    command = ["git", "-c", "user.name=diffplast", "-c", "user.email=diffplast", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed in {folder.absolute()}: {done.stderr.strip()}")
    return done.stdout.strip()


def libraries() -> dict[str, str]:
    """Releases that results depend on."""
    return {"python": sys.version.split()[0]} | {name: version(name) for name in LIBRARIES}


class Checkout(WorkerPlugin):
    """Gives each worker the project as it stands here: the commit, and the files with all that was changed in them."""

    def __init__(self, config: Config):
        from diffplast.core import params

        self.config = config
        self.libraries = libraries()
        self.home = Path().absolute()
        # States of unfinished runs, with which another worker can go on, and their curves, which DVC draws here.
        self.shared = [Path("checkpoints"), Path("live", params.load().scale)]
        for folder in self.shared:
            folder.mkdir(parents=True, exist_ok=True)
        # Dask sets the threads of numerical libraries to 1 for its workers: stages are to find what they find here.
        names = dask.config.get("distributed.nanny.pre-spawn-environ")
        self.environment = {name: os.environ.get(name) for name in names}
        self.commit = git("rev-parse", "HEAD")
        with tempfile.TemporaryDirectory() as folder:
            index, bundle = Path(folder, "index"), Path(folder, "bundle")
            git("read-tree", "HEAD", GIT_INDEX_FILE=str(index))
            git("add", "--all", GIT_INDEX_FILE=str(index))
            tree = git("write-tree", GIT_INDEX_FILE=str(index))
            self.files = git("commit-tree", tree, "-p", "HEAD", "-m", "files of a working tree")
            ref = f"refs/cluster/{self.files}"
            git("update-ref", ref, self.files)
            try:
                git("bundle", "create", "--quiet", str(bundle), ref)
            finally:
                git("update-ref", "-d", ref)
            self.bundle = bundle.read_bytes()
        self.name = f"diffplast-{self.files}"

    def setup(self, worker) -> None:
        """Called by Dask on every worker, present or future. A worker with other libraries is refused."""
        if libraries() != self.libraries:
            raise UserError(f"{worker.address} has {libraries()}, other than here: {self.libraries}")
        self.threads = threading.local()
        self.folder = Path(worker.local_directory)

    def path(self) -> Path:
        """The checkout of the calling thread of a worker, made where there is none: one stage at a time."""
        if not hasattr(self.threads, "path"):
            path = Path(tempfile.mkdtemp(prefix="checkout-", dir=self.folder))
            bundle = path.with_suffix(".bundle")
            bundle.write_bytes(self.bundle)
            git("init", "--quiet", folder=path)
            git("fetch", "--quiet", str(bundle), f"refs/cluster/{self.files}", folder=path)
            bundle.unlink()
            git("checkout", "--quiet", "--detach", self.commit, folder=path)
            git("restore", "--source", self.files, "--worktree", "--", ".", folder=path)
            with Repo(path) as repo, repo.config.edit("local") as config:
                config.update(self.config)
            for folder in self.shared:
                if (self.home / folder).is_dir():  # on this machine, or on a shared disk
                    (path / folder).symlink_to(self.home / folder)
            self.threads.path = path
        return self.threads.path

    def run(self, stage: str) -> None:
        """Run one stage in a checkout. Raises RuntimeError with the end of what it printed where it fails."""
        worker = get_worker()
        environment = {name: value for name, value in os.environ.items() if name not in self.environment}
        environment |= {name: value for name, value in self.environment.items() if value is not None}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"

        def tell(line: str) -> None:
            worker.log_event(TOPIC, {"stage": stage, "worker": worker.address, "line": line})

        tell("started")
        last = deque(maxlen=20)
        with subprocess.Popen(
            [sys.executable, "-m", "diffplast.cluster", "--stage", stage],
            cwd=self.path(), env=environment, start_new_session=True, text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            for line in process.stdout:
                if line.strip():
                    last.append(line.rstrip())
                    tell(line.strip())
        if process.returncode:
            raise RuntimeError("\n".join([f"exit status {process.returncode} on {worker.address}:", *last]))


def run_stage(checkout: str, stage: str) -> None:
    """What Dask calls on a worker. checkout: name of its `Checkout`."""
    get_worker().plugins[checkout].run(stage)


def run_and_share(name: str) -> None:
    """In a worker's checkout: run a stage, or restore it from the remote, and push its results there."""
    # Standard input is a pipe from the worker: when that is lost, its stage ends too, with its state saved.
    threading.Thread(target=lambda: (sys.stdin.read(), os.killpg(0, signal.SIGTERM)), daemon=True).start()
    repo = Repo()
    repo.reproduce(name, pull=True)
    repo.push(name)
    (stage,) = repo.stage.collect(name)
    uncached = {out.hash_info for out in stage.outs if not out.use_cache}
    if uncached:
        repo.commit(name, force=True)  # unlike reproduce, this has the run cache hold outputs with `cache: false` too,
        repo.cloud.push(uncached)  # and push leaves them out
    repo.stage_cache.push(None)  # last, so that it never names what is not there


# The client -----------------------------------------------------------------------------------------------------------


class View:
    """Progress over all stages: a bar, and on a terminal a line for each running stage; elsewhere now and then."""

    seconds_between_lines = 60

    def __init__(self, total: int):
        self.bar = tqdm(total=total, unit="stage", dynamic_ncols=True, disable=not sys.stderr.isatty())
        self.total, self.done = total, 0
        self.worker: dict[str, str] = {}
        self.lines: dict[str, str] = {}
        self.rows: dict[str, tqdm] = {}
        self.due = time.monotonic() + self.seconds_between_lines

    def heard(self, event: tuple[float, dict[str, str]]) -> None:
        """Show what a worker tells of its stage."""
        _, message = event
        stage, line = message["stage"], message["line"]
        self.worker[stage] = message["worker"]
        self.lines[stage] = line
        if not self.bar.disable:
            if stage not in self.rows:
                self.rows[stage] = tqdm(bar_format="{desc}", leave=False, dynamic_ncols=True)
            self.rows[stage].set_description_str(f"  {stage}: {line}")
        elif time.monotonic() >= self.due:
            self.say(f"{self.done} of {self.total} stages done; running:")
            for running, last in self.lines.items():
                self.say(f"  {running}: {last}")
            self.due = time.monotonic() + self.seconds_between_lines

    def ended(self, stage: str, how: str) -> None:
        """A stage is no longer running."""
        self.lines.pop(stage, None)
        if stage in self.rows:
            self.rows.pop(stage).close()
        self.say(f"{stage}: {how}")

    def count(self) -> None:
        """One more stage is done."""
        self.done += 1
        self.bar.update()

    def say(self, text: str) -> None:
        """A line of its own."""
        tqdm.write(text, file=sys.stderr)


def run_all(client: Client, checkout: str, planned: dict[str, set[str]], retries: int) -> dict[str, str]:
    """Run planned stages on the workers, each when what it needs is there. Returns the failed ones: stage -> why."""
    view = View(len(planned))
    client.subscribe_topic(TOPIC, view.heard)
    waiting = {stage: set(needs) for stage, needs in planned.items()}
    tries: dict[str, int] = dict.fromkeys(planned, 0)
    failed: dict[str, str] = {}
    running: dict[Future, str] = {}
    ended = as_completed()

    def submit(stage: str, workers: list[str] | None = None) -> None:
        tries[stage] += 1
        # A stage that others wait for, or waited for, goes first: evaluations take seconds.
        future = client.submit(
            run_stage, checkout, stage, key=f"{stage}-{checkout}-{tries[stage]}", pure=False,
            priority=len(planned[stage]), workers=workers or None, allow_other_workers=bool(workers),
        )  # fmt: skip
        running[future] = stage
        ended.add(future)

    def submit_ready() -> None:
        for stage in [stage for stage, needs in waiting.items() if not needs]:
            del waiting[stage]
            submit(stage)

    submit_ready()
    for future in ended:
        stage = running.pop(future)
        if future.status == "finished":
            view.count()
            view.ended(stage, "done")
            for needs in waiting.values():
                needs.discard(stage)
            submit_ready()
            continue
        why = str(future.exception())
        if tries[stage] <= retries:
            view.ended(stage, f"failed, tried again elsewhere: {why}")
            submit(stage, [worker for worker in client.scheduler_info()["workers"] if worker != view.worker.get(stage)])
        else:
            view.ended(stage, "failed")
            failed[stage] = why
    view.bar.close()
    return failed


def unaffected(repo: Repo, targets: list[str], failed: set[str]) -> list[str]:
    """Stages of the targets that need none of the failed ones."""
    graph, lost, kept = repo.index.graph, set(failed), []
    for stage in plan_repro(graph, collect_stages(repo, targets or [PROJECT_FILE])):
        if stage.addressing in lost or {need.addressing for need in graph.successors(stage)} & lost:
            lost.add(stage.addressing)
        else:
            kept.append(stage.addressing)
    return kept


def reproduce(workers: AbstractContextManager[Client], targets: list[str], retries: int) -> dict[str, str]:
    """Plan, run on the workers, collect. Returns the failed stages: stage -> why."""
    config = remote(Repo())
    repo = Repo(config=config)
    planned = plan(repo, targets)
    failed: dict[str, str] = {}
    if planned:
        print(f"{len(planned)} stages for workers", file=sys.stderr)
        if shared := inputs(repo, planned):
            repo.push(shared)
        checkout = Checkout(config)
        with workers as client:
            client.register_plugin(checkout)
            failed = run_all(client, checkout.name, planned, retries)
    kept = unaffected(repo, targets, set(failed)) if failed else targets
    if kept or not failed:
        repo.reproduce(kept or None, pull=True)
    return failed


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int | None) -> Iterator[Client]:
    """A client of the scheduler at this address, or of that many workers on this machine while it is used."""
    from diffplast.core import params

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            workers = workers or max(1, os.cpu_count() // params.load().threads)
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=None)
            scheduler = stack.enter_context(cluster)
        yield stack.enter_context(Client(scheduler))


def main() -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as for `dvc repro`; default: all")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster; default: workers on this machine")
    parser.add_argument("--workers", type=int, help="how many on this machine; default: cores / threads of params.yaml")
    parser.add_argument("--retries", type=int, default=2, help="of a stage that fails, on another worker (default: 2)")
    parser.add_argument("--stage", metavar="STAGE", help=argparse.SUPPRESS)  # what a worker calls in its checkout
    arguments = parser.parse_args()

    try:
        if arguments.stage:
            run_and_share(arguments.stage)
            return 0
        workers = connected(arguments.scheduler, arguments.workers)
        failed = reproduce(workers, arguments.targets, arguments.retries)
    except (UserError, DvcException) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    for stage, why in failed.items():
        print(f"{stage} failed {arguments.retries + 1} times, last with {why}", file=sys.stderr)
    if failed:
        print("all that does not need these stages is done; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
