"""What it costs to save the state of a run, as a share of training time at the period of params.yaml.

    python -m benchmarks.checkpoints

For the largest network of each task. Written to the disk of the current folder, and flushed.
"""

import functools
import tempfile
from pathlib import Path

import torch

from benchmarks.timing import best_and_median, environment, interleaved, table
from diffplast.core import params, registry
from diffplast.core.checkpoint import Checkpoint
from diffplast.core.training import State

LARGEST = {"binary": "plastic", "binary_small": "lstm", "images": "plastic", "maze": "plastic", "omniglot": "plastic"}


def state(name, arm, checked):
    """The state of a run of task `name` after one update with gradients at random."""
    block = getattr(checked, name)
    state = State(registry.load(name)(block.experiment, block.laptop, arm, torch.device("cpu")), 0)
    for parameter in state.network.parameters():
        parameter.grad = torch.randn_like(parameter)
    state.optimizer.step()
    return state


def save(checkpoint, state):
    checkpoint.save(state.state_dict())


def main():
    checked = params.load()
    print(environment())
    rows = [["task", "arm", "trained numbers", "MB", "ms a save", "median", "share of training"]]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for name, arm in LARGEST.items():
            checkpoint, saved = Checkpoint(Path(folder, f"{name}.pt"), "benchmark"), state(name, arm, checked)
            times = interleaved({name: functools.partial(save, checkpoint, saved)}, seconds=2)
            best, median = best_and_median(times[name])
            count = sum(parameter.numel() for parameter in saved.network.parameters())
            size, share = checkpoint.path.stat().st_size / 1e6, median / checked.checkpoint_seconds
            costs = [f"{size:.1f}", f"{1e3 * best:.1f}", f"{1e3 * median:.1f}", f"{share:.2%}"]
            rows.append([name, arm, f"{count:,}", *costs])
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
