"""The published program's LSTM: its first hidden units follow a bit each and are its output; it has no readout."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from diffplast.core.exact import uniform
from diffplast.plasticity.jit import kernel
from diffplast.plasticity.products import Share, multiply, product, share_out
from diffplast.plasticity.simd import sigmoid32, tanh
from diffplast.plasticity.threads import barrier

# The program's: inputs are multiplied by INPUT_SCALE; a unit that follows its bit has FOLLOW as weight from it to the
# cell gate, and these biases of its input, forget, cell and output gates.
INPUT_SCALE = 100.0
FOLLOW = 10.0
FOLLOWING_BIASES = 10.0, -1000.0, 0.0, 10.0


class LSTMNetwork(nn.Module):
    """An LSTM whose first units follow their bit while it is shown, and restore it through their recurrent weights.

    Parameters: input_weight (bits, 4 H), recurrent_weight (H, 4 H), bias (4 H), columns for the input, forget, cell and
    output gates in this order, all at first uniform within 1 / sqrt(H), as torch's. In the units that follow, the
    weights from the inputs to the cell gate and all biases are fixed; what they hold as parameters is not used. The
    program sets them again before every forward pass, and the second bias vector of torch's LSTM to 0.
    """

    def __init__(self, bits: int, hidden: int, generator: np.random.Generator):
        super().__init__()
        if hidden < bits:
            raise ValueError(f"lstm_hidden: expected at least one unit for each of the {bits} bits, got {hidden}")
        self.bits, self.hidden = bits, hidden
        draw, bound = uniform(generator), 1 / math.sqrt(hidden)

        def parameter(*shape):
            return nn.Parameter(bound * (2 * draw(*shape) - 1))

        self.input_weight = parameter(bits, 4 * hidden)
        self.recurrent_weight = parameter(hidden, 4 * hidden)
        self.bias = parameter(4 * hidden)

        follows = torch.arange(hidden) < bits
        fixed_weight = torch.zeros(bits, 4, hidden, dtype=torch.bool)
        fixed_weight[:, 2] = follows
        own_bit = torch.zeros(bits, 4, hidden)
        own_bit[:, 2, :bits] = FOLLOW * torch.eye(bits)
        biases = torch.tensor(FOLLOWING_BIASES)[:, None].expand(4, hidden)
        for name, value in (
            ("fixed_weight", fixed_weight.flatten(1)),
            ("own_bit", own_bit.flatten(1)),
            ("fixed_bias", follows.repeat(4)),
            ("following_bias", biases.flatten()),
        ):
            self.register_buffer(name, value, persistent=False)

    def restore(self, inputs: Tensor, clamped: Tensor) -> Tensor:
        """Outputs of all bits in the last step, (B, bits); inputs (T, B, bits + 1), the last of which is not used."""
        input_weight = torch.where(self.fixed_weight, self.own_bit, self.input_weight)
        bias = torch.where(self.fixed_bias, self.following_bias, self.bias)
        lstm = lstm_by_steps
        if inputs.dtype == torch.float32:
            lstm = {"cpu": compiled_lstm, "cuda": cuda_lstm}.get(inputs.device.type, lstm_by_steps)
        return lstm(INPUT_SCALE * inputs[..., :-1], input_weight, self.recurrent_weight, bias)[:, : self.bits]


def lstm_by_steps(inputs: Tensor, input_weight: Tensor, recurrent_weight: Tensor, bias: Tensor) -> Tensor:
    """Run an LSTM from zero state: inputs (T, B, bits) -> hidden state after the last step, (B, H). Any device."""
    hidden = cell = inputs.new_zeros(inputs.shape[1], recurrent_weight.shape[0])
    for given in inputs:
        gates = given @ input_weight + hidden @ recurrent_weight + bias
        enter, keep, value, leave = gates.chunk(4, dim=1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(value)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
    return hidden


def compiled_lstm(inputs: Tensor, input_weight: Tensor, recurrent_weight: Tensor, bias: Tensor) -> Tensor:
    """The same in compiled loops, CPU and float32: the same bits on any processor. No gradient by the inputs."""
    return _LSTM.apply(inputs, input_weight, recurrent_weight, bias)


def cuda_lstm(inputs: Tensor, input_weight: Tensor, recurrent_weight: Tensor, bias: Tensor) -> Tensor:
    """The same on a GPU: two operations a step, and the gradient of the weights as one product at the end."""
    return _CudaLSTM.apply(inputs, input_weight, recurrent_weight, bias)


class _CudaLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, input_weight, recurrent_weight, bias):
        steps, batch, bits = inputs.shape
        units = recurrent_weight.shape[0]
        flat = inputs.reshape(-1, bits)
        gates = torch.addmm(bias, flat, input_weight).view(steps, batch, 4 * units)
        hidden = inputs.new_zeros(steps + 1, batch, units)
        cells, activities = [inputs.new_zeros(batch, units)], []
        for t in range(steps):
            recurrent = hidden[t] @ recurrent_weight if t > 0 else torch.zeros_like(gates[0])
            hidden[t + 1], cell, activity = torch.ops.aten._thnn_fused_lstm_cell(gates[t], recurrent, cells[-1])
            cells.append(cell)
            activities.append(activity)
        ctx.save_for_backward(flat, recurrent_weight, hidden, *cells, *activities)
        return hidden[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        flat, recurrent_weight, hidden, *rest = ctx.saved_tensors
        steps, (batch, units) = len(hidden) - 1, grad.shape
        cells, activities = rest[: steps + 1], rest[steps + 1 :]
        deltas, grad_cell = grad.new_empty(steps, batch, 4 * units), None
        for t in range(steps - 1, -1, -1):
            deltas[t], grad_cell, _ = torch.ops.aten._thnn_fused_lstm_cell_backward_impl(
                grad, grad_cell, cells[t], cells[t + 1], activities[t], False
            )
            if t > 0:
                grad = deltas[t] @ recurrent_weight.T
        later, deltas = deltas[1:].flatten(0, 1), deltas.flatten(0, 1)
        return None, flat.T @ deltas, hidden[1:-1].flatten(0, 1).T @ later, deltas.sum(0)


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, input_weight, recurrent_weight, bias):
        steps, batch, bits = inputs.shape
        units = recurrent_weight.shape[0]
        flat = inputs.contiguous().view(-1, bits)
        gates = bias.detach().expand(steps * batch, -1).clone()  # receives the sums, then the gates' activity
        product(flat.numpy(), input_weight.detach().numpy(), gates.numpy(), add=True)
        gates = gates.view(steps, batch, 4 * units)
        cells, hidden = inputs.new_empty(2, steps, batch, units)
        seen = [x.numpy() for x in (recurrent_weight.detach().contiguous(), gates, cells, hidden)]
        share_out(batch, units, 4 * units, False, lambda team, form: _forward(team, form, *seen))
        ctx.save_for_backward(flat, recurrent_weight, gates, cells, hidden)
        return hidden[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        flat, recurrent_weight, gates, cells, hidden = (x.detach() for x in ctx.saved_tensors)
        batch, units = hidden.shape[1:]
        deltas, grad = torch.empty_like(gates), grad.contiguous().clone()
        seen = [x.numpy() for x in (recurrent_weight.contiguous(), gates, cells, deltas, grad, torch.zeros_like(grad))]
        share_out(batch, 4 * units, units, True, lambda team, form: _backward(team, form, *seen))
        pre, later = hidden[:-1].view(-1, units).numpy(), deltas[1:].view(-1, 4 * units).numpy()
        deltas = deltas.view(-1, 4 * units).numpy()
        ones = np.ones((1, len(deltas)), np.float32)
        return (
            None,
            torch.from_numpy(product(flat.numpy().T, deltas)),
            torch.from_numpy(product(pre.T, later)),
            torch.from_numpy(product(ones, deltas)[0]),
        )


@kernel
def _forward(team, form, recurrent_weight, gates, cells, hidden):
    """Run all steps as a member of a team, from zero state.

    gates (T, B, 4 H): from the inputs and biases, receives the gates' activity. cells, hidden (T, B, H) are set.
    """
    steps, batch, units = hidden.shape
    first, last = units * team.rank // team.size, units * (team.rank + 1) // team.size
    arrived = 0
    for t in range(steps):
        if t > 0:  # before, the hidden state is zero
            multiply(Share(form, team.rank, team.size), hidden[t - 1], False, recurrent_weight, False, gates[t], True)
            arrived = barrier(team, arrived)
        for b in range(batch):
            for j in range(first, last):
                enter, keep = sigmoid32(gates[t, b, j]), sigmoid32(gates[t, b, units + j])
                value, leave = tanh(gates[t, b, 2 * units + j]), sigmoid32(gates[t, b, 3 * units + j])
                gates[t, b, j], gates[t, b, units + j] = enter, keep
                gates[t, b, 2 * units + j], gates[t, b, 3 * units + j] = value, leave
                cell = enter * value
                if t > 0:
                    cell += keep * cells[t - 1, b, j]
                cells[t, b, j] = cell
                hidden[t, b, j] = leave * tanh(cell)
        arrived = barrier(team, arrived)


@kernel
def _backward(team, form, recurrent_weight, gates, cells, deltas, grad, grad_cell):
    """Gradients of all steps, as a member of a team.

    deltas (T, B, 4 H): receives those by the sums before the gates. grad (B, H): by the last hidden state, grad_cell
    (B, H): zeros; both are scratch then.
    """
    steps, batch, units = cells.shape
    first, last = units * team.rank // team.size, units * (team.rank + 1) // team.size
    one, zero = np.float32(1), np.float32(0)
    arrived = 0
    for t in range(steps - 1, -1, -1):
        for b in range(batch):
            for j in range(first, last):
                enter, keep = gates[t, b, j], gates[t, b, units + j]
                value, leave = gates[t, b, 2 * units + j], gates[t, b, 3 * units + j]
                squashed = tanh(cells[t, b, j])
                before = cells[t - 1, b, j] if t > 0 else zero
                by_cell = grad_cell[b, j] + grad[b, j] * leave * (one - squashed * squashed)
                deltas[t, b, j] = by_cell * value * (enter * (one - enter))
                deltas[t, b, units + j] = by_cell * before * (keep * (one - keep))
                deltas[t, b, 2 * units + j] = by_cell * enter * (one - value * value)
                deltas[t, b, 3 * units + j] = grad[b, j] * squashed * (leave * (one - leave))
                grad_cell[b, j] = by_cell * keep
        if t > 0:
            arrived = barrier(team, arrived)
            multiply(Share(form, team.rank, team.size), deltas[t], False, recurrent_weight, True, grad, False)
            arrived = barrier(team, arrived)
