"""One's own images and characters, from a directory or a zip."""

import io
import os
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from diffplast.core import params
from diffplast.core.dataset import encode, load, normalise
from diffplast.data import DataError, prepare
from tests.conftest import ROOT
from tests.test_data_archives import write_directory, write_tar, write_zip

IMAGE_OPTIONS = {"description": None, "licence": None, "test_share": 0.25, "split_seed": 0}
CHARACTER_OPTIONS = {
    "description": None, "licence": None, "ink": "dark", "drawings": 3, "test_classes": 5, "final_classes": 5,
    "split_seed": 0,
}  # fmt: skip


def file(pixels, kind="png", **options):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def colours(seed, height=32, width=32):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def photos(count=20):
    return {f"mine/{'cats' if i % 2 else 'dogs'}/{i:02}.png": file(colours(i, 32 + i, 40)) for i in range(count)}


def prepare_images(path, folder, **changes):
    options = {"path": str(path)} | IMAGE_OPTIONS | changes
    provenance = prepare("images", "folder", options, folder / "images.npz")
    return load(folder / "images.npz", "images"), provenance


def prepare_characters(path, folder, **changes):
    options = {"path": str(path)} | CHARACTER_OPTIONS | changes
    provenance = prepare("omniglot", "folder", options, folder / "omniglot.npz")
    return load(folder / "omniglot.npz", "omniglot"), provenance


def codes(pixels):
    """What the preparation should make of 32 × 32 colour pixels."""
    return encode(normalise(pixels.sum(axis=-1, dtype=np.float32).reshape(1, -1)))[0]


def test_images_are_split_once_and_keep_their_folder(tmp_path):
    arrays, provenance = prepare_images(write_directory(tmp_path / "photos", photos()), tmp_path)
    assert (len(arrays["train"]), len(arrays["test"])) == (15, 5)
    assert list(arrays["sources"]) == ["cats", "dogs"]
    assert len(np.unique(np.concatenate([arrays["train"], arrays["test"]]), axis=0)) == 20
    assert sorted(np.bincount(np.concatenate([arrays["train_source"], arrays["test_source"]]))) == [10, 10]
    assert provenance["counts"] == {"train": 15, "test": 5, "duplicates left out": 0}
    assert provenance["source"].endswith("photos") and provenance["licence"] == "not stated"

    other, _ = prepare_images(tmp_path / "photos", tmp_path, split_seed=1)
    again, _ = prepare_images(tmp_path / "photos", tmp_path)
    assert not np.array_equal(arrays["test"], other["test"])
    np.testing.assert_array_equal(arrays["test"], again["test"])


def test_a_zip_is_as_good_as_a_directory(tmp_path):
    said = []
    for write in (write_directory, write_zip):
        path = write(tmp_path / write.__name__, photos())
        said.append(prepare_images(path, tmp_path, description="my photos", licence="mine")[1])
    assert said[0]["sha256_pixels"] == said[1]["sha256_pixels"]
    assert "checksum" not in said[0] and len(said[1]["checksum"]) == len("sha256:") + 64
    assert all((entry["description"], entry["licence"]) == ("my photos", "mine") for entry in said)


def test_train_and_test_folders_are_the_split(tmp_path):
    parted = {f"set/{'test' if i < 4 else 'train'}/{i}.png": file(colours(i)) for i in range(14)}
    parted["set/train/copy.png"] = parted["set/test/2.png"]
    arrays, provenance = prepare_images(write_zip(tmp_path / "photos.zip", parted), tmp_path)
    assert provenance["counts"] == {"train": 10, "test": 4, "duplicates left out": 1}
    np.testing.assert_array_equal(encode(arrays["test"]), [codes(colours(i)) for i in range(4)])


TURNED = Image.Exif()
TURNED[0x0112] = 6  # shown after a quarter turn
SMALL = colours(0)
LARGE = SMALL.repeat(3, axis=0).repeat(3, axis=1)
GREY = SMALL[..., 0].repeat(3).reshape(32, 32, 3)
CONVERTED = {
    "as it is": (file(SMALL), SMALL),
    "larger": (file(LARGE), SMALL),
    "wide: the middle": (file(np.pad(LARGE, ((0, 0), (20, 20), (0, 0)))), SMALL),
    "high: the middle": (file(np.pad(LARGE, ((7, 7), (0, 0), (0, 0)))), SMALL),
    "smaller": (file(SMALL[:16, :16]), SMALL[:16, :16].repeat(2, axis=0).repeat(2, axis=1)),
    "grey": (file(SMALL[..., 0]), GREY),
    "grey, 16 bits": (file(SMALL[..., 0].astype(np.uint16) * 257), GREY),
    "bitmap": (file(SMALL, "bmp"), SMALL),
    "TIFF": (file(SMALL, "tiff"), SMALL),
    "lying on its side": (file(SMALL, exif=TURNED), np.rot90(SMALL, -1)),
    "transparent: on white": (
        file(np.dstack([SMALL, np.where(np.arange(1024).reshape(32, 32) < 512, 255, 0).astype(np.uint8)])),
        np.where(np.arange(1024).reshape(32, 32, 1) < 512, SMALL, 255),
    ),
}


@pytest.mark.parametrize("content, pixels", CONVERTED.values(), ids=CONVERTED)
def test_images_of_any_kind_are_converted(content, pixels, tmp_path):
    images = {f"train/{i}.png": file(colours(i)) for i in range(1, 4)}
    images |= {f"test/{i}.png": file(colours(i)) for i in range(4, 7)} | {"test/0.png": content}
    arrays, _ = prepare_images(write_directory(tmp_path / "photos", images), tmp_path)
    np.testing.assert_array_equal(encode(arrays["test"])[0], codes(pixels))


def test_what_cannot_be_used_is_listed_at_once(tmp_path):
    broken = file(colours(1))[:200]
    bad = {
        "mine/notes.txt": b"remember",
        "mine/broken.png": broken,
        "mine/empty.jpg": b"",
        "mine/white.png": file(np.full((40, 40, 3), 255, np.uint8)),
    }
    with pytest.raises(DataError) as error:
        prepare_images(write_zip(tmp_path / "photos.zip", photos() | bad), tmp_path)
    said = str(error.value)
    assert "photos.zip: 4 file(s) cannot be used" in said and "Remove them, or convert them" in said
    assert "mine/notes.txt: not an image" in said and "mine/white.png: it is of one colour" in said
    assert "mine/broken.png: " in said and "mine/empty.jpg: not an image" in said
    assert not (tmp_path / "images.npz").exists()

    many = {f"notes{i}.txt": b"remember" for i in range(30)}
    with pytest.raises(DataError, match=r"30 file\(s\)(.|\n)*and 20 more") as error:
        prepare_images(write_directory(tmp_path / "photos", many), tmp_path)
    assert len(str(error.value).splitlines()) < 15


TOO_FEW = {
    "none": ({}, "0 different images are too few"),
    "few": (photos(5), "5 different images are too few; at least 3 for training and 3 to hold out"),
    "copies": ({f"{i}.png": file(SMALL) for i in range(30)}, "1 different images are too few"),
    "few in test": (
        {f"{'test' if i < 2 else 'train'}/{i}.png": file(colours(i)) for i in range(9)},
        "7 different images for training and 2 for tests are too few; at least 3 are needed in each of train and test",
    ),
    "train is a copy of test": (
        {f"{part}/{i}.png": file(colours(i)) for part in ("train", "test") for i in range(9)},
        "0 different images for training and 9 for tests are too few",
    ),
}


@pytest.mark.parametrize("images, message", TOO_FEW.values(), ids=TOO_FEW)
def test_too_few_images(images, message, tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=message):
        prepare_images(write_directory(tmp_path / "photos", images), tmp_path)


def stroke(seed, height=60, width=60, ink=0, paper=255):
    pixels = np.full((height, width), paper, np.uint8)
    rng = np.random.default_rng(seed)
    row, column = rng.integers(5, height - 15), rng.integers(5, width - 15)
    pixels[row : row + 10, column : column + 5] = ink
    return pixels


def characters(**of_stroke):
    return {
        f"mine/{alphabet}/letter{letter}/{number}.png": file(stroke((letter, number, alphabet == "two"), **of_stroke))
        for alphabet in ("one", "two")
        for letter in range(9)
        for number in range(3)
    }


@pytest.mark.parametrize("write", [write_directory, write_zip, write_tar], ids=["directory", "zip", "tar"])
def test_characters_in_the_layout_of_omniglot(write, tmp_path):
    arrays, provenance = prepare_characters(write(tmp_path / "letters", characters()), tmp_path)
    assert arrays["drawings"].shape == (18, 3, 31, 31)
    assert list(arrays["names"][[0, 8, 9]]) == ["one/letter0", "one/letter8", "two/letter0"]
    parts = [arrays[f"{part}_classes"] for part in ("train", "test", "final")]
    assert [len(part) for part in parts] == [8, 5, 5] and sorted(np.concatenate(parts)) == list(range(18))
    assert 0.005 < arrays["drawings"].mean() / 255 < 0.03
    assert provenance["counts"] == {
        "classes": 18, "drawings": 3, "train_classes": 8, "test_classes": 5, "final_classes": 5,
    }  # fmt: skip


def test_light_ink_and_oblong_drawings(tmp_path):
    light = write_zip(tmp_path / "light.zip", characters(ink=255, paper=0))
    arrays, _ = prepare_characters(light, tmp_path, ink="light")
    dark, _ = prepare_characters(write_zip(tmp_path / "dark.zip", characters()), tmp_path)
    np.testing.assert_array_equal(arrays["drawings"], dark["drawings"])
    with pytest.raises(DataError, match=r"mostly ink when it is dark.*data\.omniglot\.folder\.ink"):
        prepare_characters(light, tmp_path)

    wide, _ = prepare_characters(write_zip(tmp_path / "wide.zip", characters(width=120)), tmp_path)
    assert not wide["drawings"][:, :, :7].any() and not wide["drawings"][:, :, 24:].any(), "filled up with paper"


def wrong(name, content):
    return characters() | {name: content}


WRONG_CHARACTERS = {
    "text": (wrong("mine/one/letter0/notes.txt", b"x"), r"mine/one/letter0/notes\.txt: not an image"),
    "blank": (wrong("mine/one/letter0/9.png", file(np.full((9, 9), 255, np.uint8))), r"9\.png: it has no ink"),
    "not in a character": (wrong("mine/one/9.png", file(stroke(1))), r"mine/one/9\.png: it does not lie as deep"),
    "few drawings": (wrong("mine/two/single/1.png", file(stroke(1))), "two/single: 1\n.*fewer than 3 drawings"),
    "few characters": (
        {name: content for name, content in characters().items() if "one" in name},
        "of 9 characters, 5 are to be held out for tests and 5 for the final number; at least 5",
    ),
    "none": ({}, "of 0 characters, 5 are to be held out"),
}


@pytest.mark.parametrize("files, message", WRONG_CHARACTERS.values(), ids=WRONG_CHARACTERS)
def test_wrong_characters_are_listed(files, message, tmp_path):
    (tmp_path / "letters").mkdir()
    with pytest.raises(DataError, match=message) as error:
        prepare_characters(write_directory(tmp_path / "letters", files), tmp_path)
    assert str(tmp_path / "letters") in str(error.value)


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """A function that runs the stage of a kind of data in this process; what it writes before it ends with status 1."""

    def run(kind, *assignments):
        shutil.copy(ROOT / "params.yaml", tmp_path)
        params.assign(list(assignments), tmp_path / "params.yaml")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["prepare", kind, "smoke"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "stages" / "prepare.py"), run_name="__main__")
        assert ended.value.code == 1
        return capsys.readouterr().err

    return run


def test_the_stage_prepares_what_params_choose(tmp_path):
    path = write_zip(tmp_path / "letters.zip", characters())
    chosen = ["datasets.omniglot=folder", f"data.omniglot.folder.path={path}"]
    chosen += ["data.omniglot.folder.drawings=3", "data.omniglot.folder.test_classes=5"]
    chosen += ["data.omniglot.folder.final_classes=5"]
    shutil.copy(ROOT / "params.yaml", tmp_path)
    params.assign(chosen, tmp_path / "params.yaml")
    command = [sys.executable, ROOT / "stages" / "prepare.py", "omniglot", "smoke"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # an installed package may be that of another folder
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(load(tmp_path / "data" / "smoke" / "omniglot" / "data.npz", "omniglot")["drawings"]) == 18
    said = YAML(typ="safe").load((tmp_path / "data" / "smoke" / "omniglot" / "source.json").read_text(encoding="utf-8"))
    assert (said["name"], said["options"]["path"]) == ("folder", str(path))


@pytest.mark.parametrize("kind", ["images", "omniglot"])
def test_the_stage_says_that_no_folder_is_given(kind, tmp_path, refusal):
    said = refusal(kind, f"datasets.{kind}=folder")
    assert f"datasets.{kind} is folder, but data.{kind}.folder.path is null. Set it to a directory" in said
    assert not list(tmp_path.rglob("data.npz*"))


def test_the_stage_says_what_is_wrong_with_an_option(refusal):
    said = refusal("images", "data.images.natural-patches.crop_min_px=8")
    assert said == "need 32 <= crop_min_px <= crop_max_px, got 8, 400\n"


def test_the_stage_does_not_hide_a_fault_of_the_program(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.setattr(sys, "argv", ["prepare", "images", "smoke"])
    monkeypatch.setattr("diffplast.data.prepare", lambda *arguments: [].index(1))
    with pytest.raises(ValueError, match="not in list"):
        runpy.run_path(str(ROOT / "stages" / "prepare.py"), run_name="__main__")
    assert "prepare images smoke: stopped by a fault of the program (ValueError)" in capsys.readouterr().err
