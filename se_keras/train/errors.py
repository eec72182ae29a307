"""The errors that a user can mend."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something asked for can't be had; the message says in one line what, and the remedy.

    The command line prints it and ends with exit code 2. Anything else that is raised is a bug.
    """


class MissingExtraError(InputError, ImportError):
    """A package of the optional extra `train` is not installed."""


@contextmanager
def train_extra() -> Iterator[None]:
    """Imports inside come from the extra `train`; says how to install it where one is missing.

    Raises:
        MissingExtraError: if an import inside fails.

    Example:

    >>> with train_extra():
    ...     import sklearn
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"the package {error.name!r} is missing: pip install 'se_keras[train]'"
        ) from error
