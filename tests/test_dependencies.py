"""What the files dvc.yaml say that a stage depends on is what the stage imports."""

import ast
from functools import cache
from pathlib import Path

import pytest

from diffplast.core import params, registry
from tests.conftest import ROOT

FILES = [ROOT / "dvc.yaml", *(ROOT / "stages" / name / "dvc.yaml" for name in registry.names())]
# Every stage of every file, by its script and first argument: the task, or else the kind of data.
PIPELINE = {
    " ".join(stage["cmd"].split()[2:4]): stage
    for file in FILES
    for stage in params.YAML(typ="safe").load(file.read_text(encoding="utf-8"))["stages"].values()
}
OF_RUNS = [stage for stage in PIPELINE if stage.startswith(("stages.train", "stages.evaluate"))]


def imports_of(file: Path, seen: set[Path]) -> set[Path]:
    """Files of the project that a source file imports when it is imported itself, directly or not."""
    if file not in seen:
        seen.add(file)
        for imported in imported_by(file):
            imports_of(imported, seen)
    return seen


@cache
def imported_by(file: Path) -> list[Path]:
    """Files of the project that a source file imports itself; packages come before what they hold."""
    found = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(file.relative_to(ROOT).parent.parts[: None if node.level < 2 else 1 - node.level])
            base = ".".join(filter(None, (package if node.level else "", node.module or "")))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                path = ROOT.joinpath(*parts[:length])
                for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                    if parts[0] == "diffplast" and candidate.exists():
                        found.append(candidate)
    return found


def covered(file: Path, deps: list[str]) -> bool:
    return any((ROOT / dep) in (file, *file.parents) for dep in deps)


def is_only_a_package(file: Path) -> bool:
    """Whether a file holds nothing but a docstring, and perhaps the library's names, looked up when asked for."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    of_library = file.parent.name == "diffplast"
    return file.name == "__init__.py" and (of_library or all(isinstance(node, ast.Expr) for node in body))


@pytest.mark.parametrize("stage", PIPELINE)
def test_what_a_stage_imports_is_among_its_deps(stage):
    block = PIPELINE[stage]
    module, name, *_ = block["cmd"].split()[2:]
    files = imports_of(ROOT.joinpath(*module.split(".")).with_suffix(".py"), set())
    task = ROOT / "diffplast" / "tasks" / name
    if not stage.startswith("stages.prepare") and name in registry.names():
        files |= imports_of(task / "experiment" / "task.py", set())
    if stage.startswith("stages.figures") and (task / "findings").exists():
        files |= imports_of(task / "findings" / "__init__.py", set())
    missing = [file for file in files if not covered(file, block["deps"]) and not is_only_a_package(file)]
    assert not missing, f"{stage} imports files that are not among its deps: {sorted(missing)}"


@pytest.mark.parametrize("stage", PIPELINE)
def test_deps_are_few_and_exist(stage):
    deps = PIPELINE[stage]["deps"]
    assert len(deps) <= 8 and len(set(deps)) == len(deps)
    assert all((ROOT / dep).exists() for dep in deps if dep.startswith(("stages/", "diffplast/")))


@pytest.mark.parametrize("stage", OF_RUNS)
def test_training_depends_on_no_code_that_it_does_not_use(stage):
    """So that an edit of another task, of a figure or of how data are prepared trains nothing."""
    name = stage.split()[1]
    code = {dep for dep in PIPELINE[stage]["deps"] if dep.startswith("diffplast/")}
    shared = {"diffplast/core", "diffplast/plasticity", "diffplast/tasks/completion.py"}
    assert code <= shared | {f"diffplast/tasks/{name}/experiment"}
    used = imports_of(ROOT / "diffplast" / "tasks" / name / "experiment" / "task.py", set())
    assert ("diffplast/tasks/completion.py" in code) == (ROOT / "diffplast/tasks/completion.py" in used)


def test_training_uses_every_file_of_the_core():
    """An edit there trains everything again, so that what only later stages use is to be elsewhere."""
    loaded = imports_of(ROOT / "stages" / "train.py", set())
    for name in registry.names():
        loaded |= imports_of(ROOT / "diffplast" / "tasks" / name / "experiment" / "task.py", set())
    assert set((ROOT / "diffplast" / "core").rglob("*.py")) <= loaded


def test_each_layer_imports_only_what_lies_below():
    layers = {
        "plasticity": {"plasticity"},
        "core": {"core", "plasticity"},
        "data": {"data", "core"},
        "report": {"report", "core"},
        "page": {"page", "report", "core"},
        "tasks": {"tasks", "core", "plasticity", "report", "page"},  # findings and page use these tools
    }
    for layer, allowed in layers.items():
        for file in (ROOT / "diffplast" / layer).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                module = node.module if isinstance(node, ast.ImportFrom) and not node.level else None
                if module and module.startswith("diffplast."):
                    assert module.split(".")[1] in allowed, f"{file.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("name", registry.names())
def test_the_files_of_the_tasks_are_alike(name):
    """They differ by the task's name, what it shares with others, its data set and the label of its plot."""
    file = params.YAML(typ="safe").load((ROOT / "stages" / name / "dvc.yaml").read_text(encoding="utf-8"))
    assert list(file["stages"]) == ["train", "evaluate", "figures"]
    for kind, stage in file["stages"].items():
        assert stage["wdir"] == "../.." and stage["cmd"].startswith(f"python -m stages.{kind} {name} ")
    dataset = registry.load(name).dataset
    for kind in ("train", "evaluate"):
        data = [dep for dep in file["stages"][kind]["deps"] if dep.startswith("data/")]
        assert data == ([f"data/${{item.scale}}/{dataset}"] if dataset else [])
