"""Pictures of matplotlib in half of their bytes, so that a page with all of them stays under a mebibyte."""

import re
from base64 import b64decode, b64encode
from io import BytesIO

import numpy as np
from PIL import Image


def smaller(svg: str) -> str:
    """Write a picture in half of the bytes: places to 0.01 points, palettes for pixels, short ways to say the rest."""
    svg = re.sub('data:image/png;base64,([^"]*)', _palette, svg)
    svg = re.sub(r' d="M ([-\d. ]+(?:\sL [-\d. ]+)+)(\sz)?\s*"', _steps, svg)
    svg = re.sub(' (?:d|x|y|transform)="[^"]*"', _hundredths, svg)
    svg = re.sub(r'(<use [^>]*)transform="translate\(([\d.]+) 0\)"', r'\1x="\2"', svg)  # of a letter in its line
    svg = svg.replace("DejaVuSans", "D").replace("xlink:href", "href")
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", svg)
    return re.sub(r"\s*\n\s*", "\n", re.sub("<!--.*?-->", "", svg))


def _steps(path: re.Match) -> str:
    """Write a path of straight lines by where it starts and the step to each next point, in 0.01 points."""
    points = np.array(path[1].replace("L", " ").split(), float).round(2)
    steps = np.diff(points.reshape(-1, 2), axis=0, prepend=0).ravel() + 0.0  # which makes -0 a 0
    first, second, *rest = (re.sub(r"^(-?)0\.", r"\1.", f"{step:.2f}".rstrip("0").rstrip(".")) for step in steps)
    line = f"M{first} {second}l{' '.join(rest)}".replace(" -", "-")
    return f' d="{line}{"z" if path[2] else ""}"'


def _hundredths(attribute: re.Match) -> str:
    """Write an attribute with its numbers cut to two decimals; those below 1 stay: some are scales of letters."""
    return re.sub(r"\b([1-9]\d*\.\d\d)\d+", r"\1", attribute[0])


def _palette(picture: re.Match) -> str:
    """Write a PNG as a data URI, of a byte a pixel where it has at most 256 colours; matplotlib writes four."""
    pixels = np.asarray(Image.open(BytesIO(b64decode(picture[1]))).convert("RGB"))
    colours, index = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) > 256:
        return picture[0]
    small = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8))
    small.putpalette(colours.tobytes())
    written = BytesIO()
    small.save(written, "PNG", optimize=True)
    return "data:image/png;base64," + b64encode(written.getvalue()).decode()
