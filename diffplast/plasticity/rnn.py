"""The plastic recurrence as a module, for other people's networks."""

import torch
from torch import nn

from .recurrence import plastic_rnn


class PlasticRNN(nn.Module):
    """A recurrent layer whose connections learn within an episode, in the spirit of `torch.nn.RNN`.

    The initial values are the paper's: weight and alpha 0.01 times a normal number, eta 0.01; all three are trained.

    Args:
        input_size: numbers per time step in the input.
        hidden_size: recurrent neurons, N.
        batch_first: inputs and outputs are (B, T, ...) instead of (T, B, ...).
        plasticity: "independent", an alpha for each connection; "homogeneous", one for all; or "none".
        rule: "hebb" or "oja", see `plastic_rnn`.
        backend: see `plastic_rnn`.

    Raises:
        ValueError: plasticity is not one of the three, or a call's arguments are not as `forward` says.
    """

    def __init__(
        self, input_size, hidden_size, batch_first=False, plasticity="independent", rule="hebb", backend="auto"
    ):
        super().__init__()
        shapes = {"independent": (hidden_size, hidden_size), "homogeneous": (), "none": None}
        if plasticity not in shapes:
            raise ValueError(f"plasticity: expected one of {', '.join(shapes)}, got {plasticity!r}")
        self.input_size, self.hidden_size, self.batch_first = input_size, hidden_size, batch_first
        self.plasticity, self.rule, self.backend = plasticity, rule, backend
        self.input = nn.Linear(input_size, hidden_size)
        self.weight = nn.Parameter(0.01 * torch.randn(hidden_size, hidden_size))
        shape = shapes[plasticity]
        self.alpha = None if shape is None else nn.Parameter(0.01 * torch.randn(shape))
        self.eta = None if shape is None else nn.Parameter(torch.tensor(0.01))

    def forward(self, inputs, state=None):
        """Run over a sequence.

        Args:
            inputs: (T, B, input_size), or (B, T, input_size) if batch_first.
            state: (x (B, N), trace (B, N, N)) as an earlier call returned it, the trace None if plasticity is
                "none"; None: zeros.

        Returns:
            outputs, of N instead of input_size numbers, and the state after the last step.
        """
        if inputs.ndim != 3 or inputs.shape[2] != self.input_size:
            raise ValueError(f"inputs: expected 3 dimensions, the last {self.input_size}, got {tuple(inputs.shape)}")
        projected = self.input(inputs)
        if self.batch_first:
            projected = projected.transpose(0, 1)
        outputs, state = plastic_rnn(
            projected, self.weight, self.alpha, self.eta, rule=self.rule, state=state, backend=self.backend
        )
        return outputs.transpose(0, 1) if self.batch_first else outputs, state

    def extra_repr(self):
        """What `print` shows besides the input layer."""
        return f"{self.input_size}, {self.hidden_size}, plasticity={self.plasticity}, rule={self.rule}"
