"""What the page's live naming is made of: a trained network, held-out drawings, and how drawings look."""

from base64 import b64encode

import numpy as np

from diffplast.page.networks import Laboratory, kept
from diffplast.report import numbers
from diffplast.report.results import TaskResults

ARMS = ("plastic", "homogeneous")
"""The page has the network of the first of them that is kept."""
SETS = 12
"""Sets of held-out drawings in the page, at most: a kilobyte a drawing."""


def laboratory(results: TaskResults) -> Laboratory | None:
    """Return the network and held-out drawings; None where no network is kept.

    data: ways, side and label_strength as in `Experiment`. accuracy in words. sets: of each, shown (ways drawings, by
    label) and tested (another drawing of one of them), as base64 of bytes, ink 255; first those that are easy
    to draw.
    habits: see `habits`.
    """
    found = kept(results, ARMS)[:1]
    if not found:
        return None
    ((network, run),) = found
    sets, drawings = [], []
    for each in results.finished(run.run.arm):
        examples = each.examples()
        for shown, label, tested in zip(examples["shown"], examples["label"], examples["tested"], strict=True):
            by_label = shown[[int(np.flatnonzero(label == way)[0]) for way in range(label.max() + 1)]]
            sets.append((by_label, tested))
            drawings += [*shown, tested]
    look = habits(np.stack(drawings))
    sets.sort(key=lambda each: _difficulty(each[0], look["stroke"]))
    experiment = {key: results.experiment(key) for key in ("ways", "side", "label_strength")}
    accuracy = numbers.show(results.measure, run.metric("accuracy_final"))
    texts = [{"shown": _text(shown), "tested": _text(tested)} for shown, tested in sets[:SETS]]
    about = {"accuracy": accuracy, "sets": texts, "habits": look}
    return Laboratory([network], experiment | about)


def habits(drawings: np.ndarray) -> dict[str, float]:
    """Measure how drawings (D, side, side), ink 255, look, in pixels, so that a reader's are made alike.

    stroke: width of their lines, the median. least, most: their longer sides. aside: how far their middle is from the
    field's. The last three: of nine drawings in ten.
    """
    sides, middles = [], []
    for each in drawings > 127:
        rows, columns = (np.flatnonzero(each.any(axis=axis)) for axis in (1, 0))
        if len(rows):
            sides.append(1 + max(np.ptp(rows), np.ptp(columns)))
            middles += [(1 + part[0] + part[-1] - len(each)) / 2 for part in (rows, columns)]
    return {
        "stroke": float(np.median(_widths(drawings))),
        "least": float(np.quantile(sides, 0.05)),
        "most": float(np.quantile(sides, 0.95)),
        "aside": float(np.quantile(np.abs(middles), 0.9)),
    }


def _difficulty(drawings: np.ndarray, stroke: float) -> tuple[bool, float]:
    """Return how hard drawings are for a reader's hand: whether any is filled in, and the longest edges of one."""
    return bool((_widths(drawings) > 2 * stroke).any()), float(_edges(drawings).max())


def _edges(drawings: np.ndarray) -> np.ndarray:
    """Return the length of the edges of drawings (D, side, side), ink 255, in pixels."""
    ink = np.pad(drawings / 255, ((0, 0), (1, 1), (1, 1)))
    return np.hypot(np.diff(ink, axis=1)[:, :, :-1], np.diff(ink, axis=2)[:, :-1]).sum(axis=(1, 2))


def _widths(drawings: np.ndarray) -> np.ndarray:
    """Return the width of the lines of drawings, in pixels: a line of length l has an area of w l and edges of 2 l."""
    return 2 * (drawings / 255).sum(axis=(1, 2)) / np.maximum(_edges(drawings), 1)


def _text(drawings: np.ndarray) -> str:
    return b64encode(drawings.tobytes()).decode()
