"""Measure the peak memory of training, export, running exports, loading weights and recording.

python -m benchmarks.memory [MODEL ...] [--out FILE]

Each operation runs in a process of its own. Its memory is the largest resident size at the end,
minus the resident size before the model is built, so imports do not count. Images have the usual
size of the model, and all weights are new. Each row is written to the CSV file when it is measured,
and is not measured again.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import Path

import keras
import numpy as np

import se_keras
from benchmarks.results import describe_machine, file_run, one_run, read_rows, write_rows
from benchmarks.timing import answer_of
from benchmarks.worker import noise, peak_memory
from se_keras.deploy.engines import ENGINES, find_engine
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table

RESULTS = Path(__file__).with_name("results") / "memory.csv"
MODELS = ("seresnet50", "senet154")
TRAIN_IMAGES, TRAIN_BATCH, RECORD_IMAGES = 24, 4, 64
WEIGHTS = "model.weights.h5"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the CSV file.

    Attributes:
        run: name of the run; all rows of the file have the same.
        model, operation: names of the model and of the operation.
        weights_mb: size of the model's weights.
        before_mb, peak_mb: resident size before the model is built, and the largest one.
        versions, machine: versions of the packages; the processor.
    """

    run: str
    model: str
    operation: str
    weights_mb: float
    before_mb: float
    peak_mb: float
    versions: str
    machine: str

    @property
    def more_mb(self) -> float:
        return self.peak_mb - self.before_mb


# --- the operations, in a process each -----------------------------------------------------------


def _train(model: str, folder: Path) -> None:
    from se_keras.train import TrainConfig, train

    size = find_recipe(model).input_size
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for number, pixels in enumerate(noise((TRAIN_IMAGES // 2, size, size, 3), "uint8")):
            keras.utils.save_img(folder / "images" / name / f"{number}{name}.png", pixels ^ number)
    config = TrainConfig(
        data=str(folder / "images"),
        model=model,
        image_size=size,
        batch_size=TRAIN_BATCH,
        epochs=1,
    )
    train(config, folder / "run")


def _export(format: str, model: str, folder: Path) -> None:
    path = folder / f"exported{find_engine(format).suffix}"
    se_keras.export(se_keras.create(model), path, format)


def _export_by_keras(model: str, folder: Path) -> None:
    se_keras.optimize(se_keras.create(model), verbose=False).export(folder / "keras", verbose=False)


def _run(format: str, model: str, folder: Path) -> None:
    _run_file(format, model, folder / f"exported{find_engine(format).suffix}")


def _run_by_keras(model: str, folder: Path) -> None:
    _run_file("tf_saved_model", model, folder / "keras")


def _run_file(format: str, model: str, path: Path) -> None:
    size = find_recipe(model).input_size
    find_engine(format).load(path, "float32")([noise((1, size, size, 3), "float32")])


def _save(model: str, folder: Path) -> None:
    se_keras.create(model).save_weights(folder / WEIGHTS)


def _load_weights(model: str, folder: Path) -> None:
    se_keras.load_weights(se_keras.create(model), folder / WEIGHTS)


def _record(model: str, folder: Path) -> None:
    size = find_recipe(model).input_size
    images = noise((RECORD_IMAGES, size, size, 3), "float32")
    labels = np.arange(RECORD_IMAGES) % 2
    se_keras.record_excitations(se_keras.create(model), (images, labels), verbose=False)


def _build(model: str, folder: Path) -> None:
    se_keras.create(model)


Operation = Callable[[str, Path], None]
FORMATS = tuple(map(attrgetter("format"), ENGINES))
OPERATIONS: dict[str, Operation] = {
    "build the model": _build,
    "load_weights, Keras' h5 file": _load_weights,
    f"record_excitations, {RECORD_IMAGES} images": _record,
    **{f"export, {format}": partial(_export, format) for format in FORMATS},
    **{f"load and run, {format}": partial(_run, format) for format in FORMATS},
    "load and run, Keras' export": _run_by_keras,
    f"train, batch {TRAIN_BATCH}, one epoch": _train,
}
# What another process does before the operation.
BEFORE: dict[str, Operation] = {
    "load_weights, Keras' h5 file": _save,
    **{f"load and run, {format}": partial(_export, format) for format in FORMATS},
    "load and run, Keras' export": _export_by_keras,
}


def resident_memory() -> int:
    """Return the resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run_operation(model: str, operation: str, folder: Path) -> dict[str, int]:
    """Run one operation in this process; return the resident bytes before it and the peak."""
    keras.ops.zeros(1)  # the backend then allocates memory that is not the model's
    before = resident_memory()
    OPERATIONS[operation](model, folder)
    return {"before": before, "peak": peak_memory() or 0}


# --- the measurement -----------------------------------------------------------------------------


def call(model: str, operation: str, folder: Path, when: str = "--in-process") -> dict[str, int]:
    """Run one operation, or what has to be done before it, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", when, operation, model]
    return answer_of([*command, "--folder", folder], f"{model}, {operation}")


def measure(model: str, operation: str, run: str) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        if operation in BEFORE:
            call(model, operation, Path(folder), "--before")
        found = call(model, operation, Path(folder))
    return Row(
        run=run,
        model=model,
        operation=operation,
        weights_mb=round(4e-6 * find_recipe(model).parameters, 1),
        before_mb=round(found["before"] / 1e6, 1),
        peak_mb=round(found["peak"] / 1e6, 1),
        versions=_versions(),
        machine=describe_machine(),
    )


def _versions() -> str:
    return f"keras {keras.__version__}, {keras.backend.backend()}"


def go_on(models: Sequence[str], path: Path, run: str | None = None) -> list[Row]:
    """Measure the rows that are not in the file yet; print failures and leave them out."""
    rows = read_rows(Row, path)
    name = file_run(path, rows, run)
    done = {(row.model, row.operation) for row in rows}
    for model, operation in product(models, OPERATIONS):
        if (model, operation) in done:
            continue
        try:
            rows.append(measure(model, operation, name))
        except InputError as error:
            print(error, flush=True)
            continue
        write_rows(Row, path, rows)
        print(f"{model}, {operation}: {rows[-1].more_mb:.0f} MB", flush=True)
    return rows


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a row for each operation with a column for each model."""
    models = {row.model: row.weights_mb for row in rows}
    found = {(row.operation, row.model): f"{row.more_mb:,.0f}" for row in rows}
    measured = {row.operation for row in rows}
    operations = [operation for operation in OPERATIONS if operation in measured]
    header = ["MB", *(f"`{model}`, weights {size:.0f} MB" for model, size in models.items())]
    return header, [[name, *(found.get((name, m), "") for m in models)] for name in operations]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument(
        "--run", metavar="NAME", help="name of the run (default: as in the file, or the date)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--in-process", metavar="OPERATION", help=argparse.SUPPRESS)
    parser.add_argument("--before", metavar="OPERATION", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.before:
        BEFORE[options.before](options.models[0], options.folder)
        print("{}")
        return
    if options.in_process:
        print(json.dumps(run_operation(options.models[0], options.in_process, options.folder)))
        return
    try:
        rows = go_on(options.models, options.out, options.run)
        print(format_table(*table(one_run(options.out, rows))))
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
