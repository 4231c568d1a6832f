"""The recurrence without plasticity: matrix products only, and none where every neuron is clamped. Any device."""

import torch

from .autograd import resized


class DenseRecording:
    """The states of an episode; the interface is that of `fused.FusedRecording`."""

    trace = None

    def __init__(self, capacity, weight, x, clamped=None):
        self.weight = weight.detach()
        self.states = self.weight.new_empty(capacity + 1, *x.shape)
        self.states[0] = x.detach()
        self.clamped = clamped
        self.product = [True] * capacity if clamped is None else (~clamped).flatten(1).any(1).tolist()

    def resize(self, capacity):
        """Room for more steps of free neurons, or exactly for those made."""
        self.states = resized(self.states, capacity + 1)
        self.product = [True] * capacity

    def step(self, t, inputs):
        """Step t, of free neurons: inputs (B, N) -> x (B, N)."""
        self.states[t + 1] = inputs
        self.run(t, t + 1)
        return self.states[t + 1].clone()

    @torch.no_grad()
    def run(self, start, stop, finish=False):
        """Steps start..stop, whose inputs lie in `states`."""
        for t in range(start, stop):
            if not self.product[t]:
                continue
            if self.clamped is None:
                self.states[t + 1].addmm_(self.states[t], self.weight).tanh_()
            else:
                x = torch.addmm(self.states[t + 1], self.states[t], self.weight).tanh_()
                self.states[t + 1] = torch.where(self.clamped[t], self.states[t + 1], x)

    def gradients(self, grad_outputs, grad_x, grad_trace, trace_wanted):
        """Gradients by inputs, weight, alpha, eta, initial x and trace (none for those that there are not)."""
        grad = torch.zeros_like(self.states)
        if grad_outputs is not None:
            grad[1:] = grad_outputs
        if grad_x is not None:
            grad[-1] += grad_x
        deltas = torch.zeros_like(self.states[1:])
        backwards = self.weight.T
        for t in range(len(deltas) - 1, -1, -1):
            if not self.product[t]:
                continue
            x = self.states[t + 1]
            torch.addcmul(grad[t + 1], x * x, grad[t + 1], value=-1, out=deltas[t])
            if self.clamped is None:
                grad[t + 1] = deltas[t]
            else:
                deltas[t].masked_fill_(self.clamped[t], 0)
                grad[t + 1] = torch.where(self.clamped[t], grad[t + 1], deltas[t])
            grad[t].addmm_(deltas[t], backwards)
        chosen = [t for t, product in enumerate(self.product) if product]
        pre, delta = (self.states[:-1], deltas) if len(chosen) == len(deltas) else (self.states[chosen], deltas[chosen])
        return grad[1:], pre.flatten(0, 1).T @ delta.flatten(0, 1), None, None, grad[0], None
