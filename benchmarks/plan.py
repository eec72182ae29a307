"""The plan of a benchmark: a table of runs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.networks import Network, open_network
from benchmarks.results import AS_BUILT, OPTIMIZED, PLAIN, RUN_FIELDS, Run
from benchmarks.timing import clock_of
from se_keras.deploy.engines import ENGINES, find_engine
from se_keras.deploy.targets import TARGETS, find_target
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import MissingExtraError
from se_keras.support.tables import format_table

BATCHES = (1, 8, 32)


@dataclass(frozen=True, kw_only=True)
class BenchmarkPlan:
    """The result of `plan_benchmark`; prints as a table.

    Attributes:
        runs: one run for each row of the CSV file.
        left_out: a sentence for each format that is not installed.
    """

    runs: tuple[Run, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        rows = [[*run.values, clock_of(run.threads)] for run in self.runs]
        table = format_table([*RUN_FIELDS, "clock"], rows)
        return "\n".join([table, *self.left_out])


def plan_benchmark(
    models: Sequence[str],
    *,
    formats: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    batches: Sequence[int] = BATCHES,
    sizes: Sequence[int] | None = None,
    threads: int | None = None,
) -> BenchmarkPlan:
    """Return the table of runs.

    Args:
        models: names of the catalog or of `keras.applications`, or `.keras` files.
        formats: as in `se_keras.export`; `None` for all installed formats.
        precisions: precisions of these formats; `None` for all.
        batches: batch sizes.
        sizes: image sizes in pixels; `None` for the default size of each model.
        threads: number of threads; `None` for all cores.

    Raises:
        InputError: if a model, format or precision does not exist.

    Example:

    >>> from benchmarks.plan import plan_benchmark
    >>> plan = plan_benchmark(["seresnet20"], formats=["tf_saved_model"], batches=[8], threads=1)
    >>> [(run.form, run.precision, run.size) for run in plan.runs]
    [('as built', 'float32', 32), ('optimized', 'float32', 32), \
('as built', 'bfloat16', 32), ('optimized', 'bfloat16', 32)]
    """
    for argument, numbers in (("batches", batches), ("sizes", sizes or ())):
        for number in numbers:
            positive_integer(argument, number)
    if threads is not None:
        positive_integer("threads", threads)
    networks = [open_network(model, sizes) for model in models]
    targets, left_out = _targets(formats, precisions)
    runs = tuple(
        Run(
            model=network.name,
            form=form,
            against=against,
            format=format,
            precision=precision,
            batch=batch,
            size=size,
            threads=threads or os.cpu_count() or 1,
        )
        for network in networks
        for size in network.sizes
        for format, precision in targets
        for batch in batches
        for form, against in _forms(network)
    )
    return BenchmarkPlan(runs=runs, left_out=left_out)


def _forms(network: Network) -> tuple[tuple[str, str], ...]:
    if network.has_se:
        return ((AS_BUILT, PLAIN), (OPTIMIZED, PLAIN))
    return ((OPTIMIZED, AS_BUILT),)


def _targets(
    formats: Sequence[str] | None, precisions: Sequence[str] | None
) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return formats and precisions that can run, and a sentence for each format that can't."""
    there, left_out = _find_installed(formats)
    pairs = [(t.format, t.precision) for name in there for t in TARGETS if t.format == name]
    if not precisions:
        return pairs, left_out
    for precision in precisions:
        if precision not in {known for _, known in pairs}:
            find_target(there[0], precision)  # says what there is
    return [pair for pair in pairs if pair[1] in precisions], left_out


def _find_installed(formats: Sequence[str] | None) -> tuple[list[str], tuple[str, ...]]:
    """Return the installed formats; formats that the user names must be installed."""
    if formats:
        for name in formats:
            find_engine(name).require()
        return list(formats), ()
    there, left_out = [], []
    for engine in ENGINES:
        try:
            engine.require()
            there.append(engine.format)
        except MissingExtraError as error:
            left_out.append(f"left out: {engine.format}: {error}")
    return there, tuple(left_out)
