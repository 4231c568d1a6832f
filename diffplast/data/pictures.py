"""Image files of any kind and size as the small grey arrays that data sets are made of."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from diffplast.data.formats import DRAWING_SIDE, IMAGE_SIDE, DataError, encode, normalise

LISTED = 10  # files that one message names


class UnusableError(ValueError):
    """Why a file cannot serve as an image or drawing."""


def image_codes(content: bytes) -> np.ndarray:
    """The middle square of an image file, averaged down to 32 × 32, as uint8 codes (1024,) of `formats.encode`.

    The sum of its channels is normalised as the paper does. Transparent parts are white. Raises UnusableError.
    """
    picture = _open(content).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    small = picture.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BOX, box=box)
    grey = np.asarray(small, dtype=np.float32).sum(axis=2).reshape(1, -1)
    if np.ptp(grey) == 0:
        raise UnusableError("it is of one colour")
    return encode(normalise(grey))[0]


def read_drawing(content: bytes) -> Image.Image:
    """A drawing as a grey image, white where it is transparent. Raises UnusableError."""
    return _open(content).convert("L")


def shrink_drawing(drawing: Image.Image, ink: str) -> np.ndarray:
    """A grey drawing as uint8 (31, 31), 0 is paper and 255 is ink: the share of each pixel that ink covers.

    It keeps its proportions; the shorter side is filled up with paper. ink: "dark" or "light".
    Raises UnusableError for a drawing without ink.
    """
    if ink == "dark":
        drawing = ImageOps.invert(drawing)
    if drawing.width != drawing.height:
        drawing = ImageOps.pad(drawing, (max(drawing.size),) * 2, color=0)
    small = np.asarray(drawing.resize((DRAWING_SIDE, DRAWING_SIDE), Image.Resampling.BOX))
    if not small.any():
        raise UnusableError("it has no ink")
    return small


def refuse_unusable(place: Path, problems: list[str], remedy: str) -> None:
    """Raise DataError with all problems in one message, or the first of them where they are many; none: return."""
    if problems:
        more = f"\n  ... and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:LISTED])
        raise DataError(f"{place}: {len(problems)} file(s) cannot be used:{listed}{more}\n{remedy}")


def _open(content: bytes) -> Image.Image:
    """The image, upright and on white."""
    try:
        picture = Image.open(io.BytesIO(content))
        picture = ImageOps.exif_transpose(picture)
    except Exception as problem:  # damaged files make Pillow raise nearly anything
        reason = "not an image" if isinstance(problem, Image.UnidentifiedImageError) else str(problem)
        raise UnusableError(reason) from None
    if picture.mode.startswith("I;16"):  # Pillow would cut 16 bits off at 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise UnusableError(f"its pixels are of mode {picture.mode}; save it with 8 bits a channel")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture
