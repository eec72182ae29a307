"""Models against their plain twins (the same networks without SE), engine by engine.

python -m benchmarks.bench seresnet50 [--formats A,B] [--precisions A,B] [--batches 1,8] ...

Times them as built and optimized, in each engine and precision; models without SE layers of
`se_keras` against themselves. The CSV file gets a row as soon as it is measured; rows that it has
are not measured again. Pictures go beside it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.measure import ROUNDS, run_benchmark
from benchmarks.plan import plan_benchmark
from se_keras.support.errors import InputError, WrongResultError

BAD_INPUT, STOPPED = 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line, without the usage before it.
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: of the command line; `None` for the process' own.

    Returns:
        The exit code: 0, 2 for bad input and for an engine that broke, 130 after Ctrl-C.
    """
    parser = _make_parser()
    options = vars(parser.parse_args(arguments))
    try:
        _run(**options)
    except (InputError, OSError, WrongResultError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: stopped", file=sys.stderr)
        return STOPPED
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m benchmarks.bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        default=["seresnet50"],
        help="a name that `se-keras list` shows, one of keras.applications, or a .keras file "
        "(default seresnet50)",
    )
    for name, kind, text in (
        ("--formats", _words, "formats of `se-keras export` (default: all that are installed)"),
        ("--precisions", _words, "precisions of `se-keras export` (default: all)"),
        ("--batches", _numbers, "numbers of images at once (default 1,8,32)"),
        ("--sizes", _numbers, "image sizes in pixels (default: what a model was made for)"),
    ):
        # What is not given is not set: `plan_benchmark` has the defaults.
        parser.add_argument(name, type=kind, metavar="A,B", help=text, default=argparse.SUPPRESS)
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads that compute (default: one a core); with 1 processor time is measured, which "
        "depends less on what else the machine does",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=ROUNDS,
        metavar="N",
        help="turns of each network (default %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench.csv"),
        metavar="OUT",
        help="CSV file (default %(default)s)",
    )
    parser.add_argument("--run", metavar="NAME", help="default: that of the file, or the date")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and measure nothing")
    return parser


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers with commas between them, got {text!r}"
        ) from None


def _run(
    models: Sequence[str], rounds: int, out: Path, run: str | None, dry_run: bool, **choice: Any
) -> None:
    plan = plan_benchmark(models, **choice)
    if dry_run:
        print(plan)
        return
    for sentence in plan.left_out:
        print(sentence)
    report = run_benchmark(plan, out, rounds, name=run)
    print(report)
    print(*report.files, sep="\n")
    if report.failures:
        raise InputError("; ".join(report.failures))


if __name__ == "__main__":
    sys.exit(main())
