"""Writes the figures of a task: its learning curves, and what its findings add to them."""

from pathlib import Path

from diffplast.report import findings, style
from diffplast.report.curves import learning_curves, table
from diffplast.report.results import TaskResults


def names(task: str) -> list[str]:
    """Return the file names of a task's figures, without ending."""
    return [task, *findings.load(task).figures]


def write(results: TaskResults, folder: Path) -> None:
    """Write all figures of a task to folder/figures/TASK, and its curves for `dvc plots` to folder/curves."""
    shown, place = findings.load(results.name), folder / "figures" / results.name
    with style.in_style():
        for name, draw in {results.name: learning_curves, **shown.figures}.items():
            figure, description = draw(results)
            style.save(figure, description, place / name)
        for name, animate in shown.animations.items():
            style.animate(*animate(results), place / name)
    (folder / "curves").mkdir(parents=True, exist_ok=True)
    table(results).to_csv(folder / "curves" / f"{results.name}.csv", index=False, float_format="%.6g")
