"""Recorded episodes of the plastic recurrence, over the compiled loops of forward.py and backward.py.

CPU, float32 and float64.
"""

import math
import operator
import threading
from functools import reduce

import numpy as np
import torch
from torch.nn.functional import pad

from . import backward, forward
from .autograd import resized
from .simd import LANES
from .strips import from_strips, to_strips
from .threads import Team, run_team

# Least and largest number of updates between two checkpoints of the trace, and how many numbers all may hold.
NEAR, FAR, CHECKPOINT_NUMBERS = 6, 16, 2**25

# Neurons below which updates of the trace are undone: from there on memory decides, and an undone trace is one more
# matrix to write.
UNDO_BELOW = 512

# Numbers of the trace to update for which it pays to wake other threads, which takes some 40 microseconds.
WORTH_A_TEAM = 2**20

# Neurons from which on all threads work on the same episode. Sharing a step costs two cores some 26 microseconds: 250
# steps of 400 neurons take 31 ms in one thread and 46 in two, of 1,001 neurons 83 ms in one and 61 in two.
ONE_TEAM = 512

_scratch = threading.local()


def _reused(name, like, *shape):
    """Uninitialised scratch that lives on between calls: the first touch of fresh memory costs as much as its use."""
    buffers = _scratch.__dict__
    size = math.prod(shape)
    buffer = buffers.get((name, like.dtype))
    if buffer is None or len(buffer) < size:
        buffer = buffers[name, like.dtype] = like.new_empty(size)
    return buffer[:size].view(shape)


def _teams(batch, n, steps):
    """How many teams of threads work side by side, an episode each, and the size of a team, which shares the columns.

    Large networks have one team: the matrices of two episodes do not fit into the cache. An episode of a small one has
    one thread: the members of a team wait for each other at every step, which takes longer than the work they share.
    """
    threads = torch.get_num_threads() if steps * batch * n * n >= WORTH_A_TEAM else 1
    return (min(batch, threads), 1) if n < ONE_TEAM else (1, min(threads, forward.strips(n)))


def _in_strips(matrices, width):
    """Matrices (B, N, N) as the compiled loops see them, (B, width, width): a copy."""
    found = matrices.new_empty(len(matrices), width, width)
    to_strips(*_arrays(matrices.detach().contiguous(), found))
    return found


def _out_of_strips(matrices, n):
    """The inverse."""
    found = matrices.new_empty(len(matrices), n, n)
    from_strips(*_arrays(matrices, found))
    return found


def _arrays(*tensors):
    return [tensor.numpy() for tensor in tensors]


class FusedRecording:
    """The states of an episode and what the backward pass needs to know of its steps."""

    def __init__(self, capacity, weight, alpha, eta, rule, x, trace, clamped=None):
        batch, self.n = x.shape
        self.width = width = -(-self.n // LANES) * LANES
        self._states = weight.new_zeros(capacity + 1, batch, width)
        self._states[0, :, : self.n] = x.detach()
        self.shared_alpha = alpha.ndim == 0
        self.weight = _in_strips(weight[None], width)[0]
        self.alpha = _in_strips(alpha.expand_as(weight)[None], width)[0]
        self.eta, self.eta_dtype, self.oja = float(eta.detach()), eta.dtype, rule == "oja"
        if trace is None:
            self.initial_trace, self._trace = weight.new_empty(0, width, width), weight.new_zeros(batch, width, width)
        else:
            self.initial_trace = _in_strips(trace, width)
            self._trace = self.initial_trace.clone()
        self.clamped = clamped is not None
        # What the loops see of it: an empty array stands for none. Neurons of the padding are clamped.
        self._clamped = weight.new_empty(0, 0, 0, dtype=torch.uint8)
        if clamped is not None:
            self._clamped = pad(clamped.to(torch.uint8), (0, width - self.n), value=1).contiguous()
        self._sums = weight.new_empty(batch, width)
        self._allocate(capacity)

    def _allocate(self, capacity):
        batch = self._states.shape[1]
        self._has_free = self.weight.new_ones(capacity, batch, dtype=torch.uint8)
        self._repeats = self.weight.new_ones(capacity, batch, dtype=torch.int64)
        self._steps = forward.Steps(*_arrays(self._has_free, self._repeats))
        tensors = self._states, self._clamped, self._trace, self._sums, self.weight, self.alpha
        self.episodes = forward.Episodes(*_arrays(*tensors), self.eta, self.oja, self.n)

    @property
    def states(self):
        """(steps + 1, B, N), the first being the initial one."""
        return self._states[..., : self.n]

    def hand_over_trace(self):
        """The trace after the last step, (B, N, N), as a tensor of its own; no step can follow."""
        trace = _out_of_strips(self._trace, self.n)
        self._trace = trace.new_empty(0, self.width, self.width)
        self.episodes = self.episodes._replace(trace=self._trace.numpy())
        return trace

    def resize(self, capacity):
        """Room for more steps of free neurons, or exactly for those made."""
        self._states = resized(self._states, capacity + 1)
        self._allocate(capacity)

    def step(self, t, inputs):
        """Step t, of free neurons: inputs (B, N) -> x (B, N)."""
        states = self.episodes.states
        states[t + 1, :, : self.n] = inputs.numpy()
        self.run(t, t + 1)
        return torch.from_numpy(states[t + 1, :, : self.n].copy())

    def run(self, start, stop, finish=False):
        """Steps start..stop, whose inputs lie in `states`. The trace lacks the last one's update unless `finish`."""
        episodes = self.episodes
        if start == 0 and self.clamped:
            forward.merge_equal_steps(episodes.states, episodes.clamped, not self.oja, self._steps)
        teams, size = _teams(episodes.states.shape[1], self.width, stop - start + finish)
        counters = np.zeros((teams, 1), np.int64)

        def member(rank):
            team, rank = divmod(rank, size)
            team = Team(team, teams, size, rank, counters[team])
            forward.forward(episodes, self._steps, start, stop, finish, team)

        run_team(teams * size, member, counters)

    def gradients(self, grad_outputs, grad_x, grad_trace, trace_wanted):
        """Gradients by inputs (T, B, N), weight, alpha, eta, initial x and trace, from those by the results."""
        length, batch, width = self._states.shape
        n, states = self.n, self._states
        teams, size = _teams(batch, width, length)
        updates = int(self._repeats.count_nonzero(0).max())
        near = max(NEAR, updates * width * width // CHECKPOINT_NUMBERS)
        checkpoints, strips = 2 + updates // near, forward.strips(width)
        outputs = states.new_zeros(length, batch, width)
        if grad_outputs is not None:
            outputs[1:, :, :n] = grad_outputs
        if grad_x is not None:
            outputs[-1, :, :n] += grad_x
        final_given = grad_trace is not None
        if final_given:
            grad_trace = _in_strips(grad_trace, width)
        elif trace_wanted:
            grad_trace = states.new_empty(batch, width, width)
        deltas = outputs[1:] if not self.clamped else _reused("deltas", states, length - 1, batch, width)
        weight, alpha = states.new_empty(2, width, width)
        eta = states.new_empty(batch, strips, dtype=torch.float64)
        trace = self.initial_trace.numpy()
        counters = np.zeros((teams, 1), np.int64)

        def team_of(number):
            """What a team of threads works with."""

            def scratch(name, *shape):
                return _reused(name, states, teams, *shape)[number]

            memory = _arrays(
                scratch("trace", width, width),
                scratch("checkpoints", checkpoints, width, width),
                scratch("by_rows", 2, strips, forward.MAX_PENDING + 1, width),
                scratch("by_columns", forward.MAX_PENDING, 2, width),
                scratch("inverse", width),
            )
            given = scratch("grad_trace", 1, width, width) if grad_trace is None else grad_trace
            outputs_, given, deltas_, eta_ = _arrays(outputs, given, deltas, eta)
            return (
                backward.Gradients(outputs_, given, final_given, deltas_, eta_),
                backward.Scratch(*memory, width < UNDO_BELOW, near, max(FAR, near)),
            )

        parts = [team_of(number) for number in range(teams)]

        def member(rank):
            number, rank = divmod(rank, size)
            team = Team(number, teams, size, rank, counters[number])
            backward.backward(self.episodes, self._steps, trace, *parts[number], team)

        def matrix_member(rank):
            team = Team(0, 1, teams * size, rank, counters[0])
            shared = _arrays(deltas, weight, alpha)
            backward.matrix_gradients(self.episodes, self._steps, trace, *shared, team)

        run_team(teams * size, member, counters)
        run_team(teams * size, matrix_member)
        outputs = outputs[..., :n]
        return (
            outputs[1:],
            weight[:n, :n].contiguous(),
            states.new_tensor(backward.sum_of_rows(alpha.numpy(), self.n))
            if self.shared_alpha
            else alpha[:n, :n].contiguous(),
            states.new_tensor(reduce(operator.add, eta.flatten().tolist()), dtype=self.eta_dtype),
            outputs[0],
            _out_of_strips(grad_trace, n) if trace_wanted else None,
        )
