"""Run processes in turn, and compare their times."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from se_keras.support.errors import InputError

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("worker.py")
# Shorter turns are repeated, because clocks and pipes take time too.
TURN_SECONDS = 0.2
MOST_CALLS = 1000
# Speed differs between processes that run the same file (by up to 6 %), so new processes start
# after this number of rounds.
ROUNDS_OF_A_PROCESS = 3


class WorkerError(RuntimeError):
    """A process ended instead of answering; the message is its last line."""


@dataclass(frozen=True, kw_only=True)
class Specification:
    """The work of a worker.

    Attributes:
        format, precision, path: format, precision and path of an exported file.
        threads: number of threads.
        shape, dtype: shape (with the batch axis) and type of the input.
        clock: `"cpu"` or `"wall"`.
    """

    format: str
    precision: str
    path: str
    threads: int
    shape: tuple[int, ...]
    dtype: str
    clock: str

    def command(self) -> list[str]:
        return [sys.executable, "-P", str(WORKER), json.dumps(dataclasses.asdict(self))]


def clock_of(threads: int) -> str:
    """Return the clock for timing a number of threads.

    With one thread, the processor time hardly depends on other work of the machine. With several
    threads it does not show how long a call takes.

    Example:

    >>> from benchmarks.timing import clock_of
    >>> clock_of(1), clock_of(2)
    ('cpu', 'wall')
    """
    return "cpu" if threads == 1 else "wall"


class Turns(Protocol):
    """A contender, as `alternate` uses it."""

    def turn(self, calls: int) -> float:
        """Return the total seconds of this many calls."""


class Worker:
    """A process that has loaded one network; to be used in a `with` statement.

    Args:
        command: command that starts the process, which communicates like `benchmarks.worker`.

    Raises:
        WorkerError: on entering, if the process ends before it is ready; and from `turn`.
    """

    def __init__(self, command: Sequence[str]):
        self.peak_memory: int | None = None
        self._errors = tempfile.TemporaryFile(  # noqa: SIM115, `close` closes it
            "w+", encoding="utf-8", errors="replace"
        )
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        )

    def turn(self, calls: int) -> float:
        answer = self.ask(str(calls))
        self.peak_memory = answer["peak"]
        return answer["seconds"]

    def ask(self, line: str) -> dict[str, Any]:
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the error output says more
        return json.loads(self._answer())

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if line:
            return line
        code = self._process.wait()
        self._errors.seek(0)
        said = [line.strip() for line in self._errors if line.strip()]
        raise WorkerError(said[-1] if said else f"the process ended with code {code}")

    def close(self) -> None:
        if not self._errors.closed:
            self._process.kill()
            self._process.communicate()
            self._errors.close()

    def __enter__(self) -> Self:
        try:
            self._answer()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def working(start: Callable[[Any], Worker], given: Sequence[Any]) -> Iterator[list[Worker]]:
    """Start processes, which load their networks at the same time; end all of them after."""
    with ExitStack() as stack:
        workers = []
        for one in given:
            workers.append(start(one))
            stack.push(workers[-1])
        for worker in workers:
            worker.__enter__()
        yield workers


def alternate(
    contenders: Sequence[Turns], rounds: int, turn_seconds: float = TURN_SECONDS
) -> np.ndarray:
    """Time contenders in turn, so that other work of the machine affects all of them alike.

    Every other round has the reverse order. The first turn of each is a warm-up, which determines
    the number of calls in a turn.

    Args:
        contenders: contenders that are ready.
        rounds: number of turns of each contender.
        turn_seconds: how long a turn takes at least.

    Returns:
        The seconds of one call, (rounds, contenders).

    Example:

    >>> from benchmarks.timing import alternate
    >>> class Slow:
    ...     def turn(self, calls):
    ...         return 2.0 * calls
    >>> alternate([Slow()], rounds=3).tolist()
    [[2.0], [2.0], [2.0]]
    """
    calls = [_calls(contender.turn(1), turn_seconds) for contender in contenders]
    seconds = np.empty((rounds, len(contenders)))
    for number in range(rounds):
        order = range(len(contenders))
        for index in reversed(order) if number % 2 else order:
            seconds[number, index] = contenders[index].turn(calls[index]) / calls[index]
    return seconds


def answer_of(command: Sequence[object], name: str) -> dict[str, Any]:
    """Run a process; return its last line, which is JSON.

    Args:
        command: the words of the command.
        name: name of the process for the error.

    Raises:
        InputError: if the process fails; the message has its last line.
    """
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise InputError(f"{name}: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def rounds_of_processes(rounds: int) -> list[int]:
    """Return the number of rounds of each process, one after the other.

    Example:

    >>> from benchmarks.timing import rounds_of_processes
    >>> rounds_of_processes(7)
    [3, 3, 1]
    """
    whole, rest = divmod(rounds, ROUNDS_OF_A_PROCESS)
    return [ROUNDS_OF_A_PROCESS] * whole + [rest] * (rest > 0)


def _calls(seconds: float, turn_seconds: float) -> int:
    return min(MOST_CALLS, max(1, math.ceil(turn_seconds / max(seconds, 1e-9))))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The compared times of two contenders.

    Attributes:
        seconds, against_seconds: median seconds of one call.
        ratio, ratio_low, ratio_high: median and quartiles of the ratios within a round.
    """

    seconds: float
    against_seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float


def compare(seconds: Any, against: Any) -> Comparison:
    """Compare the times of two contenders, with one number for each round.

    Example:

    >>> from benchmarks.timing import compare
    >>> compare([2.0, 4.4, 3.0], [1.0, 4.0, 2.0]).ratio
    1.5
    """
    seconds, against = np.asarray(seconds), np.asarray(against)
    low, ratio, high = np.percentile(seconds / against, (25, 50, 75))
    return Comparison(
        seconds=float(np.median(seconds)),
        against_seconds=float(np.median(against)),
        ratio=float(ratio),
        ratio_low=float(low),
        ratio_high=float(high),
    )
