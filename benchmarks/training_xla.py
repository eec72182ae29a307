"""Time the first step of a training in TensorFlow, and later steps, with XLA and without.

python -m benchmarks.training_xla [NETWORK ...] [--rounds N] [--out FILE]

Each network is trained on images in memory, in processes of their own that take turns. The CSV file
has a row for each process, with CPU times: of the first step, which traces and compiles, and the
median of the later ones. Rows that it has are not measured again.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import se_keras
from benchmarks.results import (
    describe_machine,
    file_run,
    one_run,
    read_rows,
    spread,
    versions,
    write_rows,
)
from benchmarks.timing import answer_of
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table
from se_keras.train.config import TrainConfig
from se_keras.train.optimizer import build_optimizer

RESULTS = Path(__file__).with_name("results") / "training_xla.csv"
# Networks with their image size in pixels and their batch size.
TRAININGS = (
    ("seresnet20", 8, 128),
    ("seresnet20", 32, 128),
    ("seresnet18", 128, 32),
    ("seresnet50", 224, 8),
)
STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the CSV file.

    Attributes:
        run: name of the run; all rows of the file have the same.
        network, pixels, batch: name of the network, image size, and batch size.
        xla: 1 if XLA compiles the step, else 0.
        round: number of the process, from 0.
        first_s: CPU seconds of the first step.
        later_ms: median CPU milliseconds of five later steps.
        versions, machine: versions of the packages; the processor.
    """

    run: str
    network: str
    pixels: int
    batch: int
    xla: int
    round: int
    first_s: float
    later_ms: float
    versions: str
    machine: str


# --- one training, in a process of its own -------------------------------------------------------


class Clock(keras.callbacks.Callback):
    """A callback that notes the CPU time before the first step, and after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if batch == 0:
            self.times.append(time.process_time())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.times.append(time.process_time())


def train(network: str, pixels: int, batch: int, xla: bool) -> dict[str, float]:
    """Train for some steps; return the CPU times in a row of the CSV file."""
    keras.utils.set_random_seed(0)
    shape = (pixels, pixels, 1 if pixels == 8 else 3)
    model = se_keras.create(network, input_shape=shape, classes=10)
    config = TrainConfig(data="digits", batch_size=batch).completed()
    model.compile(
        build_optimizer(config, model, 1000),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        weighted_metrics=["accuracy"],
        jit_compile=xla,
    )
    images = np.random.default_rng(0).random((batch, *shape), "float32")
    labels = np.eye(10, dtype="float32")[np.arange(batch) % 10]
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    clock = Clock()
    model.fit(batches, steps_per_epoch=STEPS + 2, verbose=0, callbacks=[clock])
    seconds = np.diff(clock.times)
    later = 1000 * float(np.median(seconds[2:]))  # the second step still allocates memory
    return {"first_s": round(float(seconds[0]), 2), "later_ms": round(later, 2)}


# --- the measurement -----------------------------------------------------------------------------


def call(*given: object) -> dict[str, float]:
    """Train in a process of its own; return its measurements."""
    command = [sys.executable, "-m", "benchmarks.training_xla", "--in-process", json.dumps(given)]
    return answer_of(command, " ".join(map(str, given)))


def go_on(
    path: Path, rounds: int, trainings: Sequence[tuple[str, int, int]], run: str | None = None
) -> list[Row]:
    """Measure the rows that are not in the file yet."""
    rows = read_rows(Row, path)
    name = file_run(path, rows, run)
    text = versions(sys.executable, ("keras", "tensorflow")) or ""
    done = {(row.network, row.pixels, row.batch, row.round, row.xla) for row in rows}
    for training, number, xla in itertools.product(trainings, range(rounds), (0, 1)):
        if (*training, number, xla) in done:
            continue
        network, pixels, batch = training
        rows.append(
            Row(
                run=name,
                network=network,
                pixels=pixels,
                batch=batch,
                xla=xla,
                round=number,
                **call(*training, bool(xla)),
                versions=text,
                machine=describe_machine(),
            )
        )
        write_rows(Row, path, rows)
        print(f"{network}, {pixels}, XLA {xla}: {rows[-1].later_ms:.0f} ms", flush=True)
    return rows


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a row for each training: median, minimum and maximum."""
    header = ["network", "pixels", "batch", "first step, s", "with XLA", "a later step, ms"]
    lines = []
    for network, pixels, batch in dict.fromkeys((r.network, r.pixels, r.batch) for r in rows):
        own = [r for r in rows if (r.network, r.pixels, r.batch) == (network, pixels, batch)]
        without, with_xla = ([row for row in own if row.xla == xla] for xla in (0, 1))
        lines.append([f"`{network}`", str(pixels), str(batch)])
        lines[-1] += [spread([row.first_s for row in some], ".1f") for some in (without, with_xla)]
        lines[-1] += [spread([row.later_ms for row in some], ".0f") for some in (without, with_xla)]
    return [*header, "with XLA"], lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    names = list(dict.fromkeys(name for name, *_ in TRAININGS))
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=3, help="number of processes of each kind")
    parser.add_argument(
        "--run", metavar="NAME", help="name of the run (default: as in the file, or the date)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--in-process", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        print(json.dumps(train(*options.in_process)))
        return
    wanted = options.networks or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no training of {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    trainings = [training for training in TRAININGS if training[0] in wanted]
    try:
        rows = go_on(options.out, options.rounds, trainings, options.run)
        print(format_table(*table(one_run(options.out, rows))))
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
