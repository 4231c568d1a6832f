"""The report: claims and page from the result files, self-contained; the README's copy kept in step."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from diffplast.core import params, registry
from diffplast.page import cost, overview, parts, readme, report
from diffplast.report import figures, findings, results

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
        [sys.executable, "-m", "stages.report", tree.scale], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    folder = tree.folder / "reports" / tree.scale
    entries = json.loads((folder / "claims.json").read_text())
    assert {
        "task", "title", "name", "claim", "place", "source", "paper", "counted", "apart", "verdict", "mark", "short",
        "ours", "test", "why", "differs", "p", "p_holm", "effect", "each", "arms",
    } == set(entries[0])
    rows = [line for line in (folder / "claims.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) == len(entries) + 4
    assert (folder / "overview.png").exists() and (folder / "overview.svg").exists()
    first = (folder / "index.html").read_bytes()
    written(tree)
    assert (folder / "index.html").read_bytes() == first


def test_the_page_is_self_contained(tree):
    text, _ = written(tree)
    assert len(text.encode()) < 5e6
    page = Page(text)
    for tag, attributes in page.tags:
        for key in ("src", "href"):
            assert tag == "a" or re.match("data:|#", attributes.get(key, "#"))
    assert "@import" not in text and not re.search(r"url\((?!%23|data:)", text)  # %23 is #: within the same picture
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 1 + sum(len(figures.names(name)) for name in registry.names())
    assert all(len(picture["alt"]) > 50 for picture in pictures)
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    files = {link for link in links if (ROOT / "reports" / "laptop" / link).is_file()}  # of the project
    assert links - files <= {"#" + attributes["id"] for _, attributes in page.tags if "id" in attributes}


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
    assert block.startswith("maze:\n") and "# paper (program" in block and "  smoke:\n    episodes: 64" in block
    assert "  laptop:\n" not in block and "study: {episodes" not in block and "omniglot" not in block
    assert block.splitlines()[-1] == "    curve_every: 32"


def test_pages_that_are_committed_are_not_large():
    pages = list((ROOT / "reports").glob("*/index.html"))
    assert pages and all(page.stat().st_size < 6e6 for page in pages)


def test_the_cost_is_compared_with_the_released_programs_where_theirs_is_known(tree):
    found = results.read_all(tree.scale, params.read())
    runs = found["maze"].runs
    theirs = sum(0.157 + 0.150 + 0.090 for run in runs if run.run.arm == "plastic") * runs[0].metrics["train_episodes"]
    text = cost.cost(tree.scale, {"maze": found["maze"]})
    ours = cost.duration(61.5 * len(runs))
    assert f"The {len(runs)} runs whose cost with the authors' programs is known took {ours}; " in text
    assert f"those programs would take {cost.duration(theirs)} (" in text
    assert "authors' programs" not in cost.cost(tree.scale, {"binary_small": found["binary_small"]})


def test_the_cost_names_the_runs_that_are_missing(tree):
    tree.set("maze.seeds.smoke={plastic: 3, homogeneous: 5, nonplastic: 2, others: 0}")
    table = cost.runs_table({"maze": tree.read("maze")})
    tree.set("maze.seeds.smoke={plastic_text: 0, nonplastic_text: 0, others: 1}")
    episodes = tree.read("maze").runs[0].episodes
    beside = [f"{cost.duration(2 * each * episodes)} (" for each in (0.157, 0.150, 0.090)]
    lines = [line.split(" | ") for line in table.splitlines() if "Maze" in line]
    assert lines[0][1:6] == ["plastic", "2", "3", "2 min 3 s", lines[0][5]] and lines[0][6] == "plastic-2 |"
    assert lines[1][1:4] == ["homogeneous α", "2", "5"] and lines[1][6] == "homogeneous-2 to homogeneous-4 |"
    assert lines[2][1:4] == ["non-plastic", "2", "2"] and lines[2][6] == "– |"
    for line, start in zip(lines, beside, strict=True):
        assert line[5].startswith(start) and line[5].endswith(" times)")
    assert "the text's inputs" not in table


def test_memory_is_never_said_to_be_less_than_was_needed(tree):
    found = {"binary": tree.read("binary")}
    found["binary"].runs[0].record["peak_memory_mb"] = 1049.0
    assert "none needed more than 1.1 GB" in cost.cost(tree.scale, found)


def test_the_page_halves_the_rate_of_one_arm_where_each_has_its_own(tree):
    tree.set("maze.smoke.lr=0.002")
    tree.set("omniglot.smoke.lr={plastic: 0.004, homogeneous: 0.004, nonplastic: 0.004, text: 0.001}")
    page, _ = written(tree)
    assert "<dt>with half the rate</dt><dd><code>dvc exp run -S maze.smoke.lr=0.001</code></dd>" in page
    own = "<dt>with half the rate for plastic</dt><dd><code>dvc exp run -S omniglot.smoke.lr.plastic=0.002</code></dd>"
    assert own in page
    tree.set("maze.smoke.lr=0.001")
    tree.set("omniglot.smoke.lr=0.001")


def test_the_overview_counts_only_tasks_with_both_networks(tree):
    found = results.read_all(tree.scale, params.read())
    assert f"in {len(found)} of {len(found)} tasks" in overview.finding(found)
    shorter = found["maze"].runs[-1]  # non-plastic
    shorter.metrics["train_episodes"] = shorter.episodes - 1
    assert f"in {len(found) - 1} of {len(found) - 1} tasks" in overview.finding(found)
    tree.list_runs({"maze": (0, 1)}, ("plastic", "homogeneous"))
    alone = overview.finding({"maze": tree.read("maze")})
    tree.list_runs({"maze": (0, 1)})
    assert alone == "No task has finished runs of both plastic and non-plastic networks, trained as long"


def test_a_failed_run_is_on_the_page(tree):
    run_failed = tree.runs("omniglot", "nonplastic")[1]
    kept = (run_failed.results / "metrics.json").read_text()
    tree.fail(run_failed)
    page, _ = written(tree)
    (run_failed.results / "metrics.json").write_text(kept)
    assert "failed: nonplastic, seed 1: after episode 300 the loss (nan) is not finite" in page
    assert page.count(", failed</td>") == 1


def test_a_page_without_any_finished_agent_has_no_player(tree):
    kept = {run: (run.results / "metrics.json").read_text() for run in tree.runs("maze")}
    for run in kept:
        tree.fail(run)
    page, _ = written(tree)
    for run, text in kept.items():
        (run.results / "metrics.json").write_text(text)
    assert '<figure class="player maze"' not in page and '<figure class="player maze"' in written(tree)[0]


def test_a_missing_run_or_figure_is_one_line_that_names_the_command(tree, capsys):
    figure = tree.folder / "reports" / tree.scale / "figures/images/images_restored.svg"
    metrics = tree.runs("maze")[0].results / "metrics.json"
    evaluate = results.evaluate_command(tree.runs("maze")[0]).removeprefix("dvc repro stages/")
    stages = {figure: "images/dvc.yaml:figures@smoke", metrics: evaluate}
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
                report.picture(report.Path("reports/laptop/figures") / name / f"{figure}.svg")


def test_a_task_without_findings_has_a_section(tree, monkeypatch):
    load, load_parts = findings.load, parts.load
    monkeypatch.setattr(findings, "load", lambda task: findings.Findings() if task == "maze" else load(task))
    monkeypatch.setattr(parts, "load", lambda task: parts.Parts() if task == "maze" else load_parts(task))
    monkeypatch.setattr(report, "TASKS", tree.folder / "nowhere")
    page, table = written(tree)
    assert "Arms: plastic, homogeneous α, non-plastic." in " ".join(page.split())
    assert "Maze" not in table and '<figure class="player' not in page


def test_what_was_not_run_is_named_and_a_task_without_runs_says_so(tree):
    kept = {path: path.read_bytes() for path in (tree.folder / "reports").rglob("runs/*/*/*")}
    tree.remove(tree.runs("binary", "plastic")[1])
    for run in tree.runs("maze"):
        tree.remove(run)
    page, table = written(tree)
    for path, content in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    words = " ".join(page.split())
    assert "7 runs of this scale are" in words and "binary plastic-1, maze plastic-0, maze plastic-1," in words
    assert page.count("No run of this task yet.") == 1 and "no finished run of plastic and non-plastic" in table
    assert "not run yet" in table and "not there yet" not in written(tree)[0]


def test_claims_that_do_not_count_stand_apart(tree):
    page, _ = written(tree)
    start, end = page.index("<h3>Controls and comparisons"), page.index('<section id="binary">')
    apart = sum(bool(claim.apart) for name in registry.names() for claim in findings.load(name).claims)
    parts = page[page.index('<section id="claims">') : start], page[start:end]
    rows = [part.count('class="verdict') for part in parts]
    total = sum(len(findings.load(name).claims) for name in registry.names())
    assert rows == [total - apart, apart] and apart > 0
    assert f"Of {total - apart} claims" in " ".join(page.split())


def test_the_readme_is_kept_in_step(tree, capsys, monkeypatch):
    def renew(*options):
        monkeypatch.setattr(sys, "argv", ["readme", *options])
        return readme.main(), capsys.readouterr().err

    assert "README.md" in renew()[1]
    file = tree.folder / "README.md"
    file.write_text("# A\n\n<!-- claims:start -->\nold\n<!-- claims:end -->\n\nend\n")
    code, message = renew("--check")
    assert code == 1 and "dvc repro report@laptop" in message

    written(tree)
    laptop = tree.folder / "reports/laptop"
    laptop.mkdir()
    (laptop / "claims.json").write_text((tree.folder / "reports" / tree.scale / "claims.json").read_text())
    code, message = renew("--check")
    assert code == 1 and "out of date" in message and "old" in file.read_text()
    assert renew() == (0, "")
    assert renew("--check") == (0, "")
    text = file.read_text()
    head = "| | claim | paper | [laptop: half an hour](reports/laptop/claims.md) | study: the paper's lengths |"
    assert text.startswith(f"# A\n\n<!-- claims:start -->\n{head}")
    assert text.endswith("<!-- claims:end -->\n\nend\n") and " | not run yet |" in text
    cells = [cell.strip() for line in text.splitlines() if line.startswith("| ") for cell in line.split("|")[1:-1]]
    assert max(map(len, cells)) < 60
    learned = (tree.folder / "docs" / "learned.md").read_text()
    titles = [entry["title"] for entry in json.loads((laptop / "claims.json").read_text()) if entry["counted"]]
    assert all(learned.count(f"- **{title}.**") >= titles.count(title) for title in titles)

    study = tree.folder / "reports/study"
    study.mkdir()
    (study / "claims.json").write_text((laptop / "claims.json").read_text())
    assert renew("--check")[0] == 1
    assert renew() == (0, "") and "not run yet" not in file.read_text()
    file.write_text("no marks")
    assert "expected one block" in renew()[1]


def test_words():
    assert [cost.duration(seconds) for seconds in (7.4, 61.5, 3600 * 26 + 90)] == ["7 s", "1 min 2 s", "26 h 1 min"]
    nested = {"a": {"b": 1200, "c": None}, "d": [{"x": 1, "y": 2}, 3]}
    assert report.flat(nested) == [("a.b", "1,200"), ("d", "1, 2; 3")]
