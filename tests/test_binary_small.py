"""The small binary task: its LSTM against a version written from the description of it, times of the arms."""

import math

import numpy as np
import pytest
import torch

from diffplast.tasks.binary_small.experiment.lstm import LSTMNetwork, compiled_lstm, lstm_by_steps


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def described(inputs, held, bits):
    """The last hidden state of the LSTM of the published program, number by number: inputs (T, bits) of one episode.

    held: numpy arrays of torch's layout, weight_ih (4 H, bits), weight_hh (4 H, H), bias_ih and bias_hh (4 H), gates
    in the order input, forget, cell, output. They are set first, as before every forward pass.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = (value.copy() for value in held)
    units = weight_hh.shape[1]
    for unit in range(bits):
        for bit in range(bits):
            weight_ih[2 * units + unit, bit] = 10 if bit == unit else 0
        for gate, value in enumerate((10, -1000, 0, 10)):
            bias_ih[gate * units + unit] = value
    bias_hh[:] = 0
    hidden, cell = [0.0] * units, [0.0] * units
    for given in inputs:
        sums = []
        for row in range(4 * units):
            total = bias_ih[row] + bias_hh[row]
            for bit in range(bits):
                total += weight_ih[row, bit] * 100 * given[bit]
            for unit in range(units):
                total += weight_hh[row, unit] * hidden[unit]
            sums.append(total)
        for unit in range(units):
            enter, keep = sigmoid(sums[unit]), sigmoid(sums[units + unit])
            value, leave = math.tanh(sums[2 * units + unit]), sigmoid(sums[3 * units + unit])
            cell[unit] = keep * cell[unit] + enter * value
            hidden[unit] = leave * math.tanh(cell[unit])
    return np.array(hidden[:bits])


BITS, UNITS, STEPS = 3, 5, 6


def small_lstm(dtype=torch.float64):
    """A network with small input weights, so that few gates are saturated, and the inputs of an episode."""
    network = LSTMNetwork(BITS, UNITS, np.random.default_rng(0)).to(dtype)
    with torch.no_grad():
        network.input_weight.mul_(0.02)
        network.recurrent_weight.mul_(2)
    shown = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], (STEPS, 2, BITS), p=[0.3, 0.4, 0.3])
    shown[-2:, :, 0] = 0  # a bit that is restored
    inputs = torch.cat([torch.from_numpy(shown), torch.ones(STEPS, 2, 1)], dim=2).to(dtype)
    return network, inputs


def in_torchs_layout(network):
    """Arrays as `described` takes them; the second bias is what the program would find there."""
    weight_ih, weight_hh, bias = (
        p.detach().double().numpy().T for p in (network.input_weight, network.recurrent_weight, network.bias)
    )
    return [weight_ih, weight_hh, bias, np.full(4 * UNITS, 0.3)]


def restored_by_description(network, inputs, held):
    shown = inputs[..., :-1].double().numpy()
    return np.stack([described(shown[:, b], held, BITS) for b in range(2)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_lstm_is_the_one_described(dtype):
    network, inputs = small_lstm(dtype)
    expected = restored_by_description(network, inputs, in_torchs_layout(network))
    restored = network.restore(inputs, inputs != 0)
    assert 0.01 < abs(expected[:, 0]).max() < 0.7, "the bit not shown is made of what was"
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(restored.detach().double().numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradient_of_the_lstm_is_that_of_the_description(dtype):
    """By differences of the description, number by number; what is set before every pass has none."""
    network, inputs = small_lstm(dtype)
    weights = np.random.default_rng(2).standard_normal((2, BITS))
    (network.restore(inputs, inputs != 0) * torch.from_numpy(weights)).sum().backward()
    held = in_torchs_layout(network)
    found = [network.input_weight.grad.T, network.recurrent_weight.grad.T, network.bias.grad]
    step = 1e-5
    for array, gradient in zip(held, found, strict=False):
        expected = np.empty(array.shape)
        for place in np.ndindex(array.shape):
            losses = []
            for sign in (1, -1):
                moved = [other.copy() if other is array else other for other in held]
                next(m for m, o in zip(moved, held, strict=True) if o is array)[place] += sign * step
                losses.append((restored_by_description(network, inputs, moved) * weights).sum())
            expected[place] = (losses[0] - losses[1]) / (2 * step)
        scale = max(1.0, abs(expected).max())
        np.testing.assert_allclose(
            gradient.double().numpy(), expected, rtol=0, atol=scale * (1e-7 if dtype == torch.float64 else 3e-5)
        )
        assert abs(expected).max() > 1e-3


@pytest.mark.parametrize("batch, units", [(1, 40), (3, 17), (70, 33)])
def test_compiled_lstm_is_the_loop_of_torch(batch, units):
    rng = np.random.default_rng(3)
    inputs, *weights = (
        torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        for shape in ((7, batch, 10), (10, 4 * units), (units, 4 * units), (4 * units,))
    )
    weights = [(0.3 * weight).requires_grad_() for weight in weights]
    cotangent = torch.from_numpy(rng.standard_normal((batch, units)).astype(np.float32))
    for a, b in zip(
        (compiled := compiled_lstm(inputs, *weights), *torch.autograd.grad(compiled, weights, cotangent)),
        (loop := lstm_by_steps(inputs.double(), *(w.double() for w in weights)),
         *torch.autograd.grad(loop, weights, cotangent.double())),
        strict=True,
    ):  # fmt: skip
        assert (a - b).abs().max() <= 2e-6 * (1 + b.abs().max())


def test_arms_have_their_times(make_task):
    """plastic_long is shown the large task's times; the other networks those of the program's command."""
    lengths = {}
    for arm in ("plastic", "plastic_long", "nonplastic", "lstm"):
        task = make_task("binary_small", arm)
        lengths[arm] = len(task.episodes("train", np.random.default_rng(0), 1).inputs)
    assert lengths == {"plastic": 11, "plastic_long": 84, "nonplastic": 11, "lstm": 11}


def test_lstm_needs_a_unit_for_each_bit():
    with pytest.raises(ValueError, match="lstm_hidden"):
        LSTMNetwork(10, 9, np.random.default_rng(0))
