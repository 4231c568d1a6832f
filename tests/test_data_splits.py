"""The user's own test set: what lies in a folder named test is held out, or an error says what was found."""

import numpy as np
import pytest

from diffplast.core.dataset import encode
from diffplast.core.errors import UserError
from diffplast.data import DataError
from diffplast.data.splits import hold_out, split_classes
from tests.test_data_archives import write_directory, write_tar, write_zip
from tests.test_data_folder import codes, colours, file, prepare_characters, prepare_images, stroke


def write_windows_zip(path, entries):
    return write_zip(path, {name.replace("/", "\\"): content for name, content in entries.items()})


def write_dotted_tar(path, entries):
    return write_tar(path, {f"./{name}": content for name, content in entries.items()})


def write_unpacked_windows_zip(path, entries):
    """What some programs make of one: files with backslashes in their names."""
    path.mkdir(exist_ok=True)
    for name, content in entries.items():
        (path / name.replace("/", "\\")).write_bytes(content)
    return path


WRITERS = {
    "directory": write_directory,
    "zip": write_zip,
    "zip with backslashes": write_windows_zip,
    "tar of .": write_dotted_tar,
    "unpacked backslashes": write_unpacked_windows_zip,
}
TEST = range(30, 36)
TRAIN = range(10)


def pictures(train, test, **others):
    """Names by number of picture: {} in a name stands for it."""
    named = {train.format(i): file(colours(i)) for i in TRAIN} | {test.format(i): file(colours(i)) for i in TEST}
    return named | {name: file(colours(100 + i)) for i, name in enumerate(others.values())}


def assert_test_is_held_out(arrays, train=TRAIN):
    for part, numbers in (("test", TEST), ("train", train)):
        found = {bytes(row) for row in encode(arrays[part])}
        assert found == {bytes(codes(colours(i))) for i in numbers}


CLEAR = {
    "train and test": pictures("mine/train/{}.png", "mine/test/{}.png"),
    "without a folder above": pictures("train/{}.png", "test/{}.png"),
    "capitals": pictures("Train/{}.png", "TEST/{}.png"),
    "other forms": pictures("training/{}.png", "testing/{}.png"),
    "kinds inside": pictures("train/cat/{}.png", "test/cat/{}.png"),
    "parts inside of kinds": pictures("cat/train/{}.png", "cat/test/{}.png"),
    "test beside kinds": pictures("cat/{}.png", "test/{}.png"),
    "test inside of all else": pictures("{}.png", "test/{}.png"),
    "a kind called train": pictures("train/train/{}.png", "test/train/{}.png"),
    "a kind that sounds like test": pictures("train/test tubes/{}.png", "test/crash test/{}.png"),
    "val": pictures("train/{}.png", "test/{}.png", one="val/1.png", two="val/2.png"),
    "Validation": pictures("train/{}.png", "test/{}.png", one="Validation/cat/1.png"),
    "val in kinds": pictures("cat/train/{}.png", "cat/test/{}.png", one="cat/val/1.png"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("files", CLEAR.values(), ids=CLEAR)
def test_what_is_named_test_is_held_out(files, write, tmp_path):
    arrays, provenance = prepare_images(write(tmp_path / "photos", files), tmp_path)
    assert_test_is_held_out(arrays)
    left_out = {count for key, count in provenance["counts"].items() if "validation" in key}
    assert left_out == ({len(files) - 16} if len(files) > 16 else set())


def test_the_folder_of_a_picture_is_told_without_its_part(tmp_path):
    files = pictures("set/cat/train/{}.png", "set/cat/test/{}.png", one="set/dog/train/1.png", two="set/dog/val/2.png")
    arrays, _ = prepare_images(write_zip(tmp_path / "photos.zip", files), tmp_path)
    assert list(arrays["sources"]) == ["cat", "dog"]
    assert (len(arrays["train"]), len(arrays["test"])) == (11, 6)


UNCLEAR = {
    "a stray picture": (pictures("train/{}.png", "test/{}.png", one="1.png"), r"in neither .*test with 6.*1\.png"),
    "a stray folder": (
        pictures("train/{}.png", "test/{}.png", one="new/1.png"),
        r"beside the folders `train` and `test` there are files in neither .*new with 1.*Move or remove them",
    ),
    "validation alone": (
        pictures("train/{}.png", "val/{}.png"),
        r"no folder is named `test` \(found: train with 10, val with 6\)\. Name the one",
    ),
    "another word for it": (pictures("train/{}.png", "Held-out/{}.png"), "no folder is named `test`"),
    "test and val": (pictures("test/{}.png", "val/{}.png", one="1.png"), "not clear what is for training"),
    "nothing else": (pictures("test/a/{}.png", "test/b/{}.png"), "all files lie in a folder `test`"),
    "a longer name": (pictures("cat/{}.png", "test_images/{}.png"), "is the folder test_images to be held out"),
    "beside the right one": (pictures("test/{}.png", "my-test/{}.png", one="1.png"), "is the folder my-test to be"),
    "one word": (pictures("cat/{}.png", "TestSet/{}.png"), "is the folder TestSet to be held out"),
    "test in train": (pictures("train/{}.png", "train/test/{}.png"), "a folder `test` inside of one for another part"),
    "names of files": (pictures("train_{}.png", "test_{}.png"), "files are named after train and test"),
    "ends of files": (pictures("cat/{}-train.png", "cat/{}-test.png"), "files are named after train and test"),
}


@pytest.mark.parametrize("files, message", UNCLEAR.values(), ids=UNCLEAR)
def test_what_is_no_clear_split_is_said(files, message, tmp_path):
    with pytest.raises(DataError, match=message) as error:
        prepare_images(write_zip(tmp_path / "photos.zip", files), tmp_path)
    assert str(error.value).startswith(str(tmp_path / "photos.zip"))
    assert not (tmp_path / "images.npz").exists()


NO_SPLIT = {
    "flat": pictures("{}.png", "{}.png"),
    "train alone": pictures("train/{}.png", "train/{}.png"),
    "a kind called train": pictures("car/{}.png", "train/{}.png", one="plane/1.png"),
    "an alphabet called dev": pictures("dev/{}.png", "latin/{}.png"),
    "the archive's own name": pictures("my test photos/a/{}.png", "my test photos/b/{}.png"),
    "words with test in them": pictures("contest/{}.png", "latest/{}.png"),
    "some files": pictures("train_{}.png", "plane_{}.png"),
}


@pytest.mark.parametrize("files", NO_SPLIT.values(), ids=NO_SPLIT)
def test_without_a_test_set_a_share_is_drawn(files, tmp_path):
    arrays, _ = prepare_images(write_zip(tmp_path / "photos.zip", files), tmp_path)
    assert len(arrays["test"]) == round(0.25 * len(files))


@pytest.mark.parametrize("place", ["test", "cat/test"])
def test_a_test_set_that_is_a_link_is_held_out(place, tmp_path):
    files = pictures("train/{}.png", "test/{}.png")
    write_directory(tmp_path / "mine", {name: content for name, content in files.items() if "test" in name})
    write_directory(tmp_path / "photos", {name: content for name, content in files.items() if "train" in name})
    (tmp_path / "photos" / place).parent.mkdir(exist_ok=True)
    (tmp_path / "photos" / place).symlink_to(tmp_path / "mine" / "test")
    assert_test_is_held_out(prepare_images(tmp_path / "photos", tmp_path)[0])


@pytest.mark.parametrize("write", [write_directory, write_zip, write_tar])
def test_a_test_image_that_is_trained_on_too_stays_a_test_image(write, tmp_path):
    files = pictures("a/train/{}.png", "z/test/{}.png")
    for i in (30, 31):
        files = {f"a/train/{i}.png": file(colours(i))} | files
    arrays, provenance = prepare_images(write(tmp_path / "photos", files), tmp_path)
    assert_test_is_held_out(arrays)
    assert provenance["counts"]["duplicates left out"] == 2


def test_what_is_left_out_need_not_be_a_picture(tmp_path):
    files = pictures("train/{}.png", "test/{}.png") | {"val/notes.txt": b"x", "val/1.png": file(colours(1))}
    assert_test_is_held_out(prepare_images(write_zip(tmp_path / "photos.zip", files), tmp_path)[0])


def letters(train, test, **others):
    """Characters, three drawings each: {} stands for alphabet/character."""
    named = {}
    for part, alphabets in ((train, "ab"), (test, "c"), *((other, "d") for other in others.values())):
        for alphabet in alphabets:
            for letter in range(7):
                for drawing in range(3):
                    name = f"{part.format(f'{alphabet}/{letter}')}/{drawing}.png"
                    named[name] = file(stroke((ord(alphabet), letter, drawing)))
    return named


CLEAR_LETTERS = {
    "train and test": letters("mine/train/{}", "mine/test/{}"),
    "test beside alphabets": letters("{}", "Test/{}"),
    "val": letters("train/{}", "test/{}", val="val/{}"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("files", CLEAR_LETTERS.values(), ids=CLEAR_LETTERS)
def test_characters_named_test_are_held_out(files, write, tmp_path):
    arrays, provenance = prepare_characters(write(tmp_path / "letters", files), tmp_path)
    assert sorted(arrays["names"][arrays["test_classes"]]) == [f"c/{i}" for i in range(7)]
    rest = arrays["names"][np.concatenate([arrays["train_classes"], arrays["final_classes"]])]
    assert sorted(rest) == [f"{alphabet}/{i}" for alphabet in "ab" for i in range(7)]
    assert len(arrays["final_classes"]) == 5
    assert (provenance["counts"]["test_classes"], provenance["counts"]["classes"]) == (7, 21)


def test_a_test_set_of_characters_may_be_a_link(tmp_path):
    write_directory(tmp_path / "mine", letters("train/{}", "test/{}"))
    write_directory(tmp_path / "letters", letters("train/{}", "train/{}"))
    for i in range(7):
        for drawing in (tmp_path / "letters" / "train" / "c" / str(i)).iterdir():
            drawing.unlink()
    (tmp_path / "letters" / "test").symlink_to(tmp_path / "mine" / "test")
    arrays, _ = prepare_characters(tmp_path / "letters", tmp_path)
    assert sorted(arrays["names"][arrays["test_classes"]]) == [f"c/{i}" for i in range(7)]


UNCLEAR_LETTERS = {
    "drawings of one character in both": (
        letters("{}/train", "{}/train") | letters("{}/test", "{}/test"),
        "a/0: in `test` and outside of it(.|\n)*whole characters",
    ),
    "validation alone": (letters("train/{}", "val/{}"), "no folder is named `test`"),
    "a third folder": (letters("train/{}", "test/{}", new="new/{}"), "in neither .*new with 21"),
    "a longer name": (letters("x/{}", "test set/{}"), "is the folder test set to be held out"),
    "no training left": (
        {name: content for name, content in letters("train/{}", "test/{}").items() if "/b/" not in name},
        "of 14 characters, 7 are to be held out for tests and 5 for the final number",
    ),
}


@pytest.mark.parametrize("files, message", UNCLEAR_LETTERS.values(), ids=UNCLEAR_LETTERS)
def test_what_is_no_clear_split_of_characters_is_said(files, message, tmp_path):
    with pytest.raises(DataError, match=message):
        prepare_characters(write_zip(tmp_path / "letters.zip", files), tmp_path)
    assert not (tmp_path / "omniglot.npz").exists()


def test_the_final_classes_leave_the_tests_alone():
    for seed in range(5):
        rest, test = hold_out(40, 7, seed)
        parts = [split_classes(40, 7, final, seed) for final in (1, 12, 32)]
        for final, part in zip((1, 12, 32), parts, strict=True):
            np.testing.assert_array_equal(part["test_classes"], test)
            assert len(part["final_classes"]) == final
            np.testing.assert_array_equal(np.union1d(part["train_classes"], part["final_classes"]), rest)
            assert not np.intersect1d(part["train_classes"], part["final_classes"]).size
    first, other = split_classes(400, 7, 12, 0), split_classes(400, 7, 12, 1)
    assert list(first["final_classes"]) != list(other["final_classes"])
    assert [list(part) for part in first.values()] == [list(part) for part in split_classes(400, 7, 12, 0).values()]


@pytest.mark.parametrize("tests, final", [(0, 5), (5, 0), (-1, 5), (10, 10), (5, 15), (30, 1)])
def test_every_part_has_some_classes(tests, final):
    with pytest.raises(UserError, match=f"test_classes is {tests} and final_classes is {final}, but there are 20"):
        split_classes(20, tests, final, 0)
