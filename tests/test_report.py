"""The report: claims and page from the result files, self-contained; the README's copy kept in step."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from diffplast.core import params, registry
from diffplast.figures import overview
from diffplast.report import figures, results
from diffplast.report import page as report

from .made_up import ROOT, Tree, run_script


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Results and figures of every task."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = Tree(folder)
        for name in registry.names():
            figures.write(made.read(name), folder / "reports" / made.scale)
    return made


@pytest.fixture(autouse=True)
def inside(tree, monkeypatch):
    """The tests run in the project's folder."""
    monkeypatch.chdir(tree.folder)


def written(tree):
    """Write the report; returns the page and claims.md."""
    report.write(tree.scale, results.read_all(tree.scale, params.read()))
    folder = tree.folder / "reports" / tree.scale
    return (folder / "index.html").read_text(), (folder / "claims.md").read_text()


class Page(HTMLParser):
    """Collects the tags of a page and checks that they are closed in order."""

    VOID = {"meta", "link", "img", "br", "input"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_stage_writes_claims_and_page(tree):
    done = subprocess.run(
        [sys.executable, ROOT / "stages/report.py", tree.scale], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    folder = tree.folder / "reports" / tree.scale
    entries = json.loads((folder / "claims.json").read_text())
    assert {"task", "claim", "paper", "ours", "test", "p", "effect", "verdict", "why", "arms"} == set(entries[0])
    assert len((folder / "claims.md").read_text().splitlines()) == len(entries) + 2
    assert (folder / "figures/overview.png").exists() and (folder / "figures/overview.svg").exists()
    first = (folder / "index.html").read_bytes()
    written(tree)
    assert (folder / "index.html").read_bytes() == first


def test_the_page_is_self_contained(tree):
    text, _ = written(tree)
    assert len(text.encode()) < 5e6
    page = Page(text)
    for _, attributes in page.tags:
        for key in ("src", "href"):
            assert re.match("data:|#", attributes.get(key, "#"))
    assert "@import" not in text and not re.search(r"url\((?!%23)", text)  # %23 is #: within the same picture
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 1 + sum(len(figures.names(name)) for name in registry.names())
    assert all(len(picture["alt"]) > 50 for picture in pictures)
    anchors = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert anchors <= {"#" + attributes["id"] for _, attributes in page.tags if "id" in attributes}


def test_a_changed_result_file_changes_claims_and_page(tree):
    page, table = written(tree)
    run_changed = tree.runs("maze", "plastic")[0]
    kept = (run_changed.results / "metrics.json").read_text()
    tree.change(run_changed, reward=1234.0)
    changed_page, changed_table = written(tree)
    (run_changed.results / "metrics.json").write_text(kept)
    assert '"unseen": [1234.0, ' in changed_page and '"unseen": [1234.0, ' not in page
    assert "1,234" in changed_table and "1,234" not in table
    assert changed_page.count("1,234") >= 4 and "1,234" not in page


def test_a_changed_curve_or_parameter_changes_the_page(tree):
    page, _ = written(tree)
    run_changed = tree.runs("images", "plastic")[0]
    kept = {name: (run_changed.results / name).read_text() for name in ("curve.csv", "metrics.json")}
    tree.set_curve(run_changed, {5: 123.4, 16: 43.21})
    tree.set("maze.smoke.lr=0.00777")
    changed, _ = written(tree)
    for name, text in kept.items():
        (run_changed.results / name).write_text(text)
    tree.set("maze.smoke.lr=0.001")
    assert '"high": [123.4, ' in changed and '"high": [123.4, ' not in page
    assert "lr: 0.00777" in changed and "0.00777" not in page


def test_parameters_are_shown_as_written_without_other_scales(tree):
    block = report.parameters("maze", "smoke")
    assert block.startswith("maze:\n") and "# paper (program)" in block and "  smoke:\n    episodes: 64" in block
    assert "laptop:" not in block and "omniglot" not in block
    assert block.splitlines()[-1] == "    curve_every: 32"


def test_pages_that_are_committed_take_less_than_a_mebibyte():
    pages = list((ROOT / "reports").glob("*/index.html"))
    assert pages and all(page.stat().st_size < 2**20 for page in pages)


def test_the_cost_is_compared_with_the_released_programs_where_theirs_is_known(tree):
    found = results.read_all(tree.scale, params.read())
    runs = found["maze"].runs
    theirs = sum(0.157 + 0.150 + 0.090 for run in runs if run.run.arm == "plastic") * runs[0].metrics["train_episodes"]
    text = report.cost(tree.scale, {"maze": found["maze"]})
    assert f"would take {report.duration(theirs)} on two cores for the training episodes of {len(runs)} of them" in text
    assert f"which took {report.duration(61.5 * len(runs))}: " in text
    assert "released programs" not in report.cost(tree.scale, {"binary_small": found["binary_small"]})


def test_memory_is_never_said_to_be_less_than_was_needed(tree):
    found = {"binary": tree.read("binary")}
    found["binary"].runs[0].machine["peak_memory_mb"] = 1049.0
    assert "none needed more than 1.1 GB" in report.cost(tree.scale, found)


def test_the_page_halves_the_rate_of_one_arm_where_each_has_its_own(tree):
    tree.set("maze.smoke.lr=0.002")
    tree.set("omniglot.smoke.lr={plastic: 0.004, homogeneous: 0.004, nonplastic: 0.004, lstm: 0.001}")
    page, _ = written(tree)
    assert "<dt>with half the rate</dt><dd><code>dvc exp run -S maze.smoke.lr=0.001</code></dd>" in page
    own = "<dt>with half the rate for plastic</dt><dd><code>dvc exp run -S omniglot.smoke.lr.plastic=0.002</code></dd>"
    assert own in page
    tree.set("maze.smoke.lr=0.001")
    tree.set("omniglot.smoke.lr=0.001")


def test_the_overview_counts_only_tasks_with_both_networks(tree):
    found = results.read_all(tree.scale, params.read())
    assert f"in {len(found)} of {len(found)} tasks" in overview.finding(found)
    tree.set("maze.arms=[plastic, homogeneous]")
    alone = overview.finding({"maze": tree.read("maze")})
    tree.set("maze.arms=[plastic, homogeneous, nonplastic]")
    assert alone == "No task has finished runs of both plastic and non-plastic networks"


def test_a_failed_run_is_on_the_page(tree):
    run_failed = tree.runs("omniglot", "lstm")[1]
    kept = (run_failed.results / "metrics.json").read_text()
    tree.fail(run_failed)
    page, _ = written(tree)
    (run_failed.results / "metrics.json").write_text(kept)
    assert "failed: lstm, seed 1: after episode 300 the loss (nan) is not finite" in page
    assert page.count(", failed</td>") == 1


def test_a_page_without_any_finished_agent_has_no_player(tree):
    kept = {run: (run.results / "metrics.json").read_text() for run in tree.runs("maze")}
    for run in kept:
        tree.fail(run)
    page, _ = written(tree)
    for run, text in kept.items():
        (run.results / "metrics.json").write_text(text)
    assert '<figure class="maze"' not in page and '<figure class="maze"' in written(tree)[0]


def test_a_missing_run_or_figure_is_one_line_that_names_the_command(tree, capsys):
    figure = tree.folder / "reports" / tree.scale / "figures/images_restored.svg"
    metrics = tree.runs("maze")[0].results / "metrics.json"
    stages = {figure: "images/dvc.yaml:figures@smoke", metrics: "maze/dvc.yaml:evaluate@smoke-plastic-0"}
    for path, stage in stages.items():
        kept = path.read_bytes()
        path.unlink()
        assert run_script("stages/report.py", tree.scale) == 1
        path.write_bytes(kept)
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and path.name in message and f"dvc repro stages/{stage}" in message


def test_every_figure_knows_its_task():
    for name in registry.names():
        for figure in figures.names(name):
            with pytest.raises(results.ResultsError, match=f"dvc repro stages/{name}/dvc.yaml:figures@laptop"):
                report.picture(report.Path("reports/laptop/figures") / f"{figure}.svg", name)


def test_a_task_without_words_of_its_own_has_a_section(tree, monkeypatch):
    from jinja2 import DictLoader, PackageLoader

    templates = PackageLoader("diffplast")
    names = [name for name in templates.list_templates() if name != "tasks/maze.html"]
    folder = ROOT / "diffplast/templates"
    loader = DictLoader({name: (folder / name).read_text() for name in names})
    monkeypatch.setattr(report, "PackageLoader", lambda _: loader)
    page, _ = written(tree)
    assert "Arms: plastic, homogeneous α, non-plastic." in " ".join(page.split())


def test_the_readme_is_kept_in_step(tree, capsys):
    def renew(*options):
        code = run_script("diffplast/report.py", "--readme", *options)
        return code, capsys.readouterr().err

    assert "README.md" in renew()[1]
    readme = tree.folder / "README.md"
    readme.write_text("# A\n\n<!-- claims:start -->\nold\n<!-- claims:end -->\n\nend\n")
    code, message = renew("--check")
    assert code == 1 and "dvc repro report@laptop" in message

    laptop = tree.folder / "reports/laptop"
    laptop.mkdir()
    written(tree)
    for name in ("claims.md", "cost.md"):
        (laptop / name).write_text((tree.folder / "reports" / tree.scale / name).read_text())
    code, message = renew("--check")
    assert code == 1 and "out of date" in message and "old" in readme.read_text()
    assert renew() == (0, "")
    assert renew("--check") == (0, "")
    text = readme.read_text()
    assert text.startswith("# A\n\n<!-- claims:start -->\n| claim |") and text.endswith("<!-- claims:end -->\n\nend\n")
    assert "the wall times of 32 training runs add up to 32 min 48 s" in text

    (laptop / "claims.md").write_text("| other |\n")
    assert renew("--check")[0] == 1
    readme.write_text("no marks")
    assert "expected one block" in renew()[1]


def test_words():
    assert [report.duration(seconds) for seconds in (7.4, 61.5, 3600 * 26 + 90)] == ["7 s", "1 min 2 s", "26 h 1 min"]
    nested = {"a": {"b": 1200, "c": None}, "d": [{"x": 1, "y": 2}, 3]}
    assert report.flat(nested) == [("a.b", "1,200"), ("d", "1, 2; 3")]
