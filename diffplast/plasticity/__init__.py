"""The plastic recurrence: one function, several implementations that agree. README.md derives them."""

from .recurrence import PlasticRollout, plastic_rnn
from .rnn import PlasticRNN

__all__ = ["PlasticRNN", "PlasticRollout", "plastic_rnn"]
