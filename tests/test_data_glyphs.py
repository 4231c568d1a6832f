"""The default characters: glyphs of installed fonts."""

import json
import socket

import numpy as np
import pytest

from diffplast.core.dataset import load
from diffplast.core.errors import UserError
from diffplast.data import prepare
from diffplast.data.glyphs import FACES, candidates, faces_of, merge_alike, prepare_glyphs

OPTIONS = {
    "characters": "ABCDEFGHKMQRSTXabdekrtyДЖЩЦюΨΞαβζξԱԲგდვ45$&",
    "min_faces": 4,
    "alike": 0.875,
    "drawings": 20,
    "rotation_deg": 12,
    "shear": 0.15,
    "stretch": 0.25,
    "size_min_px": 19,
    "size_max_px": 27,
    "shift_px": 2,
    "test_classes": 7,
    "final_classes": 5,
    "split_seed": 0,
    "seed": 0,
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("the default characters must not reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def everything():
    """All characters, one drawing each."""
    return prepare_glyphs(**{**OPTIONS, "characters": None, "drawings": 1, "test_classes": 100, "final_classes": 100})


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    path = tmp_path_factory.mktemp("glyphs") / "glyphs.npz"
    provenance = prepare("omniglot", "glyphs", OPTIONS, path)
    return load(path, "omniglot"), provenance


def test_at_least_a_thousand_classes_of_many_scripts(everything):
    arrays, provenance = everything
    assert len(arrays["names"]) == len(arrays["drawings"]) == provenance["counts"]["classes"] >= 1000
    scripts = {name.split()[0] for name in arrays["names"]}
    assert {"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN", "HEBREW", "ARABIC", "LAO"} <= scripts
    assert not any("BRAILLE" in name or "BOX DRAWINGS" in name for name in arrays["names"])


def test_held_out_characters_are_not_for_training(everything):
    arrays, _ = everything
    train, test, final = (arrays[f"{part}_classes"] for part in ("train", "test", "final"))
    assert len(test) == len(final) == 100
    assert sorted([*train, *test, *final]) == list(range(len(arrays["names"])))
    other, _ = prepare_glyphs(**{**OPTIONS, "split_seed": 1})
    same, _ = prepare_glyphs(**{**OPTIONS, "seed": 1})
    first, _ = prepare_glyphs(**OPTIONS)
    assert (first["test_classes"] != other["test_classes"]).any()
    assert (first["test_classes"] == same["test_classes"]).all()
    assert (first["final_classes"] == same["final_classes"]).all()


@pytest.mark.parametrize(
    "alike",
    [
        "AΑА",
        "BΒВ",
        "OΟОo0",
        "eе",
        "C\u0421c\u0254",
        "NZ",
        "nu",
        "69",
        "bq",
        "dp",
        "tʇ",
        "EƎ",
        "←↑→↓",
        "VΛ<>",
        "ǀ|",
    ],
)
def test_look_alikes_across_scripts_and_quarter_turns_are_one_class(alike, everything):
    assert set(alike) <= {*candidates(min_faces=4)}
    assert merge_alike(list(alike), OPTIONS["alike"]) == {alike[0]: list(alike[1:])}
    codes = {f"(U+{ord(character):04X})" for character in alike}
    assert sum(name.split()[-1] in codes for name in everything[0]["names"]) <= 1


def test_different_characters_stay_different():
    different = list("ABEHJKMQRSWXabdekty45ДЖЩЦюΨΞαβζ$")
    assert merge_alike(different, OPTIONS["alike"]) == {character: [] for character in different}


def test_mirror_images_are_different_characters():
    assert len(merge_alike(["b", "d"], OPTIONS["alike"])) == 2


def test_no_two_classes_are_alike(everything):
    arrays, provenance = everything
    kept = [chr(int(name.split("U+")[1][:-1], 16)) for name in arrays["names"][::3]]
    assert len(merge_alike(kept, OPTIONS["alike"])) == len(kept)
    assert provenance["counts"]["candidates"] > provenance["counts"]["classes"]


def extent(inked):
    """From the first to the last True along the last axis."""
    return inked.shape[-1] - inked.argmax(axis=-1) - inked[..., ::-1].argmax(axis=-1)


def test_drawings_are_ink_on_paper_within_the_box(some):
    arrays, _ = some
    drawings = arrays["drawings"]
    assert drawings.shape == (len(arrays["names"]), 20, 31, 31) and drawings.dtype == np.uint8
    ink = drawings / 255
    share = ink.mean(axis=(2, 3))
    assert 0.03 < share.min() and share.max() < 0.5
    assert (drawings.max(axis=(2, 3)) > 200).all()
    border = np.concatenate([drawings[:, :, [0, -1]].ravel(), drawings[:, :, :, [0, -1]].ravel()])
    assert (border > 0).mean() < 0.01
    longer_side = np.maximum(*(extent((ink > 0).any(axis=axis)) for axis in (2, 3)))
    assert OPTIONS["size_min_px"] <= longer_side.min() and longer_side.max() <= OPTIONS["size_max_px"] + 2
    assert len(np.unique(drawings.reshape(-1, 31 * 31), axis=0)) == drawings.shape[0] * 20


def test_characters_stand_upright():
    arrays, _ = prepare_glyphs(**{**OPTIONS, "characters": "TXA", "test_classes": 1, "final_classes": 1})
    ink = arrays["drawings"][0].astype(float)  # T: its bar is on top
    assert (ink[:, :15].sum(axis=(1, 2)) > ink[:, 16:].sum(axis=(1, 2))).all()


def test_a_class_is_the_same_whatever_other_characters_there_are(some):
    arrays, _ = some
    few, _ = prepare_glyphs(**{**OPTIONS, "characters": "RKA", "test_classes": 1, "final_classes": 1})
    place = list(arrays["names"]).index(few["names"][0])
    np.testing.assert_array_equal(few["drawings"][0], arrays["drawings"][place])


def test_every_face_that_has_the_character_is_used():
    still = {"rotation_deg": 0, "shear": 0, "stretch": 0, "size_min_px": 25, "size_max_px": 25, "shift_px": 0}
    arrays, _ = prepare_glyphs(**{**OPTIONS, **still, "characters": "RKA", "test_classes": 1, "final_classes": 1})
    assert faces_of("R") == FACES
    assert len(np.unique(arrays["drawings"][0].reshape(20, -1), axis=0)) == len(FACES)


def test_the_same_options_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        prepare("omniglot", "glyphs", {**OPTIONS, "seed": seed}, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_the_provenance_is_json_and_complete(some):
    arrays, provenance = some
    stated = json.loads(json.dumps(provenance))
    assert stated["counts"]["classes"] == len(arrays["names"])
    assert stated["counts"]["test_classes"] == len(arrays["test_classes"]) == 7
    assert stated["counts"]["final_classes"] == len(arrays["final_classes"]) == 5
    assert stated["counts"]["train_classes"] == len(arrays["train_classes"])
    assert stated["fonts"] == FACES and stated["licence"] and stated["packages"]["matplotlib"]
    assert stated["options"] == OPTIONS and len(stated["sha256_pixels"]) == 64


@pytest.mark.parametrize(
    "change, message",
    [
        ({"size_max_px": 32}, "do not fit"),
        ({"size_min_px": 28}, "do not fit"),
        ({"test_classes": 200}, "test_classes is 200"),
        ({"test_classes": 0}, "test_classes is 0"),
        ({"final_classes": 200}, "final_classes is 200"),
        ({"final_classes": 0}, "final_classes is 0"),
        ({"characters": "\u2801 "}, "there are 0 classes"),
    ],
    ids=[
        "too large",
        "min above max",
        "too many held out",
        "none held out",
        "too many final",
        "none final",
        "no characters",
    ],
)
def test_options_out_of_range(change, message):
    with pytest.raises(UserError, match=message):
        prepare_glyphs(**{**OPTIONS, **change})
