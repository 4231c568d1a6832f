"""The public functions: they check what they are given and choose an implementation."""

from contextlib import nullcontext
from functools import reduce
from typing import Literal, get_args

import torch
from torch import Tensor

from .autograd import attach, autocast_is_on, looked_into, replay
from .dense import DenseRecording
from .forward import Episodes
from .fused import FusedRecording
from .lowrank import LowRank, lowrank
from .naive import naive, naive_step

Rule = Literal["hebb", "oja"]
Backend = Literal["auto", "naive", "fused", "lowrank"]
State = tuple[Tensor, Tensor | None]
"""x (B, N) and trace (B, N, N); the trace is None where nothing is plastic."""

RULES, BACKENDS = get_args(Rule), get_args(Backend)


def plastic_rnn(
    inputs: Tensor,
    weight: Tensor,
    alpha: Tensor | None,
    eta: Tensor | None,
    clamped: Tensor | None = None,
    rule: Rule = "hebb",
    state: State | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, State]:
    """Run the plastic recurrence over an episode.

    x(t) = tanh(x(t-1) (W + alpha * H(t)) + inputs(t)); a clamped neuron's x(t) is its input instead. Then the trace:
    H(t+1) = (1 - eta) H(t) + eta x(t-1)^T x(t) ("hebb") or H(t) + eta x(t) (x(t-1) - x(t) H(t)) ("oja"), rows being
    presynaptic: equations 1 to 3 of Miconi, Clune and Stanley (ICML 2018). All numbers are dimensionless.

    Args:
        inputs: (T, B, N), the value of a clamped neuron, the additive input of a free one.
        weight: (N, N), from row to column.
        alpha: (N, N); or a 0-d tensor, shared by all connections; or None for no plasticity.
        eta: 0-d tensor, the rate of the trace. Not used if alpha is None.
        clamped: bool (T, B, N); None: no neuron is clamped.
        rule: "hebb" or "oja".
        state: (x (B, N), trace (B, N, N)) to start from; None: zeros. The trace is None if alpha is.
        backend: "naive", the loop with autograd; "fused", compiled, CPU; "lowrank", matrix products only; or "auto".

    Returns:
        outputs (T, B, N) and the state (x, trace) after the last step, differentiable by every tensor given. A second
        derivative (`create_graph=True`) runs the episode again in the naive form, and what looks at each operation runs
        it in no other: `torch.func`, `vmap`, forward-mode derivatives, `torch.jit.trace` and `torch.export`. Under
        autocast all is done in the widest dtype given.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value, or the backend cannot serve it.
    """
    x, trace = _parts(state)
    whole, (inputs, weight, alpha, eta, x, trace) = _in_one_precision(inputs, weight, alpha, eta, x, trace)
    with whole:
        _check_parameters(weight, alpha, eta, rule, backend)
        n = weight.shape[0]
        _expect_tensor("inputs", inputs)
        if inputs.ndim != 3 or 0 in inputs.shape or inputs.shape[2] != n:
            raise ValueError(f"inputs: expected shape (T, B, {n}), T and B at least 1, got {tuple(inputs.shape)}")
        _expect("inputs", inputs, inputs.shape, weight)
        if clamped is not None:
            _expect("clamped", clamped, inputs.shape, weight, torch.bool)
        x, trace = _checked_state(x, trace, weight, alpha, inputs.shape[1])
        backend = _choose(backend, weight, alpha, len(inputs))
        if backend in ("naive", "lowrank"):
            if backend == "naive":
                state = x, _given(trace, weight, alpha, len(x))
                outputs, (x, trace) = naive(inputs, weight, alpha, eta, clamped, rule, state)
            else:
                outputs, (x, trace) = lowrank(inputs, weight, _full(alpha, weight), eta, clamped, rule, (x, trace))
            return outputs, (x.clone(), trace)  # so that the state may be changed in place
        recorded = _recorded
        if torch.compiler.is_compiling():  # torch.compile shows this line where it is told to compile all:
            recorded = torch.compiler.disable(_recorded)  # leave fullgraph=True out, or choose backend="naive"
        return recorded(inputs, weight, alpha, eta, clamped, rule, x, trace)


def _recorded(inputs, weight, alpha, eta, clamped, rule, x, trace):
    """`plastic_rnn` by an implementation that records its states."""
    recording = _recording(len(inputs), weight, alpha, eta, rule, x, trace, clamped)
    recording.states[1:] = inputs.detach()
    recording.run(0, len(inputs), finish=True)
    return attach(recording, clamped, rule, (inputs, weight, alpha, eta, x, trace))


class PlasticRollout:
    """The recurrence one step at a time, for an agent that acts between steps; no neuron is clamped.

    Call `step` for every time step, then `outputs` once: what was computed while acting is the forward pass of
    training, and is not computed again.

    Args:
        weight, alpha, eta, rule, state, backend: as `plastic_rnn` takes them.
        batch: how many episodes run side by side, B.

    Raises:
        ValueError: as `plastic_rnn` does, or batch is not a number of episodes.
    """

    def __init__(
        self,
        weight: Tensor,
        alpha: Tensor | None,
        eta: Tensor | None,
        batch: int,
        rule: Rule = "hebb",
        state: State | None = None,
        backend: Backend = "auto",
    ):
        if not isinstance(batch, int) or batch < 1:
            raise ValueError(f"batch: expected a number of episodes, got {batch!r}")
        _, (weight, alpha, eta, x, trace) = _in_one_precision(weight, alpha, eta, *_parts(state))
        _check_parameters(weight, alpha, eta, rule, backend)
        x, trace = _checked_state(x, trace, weight, alpha, batch)
        if looked_into():
            raise ValueError("PlasticRollout: torch.func, torch.jit and torch.export cannot follow it: use plastic_rnn")
        backend = _choose(backend, weight, alpha)
        self._weight, self._shape, self._steps, self._done = weight, tuple(x.shape), 0, False
        if backend in ("naive", "lowrank"):
            trace = _given(trace, weight, alpha, batch)
            self._episode = _Graph(backend, weight, alpha, eta, rule, x, trace)
        else:
            self._episode = _Recorded(weight, alpha, eta, rule, x, trace)

    def step(self, inputs: Tensor) -> Tensor:
        """Advance by one step: inputs (B, N) -> x (B, N), without gradient.

        Raises:
            ValueError: inputs has a wrong shape, dtype or device.
            RuntimeError: `outputs` was called before.
        """
        whole, (inputs, _) = _in_one_precision(inputs, self._weight)
        _expect("inputs", inputs, self._shape, self._weight)
        self._open()
        self._done = True  # if it is interrupted
        with whole:
            x = self._episode.step(inputs.detach())
        self._steps, self._done = self._steps + 1, False
        return x

    def compiled(self, steps: int) -> Episodes | None:
        """Have a compiled loop make `steps` steps in place of calls of `step`, and then call `outputs`.

        Returns the `forward.Episodes` of this roll-out, with room for the steps after those already made; or None
        where the backend has no compiled loops, so that `step` must be called. The loop writes the input of step t of
        episode b to `states[t + 1, b, :N]` and calls `forward.forward_step(episodes, b, t)`, for every b and every t
        from the first of these steps on; the activity is then in its place.

        Raises:
            RuntimeError: `outputs` was called before.
        """
        self._open()
        episodes = self._episode.compiled(steps)
        self._steps += 0 if episodes is None else steps
        return episodes

    def outputs(self, inputs: Tensor) -> tuple[Tensor, State]:
        """Return the recorded episode: inputs (T, B, N) -> (outputs (T, B, N), (x (B, N), trace (B, N, N))).

        `inputs` are the values given to `step`, as one differentiable tensor, equal to them up to rounding. The
        results are differentiable by it and by the weight, alpha, eta and state given at the start.

        Raises:
            ValueError: inputs has a wrong shape, dtype or device.
            RuntimeError: `outputs` was called before, or `step` was not.
        """
        self._open()
        if self._steps == 0:
            raise RuntimeError("PlasticRollout.outputs: call step first")
        _, (inputs, _) = _in_one_precision(inputs, self._weight)
        _expect("inputs", inputs, (self._steps, *self._shape), self._weight)
        self._done = True
        return self._episode.outputs(inputs)

    def _open(self):
        if self._done:
            raise RuntimeError("PlasticRollout: outputs was called, or a step was cut off: start a new roll-out")


class _Recorded:
    """A roll-out of an implementation that records its states."""

    def __init__(self, weight, alpha, eta, rule, x, trace):
        self._tensors, self._rule = (weight, alpha, eta, x, trace), rule
        self._capacity, self._steps = 64, 0
        self._recording = _recording(self._capacity, weight, alpha, eta, rule, x, trace)

    def step(self, inputs):
        if self._steps == self._capacity:
            self._capacity *= 2
            self._recording.resize(self._capacity)
        self._steps += 1
        return self._recording.step(self._steps - 1, inputs)

    def compiled(self, steps):
        if not isinstance(self._recording, FusedRecording):
            return None
        self._steps += steps
        if self._steps > self._capacity:
            self._capacity = self._steps
            self._recording.resize(self._capacity)
        return self._recording.episodes

    def outputs(self, inputs):
        self._recording.resize(self._steps)
        self._recording.run(self._steps, self._steps, finish=True)
        return attach(self._recording, None, self._rule, (inputs, *self._tensors))


class _Graph:
    """A roll-out of an implementation with autograd: it keeps the graph of its steps, from leaves of its own."""

    def __init__(self, backend, weight, alpha, eta, rule, x, trace):
        self._tensors = weight, alpha, eta, x, trace
        self._leaves = [None if tensor is None else _leaf(tensor) for tensor in self._tensors]
        weight, alpha, eta, x, trace = self._leaves
        self._rule, self._lowrank = rule, None
        if backend == "lowrank" and alpha is not None:
            self._lowrank = LowRank(weight, alpha.expand_as(weight), eta, rule, x, trace)
        self._state = x, trace
        self._inputs, self._outputs = [], []

    @torch.enable_grad()
    def step(self, inputs):
        self._inputs.append(_leaf(inputs))
        if self._lowrank is None:
            weight, alpha, eta = self._leaves[:3]
            self._state = naive_step(*self._state, self._inputs[-1], weight, alpha, eta, None, self._rule)
        else:
            self._state = self._lowrank.step(self._inputs[-1]), None
        self._outputs.append(self._state[0])
        return self._state[0].detach().clone()

    def compiled(self, steps):
        return None

    def outputs(self, inputs):
        with torch.enable_grad():
            x, trace = self._state if self._lowrank is None else (self._lowrank.x, self._lowrank.trace)
        record = self._inputs, self._leaves, (self._outputs, x, trace)
        return replay(record, self._rule, (inputs, *self._tensors))


def _parts(state):
    """The tensors of a state, None for those that there are not."""
    if state is None:
        return None, None
    if not isinstance(state, tuple | list) or len(state) != 2 or state[0] is None:
        raise ValueError(f"state: expected (x, trace), as a call returns it, or None, got {_described(state)}")
    return state


def _described(value):
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"


def _in_one_precision(*tensors):
    """A context without autocast and, where that was on, the tensors in the widest of their dtypes.

    Autocast gives the results of products half the digits, and a recurrence multiplies its errors.
    """
    found = [tensor for tensor in tensors if isinstance(tensor, Tensor) and tensor.is_floating_point()]
    if not found or not autocast_is_on(found[0]):
        return nullcontext(), tensors
    widest = reduce(torch.promote_types, [tensor.dtype for tensor in found])
    widened = [tensor.to(widest) if any(tensor is one for one in found) else tensor for tensor in tensors]
    return torch.autocast(found[0].device.type, enabled=False), widened


def _expect_tensor(name, value):
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a tensor, got {_described(value)}")


def _expect(name, tensor, shape, like, dtype=None):
    """Raise ValueError unless the tensor has that shape, that dtype (None: of `like`) and the device of `like`."""
    _expect_tensor(name, tensor)
    dtype = dtype or like.dtype
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if tensor.dtype != dtype or tensor.device != like.device:
        raise ValueError(f"{name}: expected {dtype} on {like.device}, got {tensor.dtype} on {tensor.device}")


def _check_parameters(weight, alpha, eta, rule, backend):
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    _expect_tensor("weight", weight)
    if weight.ndim != 2 or weight.shape[0] != weight.shape[1] or not weight.is_floating_point():
        raise ValueError(f"weight: expected a floating-point matrix (N, N), got {weight.dtype} {tuple(weight.shape)}")
    if alpha is not None:
        _expect_tensor("alpha", alpha)
        _expect("alpha", alpha, weight.shape if alpha.ndim else (), weight)
        _expect("eta", eta, (), weight)


def _checked_state(x, trace, weight, alpha, batch):
    """The initial state as (x, trace); a trace of None stands for zeros, or for no plasticity."""
    n = weight.shape[0]
    if x is None:
        return weight.new_zeros(batch, n), None
    _expect("state[0]", x, (batch, n), weight)
    if (trace is None) != (alpha is None):
        raise ValueError("state[1]: expected a trace (B, N, N) exactly where alpha is not None")
    if trace is not None:
        _expect("state[1]", trace, (batch, n, n), weight)
    return x, trace


def _given(trace, weight, alpha, batch):
    """The trace, or zeros in its place."""
    return weight.new_zeros(batch, *weight.shape) if trace is None and alpha is not None else trace


def _full(alpha, weight):
    """A shared alpha as a matrix: autograd sums its gradient."""
    return alpha.expand_as(weight) if alpha is not None and alpha.ndim == 0 else alpha


def _choose(backend, weight, alpha, steps=None):
    """The implementation: "naive", "lowrank", "fused", or "dense" where there is no plasticity.

    On the CPU the compiled loops win at every task's shape (benchmarks/recurrence.py). The low-rank form comes nearest
    for images, whose 201 steps are 21 products: 21 ms an episode at its best batch, 32, against 17.
    Elsewhere autograd keeps some 5 N^2 numbers a step of the loop and 3 N for each earlier update of the low-rank
    form, which also has fewer and larger operations: it is chosen for episodes of fewer than N steps.
    """
    compiled = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
    if backend == "fused" and alpha is not None and not compiled:
        raise ValueError(
            f'backend "fused" runs on the CPU in float32 or float64, got {weight.dtype} on {weight.device}: '
            'use "lowrank", "naive" or "auto"'
        )
    if backend == "naive" or looked_into():
        return "naive"
    if alpha is None:
        return "dense"
    if backend == "auto":
        if compiled:
            return "fused"
        return "lowrank" if steps is not None and steps < len(weight) else "naive"
    return backend


def _recording(capacity, weight, alpha, eta, rule, x, trace, clamped=None):
    if alpha is None:
        return DenseRecording(capacity, weight, x, clamped)
    return FusedRecording(capacity, weight, alpha, eta, rule, x, trace, clamped)


def _leaf(tensor):
    return tensor.detach().clone().requires_grad_()
