"""What several test files use."""

from pathlib import Path

from diffplast.checkpoint import Checkpoint


def no_checkpoint() -> Checkpoint:
    """A checkpoint that is never there and, with a long period, never written."""
    return Checkpoint(Path("does-not-exist"), "test")
