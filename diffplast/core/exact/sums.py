"""Sums of fixed order: the same bits on any processor, with any number of threads."""

import math

import numpy as np
import torch
from torch import Tensor

from diffplast.plasticity.jit import kernel
from diffplast.plasticity.simd import LANES, fma, load, store, zeros
from diffplast.plasticity.threads import run_team

# Numbers whose squares are added by one thread, and in how many chains.
BLOCK, COLUMNS = 2**15, 4
CHAINS = COLUMNS * LANES


def fixed_sum(values: Tensor, dim: int) -> Tensor:
    """Sum over one dimension, differentiably: its halves are added elementwise until one is left. Any device."""
    values = values.movedim(dim, 0)
    if len(values) == 0:
        return values.sum(0)
    while len(values) > 1:
        half = len(values) // 2
        pairs = values[:half] + values[half : 2 * half]
        values = torch.cat([pairs, values[2 * half :]]) if len(values) % 2 else pairs
    return values[0]


def fixed_mean(values: Tensor, dim: int) -> Tensor:
    """Mean over one dimension, as `fixed_sum`. An empty one gives NaN."""
    return fixed_sum(values, dim) / values.shape[dim]


def gradient_norm(parameters: list[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients together, 0-d: on the CPU of fixed order, elsewhere torch's.

    Parameters without a gradient are left out.
    """
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if any(grad.device.type != "cpu" or grad.dtype not in (torch.float32, torch.float64) for grad in grads):
        return torch.nn.utils.get_total_norm(grads)
    total = math.fsum(part for grad in grads for part in _square_sums(grad.contiguous().view(-1).numpy()))
    return torch.tensor(math.sqrt(total), dtype=grads[0].dtype if grads else torch.float32)


def _square_sums(numbers: np.ndarray) -> np.ndarray:
    """The sum of squares of each block of the numbers."""
    sums = np.empty(-(-len(numbers) // BLOCK))
    size = max(1, min(torch.get_num_threads(), len(sums) // 8))
    run_team(size, lambda rank: _add_squares(numbers, sums, len(sums) * rank // size, len(sums) * (rank + 1) // size))
    return sums


@kernel
def _add_squares(numbers, sums, first, last):
    """sums[first:last] = the sums of squares of these blocks, each a chain for every number of a row of CHAINS."""
    ends = np.empty(CHAINS, numbers.dtype)
    for block in range(first, last):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, len(numbers))
        full = begin + (end - begin) // CHAINS * CHAINS
        chains = zeros(numbers, 1, COLUMNS)
        for i in range(begin, full, CHAINS):
            row = load(numbers, i, 0, 1, COLUMNS)
            chains = fma(row, row, chains)
        store(ends, 0, 0, chains)
        total = 0.0
        for chain in range(CHAINS):
            total += ends[chain]
        for i in range(full, end):
            total += np.float64(numbers[i]) * np.float64(numbers[i])
        sums[block] = total
