"""The recurrence without plasticity: products only, and none where every neuron is clamped. Any device.

On the CPU the steps are compiled loops over the products of products.py, whose bits depend on neither threads nor
processor: a member of a team computes its part of a step's product and of its tanh, then waits for the others.
"""

import numpy as np
import torch

from .autograd import resized
from .jit import kernel
from .products import Share, multiply, part_of, product, share_out
from .simd import tanh
from .threads import barrier


@kernel
def forward(team, form, steps, states, clamped, has_free, weight, sums):
    """Run `steps`, (start, stop), as a member of a team: states (T + 1, B, N), row t + 1 holds the input of step t.

    clamped: (T, B, N) or, for none, (0, 0, 0). has_free (T,): whether a neuron of a step is free. sums (B, N): scratch.
    """
    share = Share(form, team.rank, team.size)
    row_low, row_high, column_low, column_high = part_of(share, sums.shape)
    arrived = 0
    start, stop = steps
    for t in range(start, stop):
        if not has_free[t]:
            continue
        multiply(share, states[t], False, weight, False, sums, False)
        for b in range(row_low, row_high):
            for j in range(column_low, column_high):
                x = tanh(sums[b, j] + states[t + 1, b, j])
                if clamped.shape[0] == 0 or not clamped[t, b, j]:
                    states[t + 1, b, j] = x
        arrived = barrier(team, arrived)


@kernel
def backward(team, form, states, clamped, has_free, weight, grad, deltas):
    """Gradients of an episode, as a member of a team.

    grad (T + 1, B, N): by the outputs; receives those by the initial state and the inputs. deltas (T, B, N) is set
    where has_free: gradients by the argument of tanh, 0 for clamped neurons.
    """
    share = Share(form, team.rank, team.size)
    row_low, row_high, column_low, column_high = part_of(share, grad.shape[1:])
    one, zero = states.dtype.type(1), states.dtype.type(0)
    arrived = 0
    for t in range(deltas.shape[0] - 1, -1, -1):
        if not has_free[t]:
            continue
        for b in range(row_low, row_high):
            for j in range(column_low, column_high):
                x = states[t + 1, b, j]
                delta = grad[t + 1, b, j] * (one - x * x)
                if clamped.shape[0] == 0 or not clamped[t, b, j]:
                    grad[t + 1, b, j] = delta
                else:
                    delta = zero
                deltas[t, b, j] = delta
        arrived = barrier(team, arrived)
        multiply(share, deltas[t], False, weight, True, grad[t], True)


class DenseRecording:
    """The states of an episode; the interface is that of `fused.FusedRecording`."""

    def __init__(self, capacity, weight, x, clamped=None):
        self.weight = weight.detach().contiguous()
        self.states = self.weight.new_empty(capacity + 1, *x.shape)
        self.states[0] = x.detach()
        self.clamped = None if clamped is None else clamped.contiguous()
        # While a GPU records a graph it cannot be asked; a product where no neuron is free changes nothing.
        recorded = weight.is_cuda and torch.cuda.is_current_stream_capturing()
        all_free = clamped is None or recorded
        self.has_free = [True] * capacity if all_free else (~clamped).flatten(1).any(1).tolist()
        self._compiled = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)

    def resize(self, capacity):
        """Room for more steps of free neurons, or exactly for those made."""
        self.states = resized(self.states, capacity + 1)
        self.has_free = [True] * capacity

    def step(self, t, inputs):
        """Step t, of free neurons: inputs (B, N) -> x (B, N)."""
        self.states[t + 1] = inputs
        self.run(t, t + 1)
        return self.states[t + 1].clone()

    def run(self, start, stop, finish=False):
        """Steps start..stop, whose inputs lie in `states`."""
        if self._compiled:
            seen, sums = self._seen(), np.empty(self.states.shape[1:], self.states.numpy().dtype)
            share_out(*self._product_shape(), False, lambda team, form: forward(team, form, (start, stop), *seen, sums))
        else:
            self._run_by_torch(start, stop)

    def hand_over_trace(self):
        """There is none."""

    def gradients(self, grad_outputs, grad_x, grad_trace, trace_wanted):
        """Gradients by inputs, weight, alpha, eta, initial x and trace (none for those that there are not)."""
        grad, deltas = torch.zeros_like(self.states), torch.empty_like(self.states[1:])
        if grad_outputs is not None:
            grad[1:] = grad_outputs
        if grad_x is not None:
            grad[-1] += grad_x
        if self._compiled:
            seen, found = self._seen(), (grad.numpy(), deltas.numpy())
            share_out(*self._product_shape(), True, lambda team, form: backward(team, form, *seen, *found))
        else:
            self._back_by_torch(grad, deltas)
        pre, delta = self.states[:-1], deltas
        if not all(self.has_free):
            chosen = torch.tensor(self.has_free, device="cpu").nonzero()[:, 0]
            pre, delta = pre[chosen], delta[chosen]
        pre, delta = pre.flatten(0, 1), delta.flatten(0, 1)
        grad_weight = torch.from_numpy(product(pre.numpy().T, delta.numpy())) if self._compiled else pre.T @ delta
        return grad[1:], grad_weight, None, None, grad[0], None

    def _product_shape(self):
        batch, n = self.states.shape[1:]
        return batch, n, n

    def _seen(self):
        """What the compiled loops see of an episode; an empty array stands for no clamped neurons."""
        clamped = np.zeros((0, 0, 0), np.uint8) if self.clamped is None else self.clamped.view(torch.uint8).numpy()
        return self.states.numpy(), clamped, np.array(self.has_free), self.weight.numpy()

    @torch.no_grad()
    def _run_by_torch(self, start, stop):
        """What `forward` does."""
        for t in range(start, stop):
            if self.has_free[t]:
                x = torch.addmm(self.states[t + 1], self.states[t], self.weight).tanh_()
                self.states[t + 1] = x if self.clamped is None else torch.where(self.clamped[t], self.states[t + 1], x)

    def _back_by_torch(self, grad, deltas):
        """What `backward` does."""
        for t in range(len(deltas) - 1, -1, -1):
            if self.has_free[t]:
                x = self.states[t + 1]
                torch.addcmul(grad[t + 1], x * x, grad[t + 1], value=-1, out=deltas[t])
                if self.clamped is None:
                    grad[t + 1] = deltas[t]
                else:
                    deltas[t].masked_fill_(self.clamped[t], 0)
                    grad[t + 1] = torch.where(self.clamped[t], grad[t + 1], deltas[t])
                grad[t].addmm_(deltas[t], self.weight.T)
