"""Omniglot: five new characters are shown once each with their labels; a new drawing of one of them is to be named."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from diffplast.core.task import Metric, Positive, Rate, Step, Strict, Task
from diffplast.core.task import Settings as BaseSettings


class Experiment(Strict):
    """The paper's 5-way 1-shot classification.

    ways: characters of an episode. shots: labelled drawings of each. side: of a drawing, in pixels. features: of
    every convolution, and inputs of the head. label_strength: of a label's input to its output.
    init_weight: standard deviation of the head's initial weights. init_alpha: its plasticity coefficients start
    uniform in [0, init_alpha). eta: the trace's initial rate. lstm_hidden: size of the LSTM head's state.
    """

    ways: Positive
    shots: Positive
    side: Positive
    features: Positive
    label_strength: Rate
    init_weight: Rate
    init_alpha: Rate
    eta: Rate
    lstm_hidden: Positive


class Settings(BaseSettings):
    """How drawings are put through the network.

    An episode is one drawing that is tested. What is presented before it does not depend on it, so `queries` of
    them share one presentation in training: a batch is batch / queries presentations with `queries` tested drawings
    each. 1 is the paper's way, and what evaluation always does.

    precision: of the convolutions; the head is float32 in either case.
    """

    queries: Positive
    precision: Literal["float32", "bf16"]

    @model_validator(mode="after")
    def _whole_presentations(self):
        batches = self.batch.values() if isinstance(self.batch, dict) else [self.batch]
        if any(batch % self.queries for batch in batches):
            raise ValueError(f"batch ({self.batch}) is not a multiple of queries ({self.queries})")
        return self


@dataclass
class Episodes:
    """P presentations of S = ways * shots drawings, with Q tested drawings each.

    shown (P, S, side, side), tested (P, Q, side, side): ink is 1, paper 0. label (P, S), answer (P, Q): 0 .. ways - 1.
    """

    shown: Tensor
    label: Tensor
    tested: Tensor
    answer: Tensor


class PlasticHead(nn.Module):
    """Features -> softmax over the classes: weight (F, ways); alpha (F, ways), 0-d or None; eta 0-d.

    plasticity: "plastic", "homogeneous" (one coefficient for all connections) or "nonplastic".
    """

    def __init__(self, plasticity: str, experiment: Experiment):
        super().__init__()
        shape = experiment.features, experiment.ways
        self.label_strength = experiment.label_strength
        self.weight = nn.Parameter(experiment.init_weight * torch.randn(shape))
        self.alpha = self.eta = None
        if plasticity != "nonplastic":
            self.alpha = nn.Parameter(experiment.init_alpha * torch.rand(shape if plasticity == "plastic" else ()))
            self.eta = nn.Parameter(torch.tensor(experiment.eta))

    def forward(self, shown: Tensor, label: Tensor, tested: Tensor) -> Tensor:
        """shown (P, S, F), label (P, S, ways) one-hot, tested (P, Q, F) -> probabilities (P, Q, ways).

        The label is a strong input of its output, so that the output is what the label says and the connections
        from the active features to it are strengthened (Oja's rule); tested drawings leave no trace.
        """
        if self.alpha is None:
            return torch.softmax(tested @ self.weight, dim=-1)
        trace = self.weight.new_zeros(len(shown), *self.weight.shape)
        for x, y in zip(shown.unbind(1), label.unbind(1), strict=True):
            total = (x[:, None] @ (self.weight + self.alpha * trace)).squeeze(1)
            y = torch.softmax(total + self.label_strength * y, dim=-1)
            trace = trace + self.eta * y[:, None, :] * (x[:, :, None] - y[:, None, :] * trace)
        return torch.softmax(tested @ (self.weight + self.alpha * trace), dim=-1)


class LSTMHead(nn.Module):
    """The non-plastic way: an LSTM sees features and label of every drawing, and names the last one."""

    def __init__(self, experiment: Experiment):
        super().__init__()
        self.ways = experiment.ways
        self.lstm = nn.LSTM(experiment.features + experiment.ways, experiment.lstm_hidden, batch_first=True)
        self.readout = nn.Linear(experiment.lstm_hidden, experiment.ways)

    def forward(self, shown: Tensor, label: Tensor, tested: Tensor) -> Tensor:
        """As PlasticHead; every tested drawing, without label, is one step from the state after the presentation."""
        presentations, queries, _ = tested.shape
        _, state = self.lstm(torch.cat([shown, label], dim=-1))
        state = tuple(part.repeat_interleave(queries, dim=1) for part in state)
        last = F.pad(tested, (0, self.ways)).reshape(presentations * queries, 1, -1)
        hidden, _ = self.lstm(last, state)
        return torch.softmax(self.readout(hidden), dim=-1).view(presentations, queries, self.ways)


class Network(nn.Module):
    """Convolutions (3 × 3, stride 2, tanh) down to one pixel, and the head of the arm."""

    def __init__(self, arm: str, experiment: Experiment, precision: str):
        super().__init__()
        layers, channels, side = [], 1, experiment.side
        while side > 1:
            layers.append(nn.Conv2d(channels, experiment.features, 3, stride=2))
            channels, side = experiment.features, (side - 1) // 2
        self.convolutions = nn.ModuleList(layers).to(memory_format=torch.channels_last)
        self.head = LSTMHead(experiment) if arm == "lstm" else PlasticHead(arm, experiment)
        self.ways, self.bf16 = experiment.ways, precision == "bf16"

    def forward(self, shown: Tensor, label: Tensor, tested: Tensor) -> Tensor:
        """Drawings and labels as in Episodes -> probabilities (P, Q, ways). All drawings pass in one batch."""
        features = self.features(torch.cat([shown, tested], dim=1))
        shown, tested = features.split([shown.shape[1], tested.shape[1]], dim=1)
        return self.head(shown, F.one_hot(label, self.ways).float(), tested)

    def features(self, drawings: Tensor) -> Tensor:
        """drawings (..., side, side) -> (..., F), float32."""
        x = drawings.flatten(0, -3)[:, None]
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            for convolution in self.convolutions:
                x = torch.tanh_(convolution(x))  # in place: no second copy of the largest array
        return x.float().view(*drawings.shape[:-2], -1)


class Omniglot(Task[Experiment]):
    """Omniglot, 5-way 1-shot."""

    title = "Omniglot"
    arms = {
        "plastic": "plastic",
        "homogeneous": "homogeneous α",
        "nonplastic": "non-plastic",
        "lstm": "LSTM",
    }
    metrics = {"accuracy": Metric("share of drawings named correctly", higher_is_better=True)}
    dataset = "omniglot"
    Experiment = Experiment
    Settings = Settings

    def __init__(self, experiment, settings, arm, device, data=None):
        """Prepares every drawing in its four rotations, once. Raises ValueError where `queries` is too large."""
        super().__init__(experiment, settings, arm, device, data)
        if data is None:
            return
        drawings = torch.from_numpy(data["drawings"]).to(device)
        self.per_class = drawings.shape[1]
        most = (self.per_class - experiment.shots) * experiment.ways
        if settings.queries > most:
            raise ValueError(
                f"queries ({settings.queries}): an episode has at most {most} drawings that were not shown"
            )
        self.drawings = torch.stack([torch.rot90(drawings, turns, (-2, -1)) for turns in range(4)]).flatten(0, 2)
        self.classes = {split: data[f"{split}_classes"] for split in ("train", "test")}

    def network(self) -> nn.Module:
        """See Network."""
        return Network(self.arm, self.experiment, self.settings.precision).to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> Episodes:
        """Characters of the split, the turn of each, the drawings, the order of presentation and what is tested.

        Tested drawings are spread over the characters as evenly as their number allows. Where `batch` is no multiple
        of `queries` (the last one of a run may be), the greatest common divisor share a presentation.
        """
        ways, shots, per_class = self.experiment.ways, self.experiment.shots, self.per_class
        queries = math.gcd(self.settings.queries, batch) if split == "train" else 1
        presentations = batch // queries
        repeats = -(-queries // ways)
        pool = self.classes[split]
        character = np.stack([generator.choice(pool, ways, replace=False) for _ in range(presentations)])
        turn = generator.integers(4, size=(presentations, ways))
        drawing = np.tile(np.arange(per_class), (presentations, ways, 1))
        drawing = generator.permuted(drawing, axis=-1)[..., : shots + repeats]
        number = ((turn * (len(self.drawings) // 4 // per_class) + character) * per_class)[..., None] + drawing

        row = np.arange(presentations)[:, None]
        order = generator.permuted(np.tile(np.arange(ways * shots), (presentations, 1)), axis=-1)
        asked = generator.permuted(np.tile(np.arange(ways * repeats), (presentations, 1)), axis=-1)[:, :queries]
        label, answer = order % ways, asked % ways
        shown = number[row, label, order // ways]
        tested = number[row, answer, shots + asked // ways]
        return Episodes(self._pixels(shown), self._index(label), self._pixels(tested), self._index(answer))

    def _index(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self.device)

    def _pixels(self, number: np.ndarray) -> Tensor:
        return self.drawings[self._index(number)].float() / 255

    def step(self, network: nn.Module, episodes: Episodes) -> Step:
        """Name the tested drawings. The loss is the binary cross-entropy, averaged over classes and drawings."""
        probabilities = network(episodes.shown, episodes.label, episodes.tested)
        target = F.one_hot(episodes.answer, self.experiment.ways).float()
        correct = probabilities.detach().argmax(dim=-1) == episodes.answer
        return Step(F.binary_cross_entropy(probabilities, target), {"accuracy": correct.float().flatten()})

    def examples(self, network, untrained, generator):
        """Four held-out episodes: shown (4, S, side, side), label (4, S), tested (4, side, side), answer (4,),
        probabilities (4, ways). Drawings are uint8, ink 255.
        """
        with torch.no_grad():
            episodes = self.episodes("test", generator, 4)
            probabilities = network(episodes.shown, episodes.label, episodes.tested)
        return {
            "shown": _codes(episodes.shown),
            "label": episodes.label.cpu().numpy().astype(np.uint8),
            "tested": _codes(episodes.tested[:, 0]),
            "answer": episodes.answer[:, 0].cpu().numpy().astype(np.uint8),
            "probabilities": probabilities[:, 0].cpu().numpy().astype(np.float16),
        }


def _codes(pixels: Tensor) -> np.ndarray:
    return (pixels * 255).round().byte().cpu().numpy()


TASK = Omniglot
