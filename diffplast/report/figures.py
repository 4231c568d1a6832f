"""The figures: every task gets its learning curves; what else a task gets is listed here.

A drawing function takes a task's `TaskResults` and returns a figure, headed by its finding, and its description.
Animations are listed apart; their functions return frames and the time of each in milliseconds.
They are named by strings and imported when used, so that a task's figures depend on no other task's.
"""

from importlib import import_module
from pathlib import Path

from diffplast.report import style
from diffplast.report.curves import learning_curves, table
from diffplast.report.results import TaskResults

__all__ = ["ANIMATIONS", "CURVES", "FIGURES", "names", "write"]

# Task -> its own way to draw the learning curves, instead of the general one.
CURVES = {"binary_small": "diffplast.tasks.binary_small.findings.figures:episodes_needed"}

# Task -> further figures by file name.
FIGURES = {
    "images": {
        "images_restored": "diffplast.tasks.images.findings.figures:restored",
        "images_matrices": "diffplast.tasks.images.findings.figures:matrices",
    },
    "omniglot": {"omniglot_table": "diffplast.tasks.omniglot.findings.figures:beside_published"},
    "maze": {"maze_paths": "diffplast.tasks.maze.findings.figures:paths"},
}

# Task -> animations by file name.
ANIMATIONS = {"maze": {"maze_episodes": "diffplast.tasks.maze.findings.animation:animation"}}


def names(task: str) -> list[str]:
    """File names of a task's figures, without ending."""
    return [task, *FIGURES.get(task, {})]


def _function(place: str):
    module, function = place.split(":")
    return getattr(import_module(module), function)


def write(results: TaskResults, folder: Path) -> None:
    """Write all figures of a task to folder/figures, and its curves for `dvc plots` to folder/curves."""
    own = CURVES.get(results.name)
    drawings = {results.name: _function(own) if own else learning_curves}
    drawings |= {name: _function(place) for name, place in FIGURES.get(results.name, {}).items()}
    with style.in_style():
        for name, draw in drawings.items():
            figure, description = draw(results)
            style.save(figure, description, folder / "figures" / name)
        for name, place in ANIMATIONS.get(results.name, {}).items():
            style.animate(*_function(place)(results), folder / "figures" / name)
    (folder / "curves").mkdir(parents=True, exist_ok=True)
    table(results).to_csv(folder / "curves" / f"{results.name}.csv", index=False, float_format="%.6g")
