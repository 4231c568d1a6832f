"""CONTRIBUTING.md adds a task in four files: followed to the letter in a copy of the project, run through DVC."""

import json
import re
import sys

import pandas as pd
import pytest

from diffplast.core import registry
from tests.conftest import ROOT
from tests.test_pipeline import Clone

TASK = "echo"
NUMBERS = ["no", "one", "two", "three", "four"]


def section() -> str:
    """The text under "Add a task"."""
    return (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Add a task\n")[2].partition("\n## ")[0]


def steps() -> list[tuple[str, str, str]]:
    """(file, language, code) of each numbered step."""
    found = re.findall(r"^\d\. `([^`]+)`.*?\n\n   ```(\w+)\n(.*?)\n   ```$", section(), re.MULTILINE | re.DOTALL)
    return [(name, language, re.sub(r"^   ", "", code, flags=re.MULTILINE) + "\n") for name, language, code in found]


def follow(clone: Clone, name: str, language: str, code: str) -> None:
    """Do what a step says: run a command, write a new file, replace an assignment in a module, add a block to YAML."""
    file = clone.folder / name
    if language == "bash":
        clone.run("bash", "-ec", code)
    elif not file.exists():
        file.parent.mkdir(parents=True)
        file.write_text(code)
    elif language == "python":
        bound, count = re.subn(rf"^{code.partition('=')[0]}=.*\n", code, file.read_text(), flags=re.MULTILINE)
        assert count == 1, f"{name} binds {code!r} {count} times"
        file.write_text(bound)
    else:
        file.write_text(f"{file.read_text()}\n{code}")


def test_a_step_is_found_for_every_number():
    assert [name for name, _, _ in steps()] == re.findall(r"^\d\. `([^`]+)`", section(), re.MULTILINE)
    assert section().lstrip().lower().startswith(f"{NUMBERS[len(steps())]} files.")


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A copy of the project to which the task was added."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    for step in steps():
        follow(clone, *step)
    return clone


@pytest.mark.slow
def test_the_files_touched_are_those_that_the_document_names(added):
    status = added.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    assert sorted(line.split()[-1] for line in status) == sorted(name for name, _, _ in steps())


@pytest.mark.slow
def test_the_contract_holds_for_the_new_task(added):
    files = [f"tests/test_{name}.py" for name in ("tasks", "training", "dependencies", "figures")]
    chosen = f"({TASK} and not figures) or dvc_plots"
    output = added.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files)
    assert int(re.search(r"(\d+) passed", output)[1]) > 5 and "failed" not in output


@pytest.mark.slow
def test_the_new_task_runs_through_dvc_to_the_page(added):
    added.run(sys.executable, "-m", "diffplast.core.params", "scale=smoke")
    ran = added.repro(f"stages/{TASK}/dvc.yaml")
    assert {stage.partition(":")[2].partition("@")[0] for stage in ran} == {"train", "evaluate", "figures"}
    for name in registry.names():  # that nothing was run of the others yet is what their figures say
        added.run(sys.executable, "-m", "stages.figures", name, "smoke")
    added.repro("--single-item", "report@smoke")
    reports = added.folder / "reports" / "smoke"
    page = (reports / "index.html").read_text()
    assert f'<section id="{TASK}"' in page and "Echo: share of wrong bits" in page
    curve = pd.read_csv(reports / "curves" / f"{TASK}.csv")
    assert curve["plastic"].notna().all() and list(curve["episode"]) == [20, 40]
    claims = json.loads((reports / "claims.json").read_text())
    assert claims and TASK not in {claim["task"] for claim in claims}, "a task without findings claims nothing"
