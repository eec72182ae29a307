"""Fine-tuning on few images: from scratch, frozen, in stages, with small rates, with inserted SE.

python -m benchmarks.fine_tuning [--seeds 0 1 2 3 4] [--out benchmarks/results/fine_tuning.csv]

An SE-ResNet with one unit per stage, and the same network without SE, learn five classes of
Fashion-MNIST. Then `se_keras.train` trains them on few other images: the other five classes, or
gray tiles of three photos. All images are 28 pixels wide and are halved, which saves three quarters
of the time. Tiles do not overlap, and each image is in only one part.
A seed determines the images, all fresh weights, the earlier training and the batches; the variants
of a seed share them. Each run is a row of the CSV file, which is written at its end, so a stopped
study continues with the next run. Prints the test accuracies and the differences within a seed with
95 % intervals (Student's t), and draws them next to the file.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
from matplotlib import cbook
from PIL import Image
from sklearn.datasets import load_sample_images

import se_keras
from benchmarks.results import read_rows, write_rows
from benchmarks.seeds import half_interval, with_interval
from se_keras.models.recipes import find_recipe
from se_keras.support.plotting import new_figure, save_figure
from se_keras.support.tables import format_table
from se_keras.train import TrainConfig, checkpoints
from se_keras.train import run as training
from se_keras.train.config import DEFAULTS
from se_keras.train.data import ImageData, Split
from se_keras.train.start import start_of

RESULTS = Path(__file__).with_name("results") / "fine_tuning.csv"
TILE, SIDE = 28, 14
RECIPE = dataclasses.replace(find_recipe("seresnet20"), name="seresnet8", depths=(1, 1, 1))
# The classes of Fashion-MNIST that the networks learn first: tops, dresses and trousers, before
# shoes and bags; or some clothes and shoes, before other clothes and shoes.
TOPS, MIXED = (0, 1, 2, 3, 4), (0, 2, 4, 5, 7)
KNOWN_IMAGES, KNOWN_EPOCHS = 4000, 4
# Settings of the compared trainings: the defaults for a folder.
EPOCHS, BATCH, RATE = 30, 32, 0.05
VALIDATION, TEST = 10, 200  # images a class
SCRATCH, STAGED = "from scratch", "5 frozen, rate 1"
SE, PLAIN, INSERTED = "SE", "plain", "SE inserted"


@dataclass(frozen=True)
class Row:
    """One run."""

    task: str
    variant: str
    seed: int
    accuracy: float  # of the test images, %
    epoch: int  # that is kept
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to train.

    Attributes:
        name: name in the table.
        settings: settings of `TrainConfig`.
        network: the network to train.
        fresh: whether its weights are fresh.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    network: str = SE
    fresh: bool = False


def _staged(freeze: int, rate: float, **more: Any) -> dict[str, Any]:
    return {"freeze": freeze, "tuning_rate": rate, **more}


VARIANTS = (
    Variant(name=SCRATCH, settings=_staged(0, 1.0), fresh=True),
    Variant(name="classifier alone", settings=_staged(EPOCHS, 1.0)),
    Variant(name="5 frozen, rate 0.1", settings=_staged(5, 0.1)),
    Variant(name="5 frozen, rate 0.3", settings=_staged(5, 0.3)),
    Variant(name=STAGED, settings=_staged(5, 1.0)),
    Variant(name="none frozen, rate 1", settings=_staged(0, 1.0)),
    Variant(name="10 frozen, rate 1", settings=_staged(10, 1.0)),
    Variant(name="5 frozen, rate 1, layer decay 0.7", settings=_staged(5, 1.0, layer_decay=0.7)),
    Variant(name="5 frozen, rate 1, last stage only", settings=_staged(5, 1.0, unfreeze=1)),
    Variant(name="5 frozen, rate 1, mixup 0.2", settings=_staged(5, 1.0, mixup=0.2)),
    Variant(name="5 frozen, rate 1, plain twin", settings=_staged(5, 1.0), network=PLAIN),
    Variant(name="5 frozen, rate 1, SE put into it", settings=_staged(5, 1.0), network=INSERTED),
)
SHORT = tuple(v for v in VARIANTS if v.name in (SCRATCH, "5 frozen, rate 0.1", STAGED))


# --- images --------------------------------------------------------------------------------------


@cache
def fashion() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return the images (N, 14, 14, 1) and labels of training and test."""
    return tuple((halved(x), y) for x, y in keras.datasets.fashion_mnist.load_data())


def halved(images: np.ndarray) -> np.ndarray:
    """Return the means of 2 x 2 pixels: (N, 28, 28) to (N, 14, 14, 1)."""
    return images.reshape(-1, SIDE, 2, SIDE, 2, 1).mean((2, 4)).round().astype("uint8")


def clothes(each: int, seed: int, known: Sequence[int] = TOPS) -> ImageData:
    """Return some training images of each new class, and validation images from the same set."""
    new = sorted({*range(10)} - {*known})
    (images, labels), (test_images, test_labels) = fashion()
    generator = np.random.default_rng(seed)
    drawn = [
        generator.permutation(np.flatnonzero(labels == label))[: each + VALIDATION] for label in new
    ]
    tests = [np.flatnonzero(test_labels == label)[:TEST] for label in new]
    parts = [
        [images[rows[:each]] for rows in drawn],
        [images[rows[each:]] for rows in drawn],
        [test_images[rows] for rows in tests],
    ]
    return _data(parts)


@cache
def photos() -> tuple[np.ndarray, ...]:
    """Return the tiles of each photo, gray, (N, 14, 14, 1)."""
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        third = np.asarray(Image.open(file).convert("RGB"))
    tiles = []
    for photo in (*load_sample_images().images, third):
        gray = np.asarray(Image.fromarray(photo).convert("L"))
        down, across = (side // TILE for side in gray.shape)
        cut = gray[: down * TILE, : across * TILE].reshape(down, TILE, across, TILE)
        tiles.append(halved(cut.swapaxes(1, 2)))
    return tuple(tiles)


def tiles(each: int, seed: int) -> ImageData:
    """Return this number of training tiles of each photo."""
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(of_one) for of_one in photos()]
    ends = np.cumsum([0, each, VALIDATION, TEST])
    return _data([[x[a:b] for x in drawn] for a, b in itertools.pairwise(ends)])


def _data(parts: Sequence[Sequence[np.ndarray]]) -> ImageData:
    """Return a data set from the images of each class in each part."""
    splits = []
    for classes in parts:
        labels = np.repeat(np.arange(len(classes)), [len(images) for images in classes])
        names = np.array([str(number) for number in range(len(labels))], object)
        splits.append(Split(items=np.concatenate(classes), labels=labels, names=names))
    return ImageData(
        class_names=tuple(map(str, range(len(parts[0])))),
        channels=1,
        size=SIDE,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        split="by the seed",
        defaults=DEFAULTS["fashion_mnist"],
    )


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task to learn.

    Attributes:
        make: function from a number of images per class and a seed to the images.
        each: number of images per class.
        variants: ways of training.
        known: the classes of Fashion-MNIST that were learned first.
    """

    make: Callable[[int, int], ImageData]
    each: int
    variants: tuple[Variant, ...]
    known: tuple[int, ...] = TOPS


TASKS = {
    "other clothes, 20 a class": Task(make=clothes, each=20, variants=VARIANTS),
    "like clothes, 20 a class": Task(
        make=partial(clothes, known=MIXED), each=20, variants=SHORT, known=MIXED
    ),
    "photos, 20 a class": Task(
        make=tiles, each=20, variants=tuple(v for v in VARIANTS if v.network == SE)
    ),
    "other clothes, 100 a class": Task(make=clothes, each=100, variants=SHORT),
}


# --- runs ----------------------------------------------------------------------------------------


def learned(seed: int, network: str, known: Sequence[int], folder: Path) -> keras.Model:
    """Return a network that was trained on five classes; it is trained only once."""
    path = folder / f"{network}-{seed}-{known}.keras"
    if path.exists():
        return keras.models.load_model(path)
    images, labels = fashion()[0]
    theirs = np.flatnonzero(np.isin(labels, known))
    rows = np.random.default_rng(seed).permutation(theirs)[:KNOWN_IMAGES]
    model = fresh(seed, network)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, KNOWN_EPOCHS * KNOWN_IMAGES // 64)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        "sparse_categorical_crossentropy",
        jit_compile=False,
    )
    pixels = images[rows] / np.float32(127.5) - 1
    numbers = np.searchsorted(known, labels[rows])
    model.fit(pixels, numbers, 64, epochs=KNOWN_EPOCHS, verbose=0)
    model.save(path, include_optimizer=False)
    return model


def fresh(seed: int, network: str) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return se_keras.create(
        RECIPE, input_shape=(SIDE, SIDE, 1), classes=len(TOPS), se=network == SE, name=network
    )


def begun(variant: Variant, seed: int, known: Sequence[int], folder: Path) -> keras.Model:
    """Return the model from which a run starts."""
    if variant.fresh:
        return fresh(seed, variant.network)
    if variant.network == INSERTED:
        return se_keras.insert_se(learned(seed, PLAIN, known, folder))
    return learned(seed, variant.network, known, folder)


@contextlib.contextmanager
def checkpoints_in_memory() -> Iterator[None]:
    """Keep checkpoints in memory: writing them takes a third of such a short run."""
    kept: dict[int, dict[str, np.ndarray]] = {}

    def save(folder: Path, model: keras.Model, history: list) -> None:
        kept[len(history)] = {v.path: v.numpy() for v in model.variables}

    def load(model: keras.Model, folder: Path, epoch: int, team: Any) -> None:
        for variable in model.variables:
            variable.assign(kept[epoch][variable.path])

    with (
        mock.patch.object(training, "save_epoch", save),
        mock.patch.object(checkpoints, "load", load),
    ):
        yield


def run(task: str, variant: Variant, seed: int, folder: Path) -> Row:
    keras.backend.clear_session()
    data = TASKS[task].make(TASKS[task].each, seed)
    start_time = time.process_time()
    config = TrainConfig(
        data="fashion_mnist",  # what its images are augmented by
        pixels="tf",
        epochs=EPOCHS,
        patience=0,
        batch_size=BATCH,
        lr=RATE,
        seed=seed,
        **variant.settings,
    )
    start = start_of(config, begun(variant, seed, TASKS[task].known, folder))
    assert start is not None  # it has weights
    settings = start.config.completed()
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        model = training.build_model(settings, data, start=start)
        with checkpoints_in_memory():
            history = training.fit(model, settings, data, Path(out))
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    images = data.test.items.astype("float32")
    answers = model.predict(images, batch_size=200, verbose=0).argmax(axis=-1)
    accuracy = 100 * float(np.mean(answers == data.test.labels))
    seconds = time.process_time() - start_time
    return Row(task, variant.name, seed, round(accuracy, 2), int(best["epoch"]), round(seconds, 1))


def go_on(seeds: Sequence[int], path: Path) -> list[Row]:
    """Carry out the runs that are not in the file yet."""
    rows = read_rows(Row, path)
    done = {(row.task, row.variant, row.seed) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for task in TASKS:
                for variant in TASKS[task].variants:
                    if (task, variant.name, seed) not in done:
                        rows.append(run(task, variant, seed, Path(folder)))
                        write_rows(Row, path, rows)
                        print(*dataclasses.astuple(rows[-1]), sep=", ", flush=True)
    return rows


# --- results -------------------------------------------------------------------------------------


def accuracies(rows: Sequence[Row], task: str) -> dict[str, np.ndarray]:
    """Return the accuracies of each variant, over the seeds that all variants of a task have."""
    found = {(row.variant, row.seed): row.accuracy for row in rows if row.task == task}
    names = [variant.name for variant in TASKS[task].variants]
    seeds = sorted(
        set.intersection(*({seed for name, seed in found if name == own} for own in names))
    )
    return {name: np.array([found[name, seed] for seed in seeds]) for name in names}


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows: the accuracy of each variant, and its gain over fresh weights."""
    of_tasks = [accuracies(rows, task) for task in TASKS]
    lines = []
    for variant in VARIANTS:
        line = [variant.name]
        for found in of_tasks:
            own = found.get(variant.name)
            if own is None:
                line += ["", ""]
                continue
            against = "" if variant.name == SCRATCH else with_interval(own - found[SCRATCH])
            line += [with_interval(own), against]
        lines.append(line)
    header = [text for task in TASKS for text in (f"{task}: accuracy, %", "minus from scratch")]
    return ["training", *header], lines


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the differences to the training from scratch, with their intervals."""
    figure = new_figure(12, 5)
    panels = figure.subplots(1, len(TASKS), sharey=True)
    for axes, task in zip(panels, TASKS, strict=True):
        found = accuracies(rows, task)
        names = [name for name in found if name != SCRATCH]
        gains = [found[name] - found[SCRATCH] for name in names]
        means, halves = [g.mean() for g in gains], [half_interval(g) for g in gains]
        axes.errorbar(means, names, xerr=halves, fmt="o", capsize=3)
        axes.axvline(0, color="gray", linewidth=1)
        axes.set(title=task, xlabel="points over from scratch")
        axes.grid(alpha=0.3)
        axes.label_outer()
    panels[0].invert_yaxis()
    seeds = len(next(iter(accuracies(rows, next(iter(TASKS))).values())))
    figure.suptitle(f"Fine-tuning, mean and 95 % interval over {seeds} seeds")
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = go_on(options.seeds, options.out)
    print(format_table(*table(rows)))
    draw(rows, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
