"""Checkpoints of a run in progress: all that is needed to go on as if nothing had happened."""

import contextlib
import hashlib
import io
import json
import os
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def fingerprint(settings: dict[str, Any], data: list[Path]) -> str:
    """What a checkpoint is bound to: SHA-256 of a run's parameters, data files, project code loaded and libraries."""
    libraries = {name: version(name) for name in ("torch", "numpy", "numba")}
    digest = hashlib.sha256(json.dumps([settings, libraries], sort_keys=True).encode())
    for path in data:
        digest.update(path.read_bytes())
    files = sorted(
        (name, module.__file__)
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "diffplast" and getattr(module, "__file__", None)
    )
    for name, path in files:
        digest.update(name.encode() + b"\0" + Path(path).read_bytes())
    return digest.hexdigest()


def serialised(content: Any) -> memoryview:
    """What torch.save would write. Its own writer turns a full disk into an error without a reason."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def deserialised(path: Path, device: torch.device | None = None) -> Any:
    """What a file of `serialised` holds, its tensors on `device`. Nothing in the file is executed.

    Raises one of many errors where the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:  # torch.load leaves the file's checksums unread
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"bad checksum of {damaged}")
    return torch.load(path, map_location=device, weights_only=True)


class Checkpoint:
    """One file, replaced as a whole, that belongs to the run with this fingerprint."""

    def __init__(self, path: Path, run: str):
        self.path = path
        self.run = run

    def load(self) -> dict[str, Any] | None:
        """The saved state; None where there is none of this run.

        A checkpoint of other parameters, data or code, or a damaged one, is named on standard error and left out.
        """
        if not self.path.exists():
            return None
        try:
            saved = deserialised(self.path)
            state, run = saved["state"], saved["run"]
        except Exception as error:
            print(f"{self.path}: damaged ({error}); training starts from the beginning", file=sys.stderr)
            return None
        if run != self.run:
            print(
                f"{self.path}: made with other parameters, data or code; training starts from the beginning",
                file=sys.stderr,
            )
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file: at any moment there is either the old state or the new one.

        Raises OSError, which names a file or folder, where it cannot be written; the old state then stays.
        """
        content = serialised({"run": self.run, "state": state})
        partial = self.path.with_suffix(".partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)  # it may be what fills the disk
            raise OSError(error.errno, error.strerror, error.filename or str(self.path)) from error
