"""The default characters: glyphs of the DejaVu fonts that matplotlib installs, laid out like Omniglot.

A drawing is the outline of a character in one of up to 12 faces, turned, sheared, stretched, scaled and moved a
little, which stands in for a drawer's hand. Characters that look alike, also when turned by quarter turns as
episodes turn them, are one class: its drawings show the first of them, the others are left out.
"""

import unicodedata
from functools import cache
from importlib.metadata import version
from pathlib import Path as FilePath
from typing import Annotated

import numpy as np
from matplotlib import get_data_path
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.ft2font import FT2Font, LoadFlags
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform
from pydantic import Field
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from diffplast.core.dataset import DRAWING_SIDE
from diffplast.core.errors import UserError
from diffplast.data.splits import split_classes

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

FACES = [
    f"DejaVu{family}{style}.ttf"
    for family, styles in {
        "Sans": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "SansMono": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "Serif": ("", "-Bold", "-Italic", "-BoldItalic"),
    }.items()
    for style in styles
]
# Look-alikes are sought in these faces. The bold ones repeat their forms, and so do the oblique ones, slanted;
# the italic does not: its т is an m.
COMPARED_FACES = ["DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Italic.ttf"]
COMPARED_SIDE = 24  # pixels; two glyphs are compared after stretching each to a square of this side
COMPARED_BLUR = 1.0  # pixels; so that strokes a little apart still overlap
COMPARED_ASPECT = 0.7  # glyphs whose width : height differ by more than twice are not alike

# Blocks of patterns rather than characters: too fine for 31 × 31 pixels, or turned into one another.
LEFT_OUT = {
    "box drawing and block elements": (0x2500, 0x259F),
    "Braille": (0x2800, 0x28FF),
    "hexagrams": (0x4DC0, 0x4DFF),
    "tetragrams": (0x1D300, 0x1D35F),
    "dominoes and playing cards": (0x1F030, 0x1F0FF),
}


def candidates(min_faces: int) -> list[str]:
    """Letters, then numerals, then symbols that at least `min_faces` faces have; of each, those in most first.

    Left out: compositions (é), blank glyphs, and the blocks of `LEFT_OUT`.
    """
    found = []
    for code in sorted({code for face in FACES for code in _codes(face)}):
        character = chr(code)
        category = unicodedata.category(character)[0]
        if (
            category in "LNS"
            and not unicodedata.decomposition(character)
            and not any(first <= code <= last for first, last in LEFT_OUT.values())
            and len(faces_of(character)) >= min_faces
        ):
            found.append(("LNS".index(category), -len(faces_of(character)), character))
    return [character for _, _, character in sorted(found)]


@cache
def faces_of(character: str) -> list[str]:
    """The faces that have the character, and not as a blank."""
    return [
        face for face in FACES if ord(character) in _codes(face) and _outline(face, character) is not None
    ]


def merge_alike(characters: list[str], alike: float) -> dict[str, list[str]]:
    """Group characters that look alike: {the first of them: the others}.

    Each character joins the kept character it resembles most, if in any face of `COMPARED_FACES` that has both, at
    any of the four quarter turns, their correlation is at least `alike` (of grey levels, after stretching both to
    a square and blurring; characters of clearly different width : height are never alike). Otherwise it is kept.
    So no two kept characters resemble each other that much.
    """
    resemblance = np.full((len(characters), len(characters)), -1, dtype=np.float32)
    for face in tqdm(COMPARED_FACES, desc="look-alikes", unit="face"):
        here = [i for i, character in enumerate(characters) if face in faces_of(character)]
        if here:
            pairs = np.ix_(here, here)
            resemblance[pairs] = np.maximum(
                resemblance[pairs], _resemblance(face, [characters[i] for i in here])
            )
    kept, groups = [], {}
    for i, character in enumerate(characters):
        best = kept[np.argmax(resemblance[i, kept])] if kept else None
        if best is not None and resemblance[i, best] >= alike:
            groups[characters[best]].append(character)
        else:
            kept.append(i)
            groups[character] = []
    return groups


def _resemblance(face: str, characters: list[str]) -> np.ndarray:
    """(n, n): the largest correlation of two glyphs over the four quarter turns of one of them; -1 for different
    width : height."""
    margin = (DRAWING_SIDE - COMPARED_SIDE) / 2
    images, aspects = [], []
    for character in characters:
        vertices, codes = _outline(face, character)
        low, size = _box(vertices, codes)
        aspects.append(np.log(size[0] / size[1]))
        images.append(_render((vertices - low) / size * COMPARED_SIDE + margin, codes))
    images = gaussian_filter(np.array(images, dtype=np.float32), (0, COMPARED_BLUR, COMPARED_BLUR))
    images -= images.mean(axis=(1, 2), keepdims=True)
    images /= np.linalg.norm(images, axis=(1, 2), keepdims=True) + 1e-9
    aspects = np.array(aspects)
    n = len(characters)
    best = np.full((n, n), -1, dtype=np.float32)
    for turns in (0, 1, 2):  # three quarter turns of one are one quarter turn of the other
        turned = np.rot90(images, turns, axes=(1, 2)).reshape(n, -1)
        correlation = images.reshape(n, -1) @ turned.T
        turned_aspects = aspects if turns != 1 else -aspects
        correlation[np.abs(aspects[:, None] - turned_aspects[None, :]) > COMPARED_ASPECT] = -1
        np.maximum(best, correlation, out=best)
    return np.maximum(best, best.T)


def prepare_glyphs(
    *,
    characters: str | None,
    min_faces: int,
    alike: float,
    drawings: Annotated[int, Field(ge=2)],
    rotation_deg: NotNegative,
    shear: NotNegative,
    stretch: NotNegative,
    size_min_px: float,
    size_max_px: float,
    shift_px: NotNegative,
    test_classes: int,
    final_classes: int,
    split_seed: Annotated[int, Field(ge=0)],
    seed: Annotated[int, Field(ge=0)],
) -> tuple[dict, dict]:
    """Draw the characters. Returns the arrays of an "omniglot" file (see `dataset`) and the provenance.

    characters: those to choose from, in order of preference among look-alikes; None for all `candidates`.
    min_faces: characters that fewer faces have are left out.
    alike: correlation from which two characters are one class; see `merge_alike`.
    drawings: drawings of each class. They use its faces in a random order, again and again, each time with
        rotation_deg: turned by up to ± so many degrees,
        shear: slanted by up to ± so much of the height,
        stretch: width against height changed by up to ± so much, in logarithm,
        size_min_px, size_max_px: then scaled, so that its longer side has so many of the 31 pixels,
        shift_px: and moved off the centre by up to ± so many pixels each way, as far as the box allows.
    test_classes, final_classes: classes held out for tests and for the final number, drawn with split_seed.
    seed: of the drawings.
    More than eight parameters: they are the data set's options in params.yaml.
    Raises UserError when a size does not fit the box or no class remains for training.
    """
    if not 0 < size_min_px <= size_max_px <= DRAWING_SIDE:
        raise UserError(f"sizes {size_min_px} .. {size_max_px} px do not fit {DRAWING_SIDE} px")
    available = candidates(min_faces)
    if characters is not None:
        available = [character for character in dict.fromkeys(characters) if character in set(available)]
    classes = list(merge_alike(available, alike))
    parts = split_classes(len(classes), test_classes, final_classes, split_seed)

    images = np.empty((len(classes), drawings, DRAWING_SIDE, DRAWING_SIDE), dtype=np.uint8)
    for i, character in enumerate(tqdm(classes, desc="drawings", unit="character", mininterval=1)):
        rng = np.random.default_rng(
            [seed, ord(character)]
        )  # the same drawings whatever other characters there are
        faces = rng.permutation(faces_of(character))
        for j in range(drawings):
            vertices, codes = _outline(faces[j % len(faces)], character)
            angle = np.deg2rad(rng.uniform(-rotation_deg, rotation_deg))
            slant, widen = rng.uniform(-shear, shear), np.exp(rng.uniform(-stretch, stretch) / 2)
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            vertices = vertices @ np.array([[widen, 0], [slant, 1 / widen]]) @ turn
            low, size = _box(vertices, codes)
            scale = rng.uniform(size_min_px, size_max_px) / size.max()
            space = (DRAWING_SIDE - size * scale) / 2  # between box and edge when centred
            shift = np.clip(rng.uniform(-shift_px, shift_px, size=2), -space, space)
            images[i, j] = _render((vertices - low) * scale + space + shift, codes)

    names = np.array([f"{unicodedata.name(c)} (U+{ord(c):04X})" for c in classes])
    arrays = {"drawings": images, "names": names, **parts}
    provenance = {
        "description": "characters of the fonts that matplotlib installs, look-alikes merged",
        "packages": {"matplotlib": version("matplotlib")},
        "fonts": FACES,
        "counts": {
            "candidates": len(available),
            "classes": len(classes),
            "drawings": drawings,
            **{part: len(indices) for part, indices in parts.items()},
        },
        "licence": "DejaVu fonts: Bitstream Vera licence, changes in the public domain",
    }
    return arrays, provenance


@cache
def _font(face: str) -> FT2Font:
    font = FT2Font(FilePath(get_data_path(), "fonts", "ttf", face))
    font.set_size(100, 72)  # 100 pixels; the outline is scaled afterwards
    return font


@cache
def _codes(face: str) -> frozenset[int]:
    return frozenset(_font(face).get_charmap())


@cache
def _outline(face: str, character: str):
    """Vertices (n, 2), y upwards, and path codes (n,) of a glyph; None where it is blank."""
    font = _font(face)
    font.load_char(ord(character), flags=LoadFlags.NO_HINTING)
    vertices, codes = font.get_path()
    if not len(codes) or min(_box(vertices, codes)[1]) <= 0:
        return None
    return vertices, codes


def _box(vertices, codes):
    """Lower left corner and size of the box around an outline's control points (it has some at its extremes)."""
    points = vertices[codes != Path.CLOSEPOLY]  # the vertex of a closing code is a placeholder
    low = points.min(axis=0)
    return low, points.max(axis=0) - low


@cache
def _renderer():
    renderer = RendererAgg(DRAWING_SIDE, DRAWING_SIDE, 72)
    context = renderer.new_gc()
    context.set_linewidth(0)
    context.set_snap(False)
    return renderer, context


def _render(vertices, codes) -> np.ndarray:
    """The outline filled: uint8 (31, 31), the share of each pixel that ink covers, times 255."""
    renderer, context = _renderer()
    renderer.clear()
    renderer.draw_path(context, Path(vertices, codes), IdentityTransform(), (0, 0, 0, 1))
    return np.asarray(renderer.buffer_rgba())[:, :, 3].copy()
