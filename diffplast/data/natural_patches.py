"""The default images: 32 × 32 grey patches of the photographs that scikit-image and scikit-learn install.

Each patch is a square of random size and place, averaged down to 32 × 32, so that patches hold things and parts
of things as CIFAR-10's images do, and not just texture. Training and test patches come from different
photographs.
"""

from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field
from tqdm import tqdm

from diffplast.core.dataset import IMAGE_SIDE, encode, normalise
from diffplast.core.errors import UserError

# The installed photographs of things and scenes, none of those that scikit-image would download.
# Left out: drawings, masks and text; microscopy and the eye; the Hubble field (points); surfaces of one texture
# (brick, grass, gravel); a blurred clock; the second picture of the stereo pair.
# Name: package, file, licence.
PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png", "NASA, public domain"),
    "camera": ("skimage", "data/camera.png", "Lav Varshney, CC0"),
    "chelsea": ("skimage", "data/chelsea.png", "Stefan van der Walt, CC0"),
    "china": ("sklearn", "datasets/images/china.jpg", "danielbuechele, CC BY 2.0"),
    "coffee": ("skimage", "data/coffee.png", "Rachel Michetti, CC0"),
    "coins": ("skimage", "data/coins.png", "Brooklyn Museum, no known copyright restrictions"),
    "flower": ("sklearn", "datasets/images/flower.jpg", "vultilion, CC BY 2.0"),
    "moon": ("skimage", "data/moon.png", "distributed with scikit-image"),
    "motorcycle": ("skimage", "data/motorcycle_left.png", "Middlebury 2014 stereo benchmark"),
    "rocket": ("skimage", "data/rocket.jpg", "SpaceX, public domain"),
}
DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
TRIES_PER_PATCH = 100  # a photograph with fewer than one in so many patches of enough contrast is an error


def read_grey(name: str) -> np.ndarray:
    """Photograph `name` as the sum of its three channels: float32 (height, width), 0 .. 765."""
    package, path, _ = PHOTOGRAPHS[name]
    with (files(package) / path).open("rb") as stream:
        return np.asarray(Image.open(stream).convert("RGB"), dtype=np.float32).sum(axis=2)


def prepare_natural_patches(
    *,
    train_patches: int,
    test_patches: int,
    test_photographs: Sequence[str],
    crop_min_px: int,
    crop_max_px: int,
    min_contrast: float,
    seed: Annotated[int, Field(ge=0)],
) -> tuple[dict, dict]:
    """Cut the patches. Returns the arrays of an "images" file (see `dataset`) and the provenance.

    train_patches, test_patches: how many, shared equally between the photographs of that part.
    test_photographs: keys of `PHOTOGRAPHS`; the others are for training.
    crop_min_px, crop_max_px: side of the square in the photograph before it is averaged down to 32 × 32;
        drawn log-uniformly, and never larger than the photograph.
    min_contrast: patches whose grey levels (0 .. 255) have a smaller standard deviation are rejected as flat.
    seed: of places, sizes and mirror images (half of the training patches are mirrored left to right, no test
        patch is).
    Raises UserError for unknown photographs, an empty part, and options that yield no patches.
    """
    unknown = set(test_photographs) - set(PHOTOGRAPHS)
    if unknown:
        raise UserError(f"unknown test_photographs {sorted(unknown)}; known: {', '.join(PHOTOGRAPHS)}")
    parts = {
        "train": [name for name in PHOTOGRAPHS if name not in test_photographs],
        "test": [name for name in PHOTOGRAPHS if name in test_photographs],
    }
    if not parts["train"] or not parts["test"]:
        raise UserError("test_photographs must leave photographs for both training and test")
    if not IMAGE_SIDE <= crop_min_px <= crop_max_px:
        raise UserError(f"need {IMAGE_SIDE} <= crop_min_px <= crop_max_px, got {crop_min_px}, {crop_max_px}")

    sources = list(PHOTOGRAPHS)
    arrays = {"sources": np.array(sources)}
    with tqdm(total=train_patches + test_patches, desc="patches", unit="patch", mininterval=1) as bar:
        for part, wanted in (("train", train_patches), ("test", test_patches)):
            if wanted < len(parts[part]):
                raise UserError(f"{part}_patches is {wanted}, fewer than its {len(parts[part])} photographs")
            patches, source = [], []
            for place, name in enumerate(parts[part]):
                share = wanted // len(parts[part]) + (place < wanted % len(parts[part]))
                index = sources.index(name)
                rng = np.random.default_rng([seed, index])  # one photograph's draws leave the others' alone
                crop = (crop_min_px, crop_max_px)
                patches.append(_cut(name, share, crop, min_contrast, part == "train", rng, bar))
                source += [index] * share
            arrays[part] = encode(normalise(np.concatenate(patches)))
            arrays[f"{part}_source"] = np.array(source, dtype=np.int16)

    provenance = {
        "description": "32 × 32 grey patches of photographs that installed packages carry",
        "packages": {dist: version(dist) for dist in [*DISTRIBUTIONS.values(), "pillow"]},
        "photographs": {
            part: [
                {"name": name, "file": "/".join(PHOTOGRAPHS[name][:2]), "licence": PHOTOGRAPHS[name][2]}
                for name in names
            ]
            for part, names in parts.items()
        },
        "counts": {"train": train_patches, "test": test_patches, "photographs": len(sources)},
        "licence": "of each photograph, see there",
    }
    return arrays, provenance


def _cut(name, count, crop, min_contrast, mirror, rng, bar) -> np.ndarray:
    """`count` patches of one photograph: float32 (count, 1024), channel sums 0 .. 765."""
    grey = read_grey(name)
    height, width = grey.shape
    smallest, largest = crop[0], min(height, width, crop[1])
    if largest < smallest:
        raise UserError(f"photograph {name} ({width} × {height}) is smaller than crop_min_px = {smallest}")
    picture = Image.fromarray(grey)
    patches = []
    for _ in range(count * TRIES_PER_PATCH):
        side = np.exp(rng.uniform(np.log(smallest), np.log(largest)))
        left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        flip = mirror and rng.random() < 0.5
        box = (left, top, left + side, top + side)
        patch = np.asarray(picture.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BOX, box=box))
        if patch.std() < 3 * min_contrast:  # three channels summed: three times the grey level
            continue
        patches.append((patch[:, ::-1] if flip else patch).ravel())
        bar.update()
        if len(patches) == count:
            return np.stack(patches)
    raise UserError(
        f"photograph {name}: only {len(patches)} of {count} patches reach min_contrast = {min_contrast}"
    )
