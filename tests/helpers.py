"""What several test files use."""

import tempfile
from pathlib import Path

from diffplast.core.checkpoint import Checkpoint
from diffplast.core.task import Task
from diffplast.core.training import Trained, train

_folder = tempfile.TemporaryDirectory()  # removed when the tests end


def no_checkpoint() -> Checkpoint:
    """A checkpoint that is not there yet; of this run alone, should it be written."""
    return Checkpoint(Path(tempfile.mkdtemp(dir=_folder.name)) / "checkpoint.pt", "test")


def trained(
    task: Task, seed: int, checkpoint: Checkpoint | None = None, live: Path | None = None, save_every: float = 1e9
) -> Trained:
    """Train as a stage does, without a checkpoint that is kept where none is given."""
    checkpoint = checkpoint or no_checkpoint()
    return train(task, seed, checkpoint=checkpoint, save_every=save_every, label="test", live=live)
