"""The prepared file of each kind of data: its arrays, how it is written, checked and read.

images     train (n, 1024), test (m, 1024): uint8 codes of pixels, 32 × 32 in rows; see `encode`
           train_source (n,), test_source (m,): index into sources; sources (s,): names
omniglot   drawings (classes, drawings each, 31, 31): uint8, 0 is paper and 255 is ink; names (classes,)
           train_classes, test_classes, final_classes: indices into drawings, disjoint. The tests' may be looked at
           while settings are chosen; the final ones are for the final number alone
"""

import hashlib
import io
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from diffplast.core.errors import UserError

IMAGE_SIDE = 32
DRAWING_SIDE = 31

CLASSES = ("train_classes", "test_classes", "final_classes")
KEYS = {
    "images": ("train", "test", "train_source", "test_source", "sources"),
    "omniglot": ("drawings", "names", *CLASSES),
}
PIXELS = {"images": ("train", "test"), "omniglot": ("drawings",)}  # what `digest` covers, in this order


class DataError(UserError):
    """Data that is missing, damaged, of the wrong kind or cannot be written; says which and what to do."""


def normalise(grey: np.ndarray) -> np.ndarray:
    """Images as the paper has them: mean removed, divided by the largest absolute value, each on its own.

    grey: (n, pixels), channels already summed, in any unit, none of them flat. Returns float32 in [-1, 1].
    """
    centred = grey - grey.mean(axis=1, keepdims=True)
    return (centred / np.abs(centred).max(axis=1, keepdims=True)).astype(np.float32)


def encode(pixels: np.ndarray) -> np.ndarray:
    """Pixels in [-1, 1] as uint8 codes 0 .. 255, which stand for -1, -253/255, ..., -1/255, 1/255, ..., 1."""
    return np.clip(np.rint((pixels * 255 + 255) / 2), 0, 255).astype(np.uint8)


def decode(codes: np.ndarray) -> np.ndarray:
    """The pixels (float32 in [-1, 1]) that codes stand for.

    None is exactly zero, the nearest being ±1/255: a neuron is clamped where its input is not zero, so a zero
    would leave a neuron of a fully shown image free.
    """
    return (codes.astype(np.float32) * 2 - 255) / np.float32(255)


def digest(kind: str, arrays: dict) -> str:
    """sha256 over the stored pixels (uint8, in C order): the same for the same data, however it is packed."""
    total = hashlib.sha256()
    for key in PIXELS[kind]:
        total.update(np.ascontiguousarray(arrays[key]).tobytes())
    return total.hexdigest()


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """sha256 over all that a run sees of a data set: every array as `load` returns it, with its name and shape."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def write(path: str | Path, kind: str, arrays: dict) -> None:
    """Write the arrays of `kind` as one compressed .npz, the same bytes for the same arrays.

    np.savez_compressed leaves the entries' dates to zipfile; here they are fixed. The file appears under its
    name only when it is whole. Raises DataError when the arrays are not those of `kind`, and when it cannot be
    written.
    """
    path = Path(path)
    check(kind, arrays, path)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w") as archive:
            for key, array in {"kind": np.array(kind), **arrays}.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
                entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                archive.writestr(entry, content.getvalue(), compress_type=zipfile.ZIP_DEFLATED, compresslevel=6)
        os.replace(partial, path)
    except OSError as problem:
        partial.unlink(missing_ok=True)
        said = f"{path} cannot be written: {problem.strerror}. When that is set right, run again."
        raise DataError(said) from problem


def load(path: str | Path, kind: str | None = None) -> dict:
    """Read a prepared file: its arrays by name, images decoded to float32 in [-1, 1] (never exactly zero).

    kind: what the caller expects ("images" or "omniglot"); None accepts either.
    Raises DataError (a ValueError) when the file is missing, damaged, of another kind or has wrong shapes.
    """
    path = Path(path)
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise ValueError("a single array, not an archive of several")
        with stored:
            arrays = {key: stored[key] for key in stored.files}
    except FileNotFoundError:
        raise _error(path, "there is no such file") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError) as problem:
        raise _error(path, f"it cannot be read: {problem}") from problem
    found = str(arrays.pop("kind", "unknown"))
    if found not in KEYS or kind not in (None, found):
        raise _error(path, f"it holds data of kind {found!r}, not {kind or ' or '.join(KEYS)!r}")
    check(found, arrays, path)
    if found == "images":
        arrays.update(train=decode(arrays["train"]), test=decode(arrays["test"]))
    return arrays


def check(kind: str, arrays: dict, path: str | Path) -> None:
    """Raise DataError unless the stored arrays are exactly those of `kind` and fit each other."""
    if set(arrays) != set(KEYS[kind]):
        raise _error(path, f"it holds {sorted(arrays)}, not {sorted(KEYS[kind])}")
    problems = _image_problems(**arrays) if kind == "images" else _character_problems(**arrays)
    if problems:
        raise _error(path, "; ".join(problems))


def _image_problems(train, test, train_source, test_source, sources) -> list[str]:
    if sources.ndim != 1 or sources.dtype.kind != "U":
        return [f"sources is {_describe(sources)}, not a list of names"]
    problems = []
    for name, pixels, source in (("train", train, train_source), ("test", test, test_source)):
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (IMAGE_SIDE**2,) or not len(pixels):
            problems.append(f"{name} is {_describe(pixels)}, not uint8 (n, {IMAGE_SIDE**2})")
        elif not _are_indices(source, len(sources)) or len(source) != len(pixels):
            problems.append(f"{name}_source does not name a source for each of the {len(pixels)} images")
    return problems


def _character_problems(drawings, names, **parts) -> list[str]:
    size = (DRAWING_SIDE, DRAWING_SIDE)
    if drawings.dtype != np.uint8 or drawings.ndim != 4 or drawings.shape[2:] != size:
        return [f"drawings is {_describe(drawings)}, not uint8 (classes, drawings, {size[0]}, {size[1]})"]
    problems = []
    if names.shape != drawings.shape[:1] or names.dtype.kind != "U":
        problems.append(f"names is {_describe(names)}, not a name for each of the {len(drawings)} classes")
    if not all(_are_indices(part, len(drawings)) and len(part) for part in parts.values()):
        problems.append(f"{', '.join(CLASSES)} are not indices of {len(drawings)} classes")
    elif len(np.unique(np.concatenate(list(parts.values())))) < sum(map(len, parts.values())):
        problems.append(f"{', '.join(CLASSES)} overlap")
    return problems


def _are_indices(array, size: int) -> bool:
    return array.ndim == 1 and array.dtype.kind in "iu" and bool(np.all((array >= 0) & (array < size)))


def _describe(array) -> str:
    return f"{array.dtype} {array.shape}"


def _error(path, problem: str) -> DataError:
    return DataError(
        f"prepared data {path}: {problem}. Delete the file and prepare it again (`dvc repro`; "
        "`dvc repro -f` on its data stage if DVC still takes it for current)."
    )
