"""Checkpoints of a run in progress: all that is needed to go on as if nothing had happened."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch


def fingerprint(settings: dict[str, Any]) -> str:
    """SHA-256 of a run's parameters and of the project's code that is loaded: what a checkpoint is bound to."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    files = sorted(
        (name, module.__file__)
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "diffplast" and getattr(module, "__file__", None)
    )
    for name, path in files:
        digest.update(name.encode() + b"\0" + Path(path).read_bytes())
    return digest.hexdigest()


class Checkpoint:
    """One file, replaced as a whole, that belongs to the run with this fingerprint."""

    def __init__(self, path: Path, run: str):
        self.path = path
        self.run = run

    def load(self) -> dict[str, Any] | None:
        """The saved state; None where there is none of this run. Nothing in the file is executed.

        A checkpoint of other parameters or code, or a damaged one, is named on standard error and left out.
        """
        if not self.path.exists():
            return None
        try:
            saved = torch.load(self.path, weights_only=True)
            state, run = saved["state"], saved["run"]
        except Exception as error:
            print(f"{self.path}: damaged ({error}); training starts from the beginning", file=sys.stderr)
            return None
        if run != self.run:
            print(
                f"{self.path}: made with other parameters or code; training starts from the beginning",
                file=sys.stderr,
            )
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file: at any moment there is either the old state or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save({"run": self.run, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)

    def remove(self) -> None:
        """Remove the file of a run that is done."""
        self.path.unlink(missing_ok=True)
