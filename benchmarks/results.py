"""The rows of a benchmark: its planned runs and their results, as a CSV file."""

import csv
import dataclasses
import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from se_keras.support.errors import InputError
from se_keras.support.files import write_csv

Row = TypeVar("Row")

AS_BUILT, OPTIMIZED, PLAIN = "as built", "optimized", "plain twin"
# Optimized, and then exported by Keras, which stores weights as variables.
BY_KERAS = "Keras' export"
# Instructions that determine the speed of 8- and 16-bit products.
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row of the plan.

    Attributes:
        model: name or file, as the user gave it.
        form: form of the export: as built, or optimized.
        against: the other network: the plain twin in the same form; or, if the model has no
            `SqueezeExcite` to remove, the model itself as built; or Keras' export of it.
        format, precision: as in `se_keras.export`.
        batch: batch size.
        size: height and width in pixels.
        threads: number of threads.
    """

    model: str
    form: str
    against: str
    format: str
    precision: str
    batch: int
    size: int
    threads: int

    @property
    def values(self) -> tuple:
        """Return the fields of the plan, in the order of `RUN_FIELDS`."""
        return tuple(getattr(self, name) for name in RUN_FIELDS)


RUN_FIELDS = tuple(field.name for field in dataclasses.fields(Run))


@dataclass(frozen=True, kw_only=True)
class Result(Run):
    """A run's row in the CSV file.

    Attributes:
        run: name of the run; all rows of the file have the same (see `file_run`).
        engine, machine: package and version; the processor.
        clock: `"cpu"` or `"wall"`; see `benchmarks.timing.clock_of`.
        rounds: number of turns of each network.
        ms, against_ms: median milliseconds of one batch.
        ratio, ratio_low, ratio_high: median and quartiles of the ratios within a round.
        memory_mb, against_memory_mb: largest resident size of a process with this network alone.
        mega_macs: million multiply-adds of one image, as built.
        gflops: billion operations per second, two for each multiply-add.
        limit_gflops: the same for a large product of matrices in this engine and precision.
    """

    run: str
    engine: str
    machine: str
    clock: str
    rounds: int
    ms: float
    against_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    memory_mb: float | None
    against_memory_mb: float | None
    mega_macs: float
    gflops: float
    limit_gflops: float


def identity(run: Run, engine: str, machine: str) -> tuple:
    """Return the key of a row; another engine version or machine gives another row."""
    return (*run.values, engine, machine)


def read_rows(kind: type[Row], path: str | os.PathLike) -> list[Row]:
    """Return the rows of a CSV file; none if there is no file.

    Args:
        kind: dataclass of a row, whose fields are strings, numbers, or numbers or `None`.
        path: the file.

    Raises:
        InputError: if the file has another table.

    Example:

    >>> from benchmarks.results import Result, read_rows
    >>> read_rows(Result, "missing.csv")
    []
    """
    if not Path(path).exists():
        return []
    kinds = {field.name: field.type for field in dataclasses.fields(kind)}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        return [
            kind(**{name: _read_cell(kinds[name], line[name]) for name in line}) for line in lines
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a table of {kind.__name__} rows: {error!r}") from error


def _read_cell(kind: Any, text: str) -> Any:
    if kind in (str, int, float):
        return kind(text)
    return float(text) if text else None


def file_run(path: str | os.PathLike, rows: Sequence[Any], name: str | None) -> str:
    """Return the name of the run that new rows of a file belong to.

    Args:
        path: the file.
        rows: the rows of the file.
        name: name of the run; `None` for the name in the rows, or today's date without rows.

    Raises:
        InputError: if the rows are of another run, or of several.

    Example:

    >>> from benchmarks.results import file_run
    >>> file_run("bench.csv", [], "2026-12-01")
    '2026-12-01'
    """
    runs = sorted({row.run for row in rows})
    if not runs:
        return name or datetime.date.today().isoformat()
    if len(runs) > 1 or name not in (None, *runs):
        raise InputError(
            f"{path} has rows of the run {' and '.join(map(repr, runs))}"
            + (f", not of {name!r}" if name else "")
            + ": one file holds one run; remove it or give another with `--out`."
        )
    return runs[0]


def one_run(path: str | os.PathLike, rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows, which must be of one run, because a table never mixes runs.

    Raises:
        InputError: if they are of several runs.
    """
    file_run(path, rows, None)
    return rows


def write_rows(kind: type[Row], path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Write rows under a header to a CSV file, and make its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in dataclasses.fields(kind)]
    lines = ([getattr(row, name) for name in names] for row in rows)
    write_csv(path, names, lines)


def describe_machine() -> str:
    """Return the processor, its cores, and the instructions that matter for a precision."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    found = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = found.get("flags", "").split()
    has = "+".join(name for name in INSTRUCTIONS if name in flags)
    name = found.get("model name", platform.machine()).strip()
    return f"{name}, {os.cpu_count()} cores, {has or platform.machine()}"


VERSIONS = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"


def versions(python: str, packages: Sequence[str]) -> str | None:
    """Return packages with their versions; `None` if one is missing."""
    command = [python, "-c", VERSIONS, *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return ", ".join(f"{p} {v}" for p, v in zip(packages, done.stdout.split(), strict=True))


def spread(values: Sequence[float], form: str) -> str:
    """Return the median, and the lowest and the highest value; empty without values.

    Example:

    >>> from benchmarks.results import spread
    >>> spread([3.0, 1.0, 2.5], ".1f")
    '2.5 (1.0 to 3.0)'
    """
    if not values:
        return ""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def parse_pythons(texts: Sequence[str]) -> dict[str, str]:
    """Return the interpreters of `--python NAME=PATH`, by names."""
    return dict(text.split("=", 1) for text in texts)
