"""Arithmetic that gives the same bits on any processor, with any number of threads.

What torch does elementwise with + - * / on the CPU is the same everywhere, and so are `sign`, `where`, `square` and
torch's fused Adam, as far as tried (1 to 4 threads, AVX2 and AVX-512). These are not: its square root, exponential
function, logarithm, tanh, logistic function and softmax, whose last bits differ with the instruction set; and sums,
means and matrix products over many numbers, whose order changes with the number of threads.
"""

from diffplast.core.exact.adam import Adam, adam
from diffplast.core.exact.draws import normal, uniform
from diffplast.core.exact.sums import fixed_mean, fixed_sum, gradient_norm

__all__ = ["Adam", "adam", "fixed_mean", "fixed_sum", "gradient_norm", "normal", "uniform"]
