"""Maze: an agent finds an invisible reward in a maze again and again; advantage actor-critic."""

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import nn

from diffplast.core.task import Metric, PerArm, Positive, PositiveFloat, Step, Strict, Task
from diffplast.core.task import Settings as BaseSettings
from diffplast.plasticity import PlasticRollout
from diffplast.tasks.maze.experiment import compiled, plain
from diffplast.tasks.maze.experiment.course import Course, Episodes
from diffplast.tasks.maze.experiment.env import INPUTS, MOVES, columns, draw, tables

Real = Annotated[float, Field(allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]

EXAMPLES = 4


def _inputs(names: list[str]) -> list[str]:
    columns(names)
    return names


class Experiment(Strict):
    """The paper's maze.

    size: of the maze in cells, the walls around it counted. steps: of an episode. goal_reward: for reaching the goal.
    bump_reward: for moving into a wall. neurons: recurrent ones. init: weights and independent coefficients start
    uniform in [0, init), a shared coefficient at init. eta: initial learning rate of the trace. discount: of a reward,
    per step. value_weight: of the squared error of the value in the loss. concentration_penalty: weight of the sum of
    the squared probabilities of the actions, which keeps the agent from settling too early.
    """

    size: Annotated[int, Field(ge=3)]
    steps: Positive
    goal_reward: Real
    bump_reward: Real
    neurons: Positive
    init: PositiveFloat
    eta: PositiveFloat
    discount: Annotated[float, Field(ge=0, le=1)]
    value_weight: Weight
    concentration_penalty: Weight


class Settings(BaseSettings):
    """How an agent is trained.

    inputs: what it is given at every step, see `MazeEnv`. layer_inputs: the initial weights of these inputs are uniform
    within 1 / sqrt(layer_inputs), as in a layer with others that stay 0; by default the numbers that there are.
    """

    inputs: PerArm[Annotated[list[str], AfterValidator(_inputs)]]
    layer_inputs: Positive | None = None


class Agent(nn.Module):
    """Observation -> plastic recurrent neurons -> logits of the actions and the value of the state.

    `act` has a row for each action and, last, one for the value. plasticity: "plastic", "homogeneous" or "nonplastic".
    The initial values come from `generator`; those of the two layers are uniform within 1 / sqrt(inputs), torch's own
    distribution; `sense` counts `layer_inputs` of them.
    """

    def __init__(
        self, inputs: int, layer_inputs: int, neurons: int, plasticity: str, init: float, eta: float,
        generator: np.random.Generator,
    ):  # fmt: skip
        super().__init__()
        self.sense = _linear(inputs, neurons, layer_inputs**-0.5, generator)
        self.weight = _uniform(generator, (neurons, neurons), 0, init)
        self.alpha = self.eta = None
        if plasticity != "nonplastic":
            shared = plasticity == "homogeneous"
            self.alpha = (
                nn.Parameter(torch.tensor(init)) if shared else _uniform(generator, (neurons, neurons), 0, init)
            )
            self.eta = nn.Parameter(torch.tensor(eta))
        self.act = _linear(neurons, len(MOVES) + 1, neurons**-0.5, generator)

    def start(self, batch: int, backend: str = "auto") -> PlasticRollout:
        """The recurrent neurons at the beginning of a batch of episodes; `backend` as `plastic_rnn` takes it."""
        eta = self.weight.new_zeros(()) if self.eta is None else self.eta
        return PlasticRollout(self.weight, self.alpha, eta, batch, rule="oja", backend=backend)


class Maze(Task[Experiment]):
    """Maze exploration."""

    title = "Maze exploration"
    arms = {
        "plastic": "plastic",
        "homogeneous": "homogeneous α",
        "nonplastic": "non-plastic",
        "plastic_text": "plastic, the text's inputs",
        "nonplastic_text": "non-plastic, the text's inputs",
    }
    metrics = {"reward": Metric("reward of an episode", higher_is_better=True)}
    Experiment = Experiment
    Settings = Settings

    def network(self, generator: np.random.Generator) -> nn.Module:
        """A new agent. Arms with "_text" differ in their settings alone."""
        e = self.experiment
        inputs = sum(INPUTS[name] for name in self.settings.inputs)
        counted = self.settings.layer_inputs or inputs
        plasticity = self.arm.removesuffix("_text")
        return Agent(inputs, counted, e.neurons, plasticity, e.init, e.eta, generator).to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> Episodes:
        """Mazes are random, so training and test differ by the generator alone."""
        e = self.experiment
        goal, moved_to = draw(generator, e.size, e.steps, batch)
        return Episodes(goal, moved_to, generator.random((e.steps, batch), dtype=np.float32))

    def step(self, network: nn.Module, episodes: Episodes) -> Step:
        """Let the agent act, then learn from what happened; the forward pass is computed once.

        The loss is the mean over the steps of an episode (as the program's) and over episodes. On a CPU everything
        runs in compiled code, see `compiled`; elsewhere, and for other numbers than float32, see `plain`.
        """
        way = compiled if self._compiled(network) else plain
        loss, course = way.step(self.experiment, self.settings.inputs, network, episodes)
        return Step(loss, {"reward": torch.from_numpy(course.total_reward())})

    def examples(self, network, untrained, generator):
        """Where the untrained (early) and the trained (late) agent go in the same four held-out mazes.

        walls bool (rows, columns). For k in early, late: k_path int8 (4, T + 1, 2), row and column at the beginning
        and after every step; k_reward float16 (4, T), of every step: where it is positive, the agent was on the goal
        and the next position is the one it was moved to; k_goal int8 (4, 2).
        """
        episodes = self.episodes("test", generator, EXAMPLES)
        shown: dict[str, Any] = {"walls": tables(self.experiment.size).walls}
        for name, agent in (("early", untrained), ("late", network)):
            course = self.explore(agent, episodes)
            shown[f"{name}_path"] = _positions(course.cells.T, shown["walls"])
            shown[f"{name}_reward"] = course.rewards.T.astype(np.float16)
            shown[f"{name}_goal"] = _positions(episodes.goal, shown["walls"])
        return shown

    def explore(self, network: nn.Module, episodes: Episodes) -> Course:
        """Let the agent act for the episodes, without learning."""
        way = compiled if self._compiled(network) else plain
        with torch.no_grad():
            _, course = way.step(self.experiment, self.settings.inputs, network, episodes)
        return course

    @staticmethod
    def _compiled(network: nn.Module) -> bool:
        return network.weight.device.type == "cpu" and network.weight.dtype == torch.float32


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy((low + (high - low) * generator.random(shape)).astype(np.float32)))


def _linear(inputs: int, outputs: int, bound: float, generator: np.random.Generator) -> nn.Linear:
    """A layer whose weights and biases are uniform within `bound`."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    layer.weight = _uniform(generator, (outputs, inputs), -bound, bound)
    layer.bias = _uniform(generator, (outputs,), -bound, bound)
    return layer


def _positions(cells: np.ndarray, walls: np.ndarray) -> np.ndarray:
    """Rows and columns of indices into the flattened walls, in a last axis of two."""
    return np.stack(np.unravel_index(cells, walls.shape), axis=-1).astype(np.int8)


TASK = Maze
"""The task maze: the maze."""
