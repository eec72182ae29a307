"""`se-keras explain`: what the SE layers of a saved model do, in tables and pictures."""

import dataclasses
import functools
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np

from se_keras.catalog import load_keras_model
from se_keras.counting import count
from se_keras.explain.plots import plot_excitations
from se_keras.explain.pruning import PruningPlan, apply, plan_pruning
from se_keras.explain.record import record_excitations
from se_keras.explain.statistics import ExcitationStats
from se_keras.support.arguments import share
from se_keras.support.errors import InputError, as_input_error
from se_keras.support.files import read_json, write_json, written_beside
from se_keras.support.tables import format_table
from se_keras.support.timing import seconds_in_turn
from se_keras.train.config import DEFAULTS, TrainConfig
from se_keras.train.data import ImageData, open_data, prepare, test_batches

BATCH_SIZE = 32
# A layer whose gates change by less than this part of their size hardly varies.
HARDLY = 0.1
TIMED_IMAGES, TIMED_CALLS = 8, 15


def explain(
    path: str | Path, out: str | Path, *, data: str | None = None, keep: float | None = None
) -> str:
    """Looks at the SE layers of a saved model, and prunes them if asked.

    The statistics are of the training images; what pruning costs is measured on the test images,
    which neither the training nor the statistics have seen.

    Args:
        path: the folder of a run, or a `.keras` file of a model that takes raw pixels 0..255.
        out: the folder to make: `layers.csv`, `channels.csv`, `classes.png`, `spread.png`,
            `layers.png`, `report.txt`; with `keep` also `pruned.keras`, and `report.json` with the
            names of its classes.
        data: as of `TrainConfig`; `None` for that of the run.
        keep: the share of the SE layers that stay; see `prune_se`. `None` prunes nothing.

    Returns:
        What `report.txt` says.

    Raises:
        InputError: if the model or the data can't be had or don't fit each other, the model has no
            SE layer, `keep` is out of range or `out` is taken.
    """
    folder = Path(out)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there already: choose another --out")
    file = Path(path) / "model.keras" if Path(path).is_dir() else Path(path)
    model = load_keras_model(file)
    images = _images(model, file, data)
    # Not functional, no SE, gates that are not finite, a bad `keep`.
    with as_input_error(f"can't explain {file}"):
        return _explain(model, images, folder, keep)


def _images(model: keras.Model, file: Path, data: str | None) -> ImageData:
    settings = file.parent / "settings.json"
    run = read_json(settings) if settings.is_file() else {}
    if data is None and "data" not in run:
        raise InputError(f"{file} is not of a run of `se-keras train`: name its images with --data")
    if data is None and run["data"] not in DEFAULTS and not Path(run["data"]).is_dir():
        raise InputError(f"the run's images in {run['data']} are not here: name them with --data")
    if not isinstance(model.input_shape, tuple) or len(model.input_shape) != 4:
        raise InputError(f"{file} must take images, it takes {model.input_shape}")
    _, height, width, channels = model.input_shape
    size = height or run.get("image_size")
    config = TrainConfig(data=data or run["data"], image_size=size, seed=run.get("seed", 0))
    images = open_data(config.completed())
    if width not in (None, images.size) or channels != images.channels:
        raise InputError(f"{file} takes {model.input_shape[1:]}, not {images.image_shape}")
    return prepare(images)


def _explain(model: keras.Model, images: ImageData, folder: Path, keep: float | None) -> str:
    if keep is not None:
        _check_pruning(model, keep)
    training = dataclasses.replace(images, test=images.train)
    batches = test_batches(training, BATCH_SIZE)
    stats = record_excitations(model, batches, class_names=images.class_names)
    parts = [f"{len(images.train):,} training images\n\n{stats}", _in_words(stats)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(folder) as partial:
        partial.mkdir()
        stats.write_layers(partial / "layers.csv")
        stats.write_channels(partial / "channels.csv")
        plot_excitations(stats, path=partial)
        if keep is not None:
            parts += _pruned(model, images, plan_pruning(model, stats, keep=keep), partial)
        text = "\n\n".join(parts)
        (partial / "report.txt").write_text(text + "\n", "utf-8")
    return text


def _check_pruning(model: keras.Model, keep: float) -> None:
    """Refuses before the pass over the images what would be refused behind it."""
    share("keep", keep)
    if not isinstance(model.output_shape, tuple) or len(model.output_shape) != 2:
        raise InputError(
            f"what pruning costs is measured on scores of classes; the model gives "
            f"{model.output_shape}"
        )


def _in_words(stats: ExcitationStats) -> str:
    hardly = [layer.name for layer in stats.layers if layer.variability < HARDLY]
    specific = max(stats.layers, key=lambda layer: layer.specificity)
    lines = [
        f"Gates that hardly vary (variability below {HARDLY}; a constant could take their place): "
        f"{', '.join(hardly) or 'none'}.",
        f"Most specific to the classes: {specific.name}, {specific.specificity:.0%} of whose "
        "variance lies between them.",
    ]
    return "\n".join(lines)


# --- what pruning costs and saves ----------------------------------------------------------------


def _pruned(
    model: keras.Model, images: ImageData, plan: PruningPlan, folder: Path
) -> tuple[str, str]:
    """Writes the pruned model; gives the plan and the comparison as text."""
    new = apply(plan)
    new.save(folder / "pruned.keras")
    # `se-keras predict` finds the names of the classes there.
    names = images.class_names if _has_classes_of(model, images) else ()
    write_json(folder / "report.json", {"class_names": names})
    before, after = (_answers(each, images) for each in (model, new))
    counts = [count(each, images.image_shape) for each in (model, new)]
    rows = [
        ["parameters", *(counted.params for counted in counts), None],
        ["multiply-adds", *(counted.macs for counted in counts), None],
        _accuracy_row(model, images, before, after),
        _time_row(model, new, images),
    ]
    same = np.mean(before == after)
    table = format_table(["", "before", "after", "ratio"], rows)
    return str(plan), f"{table}\n\nThe same class for {same:.2%} of {len(before):,} test images."


def _answers(model: keras.Model, images: ImageData) -> np.ndarray:
    """The likeliest class of each test image, (N,)."""
    scores = model.predict(test_batches(images, BATCH_SIZE), verbose=0)
    return scores.argmax(axis=1)


def _accuracy_row(
    model: keras.Model, images: ImageData, before: np.ndarray, after: np.ndarray
) -> list[Any]:
    label = "accuracy, test images"
    if not _has_classes_of(model, images):
        return [label, "other classes", "other classes", None]
    shares = (np.mean(answers == images.test.labels) for answers in (before, after))
    return [label, *(f"{share:.2%}" for share in shares), None]


def _has_classes_of(model: keras.Model, images: ImageData) -> bool:
    return model.output_shape[-1] == len(images.class_names)


def _time_row(model: keras.Model, new: keras.Model, images: ImageData) -> list[Any]:
    batch, _ = next(iter(test_batches(images, TIMED_IMAGES)))
    pixels = keras.ops.convert_to_numpy(batch)
    for each in (model, new):
        each.jit_compile = False  # minutes for a large network, and most serve without
    calls = [functools.partial(each.predict_on_batch, pixels) for each in (model, new)]
    old, pruned = map(median, seconds_in_turn(calls, TIMED_CALLS))
    label = f"ms for {len(pixels)} images"
    return [label, f"{old * 1e3:.1f}", f"{pruned * 1e3:.1f}", f"{pruned / old:.2f}"]
