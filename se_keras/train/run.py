"""A training run: from the settings to a folder with a model, and on again after a stop.

The folder tells how far the run is. `settings.json` comes first, then for each finished epoch a row
of `history.csv` and a checkpoint, whose name carries the epoch; its renaming is what finishes the
epoch. `report.json` comes last, and the checkpoint goes.
"""

import csv
import dataclasses
import itertools
import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from se_keras import zoo
from se_keras.errors import InputError
from se_keras.extras import extra
from se_keras.files import PARTIAL, read_json, remove, write_json, written_beside
from se_keras.train import data as sources
from se_keras.train import report
from se_keras.train.classify import load_classifier
from se_keras.train.config import TrainConfig

RUN_FILES = (
    "settings.json",
    "history.csv",
    "model.keras",
    "saved_model",
    "curves.png",
    "confusion.png",
    "report.json",
)
CHECKPOINT = "checkpoint-{:04d}.weights.h5"
# Share of the steps in which the learning rate rises (Goyal et al. 2017, arXiv 1706.02677,
# sec. 2.2: 5 epochs of 90).
WARM_UP = 0.05
MOMENTUM = 0.9
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
# Largest difference of a probability between the model and its SavedModel. Both compute the same,
# in another order; in 16 bits that shows in the third digit.
TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 5e-2, "mixed_float16": 1e-2}


def train(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Trains a model on images and leaves a folder that can be used.

    Args:
        config: the settings.
        out: the folder; `None` for `runs/<data>-<model>`. It gets `model.keras` and `saved_model/`,
            which both take raw pixels (N, H, W, C) in 0..255 and give class probabilities (N,
            classes); `history.csv`, `curves.png`, `confusion.png`, and `report.json`, which has the
            class names.
        resume: go on with a run that was stopped; starts it where there is none yet.
        overwrite: replace a finished or stopped run in `out`.

    Returns:
        The content of `report.json`.

    Raises:
        InputError: if the data can't be had or read, the model doesn't fit them, `out` is taken, or
            a setting differs from those of the run that is to go on.
        RuntimeError: if the SavedModel doesn't give what the model gives.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError("training needs the TensorFlow backend: set KERAS_BACKEND=tensorflow")
    with extra("train"):
        import matplotlib  # noqa: F401
    config = config.completed()
    folder = Path(out or f"runs/{Path(config.data).resolve().name}-{config.model}")
    _check_folder(folder, resume, overwrite)
    data = sources.open_data(config)
    config = _with_batch_size(config, data)
    keras.utils.set_random_seed(config.seed)
    model = build_model(config, data)
    settings = dataclasses.asdict(config) | {"files": data.fingerprint}
    if resume and (folder / "settings.json").exists():
        _check_same_settings(read_json(folder / "settings.json"), settings, folder)
        if (folder / "report.json").exists():
            print(f"{folder} is finished: nothing to resume")
            return read_json(folder / "report.json")
    _announce(config, data, model, folder)
    data = sources.prepare(data)
    _begin(folder, settings, keep=resume)
    history = fit(model, config, data, folder)
    return _finish(model, config, data, folder, history)


def build_model(config: TrainConfig, data: sources.ImageData) -> keras.Model:
    """The model of the settings on raw pixels, ready for `fit`.

    Raises:
        InputError: if the model can't take images of this size.
    """
    pixels = keras.Input(data.image_shape, name="pixels")
    # The range that keras.applications calls "tf": -1..1.
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0, dtype="float32", name="scale")(pixels)
    try:
        model = zoo.create(
            config.model,
            input_tensor=scaled,
            classes=len(data.class_names),
            dtype=config.precision,
        )
    except ValueError as error:
        raise InputError(f"{config.model} with images of {data.image_shape}: {error}") from error
    model.compile(
        optimizer=_optimizer(config, model, steps=len(data.train) // config.batch_size),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
        # On small images XLA saves nothing and compiles for ten seconds.
        jit_compile=False,
    )
    return model


def _optimizer(config: TrainConfig, model: keras.Model, steps: int) -> keras.Optimizer:
    total = steps * config.epochs
    warm_up = max(1, round(WARM_UP * total))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, total - warm_up), warmup_target=config.lr, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.SGD(
        schedule, momentum=MOMENTUM, nesterov=True, weight_decay=config.weight_decay or None
    )
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if v.ndim < 2])
    # Keras does this by itself only where the global policy is float16.
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def fit(
    model: keras.Model, config: TrainConfig, data: sources.ImageData, folder: Path
) -> list[dict[str, float]]:
    """Trains from the last finished epoch to the end.

    Returns:
        The rows of `history.csv`, one for each epoch since the start of the run.
    """
    done, history = _restore(model, folder)
    if done:
        print(f"Going on after epoch {done} of {config.epochs}.")
    if done == config.epochs:
        return history
    batches, steps = sources.training_batches(
        data, config.batch_size, config.seed, range(done, config.epochs)
    )
    model.fit(
        batches,
        steps_per_epoch=steps,
        initial_epoch=done,
        epochs=config.epochs,
        validation_data=sources.test_batches(data, config.batch_size),
        callbacks=[_Epochs(folder, config.seed, history)],
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    return history


class _Epochs(keras.callbacks.Callback):
    """Puts each finished epoch on the disk."""

    def __init__(self, folder: Path, seed: int, history: list[dict[str, float]]):
        super().__init__()
        self.folder, self.seed, self.history = folder, seed, history

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.started = time.perf_counter()
        # Keras does not save the random states of layers: each epoch starts from its own.
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for number, state in enumerate(states):
            drawn = np.random.SeedSequence((self.seed, epoch, number)).generate_state(2)
            state.assign(drawn)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise InputError(
                f"the loss became {logs['loss']} in epoch {epoch + 1}: try a smaller learning rate"
            )
        self.history.append(
            {
                "epoch": epoch + 1,
                "learning_rate": float(self.model.optimizer.learning_rate),
                **{name: logs[name] for name in METRICS},
                "seconds": round(time.perf_counter() - self.started, 3),
            }
        )
        # A stop between the two leaves a row too many, which `_restore` drops.
        _write_history(self.folder, self.history)
        checkpoint = self.folder / CHECKPOINT.format(epoch + 1)
        with written_beside(checkpoint) as partial:
            self.model.save_weights(partial)
        for _, older in _checkpoints(self.folder)[:-1]:
            remove(older)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    named = ((re.fullmatch(r"checkpoint-(\d+)\.weights\.h5", p.name), p) for p in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match)


def _restore(model: keras.Model, folder: Path) -> tuple[int, list[dict[str, float]]]:
    """Loads the last checkpoint, if there is one: the weights and the state of the optimizer."""
    checkpoints = _checkpoints(folder)
    if not checkpoints:
        return 0, []
    done, path = checkpoints[-1]
    history = _read_history(folder)[:done]
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"can't read {path}: {error}") from error
    if len(history) != done:
        raise InputError(f"{folder / 'history.csv'} has {len(history)} rows, the run {done} epochs")
    return done, history


def _write_history(folder: Path, history: list[dict[str, float]]) -> None:
    with written_beside(folder / "history.csv") as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, history[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def _read_history(folder: Path) -> list[dict[str, float]]:
    with open(folder / "history.csv", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"])} for row in rows]


def _check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise InputError("resume and overwrite exclude each other")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"out must be a folder, {folder} is a file")
    if not folder.exists() or all(path.name.startswith(PARTIAL) for path in folder.iterdir()):
        return
    if not (folder / "settings.json").exists():
        raise InputError(f"{folder} is there and is not the folder of a run: choose another --out")
    if not (resume or overwrite):
        raise InputError(
            f"{folder} has a run already: choose --resume, --overwrite or another --out"
        )


def _check_same_settings(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    for name, value in new.items():
        if old.get(name) == value:
            continue
        if name == "files":
            raise InputError(f"the images of {new['data']} have changed since {folder} began")
        raise InputError(
            f"{folder} was begun with {name} {old.get(name)}, it can't go on with {value}"
        )


def _with_batch_size(config: TrainConfig, data: sources.ImageData) -> TrainConfig:
    images = len(data.train)
    size = config.batch_size or min(data.defaults.batch_size, images)
    if size > images:
        raise InputError(f"`batch_size` must be at most {images}, the training images; got {size}.")
    return dataclasses.replace(config, batch_size=size)


def _begin(folder: Path, settings: dict[str, Any], keep: bool) -> None:
    """Makes the folder ready; clears away an earlier run unless it is to be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.glob(PARTIAL + "*"):
        remove(partial)
    if keep and (folder / "settings.json").exists():
        return
    for path in itertools.chain(
        (folder / name for name in RUN_FILES), (path for _, path in _checkpoints(folder))
    ):
        if path.name != "settings.json":
            remove(path)
    write_json(folder / "settings.json", settings)


def _announce(
    config: TrainConfig, data: sources.ImageData, model: keras.Model, folder: Path
) -> None:
    shape = " x ".join(map(str, data.image_shape))
    print(
        f"{config.model}, {model.count_params():,} parameters, on {config.data}: "
        f"{len(data.train):,} images to train, {len(data.test):,} to test, "
        f"{len(data.class_names)} classes, {shape}\n"
        f"{config.epochs} epochs, batches of {config.batch_size}, learning rate {config.lr:g}, "
        f"{config.precision}, seed {config.seed}, on {_devices()}; into {folder}"
    )


def _devices() -> str:
    gpus = len(tf.config.list_logical_devices("GPU"))
    return f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else "the CPU"


def _finish(
    model: keras.Model,
    config: TrainConfig,
    data: sources.ImageData,
    folder: Path,
    history: list[dict[str, float]],
) -> dict[str, Any]:
    with written_beside(folder / "model.keras") as partial:
        model.save(partial, include_optimizer=False)
    with written_beside(folder / "saved_model") as partial:
        model.export(partial, verbose=False)
    probabilities, difference = _compare_saved_model(model, config, data, folder / "saved_model")
    predicted = probabilities.argmax(axis=1)
    report.draw_curves(history, folder / "curves.png")
    report.draw_confusion(data.test.labels, predicted, data.class_names, folder / "confusion.png")
    content = report.summary(model, config, data, history, predicted, difference)
    write_json(folder / "report.json", content)
    for _, checkpoint in _checkpoints(folder):
        remove(checkpoint)
    print(f"Test accuracy {content['test']['accuracy']:.2%}. All of it is in {folder}:")
    print("  " + "  ".join(name + "/" * (name == "saved_model") for name in RUN_FILES))
    return content


def _compare_saved_model(
    model: keras.Model, config: TrainConfig, data: sources.ImageData, saved: Path
) -> tuple[np.ndarray, float]:
    """Predicts the test images with the model and with its SavedModel, loaded back."""
    serve = load_classifier(saved).probabilities
    pairs = [
        (model.predict_on_batch(images), serve(images))
        for images, _ in sources.test_batches(data, config.batch_size)
    ]
    ours, served = (np.concatenate(part) for part in zip(*pairs, strict=True))
    difference = float(np.abs(ours - served).max())
    # Written so that NaN fails.
    if not difference <= TOLERANCE[config.precision]:
        raise RuntimeError(
            f"{saved} does not give what the model gives: probabilities of the test images differ "
            f"by up to {difference:.1e}, more than {TOLERANCE[config.precision]:.0e}"
        )
    same = int((ours.argmax(axis=1) == served.argmax(axis=1)).sum())
    print(
        f"SavedModel loaded back: it agrees with the model on {same:,} of {len(ours):,} test images"
        f", probabilities within {difference:.1e}"
    )
    return ours, difference
