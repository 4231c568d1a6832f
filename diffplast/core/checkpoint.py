"""Checkpoints of a run in progress: all that is needed to resume as if nothing had happened."""

import contextlib
import hashlib
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch


def fingerprint(settings: dict[str, Any], data: list[Path]) -> str:
    """Return what a checkpoint is bound to: SHA-256 of parameters, data files, project code loaded and libraries."""
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


def to_bytes(content: Any) -> memoryview:
    """Return what torch.save would write. Its own writer turns a full disk into an error without a reason."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def load_tensors(path: Path, device: torch.device | None = None) -> Any:
    """Read what a file of `to_bytes` holds, its tensors on `device`. Nothing in the file is executed.

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
        """Return the saved state; None where there is none of this run.

        A checkpoint of other parameters, data or code, or a damaged one, is reported on standard error and left out.
        """
        if not self.path.exists():
            return None
        try:
            saved = load_tensors(self.path)
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
        content = to_bytes({"run": self.run, "state": state})
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


class Resumable(Protocol):
    """What a `Saver` keeps."""

    episode: int
    seconds: float
    done: bool

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, saved: dict[str, Any]) -> None: ...


class Saver:
    """Keeps the state of a run in a checkpoint: resumes from it, saves now and then, counts the time over sittings.

    A state that cannot be saved is reported, and training continues.
    """

    def __init__(self, checkpoint: Checkpoint, state: Resumable, every: float):
        """Load what the checkpoint has of this run into `state`. every: seconds between two saves."""
        self._checkpoint, self._state, self._every = checkpoint, state, every
        saved = checkpoint.load()
        if saved is not None:
            state.load_state_dict(saved)
        self._saved_episode = state.episode
        self._saved_done = state.done
        self._earlier, self._started = state.seconds, time.monotonic()
        self._due = self._started + every

    def save_when_due(self, say: Callable[[str], None]) -> None:
        """Save if it is time to. say: is given a sentence where that fails."""
        if time.monotonic() < self._due:
            return
        problem = self._save()
        if problem is not None:
            say(f"{_not_saved(problem)}; training continues, next try in {self._every:g} s")
        self._due = time.monotonic() + self._every

    def save_at_end(self, say: Callable[[str], None]) -> None:
        """Save the final state, unless it came from the checkpoint. say: as above."""
        if self._saved_done:
            return
        problem = self._save()
        if problem is not None:
            say(f"{_not_saved(problem)}; training is done, its results come next")

    def save_to_resume(self) -> str:
        """Save the state of an interrupted run. Returns how it resumes, in words."""
        problem = self._save()
        if problem is None:
            return "the state is saved, the same command resumes there"
        where = f"resumes from episode {self._saved_episode:,}" if self._saved_episode else "starts from the beginning"
        return f"{_not_saved(problem)}, so the same command {where}"

    def _save(self) -> OSError | None:
        self._state.seconds = self._earlier + time.monotonic() - self._started
        try:
            self._checkpoint.save(self._state.state_dict())
        except OSError as error:
            return error
        self._saved_episode = self._state.episode
        return None


def _not_saved(problem: OSError) -> str:
    return f"the state could not be saved ({problem.filename}: {problem.strerror})"
