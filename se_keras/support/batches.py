"""Batches of everything that Keras takes as data."""

import itertools
import math
from collections.abc import Iterable, Sized
from typing import Any

import keras

from se_keras.support.errors import InputError


def read_batches(argument: str, data: Any, wanted: str) -> tuple[Iterable[Any], float | None]:
    """Return an iterable of batches, and how many it has.

    Args:
        argument: its name.
        data: a `keras.utils.PyDataset`, a `tf.data.Dataset`, or any other iterable of batches.
        wanted: what the message says that it must be.

    Returns:
        The batches; their number, infinity for data without an end, `None` where it is not known.

    Raises:
        InputError: for anything else.

    Example:

    >>> from se_keras.support.batches import read_batches
    >>> batches, number = read_batches("data", [[1, 2], [3]], "batches of numbers")
    >>> list(batches), number
    ([[1, 2], [3]], 2)
    """
    if isinstance(data, keras.utils.PyDataset):
        number = data.num_batches  # None: it has no end
        indices = itertools.count() if number is None else range(number)
        return (data[index] for index in indices), math.inf if number is None else number
    if not isinstance(data, Iterable):
        raise InputError(f"`{argument}` must be {wanted}; got {type(data).__name__}.")
    if hasattr(data, "cardinality"):  # of tf.data: -1 is no end, -2 not known
        number = int(data.cardinality())
        return data, {-1: math.inf, -2: None}.get(number, number)
    return data, len(data) if isinstance(data, Sized) else None
