"""One's own images or characters: a directory or a zip of image files.

What lies in a folder `test`, at any depth, is held out; see `splits.named_parts`. Otherwise a share is drawn.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from tqdm import tqdm

from diffplast.core.dataset import CLASSES, DataError
from diffplast.data.archives import members
from diffplast.data.pictures import UnusableError, drawing_codes, image_codes, refuse_unusable
from diffplast.data.splits import hold_out, named_parts, split_classes

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
    test_share: of the images, held out, drawn with split_seed; not used where some lie in a folder `test`. Of images
        that are equal once prepared only one is kept, so that none is in both; a test image, where one is among them.
    Raises DataError with all files that cannot be used, where folders leave open what is held out, and where too few
    images are left.
    """
    place = _place(path, "images")
    read = _read(place, "image", image_codes, "Remove them, or convert them to images of several colours (PNG, JPEG).")
    images = {}  # file by codes
    for file in sorted(read.files, key=lambda file: file.part != "test"):
        images.setdefault(file.pixels.tobytes(), file)
    files = sorted(images.values(), key=lambda file: file.order)

    if any(file.part == "test" for file in files):
        train, test = ([i for i, file in enumerate(files) if file.part == part] for part in ("train", "test"))
    else:
        held_out = round(test_share * len(files))
        if min(held_out, len(files) - held_out) < FEWEST_IMAGES:
            needed = f"{FEWEST_IMAGES} for training and {FEWEST_IMAGES} to hold out"
            raise DataError(
                f"{place}: {len(files)} different images are too few; at least {needed} are needed. Add some."
            )
        train, test = hold_out(len(files), held_out, split_seed)
    if min(len(train), len(test)) < FEWEST_IMAGES:
        raise DataError(
            f"{place}: {len(train)} different images for training and {len(test)} for tests are too few; at least "
            f"{FEWEST_IMAGES} are needed in each of train and test. Add some."
        )

    sources = sorted({file.folder for file in files})
    index = np.array([sources.index(file.folder) for file in files], dtype=np.int32)
    codes = np.stack([file.pixels for file in files])
    arrays = {
        "train": codes[train],
        "test": codes[test],
        "train_source": index[train],
        "test_source": index[test],
        "sources": np.array([source or place.name for source in sources]),
    }
    duplicates = len(read.files) - len(files)
    counts = {"train": len(train), "test": len(test), "duplicates left out": duplicates, **read.left_out}
    return arrays, _provenance(place, description or "images of one's own", licence, counts)


def prepare_character_folder(
    *,
    path: str | None,
    description: str | None,
    licence: str | None,
    ink: Literal["dark", "light"],
    drawings: Annotated[int, Field(ge=2)],
    test_classes: int,
    final_classes: int,
    split_seed: Annotated[int, Field(ge=0)],
) -> tuple[dict, dict]:
    """Characters in Omniglot's layout, drawings of any size made 31 × 31. Returns arrays and provenance.

    path: a directory or zip with files alphabet/character/drawing. description, licence: for the report.
    ink: whether it is darker or lighter than the paper. drawings: of each character, the first by name.
    test_classes, final_classes: characters held out for tests and for the final number, drawn with split_seed; the
        tests' are not drawn where some characters lie in a folder `test`.
    Raises DataError with all files that cannot be used, with the characters that have too few drawings, where folders
    leave open what is held out, and where there are too few characters.
    """
    place = _place(path, "omniglot")
    remedy = "Every file must be a drawing at alphabet/character/drawing (PNG, JPEG)."
    read = _read(place, "drawing", partial(drawing_codes, ink=ink), remedy)
    depths = [file.folder.count("/") for file in read.files]
    usual = Counter(depths).most_common(1)
    odd = [file.name for file, depth in zip(read.files, depths, strict=True) if depth != usual[0][0]]
    refuse_unusable(place, [f"{name}: it does not lie as deep as most of the others" for name in odd], remedy)

    characters, parts = {}, {}
    for file in read.files:
        characters.setdefault(file.folder, []).append(file.pixels)
        parts.setdefault(file.folder, set()).add(file.part)
    torn = [f"{name}: in `test` and outside of it" for name, found in parts.items() if len(found) > 1]
    refuse_unusable(place, torn, "What is held out must be whole characters, each with all of its drawings.")
    few = [f"{name}: {len(found)}" for name, found in characters.items() if len(found) < drawings]
    refuse_unusable(
        place, few, f"These characters have fewer than {drawings} drawings; add some, or set "
        "data.omniglot.folder.drawings to fewer."
    )  # fmt: skip
    named = np.flatnonzero([parts[name] == {"test"} for name in characters])
    tests = len(named) or test_classes
    if min(tests, final_classes, len(characters) - tests - final_classes) < FEWEST_CLASSES:
        raise DataError(
            f"{place}: of {len(characters)} characters, {tests} are to be held out for tests and {final_classes} for "
            f"the final number; at least {FEWEST_CLASSES} are needed for each of these and for training. Add some, or "
            "change data.omniglot.folder.test_classes and final_classes."
        )
    stacked = np.stack([np.stack(found[:drawings]) for found in characters.values()])
    if stacked.mean() > 127:
        raise DataError(
            f"{place}: the drawings are mostly ink when it is {ink}. If it is not, change data.omniglot.folder.ink."
        )
    split = split_classes(
        len(characters), test_classes, final_classes, split_seed, named if len(named) else None
    )
    arrays = {"drawings": stacked, "names": np.array(list(characters)), **split}
    counts = {"classes": len(characters), "drawings": drawings}
    counts |= {part: len(split[part]) for part in CLASSES} | read.left_out
    return arrays, _provenance(place, description or "characters of one's own", licence, counts)


@dataclass(frozen=True)
class _File:
    """A picture of training or test."""

    name: str
    order: int  # its place among all
    part: str  # "train" or "test"
    folder: str  # without the one that names the part
    pixels: np.ndarray


@dataclass(frozen=True)
class _Files:
    """All pictures of training and test, and the count of those in a folder `val` beside them, which are in neither."""

    files: list[_File]
    left_out: dict[str, int]


def _read(place: Path, unit: str, convert: Callable[[bytes], np.ndarray], remedy: str) -> _Files:
    """Every file, converted. Raises DataError with all that `convert` cannot use, and what the remedy is."""
    names, converted = [], []
    for name, content in tqdm(members(place), desc=place.name, unit=unit, mininterval=1):
        names.append(name)
        try:
            converted.append(convert(content))
        except UnusableError as problem:
            converted.append(problem)
    parts, folders = named_parts(place, names)
    files = [
        _File(name, order, part, folder, pixels)
        for order, (name, part, folder, pixels) in enumerate(zip(names, parts, folders, converted, strict=True))
        if part != "validation"
    ]
    problems = [f"{file.name}: {file.pixels}" for file in files if isinstance(file.pixels, UnusableError)]
    refuse_unusable(place, problems, remedy)
    validation = len(names) - len(files)
    return _Files(files, {"in a folder for validation, left out": validation} if validation else {})


def _place(path: str | None, kind: str) -> Path:
    if path is None:
        raise DataError(
            f"datasets.{kind} is folder, but data.{kind}.folder.path is null. Set it to a directory or zip of your "
            "own, or choose another data set."
        )
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no HOME, and nobody's home in the list of users
        raise DataError(f"data.{kind}.folder.path is {path}, but there is no home directory. Write it out.") from None


def _provenance(place: Path, description: str, licence: str | None, counts: dict) -> dict:
    archive = {"checksum": f"sha256:{hashlib.sha256(place.read_bytes()).hexdigest()}"} if place.is_file() else {}
    return {
        "description": description,
        "source": str(place),
        **archive,
        "packages": {"pillow": version("pillow")},
        "counts": counts,
        "licence": licence or "not stated",
    }
