"""Compare SE networks with their plain twins in training and inference, on a GPU if there is one.

KERAS_BACKEND=jax python -m benchmarks.device_step [--out FILE.csv]

Measures this package on JAX and PyTorch, and timm if it is installed. TensorFlow and a network
connection are not needed. An SE network and its plain twin are two processes that take turns, in
alternating order. Each pair is one row of the CSV file, which is written when the pair is done, so
a stopped run continues with the next pair. A pair that fails, for example because its batch is too
large for the device, is named and left out. Rows have wall times: medians, and the quartiles of
the ratios within a round.
"""

import argparse
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.results import describe_machine, read_rows, write_rows
from benchmarks.timing import Worker, WorkerError, alternate, compare, working
from se_keras.support.tables import format_table

RESULTS = Path(__file__).with_name("results")
NEEDS = {"jax": ("jax",), "torch": ("torch",), "timm": ("timm", "torchvision")}
CHOICES = {
    "networks": ("seresnet50", "seresnext50_32x4d", "semobilenet"),
    "makers": tuple(name for name, needs in NEEDS.items() if all(map(find_spec, needs))),
    "works": ("training", "inference"),
    "precisions": ("float32", "bfloat16"),
}
FORMATS = ("channels_last", "channels_first")
# timm has no SE-MobileNet.
NOT_MADE = {("timm", "semobilenet")}


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of two processes, one with SE and one without.

    Attributes:
        maker: `"jax"`, `"torch"` or `"timm"`; see `device_side`.
        network: name in the catalog, which timm has too.
        work: `"training"` or `"inference"`.
        precision: `"float32"`, or `"bfloat16"` with weights in float32.
        batch, size: batch size; height and width in pixels.
        data_format: data format of Keras; timm uses PyTorch's channels_last.
        compiled: 1 with `torch.compile`, else 0. JAX always compiles.
    """

    maker: str
    network: str
    work: str
    precision: str
    batch: int
    size: int
    data_format: str
    compiled: int

    def told(self) -> str:
        compiled = ", compiled" * self.compiled
        return (
            f"{self.network}, {self.maker}{compiled}, {self.work}, {self.precision}, {self.batch}"
        )

    def worker(self, se: bool) -> Worker:
        text = json.dumps(dataclasses.asdict(self) | {"se": se})
        return Worker([sys.executable, "-m", "benchmarks.device_side", "run", text])


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


FIELDS = tuple(field.name for field in dataclasses.fields(Work))


def measure(work: Work, device: str, rounds: int) -> Row:
    with working(work.worker, [True, False]) as both:
        seconds = alternate(both, rounds)
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
    rows, ours = read_rows(Row, path), []
    done = {(row.device, *(getattr(row, name) for name in FIELDS)): row for row in rows}
    for work in works:
        device = devices[work.maker]
        row = done.get((device, *dataclasses.astuple(work)))
        if row is None:
            try:
                row = measure(work, device, rounds)
            except WorkerError as error:  # such as a batch that is too large; the others may fit
                print(f"not measured: {work.told()}: {error}", file=sys.stderr)
                continue
            rows.append(row)
            write_rows(Row, path, rows)
        ours.append(row)
    return ours


def table(rows: Sequence[Row]) -> str:
    header = ["network", "by", "work", "precision", "batch", "ms", "to plain (quartiles)"]
    header += ["images/s", "load"]
    lines = []
    for row in rows:
        maker = row.maker + ", compiled" * row.compiled
        spread = f"{row.ratio:.3f} ({row.ratio_low:.3f} to {row.ratio_high:.3f})"
        rate = f"{1000 * row.batch / row.ms:,.0f}"
        lines.append([row.network, maker, row.work, row.precision, str(row.batch)])
        lines[-1] += [f"{row.ms:.1f}", spread, rate, f"{row.load:.1f}"]
    devices = "\n".join(dict.fromkeys(f"{row.device}; {row.machine}" for row in rows))
    return f"{devices}\n{format_table(header, lines)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, values in CHOICES.items():
        parser.add_argument(f"--{name}", nargs="+", default=values, choices=values)
    parser.add_argument("--batches", nargs="+", type=int, default=(64, 256))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--data-format", default=FORMATS[0], choices=FORMATS, help="of Keras")
    parser.add_argument("--compile", action="store_true", help="torch.compile for torch and timm")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS / "device.csv")
    given = parser.parse_args(arguments)
    # JAX would take three quarters of the device's memory, but several processes share it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    rows = go_on(works_of(given), given.rounds, given.out)
    if not rows:
        sys.exit("Nothing was measured.")
    print(table(rows))


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
        for network, work, precision, batch, maker in itertools.product(
            given.networks, given.works, given.precisions, given.batches, given.makers
        )
        if (maker, network) not in NOT_MADE
    ]


if __name__ == "__main__":
    main()
