"""What is held out: drawn once, with a seed of its own, and saved with the data."""

import numpy as np

from diffplast import UserError


def hold_out(count: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices below `count`: those for training, and `held_out` of them for tests.

    Raises UserError where one of the two would be empty.
    """
    if not 0 < held_out < count:
        raise UserError(f"{held_out} of {count} cannot be held out")
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
