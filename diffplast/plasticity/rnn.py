"""The plastic recurrence as a module, for other people's networks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .recurrence import Backend, Rule, State, plastic_rnn

PLASTICITY = ("plastic", "homogeneous", "nonplastic")


def plastic_parameters(
    shape: Sequence[int],
    plasticity: str,
    init: float = 0.01,
    eta: float = 0.01,
    draw: Callable[..., Tensor] = torch.randn,
) -> tuple[nn.Parameter, nn.Parameter | None, nn.Parameter | None]:
    """Make the parameters of plastic connections; the defaults are the paper's initial values.

    The weight is drawn first, then alpha.

    Args:
        shape: of the weight, from presynaptic to postsynaptic neurons: (N, N) for a recurrent layer.
        plasticity: "plastic", an alpha for each connection; "homogeneous", one for all; or "nonplastic".
        init: scale of the initial weights and coefficients. A shared alpha is `init` itself.
        eta: initial rate of the trace.
        draw: draw(*shape) gives the random numbers that `init` scales.

    Returns:
        weight; alpha, of its shape or 0-d; eta, 0-d. The last two are None if "nonplastic".

    Raises:
        ValueError: plasticity is not one of the three.
    """
    if plasticity not in PLASTICITY:
        raise ValueError(f"plasticity: expected one of {', '.join(PLASTICITY)}, got {plasticity!r}")
    weight = nn.Parameter(init * draw(*shape))
    if plasticity == "nonplastic":
        return weight, None, None
    alpha = init * draw(*shape) if plasticity == "plastic" else weight.new_tensor(float(init))
    return weight, nn.Parameter(alpha.detach()), nn.Parameter(weight.new_tensor(float(eta)))


class PlasticRNN(nn.Module):
    """A recurrent layer whose connections learn within an episode.

        x(t) = tanh(x(t-1) (W + alpha * H(t)) + input(t) A + a)
        H(t+1) = (1 - eta) H(t) + eta x(t-1)^T x(t)             "hebb"
        H(t+1) = H(t) + eta x(t) (x(t-1) - x(t) H(t))           "oja"

    H, the Hebbian trace, starts at zero with each sequence; the rest is trained. Equations 1 to 3 of Miconi, Clune and
    Stanley (ICML 2018), with an input layer as in `torch.nn.RNN`.

        layer = PlasticRNN(input_size=10, hidden_size=100)
        outputs, state = layer(torch.randn(50, 8, 10))      # (T, B, input_size) -> (T, B, hidden_size)
        more, state = layer(torch.randn(5, 8, 10), state)   # continues with the same activities and traces
        outputs.square().sum().backward()

    Args:
        input_size: numbers per time step in the input.
        hidden_size: recurrent neurons, N.
        batch_first: inputs and outputs are (B, T, ...) instead of (T, B, ...).
        plasticity: "plastic", an alpha for each connection; "homogeneous", one for all; or "nonplastic".
        rule: "hebb" or "oja".
        backend: as `plastic_rnn` takes it.

    Attributes:
        input (nn.Linear): A^T (N, input_size) and a (N).
        weight (Parameter): W (N, N), from row to column; initially 0.01 times normal numbers.
        alpha (Parameter): (N, N), initially the same; or 0-d, initially 0.01; or None.
        eta (Parameter): 0-d, initially 0.01; or None.

    Raises:
        ValueError: plasticity is not one of the three, or a call's arguments are not as `forward` says.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        batch_first: bool = False,
        plasticity: str = "plastic",
        rule: Rule = "hebb",
        backend: Backend = "auto",
    ):
        super().__init__()
        self.input_size, self.hidden_size, self.batch_first = input_size, hidden_size, batch_first
        self.plasticity, self.rule, self.backend = plasticity, rule, backend
        self.input = nn.Linear(input_size, hidden_size)
        self.weight, self.alpha, self.eta = plastic_parameters((hidden_size, hidden_size), plasticity)

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over a sequence.

        Args:
            inputs: (T, B, input_size), or (B, T, input_size) if batch_first; or (T, input_size), one sequence.
            state: (x (B, N), trace (B, N, N)) as an earlier call returned it, the trace None if "nonplastic"; None:
                zeros. For one sequence without B.

        Returns:
            outputs, of N instead of input_size numbers, and the state after the last step.
        """
        if isinstance(inputs, PackedSequence):
            raise ValueError(
                "inputs: a PackedSequence is not taken: give sequences padded at their ends (pad_packed_sequence), "
                "whose outputs before the padding are those of each alone; for last states run equal lengths together"
            )
        if not isinstance(inputs, Tensor):
            raise ValueError(f"inputs: expected a tensor, got {type(inputs).__name__}")
        if inputs.ndim not in (2, 3) or inputs.shape[-1] != self.input_size:
            raise ValueError(
                f"inputs: expected 3 dimensions, or 2 for one sequence, the last {self.input_size}, "
                f"got {tuple(inputs.shape)}"
            )
        alone = inputs.ndim == 2
        projected = self.input(inputs)
        if alone:
            projected, state = projected[:, None], _each(state, lambda tensor: tensor[None])
        elif self.batch_first:
            projected = projected.transpose(0, 1)
        outputs, state = plastic_rnn(
            projected, self.weight, self.alpha, self.eta, rule=self.rule, state=state, backend=self.backend
        )
        if alone:
            return outputs[:, 0], _each(state, lambda tensor: tensor[0])
        return outputs.transpose(0, 1) if self.batch_first else outputs, state

    def extra_repr(self) -> str:
        """Name what `print` shows besides the input layer."""
        return f"{self.input_size}, {self.hidden_size}, plasticity={self.plasticity}, rule={self.rule}"


def _each(state, function):
    """Apply a function to the tensors of a state."""
    if not isinstance(state, tuple | list):  # None; what else there may be, plastic_rnn refuses
        return state
    return tuple(function(part) if isinstance(part, Tensor) else part for part in state)
