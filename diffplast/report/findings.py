"""What a task brings to the report: its claims, figures and texts, all in its folder `findings/`.

`diffplast/tasks/<task>/findings/__init__.py` binds one `Findings` to the name FINDINGS. A task without that folder gets
its learning curves and no claims.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from PIL import Image

from diffplast.report.networks import Laboratory
from diffplast.report.paper import PaperCurve, Quoted
from diffplast.report.portrait import Portrait
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

    laboratory: returns the networks that the page runs, live, and what else lab.html shows; None where no network is
    kept. player: returns what player.html shows, as plain values; nothing where there is none. The folder of the
    findings holds lab.html, lab.js and lab.css, or player.html, player.js and player.css. portrait: returns a network
    over an episode, for the page's introduction, which has the first one that there is.
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
    laboratory: Callable[[TaskResults], Laboratory | None] | None = None
    player: Callable[[TaskResults], dict] | None = None
    portrait: Callable[[TaskResults], Portrait | None] | None = None


def load(task: str) -> Findings:
    """Return the findings of a task: those of its folder, or none where it has no such folder."""
    package = f"diffplast.tasks.{task}.findings"
    try:
        return import_module(package).FINDINGS
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        return Findings()
