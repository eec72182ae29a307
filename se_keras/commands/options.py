"""Options that several commands share, and options made from the fields of a dataclass."""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args


def whole_number(text: str) -> int:
    """Return the whole number that a word of the command line is."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def number(text: str) -> float:
    """Return the number that a word of the command line is."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def numbers(text: str) -> tuple[int, ...]:
    """Return whole numbers that are parted by commas."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers with commas between them, got {text!r}"
        ) from None


def keras_file(text: str) -> Path:
    """Return the path of a `.keras` file, which need not be there."""
    if not text.endswith(".keras"):
        raise argparse.ArgumentTypeError(f"must be a .keras file, got {text!r}")
    return Path(text)


def add_fields(groups: Mapping[str, argparse._ArgumentGroup], settings: type) -> None:
    """Add an option for each field of a dataclass; the fields' metadata has what its help says.

    What is not given is not set, so that the dataclass alone has the defaults.

    Args:
        groups: the group of options for each name that the metadata have.
        settings: the dataclass.
    """
    for field in dataclasses.fields(settings):
        kind = next(iter(get_args(field.type)), field.type)
        takes = {"action": "store_true"} if kind is bool else {"type": kind}
        if kind is not bool:
            takes["metavar"] = field.metadata["metavar"]
        groups[field.metadata["group"]].add_argument(
            "--" + field.name.replace("_", "-"),
            help=field.metadata["help"].replace("%", "%%"),
            default=argparse.SUPPRESS,
            **takes,
        )


def given_fields(parsed: argparse.Namespace, settings: type) -> dict[str, Any]:
    """Return the fields that the command line has, with their values."""
    names = (field.name for field in dataclasses.fields(settings))
    return {name: getattr(parsed, name) for name in names if name in parsed}
