"""Where an agent went in an episode before training and in one after."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from diffplast import summary
from diffplast.results import TaskResults

from . import style

# Without the yellow end, which a white floor swallows.
TIME = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)), name="time")


def track(path: np.ndarray, reward: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Line segments (S, 2, 2) of (row, column) and their steps (S,).

    A step that finds the reward leads to the goal, and the next one starts where the agent was put.
    """
    ends = np.where(reward[:, None] > 0, goal[None], path[1:])
    return np.stack([path[:-1], ends], axis=1).astype(float), np.arange(len(reward))


def draw_episode(axes: Axes, walls: np.ndarray, path: np.ndarray, reward: np.ndarray, goal: np.ndarray) -> None:
    """The maze, the goal and the agent's way; later steps are lighter and a little aside, so that none is hidden."""
    axes.imshow(walls, cmap="Greys", vmin=0, vmax=1.6)
    axes.plot(goal[1], goal[0], "s", color="#e69f00", markersize=8.5, zorder=2)
    segments, steps = track(path, reward, goal)
    aside = np.random.default_rng(0).uniform(-0.26, 0.26, path.shape)
    segments[:, 0] += aside[:-1]
    segments[:, 1] += aside[1:]
    lines = LineCollection(segments[:, :, ::-1], cmap=TIME, norm=Normalize(0, len(reward)), linewidths=0.8)
    lines.set_array(steps)
    lines.set_zorder(3)
    axes.add_collection(lines)
    axes.plot(path[0][1], path[0][0], "o", color=style.INK, markersize=4, zorder=4)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def paths(results: TaskResults) -> tuple[Figure, str]:
    """The plastic agent in one maze before and after training: of those kept, the one of median reward after it."""
    runs = results.finished("plastic") if "plastic" in results.arms else []
    figure = Figure(figsize=(style.WIDTH, 2.5 if runs else 0.6))
    if not runs:
        heading = "The plastic agent's ways: no finished run"
        style.title(figure, heading)
        return figure, heading
    run = runs[0]
    shown = run.examples()
    panels = figure.subplots(1, 2)
    found, totals = [], []
    later = shown["late_reward"].astype(float).sum(axis=1)
    episode = np.argsort(later, kind="stable")[len(later) // 2]
    trained = f"after {int(run.metrics['train_episodes']):,} episodes"
    for axes, (when, label) in zip(panels, (("early", "before training"), ("late", trained)), strict=True):
        reward, goal = shown[f"{when}_reward"][episode].astype(float), shown[f"{when}_goal"][episode]
        draw_episode(axes, shown["walls"], shown[f"{when}_path"][episode], reward, goal)
        found.append(int((reward > 0).sum()))
        totals.append(summary.number(round(float(reward.sum()), 1)))
        axes.set_title(f"{label}\nreward {totals[-1]}")
    colours = ScalarMappable(Normalize(0, len(reward)), TIME)
    bar = figure.colorbar(colours, ax=list(panels), orientation="horizontal", fraction=0.045, pad=0.02, aspect=40)
    bar.set_label("step of the episode", labelpad=1)
    bar.outline.set_linewidth(0.4)
    heading = f"The plastic agent finds the reward {found[0]} times before training, {found[1]} times {trained}"
    style.title(figure, heading)
    return figure, (
        f"Two pictures of the maze from above with walls, the hidden reward's cell and the agent's way, coloured by "
        f"time; finding the reward puts the agent at a random place. {heading}. "
        f"Reward of the episodes: {totals[0]} and {totals[1]}."
    )
