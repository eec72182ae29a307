"""Values that arguments can't be, or hardly: of wrong types, and of classes that raise errors."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import keras
import numpy as np
from hypothesis import strategies as st

from se_keras.support.arguments import plain


class Angry:
    """Raises an error whatever is asked of it."""

    def _raise(self, *_):
        raise RuntimeError("two\nlines")

    __str__ = __repr__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = _raise
    __fspath__ = __int__ = __float__ = __index__ = __array__ = __getitem__ = _raise


class AngryText(str):
    """A text whose methods raise errors."""

    __slots__ = ()
    __str__ = __repr__ = __eq__ = __hash__ = __len__ = __bool__ = Angry._raise


class AngryNumber(int):
    """A number whose methods raise errors."""

    __str__ = __repr__ = __eq__ = __hash__ = __int__ = __index__ = __bool__ = Angry._raise


class Text(str):
    """A text of another class."""

    __slots__ = ()


class Number(int):
    """A number of another class."""


def endless():
    while True:
        yield 1


MADE = (
    Angry,
    AngryNumber,
    object,
    set,
    list,
    dict,
    lambda: AngryText("avg"),
    lambda: Text("avg"),
    lambda: Number(3),
    lambda: np.array([1, 2]),
    lambda: np.array(3),
    lambda: np.array([[1.5]]),
    lambda: np.array(["a"]),
    lambda: np.zeros((0, 3), "float32"),
    lambda: keras.Variable(1.0),
    lambda: keras.ops.ones((2,)),
    lambda: keras.Input((2,)),
    lambda: keras.layers.ReLU(),
    lambda: (number for number in range(3)),
    lambda: {"a": 1},
    lambda: [None],
    lambda: [[1], [2, 3]],
    lambda: range(3),
)
FIXED = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 10**5000, 0.5, -0.0, 1e-320, 1j),
    *(math.nan, math.inf, -math.inf, Fraction(1, 3), b"", b"x", bytearray(b"x")),
    *(
        "",
        " ",
        "\0",
        "a\nb",
        "a/b",
        "None",
        "False",
        "\udce9",
        "é",
        "\uff11",
        "x" * 300,
        "x" * 70_000,
    ),
    *(
        np.bool_(True),
        np.int64(3),
        np.uint8(0),
        np.float32(0.5),
        np.float64(math.nan),
        np.str_("x"),
    ),
    *(Path("x"), Path("\udce9"), Path("x" * 300), (), (1, 2), (None, 8), ("a", 1), (math.nan,)),
    *(int, len, Exception("x"), Ellipsis, NotImplemented, slice(3), memoryview(b"x")),
)
VALUES = (
    st.sampled_from(FIXED)
    | st.sampled_from(MADE).map(lambda make: make())
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=5)
    | st.complex_numbers()
    | st.fractions()
    | st.lists(st.integers(-3, 3) | st.floats() | st.text(max_size=3), max_size=3)
    | st.tuples(st.integers(-3, 300), st.integers(-3, 300), st.integers(-3, 5))
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


def fits(annotation, value):
    """Whether the type that a function states for an argument has a value."""
    if annotation in (Any, Callable) or isinstance(annotation, str):
        return annotation is not Callable or callable(value)
    if annotation is None or annotation is type(None):
        return value is None
    origin = get_origin(annotation) or annotation
    if origin is Union or origin.__name__ == "UnionType":
        return any(fits(part, value) for part in get_args(annotation))
    if origin is bool:
        return type(plain(value)) in (bool, int) and plain(value) in (0, 1)
    if origin in (int, float):
        return is_number(value, origin)
    if origin is str:
        return isinstance(value, str) and str.__len__(value) > 0
    if origin in (tuple, Sequence, Collection, Iterable):
        return hasattr(value, "__iter__") and not isinstance(value, str | bytes | Mapping)
    return isinstance(value, origin)


def is_number(value, kind):
    if isinstance(value, np.ndarray | keras.Variable) or keras.ops.is_tensor(value):
        return value.shape == ()
    kinds = (int, np.integer) if kind is int else (int, float, Fraction, np.integer, np.floating)
    if isinstance(value, bool | np.bool_) or not isinstance(value, kinds):
        return False
    return isinstance(value, int) or math.isfinite(value)
