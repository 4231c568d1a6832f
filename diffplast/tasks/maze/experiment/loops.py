"""The maze's episodes, loss and gradients in compiled loops: no Python between the steps. `plain` says what they do.

Every sum has one order and every operation is plain IEEE arithmetic, so that the bits depend neither on the number of
threads nor on the processor. An episode stays in one thread. Neurons are padded with zeros to a multiple of LANES,
`width` of them. More than 400 lines: numba sees from a loop's own file whether what it kept on disk is old.

**The loss and its gradient.** Of one step let z be the logits, p = softmax(z), a the action taken, v the value, R the
discounted sum of rewards from here on and A = R - v. The step's loss is

    - log(p_a) [A] + w A^2 + c sum_k p_k^2,      [A] held constant,

and since dp_j/dz_k = p_j (1[j=k] - p_k),

    d/dz_k = [A] (p_k - 1[k=a]) + 2 c p_k (p_k - sum_j p_j^2),      d/dv = - 2 w A.

These five numbers of each step, divided by steps and episodes, are its `slopes`. With s their row, x the neurons and
delta the gradient by the recurrence's inputs (from its own backward pass, given s act for x),

    grad act = sum s^T x,   grad sense = sum delta^T observation,   and the biases' are the sums of s and delta.
"""

from typing import NamedTuple

import numpy as np

from diffplast.plasticity import backward, forward
from diffplast.plasticity.fused import CHECKPOINT_NUMBERS, FAR, NEAR, UNDO_BELOW
from diffplast.plasticity.jit import kernel, part
from diffplast.plasticity.simd import (
    LANES,
    exp32,
    fma,
    fma_rows,
    load,
    log32,
    spread,
    store,
    store_totals,
    tanh,
    zeros,
)
from diffplast.plasticity.strips import to_strips
from diffplast.plasticity.threads import Team
from diffplast.tasks.maze.experiment.env import INPUTS, MOVES

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


class Parameters(NamedTuple):
    """The agent's: sense (N, inputs), weight (N, N), act (5, N), and the layers' biases (N,) and (5,).

    alpha: (N, N), or (1, 1) where it is shared, or (0, 0) for no plasticity.
    """

    sense: np.ndarray
    sense_bias: np.ndarray
    weight: np.ndarray
    alpha: np.ndarray
    eta: float
    act: np.ndarray
    act_bias: np.ndarray


class Record(NamedTuple):
    """What the backward pass needs to know of the episodes.

    states (T + 1, B, width): activities of the recurrent neurons, at first 0. observations (T, B, inputs). slopes
    (T, B, 5): see above. losses (B,): of each episode.
    """

    states: np.ndarray
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
def _in_strips(matrix, n, width):
    """A matrix (n, n), or (1, 1) for one number everywhere, in the order of the recurrence's own loops."""
    whole, found = np.empty((1, n, n), np.float32), np.empty((1, width, width), np.float32)
    for i in range(n):
        for j in range(n):
            whole[0, i, j] = matrix[i, j] if matrix.shape[0] == n else matrix[0, 0]
    to_strips(whole, found)
    return found[0]


@part
def _recurrence(parameters, states, trace):
    """What the recurrence's own loops see of it.

    Without plasticity alpha has no elements, and nor has the trace; the weight then lies row after row.
    """
    batch, width = states.shape[1:]
    n = parameters.weight.shape[0]
    if parameters.alpha.shape[0] > 0:
        weight, alpha = _in_strips(parameters.weight, n, width), _in_strips(parameters.alpha, n, width)
    else:
        weight, alpha = _packed(parameters.weight, width, width), np.empty((0, width), np.float32)
    sums, none_clamped = np.empty((batch, width), np.float32), np.empty((0, 0, 0), np.uint8)
    return forward.Episodes(states, none_clamped, trace, sums, weight, alpha, parameters.eta, True, n)


@part
def _observe(observation, rules, cell, reward, action, t, steps):
    """Fill an observation (inputs,) at step t, before which came `action` (-1: none) and `reward`."""
    view, last, step, time, one_hot, bias = rules.places
    if view >= 0:
        for k in range(VIEW):
            observation[view + k] = rules.views[cell, k]
    if last >= 0:
        observation[last] = reward
    if step >= 0:
        observation[step] = t
    if time >= 0:
        observation[time] = t / steps
    if bias >= 0:
        observation[bias] = 1
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
    """states[t + 1, b], which holds the input of step t, becomes the activity."""
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
def play(first, stride, rules, parameters, episodes, course, record):
    """Let the agent act in episodes first, first + stride, ...; fill `course` and `record`."""
    steps, batch = episodes.chance.shape
    states = record.states
    width = states.shape[2]
    plastic = parameters.alpha.shape[0] > 0
    neurons = _recurrence(parameters, states, np.zeros((batch if plastic else 0, width, width), np.float32))
    sense, act = _packed(parameters.sense.T, parameters.sense.shape[1], width), _packed(parameters.act, 8, width)
    bias = _packed(parameters.sense_bias.reshape(1, -1), 1, width)
    outputs, log_chosen = np.empty(8, np.float32), np.empty(steps, np.float32)
    for b in range(first, batch, stride):
        for j in range(width):
            states[0, b, j] = 0
        cell, reward, action = rules.centre, np.float32(0), -1
        course.cells[0, b] = cell
        for t in range(steps):
            observation = record.observations[t, b]
            _observe(observation, rules, cell, reward, action, t, steps)
            at = ((t + 1) * batch + b) * width
            _sense(observation, sense, bias, states, at)
            _advance(neurons, t, b)
            _act(states, at, act, parameters.act_bias, outputs)
            action, log_chosen[t] = _choose(outputs, record.slopes[t, b], episodes.chance[t, b])
            record.slopes[t, b, ACTIONS] = outputs[ACTIONS]

            there = rules.following[cell, action]
            reward = rules.bump_reward if there == cell else np.float32(0)
            if there == episodes.goal[b]:
                reward += rules.goal_reward
                there = episodes.moved_to[t, b]
            cell = there
            course.actions[t, b], course.rewards[t, b], course.cells[t + 1, b] = action, reward, cell
        record.losses[b] = _slopes(rules, course, record.slopes, b, log_chosen)


@part
def _all_steps(steps, batch):
    """Steps that all have free neurons and an update of their own."""
    return forward.Steps(np.ones((steps, batch), np.uint8), np.ones((steps, batch), np.int64))


@kernel
def go_back(first, stride, parameters, record, slopes, deltas, eta):
    """Find the gradients by the neurons' inputs and by eta in episodes first, first + stride, ...

    slopes: as the record's, times the cotangent of the loss. deltas (T + 1, B, width) receives the gradients by the
    inputs, a step later. eta (B, strips) receives parts of its gradient.
    """
    steps, batch, outputs = slopes.shape
    width = record.states.shape[2]
    act = _packed(parameters.act, outputs, width)
    for b in range(first, batch, stride):
        for j in range(0, width, LANES):
            store(deltas, b * width + j, width, zeros(deltas, 1, 1))
        for at in range(b, steps * batch, batch):
            for j in range(0, width, LANES):
                total = fma_rows(spread(slopes, at * outputs, 5), load(act, j, width, 5, 1), zeros(act, 1, 1))
                store(deltas, (batch + at) * width + j, width, total)
    nothing = np.empty((0, width, width), np.float32)
    neurons = _recurrence(parameters, record.states, nothing)
    if parameters.alpha.shape[0] == 0:
        _dense_back(first, stride, record.states, neurons.weight, deltas)
        return
    near = max(NEAR, steps * width * width // CHECKPOINT_NUMBERS)
    scratch = backward.Scratch(
        np.empty((width, width), np.float32),
        np.empty((2 + steps // near, width, width), np.float32),
        np.empty((2, eta.shape[1], forward.MAX_PENDING + 1, width), np.float32),
        np.empty((forward.MAX_PENDING, 2, width), np.float32),
        np.empty(width, np.float32),
        width < UNDO_BELOW,
        near,
        max(FAR, near),
    )
    by_trace = np.empty((1, width, width), np.float32)
    gradients = backward.Gradients(deltas, by_trace, False, deltas[1:], eta)
    team = Team(first, stride, 1, 0, np.zeros(1, np.int64))
    backward.backward(neurons, _all_steps(steps, batch), nothing, gradients, scratch, team)


@part
def _dense_back(first, stride, states, weight, deltas):
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
                grad = load(deltas, at + j, width, 1, 1)
                store(deltas, at + j, width, grad - grad * (x * x))
            for i in range(0, width, 8):
                totals = zeros(weight, 8, 1)
                for j in range(0, width, LANES):
                    delta = load(deltas, at + j, width, 1, 1)
                    totals = fma(delta, load(weight, i * width + j, width, 8, 1), totals)
                store_totals(back, i, totals)
            at -= batch * width
            for j in range(0, width, LANES):
                total = load(deltas, at + j, width, 1, 1) + load(back, j, width, 1, 1)
                store(deltas, at + j, width, total)


@kernel
def find_matrices(rank, size, parameters, record, deltas, weight, alpha):
    """Set the gradients of weight and alpha (width, width), each element by one of `size` threads.

    A shared alpha's, too, is a matrix here. Without plasticity alpha is not touched.
    """
    steps, batch = deltas.shape[0] - 1, deltas.shape[1]
    width = record.states.shape[2]
    if parameters.alpha.shape[0] == 0:
        _dense_weight(width // 8 * rank // size * 8, width // 8 * (rank + 1) // size * 8, record.states, deltas, weight)
        return
    nothing, team = np.empty((0, width, width), np.float32), Team(0, 1, size, rank, np.zeros(1, np.int64))
    neurons = _recurrence(parameters, record.states, nothing)
    backward.matrix_gradients(neurons, _all_steps(steps, batch), nothing, deltas[1:], weight, alpha, team)


@part
def _dense_weight(low, high, states, deltas, found):
    """Rows low to high, multiples of 8, of found (width, width) <- sum over steps, episodes of x(t-1)^T delta(t)."""
    length, batch, width = states.shape
    ends = (length - 1) * batch * width
    for i in range(low, high, 8):
        for j in range(0, width - LANES, 2 * LANES):
            totals = zeros(found, 8, 2)
            for at in range(0, ends, width):
                totals = fma(spread(states, at + i, 8), load(deltas, at + batch * width + j, width, 1, 2), totals)
            store(found, i * width + j, width, totals)
        if width % (2 * LANES) > 0:
            j, totals = width - LANES, zeros(found, 8, 1)
            for at in range(0, ends, width):
                totals = fma(spread(states, at + i, 8), load(deltas, at + batch * width + j, width, 1, 1), totals)
            store(found, i * width + j, width, totals)


@kernel
def collect(record, slopes, deltas, weight, alpha, eta, found):
    """Fill `found`, Parameters, with gradients: of the layers, and what `find_matrices` and `go_back` gave of others.

    found.eta is an array (1,) here.
    """
    steps, batch, inputs = record.observations.shape
    states, observations = record.states, record.observations
    width, neurons, outputs = states.shape[2], found.sense.shape[0], slopes.shape[2]
    for i in range(neurons):
        for j in range(neurons):
            found.weight[i, j] = weight[i, j]
    if found.alpha.shape[0] > 0:
        shared = found.alpha.shape[0] == 1 and neurons > 1
        if shared:
            found.alpha[0, 0] = backward.sum_of_rows(alpha, neurons)
        for i in range(0 if shared else neurons):
            for j in range(neurons):
                found.alpha[i, j] = alpha[i, j]
        rate = 0.0
        for b in range(batch):
            for strip in range(eta.shape[1]):
                rate += eta[b, strip]
        found.eta[0] = rate
    sense = np.empty((inputs + 1, LANES), np.float32)
    act = np.empty((outputs, LANES), np.float32)
    for j in range(0, width, LANES):
        for k in range(inputs):
            store(sense, k * LANES, LANES, zeros(act, 1, 1))
        totals, bias = zeros(act, 5, 1), zeros(act, 1, 1)
        for at in range(steps * batch):
            later = (at + batch) * width + j
            totals = fma(spread(slopes, at * outputs, 5), load(states, later, width, 1, 1), totals)
            delta = load(deltas, later, width, 1, 1)
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
