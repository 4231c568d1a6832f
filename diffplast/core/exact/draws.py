"""Initial values from numpy's generators, whose numbers are the same on any machine."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Draw = Callable[..., Tensor]
"""draw(*shape) -> a float32 tensor of new random numbers."""


def normal(generator: np.random.Generator) -> Draw:
    """Standard normal numbers: N(0, 1)."""
    return lambda *shape: torch.from_numpy(np.asarray(generator.standard_normal(shape), np.float32))


def uniform(generator: np.random.Generator) -> Draw:
    """Numbers uniform in [0, 1)."""
    return lambda *shape: torch.from_numpy(np.asarray(generator.random(shape, np.float32)))
