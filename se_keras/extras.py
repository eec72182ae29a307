"""A clear word where an optional package is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from se_keras.errors import MissingExtraError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports inside come from this extra of the package; says how to install it if one is missing.

    Raises:
        MissingExtraError: if an import inside fails.

    Example:

    >>> from se_keras.extras import extra
    >>> with extra("train"):
    ...     import sklearn
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"the package {error.name!r} is missing: pip install 'se_keras[{name}]'"
        ) from error
