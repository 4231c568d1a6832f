"""Copies of matrices to the form in which the compiled loops work on them, and back. forward.py says what that is.

Each takes one thread: to wake a second one takes as long as it would save.
"""

from .forward import ROWS, block_at, strip_begin, strips
from .jit import kernel
from .simd import LANES, load, store


@kernel
def to_strips(matrices, in_strips):
    """Copy matrices (B, N, N) to (B, M, M), filled up with zeros."""
    batch, n = matrices.shape[:2]
    width, numbers = in_strips.shape[1], in_strips.ravel()
    for b in range(batch):
        for strip in range(strips(width)):
            begin, end = strip_begin(width, strip), strip_begin(width, strip + 1)
            for i in range(0, width, ROWS):
                for j in range(begin, end, LANES):
                    at = b * width * width + block_at(width, begin, end, i, j)
                    for row in range(i, i + ROWS):
                        if row < n and j + LANES <= n:
                            store(in_strips, at, 0, load(matrices, (b * n + row) * n + j, 0, 1, 1))
                        else:
                            for lane in range(LANES):
                                inside = row < n and j + lane < n
                                numbers[at + lane] = matrices[b, row, j + lane] if inside else 0
                        at += LANES


@kernel
def from_strips(in_strips, matrices):
    """The inverse: copy matrices (B, M, M) to (B, N, N)."""
    numbers, n, width = in_strips.ravel(), matrices.shape[1], in_strips.shape[1]
    for strip in range(strips(width)):
        begin, end = strip_begin(width, strip), strip_begin(width, strip + 1)
        for b in range(matrices.shape[0]):
            for i in range(0, n, ROWS):
                for j in range(begin, min(end, n), LANES):
                    at = b * width * width + block_at(width, begin, end, i, j)
                    for row in range(i, min(i + ROWS, n)):
                        if j + LANES <= n:
                            store(matrices, (b * n + row) * n + j, 0, load(in_strips, at, 0, 1, 1))
                        else:
                            for lane in range(n - j):
                                matrices[b, row, j + lane] = numbers[at + lane]
                        at += LANES
