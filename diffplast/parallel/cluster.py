"""Stages on the workers of a Dask cluster, on other machines: python -m diffplast.parallel --scheduler ADDRESS.

Each worker runs the real stage in a checkout of its own; data and results pass through the cache and the run cache of a
DVC remote, and nothing else.
"""

import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import dask
from distributed import Client, Future, WorkerPlugin, get_worker
from dvc.repo import Repo

from diffplast.core.errors import UserError
from diffplast.parallel.pipeline import Pipeline
from diffplast.parallel.schedule import Ended, Host, Printed

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
        # States of unfinished runs, from which another worker can resume, and their curves, which DVC draws here.
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

        tell("")
        last = deque(maxlen=20)
        with subprocess.Popen(
            [sys.executable, "-m", "diffplast.parallel.worker", stage],
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


class Workers(Host):
    """The workers of a Dask cluster, present or future. Each has a second stage waiting while it runs the first."""

    def __init__(self, pipeline: Pipeline, events: SimpleQueue, client: Client, checkout: str, tries: int):
        """checkout: name of the plugin that runs stages, a `Checkout`, which the client has registered."""
        super().__init__(pipeline, events)
        self.tries = tries
        self._client, self._checkout = client, checkout
        self._futures: dict[str, Future] = {}
        self._last: dict[str, str] = {}  # worker that a stage ran on
        self._starts = 0
        self._in_remote: set[str] = set()  # stages whose outputs are there
        client.subscribe_topic(TOPIC, self._heard)

    def has_room(self, stage: str) -> bool:
        """See `Host`."""
        return len(self._futures) < 2 * sum(worker["nthreads"] for worker in self._workers().values())

    def start(self, stage: str, ready: int) -> None:
        """See `Host`."""
        for need in self.pipeline.needs[stage] - self._in_remote:
            self.pipeline.repo.push(need)
            self._in_remote.add(need)
        others = [worker for worker in self._workers() if worker != self._last.get(stage)]
        self._starts += 1
        future = self._client.submit(
            run_stage, self._checkout, stage, key=f"{stage}-{self._checkout}-{self._starts}", pure=False,
            workers=others or None, allow_other_workers=True,
        )  # fmt: skip
        self._futures[stage] = future
        future.add_done_callback(lambda future: self._ended(stage, future))

    def finish(self, stage: str) -> None:
        """See `Host`."""
        del self._futures[stage]
        self._in_remote.add(stage)
        self.pipeline.pull(stage)

    def cancel(self, stage: str) -> None:
        """See `Host`."""
        self._futures.pop(stage).release()

    def stop(self) -> None:
        """What waits for a worker is taken back; what runs continues, and the same command finds its results."""
        for stage in list(self._futures):
            self.events.put(Ended(stage, "left to its worker"))

    def kill(self) -> None:
        """See `Host`."""

    def _workers(self) -> dict[str, dict]:
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def _heard(self, event: tuple[float, dict[str, str]]) -> None:
        _, message = event
        if message["stage"] in self._futures:
            self._last[message["stage"]] = message["worker"]
            if message["line"]:
                self.events.put(Printed(message["stage"], message["line"]))

    def _ended(self, stage: str, future: Future) -> None:
        if future.status == "finished":
            self.events.put(Ended(stage))
        elif future.status != "cancelled":
            self.events.put(Ended(stage, str(future.exception()), by_chance=True))
