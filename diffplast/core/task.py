"""What a task is: its parameters, its episodes, its networks, and one `step` that training and evaluation share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Value = TypeVar("Value")

OTHERS = "others"
PerArm = Value | dict[str, Value]
"""One value for all arms, or one for each arm by name; OTHERS names the arms that are not named."""


def of_arm(value: PerArm[Value], arm: str) -> Value:
    """Return the value that an arm has."""
    return value.get(arm, value.get(OTHERS)) if isinstance(value, dict) else value


class Strict(BaseModel):
    """A block of params.yaml: no unknown keys, nothing silently converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Decay(Strict):
    """The learning rate is multiplied by `factor` after every `every` episodes."""

    factor: Annotated[float, Field(gt=0, le=1)]
    every: Positive


class Settings(Strict):
    """How a task is trained at one scale. Lengths are counted in episodes.

    episodes: how many to train on. batch: episodes an update. lr: Adam's rate. adam_eps, adam_beta2: Adam's epsilon
    and second decay (torch's defaults). decay: of the rate, in steps. anneal: share of the end of training over which
    the rate also falls linearly to 0. clip: largest norm of the gradient. average: decay per update of an exponential
    average of the parameters, which is then the trained network. curve_every: the window of the curve.
    """

    episodes: PerArm[Positive]
    batch: PerArm[Positive]
    lr: PerArm[PositiveFloat]
    adam_eps: PositiveFloat = 1e-8
    adam_beta2: Share = 0.999
    decay: Decay | None = None
    anneal: Share | None = None
    clip: PositiveFloat | None = None
    average: Share | None = None
    curve_every: PerArm[Positive]

    def for_arm(self, arm: str) -> "Settings":
        """The settings of one arm."""
        return self.model_copy(update={name: of_arm(value, arm) for name, value in self})


class HeldOut(Strict):
    """How a trained network is evaluated: held-out episodes, and how many of them at a time."""

    episodes: Positive
    batch: Positive


@dataclass(frozen=True)
class Metric:
    """How a metric is called on an axis, and which way is better."""

    label: str
    higher_is_better: bool
    percent: bool = False
    """Whether values are shares, written in per cent."""


@dataclass
class Step:
    """The result of one batch of episodes.

    loss: 0-d, differentiable; what training minimises.
    metrics: by name, (B,), detached: one value an episode.
    """

    loss: Tensor
    metrics: dict[str, Tensor]


ExperimentModel = TypeVar("ExperimentModel", bound=Strict)


class Task(ABC, Generic[ExperimentModel]):
    """One experiment of the paper, for one arm.

    A task module defines one subclass and binds it to the name TASK. `diffplast.core.training` and
    `stages.evaluate` know tasks only through what is declared here.
    """

    title: ClassVar[str]
    arms: ClassVar[dict[str, str]]
    """Name of each arm -> its label in figures and tables."""
    metrics: ClassVar[dict[str, Metric]]
    """Every metric of `step`; the first one is the metric that claims are made of."""
    dataset: ClassVar[str | None] = None
    """Kind of data set needed ("images", "omniglot"), or None."""
    further_tests: ClassVar[dict[str, int | None]] = {}
    """Splits that a trained network is evaluated on besides "test" -> how many episodes of each; None: as many."""
    captured: ClassVar[frozenset[str]] = frozenset()
    """Arms whose update a GPU replays as one recorded graph: their episodes are dataclasses of tensors, always of the
    same shape, and their step asks the GPU for nothing."""
    Experiment: ClassVar[type[Strict]]
    """The paper's structure of the task: the same at every scale."""
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(
        self,
        experiment: ExperimentModel,
        settings: Settings,
        arm: str,
        device: torch.device,
        data: dict[str, np.ndarray] | None = None,
    ):
        if arm not in self.arms:
            raise ValueError(f"unknown arm {arm!r}; this task has {', '.join(self.arms)}")
        self.experiment = experiment
        self.settings = settings.for_arm(arm)
        self.arm = arm
        self.device = device
        self.data = data

    @classmethod
    def primary_metric(cls) -> str:
        """Name of the metric that claims are made of."""
        return next(iter(cls.metrics))

    @abstractmethod
    def network(self, generator: np.random.Generator) -> nn.Module:
        """Make a network of this arm, on the task's device; its initial values come from `generator` alone."""

    @abstractmethod
    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> Any:
        """Draw `batch` episodes of `split`; all randomness comes from `generator`.

        split: "train", "test" or one of `further_tests`.
        """

    @abstractmethod
    def step(self, network: nn.Module, episodes: Any) -> Step:
        """Run the network through the episodes."""

    def examples(
        self, network: nn.Module, untrained: nn.Module, generator: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """What the figures show of a trained network, as small arrays. `untrained` is the same network at episode 0."""
        return {}
