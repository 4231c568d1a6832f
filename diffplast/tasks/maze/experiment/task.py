"""Maze: an agent finds an invisible reward in a maze again and again; advantage actor-critic."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from diffplast.core.task import Metric, Positive, PositiveFloat, Step, Strict, Task
from diffplast.plasticity import PlasticRollout
from diffplast.tasks.maze.experiment.env import MOVES, MazeEnv

Real = Annotated[float, Field(allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]

EXAMPLES = 4


class Experiment(Strict):
    """The paper's maze.

    size: of the maze in cells, the walls around it counted. steps: of an episode. goal_reward: for reaching the goal.
    bump_reward: for moving into a wall. neurons: recurrent ones. init: upper end of the initial weights and
    coefficients. eta: initial learning rate of the trace. discount: of a reward, per step. value_weight: of the
    squared error of the value in the loss. concentration_penalty: weight of the sum of the squared probabilities of
    the actions, which keeps the agent from settling too early.
    """

    size: Annotated[int, Field(ge=3)]
    steps: Positive
    goal_reward: Real
    bump_reward: Real
    neurons: Positive
    inputs: list[str]
    init: PositiveFloat
    eta: PositiveFloat
    discount: Annotated[float, Field(ge=0, le=1)]
    value_weight: Weight
    concentration_penalty: Weight


@dataclass
class Episodes:
    """The randomness of a batch of episodes.

    seed: of the mazes. noise (T, B, actions), float32: the action with the largest sum of logit and Gumbel noise is
    taken, which is a sample of the softmax of the logits.
    """

    seed: int
    noise: np.ndarray


@dataclass
class Course:
    """What happened in a batch of episodes. The state before the first step is row 0 of `cells`.

    observations (T, B, 15), actions (T, B), rewards (T, B): what the agent saw, did and got for it. cells (T + 1, B):
    where it was, and goal (B,): where it had to go, as indices into the flattened `walls`.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    cells: np.ndarray
    goal: np.ndarray
    walls: np.ndarray


class Agent(nn.Module):
    """Observation -> plastic recurrent neurons -> logits of the actions and the value of the state.

    The bias of `sense` is the constant input of the paper's network. `act` has a row for each action and, last, one
    for the value. plasticity: "plastic", "homogeneous" or "nonplastic".
    """

    def __init__(self, inputs: int, neurons: int, actions: int, plasticity: str, init: float, eta: float):
        super().__init__()
        self.sense = nn.Linear(inputs, neurons)
        self.weight = nn.Parameter(init * torch.rand(neurons, neurons))
        self.alpha = self.eta = None
        if plasticity != "nonplastic":
            shape = (neurons, neurons) if plasticity == "plastic" else ()
            self.alpha = nn.Parameter(init * torch.rand(shape))
            self.eta = nn.Parameter(torch.tensor(float(eta)))
        self.act = nn.Linear(neurons, actions + 1)

    def start(self, batch: int) -> PlasticRollout:
        """The recurrent neurons at the beginning of a batch of episodes."""
        eta = self.weight.new_zeros(()) if self.eta is None else self.eta
        return PlasticRollout(self.weight, self.alpha, eta, batch, rule="oja")


class Maze(Task[Experiment]):
    """Maze exploration."""

    title = "Maze exploration"
    arms = {"plastic": "plastic", "homogeneous": "homogeneous α", "nonplastic": "non-plastic"}
    metrics = {"reward": Metric("reward of an episode", higher_is_better=True)}
    Experiment = Experiment

    def network(self) -> nn.Module:
        """A new agent."""
        e = self.experiment
        inputs = self._mazes(1).single_observation_space.shape[0]
        return Agent(inputs, e.neurons, len(MOVES), self.arm, e.init, e.eta).to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> Episodes:
        """Mazes are random, so training and test differ by the generator alone."""
        seed = int(generator.integers(2**63))
        noise = generator.gumbel(size=(self.experiment.steps, batch, len(MOVES)))
        return Episodes(seed, noise.astype(np.float32))

    def step(self, network: nn.Module, episodes: Episodes) -> Step:
        """Let the agent act, then learn from what happened; the forward pass is computed once.

        The loss is summed over the steps of an episode (as the paper's) and averaged over episodes.
        """
        e = self.experiment
        neurons = network.start(episodes.noise.shape[1])
        course = self.explore(network, neurons, episodes)
        observations, actions, rewards = (
            torch.from_numpy(array).to(self.device) for array in (course.observations, course.actions, course.rewards)
        )
        outputs, _ = neurons.outputs(network.sense(observations))
        logits, value = network.act(outputs).split((len(MOVES), 1), dim=-1)
        log_probabilities = F.log_softmax(logits, dim=-1)
        advantage = discounted(rewards, e.discount) - value[..., 0]
        chosen = log_probabilities.gather(-1, actions[..., None])[..., 0]
        loss = (
            -chosen * advantage.detach()
            + e.value_weight * advantage.square()
            + e.concentration_penalty * log_probabilities.exp().square().sum(dim=-1)
        )
        return Step(loss.sum(dim=0).mean(), {"reward": rewards.sum(dim=0)})

    @torch.no_grad()
    def explore(self, network: Agent, neurons: PlasticRollout, episodes: Episodes) -> Course:
        """Let the agent, with its neurons at their start, act for the episodes."""
        steps, batch, _ = episodes.noise.shape
        mazes = self._mazes(batch)
        observation, _ = mazes.reset(seed=episodes.seed)
        course = Course(
            observations=np.empty((steps, *observation.shape), dtype=np.float32),
            actions=np.empty((steps, batch), dtype=np.int64),
            rewards=np.empty((steps, batch), dtype=np.float32),
            cells=np.empty((steps + 1, batch), dtype=np.int64),
            goal=mazes.goal,
            walls=mazes.walls,
        )
        course.cells[0] = mazes.cell
        # Small products in numpy: torch wakes its threads for each, which takes ten times as long.
        sense, sense_bias = _matrix(network.sense)
        act, act_bias = _matrix(network.act)
        for t in range(steps):
            course.observations[t] = observation
            inputs = torch.from_numpy(observation @ sense + sense_bias).to(self.device)
            logits = (neurons.step(inputs).cpu().numpy() @ act + act_bias)[:, :-1]
            actions = (logits + episodes.noise[t]).argmax(axis=1)
            observation, course.rewards[t], _, _, _ = mazes.step(actions)
            course.actions[t] = actions
            course.cells[t + 1] = mazes.cell
        return course

    def examples(self, network, untrained, generator):
        """Where the untrained (early) and the trained (late) agent go in the same four held-out mazes.

        walls bool (rows, columns). For k in early, late: k_path int8 (4, T + 1, 2), row and column at the beginning
        and after every step; k_reward float16 (4, T), of every step: where it is the goal's, the next position is
        the one the agent was moved to; k_goal int8 (4, 2).
        """
        episodes = self.episodes("test", generator, EXAMPLES)
        shown = {}
        for name, agent in (("early", untrained), ("late", network)):
            course = self.explore(agent, agent.start(EXAMPLES), episodes)
            shown["walls"] = course.walls
            shown[f"{name}_path"] = _positions(course.cells.T, course.walls)
            shown[f"{name}_reward"] = course.rewards.T.astype(np.float16)
            shown[f"{name}_goal"] = _positions(course.goal, course.walls)
        return shown

    def _mazes(self, batch: int) -> MazeEnv:
        e = self.experiment
        return MazeEnv(batch, e.size, e.steps, e.goal_reward, e.bump_reward)


def _matrix(layer: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    """Weights (inputs, outputs) and bias of a layer, in numpy."""
    return np.ascontiguousarray(layer.weight.detach().cpu().numpy().T), layer.bias.detach().cpu().numpy()


def discounted(rewards: Tensor, discount: float) -> Tensor:
    """Sum of each step's reward and all later ones, discounted by their distance: rewards (T, B) -> (T, B)."""
    steps = torch.arange(len(rewards), device=rewards.device)
    later = (steps - steps[:, None]).clamp(min=0)
    return torch.triu(discount**later.to(rewards.dtype)) @ rewards


def _positions(cells: np.ndarray, walls: np.ndarray) -> np.ndarray:
    """Rows and columns of indices into the flattened walls, in a last axis of two."""
    return np.stack(np.unravel_index(cells, walls.shape), axis=-1).astype(np.int8)


TASK = Maze
