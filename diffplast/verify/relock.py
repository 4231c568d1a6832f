"""Lock files that take today's code for that of runs whose replay gives the same numbers, so that nothing is trained.

All is done in a copy of the project, by DVC, and taken over when it is complete.
"""

import filecmp
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffplast.core import machine, params, registry
from diffplast.core.errors import UserError
from diffplast.core.runs import Run, write_json
from diffplast.verify.data import NO_DOWNLOAD
from diffplast.verify.replay import NOT_REPLAYED, Outcome

CODE = ("diffplast", "stages")
"""Folders of code, as a stage's dependencies begin."""


def relock(outcomes: dict[Run, Outcome]) -> int:
    """Take today's code into the lock files, for the runs whose replay agrees; a GPU's, to as many digits as it can.

    With it goes the record of the replay, replayed.json of the run, and the figures and the page that show it. Nothing
    is changed where any run is not the same. Returns the exit status. Raises UserError where DVC or git cannot be used.
    """
    refused = [text for outcome in outcomes.values() for text in _differences(outcome)]
    if refused:
        print("No lock file is changed, since this code makes other numbers:\n" + "\n".join(refused), file=sys.stderr)
        return 1
    covered = [outcome for outcome in outcomes.values() if outcome.verdict != NOT_REPLAYED]
    for scale in dict.fromkeys(outcome.committed.run.scale for outcome in covered):
        _relock_scale(scale, [outcome for outcome in covered if outcome.committed.run.scale == scale])
    return 0


def _differences(outcome: Outcome) -> list[str]:
    run = outcome.committed.run
    return [f"- {run.scale}/{run.task}/{run.name}: {text}" for text in outcome.differs]


def _relock_scale(scale: str, covered: list[Outcome]) -> None:
    with _copy_of_project(scale) as copy:
        left = _prepare_again(copy, scale)
        left += _take_code(copy, [outcome.committed.run for outcome in covered])
        for outcome in covered:
            _write_record(copy, outcome)
        tasks = {outcome.committed.run.task for outcome in covered}
        figures = [f"stages/{task}/dvc.yaml:figures@{scale}" for task in registry.names() if task in tasks]
        _dvc(copy, "repro", "--single-item", *figures, f"report@{scale}")
        waiting = _waiting(copy)
        _take_over(copy, scale)
    print(f"{scale}: {len(covered)} runs were replayed; the lock files have this code, replayed.json how far.")
    for text in left:
        print(f"- {text}")
    if waiting:
        print(f"`dvc repro` would still run {', '.join(waiting)}.")
    else:
        print("`dvc repro` finds nothing to do.")


@contextmanager
def _copy_of_project(scale: str) -> Iterator[Path]:
    """A copy of the project's files as they are, but for what git ignores, with parameters and locks of a scale."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True
    )
    if listed.returncode:
        raise UserError(f"git does not list the project's files: {listed.stderr.strip()}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in filter(None, listed.stdout.split("\0")):
            if Path(name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(name, copy / name)
        (copy / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        kept = copy / "reports" / scale
        if (kept / "locks").is_dir():
            shutil.copytree(kept / "locks", copy, dirs_exist_ok=True)
            shutil.copy2(kept / params.PATH, copy / params.PATH)
        elif params.read(copy / params.PATH).get("scale") != scale:
            params.assign([f"scale={scale}"], copy / params.PATH)
        yield copy


def _run_dvc(copy: Path, *arguments: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)


def _dvc(copy: Path, *arguments: str) -> None:
    """Run DVC in the copy. Raises UserError where it fails."""
    ran = _run_dvc(copy, *arguments)
    if ran.returncode:
        raise UserError(f"`dvc {' '.join(arguments)}` failed:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")


def _stages(copy: Path) -> dict:
    """The stages of the copy, as DVC reads them, by the names that it would give them there."""
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # else it names every file that it writes in the copy
    with Repo(str(copy)) as repo:
        named = [(stage.path_in_repo, stage.name, stage) for stage in repo.index.stages]
        return {name if path == "dvc.yaml" else f"{path}:{name}": stage for path, name, stage in named}


def _code(stage) -> list:
    return [dep for dep in stage.deps if dep.def_path.split("/")[0] in CODE]


def _prepare_again(copy: Path, scale: str) -> list[str]:
    """Have DVC prepare again the data sets whose code has changed; it then takes the new hashes of code itself.

    Returns, in words, which could not be, or come out as others; their locks stay as they were.
    """
    left = []
    for name in [name for name in _stages(copy) if name.startswith("prepare_") and name.endswith(f"@{scale}")]:
        stage = _stages(copy)[name]
        chosen = params.read(copy / params.PATH)["datasets"][name.removeprefix("prepare_").partition("@")[0]]
        (out,) = stage.outs
        if not out.hash_info or not any(dep.changed_checksum() for dep in _code(stage)):
            continue
        if chosen not in NO_DOWNLOAD:
            left.append(f"{name}: {chosen} is not prepared again here, so its lock stays as it was")
            continue
        before = (copy / "dvc.lock").read_bytes()
        _dvc(copy, "repro", "--single-item", name)
        (made,) = _stages(copy)[name].outs
        if made.hash_info != out.hash_info:
            (copy / "dvc.lock").write_bytes(before)
            left.append(f"{name}: {chosen} comes out as another file here, so its lock stays as it was")
    return left


def _take_code(copy: Path, runs: list[Run]) -> list[str]:
    """Write the hashes of today's code into the lock entries of runs, and the parameters where only others' changed.

    Returns, in words, which entries stay as they were.
    """
    stages, left, files = _stages(copy), [], {}
    for run in runs:
        for kind in ("train", "evaluate"):
            name = f"stages/{run.task}/dvc.yaml:{kind}@{run.scale}-{run.name}"
            stage = stages.get(name)
            why = "params.yaml does not list it" if stage is None else _not_to_be_taken(stage, run, copy)
            if why is not None:
                left.append(f"{name}: {why}, so its lock stays as it was")
                continue
            for dep in [*_code(stage), *stage.params]:
                dep.save()
            files.setdefault(stage.path, []).append(stage)
    for changed in files.values():
        changed[0].dvcfile.dump_stages(changed, update_pipeline=False)
    return left


def _not_to_be_taken(stage, run: Run, copy: Path) -> str | None:
    """Why a stage of a run is not current even with today's code; None where it is."""
    if not all(out.hash_info for out in stage.outs):
        return "it was not made with all its files"
    changed = {key for param in stage.params for keys in param.status().values() for key in keys}
    if changed and ("device" in changed or not _has_its_parameters(run, copy)):
        return "params.yaml says something else than it was made with"
    others = [dep for dep in stage.deps if dep not in stage.params and dep not in _code(stage)]
    for entry in [*others, *stage.outs]:
        if entry.exists and entry.changed_checksum():
            return f"{entry} is not the file of its lock"
    return None


def _has_its_parameters(run: Run, copy: Path) -> bool:
    """Whether params.yaml says of a run what its run.json does. DVC sees a task's block, with all arms, as one."""
    block = getattr(params.load(run.task, copy / params.PATH), run.task)
    said = {
        "experiment": block.experiment,
        "settings": getattr(block, run.scale).for_arm(run.arm),
        "test": getattr(block.test, run.scale),
    }
    record = json.loads((copy / run.results / "run.json").read_text(encoding="utf-8"))
    return all(json.loads(json.dumps(part.model_dump())) == record[name] for name, part in said.items())


def _write_record(copy: Path, outcome: Outcome) -> None:
    """Write into the run's results by which replay its numbers were found to be those of today's code."""
    committed = outcome.committed
    write_json(
        copy / committed.run.replayed,
        {
            "commit": machine.commit(),
            "curve": outcome.verdict,
            "windows": outcome.windows,
            "of_windows": len(committed.ends),
            "episodes": outcome.episode,
            "untrained": outcome.untrained,
            "network": outcome.network,
            "processor": machine.processor(),
        },
    )


def _waiting(copy: Path) -> list[str]:
    """Stages that `dvc repro` would run, what is only in a cache not missed; of a chain of them the first alone."""
    said = _run_dvc(copy, "repro", "--allow-missing", "--keep-going", "--dry").stdout
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage ")]


def _take_over(copy: Path, scale: str) -> None:
    """Copy what has changed to the project: the lock files, or those kept with a scale's results, and its results."""
    reports = Path("reports", scale)
    found = [path for path in [copy / "dvc.lock", *(copy / "stages").glob("*/dvc.lock")] if path.exists()]
    locks = [path.relative_to(copy) for path in found]
    places = {copy / lock: reports / "locks" / lock if (reports / "locks").is_dir() else lock for lock in locks}
    for path in (copy / reports).rglob("*"):
        if path.is_file() and "locks" not in path.relative_to(copy / reports).parts:
            places[path] = path.relative_to(copy)
    for path, place in places.items():
        if not place.exists() or not filecmp.cmp(path, place, shallow=False):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
