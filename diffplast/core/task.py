"""What a task is: its parameters, its episodes, its networks, and one `step` that training and evaluation share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Value = TypeVar("Value")

PerArm = Value | dict[str, Value]
"""One value for all arms, or one for each arm by name."""


class Strict(BaseModel):
    """A block of params.yaml: no unknown keys, nothing silently converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Decay(Strict):
    """The learning rate is multiplied by `factor` after every `every` episodes."""

    factor: Annotated[float, Field(gt=0, le=1)]
    every: Positive


class Settings(Strict):
    """How a task is trained at one scale. Lengths are counted in episodes.

    episodes: how many to train on, at most. batch: episodes an update. lr, adam_eps: Adam's rate and epsilon.
    decay: of the rate, or null. clip: largest norm of the gradient, or null. stop_below: training ends once the
    first metric's mean over a window of the curve is below this, or null. curve_every: the window of the curve.
    """

    episodes: PerArm[Positive]
    batch: PerArm[Positive]
    lr: PerArm[Rate]
    adam_eps: Rate
    decay: Decay | None
    clip: Rate | None
    stop_below: Rate | None
    curve_every: Positive

    def for_arm(self, name: str, arm: str) -> Any:
        """The value of setting `name` for `arm`."""
        value = getattr(self, name)
        return value[arm] if isinstance(value, dict) else value


class HeldOut(Strict):
    """How a trained network is evaluated: held-out episodes, and how many of them at a time."""

    episodes: Positive
    batch: Positive


@dataclass(frozen=True)
class Metric:
    """How a metric is called on an axis, which way is better, and whether it is a share, written in per cent."""

    label: str
    higher_is_better: bool
    percent: bool = False


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
    `diffplast.evaluation` know tasks only through what is declared here.
    """

    title: ClassVar[str]
    arms: ClassVar[dict[str, str]]
    """Name of each arm -> its label in figures and tables."""
    metrics: ClassVar[dict[str, Metric]]
    """Every metric of `step`; the first one is the metric that claims are made of."""
    dataset: ClassVar[str | None] = None
    """Kind of data set needed ("images", "omniglot"), or None."""
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
        self.settings = settings
        self.arm = arm
        self.device = device
        self.data = data

    @classmethod
    def primary_metric(cls) -> str:
        """Name of the metric that claims are made of."""
        return next(iter(cls.metrics))

    @abstractmethod
    def network(self) -> nn.Module:
        """A new network of this arm, initialised from torch's global generator, on the task's device."""

    @abstractmethod
    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> Any:
        """Draw `batch` episodes of `split` ("train" or "test"); all randomness comes from `generator`."""

    @abstractmethod
    def step(self, network: nn.Module, episodes: Any) -> Step:
        """Run the network through the episodes."""

    def examples(
        self, network: nn.Module, untrained: nn.Module, generator: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """What the figures show of a trained network, as small arrays. `untrained` is the same network at episode 0."""
        return {}
