"""Episodes of pattern completion (binary patterns and images): patterns are shown, then one is to be restored."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from diffplast.tasks.base import Positive, Strict


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
