"""What a task brings to the report: its claims and figures, in its folder `findings/`.

`diffplast/tasks/<task>/findings/__init__.py` binds one `Findings` to the name FINDINGS. A task without that folder gets
its learning curves and no claims.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from PIL import Image

from diffplast.report.paper import PaperCurve, Quoted
from diffplast.report.results import TaskResults

if TYPE_CHECKING:
    from diffplast.report.claims import Claim

Draw = Callable[[TaskResults], tuple[Figure, str]]
"""Draws a figure, headed by its finding; returns it with its description in words."""
Animate = Callable[[TaskResults], tuple[list[Image.Image], list[int]]]
"""Draws the frames of an animation; returns them with the milliseconds that each stays."""


@dataclass(frozen=True)
class Findings:
    """What a task shows.

    claims: sentences of the paper, with the rules that judge them. quoted: the paper's numbers that the task is
    compared with. curves: the paper's learning curve of an arm, in the task's metric. heading: a heading of the
    learning curves instead of the general one. level: a value of the metric that is marked across the curves.
    log_episodes: whether arms differ by orders of magnitude in the length of their training. figures, animations:
    further ones by file name. headline: whether it is in the first figure, of README and page. program_seconds: time of
    a training episode of the released program, by arm.
    """

    claims: tuple["Claim", ...] = ()
    quoted: tuple[Quoted, ...] = ()
    curves: dict[str, PaperCurve] = field(default_factory=dict)
    heading: Callable[[TaskResults], str] | None = None
    level: float | None = None
    log_episodes: bool = False
    figures: dict[str, Draw] = field(default_factory=dict)
    animations: dict[str, Animate] = field(default_factory=dict)
    headline: bool = False
    program_seconds: dict[str, float] = field(default_factory=dict)


def load(task: str) -> Findings:
    """Return the findings of a task: those of its folder, or none where it has no such folder."""
    return bound(task, "findings", "FINDINGS", Findings())


def bound(task: str, folder: str, name: str, default: Any) -> Any:
    """Return what a folder of a task binds to a name; the default where it binds nothing, or there is no folder."""
    package = f"diffplast.tasks.{task}.{folder}"
    try:
        return getattr(import_module(package), name, default)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        return default
