"""Differentiable plasticity (Miconi, Clune, Stanley, ICML 2018): the networks, the four tasks, the evidence."""


class UserError(ValueError):
    """What the user can mend: the message says what is wrong, where, and what to do."""
