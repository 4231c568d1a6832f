"""Random numbers: one seed a run, and from it a generator of its own for each purpose."""

import numpy as np
import torch

PURPOSES = ("init", "training", "evaluation", "examples")


def _sequence(seed: int, purpose: str) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, PURPOSES.index(purpose)])


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The generator of a run for one of PURPOSES. Raises ValueError for another purpose."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, purpose)))


def seed_torch(seed: int, purpose: str) -> None:
    """Seed torch's global generator, which initialises the networks."""
    torch.manual_seed(int(_sequence(seed, purpose).generate_state(1, np.uint64)[0] >> np.uint64(1)))
