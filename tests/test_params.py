"""params.yaml: what is wrong with it is said by key, before any work."""

import copy
import shutil
import subprocess
import sys
from functools import reduce
from operator import getitem

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from diffplast.core import params, registry
from tests.conftest import ROOT

GOOD = params.read(ROOT / "params.yaml")
ARMS = {arm for name in registry.names() for arm in registry.load(name).arms}


def key_paths(content, path=()):
    """Every key of nested dicts, parents included; a value given for each arm counts as one."""
    for key, value in content.items():
        yield (*path, key)
        if isinstance(value, dict) and not set(value) <= {*ARMS, "others"}:
            yield from key_paths(value, (*path, key))


def changed(path, change):
    """The good content with `change(parent, key)` applied at `path`."""
    content = copy.deepcopy(GOOD)
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return content


def misspell(parent, key):
    parent[key + "x"] = parent.pop(key)


def remove(parent, key):
    del parent[key]


def problems(content) -> str:
    with pytest.raises(params.ParamsError) as error:
        params.check(content)
    return str(error.value)


KEYS = list(key_paths(GOOD))
OPTIONAL = {"adam_eps", "adam_beta2", "decay", "anneal", "clip", "average", "groupings", "layer_inputs"}
NEEDED = [path for path in KEYS if path[-1] not in OPTIONAL]


def test_the_committed_file_is_good():
    params.check(GOOD)


def test_there_are_many_keys():
    assert len(KEYS) > 60


def said_of(change, paths):
    """What is reported where all these keys are changed: by their depth, so that none is within another."""
    said = {}
    for depth in {len(path) for path in paths}:
        content = copy.deepcopy(GOOD)
        level = [path for path in paths if len(path) == depth]
        for *parents, key in level:
            change(reduce(getitem, parents, content), key)
        said |= dict.fromkeys(level, problems(content).splitlines())
    return said


def test_every_misspelt_key_is_named_with_its_neighbour():
    for path, said in said_of(misspell, KEYS).items():
        key = ".".join(path)
        assert f"  {key}x: unknown key; did you mean {path[-1]}?" in said
        assert path[-1] in OPTIONAL or f"  {key}: missing" in said


def test_every_missing_key_is_named():
    for path, said in said_of(remove, NEEDED).items():
        assert f"  {'.'.join(path)}: missing" in said


BAD_VALUES = {
    "scale": "desktop",
    "device": "gpu",
    "checkpoint_seconds": -1.0,
    "datasets.images": "imagenet",
    "binary.runs": ["plastic-0", "plastik-0"],
    "images.runs": [],
    "maze.runs": ["plastic-0", "plastic-0"],
    "omniglot.runs": ["plastic-00"],
    "binary.seeds.laptop": -1,
    "maze.seeds.study": {"plastic": 3},
    "maze.laptop.lr": -1e-3,
    "maze.laptop.episodes": 0,
    "maze.laptop.batch": 2.5,
    "maze.laptop.clip": 0.0,
    "maze.experiment.steps": "many",
    "images.laptop.lr": float("nan"),
    "binary_small.experiment.lstm_hidden": 10,
    "data.omniglot.glyphs.shear": -0.1,
    "binary.laptop.lr": "fast",
    "binary.laptop.decay": {"factor": 2.0, "every": 100},
    "binary_small.laptop.lr": {"plastic": 1e-3},
    "binary.test.laptop": {"episodes": 0, "batch": 8},
    "data.omniglot.glyphs.test_classes": "all",
    "data.images.cifar10.train_batches": 6,
    "data.images.cifar10.archive": {"mirror": None, "sha256": "c4a3"},
    "data.images.folder.test_share": 1.0,
    "data.omniglot.folder.ink": "blue",
}


@pytest.mark.parametrize("key", BAD_VALUES)
def test_bad_value_is_refused_by_key(key):
    path = key.split(".")
    said = problems(changed(path, lambda parent, last: parent.__setitem__(last, BAD_VALUES[key])))
    assert key in said


def test_all_problems_are_listed_at_once():
    content = changed(("checkpoint_seconds",), lambda parent, key: parent.__setitem__(key, -2.0))
    content["maze"]["laptop"]["lr"] = -1
    content["scael"] = content.pop("scale")
    said = problems(content)
    assert all(key in said for key in ("checkpoint_seconds", "maze.laptop.lr", "scael", "did you mean scale?"))


def test_a_stage_refuses_before_any_work(tmp_path):
    YAML().dump(changed(("binary", "smoke", "lr"), misspell), (tmp_path / "params.yaml").open("w"))
    stage = [sys.executable, ROOT / "stages" / "train.py", "binary", "smoke", "plastic-0"]
    result = subprocess.run(stage, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert "binary.smoke.lrx: unknown key; did you mean lr?" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [("train", "binary", "labtop", "plastic-0"), ("evaluate", "maze", "labtop", "plastic-0"),
     ("figures", "binary", "labtop"), ("prepare", "images", "labtop"), ("report", "labtop")],
    ids=["train", "evaluate", "figures", "prepare", "report"],
)  # fmt: skip
def test_a_stage_refuses_an_unknown_scale(tmp_path, arguments):
    stage, *rest = arguments
    result = subprocess.run(
        [sys.executable, ROOT / "stages" / f"{stage}.py", *rest], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (1, "unknown scale 'labtop'; there are smoke, laptop, study\n")
    assert not list(tmp_path.iterdir())


def test_assignments_keep_comments_and_refuse_bad_values(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    params.assign(["scale=smoke", "maze.runs=[plastic-3]", "maze.laptop.lr=3e-4"], path)
    checked = params.load(path=path)
    assert (checked.scale, checked.maze.runs, checked.maze.laptop.lr) == ("smoke", ["plastic-3"], 3e-4)
    comments = [text.count("#") for text in (path.read_text(), (ROOT / "params.yaml").read_text())]
    assert comments[0] == comments[1]

    before = path.read_text()
    for bad in ("maze.rnus=[plastic-0]", "scale=tiny", "device", "maze.laptop.lr={", "maze.laptop.lr=a\tb: ]"):
        with pytest.raises(params.ParamsError):
            params.assign([bad], path)
        assert path.read_text() == before
    params.assign(["maze.runs=[plastic-7]", "scale=laptop"], path)  # in either order
    assert params.load(path=path).maze.runs == ["plastic-7"]


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(params.YAML, "dump", full)
    with pytest.raises(params.ParamsError, match=r"cannot be written: .*No space left"):
        params.assign(["scale=smoke"], path)
    assert path.read_text() == (ROOT / "params.yaml").read_text() and list(tmp_path.iterdir()) == [path]


def test_assignments_leave_valid_yaml_where_dvc_has_rewritten_the_file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    apply_overrides(path, ["scale=smoke"])  # what `dvc exp run -S` does: lists then stand on lines of their own
    params.assign(["binary.runs=[plastic-3]", "maze.runs=[plastic-0,nonplastic-1]"], path)
    checked = params.load(path=path)
    assert (checked.scale, checked.binary.runs, checked.maze.runs) == (
        "smoke", ["plastic-3"], ["plastic-0", "nonplastic-1"],
    )  # fmt: skip


def test_missing_and_unreadable_files_are_named(tmp_path):
    path = tmp_path / "params.yaml"
    for use in (lambda: params.load(path=path), lambda: params.assign(["scale=smoke"], path)):
        path.unlink(missing_ok=True)
        with pytest.raises(params.ParamsError, match="there is no such file"):
            use()
        path.write_text("a: [1, 2")
        with pytest.raises(params.ParamsError, match="not valid YAML"):
            use()
        path.write_bytes(b"scale: \xff")
        with pytest.raises(params.ParamsError, match="not valid YAML"):
            use()


def test_a_new_scale_lists_the_runs_that_its_seeds_ask_for(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    params.assign(["images.seeds.smoke={plastic: 2, homogeneous: 0, nonplastic: 1}", "omniglot.seeds.smoke=1"], path)
    params.assign(["scale=smoke"], path)
    checked = params.load(path=path)
    assert checked.images.runs == ["plastic-0", "plastic-1", "nonplastic-0"]
    assert checked.omniglot.runs == ["plastic-0", "homogeneous-0", "nonplastic-0", "text-0"]


def test_runs_that_were_edited_are_named_when_they_are_replaced(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    params.assign(["scale=laptop"], tmp_path / "params.yaml")
    command = [sys.executable, "-m", "diffplast.core.params"]

    def said(*assignments):
        result = subprocess.run([*command, *assignments], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0
        return result.stderr

    assert said("scale=laptop") == "" == said("images.runs=[plastic-7]")
    assert said("scale=laptop").startswith("images.runs: plastic-0, plastic-1, ")
    assert said("images.runs=[plastic-7]") == "" == said("scale=smoke")


@pytest.mark.parametrize(
    "line, edited, key",
    [
        ("seeds: {smoke: 1, laptop: {plastic: 4,", "seeds: {smoke: {plastic: 2}, laptop: {plastic: 4,", "seeds.smoke"),
        ("seeds: {smoke: 1, laptop: {plastic: 4,", "seeds: {smoke: '1', laptop: {plastic: 4,", "seeds.smoke"),
        ("binary:\n", "binary:\nunary:\n", "unary"),
    ],
)
def test_a_new_scale_names_what_is_wrong_in_the_file(tmp_path, line, edited, key):
    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    assert text.count(line) == 1
    path.write_text(text.replace(line, edited))
    with pytest.raises(params.ParamsError, match=key):
        params.assign(["scale=smoke"], path)


def test_the_committed_runs_are_those_of_the_scale(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    params.assign([f"scale={GOOD['scale']}"], path)
    assert params.read(path) == GOOD
