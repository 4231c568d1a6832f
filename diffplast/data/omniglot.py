"""Omniglot (Lake, Salakhutdinov, Tenenbaum 2015): 1,623 characters of 50 alphabets, each drawn by 20 people."""

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from tqdm import tqdm

from diffplast.core.dataset import DataError
from diffplast.data.archives import members
from diffplast.data.fetch import Mirror, Place, fetch, with_mirror
from diffplast.data.pictures import UnusableError, read_drawing, refuse_unusable, shrink_drawing
from diffplast.data.splits import split_classes

SIDE = 105  # of an original drawing, in pixels


@dataclass(frozen=True)
class Part:
    """One of the two official archives.

    digest: sha256 over np.packbits of the drawings (True is paper), each on its own, in the order of their paths.
    """

    places: tuple[Place, ...]
    characters: int
    digest: str


ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
DRAWINGS = 20  # of each character
PARTS = {  # checksums as published with torchvision
    "background": Part(
        (Place(ADDRESS + "images_background.zip", "md5:68d2efa1b9178cc56df9314c21c6e718"),),
        964,
        "0c9dd3e690771a96b7005791e921146797608178e3c6ee5ba6e82cc98a57121e",
    ),
    "evaluation": Part(
        (Place(ADDRESS + "images_evaluation.zip", "md5:6b91aef0f799c5bb55b94e3f2daec811"),),
        659,
        "9981879aa1d6238ebf877b6a048c375fec76cf8ab66b261d4edca5c50a8c9e32",
    ),
}


def prepare_omniglot(
    *,
    background: Mirror,
    evaluation: Mirror,
    test_classes: int,
    final_classes: int,
    split_seed: Annotated[int, Field(ge=0)],
) -> tuple[dict, dict]:
    """Fetch both archives and check their drawings. Returns the arrays of an "omniglot" file and the provenance.

    background, evaluation: other places of the two archives.
    test_classes, final_classes: characters held out for tests and for the final number, drawn with split_seed from all
        of them; the paper holds out one such set.
    Raises DataError for an archive that cannot be had or does not hold Omniglot's drawings, UserError where no
    characters would be left for training.
    """
    drawings, names, archives = [], [], {}
    for name, mirror in (("background", background), ("evaluation", evaluation)):
        part = PARTS[name]
        path, place = fetch(with_mirror(mirror, part.places), f"data.omniglot.omniglot.{name}")
        small, characters = _read(path, part)
        drawings.append(small)
        names += characters
        archives[name] = {"source": place.address, "checksum": place.checksum, "sha256_drawings": part.digest}
    parts = split_classes(len(names), test_classes, final_classes, split_seed)
    arrays = {"drawings": np.concatenate(drawings), "names": np.array(names), **parts}
    provenance = {
        "description": "the characters of Omniglot, drawn by hand",
        "archives": archives,
        "packages": {"pillow": version("pillow")},
        "counts": {
            "alphabets": len({name.split("/")[0] for name in names}),
            "classes": len(names),
            "drawings": DRAWINGS,
            **{part: len(indices) for part, indices in parts.items()},
        },
        "licence": "MIT, B. Lake, github.com/brendenlake/omniglot",
    }
    return arrays, provenance


def _read(path: Path, part: Part) -> tuple[np.ndarray, list[str]]:
    """Drawings (characters, 20, 31, 31) of one archive and names of its characters, once they are known as Omniglot's.

    The digest is over the drawings alone, so that an archive that was packed again is as good as the official one.
    """
    small, classes, problems, digest = [], {}, [], hashlib.sha256()
    for name, content in tqdm(sorted(members(path)), desc=path.name, unit="drawing", mininterval=1):
        try:
            drawing = read_drawing(content)
            small.append(shrink_drawing(drawing))
        except UnusableError as problem:
            problems.append(f"{name}: {problem}")
            continue
        if drawing.size != (SIDE, SIDE):
            problems.append(f"{name}: it has {drawing.width} × {drawing.height} pixels, not {SIDE} × {SIDE}")
        digest.update(np.packbits(np.asarray(drawing) > 127).tobytes())
        character = "/".join(name.split("/")[-3:-1])
        classes[character] = classes.get(character, 0) + 1
    other = "For other drawings than Omniglot's, set datasets.omniglot to folder."
    refuse_unusable(path, problems, other)
    if len(classes) != part.characters or set(classes.values()) != {DRAWINGS}:
        raise DataError(
            f"{path}: it holds {len(small):,} drawings of {len(classes):,} characters, not {DRAWINGS} of each of "
            f"Omniglot's {part.characters:,}. {other}"
        )
    if digest.hexdigest() != part.digest:
        raise DataError(
            f"{path}: its drawings are not Omniglot's: their digest is {digest.hexdigest()}, not {part.digest}. "
            f"Delete the archive and get it again. {other}"
        )
    return np.stack(small).reshape(part.characters, DRAWINGS, *small[0].shape), list(classes)
