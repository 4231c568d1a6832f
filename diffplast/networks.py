"""Recurrent networks of the pattern-completion tasks, and the initial values all tasks share."""

import torch
from torch import Tensor, nn

from diffplast.plasticity import plastic_rnn


class RecurrentNetwork(nn.Module):
    """N neurons, all connected to all: weight (N, N); alpha (N, N), 0-d or None; eta 0-d.

    plasticity: "plastic" (a coefficient for every connection), "homogeneous" (one for all) or "nonplastic".
    init: standard deviation of the initial weights and coefficients. eta: initial learning rate of the trace.
    self_connections: False keeps the diagonal out of the network.
    """

    def __init__(self, neurons: int, plasticity: str, init: float, eta: float, self_connections: bool = True):
        super().__init__()
        self.weight = nn.Parameter(init * torch.randn(neurons, neurons))
        shapes = {"plastic": (neurons, neurons), "homogeneous": ()}
        self.alpha = self.eta = None
        if plasticity in shapes:
            self.alpha = nn.Parameter(init * torch.randn(shapes[plasticity]))
            self.eta = nn.Parameter(torch.tensor(float(eta)))
        elif plasticity != "nonplastic":
            raise ValueError(f"unknown plasticity {plasticity!r}; known: plastic, homogeneous, nonplastic")
        self.register_buffer("mask", None if self_connections else 1 - torch.eye(neurons), persistent=False)

    def forward(self, inputs: Tensor, clamped: Tensor | None, rule: str = "hebb") -> Tensor:
        """inputs (T, B, N), clamped bool (T, B, N) -> outputs (T, B, N)."""
        weight, alpha = self.weight, self.alpha
        if self.mask is not None:
            weight = weight * self.mask
            alpha = alpha * self.mask if alpha is not None and alpha.dim() else alpha
        eta = weight.new_zeros(()) if self.eta is None else self.eta
        outputs, _ = plastic_rnn(inputs, weight, alpha, eta, clamped, rule)
        return outputs
