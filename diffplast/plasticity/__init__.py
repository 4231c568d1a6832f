"""The plastic recurrence: one function, several implementations that agree."""

import torch

from .naive import naive, naive_step

__all__ = ["PlasticRollout", "plastic_rnn"]


def _initial_state(state, weight, batch, alpha):
    n = weight.shape[0]
    if state is not None:
        return state
    return weight.new_zeros(batch, n), None if alpha is None else weight.new_zeros(batch, n, n)


def plastic_rnn(inputs, weight, alpha, eta, clamped=None, rule="hebb", state=None, backend="auto"):
    """Run the plastic recurrence over an episode."""
    state = _initial_state(state, weight, inputs.shape[1], alpha)
    return naive(inputs, weight, alpha, eta, clamped, rule, state)


class PlasticRollout:
    """The recurrence one step at a time, for an agent that acts between steps."""

    def __init__(self, weight, alpha, eta, batch, rule="hebb", state=None, backend="auto"):
        self._parameters = weight, alpha, eta
        self._rule = rule
        self._state = _initial_state(state, weight, batch, alpha)
        self._outputs = []

    def step(self, inputs):
        """inputs (B, N) -> x (B, N), detached."""
        x, trace = self._state
        weight, alpha, eta = self._parameters
        self._state = naive_step(x, trace, inputs, weight, alpha, eta, None, self._rule)
        self._outputs.append(self._state[0])
        return self._state[0].detach()

    def outputs(self, inputs):
        """inputs (T, B, N), the same values as given to `step` -> (outputs (T, B, N), (x, trace)), differentiable."""
        return torch.stack(self._outputs), self._state
