"""The plastic recurrence as a loop over time steps: the specification that every faster form must equal."""

import torch
from torch import Tensor


def naive_step(x, trace, inputs, weight, alpha, eta, clamped, rule):
    """One time step; see `naive` for the names. Returns the new state (x, trace)."""
    if alpha is None:
        total = x @ weight
    else:
        total = torch.einsum("bi,bij->bj", x, weight + alpha * trace)
    new_x = torch.tanh(total + inputs)
    if clamped is not None:
        new_x = torch.where(clamped, inputs, new_x)
    if alpha is None:
        return new_x, None
    pre, post = x[:, :, None], new_x[:, None, :]
    if rule == "hebb":
        new_trace = (1 - eta) * trace + eta * pre * post
    else:
        new_trace = trace + eta * post * (pre - post * trace)
    return new_x, new_trace


def naive(inputs, weight, alpha, eta, clamped, rule, state) -> tuple[Tensor, tuple[Tensor, Tensor | None]]:
    """Run all steps with plain autograd. Arguments and results as `diffplast.plasticity.plastic_rnn`."""
    x, trace = state
    outputs = []
    for step, row in enumerate(inputs):
        x, trace = naive_step(x, trace, row, weight, alpha, eta, None if clamped is None else clamped[step], rule)
        outputs.append(x)
    return torch.stack(outputs), (x, trace)
