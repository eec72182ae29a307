"""`se-keras list`: list the models of the catalog or the published weights."""

import argparse
import fnmatch

from se_keras.models.recipes import list_models
from se_keras.support.arguments import did_you_mean
from se_keras.support.errors import InputError, shown
from se_keras.support.tables import format_table
from se_keras.weights.presets import PRESETS


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `list` to the commands."""
    parser = commands.add_parser(
        "list",
        help="list the models",
        description="Prints the name of each model, its input size in pixels, its trainable "
        "parameters, the multiply-adds for one image, and the function that builds it in Python. "
        "The counts include SE and are for the usual input size and number of classes. With "
        "--weights it prints the names of the published weights, which the option --weights of "
        "other commands takes.",
        examples=("se-keras list '*mobile*'", "se-keras list --weights 'seresnet50*'"),
    )
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        nargs="?",
        default="*",
        help="list only names that match, such as '*mobile*' (default: all)",
    )
    parser.add_argument(
        "--weights", action="store_true", help="list published weights instead of models"
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Print the table."""
    print(_table_of_weights(parsed.pattern) if parsed.weights else _table_of_models(parsed.pattern))


def _table_of_models(pattern: str) -> str:
    rows = list_models(pattern)
    if not rows:
        hint = did_you_mean(pattern, [row.name for row in list_models()])
        raise InputError(
            f"No model matches {shown(pattern)}; `se-keras list` shows all models.{hint}"
        )
    header = ("name", "pixels", "parameters", "multiply-adds", "builder")
    cells = [(r.name, r.input_size, r.parameters, r.multiply_adds, r.builder) for r in rows]
    return format_table(header, cells)


def _table_of_weights(pattern: str) -> str:
    names = [name for row in PRESETS for name in (row.recipe, row.name)]
    matching = set(fnmatch.filter(names, pattern))
    rows = [row for row in PRESETS if matching & {row.recipe, row.name}]
    if not rows:
        raise InputError(
            f"No published weights match {shown(pattern)}; "
            "`se-keras list --weights` shows all of them." + did_you_mean(pattern, names)
        )
    header = ("name", "pixels", "classes", "top-1 %", "license")
    cells = [
        (row.name, row.pixels.size, row.classes, row.top1 and f"{row.top1:.2f}", row.license)
        for row in rows
    ]
    return format_table(header, cells)
