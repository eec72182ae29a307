"""`se-keras compare`: finished runs side by side."""

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `compare` to the commands."""
    parser = commands.add_parser(
        "compare",
        help="lay finished runs side by side",
        description="Prints a table of runs of `se-keras train`, the settings in which they "
        "differ, and how the answers of each differ from the first run's, where the test images "
        "are the same. Draws validation over the epochs and the test accuracy with its interval.",
    )
    parser.add_argument("first", metavar="RUN", type=Path, help="folder of a finished run")
    parser.add_argument("others", metavar="RUN", type=Path, nargs="+", help="others")
    parser.add_argument(
        "-o",
        "--out",
        metavar="PNG",
        type=Path,
        default=Path("comparison.png"),
        help="the picture to write (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Print the table and draw the picture."""
    from se_keras.support.errors import InputError
    from se_keras.train.comparison import describe, draw, read_run

    if parsed.out.suffix != ".png":
        raise InputError(f"`out` must be a .png file, got {parsed.out}.")
    runs = [read_run(folder) for folder in (parsed.first, *parsed.others)]
    print(describe(runs))
    draw(runs, parsed.out)
    print(f"\nThe picture is {parsed.out}.")
