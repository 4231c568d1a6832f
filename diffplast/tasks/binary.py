"""Binary patterns: five patterns of 1,000 bits are shown, one with half of its bits zeroed is to be restored."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from diffplast.completion import Presentation, RecurrentNetwork, completion_inputs, random_orders
from diffplast.core.task import Metric, Positive, Rate, Step, Strict, Task


class Experiment(Strict):
    """The paper's experiment on binary patterns."""

    bits: Positive
    times: Presentation
    init: Rate
    eta: Rate


@dataclass
class Episodes:
    """inputs (T, B, bits + 1) and clamped as `completion_inputs`; target (B, bits), ±1."""

    inputs: Tensor
    clamped: Tensor
    target: Tensor

    def to(self, device: torch.device) -> "Episodes":
        """The same episodes on another device."""
        return Episodes(self.inputs.to(device), self.clamped.to(device), self.target.to(device))


def draw_patterns(bits: int, times: Presentation, generator: np.random.Generator, batch: int) -> Episodes:
    """Random patterns, half of the bits +1; the cue keeps a random half of the target's bits."""
    template = np.where(np.arange(bits) < bits // 2, 1, -1).astype(np.float32)
    patterns = generator.permuted(np.tile(template, (batch, times.patterns, 1)), axis=-1)
    order = random_orders(times, generator, batch)
    target = patterns[np.arange(batch), generator.integers(times.patterns, size=batch)]
    kept = generator.permuted(np.tile(np.arange(bits) < bits // 2, (batch, 1)), axis=-1)
    inputs, clamped = completion_inputs(times, torch.from_numpy(patterns), order, torch.from_numpy(target * kept))
    return Episodes(inputs, clamped, torch.from_numpy(target))


def completion_step(restored: Tensor, target: Tensor) -> Step:
    """Loss and metrics of restored (B, bits), real, against target (B, bits), ±1.

    The loss is the summed squared error (the paper's), averaged over episodes; `wrong_bits` is the share of all bits
    with the wrong sign.
    """
    loss = (restored - target).square().sum(dim=1).mean()
    wrong = (torch.sign(restored.detach()) != target).float().mean(dim=1)
    return Step(loss, {"wrong_bits": wrong})


class Binary(Task[Experiment]):
    """Binary patterns, large."""

    title = "Binary patterns"
    arms = {"plastic": "plastic", "homogeneous": "homogeneous α", "nonplastic": "non-plastic"}
    metrics = {"wrong_bits": Metric("share of wrong bits", higher_is_better=False)}
    Experiment = Experiment

    def network(self) -> nn.Module:
        """One neuron a bit and one for the bias."""
        e = self.experiment
        return RecurrentNetwork(e.bits + 1, self.arm, e.init, e.eta).to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> Episodes:
        """Patterns are random, so training and test differ by the generator alone."""
        return draw_patterns(self.experiment.bits, self.experiment.times, generator, batch).to(self.device)

    def step(self, network: nn.Module, episodes: Episodes) -> Step:
        """Restore the pattern in the last step."""
        outputs = network(episodes.inputs, episodes.clamped)
        return completion_step(outputs[-1, :, :-1], episodes.target)


TASK = Binary
