"""Carry out the plan of a benchmark, run by run."""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import keras
import numpy as np

from benchmarks.networks import Network, open_network, products_of_matrices
from benchmarks.plan import BenchmarkPlan
from benchmarks.ratio_plots import draw_growth, draw_ratios
from benchmarks.results import (
    AS_BUILT,
    BY_KERAS,
    OPTIMIZED,
    PLAIN,
    RUN_FIELDS,
    Result,
    Run,
    describe_machine,
    file_run,
    identity,
    read_rows,
    write_rows,
)
from benchmarks.timing import (
    Specification,
    Worker,
    alternate,
    clock_of,
    compare,
    rounds_of_processes,
    working,
)
from se_keras.counting import count
from se_keras.deploy.calibration import open_samples
from se_keras.deploy.engines import find_engine
from se_keras.deploy.targets import find_target
from se_keras.deploy.to_onnx import write_plain_onnx
from se_keras.graph import trace
from se_keras.metadata import input_type
from se_keras.rewrite.optimize import RULES, Rule, rewrite
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import lines_of
from se_keras.support.plotting import save_figure
from se_keras.support.tables import format_table
from se_keras.surgery import remove_se

ROUNDS = 15
# The limit of an engine is the fastest of a few products; other work slowed the others down.
LIMIT_ROUNDS = 5
# No more rounds are needed if the quartiles of the ratios differ by this share of the median.
CLOSE = 0.01
# Name of the change that the export to ONNX makes to gates, as if it were a rule of `optimize`.
SPREAD_GATES = "spread gates"

StartWorker = Callable[[Specification], Worker]


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """The result of `run_benchmark`; prints as a table.

    Attributes:
        results: results of the plan's runs in its order, without the runs that failed.
        failures: a sentence for each engine that failed.
        files: the CSV file and the pictures.
    """

    results: tuple[Result, ...]
    failures: tuple[str, ...]
    files: tuple[Path, ...]

    def __str__(self) -> str:
        header = [
            *("model", "form", "against", "engine", "precision", "size", "batch"),
            *("ms", "against ms", "ratio", "quartiles", "memory MB", "GFLOP/s", "of a product"),
        ]
        rows = [
            [
                *(r.model, r.form, r.against, r.engine, r.precision, r.size, r.batch),
                *(f"{r.ms:.2f}", f"{r.against_ms:.2f}", f"{r.ratio:.3f}"),
                f"{r.ratio_low:.3f} to {r.ratio_high:.3f}",
                _memory(r),
                *(f"{r.gflops:.1f}", f"{r.limit_gflops:.1f}"),
            ]
            for r in self.results
        ]
        return format_table(header, rows)


def _memory(result: Result) -> str:
    if result.memory_mb is None:
        return ""
    return f"{result.memory_mb:.0f} against {result.against_memory_mb:.0f}"


def run_benchmark(
    plan: BenchmarkPlan,
    out: str | os.PathLike,
    rounds: int = ROUNDS,
    start: StartWorker | None = None,
    name: str | None = None,
) -> BenchmarkReport:
    """Measure the runs that have no row in the CSV file yet, and write each row at once.

    A row counts only for the same version of the engine and the same machine. If an engine fails,
    during an export for it or while it runs, its runs get no rows and the failure is reported; the
    other engines continue.

    Args:
        plan: result of `plan_benchmark`.
        out: CSV file; pictures are drawn next to it.
        rounds: largest number of turns of each of the two networks; new processes start every third
            round, and `agree` may end them earlier.
        start: function that starts a worker; `None` for a process.
        name: name of the run that all rows of the file belong to; see `file_run`.

    Returns:
        The report.

    Raises:
        InputError: for a file of another run.
    """
    positive_integer("rounds", rounds)
    begin = start or (lambda given: Worker(given.command()))
    bench = _Benchmark(Path(out), rounds, begin, name)
    pending = [run for run in plan.runs if bench.key(run) not in bench.results]
    failures = [failure for group in _groups(pending) for failure in bench.measure(group)]
    results = tuple(bench.results[k] for k in map(bench.key, plan.runs) if k in bench.results)
    files = (bench.out, *_draw(bench.out, list(bench.results.values())))
    return BenchmarkReport(results=results, failures=tuple(failures), files=files)


def _groups(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Yield groups of runs that differ only in batch and form, and so share exported files."""
    for _, group in groupby(runs, key=lambda run: (run.model, run.size, run.format, run.precision)):
        yield list(group)


def _draw(out: Path, results: list[Result]) -> list[Path]:
    pictures = {"": draw_ratios, "-growth": draw_growth} if results else {}
    paths = []
    for suffix, draw in pictures.items():
        paths.append(out.with_name(f"{out.stem}{suffix}.png"))
        save_figure(draw(results), paths[-1])
    return paths


class _Benchmark:
    """The measured rows, and the way to measure another one."""

    def __init__(self, out: Path, rounds: int, start: StartWorker, name: str | None):
        self.out, self.rounds, self.start = out, rounds, start
        self.machine = describe_machine()
        rows = read_rows(Result, out)
        self.name = file_run(out, rows, name)
        self.results = {identity(r, r.engine, r.machine): r for r in rows}
        self._limits: dict[tuple, float] = {}
        self._built: Built | None = None

    def key(self, run: Run) -> tuple:
        return identity(run, find_engine(run.format).description, self.machine)

    def measure(self, group: list[Run]) -> Iterator[str]:
        """Measure the runs of one group; yield a sentence if that fails."""
        first = group[0]
        try:
            with tempfile.TemporaryDirectory() as folder:
                files = Files(self._open(first), first, Path(folder))
                for run in group:
                    self._keep(self._measure(run, files))
        # Converters and engines may raise any error, and the other engines must continue.
        except Exception as error:
            said = lines_of(error)[-1]
            yield f"{first.model}: {first.format} in {first.precision} broke: {said}"

    def _open(self, run: Run) -> "Built":
        if self._built is None or self._built.key != (run.model, run.size):
            self._built = Built(open_network(run.model, [run.size]), run.size)
        return self._built

    def _keep(self, result: Result) -> None:
        self.results[self.key(result)] = result
        write_rows(Result, self.out, list(self.results.values()))
        figures = f"{result.ms:.2f} ms against {result.against_ms:.2f}: {result.ratio:.3f}"
        print(*result.values, figures, sep=", ", flush=True)

    def _measure(self, run: Run, files: "Files") -> Result:
        plain = run.against == PLAIN
        network = files.specify(run, plain=False, form=run.form)
        twin = files.specify(run, plain=plain, form=run.form if plain else AS_BUILT)
        limit = self._limit(run)
        seconds, peaks = self._times([network, twin], self.rounds)
        times = compare(*seconds.T)
        memory = [peak and round(peak / 1e6, 1) for peak in peaks]
        return Result(
            **dict(zip(RUN_FIELDS, run.values, strict=True)),
            run=self.name,
            engine=find_engine(run.format).description,
            machine=self.machine,
            clock=clock_of(run.threads),
            rounds=len(seconds),
            ms=round(1e3 * times.seconds, 4),
            against_ms=round(1e3 * times.against_seconds, 4),
            ratio=round(times.ratio, 4),
            ratio_low=round(times.ratio_low, 4),
            ratio_high=round(times.ratio_high, 4),
            memory_mb=memory[0],
            against_memory_mb=memory[1],
            mega_macs=round(files.built.macs / 1e6, 3),
            gflops=round(2e-9 * files.built.macs * run.batch / times.seconds, 2),
            limit_gflops=limit,
        )

    def _limit(self, run: Run) -> float:
        """Return billions of operations per second of the fastest large product of matrices."""
        key = (run.format, run.precision, run.threads)
        if key not in self._limits:
            self._limits[key] = round(max(self._rates(run)), 1)
        return self._limits[key]

    def _rates(self, run: Run) -> Iterator[float]:
        for network, batch in products_of_matrices():
            alone = dataclasses.replace(run, batch=batch, size=network.sizes[0])
            with tempfile.TemporaryDirectory() as folder:
                built = Built(network, alone.size)
                given = Files(built, alone, Path(folder)).specify(alone, plain=False, form=AS_BUILT)
                seconds, _ = self._times([given], LIMIT_ROUNDS)
            yield 2e-9 * built.macs * batch / seconds.min()

    def _times(
        self, given: Sequence[Specification], rounds: int
    ) -> tuple[np.ndarray, list[int | None]]:
        """Return seconds of a call, (rounds, workers), and the peak memory of the last workers."""
        parts: list[np.ndarray] = []
        for part in rounds_of_processes(rounds):
            with working(self.start, given) as workers:
                parts.append(alternate(workers, part))
            if len(given) > 1 and agree(parts):
                break
        return np.concatenate(parts), [worker.peak_memory for worker in workers]


def agree(parts: Sequence[np.ndarray]) -> bool:
    """Return whether the ratios of at least two pairs of processes are so close that they do.

    Args:
        parts: seconds of each pair of processes, (rounds, 2).

    Example:

    >>> import numpy as np
    >>> from benchmarks.measure import agree
    >>> first, second = np.array([[1.1, 1.0]] * 3), np.array([[1.105, 1.0]] * 3)
    >>> agree([first]), agree([first, second]), agree([first, 1.02 * second[:, ::-1]])
    (False, True, False)
    """
    ratios = np.concatenate(parts)[:, 0] / np.concatenate(parts)[:, 1]
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return len(parts) > 1 and bool(high - low <= CLOSE * middle)


class Built:
    """A network at one size, with its other forms, each made when it is first asked for."""

    def __init__(self, network: Network, size: int):
        keras.utils.clear_session(free_memory=False)
        self.key = (network.name, size)
        self.size = size
        self.model = network.build(size)
        self.macs = count(self.model, self.image).macs
        self._forms: dict[tuple, keras.Model] = {(False, AS_BUILT, ()): self.model}

    @property
    def image(self) -> tuple[int, ...]:
        """The shape of an image."""
        return tuple(self.size if n is None else n for n in self.model.inputs[0].shape[1:])

    def form(self, plain: bool, form: str, rules: tuple[Rule, ...] = ()) -> keras.Model:
        """Return the network or its plain twin, as built or optimized by some rules."""
        key = (plain, form, rules)
        if key not in self._forms:
            if form == OPTIMIZED:
                self._forms[key] = _optimize_by(rules, self.form(plain, AS_BUILT))
            else:
                self._forms[key] = remove_se(self.model)
        return self._forms[key]


class Files:
    """The exported files of a network and its twin; each is made when it is first needed.

    Args:
        built: the network to export.
        run: the format, precision and size.
        folder: the folder of the files.
        without: names of the rules that `optimize` leaves out; may include `SPREAD_GATES`.
    """

    def __init__(self, built: Built, run: Run, folder: Path, without: Sequence[str] = ()):
        self.built, self.run, self.folder, self.without = built, run, folder, without
        self._paths: dict[tuple, Path] = {}

    def specify(self, run: Run, *, plain: bool, form: str) -> Specification:
        return Specification(
            format=run.format,
            precision=run.precision,
            path=str(self.path(plain, form)),
            threads=run.threads,
            shape=(run.batch, *self.built.image),
            dtype=input_type(self.built.model.inputs[0]),
            clock=clock_of(run.threads),
        )

    def path(self, plain: bool, form: str) -> Path:
        """Return the file; forms that are one and the same network have one file."""
        key = (id(self._model(plain, form)), self._is_arranged(form), form == BY_KERAS)
        if key not in self._paths:
            self._paths[key] = self._write(plain, form)
        return self._paths[key]

    def _model(self, plain: bool, form: str) -> keras.Model:
        if form == AS_BUILT:
            return self.built.form(plain, AS_BUILT)
        # Keras exports what `optimize` returns, without the rules for an engine.
        rules = (
            RULES if form == BY_KERAS else find_target(self.run.format, self.run.precision).rules
        )
        left = tuple(rule for rule in rules if rule.name not in self.without)
        return self.built.form(plain, OPTIMIZED, left)

    def _is_arranged(self, form: str) -> bool:
        """Return whether the export to ONNX arranges the gates."""
        is_onnx = (self.run.format, self.run.precision) == ("onnx", "float32")
        return is_onnx and form == OPTIMIZED and SPREAD_GATES not in self.without

    def _write(self, plain: bool, form: str) -> Path:
        model, run = self._model(plain, form), self.run
        path = self.folder / f"{len(self._paths)}{find_engine(run.format).suffix}"
        if form == BY_KERAS:
            model.export(str(path), verbose=False)
            return path
        if (run.format, run.precision) == ("onnx", "float32") and not self._is_arranged(form):
            write_plain_onnx(model, path)
            return path
        # Times do not depend on the images, but int8 needs ranges of activations.
        find_target(run.format, run.precision).write_file(
            model, path, open_samples(model, None).comparison
        )
        return path


def _optimize_by(rules: Sequence[Rule], model: keras.Model) -> keras.Model:
    """Return the optimized network, or the same object if nothing changes."""
    graph = trace(model)
    report = rewrite(graph, rules)
    return graph.build() if any(step.done for step in report.steps) else model
