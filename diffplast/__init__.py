"""Differentiable plasticity (Miconi, Clune, Stanley, ICML 2018): the networks, the four tasks, the evidence."""

import os

# Must be set before torch is imported. Torch's idle threads spin for milliseconds before they sleep, on the cores that
# the compiled loops run on meanwhile, which takes up to a third of an episode. Shorter spins are as good for torch.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from diffplast.core.errors import UserError

__all__ = ["UserError"]
