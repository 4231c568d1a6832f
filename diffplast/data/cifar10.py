"""CIFAR-10 (Krizhevsky 2009): 60,000 colour photographs of 32 × 32 pixels, ten kinds of things.

Read from the binary version of the archive: plain bytes, so that nothing is ever unpickled.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from tqdm import tqdm

from diffplast.core.dataset import IMAGE_SIDE, DataError, encode, normalise
from diffplast.data.archives import members
from diffplast.data.fetch import Mirror, Place, fetch, with_mirror

PLACES = (
    Place(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCH = 10_000  # images of one file
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in (1, 2, 3, 4, 5))
TEST_FILE = "test_batch.bin"
# Mean and standard deviation of red, green and blue, as widely published; they tell an archive that was packed again
# from one with other images.
MOMENTS = {
    "training": ((125.30691805, 122.95039414, 113.86538318), (62.99321928, 62.08870764, 66.70489964)),
    "test": ((126.02464141, 123.70850420, 114.85431865), (62.89639135, 61.93752718, 66.70605640)),
}


def prepare_cifar10(
    *, archive: Mirror, train_batches: Annotated[int, Field(ge=1, le=len(TRAIN_FILES))]
) -> tuple[dict, dict]:
    """Fetch the archive and check its images. Returns the arrays of an "images" file and the provenance.

    archive: another place of the archive. train_batches: how many of the five training files are used, the first
    ones; the tests are on the official test images. The sum of the three channels is normalised as the paper does.
    Raises DataError for an archive that cannot be had or does not hold CIFAR-10's images.
    """
    path, place = fetch(with_mirror(archive, PLACES), "data.images.cifar10.archive")
    batches = _read(path)
    training = [batches[name] for name in TRAIN_FILES]
    _check_moments(path, "training", training)
    _check_moments(path, "test", [batches[TEST_FILE]])
    digest = hashlib.sha256()
    for batch in batches.values():
        digest.update(batch)

    arrays = {"sources": np.array(CLASSES)}
    for part, used in (("train", training[:train_batches]), ("test", [batches[TEST_FILE]])):
        arrays[part] = np.concatenate([_codes(batch) for batch in tqdm(used, desc=part, unit="batch")])
        arrays[f"{part}_source"] = np.concatenate([batch[:, 0] for batch in used])
    provenance = {
        "description": "CIFAR-10 in grey",
        "archives": {
            "binary": {"source": place.address, "checksum": place.checksum, "sha256_images": digest.hexdigest()}
        },
        "counts": {part: len(arrays[part]) for part in ("train", "test")},
        "licence": "none stated; A. Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    }
    return arrays, provenance


def _read(path: Path) -> dict[str, np.ndarray]:
    """The official files in order, each uint8 (10,000, 1 + 3072): label, then red, green and blue in rows."""
    width = 1 + 3 * IMAGE_SIDE**2
    batches = dict.fromkeys((*TRAIN_FILES, TEST_FILE))
    for name, content in tqdm(members(path), desc=path.name, unit="file", mininterval=1):
        file = name.rsplit("/", 1)[-1]
        if file in batches:
            if len(content) != BATCH * width:
                raise _wrong(path, f"{name} has {len(content):,} bytes, not {BATCH * width:,}")
            batches[file] = np.frombuffer(content, dtype=np.uint8).reshape(BATCH, width)
    missing = [name for name, batch in batches.items() if batch is None]
    if missing:
        raise _wrong(path, f"it lacks {', '.join(missing)}")
    for name, batch in batches.items():
        if batch[:, 0].max() >= len(CLASSES):
            raise _wrong(path, f"{name} has labels above {len(CLASSES) - 1}")
    return batches


def _check_moments(path: Path, part: str, batches: list[np.ndarray]) -> None:
    counts = sum(
        np.stack([np.bincount(channel.ravel(), minlength=256) for channel in _channels(batch).swapaxes(0, 1)])
        for batch in batches
    )
    levels = np.arange(256)
    mean = counts @ levels / counts[0].sum()
    deviation = np.sqrt(counts @ levels**2 / counts[0].sum() - mean**2)
    for name, found, known in zip(("mean", "standard deviation"), (mean, deviation), MOMENTS[part], strict=True):
        if not np.allclose(found, known, rtol=0, atol=1e-6):
            said = ", ".join(f"{value:.6f}" for value in found)
            raise _wrong(path, f"the {name} of its {part} images is {said}")


def _channels(batch: np.ndarray) -> np.ndarray:
    return batch[:, 1:].reshape(len(batch), 3, IMAGE_SIDE**2)


def _codes(batch: np.ndarray) -> np.ndarray:
    return encode(normalise(_channels(batch).sum(axis=1, dtype=np.float32)))


def _wrong(path: Path, problem: str) -> DataError:
    return DataError(
        f"{path}: not the images of CIFAR-10: {problem}. Get the binary version again (cifar-10-binary.tar.gz); for "
        "images of another kind, set datasets.images to folder."
    )
