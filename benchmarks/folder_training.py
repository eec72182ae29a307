"""Compare the speed of training from a folder: this package, Keras alone, and PyTorch with timm.

python -m benchmarks.folder_training [--images N] [--folder PATH] [--python timm=PATH]

Trains SE-ResNet-18 at 128 pixels in batches of 64 on JPEG files of 500 pixels, with random square
crops and flips. Each way of training has processes of its own, which take turns:

- `se_keras`: the training of `se-keras train`, after its pass that reads every image once;
- `keras`: the same compiled model, with `keras.utils.image_dataset_from_directory`;
- `timm`: timm's network with PyTorch's DataLoader, with two worker processes or none.

The first steps, in which everything starts, do not count. The CSV file has a row for each process:
images per second, also of the input alone, and the share of the time that a step waits for its
images. Rows that it has are not measured again. With `--folder` the image files are kept.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.folder_side import BATCH, SIZE
from benchmarks.photos import write_folder
from benchmarks.results import (
    describe_machine,
    file_run,
    one_run,
    parse_pythons,
    read_rows,
    spread,
    versions,
    write_rows,
)
from benchmarks.timing import answer_of
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table

RESULTS = Path(__file__).with_name("results") / "folder_training.csv"
PIXELS = 500


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to train the network.

    Attributes:
        name: description in words.
        side: name in `folder_side.WAYS`.
        workers: number of processes that read images for the training process.
        packages: packages whose versions are recorded.
    """

    name: str
    side: str
    workers: int = 0
    packages: tuple[str, ...]


OURS, TIMM = ("se_keras", "keras", "tensorflow", "pillow"), ("timm", "torch", "torchvision")
WAYS = (
    Way(name="se-keras train", side="se_keras", packages=OURS),
    Way(name="image_dataset_from_directory", side="keras", packages=OURS),
    Way(name="timm, DataLoader of 2 processes", side="timm", workers=2, packages=TIMM),
    Way(name="timm, DataLoader without", side="timm", packages=TIMM),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the CSV file.

    Attributes:
        run: name of the run; all rows of the file have the same.
        way, round: name of the way; number of its process, from 0.
        images, batch, size, steps: number of files; batch size; image size of the network; number
            of timed steps.
        images_per_second, images_per_cpu_second: trained images per second, and per second of CPU
            time of the process and its workers.
        waiting: share of the time that a step waits for its images.
        reading_per_second: images per second of the input without training.
        first_pass_s: seconds of the pass that reads every image once.
        load: load of the machine, mean of the minute before.
        versions, machine: versions of the packages; the processor.
    """

    run: str
    way: str
    round: int
    images: int
    batch: int
    size: int
    steps: int
    images_per_second: float
    images_per_cpu_second: float
    waiting: float
    reading_per_second: float
    first_pass_s: float | None
    load: float
    versions: str
    machine: str


def call(way: Way, folder: Path, steps: int, python: str) -> dict[str, float]:
    """Train in a process of its own; return its measurements."""
    command = [python, "-m", "benchmarks.folder_side", way.side, folder, steps, way.workers]
    return answer_of(command, way.name)


def measure(
    way: Way, number: int, folder: Path, images: int, steps: int, python: str, run: str
) -> Row:
    text = versions(python, way.packages)
    if text is None:
        raise InputError(f"{way.name}: {python} does not have all of {', '.join(way.packages)}")
    load = os.getloadavg()[0]
    found = {name: round(value, 4) for name, value in call(way, folder, steps, python).items()}
    return Row(
        run=run,
        way=way.name,
        round=number,
        images=images,
        batch=BATCH,
        size=SIZE,
        steps=steps,
        **{"first_pass_s": None, **found},
        load=round(load, 2),
        versions=text,
        machine=describe_machine(),
    )


def go_on(
    folder: Path | None,
    path: Path,
    *,
    images: int,
    steps: int,
    rounds: int,
    python: str = sys.executable,
    run: str | None = None,
) -> list[Row]:
    """Measure the rows that are not in the file yet; a way that fails is named and left out."""
    rows = read_rows(Row, path)
    name = file_run(path, rows, run)
    done = {(row.way, row.round) for row in rows}
    # Every other round has the reverse order.
    order = [(n, way) for n in range(rounds) for way in (WAYS[::-1] if n % 2 else WAYS)]
    pending = [(n, way) for n, way in order if (way.name, n) not in done]
    with ExitStack() as stack:
        if folder is None and pending:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "photos"
        if pending and not folder.exists():
            write_folder(folder, images, PIXELS, "jpg")
        broken = set()
        for number, way in pending:
            if way in broken:
                continue
            try:
                its_python = python if way.side == "timm" else sys.executable
                rows.append(measure(way, number, folder, images, steps, its_python, name))
            except InputError as error:
                print(f"left out: {error}", flush=True)
                broken.add(way)
                continue
            write_rows(Row, path, rows)
            print(f"{way.name}: {rows[-1].images_per_second:.1f} images/s", flush=True)
    return rows


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a row for each way: median, minimum and maximum of its processes."""
    header = ["trained by", "images/s", "waiting", "input alone, images/s"]
    header += ["images per CPU second", "first pass, s"]
    lines = []
    for way in dict.fromkeys(row.way for row in rows):
        own = [row for row in rows if row.way == way]
        lines.append(
            [
                way,
                spread([row.images_per_second for row in own], ".1f"),
                spread([100 * row.waiting for row in own], ".1f") + " %",
                spread([row.reading_per_second for row in own], ".0f"),
                spread([row.images_per_cpu_second for row in own], ".1f"),
                spread([row.first_pass_s for row in own if row.first_pass_s], ".0f"),
            ]
        )
    return header, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000, help="number of files in the folder")
    parser.add_argument(
        "--steps", type=int, default=16, help="number of timed steps of each process"
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of processes of each way")
    parser.add_argument("--folder", type=Path, help="folder of the images; made if needed")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument(
        "--run", metavar="NAME", help="name of the run (default: as in the file, or the date)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = vars(parser.parse_args())
    path, pythons = options.pop("out"), parse_pythons(options.pop("python"))
    python = pythons.get("timm", sys.executable)
    try:
        rows = go_on(options.pop("folder"), path, python=python, **options)
        print(format_table(*table(one_run(path, rows))))
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
