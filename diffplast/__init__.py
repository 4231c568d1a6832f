"""Differentiable plasticity (Miconi, Clune, Stanley, ICML 2018): the plastic layer, and the reproduction around it."""

import os
from importlib import import_module
from importlib.util import find_spec

__all__ = ["PlasticRNN", "PlasticRollout", "plastic_rnn"]

# A notebook hands its own way of drawing on to what it starts; where that is not installed, matplotlib fails to import.
_drawing = os.environ.get("MPLBACKEND", "").removeprefix("module://").partition(".")[0]
if _drawing in ("inline", "matplotlib_inline", "ipykernel", "ipympl"):
    if find_spec("matplotlib_inline" if _drawing == "inline" else _drawing) is None:
        del os.environ["MPLBACKEND"]


def __getattr__(name: str):
    """Import the layer when it is asked for: who runs the stages side by side needs no torch."""
    if name in __all__:
        return getattr(import_module("diffplast.plasticity"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
