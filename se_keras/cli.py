"""The command line: dispatch to one of `se_keras.commands`, and set the exit code."""

import argparse
import atexit
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from textwrap import wrap
from typing import Any, NoReturn

from se_keras import __version__
from se_keras.commands import (
    compare,
    convert,
    count,
    evaluate,
    explain,
    export,
    insert,
    list_models,
    predict,
    train,
)
from se_keras.commands.options import number, whole_number
from se_keras.support.arguments import did_you_mean
from se_keras.support.errors import (
    MAX_VALUE,
    InputError,
    WrongResultError,
    backend_package,
    no_memory,
    shown,
)
from se_keras.support.files import temporary_files_beside
from se_keras.support.signals import Signals, exit_code, signal_of
from se_keras.support.tables import visible

# In the usual order of use.
COMMANDS = (list_models, train, evaluate, predict, compare, explain, export, insert, count, convert)
BAD_INPUT = 2
# Exit codes of signals are larger.
SIGNALED = 128
# A shell's exit code for a process whose output is no longer read.
UNREAD = 141


def command() -> NoReturn:
    """Run the command of this process, and end the process."""
    code = main()
    if code > SIGNALED:
        # Compiled code may still run in threads, and would crash while Python ends.
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: command-line arguments; `None` for the arguments of the process.

    Returns:
        The exit code: 0, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP,
        141 if the output is no longer read.
    """
    _open_closed_streams()
    # Escape characters that the terminal can't show, instead of failing.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # The error line of a damaged image says what Pillow's warnings say.
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    try:
        try:
            return _run(arguments)
        finally:
            # Flush here, where a closed pipe is not an error; Python would report it at exit.
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def _open_closed_streams() -> None:
    """Open the null device for standard streams that the caller has closed (`>&-`).

    Otherwise the next opened file would get the number of a stream, and C++ libraries would write
    their notes to this file.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def build_parser() -> tuple["_Parser", dict[str, "_Parser"]]:
    """Make the parser of the command line.

    Returns:
        The parser, and the parser of each command by its name.
    """
    parser = _Parser(
        prog="se-keras",
        description="Squeeze-and-excitation (SE) networks for Keras: from a folder of images to a "
        "trained, explained, pruned and exported model.",
        epilog="`se-keras COMMAND --help` shows the options of a command, with examples.",
        examples=(
            "se-keras train --data photos --out runs/photos",
            "se-keras predict runs/photos new.jpg",
        ),
    )
    parser.add_argument("--version", action="version", version=f"se-keras {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser, commands.choices


def _run(arguments: Sequence[str] | None) -> int:
    parser, commands = build_parser()
    parsed, unknown = parser.parse_known_args(arguments)
    of_command = commands[parsed.command]
    if unknown:
        of_command.refuse(unknown[0])
    with Signals() as signals:
        try:
            with _claimed_output(parsed), backend_package():
                parsed.run(parsed)
        except BrokenPipeError:
            raise
        except (KeyboardInterrupt, Exception) as error:
            signals.seen()
            if stopped_by := signal_of(error):
                print("\nse-keras: stopped", file=sys.stderr)
                return exit_code(stopped_by)
            if not (isinstance(error, InputError | OSError | WrongResultError) or no_memory(error)):
                raise
            if parsed.traceback:
                traceback.print_exc()
            else:
                text = of_command.as_typed(no_memory(error) or _message(error))
                print(_safe(f"{of_command.prog}: {text}"), file=sys.stderr)
            return BAD_INPUT
    return 0


def _message(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except OSError:
            return "The current folder was removed: change to another one."
    return str(error)


def _claimed_output(parsed: argparse.Namespace) -> AbstractContextManager:
    """Keep other commands from writing the same output; `train` locks its folder itself."""
    out = getattr(parsed, {"export": "path", "predict": "csv"}.get(parsed.command, "out"), None)
    writes = parsed.command != "train" and not getattr(parsed, "dry_run", False)
    if not (out and Path(out).name and writes):
        return nullcontext()
    return temporary_files_beside(Path(out))


def _safe(message: str) -> str:
    """Escape what would move a terminal's cursor, such as in the name of a file."""
    return "\n".join(map(visible, message.split("\n")))


class _Formatter(argparse.HelpFormatter):
    """Keep the lines of examples and the names of options; state defaults in one form."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = text.splitlines()
        return "\n".join(
            line if line.startswith(" ") else "\n".join(self._split_lines(line, width))
            for line in lines
        )

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width, break_on_hyphens=False)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        is_said = action.default in (None, argparse.SUPPRESS, []) or "(default: " in text
        return text if is_said or action.nargs == 0 else f"{text} (default: %(default)s)"


class _Parser(argparse.ArgumentParser):
    """Report an error in one line, with a suggestion for a misspelled word."""

    def __init__(self, *, examples: Sequence[str], epilog: str = "", **options: Any):
        shown = "\n  ".join([f"example{'s' * (len(examples) > 1)}:", *examples])
        text = f"{epilog}\n\n{shown}".strip()
        super().__init__(epilog=text, formatter_class=_Formatter, **options)
        self._positionals.title = "arguments"
        # Replaces the message "invalid int value".
        self.register("type", int, whole_number)
        self.register("type", float, number)

    def error(self, message: str) -> NoReturn:
        sentence = message if message.endswith((".", "?")) else f"{message}."
        line = visible(f"{self.prog}: error: {sentence} See {self.prog} --help.")
        self.exit(BAD_INPUT, f"{line}\n")

    def refuse(self, word: str) -> NoReturn:
        """End with an error: there is no such option or argument."""
        told = word if word.isprintable() and len(word) < MAX_VALUE else shown(word)
        self.error(f"unknown argument {told}.{did_you_mean(word, self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: str) -> None:
        if action.choices is not None and value not in action.choices:
            choices = ", ".join(action.choices)
            hint = did_you_mean(value, action.choices)
            raise argparse.ArgumentError(
                action, f"must be one of {choices}, got {shown(value)}.{hint}"
            )

    def as_typed(self, message: str) -> str:
        """Return a message with Python's arguments renamed to command-line options."""
        actions = {action.dest: action for action in self._actions}

        def typed(match: re.Match[str]) -> str:
            argument, _, value = match[1].partition("=")
            if argument not in actions:
                return match[0]
            action = actions[argument]
            name = action.option_strings[-1] if action.option_strings else str(action.metavar)
            return f"{name} {value.strip(chr(39))}" if value and action.nargs != 0 else name

        return re.sub("`(.+?)`", typed, message)
