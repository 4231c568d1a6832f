"""The data sets that committed runs were trained on: prepared already, or again where that needs no download."""

import json
from concurrent.futures import Executor, Future
from pathlib import Path

from diffplast import data
from diffplast.core.errors import UserError
from diffplast.core.runs import data_folder
from diffplast.verify.committed import Committed

NO_DOWNLOAD = ("natural-patches", "glyphs")
"""Data sets that are made of installed packages alone."""


class DataSets:
    """The prepared file of each run's data set. Files that are not in data/ are prepared into a folder of their own."""

    def __init__(self, folder: Path, pool: Executor, runs: list[Committed]):
        """Begin to prepare, in `pool`, what these runs need and what can be prepared, in `folder`."""
        self._preparing: dict[str, tuple[Path, Future]] = {}
        for committed in runs:
            wanted = committed.data
            if wanted is None or _prepared(committed) is not None or wanted["name"] not in NO_DOWNLOAD:
                continue
            pixels = wanted["sha256_pixels"]
            if pixels not in self._preparing:
                path = folder / f"{pixels}.npz"
                arguments = wanted["kind"], wanted["name"], wanted["options"], path
                self._preparing[pixels] = path, pool.submit(data.prepare, *arguments)

    def file(self, committed: Committed) -> Path | None:
        """Return the prepared file of a run, when it is there; None where the run needs none.

        Raises UserError where it cannot be had, or the data that can be had are not those of the run.
        """
        if committed.data is None:
            return None
        path, wanted = _prepared(committed), committed.data
        if path is not None:
            return path
        if wanted["sha256_pixels"] not in self._preparing:
            stage = f"prepare_{wanted['kind']}@{committed.run.scale}"
            raise UserError(f"its data, {wanted['name']}, are not in data/ (`dvc repro {stage}` prepares them)")
        path, preparing = self._preparing[wanted["sha256_pixels"]]
        try:
            made = preparing.result()
        except UserError as error:
            raise UserError(f"its data, {wanted['name']}, cannot be prepared: {error}") from None
        if made["sha256_pixels"] != wanted["sha256_pixels"]:
            raise UserError(f"its data, {wanted['name']}, are prepared differently here, from {_sources(made)}")
        return path


def _prepared(committed: Committed) -> Path | None:
    """The file in data/ where it holds the run's data, by its provenance."""
    folder = data_folder(committed.data["kind"], committed.run.scale)
    try:
        found = json.loads((folder / "source.json").read_text())
    except (OSError, ValueError):
        return None
    same = found.get("sha256_pixels") == committed.data["sha256_pixels"] and (folder / "data.npz").exists()
    return folder / "data.npz" if same else None


def _sources(made: dict) -> str:
    return ", ".join(f"{name} {version}" for name, version in made.get("packages", {}).items()) or made["name"]
