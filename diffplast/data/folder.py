"""One's own images or characters: a directory or a zip of image files."""

import os
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pooch
from pydantic import Field
from tqdm import tqdm

from diffplast.data.archives import members
from diffplast.data.formats import DataError
from diffplast.data.pictures import UnusableError, image_codes, read_drawing, refuse_unusable, shrink_drawing
from diffplast.data.splits import hold_out

FEWEST_IMAGES = 3  # of training and of test: an episode shows three
FEWEST_CLASSES = 5  # an episode shows five characters


def prepare_image_folder(
    *,
    path: str | None,
    description: str | None,
    licence: str | None,
    test_share: Annotated[float, Field(gt=0, lt=1)],
    split_seed: Annotated[int, Field(ge=0)],
) -> tuple[dict, dict]:
    """Images of any size: the middle square, averaged down to 32 × 32, grey. Returns arrays and provenance.

    path: a directory or zip of image files, in folders or not; the folder is kept as the image's source.
    description, licence: for the report.
    test_share: of the images, held out, drawn with split_seed; not used where the images lie in two folders `train`
        and `test`. Of images that are equal once prepared only the first is kept, so that none is in both.
    Raises DataError with all files that cannot be used, and where too few are left.
    """
    place = _place(path, "images")
    images, problems, duplicates = {}, [], 0  # images: name by codes
    for name, content in tqdm(members(place), desc=place.name, unit="image", mininterval=1):
        try:
            codes = image_codes(content).tobytes()
            duplicates += codes in images
            images.setdefault(codes, name)
        except UnusableError as problem:
            problems.append(f"{name}: {problem}")
    refuse_unusable(place, problems, "Remove them, or convert them to images of several colours (PNG, JPEG).")

    names = list(images.values())
    folders = _folders(names)
    parts = np.array([folder.split("/")[0] for folder in folders])
    if set(parts) == {"train", "test"}:
        train, test = (np.flatnonzero(parts == part) for part in ("train", "test"))
        folders = [folder.partition("/")[2] for folder in folders]
    else:
        held_out = round(test_share * len(names))
        if min(held_out, len(names) - held_out) < FEWEST_IMAGES:
            raise _too_few(place, names, f"{FEWEST_IMAGES} for training and {FEWEST_IMAGES} to hold out")
        train, test = hold_out(len(names), held_out, split_seed)
    if min(len(train), len(test)) < FEWEST_IMAGES:
        raise _too_few(place, names, f"{FEWEST_IMAGES} in each of train and test")

    sources = sorted(set(folders))
    index = np.array([sources.index(folder) for folder in folders], dtype=np.int32)
    codes = np.frombuffer(b"".join(images), dtype=np.uint8).reshape(len(names), -1)
    arrays = {
        "train": codes[train],
        "test": codes[test],
        "train_source": index[train],
        "test_source": index[test],
        "sources": np.array([source or place.name for source in sources]),
    }
    counts = {"train": len(train), "test": len(test), "duplicates left out": duplicates}
    return arrays, _provenance(place, description or "images of one's own", licence, counts)


def prepare_character_folder(
    *,
    path: str | None,
    description: str | None,
    licence: str | None,
    ink: Literal["dark", "light"],
    drawings: Annotated[int, Field(ge=2)],
    test_classes: int,
    split_seed: Annotated[int, Field(ge=0)],
) -> tuple[dict, dict]:
    """Characters in Omniglot's layout, drawings of any size made 31 × 31. Returns arrays and provenance.

    path: a directory or zip with files alphabet/character/drawing. description, licence: for the report.
    ink: whether it is darker or lighter than the paper. drawings: of each character, the first by name.
    test_classes: characters held out, drawn with split_seed.
    Raises DataError with all files that cannot be used, with the characters that have too few drawings, and where
    there are too few characters.
    """
    place = _place(path, "omniglot")
    names, small, problems = [], [], []
    for name, content in tqdm(members(place), desc=place.name, unit="drawing", mininterval=1):
        try:
            small.append(shrink_drawing(read_drawing(content), ink))
            names.append(name)
        except UnusableError as problem:
            problems.append(f"{name}: {problem}")
    depth = Counter(name.count("/") for name in names).most_common(1)
    problems += [
        f"{name}: it does not lie as deep as most of the others" for name in names if name.count("/") != depth[0][0]
    ]
    refuse_unusable(place, problems, "Every file must be a drawing at alphabet/character/drawing (PNG, JPEG).")

    characters = {}
    for folder, drawing in zip(_folders(names), small, strict=True):
        characters.setdefault(folder, []).append(drawing)
    few = [f"{name}: {len(found)}" for name, found in characters.items() if len(found) < drawings]
    refuse_unusable(
        place, few, f"These characters have fewer than {drawings} drawings; add some, or set "
        "data.omniglot.folder.drawings to fewer."
    )  # fmt: skip
    if min(test_classes, len(characters) - test_classes) < FEWEST_CLASSES:
        raise DataError(
            f"{place}: of {len(characters)} characters, {test_classes} are to be held out; at least {FEWEST_CLASSES} "
            "are needed for each of training and tests. Add some, or change data.omniglot.folder.test_classes."
        )
    stacked = np.stack([np.stack(found[:drawings]) for found in characters.values()])
    if stacked.mean() > 127:
        raise DataError(
            f"{place}: the drawings are mostly ink when it is {ink}. If it is not, change data.omniglot.folder.ink."
        )
    train, test = hold_out(len(characters), test_classes, split_seed)
    arrays = {"drawings": stacked, "names": np.array(list(characters)), "train_classes": train, "test_classes": test}
    counts = {
        "classes": len(characters),
        "drawings": drawings,
        "train_classes": len(train),
        "test_classes": len(test),
    }
    return arrays, _provenance(place, description or "characters of one's own", licence, counts)


def _place(path: str | None, kind: str) -> Path:
    if path is None:
        raise DataError(
            f"datasets.{kind} is folder, but data.{kind}.folder.path is null. Set it to a directory or zip of your "
            "own, or choose another data set."
        )
    return Path(path).expanduser()


def _folders(names: list[str]) -> list[str]:
    """The folder of each file, without what all of them share."""
    folders = [os.path.dirname(name) for name in names]
    shared = os.path.commonpath(folders) if folders else ""
    return [folder[len(shared) :].lstrip("/") for folder in folders]


def _too_few(place: Path, names: list[str], needed: str) -> DataError:
    return DataError(f"{place}: {len(names)} different images are too few; at least {needed} are needed. Add some.")


def _provenance(place: Path, description: str, licence: str | None, counts: dict) -> dict:
    archive = {"checksum": f"sha256:{pooch.file_hash(str(place), alg='sha256')}"} if place.is_file() else {}
    return {
        "description": description,
        "source": str(place),
        **archive,
        "packages": {"pillow": version("pillow")},
        "counts": counts,
        "licence": licence or "not stated",
    }
