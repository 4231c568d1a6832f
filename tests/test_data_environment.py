"""Data on other people's machines: line ends, locales, folders that cannot be written, bad settings of Python."""

import os
import subprocess
import sys

import numpy as np
import pytest

from diffplast.core.dataset import load
from diffplast.data import DataError, prepare
from tests.conftest import ROOT
from tests.test_data_archives import write_zip
from tests.test_data_folder import IMAGE_OPTIONS, characters, photos

# Prepares a folder of images and one of characters, with names that are not ASCII, and a set of glyphs.
PROGRAM = """
import json, sys
from pathlib import Path
from diffplast.core.dataset import load
from diffplast.data import prepare
from tests.test_data_folder import CHARACTER_OPTIONS, IMAGE_OPTIONS
from tests.test_data_glyphs import OPTIONS

folder = Path(sys.argv[1])
said = [
    prepare("images", "folder", IMAGE_OPTIONS | {"path": sys.argv[2]}, folder / "images.npz"),
    prepare("omniglot", "folder", CHARACTER_OPTIONS | {"path": sys.argv[3]}, folder / "characters.npz"),
    prepare("omniglot", "glyphs", OPTIONS | {"characters": "ABEKRTXdek", "test_classes": 2}, folder / "glyphs.npz"),
]
print(json.dumps(said))
"""
SURROUNDINGS = {
    "plain": {},
    "ASCII alone, a narrow terminal, a far time zone": {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "COLUMNS": "5",
        "TZ": "Pacific/Kiritimati", "SOURCE_DATE_EPOCH": "0",
    },
    "no home, no progress bars, no asserts, no docstrings": {
        "HOME": "/nonexistent", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "TQDM_DISABLE": "1", "PYTHONOPTIMIZE": "2",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A zip of images and one of characters."""
    folder = tmp_path_factory.mktemp("sources")
    images = {name.replace("cats", "Kätzchen").replace("dogs", "狗"): content for name, content in photos().items()}
    letters = {name.replace("one/", "ελληνικά/"): content for name, content in characters().items()}
    return write_zip(folder / "photos.zip", images), write_zip(folder / "letters.zip", letters)


@pytest.mark.parametrize("changes", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_the_same_data_in_all_surroundings(changes, sources, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    environment = kept | {"PYTHONPATH": str(ROOT)} | changes
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), *map(str, sources)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    prepare("images", "folder", IMAGE_OPTIONS | {"path": str(sources[0])}, tmp_path / "here.npz")
    assert (tmp_path / "images.npz").read_bytes() == (tmp_path / "here.npz").read_bytes()
    assert list(load(tmp_path / "here.npz")["sources"]) == ["Kätzchen", "狗"]
    assert any(name.startswith("ελληνικά/") for name in load(tmp_path / "characters.npz")["names"])
    assert len(load(tmp_path / "glyphs.npz")["names"]) == 10


def test_a_clone_keeps_its_line_ends_whatever_git_is_set_to(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("a source archive")
    settings = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    subprocess.run(["git", *settings, "clone", "-q", "--no-hardlinks", ROOT, tmp_path / "clone"], check=True)
    command = ["git", *settings, "ls-files", "--eol"]
    listed = subprocess.run(command, cwd=tmp_path / "clone", capture_output=True, check=True).stdout.decode()
    assert "w/lf" in listed and "w/crlf" not in listed and "w/mixed" not in listed
    for name in ("Makefile", "params.yaml", ".ci/run"):
        assert b"\r" not in (tmp_path / "clone" / name).read_bytes()
    command = ["git", *settings, "status", "--porcelain"]
    assert not subprocess.run(command, cwd=tmp_path / "clone", capture_output=True, check=True).stdout


def test_an_earlier_data_set_says_how_to_prepare_it_again(tmp_path):
    """One of a version that did not yet hold characters for the final number."""
    arrays = {"drawings": np.zeros((5, 2, 31, 31), np.uint8), "names": np.array(list("abcde"))}
    arrays |= {"train_classes": np.arange(3), "test_classes": np.array([3, 4])}
    np.savez(tmp_path / "data.npz", kind="omniglot", **arrays)
    with pytest.raises(DataError, match=r"data\.npz: it holds .*not .*final_classes.*prepare it again"):
        load(tmp_path / "data.npz")


def test_a_home_that_is_nowhere_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where HOME is not set and the user has no name
    with pytest.raises(DataError, match=r"data\.images\.folder\.path is ~/photos, but there is no home directory"):
        prepare("images", "folder", IMAGE_OPTIONS | {"path": "~/photos"}, tmp_path / "x.npz")
