"""The public functions: they check what they are given and choose an implementation."""

import torch

from .dense import DenseRecording
from .function import attach
from .fused import FusedRecording
from .naive import naive, naive_step

BACKENDS = ("auto", "naive", "fused", "lowrank")


def _expect(name, tensor, shape, like):
    """Raise ValueError unless the tensor has that shape, and the dtype and device of `like`."""
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if tensor.dtype != like.dtype or tensor.device != like.device:
        raise ValueError(
            f"{name}: expected {like.dtype} on {like.device}, as weight, got {tensor.dtype} on {tensor.device}"
        )


def _checked_parameters(weight, alpha, eta, rule, backend):
    if rule not in ("hebb", "oja"):
        raise ValueError(f'rule: expected "hebb" or "oja", got {rule!r}')
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    if weight.ndim != 2 or weight.shape[0] != weight.shape[1] or not weight.is_floating_point():
        raise ValueError(f"weight: expected a floating-point matrix (N, N), got {weight.dtype} {tuple(weight.shape)}")
    if alpha is not None and alpha.ndim != 0:
        _expect("alpha", alpha, weight.shape, weight)
    if alpha is not None:
        _expect("eta", eta, (), weight)


def _checked_state(state, weight, alpha, batch):
    """The initial state as (x, trace); trace None: zeros, or no plasticity."""
    n = weight.shape[0]
    if state is None:
        return weight.new_zeros(batch, n), None
    x, trace = state
    _expect("state[0]", x, (batch, n), weight)
    if alpha is None:
        return x, None
    if trace is not None:
        _expect("state[1]", trace, (batch, n, n), weight)
    return x, trace


def _choose(backend, weight):
    """The implementation for "auto"; ValueError where the one asked for cannot serve."""
    compiled = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
    if backend == "auto":
        return "fused" if compiled else "naive"
    if backend == "fused" and not compiled:
        raise ValueError(
            f'backend "fused" runs on the CPU in float32 or float64, got {weight.dtype} on {weight.device}: '
            'use backend "lowrank" or "naive"'
        )
    return backend


def _record(capacity, weight, alpha, eta, rule, state, clamped=None):
    x, trace = state
    if alpha is None:
        return DenseRecording(capacity, weight, x, clamped)
    return FusedRecording(capacity, weight, alpha, eta, rule, x, trace, clamped)


def plastic_rnn(inputs, weight, alpha, eta, clamped=None, rule="hebb", state=None, backend="auto"):
    """Run the plastic recurrence over an episode."""
    _checked_parameters(weight, alpha, eta, rule, backend)
    n = weight.shape[0]
    if inputs.ndim != 3 or len(inputs) == 0 or inputs.shape[2] != n:
        raise ValueError(f"inputs: expected shape (T, B, {n}) with T > 0, got {tuple(inputs.shape)}")
    _expect("inputs", inputs, inputs.shape, weight)
    if clamped is not None and (clamped.shape != inputs.shape or clamped.dtype != torch.bool):
        raise ValueError(
            f"clamped: expected bool {tuple(inputs.shape)}, as inputs, got {clamped.dtype} {tuple(clamped.shape)}"
        )
    state = _checked_state(state, weight, alpha, inputs.shape[1])
    if _choose(backend, weight) == "fused":
        if alpha is not None and alpha.ndim == 0:
            alpha = alpha.expand(n, n)
        recording = _record(len(inputs), weight, alpha, eta, rule, state, clamped)
        recording.states[1:] = inputs.detach()
        recording.run(0, len(inputs), finish=True)
        return attach(recording, inputs, weight, alpha, eta, state)
    x, trace = state
    if trace is None and alpha is not None:
        trace = weight.new_zeros(inputs.shape[1], n, n)
    return naive(inputs, weight, alpha, eta, clamped, rule, (x, trace))


class PlasticRollout:
    """The recurrence one step at a time, for an agent that acts between steps."""

    def __init__(self, weight, alpha, eta, batch, rule="hebb", state=None, backend="auto"):
        _checked_parameters(weight, alpha, eta, rule, backend)
        state = _checked_state(state, weight, alpha, batch)
        if _choose(backend, weight) == "fused":
            self._implementation = _Recorded(weight, alpha, eta, rule, state)
        else:
            self._implementation = _Graph(weight, alpha, eta, rule, state)

    def step(self, inputs):
        """inputs (B, N) -> x (B, N), detached."""
        return self._implementation.step(inputs.detach())

    def outputs(self, inputs):
        """inputs (T, B, N), the same values as given to `step` -> (outputs (T, B, N), (x, trace)), differentiable."""
        return self._implementation.outputs(inputs)


class _Recorded:
    def __init__(self, weight, alpha, eta, rule, state):
        if alpha is not None and alpha.ndim == 0:
            alpha = alpha.expand_as(weight)
        self._tensors = weight, alpha, eta, state
        self._capacity, self._steps = 64, 0
        self._recording = _record(self._capacity, weight, alpha, eta, rule, state)

    def step(self, inputs):
        if self._steps == self._capacity:
            self._capacity *= 2
            self._recording.resize(self._capacity)
        self._recording.states[self._steps + 1] = inputs
        self._recording.run(self._steps, self._steps + 1)
        self._steps += 1
        return self._recording.states[self._steps].clone()

    def outputs(self, inputs):
        self._recording.resize(self._steps)
        self._recording.run(self._steps, self._steps, finish=True)
        weight, alpha, eta, state = self._tensors
        return attach(self._recording, inputs, weight, alpha, eta, state)


class _Graph:
    """Any implementation with autograd: each step's graph is kept, and walked once in the backward pass."""

    def __init__(self, weight, alpha, eta, rule, state):
        self._parameters = weight, alpha, eta
        self._rule = rule
        x, trace = state
        if trace is None and alpha is not None:
            trace = weight.new_zeros(len(x), *weight.shape)
        self._state = x, trace
        self._outputs = []

    def step(self, inputs):
        x, trace = self._state
        weight, alpha, eta = self._parameters
        self._state = naive_step(x, trace, inputs, weight, alpha, eta, None, self._rule)
        self._outputs.append(self._state[0])
        return self._state[0].detach()

    def outputs(self, inputs):
        return torch.stack(self._outputs), self._state
