"""What the pattern-completion tasks (binary patterns, images) share: patterns are shown, then one is to be restored.

The times and inputs of an episode, and the recurrent network.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from diffplast.core.exact import fixed_mean, fixed_sum, normal
from diffplast.core.task import Positive, Step, Strict
from diffplast.plasticity import plastic_parameters, plastic_rnn


class Presentation(Strict):
    """Times of an episode, in steps: `rounds` times, each of `patterns` patterns for `shown` steps, blank for `gap`."""

    patterns: Positive
    rounds: Positive
    shown: Positive
    gap: Annotated[int, Field(ge=0)]
    test: Positive

    @property
    def steps(self) -> int:
        """Length of an episode."""
        return self.rounds * self.patterns * (self.shown + self.gap) + self.test


def completion_inputs(times: Presentation, patterns: Tensor, order: np.ndarray, cue: Tensor) -> tuple[Tensor, Tensor]:
    """Lay out the inputs of a batch of episodes.

    patterns: (B, P, N). order: (B, rounds, P), which pattern is shown when. cue: (B, N), zero where it is degraded.
    Returns inputs (T, B, N + 1) and clamped, bool of the same shape: the last neuron is the bias, clamped to 1
    at all times, and any other neuron is clamped where its input is not zero.
    """
    batch, _, bits = patterns.shape
    inputs = patterns.new_zeros(times.steps, batch, bits + 1)
    inputs[..., -1] = 1
    shown = patterns[torch.arange(batch)[:, None], torch.from_numpy(order.reshape(batch, -1))]
    for slot in range(shown.shape[1]):
        start = slot * (times.shown + times.gap)
        inputs[start : start + times.shown, :, :-1] = shown[:, slot]
    inputs[-times.test :, :, :-1] = cue
    return inputs, inputs != 0


def random_orders(times: Presentation, generator: np.random.Generator, batch: int) -> np.ndarray:
    """A fresh random order of the patterns for every round of every episode: (B, rounds, P)."""
    order = np.tile(np.arange(times.patterns), (batch, times.rounds, 1))
    return generator.permuted(order, axis=-1)


@dataclass
class BinaryEpisodes:
    """inputs (T, B, bits + 1) and clamped as `completion_inputs`; target (B, bits), ±1."""

    inputs: Tensor
    clamped: Tensor
    target: Tensor

    def to(self, device: torch.device) -> "BinaryEpisodes":
        """The same episodes on another device."""
        return BinaryEpisodes(self.inputs.to(device), self.clamped.to(device), self.target.to(device))


def draw_patterns(bits: int, times: Presentation, generator: np.random.Generator, batch: int) -> BinaryEpisodes:
    """Random patterns, half of the bits +1; the cue keeps a random half of the target's bits."""
    template = np.where(np.arange(bits) < bits // 2, 1, -1).astype(np.float32)
    patterns = generator.permuted(np.tile(template, (batch, times.patterns, 1)), axis=-1)
    order = random_orders(times, generator, batch)
    target = patterns[np.arange(batch), generator.integers(times.patterns, size=batch)]
    kept = generator.permuted(np.tile(np.arange(bits) < bits // 2, (batch, 1)), axis=-1)
    inputs, clamped = completion_inputs(times, torch.from_numpy(patterns), order, torch.from_numpy(target * kept))
    return BinaryEpisodes(inputs, clamped, torch.from_numpy(target))


def completion_step(restored: Tensor, target: Tensor) -> Step:
    """Loss and metrics of restored (B, bits), real, against target (B, bits), ±1.

    The loss is the summed squared error (the paper's), averaged over episodes; `wrong_bits` is the share of all bits
    with the wrong sign.
    """
    loss = fixed_mean(fixed_sum((restored - target).square(), 1), 0)
    wrong = (torch.sign(restored.detach()) != target).float().mean(dim=1)
    return Step(loss, {"wrong_bits": wrong})


class RecurrentNetwork(nn.Module):
    """N neurons, all connected to all: weight (N, N); alpha (N, N), 0-d or None; eta 0-d or None.

    plasticity: "plastic" (a coefficient for every connection), "homogeneous" (one for all) or "nonplastic".
    init: the weights, and coefficients of their own, begin as init times a normal number of `generator`; a shared
    coefficient begins at init. eta: initial learning rate of the trace.
    self_plasticity: False keeps the connection of a neuron to itself fixed within an episode.
    """

    def __init__(
        self,
        neurons: int,
        plasticity: str,
        init: float,
        eta: float,
        generator: np.random.Generator,
        self_plasticity: bool = True,
    ):
        super().__init__()
        self.weight, self.alpha, self.eta = plastic_parameters(
            (neurons, neurons), plasticity, init, eta, normal(generator)
        )
        self.register_buffer("mask", None if self_plasticity else 1 - torch.eye(neurons), persistent=False)

    def forward(self, inputs: Tensor, clamped: Tensor | None) -> Tensor:
        """inputs (T, B, N), clamped bool (T, B, N) -> outputs (T, B, N)."""
        alpha = self.alpha if self.mask is None else self.alpha * self.mask
        outputs, _ = plastic_rnn(inputs, self.weight, alpha, self.eta, clamped, "hebb")
        return outputs
