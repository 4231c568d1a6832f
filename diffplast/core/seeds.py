"""Random numbers: one seed a run, and from it a generator of its own for each purpose."""

import numpy as np

PURPOSES = ("init", "training", "evaluation", "examples")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Make the generator of a run for one of PURPOSES. Raises ValueError for another purpose."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, PURPOSES.index(purpose)])))
