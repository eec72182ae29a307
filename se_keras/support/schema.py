"""Read fields of untrusted JSON objects, and check each of them."""

from collections.abc import Callable, Mapping
from typing import Any

from se_keras.support.errors import InputError, shown

MAX_TEXT = 1000

Read = Callable[[Any], Any]


class Fields:
    """The fields of an object in a file.

    Args:
        content: the object.
        head: beginning of each message, such as "can't read run.json".
        of: text after the name of a field in a message.
        within: path of the enclosing fields, such as "test.".

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
        """Return a field as read by `read`; `None` if it is missing or null."""
        value = self.content.get(name)
        return None if value is None else self.check(name, value, read, wanted)

    def need(self, name: str, read: Read, wanted: str) -> Any:
        """Return a field as read by `read`; refuse an object without the field."""
        if name not in self.content:
            raise InputError(f"{self.head}: `{self.within}{name}`{self.of} is missing.")
        return self.check(name, self.content[name], read, wanted)

    def check(self, name: str, value: Any, read: Read, wanted: str) -> Any:
        """Return a value as read by `read`; turn its errors into one that names the field."""
        try:
            return read(value)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{self.head}: `{self.within}{name}`{self.of} must be {wanted}, got {shown(value)}."
            ) from error

    def inside(self, name: str) -> "Fields":
        """Return the fields of a nested object; refuse an object without it."""
        inner = self.need(name, mapping, "an object")
        return Fields(inner, self.head, self.of, f"{self.within}{name}.")


# --- values: each function returns the value, or raises TypeError or ValueError ------------------


def whole(value: Any, least: int, most: int) -> int:
    """Return an int within a range; refuse booleans."""
    if type(value) is not int or not least <= value <= most:  # bool is a subclass of int
        raise ValueError
    return value


def number(value: Any, least: float, most: float) -> float:
    """Return a number within a range as a float; refuse booleans and NaN."""
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError
    return float(value)


def line(value: Any) -> str:
    """Return a printable text of one line."""
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= MAX_TEXT:
        raise ValueError
    return value


def characters(value: Any) -> str:
    """Return any text that can be written to a file."""
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # half of a surrogate pair raises ValueError
    return value


def row(value: Any, read: Read, length: int | None = None) -> tuple[Any, ...]:
    """Return the values of a list, each as read by `read`."""
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise ValueError
    return tuple(map(read, value))


def mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise TypeError
    return value
