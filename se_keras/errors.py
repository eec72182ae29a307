"""The errors that a user can mend."""


class InputError(ValueError):
    """Something asked for can't be had; the message says what, and the remedy.

    The command line prints it and ends with exit code 2. Anything else that is raised is a bug.
    """


class MissingExtraError(InputError, ImportError):
    """A package of an optional extra is not installed."""
