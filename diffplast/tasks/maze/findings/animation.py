"""The agent's episodes before and after training, step by step: as an animation, and as numbers for the page."""

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from diffplast.report import numbers, style
from diffplast.report.results import TaskResults

from .figures import GOAL, NOTHING, WHEN, plastic_run, track, typical, when

CELL = 20
"""Pixels of a cell."""
FINE = 2
"""Pictures are drawn larger by this factor, then averaged, so that their edges are smooth."""
HEAD = 48
"""Pixels above the mazes, for words."""
TRAIL = 15
"""Steps that are shown behind the agent."""
WALL = "#737373"
LAST_MS = 2000
STEP_MS = 90


def animation(results: TaskResults) -> tuple[list[Image.Image], list[int]]:
    """Draw the two episodes of `figures.paths` side by side, with the reward so far; return frames and times in ms."""
    run = plastic_run(results)
    if run is None:
        picture = Image.new("RGB", (FINE * 400, FINE * HEAD), style.PAPER)
        _write(picture, (8, 16), NOTHING)
        return [picture.reduce(FINE)], [LAST_MS]
    shown = run.examples()
    episode = typical(shown)
    walls, goal = shown["walls"], shown["late_goal"][episode].astype(int)  # from int8, which pixels overflow
    rows, columns = walls.shape
    width = (columns + 1) * CELL
    empty = Image.new("RGB", (FINE * 2 * width, FINE * (HEAD + rows * CELL + CELL // 2)), style.PAPER)
    panels = []
    for index, (key, label) in enumerate(zip(WHEN, when(run), strict=True)):
        path, rewards = shown[f"{key}_path"][episode].astype(float), shown[f"{key}_reward"][episode].astype(float)
        corner = np.array([HEAD, index * width + CELL // 2])
        for cell in np.argwhere(walls):
            _square(empty, corner + CELL * cell, WALL)
        _square(empty, corner + CELL * goal, GOAL)
        _write(empty, (corner[1], 4), label)
        centre = corner + CELL / 2
        lines = centre + CELL * track(path, rewards, goal)[0]
        panels.append((corner[1], centre + CELL * path, lines, np.cumsum([0, *rewards])))
    steps = len(shown["late_path"][episode])
    frames = [_frame(empty, panels, step, style.arm_style("plastic", results.arms)["color"]) for step in range(steps)]
    colours = frames[-1].quantize(32)  # one palette for all frames: a third of the size
    frames = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    return frames, [STEP_MS] * (steps - 1) + [LAST_MS]


def _frame(empty: Image.Image, panels: list[tuple], step: int, colour: str) -> Image.Image:
    """Draw the mazes after `step` steps."""
    picture = empty.copy()
    draw = ImageDraw.Draw(picture)
    for left, places, lines, rewards in panels:
        for age in range(min(TRAIL, step), 0, -1):
            (y0, x0), (y1, x1) = FINE * lines[step - age]
            draw.line((x0, y0, x1, y1), colour, FINE * max(1, 4 - age // 4))
        y, x = FINE * places[step]
        radius = FINE * 0.35 * CELL
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), style.INK)
        _write(picture, (left, 24), f"step {step}, reward {numbers.number(round(float(rewards[step]), 1))}")
    return picture.reduce(FINE)


def _square(picture: Image.Image, corner: np.ndarray, colour: str) -> None:
    y, x = (int(FINE * place) for place in corner)
    ImageDraw.Draw(picture).rectangle((x, y, x + FINE * CELL - 1, y + FINE * CELL - 1), colour)


def _write(picture: Image.Image, place: tuple[int, int], text: str) -> None:
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), FINE * 13)
    ImageDraw.Draw(picture).text((FINE * place[0], FINE * place[1]), text, style.INK, font)


def episodes(results: TaskResults) -> dict:
    """Return what the page's player shows, as plain numbers; nothing where no run has finished.

    walls (rows, columns): 0 or 1. agents: the first finished run of every arm, with the `typical` maze; of every
    maze the goal (row, column), and for early and late the path (T + 1) of (row, column) and the rewards (T).
    """
    agents, walls = [], []
    for arm in results.arms:
        for run in results.finished(arm)[:1]:
            shown = run.examples()
            walls = shown["walls"].astype(int).tolist()
            mazes = [
                {"goal": shown["late_goal"][maze].tolist()}
                | {
                    key: {
                        "path": shown[f"{key}_path"][maze].tolist(),
                        "rewards": shown[f"{key}_reward"][maze].astype(float).round(3).tolist(),
                    }
                    for key in WHEN
                }
                for maze in range(len(shown["late_goal"]))
            ]
            agents.append(
                {
                    "name": f"{results.label(arm)}, seed {run.run.seed}",
                    "color": style.arm_style(arm, results.arms)["color"],
                    "when": when(run),
                    "typical": typical(shown),
                    "mazes": mazes,
                }
            )
    return {"walls": walls, "agents": agents} if agents else {}
