"""Compare the time of models and their plain twins (the same networks without SE) in each engine.

python -m benchmarks.bench seresnet50 [--formats A,B] [--precisions A,B] [--batches 1,8] ...

Both are timed as built and optimized, in each engine and precision. A model without SE layers of
`se_keras` is compared with itself as built. Each row is written to the CSV file when it is
measured, and is not measured again. Pictures are drawn next to the file.
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
        arguments: command-line arguments; `None` for the arguments of the process.

    Returns:
        The exit code: 0, 2 for bad input or if an engine failed, 130 after Ctrl-C.
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
        ("--batches", _numbers, "batch sizes (default: 1,8,32)"),
        ("--sizes", _numbers, "image sizes in pixels (default: the usual size of each model)"),
    ):
        # Options that are not given are not set, because `plan_benchmark` has the defaults.
        parser.add_argument(name, type=kind, metavar="A,B", help=text, default=argparse.SUPPRESS)
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="number of threads (default: one for each core); with 1, CPU time is measured, which "
        "depends less on other work of the machine",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=ROUNDS,
        metavar="N",
        help="number of turns of each network (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench.csv"),
        metavar="OUT",
        help="CSV file (default: %(default)s)",
    )
    parser.add_argument(
        "--run", metavar="NAME", help="name of the run (default: as in the file, or the date)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and measure nothing")
    return parser


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers, separated by commas, got {text!r}"
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
