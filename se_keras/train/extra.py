"""A clear word where the extra `train` is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from se_keras.errors import MissingExtraError


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
