"""`se-keras compare`: compare finished runs."""

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `compare` to the commands."""
    parser = commands.add_parser(
        "compare",
        help="compare finished runs",
        description="Compares runs of `se-keras train`. Prints a table of their results and the "
        "settings in which they differ. If the test images are the same, it also prints how the "
        "answers of each run differ from the first run. The picture shows the validation "
        "results over the epochs, and each test accuracy with its interval.",
        examples=("se-keras compare runs/photos runs/photos-no-se -o photos.png",),
    )
    parser.add_argument("first", metavar="RUN", type=Path, help="folder of a finished run")
    parser.add_argument("others", metavar="RUN", type=Path, nargs="+", help="folders of more runs")
    parser.add_argument(
        "-o",
        "--out",
        metavar="PNG",
        type=Path,
        default=Path("comparison.png"),
        help="picture to write",
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
