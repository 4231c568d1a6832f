"""Binary patterns, small: two patterns of 50 bits; a plastic network against a large recurrent one and an LSTM."""

import numpy as np
import torch
from torch import Tensor, nn

from diffplast.core.task import Metric, Positive, PositiveFloat, Step, Strict, Task
from diffplast.tasks.completion import BinaryEpisodes, Presentation, RecurrentNetwork, completion_step, draw_patterns


class Experiment(Strict):
    """The paper's experiment on small binary patterns.

    extra_neurons: what the non-plastic network has beyond one neuron a bit and the bias. lstm_hidden: size of
    the LSTM's state.
    """

    bits: Positive
    times: Presentation
    extra_neurons: Positive
    lstm_hidden: Positive
    init: PositiveFloat
    eta: PositiveFloat


class PlasticNetwork(RecurrentNetwork):
    """A plastic network, one neuron a bit and one for the bias; a neuron's connection to itself is not plastic.

    Its weight is trained all the same, as in the paper's program: a negative one keeps the pattern shown last from
    being recalled in the steps after it.
    """

    def __init__(self, experiment: Experiment):
        super().__init__(experiment.bits + 1, "plastic", experiment.init, experiment.eta, self_plasticity=False)

    def restore(self, inputs: Tensor, clamped: Tensor) -> Tensor:
        """Outputs of all bits in the last step, (B, bits)."""
        return self(inputs, clamped)[-1, :, :-1]


class LargeNetwork(RecurrentNetwork):
    """A non-plastic network with extra neurons that no input reaches."""

    def __init__(self, experiment: Experiment):
        self.bits = experiment.bits
        self.extra = experiment.extra_neurons
        super().__init__(self.bits + 1 + self.extra, "nonplastic", experiment.init, experiment.eta)

    def restore(self, inputs: Tensor, clamped: Tensor) -> Tensor:
        """Outputs of all bits in the last step, (B, bits)."""
        inputs = nn.functional.pad(inputs, (0, self.extra))
        clamped = nn.functional.pad(clamped, (0, self.extra))
        return self(inputs, clamped)[-1, :, : self.bits]


class LSTMNetwork(nn.Module):
    """An LSTM with a linear, tanh-squashed output for every bit; known bits are clamped onto the output."""

    def __init__(self, experiment: Experiment):
        super().__init__()
        self.lstm = nn.LSTM(experiment.bits, experiment.lstm_hidden)
        self.readout = nn.Linear(experiment.lstm_hidden, experiment.bits)

    def restore(self, inputs: Tensor, clamped: Tensor) -> Tensor:
        """Outputs of all bits in the last step, (B, bits). The LSTM has a bias of its own."""
        hidden, _ = self.lstm(inputs[..., :-1])
        outputs = torch.tanh(self.readout(hidden[-1]))
        return torch.where(clamped[-1, :, :-1], inputs[-1, :, :-1], outputs)


NETWORKS = {"plastic": PlasticNetwork, "nonplastic": LargeNetwork, "lstm": LSTMNetwork}


class BinarySmall(Task[Experiment]):
    """Binary patterns, small."""

    title = "Binary patterns, small"
    arms = {"plastic": "plastic", "nonplastic": "non-plastic RNN", "lstm": "LSTM"}
    metrics = {"wrong_bits": Metric("share of wrong bits", higher_is_better=False)}
    Experiment = Experiment

    def network(self) -> nn.Module:
        """See NETWORKS."""
        return NETWORKS[self.arm](self.experiment).to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> BinaryEpisodes:
        """Patterns are random, so training and test differ by the generator alone."""
        return draw_patterns(self.experiment.bits, self.experiment.times, generator, batch).to(self.device)

    def step(self, network: nn.Module, episodes: BinaryEpisodes) -> Step:
        """Restore the pattern in the last step."""
        return completion_step(network.restore(episodes.inputs, episodes.clamped), episodes.target)


TASK = BinarySmall
