"""Iterate over the batches of any data that Keras takes."""

import itertools
import math
from collections.abc import Iterable, Sized
from typing import Any

import keras

from se_keras.support.errors import InputError, shown


def read_batches(argument: str, data: Any, wanted: str) -> tuple[Iterable[Any], float | None]:
    """Return an iterable of batches, and the number of batches.

    Args:
        argument: name of the argument.
        data: a `keras.utils.PyDataset`, a `tf.data.Dataset`, or any other iterable of batches.
        wanted: the allowed values, which the message shows.

    Returns:
        The batches, and their number, which is infinity for endless data, or `None` if unknown.

    Raises:
        InputError: if `data` is anything else.

    Example:

    >>> from se_keras.support.batches import read_batches
    >>> batches, number = read_batches("data", [[1, 2], [3]], "batches of numbers")
    >>> list(batches), number
    ([[1, 2], [3]], 2)
    """
    if isinstance(data, keras.utils.PyDataset):
        number = data.num_batches  # None means endless
        indices = itertools.count() if number is None else range(number)
        return (data[index] for index in indices), math.inf if number is None else number
    if not isinstance(data, Iterable):
        raise InputError(f"`{argument}` must be {wanted}, got {type(data).__name__}.")
    if isinstance(data, keras.KerasTensor | str):
        raise InputError(f"`{argument}` must be {wanted}, got {shown(data)}.")
    if hasattr(data, "cardinality"):  # tf.data: -1 means endless, -2 means unknown
        number = int(data.cardinality())
        return data, {-1: math.inf, -2: None}.get(number, number)
    return data, len(data) if isinstance(data, Sized) else None
