"""The plastic recurrence: one function, several implementations that agree. README.md derives them."""

from .recurrence import PlasticRollout, plastic_rnn
from .rnn import PlasticRNN, plastic_parameters

__all__ = ["PlasticRNN", "PlasticRollout", "plastic_parameters", "plastic_rnn"]
