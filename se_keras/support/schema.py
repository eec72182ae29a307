"""The fields of objects that others may have written, each checked when it is taken."""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from se_keras.support.errors import InputError

MAX_TEXT = 1000

Read = Callable[[Any], Any]


class Fields:
    """The fields of an object in a file.

    Args:
        content: the object.
        head: of each message: which file it is, and what can't be done with it.
        of: what follows the name of a field in a message.
        within: the fields that the object lies in, such as "test.".

    Example:

    >>> from se_keras.support.schema import Fields, whole
    >>> fields = Fields({"epochs": "3"}, "can't read run.json")
    >>> fields.take("epochs", lambda value: whole(value, 1, 9), "a whole number from 1 to 9")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: can't read run.json: `epochs` must be a whole number from \
1 to 9, got '3'.
    """

    def __init__(self, content: Mapping[str, Any], head: str, of: str = "", within: str = ""):
        self.content, self.head, self.of, self.within = content, head, of, within

    def take(self, name: str, read: Read, wanted: str) -> Any:
        """Return the value of a field as `read` gives it; `None` where it is left out or null."""
        value = self.content.get(name)
        return None if value is None else self.check(name, value, read, wanted)

    def need(self, name: str, read: Read, wanted: str) -> Any:
        """Return the value of a field as `read` gives it; refuse an object without it."""
        if name not in self.content:
            raise InputError(f"{self.head}: `{self.within}{name}`{self.of} is missing.")
        return self.check(name, self.content[name], read, wanted)

    def check(self, name: str, value: Any, read: Read, wanted: str) -> Any:
        """Return a value as `read` gives it; name the field where it raises an error."""
        try:
            return read(value)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{self.head}: `{self.within}{name}`{self.of} must be {wanted}, got "
                f"{_SHORT.repr(value)}."
            ) from error

    def inside(self, name: str) -> "Fields":
        """Return the fields of the object in a field; refuse an object without it."""
        inner = self.need(name, mapping, "an object")
        return Fields(inner, self.head, self.of, f"{self.within}{name}.")


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 4, 4


# --- values: each gives what it took, or raises a TypeError or ValueError ------------------------


def whole(value: Any, least: int, most: int) -> int:
    """Return an int of a range; refuse booleans."""
    if type(value) is not int or not least <= value <= most:  # bool is an int to Python
        raise ValueError
    return value


def number(value: Any, least: float, most: float) -> float:
    """Return a number of a range as a float; refuse booleans and NaN."""
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError
    return float(value)


def line(value: Any) -> str:
    """Return a text that can be shown: no escape codes, no end of a line."""
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= MAX_TEXT:
        raise ValueError
    return value


def characters(value: Any) -> str:
    """Return any text that can be written to a file."""
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # a half of a surrogate pair is a ValueError
    return value


def row(value: Any, read: Read, length: int | None = None) -> tuple[Any, ...]:
    """Return the values of a list, each as `read` gives it."""
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise ValueError
    return tuple(map(read, value))


def mapping(value: Any) -> dict[str, Any]:
    """Return an object of JSON."""
    if not isinstance(value, dict):
        raise TypeError
    return value
