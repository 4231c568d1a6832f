"""The maze's episodes and loss in plain words: the specification that `compiled` equals, and what runs on GPUs."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffplast.core.task import Strict
from diffplast.tasks.maze.experiment.course import Course, Episodes
from diffplast.tasks.maze.experiment.env import MOVES, MazeEnv


def step(
    experiment: Strict, inputs: list[str], agent: nn.Module, episodes: Episodes, backend: str = "auto"
) -> tuple[Tensor, Course]:
    """Let the agent act, and compute the loss of advantage actor-critic from what happened.

    experiment: `task.Experiment`. inputs: what the agent is given. agent: `task.Agent`, on any device. backend: of its
    recurrence, see `plastic_rnn`.
    """
    e, device = experiment, agent.weight.device
    batch = len(episodes.goal)
    mazes = MazeEnv(batch, e.size, e.steps, e.goal_reward, e.bump_reward, inputs)
    observation, _ = mazes.reset(options={"goal": episodes.goal, "moved_to": episodes.moved_to})
    neurons = agent.start(batch, backend)
    observations, cells, actions, rewards = [], [mazes.cell], [], []
    with torch.no_grad():
        for chance in episodes.chance:
            observations.append(torch.from_numpy(observation).to(agent.weight))
            x = neurons.step(agent.sense(observations[-1]))
            shares = F.softmax(agent.act(x)[:, :-1], dim=-1).cumsum(dim=-1)[:, :-1]  # the last action has the rest
            actions.append((shares.cpu().numpy() <= chance[:, None]).sum(axis=1))
            observation, reward, _, _, _ = mazes.step(actions[-1])
            rewards.append(reward)
            cells.append(mazes.cell)
    course = Course(np.stack(actions), np.stack(rewards), np.stack(cells))

    outputs, _ = neurons.outputs(agent.sense(torch.stack(observations)))
    logits, value = agent.act(outputs).split((len(MOVES), 1), dim=-1)
    log_probabilities = F.log_softmax(logits, dim=-1)
    advantage = discounted(torch.from_numpy(course.rewards).to(logits), e.discount) - value[..., 0]
    chosen = log_probabilities.gather(-1, torch.from_numpy(course.actions).to(device)[..., None])[..., 0]
    loss = (
        -chosen * advantage.detach()
        + e.value_weight * advantage.square()
        + e.concentration_penalty * log_probabilities.exp().square().sum(dim=-1)
    )
    return loss.mean(), course


def discounted(rewards: Tensor, discount: float) -> Tensor:
    """Sum of each step's reward and all later ones, discounted by their distance: rewards (T, B) -> (T, B)."""
    steps = torch.arange(len(rewards), device=rewards.device)
    later = (steps - steps[:, None]).clamp(min=0)
    return torch.triu(discount ** later.to(rewards.dtype)) @ rewards
