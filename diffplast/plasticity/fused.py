"""Recorded episodes of the plastic recurrence over the compiled loops of kernels.py. CPU, float32 and float64."""

import torch

from . import kernels
from .function import resized
from .threads import run_team

# Updates between two checkpoints of the trace in the backward pass, and how many numbers the checkpoints may hold.
SEGMENT, CHECKPOINT_NUMBERS = 6, 2**25


def _teams(batch, n):
    """How many teams of threads work side by side, an episode each, and the size of a team (it splits the rows)."""
    threads = torch.get_num_threads()
    teams = min(batch, threads)
    return teams, max(1, min(threads // teams, n // 64))


def _arrays(*tensors):
    return [tensor.detach().numpy() for tensor in tensors]


def _bytes(mask, like):
    """A mask as an array of the compiled code; an empty one if there is none."""
    return (like.new_empty(0, 0, 0, dtype=torch.bool) if mask is None else mask).numpy().view("uint8")


class FusedRecording:
    """The states of an episode and what the backward pass needs to know of its steps."""

    def __init__(self, capacity, weight, alpha, eta, rule, x, trace, clamped=None):
        batch, n = x.shape
        self.states = weight.new_empty(capacity + 1, batch, n)
        self.states[0] = x
        self.initial_trace = weight.new_empty(0, n, n) if trace is None else trace.detach().contiguous()
        self.trace = weight.new_zeros(batch, n, n) if trace is None else self.initial_trace.clone()
        self.weight, self.alpha = weight.detach().contiguous(), alpha.detach().contiguous()
        self.eta, self.eta_dtype, self.oja = float(eta.detach()), eta.dtype, rule == "oja"
        self.clamped = None if clamped is None else clamped.contiguous()
        self.product = torch.ones(capacity, batch, dtype=torch.uint8)
        self.count = torch.ones(capacity, batch, dtype=torch.int64)

    def resize(self, capacity):
        """Room for more steps of free neurons, or exactly for those made."""
        self.states = resized(self.states, capacity + 1)
        self.product = torch.ones(capacity, self.states.shape[1], dtype=torch.uint8)
        self.count = torch.ones(capacity, self.states.shape[1], dtype=torch.int64)

    def run(self, start, stop, finish=False):
        """Steps start..stop, whose inputs lie in `states`. The trace lacks the last one's update unless `finish`."""
        batch, n = self.states.shape[1:]
        clamped = _bytes(self.clamped, self.states)
        states, weight, alpha, trace = _arrays(self.states, self.weight, self.alpha, self.trace)
        product, count = _arrays(self.product[start:stop], self.count[start:stop])
        if start == 0 and self.clamped is not None:
            kernels.find_events(states, clamped, not self.oja, product, count)
        teams, size = _teams(batch, n)
        counters = torch.zeros(teams, 1, dtype=torch.int64).numpy()
        partial = self.states.new_empty(teams, size, n).numpy()

        def member(rank):
            team, rank = divmod(rank, size)
            kernels.forward(
                team, teams, size, rank, counters[team], start, stop, finish, states, clamped,
                product, count, weight, alpha, self.eta, self.oja, trace, partial[team],
            )  # fmt: skip

        run_team(teams * size, member)

    def gradients(self, grad_outputs, grad_x, grad_trace, trace_wanted):
        """Gradients by inputs (T, B, N), weight, alpha, eta, initial x and trace, from those by the results."""
        steps, batch, n = self.states.shape[0] - 1, *self.states.shape[1:]
        new = self.states.new_empty
        teams, size = _teams(batch, n)
        updates = int(torch.count_nonzero(self.count, 0).max())
        most = max(SEGMENT, updates * n * n // CHECKPOINT_NUMBERS)
        segments = 1 + updates // (most - kernels.MAX_PENDING + 1)
        grad_states = new(steps + 1, batch, n)
        grad_states[0] = 0
        if grad_outputs is None:
            grad_states[1:] = 0
        else:
            grad_states[1:] = grad_outputs
        if grad_x is not None:
            grad_states[-1] += grad_x
        final_given = grad_trace is not None
        if final_given:
            grad_trace = grad_trace.clone(memory_format=torch.contiguous_format)
        elif trace_wanted:
            grad_trace = new(batch, n, n)
        grad_alpha = self.states.new_zeros(teams, n, n)
        grad_eta = torch.zeros(batch, dtype=torch.float64)
        counters = torch.zeros(teams, 1, dtype=torch.int64).numpy()
        clamped = _bytes(self.clamped, self.states)
        fixed = _arrays(self.states, self.product, self.count, self.weight, self.alpha, self.initial_trace)
        states, product, count, weight, alpha, trace = fixed
        work = []
        for team in range(teams):
            buffers = (
                grad_states, new(1, n, n) if grad_trace is None else grad_trace, grad_alpha[team], grad_eta,
                new(segments, n, n), new(size, kernels.MAX_PENDING + 1, n), new(n), new(kernels.MAX_PENDING + 1, n),
                new(size, kernels.MAX_PENDING, 2, n),
            )  # fmt: skip
            work.append(_arrays(*buffers))
            work[-1].insert(5, most)

        def member(rank):
            team, rank = divmod(rank, size)
            kernels.backward(
                team, teams, size, rank, counters[team], states, clamped, product, count,
                weight, alpha, self.eta, self.oja, trace, final_given, *work[team],
            )  # fmt: skip

        run_team(teams * size, member)
        return (
            grad_states[1:],
            self._weight_gradient(grad_states[1:]),
            grad_alpha.sum(0),
            grad_eta.sum().to(self.eta_dtype),
            grad_states[0],
            grad_trace if trace_wanted else None,
        )

    def _weight_gradient(self, grad_inputs):
        """One product over all steps that multiplied by the weights; clamped neurons pass nothing on to them."""
        if self.clamped is None:
            return self.states[:-1].flatten(0, 1).T @ grad_inputs.flatten(0, 1)
        chosen = self.product.bool()
        delta = grad_inputs[chosen].masked_fill(self.clamped[chosen], 0)
        return self.states[:-1][chosen].T @ delta
