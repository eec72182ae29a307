"""`se-keras list`: the models of the catalog, without building one."""

import argparse

from se_keras.models.recipes import list_models
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `list` to the commands."""
    parser = commands.add_parser(
        "list",
        help="list the models",
        description="Prints the models with their trainable parameters and the multiply-adds of "
        "one image, both with SE, for the input size (pixels) and the number of classes that a "
        "model was made for. The builder is its function in Python.",
    )
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        nargs="?",
        default="*",
        help="only names that match, such as '*mobile*'",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Print the table."""
    rows = list_models(parsed.pattern)
    if not rows:
        raise InputError(f"No model matches {parsed.pattern!r}; `se-keras list` shows them all.")
    header = ("name", "pixels", "parameters", "multiply-adds", "builder")
    cells = [(r.name, r.input_size, r.parameters, r.multiply_adds, r.builder) for r in rows]
    print(format_table(header, cells))
