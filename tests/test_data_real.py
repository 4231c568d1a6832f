"""Omniglot and CIFAR-10: small archives in the official formats, and the real drawings where a mirror is there."""

import hashlib
import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffplast.core import params
from diffplast.core.dataset import load
from diffplast.core.errors import UserError
from diffplast.data import DataError, cifar10, omniglot, prepare
from diffplast.data.fetch import Place
from stages.prepare import main as prepare_stage
from tests.conftest import ROOT
from tests.test_data_archives import write_tar, write_zip

MIRROR = ROOT.parent / "shared" / "data"
REAL = {
    "background": "0bd52a6c3e9b67c37260b49aa0ef999a781ce200d5971ac765cf7a4dcab78b9f",
    "evaluation": "9d4a06435df3232e1e797949d03addc4bd9874ee5febcfbe49434c889d6f0a3e",
}


def png(pixels, mode="1"):
    content = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, "png")
    return content.getvalue()


def drawn(characters, seed):
    """Official names and random drawings (True is paper), in the order of their paths."""
    rng = np.random.default_rng(seed)
    return {
        f"images_{seed}/Alphabet_{c % 2}/character{c // 2 + 1:02}/{d:02}.png": rng.random((105, 105)) > 0.1
        for c in sorted(range(characters), key=lambda c: (c % 2, c // 2))
        for d in range(20)
    }


def local(path):
    return {"mirror": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def part(drawings):
    digest = hashlib.sha256(b"".join(np.packbits(drawing).tobytes() for drawing in drawings.values())).hexdigest()
    return omniglot.Part((Place("nowhere.zip", "md5:0"),), len(drawings) // 20, digest)


class Small:
    """A small Omniglot: `drawings` by part, taken by the library for the official one."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.drawings = {"background": drawn(6, 0), "evaluation": drawn(4, 1)}
        monkeypatch.setattr(omniglot, "PARTS", {name: part(drawings) for name, drawings in self.drawings.items()})

    def options(self, background=None, **changes):
        """Options of the set; background: entries of another archive in its place."""
        entries = {name: {path: png(d) for path, d in drawings.items()} for name, drawings in self.drawings.items()}
        entries["background"] = background or entries["background"]
        archives = {name: local(write_zip(self.folder / f"{name}.zip", entries[name])) for name in entries}
        return {**archives, "test_classes": 3, "final_classes": 2, "split_seed": 0, **changes}

    def prepare(self, **options):
        provenance = prepare("omniglot", "omniglot", self.options(**options), self.folder / "omniglot.npz")
        return load(self.folder / "omniglot.npz", "omniglot"), provenance


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Small(tmp_path, monkeypatch)


def test_omniglot_is_ink_on_paper_in_its_classes(small):
    arrays, provenance = small.prepare()
    assert arrays["drawings"].shape == (10, 20, 31, 31)
    assert list(arrays["names"][:4]) == [f"Alphabet_0/character0{n}" for n in (1, 2, 3)] + ["Alphabet_1/character01"]
    ink = 1 - np.stack(list(small.drawings["background"].values())).astype(float)
    np.testing.assert_allclose(
        arrays["drawings"][:6].reshape(120, -1).mean(axis=1) / 255, ink.reshape(120, -1).mean(axis=1), atol=0.003
    )
    assert provenance["counts"] == {
        "alphabets": 2, "classes": 10, "drawings": 20, "train_classes": 5, "test_classes": 3, "final_classes": 2,
    }  # fmt: skip
    said = json.loads(json.dumps(provenance))["archives"]["background"]
    assert said == {
        "source": str(small.folder / "background.zip"),
        "checksum": "sha256:" + local(small.folder / "background.zip")["sha256"],
        "sha256_drawings": omniglot.PARTS["background"].digest,
    }
    assert "MIT" in provenance["licence"] and len(provenance["sha256_pixels"]) == 64


def test_ink_becomes_one_and_paper_zero(small):
    pixels = np.ones((105, 105), bool)
    pixels[:53] = False  # the upper half is ink
    first = next(iter(small.drawings["background"]))
    small.drawings["background"][first] = pixels
    omniglot.PARTS["background"] = part(small.drawings["background"])
    arrays, _ = small.prepare()
    assert (arrays["drawings"][0, 0, :15] == 255).all() and (arrays["drawings"][0, 0, 16:] == 0).all()


def test_the_held_out_characters_are_drawn_once_and_saved(small):
    first, _ = small.prepare()
    again, _ = small.prepare()
    other, _ = small.prepare(split_seed=1)
    for arrays in (first, other):
        parts = arrays["train_classes"], arrays["test_classes"], arrays["final_classes"]
        assert (len(parts[1]), len(parts[2])) == (3, 2) and sorted(np.concatenate(parts)) == list(range(10))
    np.testing.assert_array_equal(first["test_classes"], again["test_classes"])
    assert list(first["test_classes"]) != list(other["test_classes"])
    np.testing.assert_array_equal(first["drawings"], other["drawings"])
    with pytest.raises(UserError, match="test_classes is 8 and final_classes is 2, but there are 10 classes"):
        small.prepare(test_classes=8)


def test_an_archive_packed_anew_holds_the_same_data(small):
    small.prepare()
    before = (small.folder / "omniglot.npz").read_bytes()
    packed = {f"elsewhere/{path}": png(d, "L") for path, d in reversed(small.drawings["background"].items())}
    small.prepare(background=packed)
    assert (small.folder / "omniglot.npz").read_bytes() == before


def repainted(entries):
    path = next(iter(entries))
    pixels = np.asarray(Image.open(io.BytesIO(entries[path]))).copy()
    pixels[50, 50] ^= True
    return entries | {path: png(pixels)}


WRONG_OMNIGLOT = {
    "one pixel": (repainted, "its drawings are not Omniglot's: their digest is"),
    "a drawing less": (lambda entries: dict(list(entries.items())[1:]), "it holds 119 drawings of 6 characters"),
    "a drawing more": (lambda entries: entries | {"x/y/z/1.png": next(iter(entries.values()))}, "holds 121 drawings"),
    "another size": (
        lambda entries: entries | {next(iter(entries)): png(np.eye(28) < 1)},
        r"0\.png: it has 28 × 28 pixels",
    ),
    "no image": (
        lambda entries: dict.fromkeys(list(entries)[:12], b"?") | dict(list(entries.items())[12:]),
        r"12 file\(s\) cannot be used:\n .*images_0/Alphabet_0/character01/00\.png: not an image(.|\n)*and 2 more",
    ),
}


@pytest.mark.parametrize("change, message", WRONG_OMNIGLOT.values(), ids=WRONG_OMNIGLOT)
def test_other_drawings_are_not_taken_for_omniglot(change, message, small):
    entries = change({path: png(drawing) for path, drawing in small.drawings["background"].items()})
    with pytest.raises(DataError, match=message) as error:
        small.prepare(background=entries)
    assert "background.zip" in str(error.value) and "set datasets.omniglot to folder" in str(error.value)
    assert not (small.folder / "omniglot.npz").exists()


def test_the_stage_takes_copies_of_the_archives(small):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    options = small.options()
    chosen = [f"data.omniglot.omniglot.{name}={value}" for name, value in options.items()]
    params.assign(["datasets.omniglot=omniglot", *chosen])
    prepare_stage(["omniglot", "smoke"])
    source = json.loads(Path("data/smoke/omniglot/source.json").read_text())
    assert source["options"] == options


def test_an_archive_that_is_nowhere_is_said_with_its_key(small):
    nowhere = {"mirror": "missing.zip", "sha256": None}
    with pytest.raises(
        DataError, match=r"missing\.zip: there is no such file(.|\n)*data\.omniglot\.omniglot\.background"
    ):
        prepare("omniglot", "omniglot", small.options() | {"background": nowhere}, small.folder / "omniglot.npz")


class SmallCifar:
    """A small CIFAR-10: 20 images a file, taken by the library for the official one."""

    def __init__(self, folder, monkeypatch):
        rng = np.random.default_rng(0)
        self.folder = folder
        names = (*cifar10.TRAIN_FILES, cifar10.TEST_FILE)
        self.batches = {name: rng.integers(0, 256, (20, 3073), dtype=np.uint8) for name in names}
        for batch in self.batches.values():
            batch[:, 0] %= 10
        training = np.concatenate([self.batches[name] for name in cifar10.TRAIN_FILES])
        monkeypatch.setattr(cifar10, "BATCH", 20)
        monkeypatch.setattr(
            cifar10, "MOMENTS", {"training": moments(training), "test": moments(self.batches[cifar10.TEST_FILE])}
        )

    def entries(self):
        """Files of the official archive."""
        packed = {f"cifar-10-batches-bin/{name}": batch.tobytes() for name, batch in self.batches.items()}
        return packed | {"cifar-10-batches-bin/readme.html": b"<html>"}

    def prepare(self, entries=None, train_batches=4):
        archive = local(write_tar(self.folder / "cifar.tar.gz", entries or self.entries()))
        options = {"archive": archive, "train_batches": train_batches}
        provenance = prepare("images", "cifar10", options, self.folder / "images.npz")
        return load(self.folder / "images.npz", "images"), provenance


def moments(batch):
    channels = batch[:, 1:].reshape(len(batch), 3, 1024).astype(float)
    return tuple(channels.mean(axis=(0, 2))), tuple(channels.std(axis=(0, 2)))


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return SmallCifar(tmp_path, monkeypatch)


def test_cifar10_is_normalised_as_the_paper_does_and_keeps_its_split(small_cifar):
    arrays, provenance = small_cifar.prepare()
    assert arrays["train"].shape == (80, 1024) and arrays["test"].shape == (20, 1024)
    for part, names in (("train", cifar10.TRAIN_FILES[:4]), ("test", [cifar10.TEST_FILE])):
        batch = np.concatenate([small_cifar.batches[name] for name in names]).astype(float)
        grey = batch[:, 1:1025] + batch[:, 1025:2049] + batch[:, 2049:]
        grey -= grey.mean(axis=1, keepdims=True)
        grey /= np.abs(grey).max(axis=1, keepdims=True)
        np.testing.assert_allclose(arrays[part], grey, atol=1.01 / 255)
        assert (arrays[part] != 0).all()
        np.testing.assert_array_equal(arrays[f"{part}_source"], batch[:, 0])
    assert list(arrays["sources"]) == list(cifar10.CLASSES)
    assert provenance["counts"] == {"train": 80, "test": 20}
    everything = b"".join(batch.tobytes() for batch in small_cifar.batches.values())
    assert provenance["archives"]["binary"]["sha256_images"] == hashlib.sha256(everything).hexdigest()
    assert provenance["archives"]["binary"]["source"].endswith("cifar.tar.gz") and "Krizhevsky" in provenance["licence"]
    assert len(small_cifar.prepare(train_batches=5)[0]["train"]) == 100


def test_cifar10_packed_anew_is_the_same_data(small_cifar):
    small_cifar.prepare()
    before = (small_cifar.folder / "images.npz").read_bytes()
    small_cifar.prepare(
        entries={name.split("/")[1]: content for name, content in reversed(small_cifar.entries().items())}
    )
    assert (small_cifar.folder / "images.npz").read_bytes() == before


def without_test(entries):
    return {name: content for name, content in entries.items() if "test" not in name}


def changed(name, change):
    def apply(entries):
        return entries | {name: change(entries[name])}

    return apply


FIRST = "cifar-10-batches-bin/data_batch_1.bin"
WRONG_CIFAR = {
    "a file less": (without_test, "it lacks test_batch.bin"),
    "the pickled version": (lambda entries: {name.replace(".bin", ""): c for name, c in entries.items()}, "it lacks"),
    "a short file": (changed(FIRST, lambda content: content[:-1]), "data_batch_1.bin has 61,459 bytes, not 61,460"),
    "a label": (changed(FIRST, lambda content: b"\x0a" + content[1:]), "has labels above 9"),
    "a pixel": (changed(FIRST, lambda content: content[:-1] + bytes([content[-1] ^ 1])), "mean of its training images"),
    "a dark square": (
        changed(FIRST, lambda content: content[:1] + bytes(1024) + content[1025:]),
        "of its training images is",
    ),
}


@pytest.mark.parametrize("change, message", WRONG_CIFAR.values(), ids=WRONG_CIFAR)
def test_other_images_are_not_taken_for_cifar10(change, message, small_cifar):
    with pytest.raises(DataError, match=message) as error:
        small_cifar.prepare(entries=change(small_cifar.entries()))
    assert "cifar.tar.gz: not the images of CIFAR-10" in str(error.value)
    assert not (small_cifar.folder / "images.npz").exists()


needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no mirror of the real data sets in {MIRROR}")


@needs_mirror
def test_the_real_omniglot(tmp_path):
    mirrors = {
        part: {"mirror": str(MIRROR / f"images_{part}.zip"), "sha256": checksum} for part, checksum in REAL.items()
    }
    started = time.monotonic()
    options = {**mirrors, "test_classes": 100, "final_classes": 100, "split_seed": 0}
    provenance = prepare("omniglot", "omniglot", options, tmp_path / "set.npz")
    assert time.monotonic() - started < 60
    assert provenance["counts"] == {
        "alphabets": 50, "classes": 1623, "drawings": 20, "train_classes": 1423, "test_classes": 100,
        "final_classes": 100,
    }  # fmt: skip
    arrays = load(tmp_path / "set.npz", "omniglot")
    assert (arrays["drawings"].max(axis=(2, 3)) > 200).mean() > 0.99
    assert 0.05 < arrays["drawings"].mean() / 255 < 0.15


@needs_mirror
@pytest.mark.slow
def test_the_real_images_from_a_folder(tmp_path):
    options = {
        "path": str(MIRROR / "cifar10-jpeg-train.zip"),
        "description": "CIFAR-10's training images, a lossy copy",
        "licence": None,
        "test_share": 0.1,
        "split_seed": 0,
    }
    provenance = prepare("images", "folder", options, tmp_path / "set.npz")
    assert provenance["counts"] == {"train": 45_000, "test": 5_000, "duplicates left out": 0}
    assert provenance["checksum"] == "sha256:a6ba6e9aafef5501757883b515dd2af3bd5b4d047a16ddefb6712778425491ac"
    arrays = load(tmp_path / "set.npz", "images")
    assert list(arrays["sources"]) == list(cifar10.CLASSES)
    assert set(np.bincount(np.concatenate([arrays["train_source"], arrays["test_source"]]))) == {5_000}
