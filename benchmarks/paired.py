"""Test with pairs of processes whether a model is slower after `optimize` than before.

python -m benchmarks.paired [MODEL ...] [--formats A,B] [--batches 1,8] [--without RULE ...]
python -m benchmarks.paired MODEL ... --by-keras [--batches 1,8]    our SavedModel against Keras'

A pair is two new processes with one thread each, one with the model as built and one with it
optimized. They take turns, and the ratio of a pair is the ratio of their CPU times. The default
models are six whose ratios were in doubt (also at batch 8), and each network of
keras.applications at its usual size. `--by-keras` compares the exported SavedModel with the one
that Keras exports of the same optimized model, by default for SE-ResNet-50.

The interval contains the median ratio with a probability of at least 95 % for any distribution of
the times: it lies between two of the sorted ratios, by the sign test. A model is called slower or
faster if 1 is outside of the interval, and slower only if as many further pairs say the same.
Nothing is measured if `optimize` leaves a network as it is, or if both files have the same bytes.

A process for each network builds it once, and stays on one core together with its pairs. `--lanes`
networks are measured at the same time. Each row is written to the CSV file when it is measured, and
is not measured again. `--without` leaves out rules of `optimize`, with one row for each rule, to
find the rule that costs time.
"""

import argparse
import dataclasses
import filecmp
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.measure import SPREAD_GATES, Built, Files, StartWorker
from benchmarks.networks import APPLICATIONS, open_network
from benchmarks.results import (
    AS_BUILT,
    BY_KERAS,
    OPTIMIZED,
    Run,
    describe_machine,
    file_run,
    read_rows,
    write_rows,
)
from benchmarks.timing import Worker, alternate, working
from benchmarks.worker import claim_output
from se_keras.deploy.engines import find_engine
from se_keras.deploy.targets import TARGETS
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import InputError, lines_of
from se_keras.support.tables import format_table

RESULTS = Path(__file__).with_name("results") / "paired.csv"
RULE_NAMES = list(dict.fromkeys(rule.name for target in TARGETS for rule in target.rules))
# The models whose ratios were in doubt, then all others in the order of their computation.
MAIN = "seresnet50"
IN_DOUBT = (
    "EfficientNetB0",
    "semobilenet",
    "seresnext50_32x4d",
    "senet154",
    "seresnet20",
    MAIN,
)
MODELS = (*IN_DOUBT, *(name for name in APPLICATIONS if name not in IN_DOUBT))
FORMATS = ("onnx", "openvino", "tf_saved_model")
# With fewer pairs, not even the smallest and the largest ratio enclose the median with 95 %.
PAIRS, LEAST_PAIRS = 6, 6
# Processes differ more than the turns of one.
TURNS = 3
LANES = 2
# What a process of TensorFlow takes at most for a network with its weights as constants, and the
# share of the machine's memory that all processes may take.
COPIES_OF_WEIGHTS = 22
MEMORY_SHARE = 0.8
COVERAGE = 0.95
SLOWER, FASTER, NO_DIFFERENCE, SAME = "slower", "faster", "no difference", "same file"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the CSV file.

    Attributes:
        run: name of the run.
        model, format, batch, size: the measured model, in float32 on one thread.
        against: the other file: of the model as built, or Keras' export of the optimized model.
        without: the rule that `optimize` left out; empty if none.
        engine, machine: package and version; the processor.
        ms, against_ms: CPU milliseconds of a batch, of the optimized model's file and the other
            one: medians over the pairs.
        ratio, ratio_low, ratio_high: median of the pairs' ratios, and its interval.
        ratios: ratios of all pairs, separated by spaces.
        verdict: `"slower"`, `"faster"`, `"no difference"`; or `"same file"`, without figures.
    """

    run: str
    model: str
    format: str
    against: str
    batch: int
    size: int
    without: str
    engine: str
    machine: str
    ms: float | None
    against_ms: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    ratios: str
    verdict: str

    @property
    def key(self) -> tuple:
        return (*_key(self), self.without, self.engine)


def _key(row: "Row | Run") -> tuple:
    return (row.model, row.format, row.against, row.batch, row.size)


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
    """Return the seconds of a call, (pairs, 2), of the optimized model's file and the other one."""
    given = [files.specify(run, plain=False, form=form) for form in (OPTIMIZED, run.against)]
    seconds = []
    for number in range(pairs):
        # Pairs alternate in who is first, as turns do.
        order = slice(None, None, -1) if number % 2 else slice(None)
        with working(start, given[order]) as workers:
            seconds.append(np.median(alternate(workers, TURNS), axis=0)[order])
    return np.array(seconds)


def same_file(first: Path, second: Path) -> bool:
    """Return whether both are the same file or folder, or files with the same bytes."""
    if first == second:
        return True
    return first.is_file() and second.is_file() and filecmp.cmp(first, second, shallow=False)


def measure(files: Files, run: Run, name: str, pairs: int, start: StartWorker) -> Row:
    """Measure one row; twice as many pairs if the first say that it is slower."""
    row = Row(
        run=name,
        model=run.model,
        format=run.format,
        against=run.against,
        batch=run.batch,
        size=run.size,
        without=" ".join(files.without),
        engine=find_engine(run.format).description,
        machine=describe_machine(),
        **dict.fromkeys(("ms", "against_ms", "ratio", "ratio_low", "ratio_high")),
        ratios="",
        verdict=SAME,
    )
    if same_file(*(files.path(False, form) for form in (OPTIMIZED, run.against))):
        return row
    seconds = measure_pairs(files, run, pairs, start)
    verdict = judge(seconds[:, 0] / seconds[:, 1])
    if verdict == SLOWER:
        again = measure_pairs(files, run, pairs, start)
        confirmed = judge(again[:, 0] / again[:, 1]) == SLOWER
        verdict = SLOWER if confirmed else NO_DIFFERENCE
        seconds = np.concatenate([seconds, again])
    ratios = [round(float(ratio), 4) for ratio in seconds[:, 0] / seconds[:, 1]]
    low, high = interval(ratios)
    ms, against_ms = (round(1e3 * float(median), 3) for median in np.median(seconds, axis=0))
    return dataclasses.replace(
        row,
        ms=ms,
        against_ms=against_ms,
        ratio=round(float(np.median(ratios)), 4),
        ratio_low=low,
        ratio_high=high,
        ratios=" ".join(map(str, ratios)),
        verdict=verdict,
    )


# --- the plan, network by network ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of one process: rows of one network at one size.

    Attributes:
        run: name of the run.
        tasks: the runs, each with the rule that `optimize` leaves out or an empty text.
        pairs: number of pairs of each row.
        core: core of the process; `None` for any.
        lanes: number of jobs that share the memory.
    """

    run: str
    tasks: tuple[tuple[Run, str], ...]
    pairs: int
    core: int | None = None
    lanes: int = 1

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        given = json.loads(text)
        tasks = tuple((Run(**run), rule) for run, rule in given.pop("tasks"))
        return cls(tasks=tasks, **given)


Found = Row | str
# A function that measures a job: yields rows, and a sentence for each failure.
Measure = Callable[[Job], Iterator[Found]]


def measure_job(job: Job, start: StartWorker | None = None) -> Iterator[Found]:
    """Measure rows of one network, which is built once, in this process."""
    begin = start or (lambda given: Worker(given.command()))
    built = None
    # Rows that differ in the batch alone share their files.
    for (format, rule), tasks in groupby(job.tasks, key=lambda task: (task[0].format, task[1])):
        runs = [run for run, _ in tasks]
        try:
            built = built or Built(open_network(runs[0].model, [runs[0].size]), runs[0].size)
            with tempfile.TemporaryDirectory() as folder:
                files = Files(built, runs[0], Path(folder), [rule] if rule else [])
                _check_memory(files, job.lanes)
                for run in runs:
                    yield measure(files, run, job.run, job.pairs, begin)
        # Converters and engines may raise any error, and the other rows must be measured.
        except Exception as error:
            yield f"{runs[0].model}: {format} broke: {lines_of(error)[-1]}"


def _check_memory(files: Files, lanes: int) -> None:
    """Refuse a pair of TensorFlow processes that does not fit into the memory of a lane.

    Raises:
        InputError: if it does not fit.
    """
    weights = 4 * files.built.model.count_params()
    needed = 2 * COPIES_OF_WEIGHTS * weights if files.run.format == "tf_saved_model" else 0
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE / lanes
    same = same_file(*(files.path(False, form) for form in (OPTIMIZED, AS_BUILT)))
    if needed > there and not same:
        raise InputError(
            f"two processes need about {needed / 1e9:.0f} GB, but one of {lanes} lanes has "
            f"{there / 1e9:.0f} GB."
        )


def in_process(job: Job) -> Iterator[Found]:
    """Measure rows of one network in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.paired", "--job", job.to_json()]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment
        ) as process,
    ):
        for line in process.stdout:
            found = json.loads(line)
            yield found if isinstance(found, str) else Row(**found)
        if process.wait():
            said.seek(0)
            last = [line.strip() for line in said if line.strip()][-1:]
            reason = last[0] if last else f"it ended with code {process.returncode}"
            yield f"{job.tasks[0][0].model} broke: {reason}"


def serve_job(text: str) -> None:
    """Measure a job for `in_process`, on the core of the job."""
    answers, job = claim_output(), Job.from_json(text)
    if job.core is not None:
        os.sched_setaffinity(0, {job.core})
    for found in measure_job(job):
        line = found if isinstance(found, str) else dataclasses.asdict(found)
        answers.write(json.dumps(line) + "\n")


def plan(
    models: Sequence[str],
    formats: Sequence[str],
    batches: Sequence[int],
    sizes: Sequence[int] | None = None,
    against: str = AS_BUILT,
) -> list[Run]:
    """Return the rows to measure, in order."""
    return [
        Run(
            model=network.name,
            form=OPTIMIZED,
            against=against,
            format=format,
            precision="float32",
            batch=batch,
            size=size,
            threads=1,
        )
        for network in (open_network(model, sizes) for model in models)
        for size, format, batch in product(network.sizes, formats, batches)
    ]


def everything(formats: Sequence[str] = FORMATS) -> list[Run]:
    """Return the runs of the default models."""
    saved_models = [name for name in formats if name == "tf_saved_model"]
    return [
        *plan(IN_DOUBT, formats, (1, 8)),
        *plan([MAIN], saved_models, (1, 8), against=BY_KERAS),
        *plan(MODELS[len(IN_DOUBT) :], formats, (1,)),
    ]


def pending(
    planned: Sequence[Run], without: Sequence[str], rows: Sequence[Row], name: str, pairs: int
) -> list[Job]:
    """Return the runs that have no row yet: a job for each network and size."""
    done = {row.key for row in rows}
    tasks = [
        (run, rule)
        for run, rule in product(planned, without)
        if (*_key(run), rule, find_engine(run.format).description) not in done
    ]
    return [
        Job(run=name, tasks=tuple(own), pairs=pairs)
        for _, own in groupby(tasks, key=lambda task: (task[0].model, task[0].size))
    ]


def go_on(
    planned: Sequence[Run],
    path: Path,
    without: Sequence[str] = ("",),
    pairs: int = PAIRS,
    run: str | None = None,
    lanes: int = LANES,
    measure: Measure = in_process,
) -> list[Row]:
    """Measure the rows that are not in the file yet; print failures and leave them out.

    Raises:
        InputError: if there are too few pairs for an interval, or the file has another run.
    """
    positive_integer("pairs", pairs)
    positive_integer("lanes", lanes)
    if pairs < LEAST_PAIRS:
        raise InputError(f"`pairs` must be at least {LEAST_PAIRS}, got {pairs}.")
    rows = read_rows(Row, path)
    name = file_run(path, rows, run)
    cores = cores_of(lanes)
    # What does not fit into the memory beside another network is measured alone.
    for its_cores in [cores, cores[:1]] if len(cores) > 1 else [cores]:
        jobs = iter(pending(planned, without, rows, name, pairs))
        lock = threading.Lock()
        with ThreadPoolExecutor(len(its_cores)) as pool:
            lane = partial(_work, jobs, lock, rows, path, measure, len(its_cores))
            list(pool.map(lane, its_cores))
    return rows


def _work(
    jobs: Iterator[Job],
    lock: threading.Lock,
    rows: list[Row],
    path: Path,
    measure: Measure,
    lanes: int,
    core: int | None,
) -> None:
    """Take one job after the other, and keep what it finds."""
    while True:
        with lock:
            job = next(jobs, None)
        if job is None:
            return
        for found in measure(dataclasses.replace(job, core=core, lanes=lanes)):
            with lock:
                _keep(found, rows, path)


def _keep(found: Found, rows: list[Row], path: Path) -> None:
    if isinstance(found, str):
        print(found, flush=True)
        return
    rows.append(found)
    write_rows(Row, path, rows)
    print(table(rows[-1:]).splitlines()[-1], flush=True)


def cores_of(lanes: int) -> list[int | None]:
    """Return the core of each lane; there are no more lanes than cores."""
    if not hasattr(os, "sched_getaffinity"):
        return [None]
    return sorted(os.sched_getaffinity(0))[:lanes]


def table(rows: Sequence[Row]) -> str:
    header = ["model", "engine", "batch", "size", "without", "ms", "against", "ms", "ratio"]
    lines = [
        [row.model, row.engine, row.batch, row.size, row.without, *_figures(row), row.verdict]
        for row in rows
    ]
    return format_table([*header, "interval", "optimized is"], lines)


def _figures(row: Row) -> list[str]:
    if row.ratio is None:
        return ["", row.against, "", "", ""]
    times = [f"{row.ms:.2f}", row.against, f"{row.against_ms:.2f}"]
    return [*times, f"{row.ratio:.3f}", f"{row.ratio_low:.3f} to {row.ratio_high:.3f}"]


def _words(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument(
        "--formats", type=_words, metavar="A,B", help=f"(default: {','.join(FORMATS)})"
    )
    parser.add_argument(
        "--by-keras", action="store_true", help="compare the SavedModel with Keras' own export"
    )
    parser.add_argument("--batches", type=_words, metavar="A,B", help="(default: 1)")
    parser.add_argument(
        "--sizes",
        type=_words,
        metavar="A,B",
        help="image sizes in pixels (default: the usual size of each model)",
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, metavar="N")
    parser.add_argument(
        "--lanes",
        type=int,
        default=LANES,
        metavar="N",
        help="number of cores that measure at the same time",
    )
    parser.add_argument(
        "--without",
        action="append",
        choices=[*RULE_NAMES, SPREAD_GATES],
        help="leave this rule of `optimize` or of the export out; may be given several times",
    )
    parser.add_argument(
        "--run", metavar="NAME", help="name of the run (default: as in the file, or the date)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        serve_job(options.job)
        return
    if options.by_keras and options.formats:
        parser.error("--formats: --by-keras compares SavedModels alone")
    if (options.batches or options.sizes) and not (options.models or options.by_keras):
        parser.error("--batches and --sizes need a MODEL or --by-keras")
    try:
        rows = go_on(
            _planned(options),
            options.out,
            options.without or [""],
            options.pairs,
            options.run,
            options.lanes,
        )
    except InputError as error:
        parser.error(str(error))
    print(table(rows))


def _planned(options: argparse.Namespace) -> list[Run]:
    formats = options.formats or FORMATS
    if not options.models and not options.by_keras:
        return everything(formats)
    sizes = options.sizes and [int(size) for size in options.sizes]
    batches = list(map(int, options.batches or ["1"]))
    if options.by_keras:
        return plan(options.models or [MAIN], ["tf_saved_model"], batches, sizes, BY_KERAS)
    return plan(options.models, formats, batches, sizes)


if __name__ == "__main__":
    sys.exit(main())
