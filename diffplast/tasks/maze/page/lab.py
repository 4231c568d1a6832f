"""What the page's live maze is made of: the trained agents, one before its training, and the maze."""

import numpy as np
import torch

from diffplast.core import seeds
from diffplast.page.networks import Laboratory, Network, kept, packed
from diffplast.report import numbers
from diffplast.report.results import RunResult, TaskResults
from diffplast.tasks.maze.experiment.env import MOVES, maze_walls
from diffplast.tasks.maze.findings.paper import CROSSING

ARMS = ("plastic", "nonplastic", "homogeneous")
"""Those whose agents can be chosen; the first two are shown at first."""


def laboratory(results: TaskResults) -> Laboratory | None:
    """Return the agents and the maze; None where no agent is kept.

    data: walls (rows, columns) of 0 or 1, moves, steps and rewards as in `MazeEnv`. behind: see `_behind`. agents, one
    a network: its colour, what it is given, and its mean reward on unseen episodes in words, None of one that was not
    evaluated.
    """
    found = kept(results, ARMS)
    if not found:
        return None
    agents = [
        {"color": network.color, "inputs": results.setting("inputs", network.arm), "mean": _mean(results, run)}
        for network, run in found
    ]
    networks = [network for network, _ in found]
    if networks[0].arm == ARMS[0]:
        networks.append(_untrained(results, found[0][1]))
        agents.append(agents[0] | {"mean": None})
    size = results.experiment("size")
    data = {"agents": agents, "behind": _behind(results), "moves": MOVES}
    data |= {key: results.experiment(key) for key in ("steps", "goal_reward", "bump_reward")}
    return Laboratory(networks, data | {"walls": maze_walls(size).astype(int).tolist()})


def _behind(results: TaskResults) -> int | None:
    """Return for how many episodes the paper's plastic agents are behind, where ours are and were trained for fewer."""
    plastic, others = (results.finished(arm) for arm in ARMS[:2])
    if not plastic or not others or plastic[0].episodes >= CROSSING[0].value:
        return None
    ahead = np.median(results.values(ARMS[0])) > np.median(results.values(ARMS[1]))
    return None if ahead else CROSSING[0].value


def _mean(results: TaskResults, run: RunResult) -> str:
    return f"mean {numbers.number(run.metric(results.metric))} of {run.metrics['test_episodes']:,} unseen episodes"


def _untrained(results: TaskResults, run: RunResult) -> Network:
    """Return the agent that a run started with: its seed makes it again."""
    settings = getattr(results.block, results.scale)
    task = results.kind(results.block.experiment, settings, run.run.arm, torch.device("cpu"))
    network = task.network(seeds.generator(run.run.seed, "init"))
    arrays = {key: value.numpy() for key, value in network.state_dict().items()}
    label = results.label(run.run.arm)
    return packed(results, run.run.arm, f"{label}, before training", f"{run.run.name}, 0 episodes", arrays)
