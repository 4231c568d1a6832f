"""What several test files use."""

import tempfile
from pathlib import Path

from diffplast.core.checkpoint import Checkpoint

_folder = tempfile.TemporaryDirectory()  # removed when the tests end


def no_checkpoint() -> Checkpoint:
    """A checkpoint that is not there yet; of this run alone, should it be written."""
    return Checkpoint(Path(tempfile.mkdtemp(dir=_folder.name)) / "checkpoint.pt", "test")
