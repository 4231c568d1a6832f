"""What is held out: named by the user's folders, or drawn once with a seed of its own; saved with the data."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from diffplast.core.dataset import DataError
from diffplast.core.errors import UserError

NAMES = {  # of folders, by the part that they hold
    "train": ("train", "training"),
    "test": ("test", "tests", "testing"),
    "validation": (
        "val", "valid", "validation", "dev", "eval", "evaluation", "holdout", "held-out", "held_out", "heldout",
    ),
}  # fmt: skip
PART = {name: part for part, names in NAMES.items() for name in names}
LIKE_TEST = re.compile(r"(^|[^a-z])test(s|ing|set|data|images)?([^a-z]|$)")  # test_images, my tests, set2-testing
SHOWN = 5  # names in one message


def hold_out(count: int, held_out: int, seed: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices below `count`: those for training, and `held_out` of them for tests.

    Raises UserError where one of the two would be empty.
    """
    if not 0 < held_out < count:
        raise UserError(f"{held_out} of {count} cannot be held out")
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def split_classes(
    count: int, test_classes: int, final_classes: int, seed: int, test: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Sorted indices below `count` in three parts without overlap, as the arrays of an "omniglot" file.

    test_classes: how many the tests are on, drawn with `seed`; not used where `test` gives their indices.
    final_classes: how many the final number is on, which nobody has looked at before. They are drawn from what the
        tests leave, with a generator of their own, so that the tests' are the same however many are final.
    Raises UserError where one of the three parts would be empty.
    """
    tests = test_classes if test is None else len(test)
    if min(tests, final_classes) < 1 or tests + final_classes >= count:
        raise UserError(
            f"test_classes is {tests} and final_classes is {final_classes}, but there are {count} classes in all; each "
            "must be at least 1, and some must be left for training"
        )
    if test is None:
        rest, test = hold_out(count, test_classes, seed)
    else:
        rest = np.setdiff1d(np.arange(count), test)
    train, final = hold_out(len(rest), final_classes, (seed, 1))
    return {"train_classes": rest[train], "test_classes": np.sort(test), "final_classes": rest[final]}


def named_parts(place: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """What the folders of files say of training and test: the part of each file, and its folder.

    names: of the files, with /. A part is "train", "test" or, where all three are there, "validation", which is for
    neither. A folder `test` may lie at any depth (test/cats, cats/test); what lies beside it is for training. Where
    there is none, every part is "train", and what is held out has to be drawn. Folders are given without the one that
    names the part and without those that all files share.
    Raises DataError, with what was found, where that leaves open what is held out.
    """
    paths = [PurePosixPath(name).parts[:-1] for name in names]
    levels = [_level(path) for path in paths]
    parts = [None if level is None else PART[path[level].lower()] for path, level in zip(paths, levels, strict=True)]
    problem = _unclear(names, paths, levels, parts)
    if problem:
        raise DataError(f"{place}: {problem}")
    if "test" in parts:
        paths = [
            path if level is None else path[:level] + path[level + 1 :]
            for path, level in zip(paths, levels, strict=True)
        ]
        parts = [part or "train" for part in parts]
    else:
        parts = ["train"] * len(parts)
    shared = _shared([path for path, part in zip(paths, parts, strict=True) if part != "validation"])
    return parts, ["/".join(path[shared:]) for path in paths]


def _level(path: tuple[str, ...]) -> int | None:
    """Where in a path the folder is that names the part: the first one."""
    return next((level for level, folder in enumerate(path) if folder.lower() in PART), None)


def _shared(paths: list[tuple[str, ...]]) -> int:
    """How many folders all paths begin with."""
    shared = 0
    for folders in zip(*paths, strict=False):
        if len(set(folders)) > 1:
            break
        shared += 1
    return shared


def _unclear(names, paths, levels, parts) -> str | None:
    """Why it is open what is held out, with a remedy; None where it is clear."""
    seen = Counter(parts)
    found = f"(found: {_listed(_found(names, paths, levels, parts))})"
    both = [
        name
        for name, path, level in zip(names, paths, levels, strict=True)
        if level is not None and PART[path[level].lower()] != "test" and _names_test(path[level + 1 :])
    ]
    if both:
        return f"{_listed(both)}: a folder `test` inside of one for another part. Move it beside that folder."
    shared = _shared(paths)
    alike = sorted(
        {
            folder
            for path, part in zip(paths, parts, strict=True)
            if part is None
            for folder in path[shared:]
            if LIKE_TEST.search(folder.lower())
        }
    )
    if alike:
        return (
            f"is the folder {_listed(alike)} to be held out? Name what is held out `test`; anything else needs another "
            "name."
        )
    if seen["test"]:
        if seen["test"] == len(parts):
            return "all files lie in a folder `test`, and none are left for training. Add a folder `train` beside it."
        if seen["train"] and seen[None]:
            return f"beside the folders `train` and `test` there are files in neither {found}. Move or remove them."
        if seen["validation"] and not seen["train"]:
            return f"beside the folder `test` it is not clear what is for training {found}. Put that into `train`."
    elif seen["train"] and seen["validation"]:
        return f"no folder is named `test` {found}. Name the one that is to be held out `test`."
    elif {"train", "test"} <= {_stem_part(name) for name in names}:
        return "its files are named after train and test. Put them into two folders with these names."
    return None


def _names_test(folders: tuple[str, ...]) -> bool:
    return any(PART.get(folder.lower()) == "test" for folder in folders)


def _stem_part(name: str) -> str | None:
    """The part that a file's name begins or ends with: train_01.png, cat-test.png."""
    words = re.findall(r"[a-z]+", PurePosixPath(name).stem.lower())
    return next((PART[word] for word in (*words[:1], *words[-1:]) if word in PART), None)


def _found(names, paths, levels, parts) -> list[str]:
    """Every folder that names a part, and what else there is, with the number of files in each."""
    where = Counter(
        "/".join(path[: level + 1]) if part else path[0] if path else name
        for name, path, level, part in zip(names, paths, levels, parts, strict=True)
    )
    return [f"{folder} with {count}" if folder not in names else folder for folder, count in where.most_common()]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
