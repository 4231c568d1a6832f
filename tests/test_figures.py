"""Figures: drawn for every task, the same bytes each time, from the result files and nothing else."""

import io
import itertools
import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from xml.etree import ElementTree

import numpy as np
import pytest
from dvc_render import VegaRenderer
from matplotlib.figure import Figure
from PIL import Image, ImageColor, ImageSequence

from diffplast.core import params, registry
from diffplast.page.overview import overview
from diffplast.report import curves, figures, findings, results, style
from diffplast.report.paper import PaperCurve, curve
from diffplast.tasks.maze.findings import animation
from diffplast.tasks.maze.findings import figures as maze_figures
from diffplast.tasks.maze.findings.figures import GOAL, track

from .made_up import COURSES, ROOT, Tree, run_script


@pytest.fixture
def make_tree(tmp_path, monkeypatch):
    """A function that makes a tree of results in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *names, **options: Tree(tmp_path, names=names, **options)


def write(tree, task):
    """Draw a task's figures; returns the bytes of all files by name."""
    folder = tree.folder / "reports" / tree.scale
    figures.write(tree.read(task), folder)
    made = sorted([*(folder / "figures" / task).iterdir(), folder / f"curves/{task}.csv"])
    return {path.name: path.read_bytes() for path in made}


def drawn(tree, task, name):
    """Draw one figure of a task; returns its SVG."""
    with style.in_style():
        figure, description = {task: curves.learning_curves, **findings.load(task).figures}[name](tree.read(task))
        style.save(figure, description, tree.folder / name)
    return (tree.folder / f"{name}.svg").read_text()


@pytest.mark.parametrize("task", registry.names())
def test_every_task_has_its_figures_and_the_same_bytes_again(make_tree, task):
    tree = make_tree(task)
    made = write(tree, task)
    wanted = {f"{name}.{ending}" for name in figures.names(task) for ending in ("png", "svg")} | {f"{task}.csv"}
    wanted |= {f"{name}.gif" for name in findings.load(task).animations}
    assert set(made) == wanted
    assert write(tree, task) == made


def test_a_task_without_findings_gets_learning_curves(make_tree, monkeypatch):
    package = "diffplast.tasks.binary_small.findings"
    monkeypatch.setitem(sys.modules, package, None)  # as where the folder is not there
    assert findings.load("binary_small") == findings.Findings()
    tree = make_tree("binary_small")
    made = write(tree, "binary_small")
    assert set(made) == {"binary_small.png", "binary_small.svg", "binary_small.csv"}
    assert b"Share of wrong bits on unseen episodes: 0.39" in made["binary_small.svg"]


def test_findings_that_cannot_be_imported_are_not_taken_for_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffplast.report.paper", None)
    for name in [name for name in sys.modules if name.startswith("diffplast.tasks.maze.findings")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"diffplast\.report\.paper"):
        findings.load("maze")


def test_the_heading_comes_from_the_files(make_tree):
    tree = make_tree("maze")
    before = drawn(tree, "maze", "maze")
    tree.set_values("maze", "plastic", 77, 79)
    assert "78 plastic" in curves.finding(tree.read("maze"))
    assert "78 plastic" in drawn(tree, "maze", "maze")
    assert "78 plastic" not in before


def test_the_table_for_dvc_plots_holds_medians(make_tree):
    tree = make_tree("maze", seeds=(0, 1, 2))
    for run, value in zip(tree.runs("maze", "plastic"), (1.0, 5.0, 3.0), strict=True):
        tree.set_curve(run, {32: value, 64: value + 1})
    table = curves.table(tree.read("maze"))
    assert list(table.columns) == ["episode", "plastic", "homogeneous", "nonplastic"]
    assert table.set_index("episode").loc[[32, 64], "plastic"].tolist() == [3.0, 4.0]


def test_dvc_plots_show_every_arm_with_the_projects_template():
    files = [ROOT / f"stages/{name}/dvc.yaml" for name in registry.names()]
    plots = [entry for file in files for entry in params.YAML(typ="safe").load(file.read_text())["plots"]]
    shown = {name: plot for entry in plots for name, plot in entry.items()}
    for name in registry.names():
        ((path, arms),) = shown[name]["y"].items()
        assert path == f"../../reports/${{scale}}/curves/{name}.csv" and set(arms) <= set(registry.load(name).arms)
    arms = [{"filename": "maze.csv", "field": arm} for arm in ("plastic", "nonplastic")]
    points = [
        {"episode": "1", "value": value, "rev": rev, "filename": "maze.csv", "field": arm}
        for rev in ("HEAD", "workspace") for arm, value in (("plastic", "2"), ("nonplastic", ""))
    ]
    renderer = VegaRenderer(
        points, "maze", x="episode", y="value", anchors_y_definitions=arms, template=shown["maze"]["template"],
        template_dir=ROOT / ".dvc/plots",
    )
    filled = renderer.get_filled_template()
    assert "<DVC_METRIC" not in json.dumps(filled)
    assert filled["facet"]["field"] == "field" and filled["spec"]["encoding"]["color"]["field"] == "rev"


def test_a_shorter_run_keeps_its_last_value(make_tree):
    tree = make_tree("binary_small")
    first, second = tree.runs("binary_small", "plastic")
    tree.set_curve(first, {50: 0.2, 100: 0.1})
    tree.set_curve(second, {50: 0.004})
    found = tree.read("binary_small").curves("plastic")
    np.testing.assert_allclose(found.loc[100], [0.1, 0.004])


@pytest.mark.parametrize("task", registry.names())
def test_failed_runs_are_shown(make_tree, task):
    tree = make_tree(task)
    arm, other = list(COURSES[task])[:2]
    for run in [*tree.runs(task, arm), tree.runs(task, other)[0]]:
        tree.fail(run)
    made = write(tree, task)
    assert b"no finished run" in made[f"{task}.svg"]
    assert all(made.values())
    labels = [line.get_label() for line in curves.draw_curves(_axes(), tree.read(task))]
    assert labels[0].endswith("(2/2 failed)") and labels[1].endswith("(1/2 failed)")


@pytest.mark.parametrize("task", registry.names())
def test_a_task_that_was_not_run_has_figures_that_say_so(make_tree, task):
    tree = make_tree(task, seeds=(0,))
    for run in tree.runs(task):
        tree.remove(run)
    found = tree.read(task)
    assert found.runs == [] and found.missing == tree.runs(task)
    made = write(tree, task)
    assert all(made.values()) and b"not run yet" in made[f"{task}.svg"]


def test_what_was_not_run_is_left_out_and_counted(make_tree):
    tree = make_tree("maze", seeds=(0, 1, 2))
    gone = tree.runs("maze", "plastic")[1]
    tree.remove(gone)
    found = tree.read("maze")
    assert found.missing == [gone] and found.arms == ["plastic", "homogeneous", "nonplastic"]
    assert found.seeds_in_words("plastic") == "2 of 3" and found.seeds_in_words("nonplastic") == "3"
    assert curves.label(found, "plastic") == "plastic (1/3 not run yet)"


def _axes():
    return Figure().subplots()


@pytest.mark.parametrize("file", ["metrics.json", "curve.csv", "run.json"])
def test_a_missing_file_is_named_with_the_command_that_makes_it(make_tree, file):
    tree = make_tree("binary")
    run = tree.runs("binary", "homogeneous")[1]
    (run.results / file).unlink()
    with pytest.raises(results.ResultsError) as error:
        tree.read("binary")
    assert str(error.value) == (
        f"reports/smoke/runs/binary/homogeneous-1/{file}: no such result file; "
        "make it with: dvc repro stages/binary/dvc.yaml:evaluate@smoke-homogeneous-1"
    )


def test_the_stage_reports_a_missing_file_and_wrong_usage(make_tree, capsys):
    tree = make_tree("binary")
    (tree.runs("binary")[0].results / "metrics.json").unlink()
    assert run_script("stages/figures.py", "binary", tree.scale) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "dvc repro stages/binary/dvc.yaml:evaluate@smoke-plastic-0" in message
    assert "TASK SCALE" in run_script("stages/figures.py", "binary")


def test_a_damaged_file_is_named(make_tree):
    tree = make_tree("binary")
    (tree.runs("binary")[0].results / "metrics.json").write_text("{")
    with pytest.raises(results.ResultsError, match=r"plastic-0/metrics\.json: cannot be read"):
        tree.read("binary")


def test_runs_that_params_do_not_list_are_left_out(make_tree):
    tree = make_tree("binary", seeds=(0, 1, 2))
    tree.set("binary.runs=[nonplastic-1, plastic-2, plastic-0]")
    listed = [(run.run.arm, run.run.seed) for run in tree.read("binary").runs]
    assert listed == [("plastic", 0), ("plastic", 2), ("nonplastic", 1)]


def test_images_of_different_episodes_are_not_put_side_by_side(make_tree):
    tree = make_tree("images", seeds=(0,))
    run = tree.runs("images", "nonplastic")[0]
    shown = tree.read("images").finished("nonplastic")[0].examples()
    np.savez(run.results / "examples.npz", **shown | {"target": -shown["target"]})
    with pytest.raises(results.ResultsError, match="other images"):
        write(tree, "images")


def test_a_step_that_finds_the_reward_leads_to_the_goal():
    path = np.array([[1, 1], [1, 2], [5, 5], [5, 6]])
    segments, steps = track(path, np.array([0, 10, -0.1]), np.array([1, 3]))
    assert segments.tolist() == [[[1, 1], [1, 2]], [[1, 2], [1, 3]], [[5, 5], [5, 6]]]
    assert steps.tolist() == [0, 1, 2]


def test_the_animation_moves_the_agent_and_stays_compact(make_tree):
    tree = make_tree("maze", seeds=(0,))
    steps = tree.checked.maze.experiment.steps
    style.animate(*animation.animation(tree.read("maze")), tree.folder / "maze_episodes")
    content = (tree.folder / "maze_episodes.gif").read_bytes()
    assert len(content) < 500_000
    picture = Image.open(io.BytesIO(content))
    assert picture.n_frames <= steps + 1 and picture.info["loop"] == 0
    frames = [np.asarray(frame.convert("RGB"), dtype=int) for frame in ImageSequence.Iterator(picture)]
    assert all(np.abs(later - earlier).max() > 50 for earlier, later in itertools.pairwise(frames))
    goal = np.array(ImageColor.getrgb(GOAL))
    assert all((np.abs(frame - goal).max(axis=2) < 30).any() for frame in frames)


def test_numbers_for_the_page_are_those_that_are_drawn(make_tree):
    tree = make_tree("binary", seeds=(0, 1, 2))
    for run, value in zip(tree.runs("binary", "plastic"), (0.1, 0.5, 0.30004), strict=True):
        tree.set_curve(run, {10: value, 20: value / 2})
    tree.set_values("binary", "plastic", 0.01, 0.02, 0.03)
    points = curves.points(tree.read("binary"))
    assert points["level"] == 0.01 and points["percent"] and points["from_zero"]
    assert points["arms"][0] == {
        "color": "#0072b2", "dash": "", "episodes": [10, 20], "middle": [0.3, 0.15], "low": [0.2, 0.1],
        "high": [0.4, 0.2], "seeds": [[0.1, 0.05], [0.5, 0.25], [0.3, 0.15]], "unseen": [0.01, 0.02, 0.03],
        "paper": None,
    }
    tree.fail(tree.runs("binary", "plastic")[1])
    assert curves.points(tree.read("binary"))["arms"][0]["unseen"] == [0.01, 0.03]


def test_the_papers_curve_ends_where_ours_does(make_tree):
    theirs = PaperCurve("paper", "", np.array([0, 100, 200]), np.array([9.0, 5, 1]), *np.zeros((3, 0)))
    assert [part.tolist() for part in curves.within(theirs, 150, log=False)] == [[0, 100, 150], [9, 5, 3]]
    assert [part.tolist() for part in curves.within(theirs, 900, log=True)] == [[100, 200], [5, 1]]
    assert [len(part) for part in curves.within(theirs, 50, log=True)] == [0, 0]
    tree = make_tree("maze")
    for run in tree.runs("maze", "plastic"):
        tree.set_curve(run, {50_000: 10.0, 100_000: 30.0})
    arms = dict(zip(tree.read("maze").arms, curves.points(tree.read("maze"))["arms"], strict=True))
    assert arms["plastic"]["paper"]["episodes"][-1] == 100_000 and arms["homogeneous"]["paper"] is None
    assert arms["plastic"]["paper"]["values"][-1] == pytest.approx(25, abs=1)
    lines = curves.draw_curves(axes := _axes(), tree.read("maze"))
    grey = [line for line in axes.lines if line.get_color() == style.OTHERS]
    assert len(lines) == 3 and len(grey) == 2 and all(line.get_linewidth() < 1 for line in grey)


def test_the_papers_band_has_a_gap_where_it_could_not_be_read():
    theirs = curve(6, "maze", "plastic")
    parts = [(theirs.band_episodes[part][[0, -1]]).tolist() for part in curves.bands(theirs, 1_000_000)]
    assert parts[0] == [20_000, 30_000] and parts[1][0] == 200_000
    assert [curves.bands(theirs, longest) for longest in (0, 20_000)] == [[], []]
    assert curves.bands(curve(2, "binary", "plastic"), 250) == [slice(0, 23)]


def test_the_maze_shown_is_typical_before_and_after_training():
    early, late = np.zeros((5, 3)), np.zeros((5, 3))
    early[:, 0], late[:, 0] = [61, -14, 1, 0, 3], [120, 100, 90, 110, 130]
    assert maze_figures.typical({"early_reward": early, "late_reward": late}) == 3


def test_every_seed_is_drawn_and_long_curves_are_condensed(make_tree):
    tree = make_tree("binary", seeds=(0, 1, 2))
    values = np.arange(1000.0)
    for run in tree.runs("binary", "plastic"):
        tree.set_curve(run, {10 * (i + 1): 1 + value + run.seed for i, value in enumerate(values)})
    found = tree.read("binary")
    short = curves.condensed(found.curves("plastic"))
    assert len(short) == curves.POINTS and short.index[-1] == 10_000
    assert short[0].mean() == pytest.approx(1 + values.mean())
    log = curves.condensed(found.curves("plastic"), log=True)
    assert len(log) <= curves.POINTS and log.index[0] == 10 and log[2].is_monotonic_increasing
    axes = _axes()
    curves.draw_curves(axes, found, arms=["plastic"])
    thin = [line for line in axes.lines if line.get_linewidth() == 0.5]
    assert len(thin) == 3 and all(len(line.get_xdata()) == curves.POINTS for line in thin)


def test_the_loss_is_set_beside_figure_2_at_equal_episodes(make_tree):
    tree = make_tree("binary", seeds=(0,))
    (run,) = tree.runs("binary", "plastic")
    tree.set_curve(run, {50: 400.0, 100: 200.0, 150: 90.0}, metric="loss")
    svg = drawn(tree, "binary", "binary_loss")
    assert "Training loss after 100 episodes: 200 (plastic); 268 in figure 2" in svg
    tree = make_tree("binary", seeds=(0,), scale="study")
    tree.add("binary", "plastic_slow")
    (run,) = tree.runs("binary", "plastic")
    tree.set_curve(run, {50: 400.0, 100: 200.0, 150: 90.0}, metric="loss")
    (slow,) = tree.runs("binary", "plastic_slow")
    tree.set_curve(slow, {50: 450.0, 100: 300.0, 150: 190.0, 200: 80.0}, metric="loss")
    svg = drawn(tree, "binary", "binary_loss")
    assert "after 100 episodes: 200 (plastic), 300 (plastic, a fifth of the rate); 268 in figure 2" in svg


def test_the_sweep_names_the_last_level_that_both_have_reached(make_tree):
    tree = make_tree("binary_small", seeds=(0,))
    for arm, episodes in (("plastic_long", 2_000), ("lstm", 500_000)):
        (run,) = tree.runs("binary_small", arm)
        tree.set_curve(run, {episodes * i // 10: 0.2 if i < 6 else 0.025 for i in range(1, 11)})
        tree.set_values("binary_small", arm, 0.025)
    svg = drawn(tree, "binary_small", "binary_small_sweep")
    title = " ".join(svg.split("<dc:title>")[1].split("</dc:title>")[0].split())
    assert title.startswith("At 3 % the LSTM needs 250 times the episodes of a plastic network that is shown its ")
    assert "(283 in figure 3), and " in title


def test_table_1_has_both_evaluations(make_tree):
    tree = make_tree("omniglot", seeds=(0, 1))
    tree.set_values("omniglot", "plastic", 0.91, 0.93, metric="accuracy_final")
    tree.set_values("omniglot", "plastic", 0.97, 0.99, metric="accuracy_released")
    svg = drawn(tree, "omniglot", "omniglot_table")
    assert "plastic, new characters 92\u00a0% (91–93)" in svg
    assert "plastic, released evaluation 98\u00a0% (97–99)" in svg
    assert "(released evaluation); published: 98.5\u00a0%" in svg


def test_lines_of_a_heading_are_of_about_the_same_length():
    figure = Figure()
    style.title(figure, "Loss after 200 episodes: 6.48 (plastic), 48.8 (plastic, slow); 45.7 in the figure 2", width=39)
    lengths = [len(line) for line in figure.get_suptitle().split("\n")]
    assert len(lengths) == 3 and max(lengths) <= 39 and min(lengths) > 20


def test_no_words_of_table_1_cover_others(make_tree):
    """With every arm that there is: their names are long."""
    tree = make_tree("omniglot", scale="study")
    with style.in_style():
        figure, _ = findings.load("omniglot").figures["omniglot_table"](tree.read("omniglot"))
        style.settle(figure)
    (axes,) = figure.axes
    words = [*axes.get_yticklabels(), *axes.texts, axes.xaxis.label]
    boxes = [(text.get_text(), text.get_window_extent()) for text in words if text.get_text()]
    assert any("the text's" in text for text, _ in boxes)
    assert not [(one, other) for (one, a), (other, b) in itertools.combinations(boxes, 2) if a.overlaps(b)]
    assert not [(text, box) for text, box in boxes if box.x0 < 0 or box.x1 > figure.bbox.x1]


def test_the_pages_player_has_every_step(make_tree):
    tree = make_tree("maze")
    tree.fail(tree.runs("maze", "homogeneous")[0])
    for run in tree.runs("maze", "nonplastic"):
        tree.fail(run)
    found = tree.read("maze")
    shown = found.finished("plastic")[0].examples()
    player = animation.episodes(found)
    assert player["walls"] == shown["walls"].astype(int).tolist()
    assert [agent["name"] for agent in player["agents"]] == ["plastic, seed 0", "homogeneous α, seed 1"]
    maze = player["agents"][0]["mazes"][3]
    assert maze["goal"] == shown["late_goal"][3].tolist()
    assert maze["early"]["path"] == shown["early_path"][3].tolist()
    np.testing.assert_allclose(maze["late"]["rewards"], shown["late_reward"][3], atol=1e-3)


def places(path):
    """The points that the d of a path names, in order."""
    points = np.array(re.findall(r"-?\d*\.?\d+", path), float).reshape(-1, 2)
    return points.cumsum(axis=0) if "l" in path else points


@pytest.mark.parametrize("colours", [17, 200, 70_000])
def test_a_picture_for_the_page_shows_what_matplotlib_drew(tmp_path, colours):
    figure = Figure(figsize=(4, 3))
    curve, picture = figure.subplots(2)
    values = np.random.default_rng(0).standard_normal(300).cumsum()
    curve.plot(values, label="a curve")
    curve.fill_between(range(300), values - 1, values + 1, alpha=0.5)
    curve.legend()
    if colours > 256:
        pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    else:
        pixels = np.repeat(np.arange(2000, dtype=np.uint8).reshape(40, 50, 1) % colours, 3, axis=2)
    picture.imshow(pixels, interpolation="none")
    style.save(figure, "a curve and a picture", tmp_path / "saved")
    figure.savefig(tmp_path / "drawn.svg")
    saved, drawn = ((tmp_path / f"{name}.svg").read_text() for name in ("saved", "drawn"))
    assert len(saved) < 0.9 * len(drawn)

    paths = [re.findall(r"\bd=\"([^\"]*)", text) for text in (saved, drawn)]
    for ours, theirs in zip(*paths, strict=True):
        np.testing.assert_allclose(places(ours), places(theirs), rtol=0, atol=0.011)

    nodes = list(ElementTree.fromstring(saved).iter())
    links = [node.get("href") for node in nodes if node.get("href")]
    names = {node.get("id") for node in nodes}
    assert {link[1:] for link in links if link.startswith("#")} <= names
    (embedded,) = (link for link in links if link.startswith("data:image/png;base64,"))
    shown = Image.open(io.BytesIO(b64decode(embedded.partition(",")[2])))
    assert (shown.mode == "P") == (colours <= 256)
    np.testing.assert_array_equal(np.asarray(shown.convert("RGB")), pixels)


def test_matrices_are_shown_with_the_number_of_their_structure(make_tree):
    tree = make_tree("images", seeds=(0,))
    (run,) = tree.runs("images", "plastic")
    tree.set_examples(run, alpha_structure=(0.25, 0.001, 0.02))
    svg = drawn(tree, "images", "images_matrices")
    assert "connections of neighbouring pixels correlate by 0.25 (shuffled 0.001 ± 0.02)" in svg


def test_another_process_draws_the_same_and_loads_no_other_task(make_tree):
    tree = make_tree("omniglot", seeds=(0,))
    made = write(tree, "omniglot")
    code = (
        "import json, runpy, sys; sys.argv = ['figures.py', 'omniglot', 'smoke']\n"
        f"try: runpy.run_path({str(ROOT / 'stages/figures.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('diffplast')]))"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "LANG": "C", "MPLBACKEND": "svg"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    folder = tree.folder / "reports" / tree.scale
    assert {name: next(folder.rglob(name)).read_bytes() for name in made} == made
    loaded = set(json.loads(done.stdout))
    others = {f"diffplast.tasks.{name}" for name in registry.names() if name != "omniglot"}
    assert not loaded & (others | {"diffplast.page", "diffplast.data", "diffplast.core.training"})


def test_the_overview_holds_its_legend(make_tree):
    """With every arm that there is, of which it shows three."""
    tree = make_tree("binary", "maze", seeds=(0,), scale="study")
    tree.add("binary", "plastic_slow")
    tree.add("maze", "plastic_text", "nonplastic_text")
    with style.in_style():
        figure, description = overview({name: tree.read(name) for name in ("binary", "maze")})
        style.settle(figure)
    (legend,) = figure.legends
    assert legend.get_window_extent().x0 >= 0 and legend.get_window_extent().x1 <= figure.bbox.x1
    assert [text.get_text() for text in legend.get_texts()][:3] == ["plastic", "homogeneous α", "non-plastic"]
    assert "non-plastic" in description and "the text's" not in description
