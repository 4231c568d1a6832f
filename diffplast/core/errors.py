"""The error that a user can mend."""


class UserError(ValueError):
    """What the user can mend: the message says what is wrong, where, and what to do."""
