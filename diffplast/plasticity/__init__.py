"""The plastic recurrence: one function, several implementations that agree. README.md derives them."""

from .recurrence import PlasticRollout, plastic_rnn

__all__ = ["PlasticRollout", "plastic_rnn"]
