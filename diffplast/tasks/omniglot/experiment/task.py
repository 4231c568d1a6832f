"""Omniglot: five new characters are shown once each with their labels; a new drawing of one of them is to be named."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffplast.core.errors import UserError
from diffplast.core.task import Metric, Positive, PositiveFloat, Step, Strict, Task
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
    label_strength: PositiveFloat
    init_weight: PositiveFloat
    init_alpha: PositiveFloat
    eta: PositiveFloat
    lstm_hidden: Positive


class Settings(BaseSettings):
    """How drawings are put through the network.

    Lengths are counted in tested drawings.

    groupings: null: every tested drawing has a presentation of its own, as in the paper and always in evaluation.
    A number: a batch is one tested drawing of each of as many characters. That many times, the characters are divided
    anew into groups of `ways`; each group is presented, and the tested drawings of all its characters are to be named.
    So a drawing is in many episodes, but passes the convolutions, which take nearly all of the time, once.

    precision: of the convolutions; the head is float32 in either case.
    """

    groupings: Positive | None
    precision: Literal["float32", "bf16"]


@dataclass
class Episodes:
    """P presentations of S = ways * shots drawings, with Q tested drawings each.

    shown (D, side, side), tested (B, side, side): every drawing once; ink is 1, paper 0.
    presented (P, S): numbers of drawings shown, in order. asked (P, Q): numbers of tested drawings.
    label (P, S), answer (P, Q): 0 .. ways - 1.
    """

    shown: Tensor
    presented: Tensor
    label: Tensor
    tested: Tensor
    asked: Tensor
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

    def forward(self, episodes: Episodes) -> Tensor:
        """Probabilities (P, Q, ways). All drawings pass the convolutions in one batch, each once."""
        features = self.features(torch.cat([episodes.shown, episodes.tested]))
        shown, tested = features.split([len(episodes.shown), len(episodes.tested)])
        # Not shown[presented]: the gradient of an index is added up by several threads, in any order.
        shown, tested = F.embedding(episodes.presented, shown), F.embedding(episodes.asked, tested)
        return self.head(shown, F.one_hot(episodes.label, self.ways).float(), tested)

    def features(self, drawings: Tensor) -> Tensor:
        """drawings (D, side, side) -> (D, F), float32."""
        x = drawings[:, None]
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            for convolution in self.convolutions:
                x = torch.tanh_(convolution(x))  # in place: no second copy of the largest array
        return x.float().flatten(1)


class Omniglot(Task[Experiment]):
    """Omniglot, 5-way 1-shot."""

    title = "Omniglot"
    arms = {
        "plastic": "plastic",
        "homogeneous": "homogeneous α",
        "nonplastic": "non-plastic",
    }
    metrics = {"accuracy": Metric("share of drawings named correctly", higher_is_better=True, percent=True)}
    dataset = "omniglot"
    Experiment = Experiment
    Settings = Settings

    def __init__(self, experiment, settings, arm, device, data=None):
        """Prepares every drawing in its four rotations, once.

        Raises UserError where the training characters are fewer than a batch with `groupings` needs.
        """
        super().__init__(experiment, settings, arm, device, data)
        if data is None:
            return
        drawings = torch.from_numpy(data["drawings"]).to(device)
        self.per_class = drawings.shape[1]
        self.drawings = torch.stack([torch.rot90(drawings, turns, (-2, -1)) for turns in range(4)]).flatten(0, 2)
        self.classes = {split: data[f"{split}_classes"] for split in ("train", "test")}
        batch, characters = settings.for_arm("batch", arm), len(self.classes["train"])
        if settings.groupings is not None and batch > characters:
            remedy = "set a smaller batch, or groupings to null"
            raise UserError(
                f"omniglot: a batch of {batch} needs as many characters, and there are {characters}: {remedy}"
            )

    def network(self) -> nn.Module:
        """See Network."""
        return Network(self.arm, self.experiment, self.settings.precision).to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> Episodes:
        """Characters of the split, how they are grouped, the turn of each, the drawings and the order of presentation.

        The characters of a presentation, and with `groupings` those of a batch, are different ones. Where they make
        no whole number of groups, the last one is filled up with others of the batch; fewer than one group has
        presentations of their own, as without `groupings`.
        """
        ways, shots, per_class = self.experiment.ways, self.experiment.shots, self.per_class
        groupings = self.settings.groupings if split == "train" and batch >= ways else None
        pool = self.classes[split]
        if groupings is None:
            character = np.concatenate([generator.choice(pool, ways, replace=False) for _ in range(batch)])
            group = np.arange(batch * ways).reshape(batch, ways)
        else:
            character = generator.choice(pool, batch, replace=False)
            groups = -(-batch // ways), ways
            group = np.concatenate([np.resize(generator.permutation(batch), groups) for _ in range(groupings)])
        turn = generator.integers(4, size=len(character))
        drawing = generator.permuted(np.tile(np.arange(per_class), (len(character), 1)), axis=-1)[:, : shots + 1]
        number = ((turn * (len(self.drawings) // 4 // per_class) + character) * per_class)[:, None] + drawing
        shown, tested = number[:, :shots], number[:, shots]

        order = generator.permuted(np.tile(np.arange(ways * shots), (len(group), 1)), axis=-1)
        label = order % ways
        presented = np.take_along_axis(group, label, axis=1) * shots + order // ways
        if groupings is None:
            answer = generator.integers(ways, size=(batch, 1))
            tested, asked = tested[np.take_along_axis(group, answer, axis=1)[:, 0]], np.arange(batch)[:, None]
        else:
            answer, asked = np.tile(np.arange(ways), (len(group), 1)), group
        return Episodes(
            self._pixels(shown.ravel()), self._index(presented), self._index(label),
            self._pixels(tested), self._index(asked), self._index(answer),
        )  # fmt: skip

    def _index(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self.device)

    def _pixels(self, number: np.ndarray) -> Tensor:
        return self.drawings[self._index(number)].float() / 255

    def step(self, network: nn.Module, episodes: Episodes) -> Step:
        """Name the tested drawings. The loss is the binary cross-entropy, averaged over classes and answers.

        A drawing that is tested in several presentations counts once in the accuracy, as the share of right answers.
        """
        probabilities = network(episodes)
        target = F.one_hot(episodes.answer, self.experiment.ways).float()
        correct = (probabilities.detach().argmax(dim=-1) == episodes.answer).float()
        asked, answers = episodes.asked.flatten(), correct.new_zeros(2, len(episodes.tested))
        counted = torch.stack([correct.flatten(), torch.ones_like(correct).flatten()])
        right, times = answers.index_add_(1, asked, counted)
        return Step(F.binary_cross_entropy(probabilities, target), {"accuracy": right / times})

    def examples(self, network, untrained, generator):
        """Four held-out episodes: shown (4, S, side, side), label (4, S), tested (4, side, side), answer (4,),
        probabilities (4, ways). Drawings are uint8, ink 255.
        """
        with torch.no_grad():
            episodes = self.episodes("test", generator, 4)
            probabilities = network(episodes)
        return {
            "shown": _codes(episodes.shown[episodes.presented]),
            "label": episodes.label.cpu().numpy().astype(np.uint8),
            "tested": _codes(episodes.tested),
            "answer": episodes.answer[:, 0].cpu().numpy().astype(np.uint8),
            "probabilities": probabilities[:, 0].cpu().numpy().astype(np.float16),
        }


def _codes(pixels: Tensor) -> np.ndarray:
    return (pixels * 255).round().byte().cpu().numpy()


TASK = Omniglot
