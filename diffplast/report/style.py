"""The one style of all figures: sizes, colours, and how a figure is written to its files."""

import textwrap
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from diffplast.report import svg

WIDTH = 3.5
"""Width of a figure in inches: one column of a two-column page."""
INK, LIGHT_INK, PAPER, FAINT = "#222222", "#e8e6e3", "#ffffff", "#808080"
OTHERS = "#7f7f7f"
"""Colour of the paper's curves."""

# Okabe and Ito's colours, which stay apart for every kind of colour vision; line styles repeat the difference.
ARMS = {
    "plastic": ("#0072b2", "-"),
    "plastic_long": ("#3a9bd6", (0, (8, 1.2))),
    "plastic_slow": ("#3a9bd6", (0, (8, 1.2))),
    "plastic_text": ("#3a9bd6", (0, (8, 1.2))),
    "homogeneous": ("#009e73", (0, (5, 1.5))),
    "nonplastic": ("#d55e00", (0, (5, 1.2, 1, 1.2))),
    "nonplastic_text": ("#e69f00", (0, (8, 1.2, 1, 1.2))),
    "lstm": ("#b5679a", (0, (1.2, 1))),
}
OTHER_ARMS = [("#8a7a00", "-"), ("#7a5230", (0, (5, 1.5))), ("#555555", (0, (1.2, 1)))]

PARAMETERS = {
    "figure.figsize": (WIDTH, 2.5),
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "figure.titlesize": 7.8,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "axes.facecolor": PAPER,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "diffplast",
    "savefig.dpi": 300,
}


@contextmanager
def in_style():
    """A context in which figures are drawn and written: matplotlib's defaults and PARAMETERS, nothing else."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(PARAMETERS)
        yield


def arm_style(arm: str, arms: list[str]) -> dict:
    """Colour and line style of an arm: the same in every figure."""
    others = [name for name in arms if name not in ARMS]
    colour, line = ARMS[arm] if arm in ARMS else OTHER_ARMS[others.index(arm) % len(OTHER_ARMS)]
    return {"color": colour, "linestyle": line}


def dashes(arm: str, arms: list[str]) -> str:
    """The line style of an arm as SVG writes it, for a line two pixels wide."""
    line = arm_style(arm, arms)["linestyle"]
    return "" if line == "-" else " ".join(f"{2 * part:g}" for part in line[1])


def title(figure: Figure, text: str, width: int = 52) -> None:
    """Head a figure with its finding, in lines of about the same length so that no word is left alone."""
    ways = [textwrap.wrap(text, most, break_long_words=False, break_on_hyphens=False) for most in range(1, width + 1)]
    lines = next(lines for lines in ways if len(lines) <= len(ways[-1]))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", weight="bold")


def settle(figure: Figure) -> None:
    """Lay a figure out and fix its places to five decimals: the solver's last bits differ from one time to the next."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position(original=True).get_points().round(5)))


def save(figure: Figure, description: str, path: Path) -> None:
    """Write path.png and path.svg; the same figure gives the same bytes.

    description: the figure in words, for those who do not see it; it is kept in both files.
    """
    settle(figure)
    heading = figure.get_suptitle().replace("\n", " ")
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"Title": heading, "Description": description}
    figure.savefig(path.with_suffix(".png"), metadata={**about, "Software": None})
    drawn = StringIO()
    figure.savefig(drawn, format="svg", metadata={**about, "Date": None, "Creator": None})
    path.with_suffix(".svg").write_text(svg.smaller(drawn.getvalue()))


def animate(frames: list[Image.Image], milliseconds: list[int], path: Path) -> None:
    """Write path.gif, which plays again and again. milliseconds: how long each frame stays."""
    frames[0].save(
        path.with_suffix(".gif"), save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, optimize=True
    )
