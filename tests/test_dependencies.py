"""What the files dvc.yaml say that a stage depends on is what the stage imports."""

import ast
from pathlib import Path

import pytest

from diffplast import data
from diffplast.core import params, registry
from diffplast.report import figures
from tests.conftest import ROOT

FILES = [ROOT / "dvc.yaml", *(ROOT / "stages" / name / "dvc.yaml" for name in registry.names())]
# Every stage of every file, by its script and first argument: the task, or else the kind of data.
PIPELINE = {
    " ".join(stage["cmd"].split()[2:4]): stage
    for file in FILES
    for stage in params.YAML(typ="safe").load(file.read_text())["stages"].values()
}
OF_A_TASK = [stage for stage in PIPELINE if stage.startswith(("stages.train", "stages.evaluate", "stages.figures"))]


def imports_of(file: Path, seen: set[Path]) -> set[Path]:
    """Files of the project that a source file imports when it is imported itself, directly or not."""
    if file in seen:
        return seen
    seen.add(file)
    for node in ast.parse(file.read_text()).body:
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
            for length in range(1, len(parts) + 1):  # a package is imported before what it holds
                path = ROOT.joinpath(*parts[:length])
                for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                    if parts[0] == "diffplast" and candidate.exists():
                        imports_of(candidate, seen)
    return seen


def preparing(kinds) -> set[Path]:
    """Source files that prepare the data sets of some kinds."""
    names = [name.split(":")[0] for kind in kinds for name in data.DATA_SETS[kind].values()]
    return {ROOT / f"{name.replace('.', '/')}.py" for name in names}


@pytest.mark.parametrize("stage", PIPELINE)
def test_what_a_stage_imports_is_among_its_deps(stage):
    block = PIPELINE[stage]
    module, *arguments = block["cmd"].split()[2:]
    kind = module.removeprefix("stages.")
    files = imports_of(ROOT.joinpath(*module.split(".")).with_suffix(".py"), set())
    if kind in ("train", "evaluate", "figures"):
        files |= imports_of(ROOT / "diffplast" / "tasks" / f"{arguments[0]}.py", set())
    if kind == "download" or (kind in ("train", "evaluate") and registry.load(arguments[0]).dataset):
        files |= imports_of(ROOT / "diffplast" / "data" / "__init__.py", set())
    if kind == "figures":
        named = [figures.CURVES.get(arguments[0]), *figures.FIGURES.get(arguments[0], {}).values()]
        named += figures.ANIMATIONS.get(arguments[0], {}).values()
        for place in filter(None, named):
            files |= imports_of(ROOT / f"{place.partition(':')[0].replace('.', '/')}.py", set())
    if kind == "report":
        files |= {file for file in (ROOT / "diffplast" / "templates").rglob("*") if file.is_file()}
    if kind in ("download", "report"):  # preparers are imported by name; the report checks options
        kinds = arguments[:1] if kind == "download" else data.DATA_SETS
        files |= {file for module in preparing(kinds) for file in imports_of(module, set())}
    needed = {str(file.relative_to(ROOT)) for file in files}
    folders = tuple(f"{dep}/" for dep in block["deps"] if (ROOT / dep).is_dir())
    missing = {file for file in needed - set(block["deps"]) if not file.startswith(folders)}
    assert not missing, f"{stage} imports files that are not among its deps: {sorted(missing)}"


@pytest.mark.parametrize("stage", PIPELINE)
def test_deps_exist_once_and_are_folders_only_where_all_in_them_is_used_together(stage):
    deps = PIPELINE[stage]["deps"]
    code = [dep for dep in deps if dep.startswith(("stages/", "diffplast/"))]
    folders = {dep for dep in code if (ROOT / dep).is_dir()}
    assert all((ROOT / dep).exists() for dep in code) and len(set(deps)) == len(deps)
    together = {"diffplast/core", "diffplast/plasticity"}
    if stage.startswith("stages.report"):
        together |= {f"diffplast/{name}" for name in ("data", "figures", "tasks", "templates")}
    assert folders <= together


def test_training_uses_every_file_of_the_core():
    """An edit there trains everything anew, so that what only later stages use is to be elsewhere."""
    loaded = imports_of(ROOT / "stages" / "train.py", set())
    assert set((ROOT / "diffplast" / "core").glob("*.py")) <= loaded


@pytest.mark.parametrize("stage", OF_A_TASK)
def test_how_data_are_prepared_is_no_dep_of_what_uses_them(stage):
    modules = {str(module.relative_to(ROOT)) for module in preparing(data.DATA_SETS)}
    assert not modules & set(PIPELINE[stage]["deps"])


@pytest.mark.parametrize("name", registry.names())
def test_a_tasks_stages_run_at_the_top_and_are_of_that_task(name):
    file = params.YAML(typ="safe").load((ROOT / "stages" / name / "dvc.yaml").read_text())
    assert list(file["stages"]) == ["train", "evaluate", "figures"]
    for kind, stage in file["stages"].items():
        assert stage["wdir"] == "../.." and stage["cmd"].startswith(f"python -m stages.{kind} {name} ")
