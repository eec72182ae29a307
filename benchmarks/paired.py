"""Test with pairs of processes whether a model is slower after `optimize` than before.

python -m benchmarks.paired [MODEL ...] [--formats A,B] [--batches 1,8] [--without RULE ...]

A pair is two new processes with one thread each, one with the model as built and one with it
optimized. They take turns, and the ratio of a pair is the ratio of their CPU times. The default
models are three whose ratios were in doubt, and each network of keras.applications at its usual
size. The interval contains the median ratio with a probability of at least 95 % for any
distribution of the times: it lies between two of the sorted ratios, by the sign test. A model is
called slower or faster if 1 is outside of the interval, and slower only if as many further pairs
say the same. Each row is written to the CSV file when it is measured, and is not measured again.
`--without` leaves out rules of `optimize`, with one row for each rule, to find the rule that costs
time.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.measure import SPREAD_GATES, Files, StartWorker
from benchmarks.networks import APPLICATIONS, Network, open_network
from benchmarks.results import (
    AS_BUILT,
    OPTIMIZED,
    Run,
    describe_machine,
    file_run,
    read_rows,
    write_rows,
)
from benchmarks.timing import Worker, alternate
from se_keras.deploy.engines import find_engine
from se_keras.rewrite.optimize import RULES
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import InputError, lines_of
from se_keras.support.tables import format_table

RESULTS = Path(__file__).with_name("results") / "paired.csv"
# The models whose ratios were in doubt, then all others in the order of their computation.
IN_DOUBT = ("EfficientNetB0", "seresnext50_32x4d", "senet154")
MODELS = (*IN_DOUBT, *(name for name in APPLICATIONS if name not in IN_DOUBT))
FORMATS = ("onnx", "openvino", "tf_saved_model")
# With fewer pairs, not even the smallest and the largest ratio enclose the median with 95 %.
PAIRS, LEAST_PAIRS = 6, 6
TURNS = 5
COVERAGE = 0.95
SLOWER, FASTER, NO_DIFFERENCE = "slower", "faster", "no difference"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the CSV file.

    Attributes:
        run: name of the run.
        model, format, batch, size: the measured model, in float32 on one thread.
        without: the rule that `optimize` left out; empty if none.
        engine, machine: package and version; the processor.
        ms, built_ms: CPU milliseconds of a batch, optimized and as built: medians over the pairs.
        ratio, ratio_low, ratio_high: median of the pairs' ratios, and its interval.
        ratios: ratios of all pairs, separated by spaces.
        verdict: `"slower"`, `"faster"` or `"no difference"`.
    """

    run: str
    model: str
    format: str
    batch: int
    size: int
    without: str
    engine: str
    machine: str
    ms: float
    built_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    ratios: str
    verdict: str

    @property
    def key(self) -> tuple:
        return (self.model, self.format, self.batch, self.size, self.without, self.engine)


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return two of the sorted ratios that enclose the median with a probability of at least 95 %.

    The k-th smallest and the k-th largest of n ratios enclose it with probability 1 - 2 P(B < k),
    where B is the number of heads of n coins.

    Example:

    >>> from benchmarks.paired import interval
    >>> interval([1.0, 1.1, 0.9, 1.2, 1.0, 1.05])
    (0.9, 1.2)
    """
    ordered = sorted(ratios)
    rank = int(stats.binom.ppf((1 - COVERAGE) / 2, len(ordered), 0.5))
    return ordered[rank - 1], ordered[-rank]


def judge(ratios: Sequence[float]) -> str:
    """Return the verdict of one set of pairs.

    Example:

    >>> from benchmarks.paired import judge
    >>> judge([1.02, 1.03, 1.01, 1.02, 1.04, 1.02])
    'slower'
    >>> judge([1.02, 1.03, 1.01, 1.02, 1.04, 0.99])
    'no difference'
    """
    low, high = interval(ratios)
    return SLOWER if low > 1 else FASTER if high < 1 else NO_DIFFERENCE


def measure_pairs(files: Files, run: Run, pairs: int, start: StartWorker) -> np.ndarray:
    """Return the seconds of a call, (pairs, 2): optimized, and as built."""
    given = [files.specify(run, plain=False, form=form) for form in (OPTIMIZED, AS_BUILT)]
    seconds = []
    for number in range(pairs):
        # Pairs alternate in who is first, as turns do.
        order = slice(None, None, -1) if number % 2 else slice(None)
        with ExitStack() as stack:
            workers = [stack.enter_context(start(one)) for one in given[order]]
            seconds.append(np.median(alternate(workers, TURNS), axis=0)[order])
    return np.array(seconds)


def measure(
    network: Network, run: Run, without: str, name: str, pairs: int, start: StartWorker
) -> Row:
    """Measure one row; twice as many pairs if the first say that it is slower."""
    with tempfile.TemporaryDirectory() as folder:
        files = Files(network, run, Path(folder), [without] if without else [])
        seconds = measure_pairs(files, run, pairs, start)
        verdict = judge(seconds[:, 0] / seconds[:, 1])
        if verdict == SLOWER:
            again = measure_pairs(files, run, pairs, start)
            confirmed = judge(again[:, 0] / again[:, 1]) == SLOWER
            verdict = SLOWER if confirmed else NO_DIFFERENCE
            seconds = np.concatenate([seconds, again])
    ratios = [round(float(ratio), 4) for ratio in seconds[:, 0] / seconds[:, 1]]
    low, high = interval(ratios)
    ms, built_ms = (round(1e3 * float(median), 3) for median in np.median(seconds, axis=0))
    return Row(
        run=name,
        model=run.model,
        format=run.format,
        batch=run.batch,
        size=run.size,
        without=without,
        engine=find_engine(run.format).description,
        machine=describe_machine(),
        ms=ms,
        built_ms=built_ms,
        ratio=round(float(np.median(ratios)), 4),
        ratio_low=low,
        ratio_high=high,
        ratios=" ".join(map(str, ratios)),
        verdict=verdict,
    )


def plan(
    models: Sequence[str],
    formats: Sequence[str],
    batches: Sequence[int],
    sizes: Sequence[int] | None = None,
) -> list[tuple[Network, Run]]:
    """Return the rows to measure, in order."""
    return [
        (network, _run(network, format, batch, size))
        for network in (open_network(model, sizes) for model in models)
        for size, batch, format in product(network.sizes, batches, formats)
    ]


def _run(network: Network, format: str, batch: int, size: int) -> Run:
    return Run(
        model=network.name,
        form=OPTIMIZED,
        against=AS_BUILT,
        format=format,
        precision="float32",
        batch=batch,
        size=size,
        threads=1,
    )


def go_on(
    planned: Sequence[tuple[Network, Run]],
    path: Path,
    without: Sequence[str] = ("",),
    pairs: int = PAIRS,
    run: str | None = None,
    start: StartWorker | None = None,
) -> list[Row]:
    """Measure the rows that are not in the file yet; print failures and leave them out.

    Raises:
        InputError: if there are too few pairs for an interval, or the file has another run.
    """
    positive_integer("pairs", pairs)
    if pairs < LEAST_PAIRS:
        raise InputError(f"`pairs` must be at least {LEAST_PAIRS}, got {pairs}.")
    rows = read_rows(Row, path)
    name = file_run(path, rows, run)
    begin = start or (lambda given: Worker(given.command()))
    done = {row.key for row in rows}
    for (network, one), rule in product(planned, without):
        engine = find_engine(one.format).description
        if (one.model, one.format, one.batch, one.size, rule, engine) in done:
            continue
        try:
            rows.append(measure(network, one, rule, name, pairs, begin))
            # Converters and engines may raise any error, and the other rows must be measured.
        except Exception as error:
            print(f"{one.model}: {one.format} broke: {lines_of(error)[-1]}", flush=True)
            continue
        write_rows(Row, path, rows)
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def table(rows: Sequence[Row]) -> str:
    header = ["model", "engine", "batch", "size", "without", "ms", "as built", "ratio", "interval"]
    lines = [
        [
            *(row.model, row.engine, row.batch, row.size, row.without),
            *(f"{row.ms:.2f}", f"{row.built_ms:.2f}", f"{row.ratio:.3f}"),
            *(f"{row.ratio_low:.3f} to {row.ratio_high:.3f}", row.verdict),
        ]
        for row in rows
    ]
    return format_table([*header, "optimized is"], lines)


def _words(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--formats", type=_words, default=list(FORMATS), metavar="A,B")
    parser.add_argument("--batches", type=_words, default=["1"], metavar="A,B")
    parser.add_argument(
        "--sizes",
        type=_words,
        metavar="A,B",
        help="image sizes in pixels (default: the usual size of each model)",
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, metavar="N")
    parser.add_argument(
        "--without",
        action="append",
        choices=[*(rule.name for rule in RULES), SPREAD_GATES],
        help="leave this rule of `optimize` out; may be given several times",
    )
    parser.add_argument(
        "--run", metavar="NAME", help="name of the run (default: as in the file, or the date)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        sizes = options.sizes and [int(size) for size in options.sizes]
        planned = plan(options.models, options.formats, list(map(int, options.batches)), sizes)
        rows = go_on(planned, options.out, options.without or [""], options.pairs, options.run)
    except InputError as error:
        parser.error(str(error))
    print(table(rows))


if __name__ == "__main__":
    sys.exit(main())
