"""Compare SE networks with their plain twins in training and inference, on a GPU if there is one.

KERAS_BACKEND=jax python -m benchmarks.device_step [--out FILE.csv]

Measures this package on JAX and PyTorch, and timm if it is installed. TensorFlow and a network
connection are not needed. An SE network and its plain twin are two processes that take turns, in
alternating order. Each work of such a pair is one row of the CSV file, which is written when the
row is done, so a stopped run continues with the next row. What fails, for example because a batch
is too large for the device, is named and left out. Rows have wall times: medians, and the
quartiles of the ratios within a round.
"""

import argparse
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.results import describe_machine, read_rows, write_rows
from benchmarks.timing import Worker, WorkerError, alternate, compare, working
from se_keras.support.tables import format_table

RESULTS = Path(__file__).with_name("results") / "device.csv"
NEEDS = {"jax": ("jax",), "torch": ("torch",), "timm": ("timm", "torchvision")}
CHOICES = {
    "networks": ("seresnet50", "seresnext50_32x4d", "semobilenet"),
    "makers": tuple(name for name, needs in NEEDS.items() if all(map(find_spec, needs))),
    "works": ("training", "inference", "optimized"),
    "precisions": ("float32", "bfloat16"),
}
FORMATS = ("channels_last", "channels_first")
# A turn is at least this long: no other program uses the device, so it may be shorter than on a
# processor.
TURN_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network that one process measures, with SE or without.

    Attributes:
        maker: `"jax"`, `"torch"` or `"timm"`; see `device_side`.
        network: name in the catalog, which timm has too.
        size: height and width in pixels.
        data_format: data format of Keras; timm uses PyTorch's channels_last.
        compiled: 1 with `torch.compile`, else 0. JAX always compiles.
    """

    maker: str
    network: str
    size: int
    data_format: str
    compiled: int


@dataclass(frozen=True, kw_only=True)
class Work(Network):
    """The work that is compared between two processes, one with SE and one without.

    Attributes:
        work: `"training"`, `"inference"`, or `"optimized"`: inference after `se_keras.optimize`.
        precision: `"float32"`, or `"bfloat16"` with weights in float32.
        batch: batch size.
    """

    work: str
    precision: str
    batch: int

    def told(self) -> str:
        compiled = ", compiled" * self.compiled
        return (
            f"{self.network}, {self.maker}{compiled}, {self.work}, {self.precision}, {self.batch}"
        )

    def process(self) -> Network:
        return Network(**{name: getattr(self, name) for name in names_of(Network)})


class DeviceWorker(Worker):
    """A process of `device_side`, which has several works.

    Attributes:
        number: place of the work in the list that `turn` runs.
    """

    number = 0

    def __init__(self, network: Network, works: Sequence[Work], se: bool):
        given = [(work.work, work.precision, work.batch) for work in works]
        text = json.dumps(dataclasses.asdict(network) | {"se": se, "works": given})
        super().__init__([sys.executable, "-m", "benchmarks.device_side", "run", text])

    def turn(self, calls: int) -> float:
        answer = self.ask(f"{self.number} {calls}")
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["seconds"]


@dataclass(frozen=True, kw_only=True)
class Row(Work):
    """A row of the CSV file.

    Attributes:
        device: name of the device, and version of the library that computes on it.
        machine: the processor.
        rounds: number of turns of each process.
        ms, plain_ms: median milliseconds of one step, with SE and without.
        ratio, ratio_low, ratio_high: median and quartiles of the ratios within a round.
        load: load of the machine in the minute before the end, including these processes.
    """

    device: str
    machine: str
    rounds: int
    ms: float
    plain_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    load: float


def names_of(record: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(record))


def measure(work: Work, both: Sequence[DeviceWorker], device: str, rounds: int) -> Row:
    seconds = alternate(both, rounds, TURN_SECONDS)
    found = compare(*seconds.T)
    return Row(
        **dataclasses.asdict(work),
        device=device,
        machine=describe_machine(),
        rounds=rounds,
        ms=round(1000 * found.seconds, 3),
        plain_ms=round(1000 * found.against_seconds, 3),
        ratio=round(found.ratio, 4),
        ratio_low=round(found.ratio_low, 4),
        ratio_high=round(found.ratio_high, 4),
        load=round(os.getloadavg()[0], 1),
    )


def find_device(maker: str) -> str:
    command = [sys.executable, "-m", "benchmarks.device_side", "device", maker]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def go_on(works: Sequence[Work], rounds: int, path: Path) -> list[Row]:
    """Measure the rows that the file does not have for this device; return all its rows."""
    devices = {maker: find_device(maker) for maker in dict.fromkeys(w.maker for w in works)}
    rows = read_rows(Row, path)
    done = {keys_of(row, row.device) for row in rows}
    todo: dict[Network, list[Work]] = {}
    for work in works:
        if keys_of(work, devices[work.maker]) not in done:
            todo.setdefault(work.process(), []).append(work)
    for network, its_works in todo.items():
        for row in measure_network(network, its_works, devices, rounds):
            print(f"{row.told()}: {row.ms:.1f} ms, {row.ratio:.3f} to plain", file=sys.stderr)
            rows.append(row)
            write_rows(Row, path, rows)
    wanted = {keys_of(work, devices[work.maker]) for work in works}
    return [row for row in rows if keys_of(row, row.device) in wanted]


def keys_of(work: Work, device: str) -> tuple:
    return device, *(getattr(work, name) for name in names_of(Work))


def measure_network(
    network: Network, works: Sequence[Work], devices: dict[str, str], rounds: int
) -> Iterator[Row]:
    """Measure one work after the other; say so if the processes or a work fail."""
    start = partial(DeviceWorker, network, works)
    try:
        with working(start, (True, False)) as both:
            for number, work in enumerate(works):
                yield from measure_work(number, work, both, devices[work.maker], rounds)
    except WorkerError as error:
        print(f"not measured: {network.network}, {network.maker}: {error}", file=sys.stderr)


def measure_work(
    number: int, work: Work, both: Sequence[DeviceWorker], device: str, rounds: int
) -> Iterator[Row]:
    for worker in both:
        worker.number = number
    try:
        yield measure(work, both, device, rounds)
    except WorkerError as error:  # such as a batch that is too large; the others may fit
        print(f"not measured: {work.told()}: {error}", file=sys.stderr)


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of a table."""
    header = ["network", "by", "work", "precision", "batch", "ms", "to plain (quartiles)"]
    lines = []
    for row in rows:
        maker = row.maker + ", compiled" * row.compiled
        spread = f"{row.ratio:.3f} ({row.ratio_low:.3f} to {row.ratio_high:.3f})"
        rate = f"{1000 * row.batch / row.ms:,.0f}"
        lines.append([row.network, maker, row.work, row.precision, str(row.batch)])
        lines[-1] += [f"{row.ms:.1f}", spread, rate]
    return [*header, "images/s"], lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, values in CHOICES.items():
        parser.add_argument(f"--{name}", nargs="+", default=values, choices=values)
    parser.add_argument("--batches", nargs="+", type=int, default=(64, 256))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--data-format", default=FORMATS[0], choices=FORMATS, help="of Keras")
    parser.add_argument("--compile", action="store_true", help="torch.compile for torch and timm")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    # JAX would take three quarters of the device's memory, but several processes share it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    rows = go_on(works_of(given), given.rounds, given.out)
    if not rows:
        sys.exit("Nothing was measured.")
    print(*dict.fromkeys(f"{row.device}; {row.machine}" for row in rows), sep="\n")
    print(format_table(*table(rows)))


def works_of(given: argparse.Namespace) -> list[Work]:
    return [
        Work(
            maker=maker,
            network=network,
            work=work,
            precision=precision,
            batch=batch,
            size=given.size,
            data_format=given.data_format,
            compiled=int(given.compile and maker != "jax"),
        )
        for maker, network, work, precision, batch in itertools.product(
            given.makers, given.networks, given.works, given.precisions, given.batches
        )
        if maker != "timm" or (network != "semobilenet" and work != "optimized")
    ]


if __name__ == "__main__":
    main()
