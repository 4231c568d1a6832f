"""Compiled loops are kept on disk where that can be, and a fault of the disk never stops a call."""

import shutil
import warnings

import numba
import pytest
from numba.core.caching import FunctionCache

from diffplast.plasticity.jit import kernel


def double(x):
    return 2 * x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def loaded(function=double):
    """Compile or load a function, call it, and say whether it was loaded."""
    compiled = kernel(function)
    assert compiled(3) == 6
    return sum(compiled.stats.cache_hits.values()) > 0


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("length", [0, 60])
def test_file_cut_short(folder, suffix, length):
    assert not loaded() and loaded()
    (path,) = folder.rglob(f"*.{suffix}")
    path.write_bytes(path.read_bytes()[:length])
    assert not loaded() and loaded()  # compiled and kept again


def test_folder_that_cannot_be_written(folder):
    compiled = kernel(double)
    (place,) = folder.iterdir()
    shutil.rmtree(place)
    place.write_text("no folder any more")
    with pytest.warns(UserWarning, match=r"cannot be kept on disk.* set NUMBA_CACHE_DIR .*: " + str(place)):
        assert compiled(3) == 6


def test_no_folder_at_all(monkeypatch):
    """As numba sees it where neither the package's folder nor HOME can be written to."""
    monkeypatch.setattr(FunctionCache._impl_class, "_locator_classes", [])
    with pytest.warns(UserWarning, match=r"cannot be kept on disk.* set NUMBA_CACHE_DIR"):
        assert not loaded()


def test_files_that_cannot_be_read(folder):
    assert not loaded()
    for path in list(folder.rglob("*.nbi")):
        path.unlink()
        path.mkdir()  # reading it is an error for an administrator, too
    with pytest.warns(UserWarning, match="cannot be kept on disk"):
        assert not loaded()


def test_no_word_where_all_is_well(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not loaded() and loaded()
