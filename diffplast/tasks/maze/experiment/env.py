"""The maze: many of them at once, as a Gymnasium vector environment, without a loop over mazes."""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Row and column that each action adds: up, down, left, right."""

REWARD, TIME = 9, 10
"""Entries of an observation behind the nine of the view; the last action follows."""


def maze_walls(size: int) -> np.ndarray:
    """Walls of a maze, bool (size, size): around it, and a pillar at every even row and column but the centre."""
    walls = np.zeros((size, size), dtype=bool)
    walls[[0, -1], :] = walls[:, [0, -1]] = walls[::2, ::2] = True
    walls[size // 2, size // 2] = False
    return walls


class MazeEnv(VectorEnv):
    """`num_envs` mazes of `size` × `size` cells, walls around them counted, each with its own invisible goal.

    An episode has `steps` steps and starts in the centre. The goal is one random free cell for the whole episode.
    A move onto it gives `goal_reward` and takes the agent to a random free cell (which may be the goal: it counts
    again only when moved onto again). A move into a wall gives `bump_reward` and leaves the agent where it is.
    Actions are indices of MOVES.

    An observation is 15 float32: the 3 × 3 cells around the agent, row by row (1 wall, 0 free); the last step's
    reward; the share of the episode that has passed; the last action, one-hot. After a reset the last two are 0.

    All mazes end together, after `steps` steps, by termination: the end is part of the task, since the agent sees
    the time. The step after the last one starts new episodes, whatever the actions (AutoresetMode.NEXT_STEP).

    Attributes: walls, as `maze_walls`; cell and goal (num_envs,): where each agent and its goal is, as an index
    into the flattened walls.
    """

    def __init__(
        self,
        num_envs: int,
        size: int = 9,
        steps: int = 250,
        goal_reward: float = 10.0,
        bump_reward: float = -0.1,
    ):
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.num_envs = num_envs
        self.steps = steps
        self.goal_reward = np.float32(goal_reward)
        self.bump_reward = np.float32(bump_reward)
        self.walls = maze_walls(size)
        self._free = np.flatnonzero(~self.walls)
        self._centre = size // 2 * size + size // 2
        self._next, self._views = _tables(self.walls)
        self._one_hot = np.eye(len(MOVES), dtype=np.float32)

        low = np.zeros(TIME + 1 + len(MOVES), dtype=np.float32)
        high = np.ones_like(low)
        low[REWARD] = min(0, self.goal_reward, self.bump_reward)
        high[REWARD] = max(0, self.goal_reward, self.bump_reward)
        self.single_observation_space = spaces.Box(low, high)
        self.single_action_space = spaces.Discrete(len(MOVES))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes; after the same `seed` they have the same goals and the same cells to be moved to.

        All random numbers of the episodes are drawn here, so that they do not depend on what the agents do.
        """
        super().reset(seed=seed)
        self.goal = self.np_random.choice(self._free, self.num_envs)
        self._moved_to = self.np_random.choice(self._free, (self.steps, self.num_envs))
        self.cell = np.full(self.num_envs, self._centre)
        self._time = 0
        observation = np.zeros((self.num_envs, TIME + 1 + len(MOVES)), dtype=np.float32)
        observation[:, :REWARD] = self._views[self.cell]
        return observation, {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move every agent; see the class. The arrays returned are new ones."""
        no = np.zeros(self.num_envs, dtype=bool)
        if self._time == self.steps:
            observation, info = self.reset()
            return observation, observation[:, REWARD].copy(), no, no.copy(), info
        cell = self._next[self.cell, actions]
        bumped = cell == self.cell
        reached = (cell == self.goal) & ~bumped
        reward = bumped * self.bump_reward
        if reached.any():
            reward[reached] = self.goal_reward
            cell = np.where(reached, self._moved_to[self._time], cell)
        self.cell = cell
        self._time += 1

        observation = np.empty((self.num_envs, TIME + 1 + len(MOVES)), dtype=np.float32)
        observation[:, :REWARD] = self._views[cell]
        observation[:, REWARD] = reward
        observation[:, TIME] = self._time / self.steps
        observation[:, TIME + 1 :] = self._one_hot[actions]
        return observation, reward, no if self._time < self.steps else ~no, no.copy(), {}


def _tables(walls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every cell: where each action leads to, int (cells, actions), and the view from it, float32 (cells, 9)."""
    rows, columns = walls.shape
    here = np.arange(walls.size).reshape(walls.shape)
    padded = np.pad(walls, 1, constant_values=True)

    def neighbours(padded_values: np.ndarray, row: int, column: int) -> np.ndarray:
        return padded_values[1 + row : 1 + row + rows, 1 + column : 1 + column + columns]

    indices = np.pad(here, 1)
    following = [np.where(neighbours(padded, *move), here, neighbours(indices, *move)) for move in MOVES]
    views = [neighbours(padded, row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    return (
        np.stack(following, axis=-1).reshape(walls.size, len(MOVES)),
        np.stack(views, axis=-1).reshape(walls.size, 9).astype(np.float32),
    )
