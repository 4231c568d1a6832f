"""The maze's episodes, loss and gradients on a CPU: `loops` at work, for autograd. `plain` says what it computes."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from diffplast.core.task import Strict
from diffplast.plasticity.forward import strips
from diffplast.plasticity.threads import run_team
from diffplast.tasks.maze.experiment import loops
from diffplast.tasks.maze.experiment.course import Course, Episodes
from diffplast.tasks.maze.experiment.env import INPUTS, columns, tables

OUTPUTS = loops.ACTIONS + 1


def step(experiment: Strict, inputs: list[str], agent: nn.Module, episodes: Episodes) -> tuple[Tensor, Course]:
    """Let the agent act, as `plain.step` does; the loss is differentiable once, by the agent's parameters.

    float32 alone. Episodes are shared among torch's number of threads.
    """
    run = _Run(experiment, inputs, agent, episodes)
    parameters = (
        agent.sense.weight, agent.sense.bias, agent.weight, agent.alpha, agent.eta, agent.act.weight, agent.act.bias,
    )  # fmt: skip
    return _Loss.apply(run, *parameters), run.course


class _Loss(torch.autograd.Function):
    """Attaches the loss of a run to the parameters that it was computed from."""

    @staticmethod
    def forward(ctx, run, *parameters):
        ctx.run = run
        ctx.save_for_backward(*parameters)  # so that autograd notices changes in place
        return torch.tensor(run.loss, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        ctx.saved_tensors  # noqa: B018
        return None, *ctx.run.gradients(cotangent.item())


class _Run:
    """A batch of episodes that the agent has gone through: its course, its loss, and the loss's gradients."""

    def __init__(self, e: Strict, inputs: list[str], agent: nn.Module, episodes: Episodes):
        steps, batch = episodes.chance.shape
        self.parameters = _parameters(agent)
        self.alpha_shape = None if agent.alpha is None else agent.alpha.shape
        self.width = -(-e.neurons // loops.LANES) * loops.LANES
        self.course = Course(
            np.empty((steps, batch), np.int64), np.empty((steps, batch), np.float32),
            np.empty((steps + 1, batch), np.int64),
        )  # fmt: skip
        self.record = loops.Record(
            np.empty((steps + 1, batch, self.width), np.float32),
            np.empty((steps, batch, self.parameters.sense.shape[1]), np.float32),
            np.empty((steps, batch, OUTPUTS), np.float32),
            np.empty(batch),
        )
        rules = _rules(
            e.size, tuple(inputs), e.goal_reward, e.bump_reward, e.discount, e.value_weight, e.concentration_penalty
        )
        self.threads = threads = min(batch, torch.get_num_threads())
        run_team(
            threads, lambda rank: loops.play(rank, threads, rules, self.parameters, episodes, self.course, self.record)
        )
        self.loss = sum(self.record.losses.tolist()) / batch

    def gradients(self, cotangent: float) -> tuple[Tensor | None, ...]:
        """Compute those by the fields of `loops.Parameters`, in their order; None for those that there are not."""
        parameters, record, width, threads = self.parameters, self.record, self.width, self.threads
        batch = len(record.losses)
        slopes = record.slopes * np.float32(cotangent)
        deltas, eta = np.empty_like(record.states), np.empty((batch, strips(width)))
        weight, alpha = np.empty((2, width, width), np.float32)
        run_team(threads, lambda rank: loops.go_back(rank, threads, parameters, record, slopes, deltas, eta))
        run_team(threads, lambda rank: loops.find_matrices(rank, threads, parameters, record, deltas, weight, alpha))
        found = loops.Parameters(*map(np.empty_like, parameters._replace(eta=_ONE)))
        loops.collect(record, slopes, deltas, weight, alpha, eta, found)
        sense, sense_bias, weight, alpha, eta, act, act_bias = map(torch.from_numpy, found)
        plasticity = (None, None) if self.alpha_shape is None else (alpha.reshape(self.alpha_shape), eta.reshape(()))
        return sense, sense_bias, weight, *plasticity, act, act_bias


_ONE, _NONE = np.empty(1, np.float32), torch.empty(0, 0)


def _parameters(agent: nn.Module) -> loops.Parameters:
    alpha, eta = (_NONE, 0.0) if agent.alpha is None else (agent.alpha, agent.eta.item())
    if alpha.ndim == 0:
        alpha = alpha.reshape(1, 1)
    sense, sense_bias, weight, alpha, act, act_bias = (
        tensor.detach().contiguous().numpy()
        for tensor in (agent.sense.weight, agent.sense.bias, agent.weight, alpha, agent.act.weight, agent.act.bias)
    )
    return loops.Parameters(sense, sense_bias, weight, alpha, eta, act, act_bias)


@lru_cache
def _rules(size: int, inputs: tuple[str, ...], goal_reward: float, bump_reward: float, *loss: float) -> loops.Rules:
    maze, where = tables(size), columns(inputs)
    places = tuple(where[name].start if name in where else -1 for name in INPUTS)
    rewards_and_loss = map(np.float32, (goal_reward, bump_reward, *loss))
    return loops.Rules(maze.following, maze.views, maze.centre, places, *rewards_and_loss)
