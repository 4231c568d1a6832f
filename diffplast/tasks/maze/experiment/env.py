"""The maze: many of them at once, as a Gymnasium vector environment, without a loop over mazes."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Row and column that each action adds: up, down, left, right."""

INPUTS = {"view": 9, "reward": 1, "step": 1, "time": 1, "action": len(MOVES), "bias": 1}
"""What an agent may be given, and how many numbers each is; `MazeEnv` says what they are."""


class Tables(NamedTuple):
    """What there is to know of a maze of one size; cells are indices into the flattened walls.

    walls: bool (size, size). free: the cells that are no walls, int64. centre: the cell where an episode starts.
    following, int64 (cells, actions): where each action leads to. views, float32 (cells, 9): walls around each cell.
    """

    walls: np.ndarray
    free: np.ndarray
    centre: int
    following: np.ndarray
    views: np.ndarray


def maze_walls(size: int) -> np.ndarray:
    """Walls of a maze, bool (size, size): around it, and a pillar at every even row and column but the centre."""
    walls = np.zeros((size, size), dtype=bool)
    walls[[0, -1], :] = walls[:, [0, -1]] = walls[::2, ::2] = True
    walls[size // 2, size // 2] = False
    return walls


@lru_cache
def tables(size: int) -> Tables:
    """The tables of a maze of `size` x `size` cells; the arrays cannot be written to."""
    walls = maze_walls(size)
    here = np.arange(walls.size).reshape(walls.shape)
    padded = np.pad(walls, 1, constant_values=True)
    indices = np.pad(here, 1)

    def beside(values: np.ndarray, row: int, column: int) -> np.ndarray:
        return values[1 + row : 1 + row + size, 1 + column : 1 + column + size]

    following = [np.where(beside(padded, *move), here, beside(indices, *move)) for move in MOVES]
    views = [beside(padded, row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    found = Tables(
        walls,
        np.flatnonzero(~walls),
        size // 2 * size + size // 2,
        np.stack(following, axis=-1).reshape(walls.size, len(MOVES)),
        np.stack(views, axis=-1).reshape(walls.size, INPUTS["view"]).astype(np.float32),
    )
    for array in (found.walls, found.free, found.following, found.views):
        array.setflags(write=False)
    return found


def columns(inputs: Sequence[str]) -> dict[str, slice]:
    """Where each of `inputs` stands in an observation.

    Raises ValueError unless they are one or more of INPUTS, each once.
    """
    if not inputs or len(set(inputs)) < len(inputs) or not set(inputs) <= set(INPUTS):
        raise ValueError(f"inputs: expected one or more of {', '.join(INPUTS)}, each once, got {list(inputs)}")
    places, end = {}, 0
    for name in inputs:
        places[name] = slice(end, end + INPUTS[name])
        end += INPUTS[name]
    return places


def draw(generator: np.random.Generator, size: int, steps: int, mazes: int) -> tuple[np.ndarray, np.ndarray]:
    """The randomness of episodes: goals (mazes,), and the cells (steps, mazes) to be moved to; any free cells."""
    free = tables(size).free
    return free[generator.integers(len(free), size=mazes)], free[generator.integers(len(free), size=(steps, mazes))]


class MazeEnv(VectorEnv):
    """`num_envs` mazes of `size` x `size` cells, walls around them counted, each with its own invisible goal.

    An episode has `steps` steps and starts in the centre. The goal is one random free cell for the whole episode. A
    move into a wall gives `bump_reward` and leaves the agent where it is. An agent whose move ends on the goal gets
    `goal_reward` and is taken to a random free cell. That may be the goal's: what is paid then is the next move that
    ends there, and one into a wall does, for both rewards at once (as in the paper's program). Actions are indices
    of MOVES.

    An observation is the float32 numbers of `inputs`, in their order:
    view: the 3 x 3 cells around the agent, row by row, 1 a wall, 0 free.
    reward: the last step's, 0 after a reset.
    step: how many steps of the episode have passed, 0 to `steps`.
    time: their share of the episode, 0 to 1.
    action: the last one, one-hot, zeros after a reset.
    bias: 1.

    An episode ends by termination: the end is part of the task. The step after a maze's last one starts its next
    episode, whatever its action (AutoresetMode.NEXT_STEP).

    Attributes: walls, as `maze_walls`; cell and goal (num_envs,): where each agent and its goal is, as an index into
    the flattened walls.

    Raises ValueError where an argument is not as said here.
    """

    def __init__(
        self,
        num_envs: int,
        size: int = 11,
        steps: int = 250,
        goal_reward: float = 10.0,
        bump_reward: float = -0.1,
        inputs: Sequence[str] = ("view", "reward", "step", "bias"),
    ):
        for name, value, least in (("num_envs", num_envs, 1), ("size", size, 3), ("steps", steps, 1)):
            if value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")
        if not (math.isfinite(goal_reward) and math.isfinite(bump_reward)):
            raise ValueError(f"rewards: expected finite numbers, got {goal_reward} and {bump_reward}")
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.num_envs, self.size, self.steps = num_envs, size, steps
        self.goal_reward, self.bump_reward = np.float32(goal_reward), np.float32(bump_reward)
        self._tables, self._columns = tables(size), columns(inputs)
        self.walls = self._tables.walls
        self._time: np.ndarray | None = None

        low = np.zeros(sum(INPUTS[name] for name in inputs), dtype=np.float32)
        high = np.ones_like(low)
        if "reward" in inputs:
            rewards = (0, self.goal_reward, self.bump_reward, self.goal_reward + self.bump_reward)
            low[self._columns["reward"]], high[self._columns["reward"]] = min(rewards), max(rewards)
        if "step" in inputs:
            high[self._columns["step"]] = steps
        self.single_observation_space = spaces.Box(low, high)
        self.single_action_space = spaces.Discrete(len(MOVES))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes; after the same `seed` they have the same goals and the same cells to be moved to.

        All random numbers of the episodes are drawn here, so that they do not depend on what the agents do.

        options: reset_mask, bool (num_envs,): the mazes to start again, the others stay as they are. goal, int
        (num_envs,), and moved_to, int (steps, num_envs): free cells, both in place of random ones.

        Raises TypeError or ValueError, before anything is changed, where the options are not these.
        """
        options = dict(options or {})
        mask = self._checked_mask(options.pop("reset_mask", None))
        given = self._checked_cells(options)
        super().reset(seed=seed)
        goal, moved_to = given or draw(self.np_random, self.size, self.steps, self.num_envs)
        if mask is None:
            mask = np.ones(self.num_envs, dtype=bool)
            self.goal, self._moved_to = goal, moved_to
            self.cell, self._time = np.zeros((2, self.num_envs), dtype=np.int64)
            self._observation = np.empty(self.observation_space.shape, dtype=np.float32)
        self._start(mask, goal, moved_to)
        return self._observation.copy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move every agent; see the class. The arrays returned are new ones.

        Raises gymnasium's ResetNeeded before the first `reset`, and InvalidAction unless there is one action, an
        integer from 0 to 3, for each maze.
        """
        if self._time is None:
            raise ResetNeeded("MazeEnv.step: call reset first")
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise InvalidAction(
                f"expected one integer for each of {self.num_envs} mazes, got {actions.dtype} {actions.shape}"
            )
        if (actions < 0).any() or (actions >= len(MOVES)).any():
            raise InvalidAction(f"expected actions from 0 to {len(MOVES) - 1}, got {actions}")
        over = self._time == self.steps
        cell = self._tables.following[self.cell, actions]
        bumped, reached = cell == self.cell, cell == self.goal
        reward = bumped * self.bump_reward + reached * self.goal_reward
        moved_to = self._moved_to[self._time - over, np.arange(self.num_envs)]
        self.cell = np.where(reached, moved_to, cell)
        self._time = self._time + 1
        self._observe(self._observation, reward, np.eye(len(MOVES), dtype=np.float32)[actions])
        if over.any():
            self._start(over, *draw(self.np_random, self.size, self.steps, self.num_envs))
            reward[over] = 0
        no = np.zeros(self.num_envs, dtype=bool)
        return self._observation.copy(), reward, self._time == self.steps, no, {}

    def _start(self, mask: np.ndarray, goal: np.ndarray, moved_to: np.ndarray) -> None:
        """Put the mazes of a mask at the beginning of episodes with these goals and cells to be moved to."""
        self.goal, self._moved_to = np.where(mask, goal, self.goal), np.where(mask, moved_to, self._moved_to)
        self.cell, self._time = np.where(mask, self._tables.centre, self.cell), np.where(mask, 0, self._time)
        started = np.empty_like(self._observation)
        self._observe(started, 0, 0)
        self._observation[mask] = started[mask]

    def _observe(self, observation: np.ndarray, reward: Any, action: Any) -> None:
        """Fill an observation of all mazes as they are now."""
        values = {
            "view": self._tables.views[self.cell],
            "reward": np.reshape(reward, (-1, 1)),
            "step": self._time[:, None],
            "time": self._time[:, None] / self.steps,
            "action": action,
            "bias": 1,
        }
        for name, place in self._columns.items():
            observation[:, place] = values[name]

    def _checked_mask(self, mask: Any) -> np.ndarray | None:
        """A reset mask that can be used, or None where all mazes start."""
        if mask is None:
            return None
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask']: expected a numpy array of bool, got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask']: expected shape ({self.num_envs},) and at least one True, got {mask}"
            )
        if self._time is None and not mask.all():
            raise ResetNeeded("MazeEnv.reset: the first reset starts all mazes, so it takes no mask")
        return None if self._time is None else mask

    def _checked_cells(self, options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
        """Goals and cells to be moved to that were given, or None."""
        if not options:
            return None
        if set(options) != {"goal", "moved_to"}:
            raise ValueError(f"options: expected reset_mask, or goal and moved_to together, got {', '.join(options)}")
        cells = []
        for name, shape in (("goal", (self.num_envs,)), ("moved_to", (self.steps, self.num_envs))):
            value = np.asarray(options[name])
            if value.shape != shape or not np.isin(value, self._tables.free).all():
                raise ValueError(f"options[{name!r}]: expected free cells of shape {shape}")
            cells.append(value.astype(np.int64))
        return cells[0], cells[1]
