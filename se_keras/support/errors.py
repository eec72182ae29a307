"""The errors that the command line tells in one line."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something asked for can't be had; the message says what, and the remedy.

    The command line prints it and ends with exit code 2. Anything else that is raised, but for
    `WrongResultError`, is a bug.
    """


class MissingExtraError(InputError, ImportError):
    """A package of an optional extra is not installed."""


class WrongResultError(RuntimeError):
    """A file that failed its check; no user can mend that, but none needs the traceback."""


@contextmanager
def as_input_error(failing: str = "") -> Iterator[None]:
    """Inside, or in a function that it decorates, a `ValueError` is about what the user gave.

    Args:
        failing: what can't be done, put before the message.

    Raises:
        InputError: in place of any other `ValueError`.

    Example:

    >>> from se_keras.support.errors import as_input_error
    >>> with as_input_error("can't count"):
    ...     int("three")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: can't count: invalid literal for int() with base 10: 'three'
    """
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{failing}: {error}" if failing else str(error)) from error


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports inside come from this extra of the package; says how to install it if one is missing.

    Raises:
        MissingExtraError: if an import inside fails.

    Example:

    >>> from se_keras.support.errors import extra
    >>> with extra("train"):
    ...     import sklearn
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"the package {error.name!r} is missing: pip install 'se_keras[{name}]'"
        ) from error


def lines_of(error: BaseException) -> list[str]:
    """The lines of an error's message that say something; its class, if it has no message.

    Example:

    >>> from se_keras.support.errors import lines_of
    >>> lines_of(OSError("no  space\\n\\non the disk")), lines_of(TimeoutError())
    (['no space', 'on the disk'], ['TimeoutError'])
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return [line for line in lines if line] or [type(error).__name__]


def in_one_line(error: BaseException) -> str:
    return " ".join(lines_of(error))
