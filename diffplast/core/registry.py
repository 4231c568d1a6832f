"""The tasks, by name. A task is a folder of `diffplast/tasks/`; CONTRIBUTING.md says what is in it."""

from importlib import import_module
from typing import TYPE_CHECKING

from diffplast.core.errors import UserError

if TYPE_CHECKING:
    from diffplast.core.task import Task

TASKS = ("binary", "binary_small", "images", "omniglot", "maze")
"""Every task, in the order of the report. A name is a folder's, a block's of params.yaml and a stage's."""


def names() -> tuple[str, ...]:
    """Names of all tasks."""
    return TASKS


def load(name: str) -> "type[Task]":
    """Import the class of the task called `name`. Raises UserError where there is none."""
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}; known: {', '.join(TASKS)}")
    return import_module(f"diffplast.tasks.{name}.experiment.task").TASK
