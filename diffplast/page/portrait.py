"""What the page's introduction shows: w, alpha and H of a network over an episode, as small pictures that move."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

FRAMES = 26
"""Frames that an episode is shown in."""
LEVELS = 24
"""Shades of each colour."""
ABOVE, BELOW = (0, 114, 178), (213, 94, 0)
"""Colours of numbers above 0 and below."""


@dataclass(frozen=True)
class Portrait:
    """A network over an episode.

    weight, alpha (N, N). traces (T, N, N): after each step. text: what happens in the episode, in words. note: the run
    and the commit that the network is of.
    """

    weight: np.ndarray
    alpha: np.ndarray
    traces: np.ndarray
    text: str
    note: str


@dataclass(frozen=True)
class Tile:
    """A picture of the introduction. frames: how many it has, one below the other. source: as a data URI."""

    name: str
    sign: str
    frames: int
    source: str


def tiles(portrait: Portrait) -> list[Tile]:
    """Draw the four terms of w + alpha x H = what signals pass through; H and the sum once a frame."""
    weight, alpha = portrait.weight, portrait.alpha
    places = np.linspace(0, len(portrait.traces), FRAMES).round().astype(int)
    traces = np.stack([np.zeros_like(weight), *portrait.traces])[places]
    sums = weight + alpha * traces
    most = np.quantile(np.abs(sums), 0.98)
    return [
        Tile("weight w", "", 1, _png(weight / most)),
        Tile("plasticity α", "+", 1, _png(alpha / np.abs(alpha).max())),
        Tile("trace H", "×", FRAMES, _png(np.concatenate(traces) / np.abs(traces).max())),
        Tile("in effect", "=", FRAMES, _png(np.concatenate(sums) / most)),
    ]


def _png(values: np.ndarray) -> str:
    """Return numbers (rows, columns) as a PNG with a pixel each: full colour at 1 and -1, transparent at 0."""
    shades = (np.clip(values, -1, 1) * LEVELS).round().astype(int) + LEVELS
    picture = Image.fromarray(shades.astype(np.uint8), "P")
    picture.putpalette([*(LEVELS * BELOW), *((LEVELS + 1) * ABOVE)])
    strength = bytes(255 * abs(shade - LEVELS) // LEVELS for shade in range(2 * LEVELS + 1))
    written = BytesIO()
    picture.save(written, "PNG", optimize=True, transparency=strength)
    return "data:image/png;base64," + b64encode(written.getvalue()).decode()
