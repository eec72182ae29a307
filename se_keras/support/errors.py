"""Errors that the command line shows in one line, without a traceback."""

import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from se_keras.support.signals import stop_if_asked

BACKENDS = ("jax", "tensorflow", "torch")  # the packages of Keras' backends
OTHER_BACKEND = ", or name in KERAS_BACKEND a backend that is installed"
MAX_TEXT = 500  # characters of a reader's message that are shown
MAX_VALUE = 200  # characters of a value that are shown


class InputError(ValueError):
    """The user's input cannot be used; the message says why and how to fix it.

    The command line prints the message and exits with code 2. It does the same for an `OSError`
    and a `WrongResultError`; any other error is a bug.

    Example:

    >>> import se_keras
    >>> try:
    ...     se_keras.SqueezeExcite(ratio=0)
    ... except se_keras.InputError as error:
    ...     print(error)
    `ratio` must be a positive integer, got 0.
    """


class MissingExtraError(InputError, ImportError):
    """A package of an optional extra is not installed; the message says how to install it."""


class WrongResultError(RuntimeError):
    """An exported file failed its self-check: not the user's fault, but a traceback would not help.

    The command line prints the message and exits with code 2.
    """


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a missing package of an optional extra into an error that says what to install.

    Args:
        name: the extra that has the packages imported in the `with` block.

    Raises:
        MissingExtraError: if an import in the block fails.

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


@contextmanager
def backend_package(hint: str = "") -> Iterator[None]:
    """Turn a missing TensorFlow, JAX or PyTorch into an error that says what to install.

    Each backend of Keras needs one of them. Training and export always need TensorFlow.

    Args:
        hint: another remedy, as the end of the sentence.

    Raises:
        MissingExtraError: if one of these packages is missing for an import in the block.

    Example:

    >>> from se_keras.support.errors import backend_package
    >>> with backend_package():
    ...     raise ModuleNotFoundError(name="jax")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.MissingExtraError: The package 'jax' is missing: pip install jax.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in BACKENDS:
            raise
        raise MissingExtraError(
            f"The package {package!r} is missing: pip install {package}{hint}."
        ) from error


def lines_of(error: BaseException) -> list[str]:
    """Return the non-empty lines of an error's message, or its class if there are none.

    Example:

    >>> from se_keras.support.errors import lines_of
    >>> lines_of(OSError("no  space\\n\\non the disk")), lines_of(TimeoutError())
    (['no space', 'on the disk'], ['TimeoutError'])
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return [line for line in lines if line] or [type(error).__name__]


def in_one_line(error: BaseException) -> str:
    """Return an error's message as one line, or its class if the message is empty.

    Example:

    >>> from se_keras.support.errors import in_one_line
    >>> in_one_line(OSError("no space\\non the disk"))
    'no space on the disk'
    """
    return " ".join(lines_of(error))


def shown(value: Any) -> str:
    """Return any value as one line that is not too long, for a message.

    Example:

    >>> import numpy as np
    >>> from se_keras.support.errors import shown
    >>> shown(np.eye(2))
    'array([[1., 0.], [0., 1.]])'
    >>> shown("a" * 1000).count("a"), shown([1] * 1000).count("1")
    (195, 20)
    """
    try:
        text = _SHORT.repr(value)
    except Exception:  # the integer has too many digits, or the class is a stranger's
        text = f"a value of {type(value).__name__} that can't be shown"
    text = re.sub(r"\s*\n\s*", " ", text)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MAX_VALUE
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = _SHORT.maxarray = 20


def no_memory(error: BaseException) -> str:
    """Return a line about a lack of memory; an empty one if the error means something else.

    Example:

    >>> from se_keras.support.errors import no_memory
    >>> no_memory(MemoryError("Unable to allocate 2.00 TiB for an array"))
    'There is not enough memory: Unable to allocate 2.00 TiB for an array.'
    >>> no_memory(ValueError("no array"))
    ''
    """
    text = lines_of(error)[0]
    # TensorFlow's and XLA's error, then PyTorch's, which is a bare RuntimeError.
    named = ("resourceexhausted", "resource_exhausted", "can't allocate memory")
    known = f"{type(error).__name__} {text}".lower()
    if not isinstance(error, MemoryError) and not any(name in known for name in named):
        return ""
    return f"There is not enough memory: {text[:MAX_TEXT].rstrip('.')}."


@contextmanager
def damage_named(head: str) -> Iterator[None]:
    """Turn any error of a foreign file reader into one error line.

    Args:
        head: beginning of the line: the file and what is wrong with it.

    Raises:
        InputError: instead of any other error but a `MemoryError`.

    Example:

    >>> from se_keras.support.errors import damage_named
    >>> with damage_named("a.zip is not a whole zip file"):
    ...     raise KeyError("no such member")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: a.zip is not a whole zip file: 'no such member'.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    # A damaged file can make its reader raise any error, so no list of errors would be complete.
    except Exception as error:
        stop_if_asked()
        text = "".join(c if c.isprintable() else "?" for c in lines_of(error)[0])
        raise InputError(f"{head}: {text[:MAX_TEXT].rstrip('.')}.") from error
