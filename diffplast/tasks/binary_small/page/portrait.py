"""The network of the page's introduction, over the presentation of two patterns."""

import numpy as np
import torch

from diffplast.page.networks import kept
from diffplast.page.portrait import Portrait
from diffplast.plasticity.naive import naive_step
from diffplast.report.results import TaskResults
from diffplast.tasks.completion import Presentation, completion_inputs

from .lab import TIMES


def portrait(results: TaskResults) -> Portrait | None:
    """Return a plastic network that is shown two patterns; None where none is kept.

    The first pattern is +1 in the first half of its bits, the second in the middle half: so their blocks can be seen.
    """
    found = kept(results, tuple(TIMES))[:1]
    if not found:
        return None
    ((network, run),) = found
    times = Presentation(**results.experiment(TIMES[network.arm]))
    weight, alpha, eta = (torch.from_numpy(run.network()[name]) for name in ("weight", "alpha", "eta"))
    bits = len(weight) - 1
    alpha = alpha * (1 - torch.eye(bits + 1))
    bit = torch.arange(bits)
    on = torch.stack([bit < bits // 2, (bit >= bits // 4) & (bit < bits // 4 + bits // 2)])
    patterns = (2.0 * on - 1)[None]
    order = np.array([[[0, 1], [1, 0]][each % 2] for each in range(times.rounds)])[None]
    inputs, clamped = completion_inputs(times, patterns, order, patterns[:, 0])
    x, trace, traces = torch.zeros(1, bits + 1), torch.zeros(1, bits + 1, bits + 1), []
    for row, fixed in zip(inputs[: -times.test], clamped, strict=False):
        x, trace = naive_step(x, trace, row, weight, alpha, eta, fixed, "hebb")
        traces.append(trace[0].numpy())
    text = f"two patterns of {bits} bits are shown to a network in turn"
    return Portrait(weight.numpy(), alpha.numpy(), np.stack(traces), text, network.note)
