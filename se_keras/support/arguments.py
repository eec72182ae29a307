"""Checks of arguments: each returns the value, or raises an error with the allowed values."""

import dataclasses
import difflib
import functools
import math
import numbers
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from se_keras.support.errors import InputError, shown

Check = Callable[[str, Any], Any]
Class = TypeVar("Class", bound=type)
KINDS = {int: numbers.Integral, float: numbers.Real}
LARGEST = 2**31 - 1
# Longer texts get no suggestion, because comparing them with all names would take long.
LONGEST_NAME = 500


def positive_integer(argument: str, value: Any, most: int = LARGEST) -> int:
    """Return `value` as an int from 1 to `most`; rejects booleans.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import positive_integer
    >>> positive_integer("ratio", 16)
    16
    """
    number = _number(argument, value, int, lambda number: number >= 1, "a positive integer")
    if number > most:
        raise InputError(_message(argument, f"an integer from 1 to {most:,}", value))
    return number


def integer_below(argument: str, value: Any, end: int) -> int:
    """Return `value` as an int in [0, end); rejects booleans.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import integer_below
    >>> integer_below("process", 3, 4)
    3
    """
    wanted = f"an integer from 0 to {end - 1}"
    return _number(argument, value, int, lambda number: 0 <= number < end, wanted)


def finite_number(argument: str, value: Any) -> float:
    """Return `value` as a float that is neither infinite nor NaN; rejects booleans.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import finite_number
    >>> finite_number("gate_scale", 2)
    2.0
    """
    return _number(argument, value, float, math.isfinite, "a finite number")


def positive_number(argument: str, value: Any) -> float:
    """Return `value` as a finite float above 0; rejects booleans.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import positive_number
    >>> positive_number("lr", 0.1)
    0.1
    """
    return _number(
        argument, value, float, lambda number: 0 < number < math.inf, "a positive number"
    )


def number_from(argument: str, value: Any, least: float) -> float:
    """Return `value` as a finite float of at least `least`; rejects booleans.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import number_from
    >>> number_from("weight_decay", 1e-4, 0)
    0.0001
    """
    wanted = f"a number of at least {least:g}"
    return _number(argument, value, float, lambda number: least <= number < math.inf, wanted)


def number_between(argument: str, value: Any, least: float, most: float) -> float:
    """Return `value` as a float in [least, most]; rejects booleans.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import number_between
    >>> number_between("mixup", 0.2, 0.1, 1)
    0.2
    """
    wanted = f"a number in [{least:g}, {most:g}]"
    return _number(argument, value, float, lambda number: least <= number <= most, wanted)


def rate(argument: str, value: Any) -> float:
    """Return `value` as a float in [0, 1); rejects booleans.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import rate
    >>> rate("dropout", 0.2)
    0.2
    """
    return _number(argument, value, float, lambda number: 0 <= number < 1, "a number in [0, 1)")


def share(argument: str, value: Any, wanted: str = "a number in [0, 1]") -> float:
    """Return `value` as a float in [0, 1]; rejects booleans.

    Args:
        argument: name of the argument.
        value: the given value.
        wanted: the allowed values, which the message shows.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import share
    >>> share("keep", 1)
    1.0
    """
    return _number(argument, value, float, lambda number: 0 <= number <= 1, wanted)


def positive_share(argument: str, value: Any) -> float:
    """Return `value` as a float above 0, at most 1; rejects booleans.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import positive_share
    >>> positive_share("layer_decay", 0.7)
    0.7
    """
    return _number(argument, value, float, lambda number: 0 < number <= 1, "a number in (0, 1]")


def nonzero_number(argument: str, value: Any) -> float:
    """Return `value` as a finite float other than 0; rejects booleans.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import nonzero_number
    >>> nonzero_number("gate_scale", 2)
    2.0
    """
    wanted = "a finite number other than 0"
    return _number(argument, value, float, lambda number: math.isfinite(number) and number, wanted)


def boolean(argument: str, value: Any) -> bool:
    """Return `value` as a bool: the one rule for flags.

    A flag is True or False, or the integer 1 or 0, as Keras users write `verbose=0`; of Python or
    of NumPy.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import boolean
    >>> boolean("use_bias", False), boolean("verbose", 1)
    (False, True)
    """
    found = plain(value)
    if type(found) not in (bool, int) or found not in (0, 1):
        raise InputError(_message(argument, "True or False", value))
    return bool(found)


def text(argument: str, value: Any) -> str:
    """Return `value`, a string that is not empty.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import text
    >>> text("data", "cifar10")
    'cifar10'
    """
    found = plain_text(value)
    if not found:
        raise InputError(_message(argument, "a non-empty string", value))
    return found


def keras_name(argument: str, value: Any) -> str:
    """Return `value`, a string that Keras takes as the name of a layer or a model.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import keras_name
    >>> keras_name("name", "stage2_se")
    'stage2_se'
    """
    found = text(argument, value)
    # TensorFlow can't read half a surrogate pair.
    if "/" in found or not found.isprintable():
        wanted = "a string without slashes and control characters"
        raise InputError(_message(argument, wanted, value))
    return found


def path(argument: str, value: Any) -> Path:
    """Return `value`, a string that is not empty or a path, as a path.

    Raises:
        InputError: if `value` is anything else, such as bytes.

    Example:

    >>> from se_keras.support.arguments import path
    >>> path("out", "runs/photos").name
    'photos'
    """
    return Path(text_of_path(argument, value))


def text_of_path(argument: str, value: Any) -> str:
    """Return `value`, a string that is not empty or a path, as a string.

    Raises:
        InputError: if `value` is anything else, such as bytes, or can't be the name of a file.

    Example:

    >>> from pathlib import Path
    >>> from se_keras.support.arguments import text_of_path
    >>> text_of_path("data", Path("photos"))
    'photos'
    """
    try:
        found = plain_text(os.fspath(value))
        os.fsencode(found or "")
    except Exception:  # `__fspath__` may raise any error; the path may have half a surrogate pair
        found = None
    if not found or "\0" in found:
        raise InputError(_message(argument, "a path or a non-empty string", value))
    return found


def function(argument: str, value: Any) -> Callable:
    """Return `value` if it can be called.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import function
    >>> function("weigh", abs)(-1)
    1
    """
    if not callable(value):
        raise InputError(_message(argument, "a function", value))
    return value


def integers(argument: str, value: Any, wanted: str) -> tuple[int, ...]:
    """Return `value`, a list, a set or an array of integers, as a tuple.

    Args:
        argument: name of the argument.
        value: the given value.
        wanted: the allowed values, which the message shows.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import integers
    >>> integers("stages", [2, 3], "numbers of stages")
    (2, 3)
    """
    row = items_of(value)
    numbers_of_it = [plain(item) for item in row or ()]
    if row is None or not all(type(number) is int for number in numbers_of_it):
        raise InputError(_message(argument, wanted, value))
    return tuple(numbers_of_it)


def texts(argument: str, value: Any, wanted: str) -> tuple[str, ...]:
    """Return `value`, a non-empty list or array of strings, as a tuple.

    Args:
        argument: name of the argument.
        value: the given value.
        wanted: the allowed values, which the message shows.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import texts
    >>> texts("class_names", ["cat", "dog"], "names of classes")
    ('cat', 'dog')
    """
    row = [plain_text(item) for item in items_of(value) or ()]
    found = tuple(item for item in row if item is not None)
    if not row or len(found) < len(row):
        raise InputError(_message(argument, wanted, value))
    return found


def instance_of(argument: str, value: Any, kind: type, wanted: str) -> Any:
    """Return `value` if it is an instance of `kind`.

    Args:
        argument: name of the argument.
        value: the given value.
        kind: a class.
        wanted: the allowed values, which the message shows.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import instance_of
    >>> instance_of("se_options", {"pool": "max"}, dict, "a dict")
    {'pool': 'max'}
    """
    if not isinstance(value, kind):
        raise InputError(_message(argument, wanted, value))
    return value


def shape(argument: str, value: Any) -> tuple[int | None, ...]:
    """Return `value` as a tuple of positive integers, with `None` for unknown sizes.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.support.arguments import shape
    >>> shape("input_shape", [None, None, 3])
    (None, None, 3)
    """
    wanted = "a tuple of positive integers or None, such as (224, 224, 3)"
    row = items_of(value)
    sizes = [plain(size) for size in row or ()]
    if row is None or not all(size is None or (type(size) is int and size > 0) for size in sizes):
        raise InputError(_message(argument, wanted, value))
    return tuple(sizes)


def one_of(argument: str, value: Any, choices: Collection) -> Any:
    """Return `value` if it is one of the choices.

    Raises:
        InputError: if `value` is anything else; the message suggests the most similar choice.

    Example:

    >>> from se_keras.support.arguments import one_of
    >>> one_of("pool", "max", ("avg", "max"))
    'max'
    """
    given = plain_text(value) if isinstance(value, str) else plain(value)
    for choice in choices:
        # True equals 1, but a boolean is not a number here; an array has no one truth value.
        if type(given) is type(choice) and given == choice:
            return choice
    message = _message(argument, f"one of {tuple(choices)}", value)
    raise InputError(message + did_you_mean(value, choices))


def check_fields(instance: Any, checks: Mapping[str, Check]) -> None:
    """Check fields of a frozen dataclass, and store the results of the checks.

    `None` is allowed if it is the default of the field.

    Raises:
        InputError: if a check fails.

    Example:

    >>> from dataclasses import dataclass
    >>> from se_keras.support.arguments import check_fields, positive_integer
    >>> @dataclass(frozen=True)
    ... class Settings:
    ...     epochs: int | None = None
    ...     def __post_init__(self):
    ...         check_fields(self, {"epochs": positive_integer})
    >>> Settings(), Settings(3)
    (Settings(epochs=None), Settings(epochs=3))
    """
    defaults = {field.name: field.default for field in dataclasses.fields(instance)}
    for name, check in checks.items():
        value = getattr(instance, name)
        if value is not None or defaults[name] is not None:
            object.__setattr__(instance, name, check(name, value))


# --- names ---------------------------------------------------------------------------------------


def did_you_mean(given: Any, known: Iterable) -> str:
    """Return a sentence, after a space, that suggests similar names; empty if there are none.

    Example:

    >>> from se_keras.support.arguments import did_you_mean
    >>> did_you_mean("seresnet5O", ["seresnet50", "semobilenet"])
    " Did you mean 'seresnet50'?"
    >>> did_you_mean("vit", ["seresnet50", "semobilenet"])
    ''
    """
    text = plain_text(given)
    if text is None and isinstance(given, os.PathLike):
        with suppress(Exception):  # an object of any class may raise any error
            text = plain_text(os.fspath(given))
    if not text or len(text) > LONGEST_NAME:
        return ""
    names = {name.casefold(): name for name in known if isinstance(name, str) and name != text}
    word = text.casefold()
    near = [word] if word in names else difflib.get_close_matches(word, names)
    *first, last = [repr(names[name]) for name in near] or [""]
    return f" Did you mean {', '.join(first)}{' or ' if first else ''}{last}?" if near else ""


def refuse_unknown_options(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse keyword arguments that a function or class does not have.

    Args:
        owner: name of the function or class.
        given: names of the given arguments.
        known: names of its arguments.

    Raises:
        TypeError: if an argument is unknown; the message suggests the most similar one.

    Example:

    >>> from se_keras.support.arguments import refuse_unknown_options
    >>> refuse_unknown_options("SqueezeExcite", {"rato": 4}, ["ratio", "pool"])
    Traceback (most recent call last):
    ...
    TypeError: SqueezeExcite has no option 'rato'. Did you mean 'ratio'?
    """
    known = sorted(known)
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f" Its options: {', '.join(known)}."
            raise TypeError(f"{owner} has no option {name!r}.{hint}")


def with_suggestions(cls: Class) -> Class:
    """Make a dataclass suggest the right name for a misspelled keyword argument.

    Example:

    >>> from dataclasses import dataclass
    >>> from se_keras.support.arguments import with_suggestions
    >>> @with_suggestions
    ... @dataclass
    ... class Settings:
    ...     epochs: int = 1
    >>> Settings(epoch=3)
    Traceback (most recent call last):
    ...
    TypeError: Settings has no option 'epoch'. Did you mean 'epochs'?
    """
    init = vars(cls)["__init__"]
    names = [field.name for field in dataclasses.fields(cls)]

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        refuse_unknown_options(cls.__name__, options, names)
        init(self, *args, **options)

    setattr(cls, "__init__", checked)  # noqa: B010  (a type checker refuses the assignment)
    return cls


# --- shared by the checks ------------------------------------------------------------------------


def _number(argument: str, value: Any, kind: type, fits: Callable[[Any], bool], wanted: str) -> Any:
    found = plain(value)
    if isinstance(found, KINDS[kind]) and not isinstance(found, bool):
        try:
            number = kind(found)
        except OverflowError:  # an integer that is too large for a float
            number = math.inf
        if fits(number):
            return number
    raise InputError(_message(argument, wanted, value))


# A caller may give an object of any class, whose methods may raise any error.


def items_of(value: Any) -> list[Any] | None:
    """Return the items of a list, a set or an array; `None` for anything else.

    Example:

    >>> from se_keras.support.arguments import items_of
    >>> items_of((1, 2)), items_of("ab")
    ([1, 2], None)
    """
    try:
        is_text = isinstance(value, str | bytes | bytearray | Mapping)
        return None if is_text or not isinstance(value, Collection) else list(value)
    except Exception:  # such as an array without axes: it is a collection, but has no items
        return None


def plain(value: Any) -> Any:
    """Return a NumPy number, or a number of a subclass of Python's, as Python's own number.

    Anything else is returned unchanged.

    Example:

    >>> import numpy as np
    >>> from se_keras.support.arguments import plain
    >>> plain(np.int64(3)), plain("3")
    (3, '3')
    """
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return value if type(value) is kind else kind.__pos__(value)  # type: ignore[arg-type]
    try:
        return value.item() if getattr(value, "shape", None) == () else value
    except Exception:
        return value


def plain_text(value: Any) -> str | None:
    """Return a string, also one of a subclass of `str`, as a plain `str`; `None` for other values.

    Example:

    >>> from se_keras.support.arguments import plain_text
    >>> plain_text("avg"), plain_text(3)
    ('avg', None)
    """
    return str.__str__(value) if isinstance(value, str) else None


def _message(argument: str, wanted: str, value: Any) -> str:
    return f"`{argument}` must be {wanted}, got {shown(value)}."
