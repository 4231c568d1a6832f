"""The tasks: every module of this package is one, and binds its class to the name TASK."""

import importlib
import pkgutil

from diffplast import UserError
from diffplast.core.task import Task


def names() -> list[str]:
    """Names of all tasks, found by looking into this package; none is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> type[Task]:
    """The class of the task called `name`. Raises UserError where there is none."""
    if name not in names():
        raise UserError(f"unknown task {name!r}; known: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").TASK
