"""Compile the loops of the plastic recurrence before they are needed: python -m diffplast.plasticity.warm_up.

They are compiled at their first call and then kept on disk. `make reproduce` has that done on one core while the data
are prepared on another; without it, the first network in training waits for it.
"""

import torch

from . import plastic_rnn


def main() -> None:
    """Run and differentiate the smallest episode, some of its neurons clamped."""
    weight, alpha = torch.zeros(2, 2, 2).requires_grad_()
    inputs, clamped = torch.ones(2, 1, 2), torch.eye(2, dtype=torch.bool)[:, None]
    outputs, _ = plastic_rnn(inputs, weight, alpha, torch.tensor(0.1), clamped, backend="fused")
    outputs.sum().backward()


if __name__ == "__main__":
    main()
