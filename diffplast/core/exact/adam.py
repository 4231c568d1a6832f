"""Adam in compiled, elementwise arithmetic: the same bits on any processor, with any number of threads."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from diffplast.plasticity.jit import kernel
from diffplast.plasticity.threads import run_team

# Numbers of a parameter for which it pays to wake another thread.
WORTH_A_THREAD = 2**17


class Adam(torch.optim.Optimizer):
    """Adam (Kingma and Ba, 2015) for parameters on the CPU, float32 or float64: the update of `torch.optim.Adam`.

    Args:
        parameters: what is trained, or groups of it, as other optimizers take them.
        lr: learning rate.
        betas: decay rates of the mean gradient and of the mean squared gradient.
        eps: added to the root of the latter.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(self, parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        if not (lr >= 0 and eps >= 0 and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(f"Adam: expected lr >= 0, eps >= 0 and betas in [0, 1), got {lr}, {eps}, {betas}")
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        """Make one update. closure: computes the loss again, or None. Returns its result."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter, group):
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        kind = np.dtype(str(parameter.dtype).removeprefix("torch.")).type
        numbers = tuple(
            map(
                kind,
                (
                    group["lr"] / (1 - beta1 ** state["step"]),
                    math.sqrt(1 - beta2 ** state["step"]),
                    beta2,
                    1 - beta1,
                    1 - beta2,
                    group["eps"],
                ),
            )
        )
        arrays = [
            tensor.view(-1).numpy()
            for tensor in (parameter.detach(), parameter.grad.contiguous(), state["exp_avg"], state["exp_avg_sq"])
        ]
        count = len(arrays[0])
        size = max(1, min(torch.get_num_threads(), count // WORTH_A_THREAD))
        run_team(size, lambda rank: _step(*arrays, count * rank // size, count * (rank + 1) // size, numbers))


@kernel
def _step(values, grad, mean, square, first, last, numbers):
    """Update numbers first..last of a parameter."""
    rate, root, beta2, rest1, rest2, eps = numbers
    # Slices, since an index that might be negative keeps the loop from being vectorised.
    values, grad, mean, square = values[first:last], grad[first:last], mean[first:last], square[first:last]
    for i in range(len(values)):
        g = grad[i]
        mean[i] += rest1 * (g - mean[i])
        square[i] = beta2 * square[i] + rest2 * (g * g)
        values[i] -= rate * mean[i] / (np.sqrt(square[i]) / root + eps)


def adam(
    parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> torch.optim.Optimizer:
    """Adam for parameters on any device: `Adam` on the CPU, elsewhere torch's own, fused."""
    parameters = list(parameters)
    compiled = all(p.device.type == "cpu" and p.dtype in (torch.float32, torch.float64) for p in parameters)
    return Adam(parameters, lr, betas, eps) if compiled else torch.optim.Adam(parameters, lr, betas, eps, fused=True)
