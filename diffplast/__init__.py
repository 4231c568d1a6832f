"""Differentiable plasticity (Miconi, Clune, Stanley, ICML 2018): the plastic layer, and the reproduction around it."""

from importlib import import_module

__all__ = ["PlasticRNN", "PlasticRollout", "plastic_rnn"]


def __getattr__(name: str):
    """Import the layer when it is asked for: the report needs no torch."""
    if name in __all__:
        return getattr(import_module("diffplast.plasticity"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
