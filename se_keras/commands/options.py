"""Options that several commands share, and options made from the fields of a dataclass."""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from se_keras.support.errors import shown


def whole_number(text: str) -> int:
    """Parse a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {shown(text)}") from None


def number(text: str) -> float:
    """Parse a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {shown(text)}") from None


def numbers(text: str) -> tuple[int, ...]:
    """Parse whole numbers that are separated by commas."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers, separated by commas, got {shown(text)}"
        ) from None


def keras_file(text: str) -> Path:
    """Parse the path of a `.keras` file, which may not exist yet."""
    if not text.endswith(".keras"):
        raise argparse.ArgumentTypeError(f"must be a .keras file, got {shown(text)}")
    return Path(text)


def add_fields(groups: Mapping[str, argparse._ArgumentGroup], settings: type) -> None:
    """Add an option for each field of a dataclass, with the help text in the field's metadata.

    Options that the user does not give are not set, so that only the dataclass has the defaults.

    Args:
        groups: groups of options, by the names in the metadata.
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
    """Return the fields that the user gave, with their values."""
    names = (field.name for field in dataclasses.fields(settings))
    return {name: getattr(parsed, name) for name in names if name in parsed}
