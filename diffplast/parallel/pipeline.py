"""What DVC knows of the pipeline: which stages there are, which must run, and the record of those that have run.

Every step is one that `dvc repro` takes too, so that both leave the same files. Unlike it, this reads the project once
and not for every stage, lets several stages run at a time, and writes dvc.lock every two minutes and at the end.
"""

import contextlib
import json
import logging
import time
from pathlib import Path

from dvc.dvcfile import PROJECT_FILE
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, plan_repro
from dvc.rwlock import rwlock
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.utils.serialize import load_yaml, modify_yaml

logging.getLogger("dvc").setLevel(logging.WARNING)  # else it says every file that it writes


class Pipeline:
    """The stages that make the targets, by name. Use as a context manager: what was recorded is written at its end."""

    seconds_between_writes = 120  # of dvc.lock; each takes DVC 0.3 ms a line

    def __init__(self, targets: list[str], config: dict | None = None):
        """targets: names or files of stages; none: all. config: of DVC, beside what its files say.

        Raises DvcException where the folder holds no valid pipeline, or a target is no stage of it.
        """
        self.repo = Repo(config=config, _wait_for_lock=True)  # a `dvc status` in another terminal takes it for seconds
        graph = self.repo.index.graph
        planned = plan_repro(graph, collect_stages(self.repo, targets or [PROJECT_FILE]))
        self.stages: dict[str, PipelineStage] = {stage.addressing: stage for stage in planned}
        """In the order of `dvc repro`."""
        self.needs = {
            name: {need.addressing for need in graph.successors(stage)} for name, stage in self.stages.items()
        }
        """Of each stage, those that must be done before it."""
        self._dependents = {name: list(graph.predecessors(stage)) for name, stage in self.stages.items()}
        files = {stage.path: stage.dvcfile for stage in planned}  # each stage has a reader of its own
        self._known = {path: set(file.lockfile_contents.get("stages", {})) for path, file in files.items()}
        self._locks: dict[str, contextlib.ExitStack] = {}  # of stages that run
        self._unwritten: set[str] = set()
        self._write_due = time.monotonic() + self.seconds_between_writes

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *exception) -> None:
        for name in list(self._locks):
            self.cancel(name)
        self.write()
        self._sort_locks()
        self.repo.close()

    def last_seconds(self, name: str) -> float | None:
        """How long the first run that needs a stage took the last time, by its results; None where there is none."""
        outs = [Path(out.fs_path) for stage in self._dependents[name] for out in stage.outs]
        for path in outs:
            if path.name == "run.json" and path.exists():
                return json.loads(path.read_text(encoding="utf-8"))["seconds"]
        return None

    def is_up_to_date(self, name: str) -> bool:
        """Whether nothing that a stage depends on has changed, and its outputs are there."""
        with self.repo.lock:
            return not self.stages[name].changed()

    def restore(self, name: str) -> bool:
        """Take the outputs of a stage from DVC's run cache, in the place of old ones. Returns whether it has them.

        Raises DvcException where what the stage depends on is not there.
        """
        stage = self.stages[name]
        with self.repo.lock:
            stage.remove_outs(ignore_remove=False)
            try:
                self.repo.stage_cache.restore(stage)
            except RunCacheNotFoundError:
                return False
            self._save(stage)
        return True

    def begin(self, name: str) -> None:
        """Prepare a run of a stage that `restore` did not find: let no other DVC process use its outputs.

        Raises DvcException where another one does.
        """
        stage = self.stages[name]
        reads, writes = [dep.fs_path for dep in stage.deps], [out.fs_path for out in stage.outs]
        hardlink = self.repo.config["core"].get("hardlink_lock", False)
        with self.repo.lock, contextlib.ExitStack() as lock:
            lock.enter_context(rwlock(self.repo.tmp_dir, self.repo.fs, f"stage {name}", reads, writes, hardlink))
            self._locks[name] = lock.pop_all()

    def cancel(self, name: str) -> None:
        """End a run that made nothing to record."""
        with self.repo.lock:
            self._locks.pop(name).close()

    def record(self, name: str) -> None:
        """End a run whose outputs are there: take them into DVC's cache, and soon into dvc.lock.

        Raises DvcException where an output is missing, or a file that the stage depends on has changed meanwhile.
        """
        stage = self.stages[name]
        used = [dep.hash_info for dep in stage.deps]
        self.cancel(name)
        with self.repo.lock:
            stage.save_deps()
            changed = [str(dep) for dep, before in zip(stage.deps, used, strict=True) if dep.hash_info != before]
            if changed:
                raise DvcException(f"{', '.join(changed)} changed while it ran; run it again")
            self._save(stage)
        if time.monotonic() >= self._write_due:
            self.write()

    def _save(self, stage: PipelineStage) -> None:
        # As DVC does: outputs that are in git are in the run cache too only where they are metrics or plots.
        stage.save(run_cache=all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs))
        stage.commit()
        self._unwritten.add(stage.addressing)

    def pull(self, name: str) -> None:
        """Take over what a stage has made elsewhere, from DVC's remote. Raises DvcException where it is not there."""
        self.repo.reproduce(name, single_item=True, pull=True)

    def write(self) -> None:
        """Bring every dvc.lock up to date with what was recorded."""
        files: dict[str, list[PipelineStage]] = {}
        for name, stage in self.stages.items():
            if name in self._unwritten:
                files.setdefault(stage.path, []).append(stage)
        with self.repo.lock:
            for stages in files.values():
                stages[0].dvcfile.dump_stages(stages, update_pipeline=False)
        self._unwritten.clear()
        self._write_due = time.monotonic() + self.seconds_between_writes

    def _sort_locks(self) -> None:
        """Give stages that are new in a dvc.lock the order in which `dvc repro` would have added them."""
        for path, known in self._known.items():
            lock = Path(path).with_suffix(".lock")
            if not lock.exists():
                continue
            planned = [stage.name for stage in self.stages.values() if stage.path == path and stage.name not in known]
            written = [name for name in load_yaml(lock).get("stages", {}) if name in planned]
            in_order = [name for name in planned if name in written]
            if written != in_order:
                with self.repo.lock, modify_yaml(lock) as content:
                    for name in in_order:
                        content["stages"][name] = content["stages"].pop(name)
