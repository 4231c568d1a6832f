"""The one style of all figures: sizes, colours, and how a figure is written to its files."""

import re
import textwrap
from base64 import b64decode, b64encode
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

WIDTH = 3.5
"""Width of a figure in inches: one column of a two-column page."""
INK, LIGHT_INK, PAPER, FAINT = "#222222", "#e8e6e3", "#ffffff", "#808080"

# Okabe and Ito's colours, which stay apart for every kind of colour vision; line styles repeat the difference.
ARMS = {
    "plastic": ("#0072b2", "-"),
    "homogeneous": ("#009e73", (0, (5, 1.5))),
    "nonplastic": ("#d55e00", (0, (5, 1.2, 1, 1.2))),
    "lstm": ("#b5679a", (0, (1.2, 1))),
}
OTHER_ARMS = [("#8a7a00", "-"), ("#3a9bd6", (0, (5, 1.5))), ("#555555", (0, (1.2, 1)))]

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
    """Head a figure with its finding."""
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
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
    path.with_suffix(".svg").write_text(_smaller(drawn.getvalue()))


def _smaller(svg: str) -> str:
    """The picture in half of the bytes: places to 0.01 points, palettes for pixels, short ways to say the rest."""
    svg = re.sub('data:image/png;base64,([^"]*)', _palette, svg)
    svg = re.sub(r' d="M ([-\d. ]+(?:\sL [-\d. ]+)+)(\sz)?\s*"', _steps, svg)
    svg = re.sub(' (?:d|x|y|transform)="[^"]*"', _hundredths, svg)
    svg = re.sub(r'(<use [^>]*)transform="translate\(([\d.]+) 0\)"', r'\1x="\2"', svg)  # of a letter in its line
    svg = svg.replace("DejaVuSans", "D").replace("xlink:href", "href")
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", svg)
    return re.sub(r"\s*\n\s*", "\n", re.sub("<!--.*?-->", "", svg))


def _steps(path: re.Match) -> str:
    """A path of straight lines, told by where it starts and the step to each next point, in 0.01 points."""
    points = np.array(path[1].replace("L", " ").split(), float).round(2)
    steps = np.diff(points.reshape(-1, 2), axis=0, prepend=0).ravel() + 0.0  # which makes -0 a 0
    first, second, *rest = (re.sub(r"^(-?)0\.", r"\1.", f"{step:.2f}".rstrip("0").rstrip(".")) for step in steps)
    line = f"M{first} {second}l{' '.join(rest)}".replace(" -", "-")
    return f' d="{line}{"z" if path[2] else ""}"'


def _hundredths(attribute: re.Match) -> str:
    """An attribute with its numbers cut to two decimals; those below 1 stay, some of which are scales of letters."""
    return re.sub(r"\b([1-9]\d*\.\d\d)\d+", r"\1", attribute[0])


def _palette(picture: re.Match) -> str:
    """A PNG as a data URI, of a byte a pixel where it has at most 256 colours; matplotlib writes four, all opaque."""
    pixels = np.asarray(Image.open(BytesIO(b64decode(picture[1]))).convert("RGB"))
    colours, index = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) > 256:
        return picture[0]
    small = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8))
    small.putpalette(colours.tobytes())
    written = BytesIO()
    small.save(written, "PNG", optimize=True)
    return "data:image/png;base64," + b64encode(written.getvalue()).decode()


def animate(frames: list[Image.Image], milliseconds: list[int], path: Path) -> None:
    """Write path.gif, which plays again and again. milliseconds: how long each frame stays."""
    frames[0].save(
        path.with_suffix(".gif"), save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, optimize=True
    )
