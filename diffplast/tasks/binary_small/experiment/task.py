"""Binary patterns, small: two patterns of 50 bits; a plastic network against a large recurrent one and an LSTM."""

import numpy as np
from pydantic import model_validator
from torch import Tensor, nn

from diffplast.core.task import Metric, Positive, PositiveFloat, Step, Strict, Task
from diffplast.tasks.binary_small.experiment.lstm import LSTMNetwork
from diffplast.tasks.completion import BinaryEpisodes, Presentation, RecurrentNetwork, completion_step, draw_patterns


class Experiment(Strict):
    """The paper's experiment on small binary patterns.

    times: of an episode. long_times: the large task's, for the arm plastic_long. extra_neurons: what the non-plastic
    network has beyond one neuron a bit and the bias. lstm_hidden: size of the LSTM's state.
    """

    bits: Positive
    times: Presentation
    long_times: Presentation
    extra_neurons: Positive
    lstm_hidden: Positive
    init: PositiveFloat
    eta: PositiveFloat

    @model_validator(mode="after")
    def _one_unit_a_bit(self) -> "Experiment":
        if self.lstm_hidden < self.bits:
            wanted = f"needs a unit for each of the {self.bits} bits"
            raise ValueError(f"binary_small.experiment.lstm_hidden: {wanted} (found {self.lstm_hidden})")
        return self


class PlasticNetwork(RecurrentNetwork):
    """A plastic network, one neuron a bit and one for the bias; a neuron's connection to itself is not plastic.

    Its weight is trained all the same, as in the paper's program: a negative one keeps the pattern shown last from
    being recalled in the steps after it.
    """

    def __init__(self, experiment: Experiment, generator: np.random.Generator):
        e = experiment
        super().__init__(e.bits + 1, "plastic", e.init, e.eta, generator, self_plasticity=False)

    def restore(self, inputs: Tensor, clamped: Tensor) -> Tensor:
        """Outputs of all bits in the last step, (B, bits)."""
        return self(inputs, clamped)[-1, :, :-1]


class LargeNetwork(RecurrentNetwork):
    """A non-plastic network with extra neurons that no input reaches."""

    def __init__(self, experiment: Experiment, generator: np.random.Generator):
        self.bits = experiment.bits
        self.extra = experiment.extra_neurons
        super().__init__(self.bits + 1 + self.extra, "nonplastic", experiment.init, experiment.eta, generator)

    def restore(self, inputs: Tensor, clamped: Tensor) -> Tensor:
        """Outputs of all bits in the last step, (B, bits)."""
        inputs = nn.functional.pad(inputs, (0, self.extra))
        clamped = nn.functional.pad(clamped, (0, self.extra))
        return self(inputs, clamped)[-1, :, : self.bits]


class BinarySmall(Task[Experiment]):
    """Binary patterns, small."""

    title = "Binary patterns, small"
    arms = {
        "plastic": "plastic",
        "plastic_long": "plastic, shown longer",
        "nonplastic": "non-plastic RNN",
        "lstm": "LSTM",
    }
    metrics = {"wrong_bits": Metric("share of wrong bits", higher_is_better=False, percent=True)}
    captured = frozenset({"nonplastic", "lstm"})
    Experiment = Experiment

    def network(self, generator: np.random.Generator) -> nn.Module:
        """See the classes of networks here and in lstm.py."""
        e = self.experiment
        if self.arm == "lstm":
            network = LSTMNetwork(e.bits, e.lstm_hidden, generator)
        else:
            network = LargeNetwork(e, generator) if self.arm == "nonplastic" else PlasticNetwork(e, generator)
        return network.to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> BinaryEpisodes:
        """Patterns are random, so training and test differ by the generator alone."""
        times = self.experiment.long_times if self.arm == "plastic_long" else self.experiment.times
        return draw_patterns(self.experiment.bits, times, generator, batch).to(self.device)

    def step(self, network: nn.Module, episodes: BinaryEpisodes) -> Step:
        """Restore the pattern in the last step."""
        return completion_step(network.restore(episodes.inputs, episodes.clamped), episodes.target)


TASK = BinarySmall
