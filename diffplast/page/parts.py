"""What a task brings to the page beside its figures, in its folder `page/`.

The folder holds text.html, the words at the head of the task's section. Where `diffplast/tasks/<task>/page/__init__.py`
binds a `Parts` to the name PARTS, it holds what that names too. A task without that folder has the general words.
"""

from collections.abc import Callable
from dataclasses import dataclass

from diffplast.page.networks import Laboratory
from diffplast.page.portrait import Portrait
from diffplast.report.findings import bound
from diffplast.report.results import TaskResults


@dataclass(frozen=True)
class Parts:
    """What moves.

    laboratory: returns the networks that the page runs, live, and what else lab.html shows; None where no network is
    kept. With lab.html, lab.js and lab.css.
    player: returns what player.html shows, as plain values; nothing where there is none. With player.html, player.js
    and player.css.
    portrait: returns a network over an episode, for the page's introduction, which has the first one that there is.
    """

    laboratory: Callable[[TaskResults], Laboratory | None] | None = None
    player: Callable[[TaskResults], dict] | None = None
    portrait: Callable[[TaskResults], Portrait | None] | None = None


def load(task: str) -> Parts:
    """Return the parts of a task: those of its folder, or none."""
    return bound(task, "page", "PARTS", Parts())
