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
import pandas as pd
import pytest
from diffplast.figures.maze import GOAL
from dvc_render import VegaRenderer
from matplotlib.figure import Figure
from PIL import Image, ImageColor, ImageSequence

from diffplast.core import params, registry
from diffplast.figures import curves, maze_episodes, style
from diffplast.report import figures, results

from .made_up import ROOT, Tree, run_script


@pytest.fixture
def make_tree(tmp_path, monkeypatch):
    """A function that makes a tree of results in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *names, **options: Tree(tmp_path, names=names, **options)


def write(tree, task):
    """Draw a task's figures; returns the bytes of all files by name."""
    folder = tree.folder / "reports" / tree.scale
    figures.write(tree.read(task), folder)
    made = sorted([*(folder / "figures").iterdir(), *(folder / "curves").iterdir()])
    return {path.name: path.read_bytes() for path in made}


@pytest.mark.parametrize("task", registry.names())
def test_every_task_has_its_figures_and_the_same_bytes_again(make_tree, task):
    tree = make_tree(task)
    made = write(tree, task)
    wanted = {f"{name}.{ending}" for name in figures.names(task) for ending in ("png", "svg")} | {f"{task}.csv"}
    wanted |= {f"{name}.gif" for name in figures.ANIMATIONS.get(task, {})}
    assert set(made) == wanted
    assert write(tree, task) == made


def test_a_task_that_is_not_listed_gets_learning_curves(make_tree, monkeypatch):
    monkeypatch.setattr(figures, "CURVES", {})
    tree = make_tree("binary_small")
    assert set(write(tree, "binary_small")) == {"binary_small.png", "binary_small.svg", "binary_small.csv"}
    assert curves.finding(tree.read("binary_small")).startswith("Share of wrong bits on unseen episodes: 0.39")


def test_the_heading_comes_from_the_files(make_tree):
    tree = make_tree("maze")
    before = write(tree, "maze")
    tree.set_values("maze", "plastic", 77, 79)
    assert "78 plastic" in curves.finding(tree.read("maze"))
    assert b"78 plastic" in write(tree, "maze")["maze.svg"]
    assert b"78 plastic" not in before["maze.svg"]


def test_the_table_for_dvc_plots_holds_medians(make_tree):
    tree = make_tree("maze", seeds=(0, 1, 2))
    for run, value in zip(tree.runs("maze", "plastic"), (1.0, 5.0, 3.0), strict=True):
        tree.set_curve(run, {32: value, 64: value + 1})
    write(tree, "maze")
    table = pd.read_csv(tree.folder / "reports" / tree.scale / "curves/maze.csv")
    assert list(table.columns) == ["episode", "plastic", "homogeneous", "nonplastic"]
    assert table.set_index("episode").loc[[32, 64], "plastic"].tolist() == [3.0, 4.0]


def test_dvc_plots_show_every_arm_with_the_projects_template():
    plots = params.YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["plots"]
    shown = {name: plot for entry in plots for name, plot in entry.items() if name != "live"}  # of runs in training
    content = params.read(ROOT / "params.yaml")
    assert {name: plot["y"] for name, plot in shown.items()} == {
        name: {f"reports/${{scale}}/curves/{name}.csv": content[name]["arms"]} for name in registry.names()
    }
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


def test_a_run_that_ended_early_keeps_its_last_value(make_tree):
    tree = make_tree("binary_small")
    first, second = tree.runs("binary_small", "plastic")
    tree.set_curve(first, {50: 0.2, 100: 0.1})
    tree.set_curve(second, {50: 0.004})
    found = tree.read("binary_small").curves("plastic")
    np.testing.assert_allclose(found.loc[100], [0.1, 0.004])


@pytest.mark.parametrize("task", registry.names())
def test_failed_runs_are_shown(make_tree, task):
    tree = make_tree(task)
    arm, other = tree.checked.model_dump()[task]["arms"][:2]
    for run in [*tree.runs(task, arm), tree.runs(task, other)[0]]:
        tree.fail(run)
    made = write(tree, task)
    assert b"no finished run" in made[f"{task}.svg"]
    assert all(made.values())
    labels = [line.get_label() for line in curves.draw_curves(_axes(), tree.read(task))]
    assert labels[0].endswith("(2/2 failed)") and labels[1].endswith("(1/2 failed)")


def _axes():
    from matplotlib.figure import Figure

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
    tree.set("binary.seeds=[0,2]", "binary.arms=[plastic]")
    assert [run.run.seed for run in tree.read("binary").runs] == [0, 2]


def test_images_of_different_episodes_are_not_put_side_by_side(make_tree):
    tree = make_tree("images", seeds=(0,))
    run = tree.runs("images", "nonplastic")[0]
    shown = tree.read("images").finished("nonplastic")[0].examples()
    np.savez(run.results / "examples.npz", **shown | {"target": -shown["target"]})
    with pytest.raises(results.ResultsError, match="other images"):
        write(tree, "images")


def test_a_step_that_finds_the_reward_leads_to_the_goal():
    from diffplast.figures.maze import track

    path = np.array([[1, 1], [1, 2], [5, 5], [5, 6]])
    segments, steps = track(path, np.array([0, 10, -0.1]), np.array([1, 3]))
    assert segments.tolist() == [[[1, 1], [1, 2]], [[1, 2], [1, 3]], [[5, 5], [5, 6]]]
    assert steps.tolist() == [0, 1, 2]


def test_the_animation_moves_the_agent_and_stays_compact(make_tree):
    tree = make_tree("maze", seeds=(0,))
    steps = tree.checked.maze.experiment.steps
    content = write(tree, "maze")["maze_episodes.gif"]
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
        "high": [0.4, 0.2], "unseen": [0.01, 0.02, 0.03],
    }
    tree.fail(tree.runs("binary", "plastic")[1])
    assert curves.points(tree.read("binary"))["arms"][0]["unseen"] == [0.01, 0.03]


def test_the_pages_player_has_every_step(make_tree):
    tree = make_tree("maze")
    tree.fail(tree.runs("maze", "homogeneous")[0])
    for run in tree.runs("maze", "nonplastic"):
        tree.fail(run)
    found = tree.read("maze")
    shown = found.finished("plastic")[0].examples()
    player = maze_episodes.episodes(found)
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


def test_plasticity_within_and_between_the_halves_of_an_image():
    from diffplast.figures.images import halves

    assert halves(np.array([[1, 1, 7, 8], [1, 3, 8, 9], [7, 8, 3, 1], [8, 9, 1, 1]])) == (1, 8)


def test_another_process_draws_the_same_and_loads_no_other_task(make_tree):
    tree = make_tree("maze", seeds=(0,))
    made = write(tree, "maze")
    code = (
        "import json, runpy, sys; sys.argv = ['figures.py', 'maze', 'smoke']\n"
        f"try: runpy.run_path({str(ROOT / 'stages/figures.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('diffplast')]))"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "LANG": "C", "MPLBACKEND": "svg"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    folder = tree.folder / "reports" / tree.scale
    assert {name: next(folder.glob(f"*/{name}")).read_bytes() for name in made} == made
    loaded = set(json.loads(done.stdout))
    others = {f"diffplast.tasks.{name}" for name in registry.names() if name != "maze"}
    others |= {f"diffplast.figures.{name}" for name in ("images", "omniglot", "binary", "overview")}
    assert not loaded & (others | {"diffplast.claims", "diffplast.report", "diffplast.core.training"})
