"""The registry of data sets and the files they are prepared into."""

import io
import os

import numpy as np
import pytest

from diffplast.core.dataset import decode, digest, encode, load, normalise, write
from diffplast.core.errors import UserError
from diffplast.data import DATA_SETS, DataError, prepare, preparer


def images_arrays():
    rng = np.random.default_rng(0)
    return {
        "train": rng.integers(256, size=(6, 1024), dtype=np.uint8),
        "test": rng.integers(256, size=(4, 1024), dtype=np.uint8),
        "train_source": np.array([0, 0, 0, 1, 1, 1]),
        "test_source": np.array([2, 2, 2, 2]),
        "sources": np.array(["cat", "dog", "house"]),
    }


def omniglot_arrays():
    rng = np.random.default_rng(0)
    return {
        "drawings": rng.integers(256, size=(5, 3, 31, 31), dtype=np.uint8),
        "names": np.array(["a", "b", "c", "d", "e"]),
        "train_classes": np.array([0, 2]),
        "test_classes": np.array([1, 3]),
        "final_classes": np.array([4]),
    }


ARRAYS = {"images": images_arrays, "omniglot": omniglot_arrays}


@pytest.mark.parametrize("kind", DATA_SETS)
def test_every_name_has_a_preparer(kind):
    assert DATA_SETS[kind]
    for name in DATA_SETS[kind]:
        assert callable(preparer(kind, name))


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"'patches' for images; known: .*natural-patches"):
        prepare("images", "patches", {}, tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"'sounds'; known: images, omniglot"):
        preparer("sounds", "birds")


def test_wrong_options_are_named_by_key(tmp_path):
    with pytest.raises(
        UserError, match=r"data\.images\.cifar10 in params\.yaml: archive: .*; train_batches: Field required"
    ):
        prepare("images", "cifar10", {"archive": 1}, tmp_path / "x.npz")


def test_codes_stand_for_every_pixel_within_half_a_step_and_never_for_zero():
    pixels = np.linspace(-1, 1, 2001, dtype=np.float32)
    decoded = decode(encode(pixels))
    assert decoded.dtype == np.float32
    assert np.abs(decoded - pixels).max() <= 1 / 255 + 1e-6
    assert (decoded != 0).all()
    assert decoded[0] == -1 and decoded[-1] == 1
    assert (encode(decoded) == encode(pixels)).all()


def test_images_are_normalised_each_on_its_own():
    pixels = normalise(np.random.default_rng(0).uniform(0, 765, size=(5, 1024)))
    np.testing.assert_allclose(pixels.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.abs(pixels).max(axis=1), 1)


@pytest.mark.parametrize("kind", ARRAYS)
def test_what_is_written_is_read(kind, tmp_path):
    arrays = ARRAYS[kind]()
    write(tmp_path / "set.npz", kind, arrays)
    loaded = load(tmp_path / "set.npz", kind)
    assert set(loaded) == set(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(loaded[key], decode(array) if key in ("train", "test") else array)
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.npz"]


@pytest.mark.parametrize("kind", ARRAYS)
def test_the_same_arrays_give_the_same_bytes(kind, tmp_path):
    for name in ("one.npz", "two.npz"):
        write(tmp_path / name, kind, ARRAYS[kind]())
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a file on a disk that is full")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    (tmp_path / "set.npz.partial").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"set\.npz cannot be written: No space left on device"):
        write(tmp_path / "set.npz", "images", images_arrays())
    assert not list(tmp_path.iterdir())
    write(tmp_path / "set.npz", "images", images_arrays())


def test_the_digest_is_of_the_pixels_only():
    arrays = omniglot_arrays()
    before = digest("omniglot", arrays)
    arrays["names"] = np.array(["v", "w", "x", "y", "z"])
    assert digest("omniglot", arrays) == before
    arrays["drawings"][4, 2, 30, 30] ^= 1
    assert digest("omniglot", arrays) != before


def single_array(_):
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


def pickled(_):
    content = io.BytesIO()
    np.savez(content, kind="images", train=np.array([{}], dtype=object))
    return content.getvalue()


def flipped_bit(whole):
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


DAMAGE = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "flipped bit": flipped_bit,
    "a web page": lambda whole: b"<!DOCTYPE html><title>404</title>",
    "single array": single_array,
    "pickled": pickled,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_says_where_and_what_to_do(damage, tmp_path):
    path = tmp_path / "set.npz"
    write(path, "images", images_arrays())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"set\.npz: it cannot be read: .*prepare it again"):
        load(path)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"set\.npz: there is no such file\..*dvc repro"):
        load(tmp_path / "set.npz")


def test_a_file_of_another_kind_is_refused(tmp_path):
    write(tmp_path / "set.npz", "omniglot", omniglot_arrays())
    with pytest.raises(DataError, match="holds data of kind 'omniglot', not 'images'"):
        load(tmp_path / "set.npz", "images")


WRONG = {
    "no sources": ("images", {"sources": None}, "it holds .*not"),
    "float pixels": ("images", {"train": np.zeros((6, 1024), np.float32)}, "train is float32"),
    "too few pixels": ("images", {"test": np.zeros((4, 1023), np.uint8)}, r"test is uint8 \(4, 1023\)"),
    "no images": ("images", {"test": np.zeros((0, 1024), np.uint8)}, r"test is uint8 \(0, 1024\)"),
    "a scalar": ("images", {"train": np.uint8(0)}, r"train is uint8 \(\)"),
    "unnamed source": ("images", {"test_source": np.array([2, 2, 2, 3])}, "test_source"),
    "source too short": ("images", {"train_source": np.array([0, 1])}, "train_source"),
    "sources not names": ("images", {"sources": np.array(3)}, "sources is"),
    "wide drawings": ("omniglot", {"drawings": np.zeros((5, 3, 31, 32), np.uint8)}, "drawings is"),
    "names too few": ("omniglot", {"names": np.array(["a"])}, "names is"),
    "no such class": ("omniglot", {"test_classes": np.array([1, 5])}, "not indices of 5 classes"),
    "nothing held out": ("omniglot", {"test_classes": np.array([], int)}, "not indices of 5 classes"),
    "nothing for the end": ("omniglot", {"final_classes": np.array([], int)}, "not indices of 5 classes"),
    "one set for both": ("omniglot", {"final_classes": None}, "it holds .*not"),
    "leak": ("omniglot", {"test_classes": np.array([1, 2])}, "overlap"),
    "leak of the last": ("omniglot", {"final_classes": np.array([4, 0])}, "overlap"),
    "final is test": ("omniglot", {"final_classes": np.array([3])}, "overlap"),
}


@pytest.mark.parametrize("kind, change, message", WRONG.values(), ids=WRONG)
def test_wrong_arrays_are_named(kind, change, message, tmp_path):
    arrays = {key: array for key, array in {**ARRAYS[kind](), **change}.items() if array is not None}
    np.savez(tmp_path / "set.npz", kind=kind, **arrays)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "set.npz")
    with pytest.raises(DataError, match=message):
        write(tmp_path / "new.npz", kind, arrays)
    assert not (tmp_path / "new.npz").exists()
