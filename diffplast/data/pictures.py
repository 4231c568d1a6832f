"""Image files of any kind and size as the small grey arrays that data sets are made of.

All is computed in floating point, from whatever depth a picture has, so that one of few or of faint levels keeps them.
"""

import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from diffplast.core.dataset import DRAWING_SIDE, IMAGE_SIDE, DataError, encode, normalise

LISTED = 10  # files that one message names
# Weights of red, green and blue.
SUM = (1.0, 1.0, 1.0)
LUMA = (0.299, 0.587, 0.114)  # how bright they are (ITU-R 601-2), as for Pillow's mode "L"
FEWEST_LEVELS = 64  # of the 256 that Pillow leaves of a colour picture with 16 bits a channel


class UnusableError(ValueError):
    """Why a file cannot serve as an image or drawing."""


def image_codes(content: bytes) -> np.ndarray:
    """The middle square of an image file, averaged down to 32 × 32, as uint8 codes (1024,) of `dataset.encode`.

    The sum of its channels is normalised as the paper does. Transparent parts are white, or black where the picture
    shows better on that. Of several frames the first is taken. Raises UnusableError.
    """
    levels, alpha = _grey(content, SUM)
    if alpha is not None:
        white, black = (_on(paper, levels, alpha) for paper in (255 * sum(SUM), 0))
        levels = white if 2 * np.ptp(white) >= np.ptp(black) else black
    if np.ptp(levels) == 0:
        raise UnusableError("it is of one colour")
    grey = Image.fromarray(levels)
    side = min(grey.size)
    left, top = (grey.width - side) / 2, (grey.height - side) / 2
    box = (left, top, left + side, top + side)
    small = np.asarray(grey.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BOX, box=box)).reshape(1, -1)
    if np.ptp(small) <= 1e-6 * np.ptp(levels):
        raise UnusableError(f"its middle square, averaged down to {IMAGE_SIDE} × {IMAGE_SIDE}, is of one colour")
    return encode(normalise(small))[0]


def drawing_codes(content: bytes, ink: Literal["dark", "light"]) -> np.ndarray:
    """A drawing of any depth and contrast as uint8 (31, 31), 0 is paper and 255 the most ink that a pixel has.

    ink: whether it is darker or lighter than the paper, which also lies under transparent parts.
    It keeps its proportions; the shorter side is filled up with paper. Of several frames the first is taken.
    Raises UnusableError for a drawing without ink.
    """
    levels, alpha = _grey(content, LUMA)
    if alpha is not None:
        levels = _on(255 * sum(LUMA) if ink == "dark" else 0, levels, alpha)
    if np.ptp(levels) == 0:
        if alpha is not None and np.ptp(alpha):
            other = {"dark": "light", "light": "dark"}[ink]
            raise UnusableError(
                f"its ink is as {other} as the paper that its transparent parts get; set data.omniglot.folder.ink to "
                f"{other}"
            )
        raise UnusableError("it has no ink, being of one colour")
    covered = (levels.max() - levels if ink == "dark" else levels - levels.min()) / np.ptp(levels)
    small = np.asarray(_shrunk(Image.fromarray(covered)))
    return np.rint(small / small.max() * 255).astype(np.uint8)


def read_drawing(content: bytes) -> Image.Image:
    """One of Omniglot's drawings, as a grey image ("L"). Raises UnusableError."""
    return _open(content).convert("L")


def shrink_drawing(drawing: Image.Image) -> np.ndarray:
    """A grey drawing in black on white as uint8 (31, 31): the share of each pixel that ink covers, times 255.

    Raises UnusableError for a drawing without ink.
    """
    small = np.asarray(_shrunk(ImageOps.invert(drawing)))
    if not small.any():
        raise UnusableError("it has no ink")
    return small


def refuse_unusable(place: Path, problems: list[str], remedy: str) -> None:
    """Raise DataError with all problems in one message, or the first of them where they are many; none: return."""
    if problems:
        more = f"\n  ... and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:LISTED])
        raise DataError(f"{place}: {len(problems)} file(s) cannot be used:{listed}{more}\n{remedy}")


def _shrunk(ink: Image.Image) -> Image.Image:
    """Ink on paper, which is 0: padded to a square and averaged down to 31 × 31."""
    if ink.width != ink.height:
        square = Image.new(ink.mode, (max(ink.size),) * 2, 0)
        square.paste(ink, ((square.width - ink.width) // 2, (square.height - ink.height) // 2))
        ink = square
    return ink.resize((DRAWING_SIDE, DRAWING_SIDE), Image.Resampling.BOX)


def _on(paper: float, levels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Levels where alpha is 1, `paper` where it is 0: float32."""
    return np.float32(paper) + alpha * (levels - np.float32(paper))


def _open(content: bytes) -> Image.Image:
    """The first frame, upright, all of it decoded."""
    try:
        picture = Image.open(io.BytesIO(content))
        is_deep = _is_deep(picture)
        picture.load()
    except Exception as problem:  # damaged files make Pillow raise nearly anything
        reason = str(problem) or type(problem).__name__
        if isinstance(problem, Image.UnidentifiedImageError):
            reason = "not an image"
        elif isinstance(problem, Image.DecompressionBombError):
            reason = f"larger than the {2 * Image.MAX_IMAGE_PIXELS:,} pixels that are read; save it smaller"
        raise UnusableError(reason) from None
    if is_deep:
        span = max(high - low for low, high in np.reshape(picture.convert("RGB").getextrema(), (-1, 2)))
        if span < FEWEST_LEVELS:
            raise UnusableError(
                f"only the upper 8 of its 16 bits a channel can be read in colour, and there it has just {span + 1} "
                "levels; save it in grey with 16 bits, or stretch its contrast and save it with 8 bits a channel"
            )
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a damaged note of how the camera was held leaves the picture as good as it is
        return picture


def _is_deep(picture: Image.Image) -> bool:
    """Whether it is stored with more bits a channel than Pillow reads: with 16, in colour or with transparency."""
    stored = [(tile.codec_name, tile.args) for tile in getattr(picture, "tile", [])]
    deep_maximum = any(codec.startswith("ppm") and args[-1] > 255 for codec, args in stored)
    return picture.mode in ("RGB", "RGBA", "LA", "CMYK") and (
        deep_maximum or any(mark in repr(stored) for mark in (";16", "SGI16"))
    )


def _grey(content: bytes, weights: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray | None]:
    """Levels and alpha in [0, 1], both float32 (height, width); alpha is None where nothing can be transparent.

    Levels are the weighted sum of the channels, each 0 .. 255. Of more than 8 bits, the whole range that the picture
    uses is stretched to that, in whatever unit it is.
    """
    picture = _open(content)
    full = 255 * sum(weights)
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        return _stretched(picture, full)
    if picture.mode == "LAB":
        return np.asarray(picture.getchannel(0)) * np.float32(full / 255), None  # how light it is
    alpha = None
    if picture.has_transparency_data:
        if picture.mode == "La":
            picture = picture.convert("LA")
        picture = picture.convert("RGBA")
        alpha = np.asarray(picture.getchannel("A")) / np.float32(255)
        if not alpha.any():
            raise UnusableError("all of it is transparent")
    picture = picture.convert("RGB")
    channels = (np.asarray(picture.getchannel(channel)) for channel in range(3))
    return sum(np.float32(weight) * channel for weight, channel in zip(weights, channels, strict=True)), alpha


def _stretched(picture: Image.Image, full: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Levels 0 .. full of a picture of one deep channel, and its alpha."""
    levels = np.asarray(picture).astype(np.float64)  # holds even the last of 32 bits
    if not np.isfinite(levels).all():
        raise UnusableError("some of its pixels are not numbers (NaN or infinite); give them a value")
    hidden = picture.info.get("transparency")  # the one level that stands for nothing
    is_shown = levels != hidden if isinstance(hidden, int) else np.ones(levels.shape, bool)
    if not is_shown.any():
        raise UnusableError("all of it is transparent")
    low, high = levels[is_shown].min(), levels[is_shown].max()
    if low == high:  # of one colour, or a shape against what is transparent
        levels = np.full(levels.shape, 0 if high == 0 else full)
    else:
        levels = (levels - low) / (high - low) * full
    return levels.astype(np.float32), None if is_shown.all() else is_shown.astype(np.float32)
