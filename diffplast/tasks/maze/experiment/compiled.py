"""The maze's episodes, loss and gradient in compiled code: no Python between the steps. `plain` says what it computes.

Every sum has one order and every operation is plain IEEE arithmetic, so that the bits depend neither on the number of
threads nor on the processor. An episode stays in one thread.

**The loss and its gradient.** Of one step let z be the logits, p = softmax(z), a the action taken, v the value, R the
discounted sum of rewards from here on and A = R - v. The step's loss is

    - log(p_a) [A] + w A^2 + c sum_k p_k^2,      [A] held constant,

and since dp_j/dz_k = p_j (1[j=k] - p_k),

    d/dz_k = [A] (p_k - 1[k=a]) + 2 c p_k (p_k - sum_j p_j^2),      d/dv = - 2 w A.

These five numbers of each step, divided by steps and episodes, are its `slopes`. With s their row, x the neurons and
delta the gradient by the recurrence's inputs (from its own backward pass, given s act for x),

    grad act = sum s^T x,   grad sense = sum delta^T observation,   and the biases' are the sums of s and delta.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from diffplast.core.task import Strict
from diffplast.plasticity import forward
from diffplast.plasticity.fused import FusedRecording
from diffplast.plasticity.jit import kernel, part
from diffplast.plasticity.simd import LANES, exp32, fma, fma_rows, load, log32, spread, store, store_totals, tanh, zeros
from diffplast.plasticity.threads import run_team
from diffplast.tasks.maze.experiment.course import Course, Episodes
from diffplast.tasks.maze.experiment.env import INPUTS, MOVES, columns, tables

ACTIONS = len(MOVES)
VIEW = INPUTS["view"]


class Rules(NamedTuple):
    """The maze and the loss.

    following, views and centre: as in `env.Tables`. places: the first column of each of INPUTS, or -1.
    """

    following: np.ndarray
    views: np.ndarray
    centre: int
    places: tuple[int, ...]
    goal_reward: np.float32
    bump_reward: np.float32
    discount: np.float32
    value_weight: np.float32
    concentration_penalty: np.float32


class Layers(NamedTuple):
    """Parameters of the agent's layers: sense (N, inputs) and its bias (N,), act (5, N) and its bias (5,)."""

    sense: np.ndarray
    sense_bias: np.ndarray
    act: np.ndarray
    act_bias: np.ndarray


# Of a network without plasticity.
_NO_CLAMPS, _NO_TRACE, _NO_MATRIX = np.empty((0, 0, 0), np.uint8), *(np.empty((0,) * d, np.float32) for d in (3, 2))


class Notes(NamedTuple):
    """What the backward pass needs. observations (T, B, inputs); slopes (T, B, 5), see the module; losses (B,)."""

    observations: np.ndarray
    slopes: np.ndarray
    losses: np.ndarray


@part
def _packed(matrix, rows, width):
    """A matrix of float32 with zeros added, as many rows and columns as said."""
    packed = np.zeros((rows, width), np.float32)
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            packed[i, j] = matrix[i, j]
    return packed


@part
def _observe(observation, rules, cell, reward, action, t, steps):
    """Fill an observation (inputs,) at step t, before which came `action` (-1: none) and `reward`."""
    view, last, step, time, one_hot = rules.places
    if view >= 0:
        for k in range(VIEW):
            observation[view + k] = rules.views[cell, k]
    if last >= 0:
        observation[last] = reward
    if step >= 0:
        observation[step] = t
    if time >= 0:
        observation[time] = t / steps
    if one_hot >= 0:
        for k in range(ACTIONS):
            observation[one_hot + k] = k == action


@part
def _sense(observation, sense, bias, states, at):
    """states[at :] <- bias + observation sense^T; sense is (inputs, width) here."""
    inputs, width = sense.shape
    for j in range(0, width, LANES):
        total = load(bias, j, width, 1, 1)
        for k in range(inputs):
            total = fma(spread(observation, k, 1), load(sense, k * width + j, width, 1, 1), total)
        store(states, at + j, width, total)


@part
def _act(states, at, act, bias, outputs):
    """outputs (8,) <- states[at :] act^T + bias; act is (8, width) here."""
    width = act.shape[1]
    totals = zeros(states, 8, 1)
    for j in range(0, width, LANES):
        totals = fma(load(states, at + j, width, 1, 1), load(act, j, width, 8, 1), totals)
    store_totals(outputs, 0, totals)
    for k in range(ACTIONS + 1):
        outputs[k] += bias[k]


@part
def _choose(outputs, policy, chance):
    """policy (4,) <- softmax of the logits; returns the action taken and the logarithm of its probability."""
    highest = outputs[0]
    for k in range(1, ACTIONS):
        highest = max(highest, outputs[k])
    total = np.float32(0)
    for k in range(ACTIONS):
        policy[k] = exp32(outputs[k] - highest)
        total += policy[k]
    action, below = -1, np.float32(0)
    for k in range(ACTIONS):
        policy[k] /= total
        below += policy[k]
        if action < 0 and (chance < below or k == ACTIONS - 1):
            action = k
    return action, outputs[action] - highest - log32(total)


@part
def _slopes(rules, course, slopes, b, log_chosen):
    """Turn the policy and value in `slopes` of episode b into slopes; returns the episode's loss."""
    steps, batch = course.rewards.shape
    scale = np.float32(1) / np.float32(steps * batch)
    two, later, loss = np.float32(2), np.float32(0), 0.0
    for t in range(steps - 1, -1, -1):
        later = course.rewards[t, b] + rules.discount * later
        slope = slopes[t, b]
        advantage = later - slope[ACTIONS]
        concentration = np.float32(0)
        for k in range(ACTIONS):
            concentration += slope[k] * slope[k]
        loss += (
            -log_chosen[t] * advantage
            + rules.value_weight * advantage * advantage
            + rules.concentration_penalty * concentration
        )
        for k in range(ACTIONS):
            p = slope[k]
            taken = np.float32(1) if k == course.actions[t, b] else np.float32(0)
            penalty = two * rules.concentration_penalty * p * (p - concentration)
            slope[k] = (advantage * (p - taken) + penalty) * scale
        slope[ACTIONS] = -two * rules.value_weight * advantage * scale
    return loss / steps


@part
def _advance(neurons, t, b):
    """states[t + 1, b], which holds the input of step t, becomes its output."""
    if neurons.alpha.shape[0] > 0:
        forward.forward_step(neurons, b, t)
        return
    states, weight = neurons.states, neurons.weight
    batch, width = states.shape[1:]
    before, after = (t * batch + b) * width, ((t + 1) * batch + b) * width
    for i in range(0, width, 8):
        x = spread(states, before + i, 8)
        for j in range(0, width, LANES):
            total = load(states, after + j, width, 1, 1)
            store(states, after + j, width, fma_rows(x, load(weight, i * width + j, width, 8, 1), total))
    for j in range(0, width, LANES):
        store(states, after + j, width, tanh(load(states, after + j, width, 1, 1)))


@kernel
def play(first, stride, rules, layers, neurons, episodes, course, notes):
    """Let the agent act in episodes first, first + stride, ...; fill `course` and `notes`."""
    steps, batch = episodes.chance.shape
    states = neurons.states
    width = states.shape[2]
    sense, act = _packed(layers.sense.T, layers.sense.shape[1], width), _packed(layers.act, 8, width)
    bias = _packed(layers.sense_bias.reshape(1, -1), 1, width)
    outputs, log_chosen = np.empty(8, np.float32), np.empty(steps, np.float32)
    for b in range(first, batch, stride):
        cell, reward, action = rules.centre, np.float32(0), -1
        course.cells[0, b] = cell
        for t in range(steps):
            observation = notes.observations[t, b]
            _observe(observation, rules, cell, reward, action, t, steps)
            at = ((t + 1) * batch + b) * width
            _sense(observation, sense, bias, states, at)
            _advance(neurons, t, b)
            _act(states, at, act, layers.act_bias, outputs)
            action, log_chosen[t] = _choose(outputs, notes.slopes[t, b], episodes.chance[t, b])
            notes.slopes[t, b, ACTIONS] = outputs[ACTIONS]

            there = rules.following[cell, action]
            reward = rules.bump_reward if there == cell else np.float32(0)
            if there == episodes.goal[b]:
                reward += rules.goal_reward
                there = episodes.moved_to[t, b]
            cell = there
            course.actions[t, b], course.rewards[t, b], course.cells[t + 1, b] = action, reward, cell
        notes.losses[b] = _slopes(rules, course, notes.slopes, b, log_chosen)


@kernel
def output_gradients(slopes, act, states, grad_states):
    """grad_states (T + 1, B, width) <- slopes act, a step later; zeros before the first step."""
    steps, batch, outputs = slopes.shape
    width = states.shape[2]
    act = _packed(act, outputs, width)
    for at in range(0, batch * width, LANES):
        store(grad_states, at, width, zeros(act, 1, 1))
    for at in range(steps * batch):
        for j in range(0, width, LANES):
            total = fma_rows(spread(slopes, at * outputs, 5), load(act, j, width, 5, 1), zeros(act, 1, 1))
            store(grad_states, (batch + at) * width + j, width, total)


@kernel
def dense_backward(first, stride, states, weight, grad_states):
    """Turn cotangents of the states (T + 1, B, width) into gradients of inputs, a step later, for some episodes.

    No plasticity: delta(t) = grad(t) (1 - x(t)^2), which also is the input's gradient, and grad(t - 1) += W delta(t).
    """
    batch, width = states.shape[1:]
    back = np.empty(width, np.float32)
    for b in range(first, batch, stride):
        for t in range(states.shape[0] - 1, 0, -1):
            at = (t * batch + b) * width
            for j in range(0, width, LANES):
                x = load(states, at + j, width, 1, 1)
                grad = load(grad_states, at + j, width, 1, 1)
                store(grad_states, at + j, width, grad - grad * (x * x))
            for i in range(0, width, 8):
                totals = zeros(weight, 8, 1)
                for j in range(0, width, LANES):
                    delta = load(grad_states, at + j, width, 1, 1)
                    totals = fma(delta, load(weight, i * width + j, width, 8, 1), totals)
                store_totals(back, i, totals)
            at -= batch * width
            for j in range(0, width, LANES):
                total = load(grad_states, at + j, width, 1, 1) + load(back, j, width, 1, 1)
                store(grad_states, at + j, width, total)


@kernel
def weight_gradient(low, high, states, grad_states, found):
    """Rows low to high, multiples of 8, of found (N, N) <- sum over steps and episodes of x(t-1)^T delta(t)."""
    length, batch, width = states.shape
    ends = (length - 1) * batch * width
    rows = np.empty((8, width), np.float32)
    for i in range(low, high, 8):
        for j in range(0, width - LANES, 2 * LANES):
            totals = zeros(rows, 8, 2)
            for at in range(0, ends, width):
                delta = load(grad_states, at + batch * width + j, width, 1, 2)
                totals = fma(spread(states, at + i, 8), delta, totals)
            store(rows, j, width, totals)
        if width % (2 * LANES) > 0:
            j, totals = width - LANES, zeros(rows, 8, 1)
            for at in range(0, ends, width):
                delta = load(grad_states, at + batch * width + j, width, 1, 1)
                totals = fma(spread(states, at + i, 8), delta, totals)
            store(rows, j, width, totals)
        for row in range(min(8, found.shape[0] - i)):
            for j in range(found.shape[1]):
                found[i + row, j] = rows[row, j]


@kernel
def layer_gradients(observations, slopes, states, grad_states, found):
    """Fill `found`, Layers, with the gradients of the layers; grad_states are the inputs', a step later."""
    steps, batch, inputs = observations.shape
    width, neurons, outputs = states.shape[2], found.sense.shape[0], slopes.shape[2]
    sense = np.empty((inputs + 1, LANES), np.float32)
    act = np.empty((outputs, LANES), np.float32)
    for j in range(0, width, LANES):
        for k in range(inputs):
            store(sense, k * LANES, LANES, zeros(act, 1, 1))
        totals, bias = zeros(act, 5, 1), zeros(act, 1, 1)
        for at in range(steps * batch):
            later = (at + batch) * width + j
            totals = fma(spread(slopes, at * outputs, 5), load(states, later, width, 1, 1), totals)
            delta = load(grad_states, later, width, 1, 1)
            bias = bias + delta
            for k in range(inputs):
                total = fma(spread(observations, at * inputs + k, 1), delta, load(sense, k * LANES, LANES, 1, 1))
                store(sense, k * LANES, LANES, total)
        store(act, 0, LANES, totals)
        store(sense, inputs * LANES, LANES, bias)
        for lane in range(min(LANES, neurons - j)):
            found.sense_bias[j + lane] = sense[inputs, lane]
            for k in range(inputs):
                found.sense[j + lane, k] = sense[k, lane]
            for k in range(outputs):
                found.act[k, j + lane] = act[k, lane]
    for k in range(outputs):
        total = np.float32(0)
        for at in range(steps * batch):
            total += slopes[at // batch, at % batch, k]
        found.act_bias[k] = total


def step(experiment: Strict, agent: nn.Module, episodes: Episodes) -> tuple[Tensor, Course]:
    """What `plain.step` returns; the loss is differentiable once, by the agent's parameters. CPU, float32."""
    run = _Run(experiment, agent, episodes)
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


@lru_cache
def _rules(size: int, inputs: tuple[str, ...], goal_reward: float, bump_reward: float, *loss: float) -> Rules:
    maze, where = tables(size), columns(inputs)
    places = tuple(where[name].start if name in where else -1 for name in INPUTS)
    return Rules(maze.following, maze.views, maze.centre, places, *map(np.float32, (goal_reward, bump_reward, *loss)))


class _Run:
    """A batch of episodes that the agent has gone through: its course, its loss, and the loss's gradients."""

    def __init__(self, e: Strict, agent: nn.Module, episodes: Episodes):
        steps, batch = episodes.chance.shape
        rules = _rules(
            e.size, tuple(e.inputs), e.goal_reward, e.bump_reward, e.discount, e.value_weight, e.concentration_penalty
        )
        self.layers = Layers(*_arrays(agent.sense.weight, agent.sense.bias, agent.act.weight, agent.act.bias))
        self.shared = agent.alpha is not None and agent.alpha.ndim == 0
        self.recording = None
        n = e.neurons
        if agent.alpha is None:
            width = -(-n // LANES) * LANES
            weight = np.zeros((width, width), np.float32)
            weight[:n, :n] = agent.weight.detach().numpy()
            states = np.zeros((steps + 1, batch, width), np.float32)
            self.neurons = forward.Episodes(states, _NO_CLAMPS, _NO_TRACE, _NO_MATRIX, weight, _NO_MATRIX, 0.0, True)
        else:
            alpha = agent.alpha.expand_as(agent.weight)
            self.recording = FusedRecording(steps, agent.weight, alpha, agent.eta, "oja", torch.zeros(batch, n), None)
            self.neurons = self.recording.episodes
        self.n = n
        self.course = Course(
            np.empty((steps, batch), np.int64), np.empty((steps, batch), np.float32),
            np.empty((steps + 1, batch), np.int64),
        )  # fmt: skip
        self.notes = Notes(
            np.empty((steps, batch, self.layers.sense.shape[1]), np.float32),
            np.empty((steps, batch, ACTIONS + 1), np.float32),
            np.empty(batch),
        )
        self.threads = min(batch, torch.get_num_threads())

        def member(rank):
            play(rank, self.threads, rules, self.layers, self.neurons, episodes, self.course, self.notes)

        run_team(self.threads, member)
        self.loss = sum(self.notes.losses.tolist()) / batch

    def gradients(self, cotangent: float) -> tuple[Tensor | None, ...]:
        """Compute those by sense and its bias, weight, alpha, eta, act and its bias."""
        slopes, states = self.notes.slopes * np.float32(cotangent), self.neurons.states
        grad_states = np.empty_like(states)
        output_gradients(slopes, self.layers.act, states, grad_states)
        n = self.n
        if self.recording is None:
            weight = np.empty((n, n), np.float32)
            threads, blocks = self.threads, states.shape[2] // 8

            def member(rank):
                dense_backward(rank, threads, states, self.neurons.weight, grad_states)

            def weight_member(rank):
                low, high = blocks * rank // threads * 8, blocks * (rank + 1) // threads * 8
                weight_gradient(low, high, states, grad_states, weight)

            run_team(threads, member)
            run_team(threads, weight_member)
            by_weight, alpha, eta = torch.from_numpy(weight), None, None
        else:
            given = torch.from_numpy(grad_states[1:, :, :n])
            inputs, by_weight, alpha, eta, _, _ = self.recording.gradients(given, None, None, False)
            if self.shared:
                alpha = alpha.sum()
            grad_states[1:, :, :n] = inputs.numpy()
        found = Layers(*map(np.empty_like, self.layers))
        layer_gradients(self.notes.observations, slopes, states, grad_states, found)
        sense, sense_bias, act, act_bias = map(torch.from_numpy, found)
        return sense, sense_bias, by_weight, alpha, eta, act, act_bias


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]
