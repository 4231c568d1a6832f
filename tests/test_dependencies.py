"""What dvc.yaml says that a stage depends on is what the stage imports."""

import ast
from pathlib import Path

import pytest

from diffplast import data, figures, params, tasks
from tests.conftest import ROOT

PIPELINE = params.YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


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
    _, _, module, *arguments = block["cmd"].split()
    files = imports_of(ROOT.joinpath(*module.split(".")).with_suffix(".py"), set())
    if stage.split("_", 1)[0] in ("train", "evaluate", "figures"):
        files |= imports_of(ROOT / "diffplast" / "tasks" / f"{arguments[0]}.py", set())
    if stage.startswith("download") or (stage.startswith(("train", "evaluate")) and tasks.load(arguments[0]).dataset):
        files |= imports_of(ROOT / "diffplast" / "data" / "__init__.py", set())
    if stage.startswith("figures"):
        named = [figures.CURVES.get(arguments[0]), *figures.FIGURES.get(arguments[0], {}).values()]
        named += figures.ANIMATIONS.get(arguments[0], {}).values()
        for place in filter(None, named):
            files |= imports_of(ROOT / f"{place.partition(':')[0].replace('.', '/')}.py", set())
    if stage == "report":
        files |= {file for file in (ROOT / "diffplast" / "templates").rglob("*") if file.is_file()}
    if stage.startswith("download") or stage == "report":  # preparers are imported by name; the report checks options
        kinds = arguments[:1] if stage != "report" else data.DATA_SETS
        files |= {file for module in preparing(kinds) for file in imports_of(module, set())}
    needed = {str(file.relative_to(ROOT)) for file in files}
    folders = tuple(f"{dep}/" for dep in block["deps"] if (ROOT / dep).is_dir())
    missing = {file for file in needed - set(block["deps"]) if not file.startswith(folders)}
    assert not missing, f"{stage} imports files that are not among its deps: {sorted(missing)}"


def test_deps_are_files_and_the_one_folder_that_exist():
    for stage, block in PIPELINE.items():
        code = [dep for dep in block["deps"] if dep.startswith(("stages/", "diffplast/"))]
        assert all((ROOT / dep).is_file() or dep == "diffplast/plasticity" for dep in code), stage
        assert len(set(block["deps"])) == len(block["deps"]), stage


@pytest.mark.parametrize("stage", [stage for stage in PIPELINE if stage.startswith(("train", "evaluate", "figures"))])
def test_how_data_are_prepared_is_no_dep_of_what_uses_them(stage):
    modules = {str(module.relative_to(ROOT)) for module in preparing(data.DATA_SETS)}
    assert not modules & set(PIPELINE[stage]["deps"])
