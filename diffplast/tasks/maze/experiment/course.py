"""What a batch of episodes is made of, before the agent acts and after. Compiled code takes both as they are."""

from typing import NamedTuple

import numpy as np


class Episodes(NamedTuple):
    """The randomness of a batch of episodes.

    goal (B,) and moved_to (T, B), int64: cells, as `env.draw` gives them. chance (T, B), float32 in [0, 1): the action
    taken is the first one for which the sum of the probabilities up to it is larger.
    """

    goal: np.ndarray
    moved_to: np.ndarray
    chance: np.ndarray


class Course(NamedTuple):
    """What happened in a batch of episodes.

    actions, int64 (T, B), and rewards, float32 (T, B): what the agent did and got for it. cells, int64 (T + 1, B):
    where it was, as indices into the flattened walls; row 0 is before the first step.
    """

    actions: np.ndarray
    rewards: np.ndarray
    cells: np.ndarray

    def total_reward(self) -> np.ndarray:
        """The sum of each episode's rewards, float64 (B,), added in the order in which they came."""
        return np.add.accumulate(self.rewards, axis=0, dtype=np.float64)[-1]
