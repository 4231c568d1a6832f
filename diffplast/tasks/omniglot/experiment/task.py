"""Omniglot: five new characters are shown once each with their labels; a new drawing of one of them is to be named."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from diffplast.core.errors import UserError
from diffplast.core.task import Metric, PerArm, Positive, PositiveFloat, Step, Strict, Task
from diffplast.core.task import Settings as BaseSettings
from diffplast.tasks.omniglot.experiment.head import probabilities
from diffplast.tasks.omniglot.experiment.loss import loss
from diffplast.tasks.omniglot.experiment.network import Network

# Of the program's evaluation, which shuffles all characters once more: see `Omniglot.episodes`.
RELEASED_SEED = 1000


def _halves_to_one(side: int) -> int:
    if side < 3 or side & (side + 1):
        raise ValueError("expected 3, 7, 15, 31 or the like, which the convolutions halve to one pixel")
    return side


class Experiment(Strict):
    """The paper's 5-way 1-shot classification.

    ways: characters of an episode. shots: labelled drawings of each. side: of a drawing, in pixels, 2^n - 1, so that
    n - 1 convolutions leave one pixel. features: of every convolution, and inputs of the plastic layer.
    label_strength: of a label's input to its output. init_weight: standard deviation of the layer's initial weights.
    init_alpha: its plasticity coefficients start uniform in [0, init_alpha), a shared one at init_alpha. eta: the
    trace's initial rate.
    """

    ways: Annotated[int, Field(ge=2)]
    shots: Positive
    side: Annotated[int, AfterValidator(_halves_to_one)]
    features: Positive
    label_strength: PositiveFloat
    init_weight: PositiveFloat
    init_alpha: PositiveFloat
    eta: PositiveFloat


class Settings(BaseSettings):
    """How drawings are put through the network.

    Lengths are counted in tested drawings.

    groupings: null: every tested drawing has a presentation of its own, as in the paper and always in evaluation.
    A number: a batch is one tested drawing of each of as many characters. That many times, the characters are divided
    again into groups of `ways`; each group is presented, and the tested drawings of all its characters are to be named.
    So a drawing is in many episodes, but passes the convolutions, which take nearly all of the time, once.
    """

    groupings: PerArm[Positive | None] = None


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


class Omniglot(Task[Experiment]):
    """Omniglot, 5-way 1-shot."""

    title = "Omniglot"
    arms = {
        "plastic": "plastic",
        "homogeneous": "homogeneous α",
        "nonplastic": "non-plastic",
        "text": "homogeneous α, the text's settings",
    }
    metrics = {"accuracy": Metric("share of drawings named correctly", higher_is_better=True, percent=True)}
    dataset = "omniglot"
    further_tests: ClassVar = {"final": None, "released": 100}  # program: 100 episodes a network
    Experiment = Experiment
    Settings = Settings

    def __init__(self, experiment, settings, arm, device, data=None):
        """Prepares every drawing in its four rotations, once.

        Raises UserError where the drawings are of another size, or where there are too few of a character, of
        characters for an episode, or for training, of characters for a batch with `groupings`.
        """
        super().__init__(experiment, settings, arm, device, data)
        if data is None:
            return
        self._check(data)
        drawings = torch.from_numpy(data["drawings"]).to(device)
        self.per_class = drawings.shape[1]
        self.drawings = torch.stack([torch.rot90(drawings, turns, (-2, -1)) for turns in range(4)]).flatten(0, 2)
        self.classes = {split: data[f"{split}_classes"] for split in ("train", "test", "final")}
        # Of the final characters none, so that nothing is known of them before the final number.
        known = np.sort(np.concatenate([self.classes["train"], self.classes["test"]]))
        self.classes["released"] = np.random.default_rng(RELEASED_SEED).permutation(known)[: len(self.classes["test"])]
        batch, characters = self.settings.batch, len(self.classes["train"])
        if self.settings.groupings is not None and batch > characters:
            remedy = "set a smaller batch, or groupings to null"
            raise UserError(
                f"omniglot: a batch of {batch} needs as many characters, and there are {characters}: {remedy}"
            )

    def _check(self, data: dict[str, np.ndarray]) -> None:
        e = self.experiment
        if data["drawings"].shape[-1] != e.side:
            found = data["drawings"].shape[-1]
            said = f"but the prepared drawings have {found} pixels a side"
            raise UserError(f"omniglot.experiment.side is {e.side}, {said}")
        if data["drawings"].shape[1] <= e.shots:
            found = data["drawings"].shape[1]
            said = f"and one more is asked for: a character has {found}"
            raise UserError(f"omniglot.experiment.shots is {e.shots}, {said}")
        for split in ("train", "test", "final"):
            if len(data[f"{split}_classes"]) < e.ways:
                found = len(data[f"{split}_classes"])
                raise UserError(f"omniglot.experiment.ways is {e.ways}, but {split}_classes of the data are {found}")

    def network(self, generator: np.random.Generator) -> nn.Module:
        """See Network. "text" is "homogeneous", for which params.yaml has settings of its own."""
        return Network("homogeneous" if self.arm == "text" else self.arm, self.experiment, generator).to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> Episodes:
        """Draw characters of the split, their groups, the turn of each, the drawings and the order of presentation.

        split: "train", "test" or "final", which share no character; or "released", as in the program's evaluation: the
        characters are shuffled again, so that most of those tested were trained on, and the drawing asked for is any
        of its character, so that it may be one that is shown.

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
        if split == "released":
            tested = tested - drawing[:, shots] + generator.integers(per_class, size=len(character))

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
        logits = network(episodes)
        correct = (logits.detach().argmax(dim=-1) == episodes.answer).float()
        counted = torch.stack([correct.flatten(), torch.ones_like(correct).flatten()])
        answers = correct.new_zeros(2, len(episodes.tested))
        right, times = answers.index_add_(1, episodes.asked.flatten(), counted)  # whole numbers, in any order
        return Step(loss(logits, episodes.answer), {"accuracy": right / times})

    def examples(self, network, untrained, generator):
        """Four held-out episodes: shown (4, S, side, side), label (4, S), tested (4, side, side), answer (4,),
        probabilities (4, ways). Drawings are uint8, ink 255.
        """
        with torch.no_grad():
            episodes = self.episodes("test", generator, 4)
            found = probabilities(network(episodes))
        return {
            "shown": _codes(episodes.shown[episodes.presented]),
            "label": episodes.label.cpu().numpy().astype(np.uint8),
            "tested": _codes(episodes.tested),
            "answer": episodes.answer[:, 0].cpu().numpy().astype(np.uint8),
            "probabilities": found[:, 0].cpu().numpy().astype(np.float16),
        }


def _codes(pixels: Tensor) -> np.ndarray:
    return (pixels * 255).round().byte().cpu().numpy()


TASK = Omniglot
