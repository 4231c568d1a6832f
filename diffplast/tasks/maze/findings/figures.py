"""Where an agent goes in an episode before training and in one after."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from diffplast.report import numbers, style
from diffplast.report.results import RunResult, TaskResults

# Without the yellow end, which a white floor swallows.
TIME = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)), name="time")
GOAL = "#e69f00"
WHEN = ("early", "late")
"""The two networks, as the result files call them."""
NOTHING = "The plastic agent's ways: no finished run"


def track(path: np.ndarray, reward: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return line segments (S, 2, 2) of (row, column) and their steps (S,).

    A step that finds the reward leads to the goal, and the next one starts where the agent was put.
    """
    ends = np.where(reward[:, None] > 0, goal[None], path[1:])
    return np.stack([path[:-1], ends], axis=1).astype(float), np.arange(len(reward))


def draw_episode(axes: Axes, walls: np.ndarray, path: np.ndarray, reward: np.ndarray, goal: np.ndarray) -> None:
    """Draw the maze, the goal and the agent's way; later steps are lighter and a little aside, to hide none."""
    axes.imshow(walls, cmap="Greys", vmin=0, vmax=1.6)
    axes.plot(goal[1], goal[0], "s", color=GOAL, markersize=8.5, zorder=2)
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


def typical(shown: dict[str, np.ndarray]) -> int:
    """Return, of the episodes kept, the one nearest to the median rewards before and after training, by rank."""
    aside = 0
    for key in WHEN:
        rank = np.argsort(np.argsort(shown[f"{key}_reward"].astype(float).sum(axis=1), kind="stable"))
        aside = aside + np.abs(rank - (len(rank) - 1) / 2)
    return int(np.argmin(aside))


def when(run: RunResult) -> tuple[str, str]:
    """Write the two networks in words."""
    return "before training", f"after {int(run.metrics['train_episodes']):,} episodes"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def plastic_run(results: TaskResults) -> RunResult | None:
    """Return the first finished run of the plastic arm, if there is one."""
    runs = results.finished("plastic") if "plastic" in results.arms else []
    return runs[0] if runs else None


def paths(results: TaskResults) -> tuple[Figure, str]:
    """Draw the plastic agent in one maze before and after training: of those kept, a typical one."""
    run = plastic_run(results)
    if run is None:
        figure, heading = Figure(figsize=(style.WIDTH, 0.6)), NOTHING
        style.title(figure, heading)
        return figure, heading
    shown = run.examples()
    figure = Figure(figsize=(style.WIDTH, 2.5))
    panels = figure.subplots(1, 2)
    found, totals = [], []
    episode = typical(shown)
    for axes, key, label in zip(panels, WHEN, when(run), strict=True):
        reward, goal = shown[f"{key}_reward"][episode].astype(float), shown[f"{key}_goal"][episode]
        draw_episode(axes, shown["walls"], shown[f"{key}_path"][episode], reward, goal)
        found.append(_times(int((reward > 0).sum())))
        totals.append(numbers.number(round(float(reward.sum()), 1)))
        axes.set_title(f"{label}\nreward {totals[-1]}")
    colours = ScalarMappable(Normalize(0, len(reward)), TIME)
    bar = figure.colorbar(colours, ax=list(panels), orientation="horizontal", fraction=0.045, pad=0.02, aspect=40)
    bar.set_label("step of the episode", labelpad=1)
    bar.outline.set_linewidth(0.4)
    heading = f"The plastic agent finds the reward {found[0]} before training, {found[1]} {when(run)[1]}"
    style.title(figure, heading)
    return figure, (
        f"Two pictures of the maze from above with walls, the hidden reward's cell and the agent's way, coloured by "
        f"time; finding the reward puts the agent at a random place. {heading}. "
        f"Reward of the episodes: {totals[0]} and {totals[1]}."
    )
