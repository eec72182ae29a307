"""Processes that take turns, and what their times say."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

WORKER = Path(__file__).with_name("worker.py")
# A turn shorter than this is repeated: clocks and pipes take their part.
TURN_SECONDS = 0.2
MOST_CALLS = 1000
# A process is slower or faster as long as it lives: of six with the same file, EfficientNet-B0 in
# OpenVINO, the medians of nine rounds in turn were 0.94 to 1.06 of the first one's time.
ROUNDS_OF_A_PROCESS = 3


class WorkerError(RuntimeError):
    """A process that ended where it should have answered; the message is its last line."""


@dataclass(frozen=True, kw_only=True)
class Specification:
    """What a worker runs.

    Attributes:
        format, precision, path: of an exported file.
        threads: how many compute.
        shape, dtype: of the one input, with the batch axis.
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

    With one thread the processor time of the process does not depend on what else the machine
    does; with several it says nothing of how long a call takes.

    Example:

    >>> from benchmarks.timing import clock_of
    >>> clock_of(1), clock_of(2)
    ('cpu', 'wall')
    """
    return "cpu" if threads == 1 else "wall"


class Turns(Protocol):
    """What `alternate` asks of a contender."""

    def turn(self, calls: int) -> float:
        """Return the seconds that this many calls took together."""


class Worker:
    """A process that has loaded one network; to be used in a `with` statement.

    Args:
        command: that starts it; it speaks as `benchmarks.worker` does.

    Raises:
        WorkerError: if it ends before it is ready, and by `turn`, if it ends then.
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
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def turn(self, calls: int) -> float:
        try:
            self._process.stdin.write(f"{calls}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words tell more
        answer = json.loads(self._answer())
        self.peak_memory = answer["peak"]
        return answer["seconds"]

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if line:
            return line
        code = self._process.wait()
        self._errors.seek(0)
        said = [line.strip() for line in self._errors if line.strip()]
        raise WorkerError(said[-1] if said else f"the process ended with code {code}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def alternate(contenders: Sequence[Turns], rounds: int) -> np.ndarray:
    """Let contenders compute in turn, so that what else the machine does hits all alike.

    Every other round goes backwards. A first turn of each, which warms up, is not kept; it decides
    how many calls a turn has.

    Args:
        contenders: that are ready.
        rounds: how many turns each has.

    Returns:
        Seconds of one call, (rounds, contenders).

    Example:

    >>> from benchmarks.timing import alternate
    >>> class Slow:
    ...     def turn(self, calls):
    ...         return 2.0 * calls
    >>> alternate([Slow()], rounds=3).tolist()
    [[2.0], [2.0], [2.0]]
    """
    calls = [_calls(contender.turn(1)) for contender in contenders]
    seconds = np.empty((rounds, len(contenders)))
    for number in range(rounds):
        order = range(len(contenders))
        for index in reversed(order) if number % 2 else order:
            seconds[number, index] = contenders[index].turn(calls[index]) / calls[index]
    return seconds


def rounds_of_processes(rounds: int) -> list[int]:
    """Return how many rounds each process has, one after the other.

    Example:

    >>> from benchmarks.timing import rounds_of_processes
    >>> rounds_of_processes(7)
    [3, 3, 1]
    """
    whole, rest = divmod(rounds, ROUNDS_OF_A_PROCESS)
    return [ROUNDS_OF_A_PROCESS] * whole + [rest] * (rest > 0)


def _calls(seconds: float) -> int:
    return min(MOST_CALLS, max(1, math.ceil(TURN_SECONDS / max(seconds, 1e-9))))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two contenders' times.

    Attributes:
        seconds, against_seconds: medians of one call.
        ratio, ratio_low, ratio_high: median and quartiles of the ratios within a round.
    """

    seconds: float
    against_seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float


def compare(seconds: Any, against: Any) -> Comparison:
    """Compare the times of rounds, one number a round each.

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
