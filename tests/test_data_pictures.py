"""Pictures of every mode and depth keep their own contrast, or are refused with the true reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from diffplast.core.dataset import encode, normalise
from diffplast.data.pictures import UnusableError, drawing_codes, image_codes
from tests.test_data_folder import stroke

LEVELS = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
LEVELS[0, :2] = 0, 255
SMOOTH = np.add.outer(np.arange(64), np.arange(64) * 3) % 200  # 64 × 64, 0 .. 199


def saved(picture, kind="PNG", **options):
    content = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(content, kind, **options)
    return content.getvalue()


def png(levels, colour_type, depth=16):
    """A PNG of uint16 levels (height, width, channels), which Pillow cannot write in colour."""
    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)}
    chunks |= {b"IDAT": zlib.compress(rows), b"IEND": b""}
    written = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def expected(levels):
    """The codes of an image of 32 × 32 or 64 × 64 levels, in exact arithmetic."""
    step = len(levels) // 32
    small = np.asarray(levels, np.float64).reshape(32, step, 32, step).mean(axis=(1, 3)).reshape(1, -1)
    return encode(normalise(small))[0]


def same(found, wanted):
    assert np.abs(found.astype(int) - wanted).max() <= 1  # a half may be rounded either way
    assert (found == wanted).mean() > 0.99


SCALES = {  # the same picture in many units
    "8 bits": SMOOTH.astype(np.uint8),
    "16 bits": (SMOOTH * 300).astype(np.uint16),
    "12 bits in 16": (SMOOTH * 20).astype(np.uint16),
    "8 bits in 16": SMOOTH.astype(np.uint16),
    "on a pedestal": (SMOOTH + 40_000).astype(np.uint16),
    "big-endian": (SMOOTH * 20).astype(">u2"),
    "32 bits": (SMOOTH * 100_000).astype(np.int32),
    "the last of 31 bits": (SMOOTH + 2**31 - 201).astype(np.int32),
    "negative": (SMOOTH - 100).astype(np.int32),
    "a share": (SMOOTH / 255).astype(np.float32),
    "tiny": (SMOOTH * 1e-20).astype(np.float32),
    "huge": (SMOOTH * 1e30).astype(np.float32),
}


@pytest.mark.parametrize("levels", SCALES.values(), ids=SCALES)
def test_an_image_keeps_its_contrast_in_every_unit(levels):
    wanted = expected(levels.astype(np.float64) if levels.dtype.kind == "f" else levels.astype(np.int64))
    same(image_codes(saved(levels, "TIFF")), wanted)
    assert len(np.unique(wanted)) > 60


@pytest.mark.parametrize("levels", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("ink", ["dark", "light"])
def test_a_drawing_keeps_its_contrast_in_every_unit(levels, ink):
    same(drawing_codes(saved(levels, "TIFF"), ink), drawing_codes(saved(SCALES["8 bits"]), ink))


@pytest.mark.parametrize("top", [1, 2, 6, 30])
def test_an_image_of_few_levels_is_averaged_without_losing_more(top):
    levels = (SMOOTH * top // 199).astype(np.uint8)
    same(image_codes(saved(levels)), expected(levels))
    colours = np.stack([levels, levels // 2, np.zeros_like(levels)], axis=2)
    same(image_codes(saved(colours)), expected(colours.sum(axis=2, dtype=int)))


@pytest.mark.parametrize("ink, paper", [(0, 1), (1, 0), (0, 3), (100, 101), (254, 255), (90, 200)])
def test_a_drawing_of_two_levels_is_ink_on_paper(ink, paper):
    plain = drawing_codes(saved(stroke(1)), "dark")
    assert plain.max() == 255 and (plain == 0).mean() > 0.9
    faint = saved(stroke(1, ink=ink, paper=paper))
    np.testing.assert_array_equal(drawing_codes(faint, "dark" if ink < paper else "light"), plain)


def test_a_thin_line_on_a_large_sheet_is_seen():
    sheet = np.full((3000, 3000), 255, np.uint8)
    sheet[np.arange(3000), np.arange(3000)] = 0
    codes = drawing_codes(saved(sheet), "dark")
    assert np.diag(codes).min() > 200 and codes[0, 30] == 0


MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "I;16")
FORMATS = ("PNG", "TIFF", "BMP", "WEBP", "JPEG", "GIF", "PPM", "JPEG2000", "TGA", "SGI", "AVIF")


def of_mode(mode):
    """`SMOOTH` as a picture of a mode of Pillow's."""
    tall = SMOOTH.astype(np.uint8)
    if mode == "1":
        return Image.fromarray(tall > 100)
    if mode == "I;16":
        return Image.fromarray(tall.astype(np.uint16))
    if mode == "LAB":
        return Image.merge("LAB", [Image.fromarray(level) for level in (tall, 0 * tall + 128, 0 * tall + 128)])
    return Image.fromarray(tall).convert(mode)


def in_all_formats(picture):
    """The picture as a file of every format that Pillow can write it in and read."""
    for kind in FORMATS:
        try:
            content = saved(picture, kind)
            Image.open(io.BytesIO(content)).load()
        except Exception:  # no format has all modes
            continue
        yield kind, content


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_format_gives_the_same_picture(mode):
    wanted = expected(np.where(SMOOTH > 100, 255, 0) if mode == "1" else SMOOTH)
    tried = []
    for kind, content in in_all_formats(of_mode(mode)):
        assert np.corrcoef(image_codes(content), wanted)[0, 1] > 0.98, kind
        ink = drawing_codes(content, "dark")
        assert ink.max() == 255 and len(np.unique(ink)) > (2 if mode == "1" else 40), kind
        tried.append(kind)
    assert tried


DEEP = {"RGB": (2, 3), "RGBA": (6, 4), "grey and alpha": (4, 2)}


@pytest.mark.parametrize("colour_type, channels", DEEP.values(), ids=DEEP)
def test_deep_colours_come_out_or_are_refused(colour_type, channels):
    grey = np.stack([SMOOTH] * channels, axis=2)
    if channels != 3:
        grey[..., -1] = 65535
    full = np.where(grey == 65535, grey, grey * 300)
    same(image_codes(png(full, colour_type)), expected(SMOOTH * 300 // 256))
    with pytest.raises(UnusableError, match=r"only the upper 8 of its 16 bits .* has just 16 levels; save it in grey"):
        image_codes(png(np.where(grey == 65535, grey, grey * 20), colour_type))
    # What the message advises works.
    same(image_codes(png(SMOOTH[..., None] * 20, 0)), expected(SMOOTH))


def test_deep_colours_of_other_formats_are_known_too():
    header = b"P6 64 64 65535\n"
    with pytest.raises(UnusableError, match="of its 16 bits a channel"):
        image_codes(header + np.stack([SMOOTH * 20] * 3, axis=2).astype(">u2").tobytes())
    same(
        image_codes(header + np.stack([SMOOTH * 300] * 3, axis=2).astype(">u2").tobytes()),
        expected(np.rint(SMOOTH * 300 / 257)),
    )


def transparent(colour, shape, alpha=255):
    """One colour, opaque where `shape`, and transparent elsewhere, over black."""
    return np.where(shape[..., None], np.array([*colour, alpha], np.uint8), np.uint8(0))


SHAPE = stroke(1) == 0
INK = drawing_codes(saved(stroke(1)), "dark")


@pytest.mark.parametrize("colour", [(0, 0, 0), (90, 0, 0), (255, 255, 255), (250, 255, 250)])
def test_ink_on_transparency_is_seen(colour):
    content = saved(transparent(colour, SHAPE))
    ink = "light" if min(colour) > 128 else "dark"
    np.testing.assert_array_equal(drawing_codes(content, ink), INK)
    assert len(np.unique(image_codes(content))) > 1


def test_ink_that_its_paper_hides_is_refused_with_the_remedy():
    with pytest.raises(UnusableError, match=r"its ink is as light as the paper .*set data\.omniglot\.folder\.ink"):
        drawing_codes(saved(transparent((255, 255, 255), SHAPE)), "dark")
    with pytest.raises(UnusableError, match=r"its ink is as dark as the paper .*folder\.ink to dark"):
        drawing_codes(saved(transparent((0, 0, 0), SHAPE)), "light")


def test_a_light_picture_on_transparency_is_on_black_and_others_on_white():
    light = np.dstack([SMOOTH.astype(np.uint8) // 8 + 230] * 3 + [np.where(SMOOTH > 100, 255, 0).astype(np.uint8)])
    same(image_codes(saved(light)), expected(np.where(SMOOTH > 100, SMOOTH // 8 + 230, 0)))
    dark = np.dstack([SMOOTH.astype(np.uint8)] * 3 + [np.where(SMOOTH > 100, 255, 0).astype(np.uint8)])
    same(image_codes(saved(dark)), expected(np.where(SMOOTH > 100, SMOOTH, 255)))


def test_one_level_may_stand_for_transparency():
    for levels in (SMOOTH.astype(np.uint8), (SMOOTH * 20).astype(np.uint16)):
        content = saved(levels, transparency=0)
        full = 255 if levels.dtype == np.uint8 else 199  # more than 8 bits are stretched
        same(image_codes(content), expected(np.where(SMOOTH == 0, full, SMOOTH)))


REFUSED = {
    "one colour": (saved(np.full((40, 40), 7, np.uint8)), "of one colour", "no ink"),
    "one colour of 16 bits": (saved(np.full((40, 40), 700, np.uint16)), "of one colour", "no ink"),
    "all transparent": (saved(transparent((9, 9, 9), SHAPE, 0)), "all of it is transp", "all of it is transparent"),
    "not a number": (
        saved(np.where(SMOOTH > 5, np.nan, 1).astype(np.float32), "TIFF"), "not numbers", "not numbers",
    ),
    "cut": (saved(LEVELS)[:300], "truncated|broken|incomplete", "truncated|broken|incomplete"),
    "text": (b"notes", "not an image", "not an image"),
}  # fmt: skip


@pytest.mark.parametrize("content, of_image, of_drawing", REFUSED.values(), ids=REFUSED)
def test_what_has_no_content_is_refused_with_the_reason(content, of_image, of_drawing):
    with pytest.raises(UnusableError, match=of_image):
        image_codes(content)
    with pytest.raises(UnusableError, match=of_drawing):
        drawing_codes(content, "dark")


def test_an_image_whose_middle_is_empty_is_refused_as_that():
    wide = np.zeros((32, 96), np.uint8)
    wide[:, :20] = 255
    with pytest.raises(UnusableError, match="its middle square, averaged down to 32 × 32, is of one colour"):
        image_codes(saved(wide))
    checked = np.indices((64, 64)).sum(axis=0) % 2 * 255
    with pytest.raises(UnusableError, match="its middle square, averaged down"):
        image_codes(saved(checked.astype(np.uint8)))


def test_a_picture_that_is_too_large_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(UnusableError, match=r"larger than the 1,000 pixels .* save it smaller"):
        image_codes(saved(LEVELS))


def test_a_damaged_orientation_leaves_the_picture():
    damaged = b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12\0\x03garbage"
    content = saved(Image.fromarray(LEVELS), "JPEG", quality=95, exif=damaged)
    same(image_codes(content), expected(np.asarray(Image.open(io.BytesIO(content)))))
