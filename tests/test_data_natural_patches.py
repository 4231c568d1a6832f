"""The default images: patches of installed photographs."""

import json
import socket

import numpy as np
import pytest

from diffplast.core.dataset import load
from diffplast.core.errors import UserError
from diffplast.data import prepare
from diffplast.data.natural_patches import PHOTOGRAPHS, prepare_natural_patches, read_grey

OPTIONS = {
    "train_patches": 72,
    "test_patches": 31,
    "test_photographs": ["chelsea", "china", "coffee"],
    "crop_min_px": 64,
    "crop_max_px": 400,
    "min_contrast": 16,
    "seed": 0,
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("the default images must not reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def prepared(tmp_path):
    provenance = prepare("images", "natural-patches", OPTIONS, tmp_path / "images.npz")
    return load(tmp_path / "images.npz", "images"), provenance


def test_counts_and_ranges(prepared):
    images, _ = prepared
    assert images["train"].shape == (72, 1024) and images["test"].shape == (31, 1024)
    for part in ("train", "test"):
        pixels = images[part]
        assert pixels.dtype == np.float32
        assert (pixels != 0).all()
        np.testing.assert_allclose(np.abs(pixels).max(axis=1), 1)
        np.testing.assert_allclose(pixels.mean(axis=1), 0, atol=1 / 255)
        assert len(np.unique(pixels, axis=0)) == len(pixels)
        shares = np.bincount(images[f"{part}_source"])
        assert shares.max() - shares[shares > 0].min() <= 1


def test_training_and_test_patches_come_from_different_photographs(prepared):
    images, _ = prepared
    names = {part: set(images["sources"][images[f"{part}_source"]]) for part in ("train", "test")}
    assert names["test"] == set(OPTIONS["test_photographs"])
    assert names["train"] == set(PHOTOGRAPHS) - names["test"]


def test_the_photographs_are_different_pictures():
    thumbnails = [read_grey(name)[::16, ::16].ravel()[:400] for name in PHOTOGRAPHS]
    correlation = np.corrcoef(thumbnails) - np.eye(len(PHOTOGRAPHS))
    assert np.abs(correlation).max() < 0.7


def test_the_same_options_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        prepare("images", "natural-patches", {**OPTIONS, "seed": seed}, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_the_provenance_is_json_and_names_every_photograph(prepared):
    images, provenance = prepared
    stated = json.loads(json.dumps(provenance))
    assert stated["counts"] == {"train": 72, "test": 31, "photographs": len(PHOTOGRAPHS)}
    assert {photo["name"] for part in stated["photographs"].values() for photo in part} == set(
        images["sources"]
    )
    assert all(photo["licence"] for part in stated["photographs"].values() for photo in part)
    assert stated["options"] == OPTIONS
    assert set(stated["packages"]) == {"scikit-image", "scikit-learn", "pillow"}
    assert len(stated["sha256_pixels"]) == 64


@pytest.mark.parametrize(
    "change, message",
    [
        ({"test_photographs": ["dog"]}, "unknown test_photographs .*dog.*known: astronaut"),
        ({"test_photographs": []}, "leave photographs for both"),
        ({"test_photographs": list(PHOTOGRAPHS)}, "leave photographs for both"),
        ({"crop_min_px": 16}, "32 <= crop_min_px"),
        ({"crop_min_px": 350, "crop_max_px": 350}, "smaller than crop_min_px"),
        ({"min_contrast": 120}, "reach min_contrast"),
        ({"test_patches": 2}, "fewer than its 3 photographs"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_options_out_of_range(change, message):
    with pytest.raises(UserError, match=message):
        prepare_natural_patches(**{**OPTIONS, **change})
