"""Binary patterns: five patterns of 1,000 bits are shown, one with half of its bits zeroed is to be restored."""

import numpy as np
from torch import nn

from diffplast.core.task import Metric, Positive, PositiveFloat, Step, Strict, Task
from diffplast.tasks.completion import BinaryEpisodes, Presentation, RecurrentNetwork, completion_step, draw_patterns


class Experiment(Strict):
    """The paper's experiment on binary patterns."""

    bits: Positive
    times: Presentation
    init: PositiveFloat
    eta: PositiveFloat


class Binary(Task[Experiment]):
    """Binary patterns, large."""

    title = "Binary patterns"
    arms = {
        "plastic": "plastic",
        "plastic_slow": "plastic, a fifth of the rate",
        "homogeneous": "homogeneous α",
        "nonplastic": "non-plastic",
    }
    metrics = {"wrong_bits": Metric("share of wrong bits", higher_is_better=False, percent=True)}
    Experiment = Experiment

    def network(self, generator: np.random.Generator) -> nn.Module:
        """One neuron a bit and one for the bias. The arm plastic_slow differs in its settings alone."""
        e = self.experiment
        plasticity = self.arm.removesuffix("_slow")
        return RecurrentNetwork(e.bits + 1, plasticity, e.init, e.eta, generator).to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> BinaryEpisodes:
        """Patterns are random, so training and test differ by the generator alone."""
        return draw_patterns(self.experiment.bits, self.experiment.times, generator, batch).to(self.device)

    def step(self, network: nn.Module, episodes: BinaryEpisodes) -> Step:
        """Restore the pattern in the last step."""
        outputs = network(episodes.inputs, episodes.clamped)
        return completion_step(outputs[-1, :, :-1], episodes.target)


TASK = Binary
