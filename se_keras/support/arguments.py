"""Checks of arguments: each gives the value back, or says what it got and what it may be."""

import operator
from collections.abc import Collection
from typing import Any


def positive_integer(argument: str, value: Any) -> int:
    """A whole number of at least 1; `True` is none.

    Raises:
        ValueError: for anything else.

    Example:

    >>> from se_keras.support.arguments import positive_integer
    >>> positive_integer("ratio", 16)
    16
    """
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"`{argument}` must be a positive integer, got {value!r}.")
    return number


def finite_number(argument: str, value: Any) -> float:
    """A number that is neither infinite nor NaN.

    Raises:
        ValueError: for anything else.

    Example:

    >>> from se_keras.support.arguments import finite_number
    >>> finite_number("gate_scale", 2)
    2.0
    """
    try:
        number = float("nan") if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ValueError(f"`{argument}` must be a finite number, got {value!r}.")
    return number


def rate(argument: str, value: Any) -> float:
    """A number of at least 0 and below 1.

    Raises:
        ValueError: for anything else.

    Example:

    >>> from se_keras.support.arguments import rate
    >>> rate("dropout", 0.2)
    0.2
    """
    number = -1.0 if isinstance(value, bool | str) else finite_number(argument, value)
    if not 0 <= number < 1:
        raise ValueError(f"`{argument}` must be a number in [0, 1), got {value!r}.")
    return number


def one_of(argument: str, value: Any, choices: Collection) -> Any:
    """One of the choices.

    Raises:
        ValueError: for anything else.

    Example:

    >>> from se_keras.support.arguments import one_of
    >>> one_of("pool", "max", ("avg", "max"))
    'max'
    """
    if value not in choices:
        raise ValueError(f"`{argument}` must be one of {tuple(choices)}, got {value!r}.")
    return value
