"""A training run: from the settings to a folder with a model, and on again after a stop.

The folder tells how far the run is. `settings.json` comes first, then for each finished epoch a row
of `history.csv` and a checkpoint, whose name carries the epoch; its renaming is what finishes the
epoch. `report.json` comes last, and the checkpoint goes.
"""

import csv
import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from se_keras import zoo
from se_keras.errors import InputError
from se_keras.extras import extra
from se_keras.files import PARTIAL, read_json, remove, write_json, written_beside
from se_keras.train import data as sources
from se_keras.train import report
from se_keras.train.classify import load_classifier
from se_keras.train.cluster import Cluster, Team, alone, joined
from se_keras.train.config import Defaults, TrainConfig
from se_keras.train.optimizer import build_optimizer
from se_keras.train.speed import InputClock

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
TENSORBOARD = "tensorboard"
EXPORT = (
    "import sys, keras, se_keras; "
    "keras.models.load_model(sys.argv[1], compile=False).export(sys.argv[2], verbose=False)"
)
ONE_DEVICE = Team(devices=("CPU:0",))
METRICS = (
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "images_per_second",
    "waiting_for_input",
)
# Largest difference of a probability between the model and its SavedModel. Both compute the same,
# in another order; in 16 bits that shows in the third digit.
TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 5e-2, "mixed_float16": 1e-2}


def train(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    cluster: Cluster | None = None,
    tensorboard: bool = False,
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
        cluster: the devices and processes; `None` for one device. With several processes the first
            one alone reads and writes `out`, and an error ends the process.
        tensorboard: whether to write what TensorBoard shows into `out/tensorboard`.

    Returns:
        The content of `report.json`; nothing in a process other than the first.

    Raises:
        InputError: if the data can't be had or read, the model doesn't fit them, `out` is taken, a
            setting differs from those of the run that is to go on, or the devices can't be had.
        RuntimeError: if the SavedModel doesn't give what the model gives.
    """
    with extra("train"):
        import matplotlib  # noqa: F401
    if tensorboard:
        with extra("tensorboard"):
            from tensorboard import summary  # noqa: F401
    config = config.completed()
    folder = Path(out or f"runs/{Path(config.data).resolve().name}-{config.model}")
    cluster = cluster or Cluster()
    if not cluster.process:
        _check_folder(folder, resume, overwrite)
    with joined(cluster) as team:
        data = sources.open_data(config)
        config = _with_batch_size(config, data)
        _check_batch(config, team)
        settings = dataclasses.asdict(config) | {"files": data.fingerprint}
        _check_same_everywhere(settings, team)
        finished = team.leads and resume and _finished(folder, settings)
        if team.from_first(bytes([finished])) == bytes([True]):
            return read_json(folder / "report.json") if team.leads else {}
        keras.utils.set_random_seed(config.seed)
        with team.scope():
            model = build_model(config, data, team)
            if team.leads:
                _announce(config, data, model, folder, team)
            data = sources.prepare(data)
            if team.leads:
                _begin(folder, settings, keep=resume)
            history = fit(model, config, data, folder, team, tensorboard=tensorboard)
        if team.leads:
            model = _saved(model, folder, team)
    return _finish(model, config, data, folder, history, team) if team.leads else {}


def build_model(
    config: TrainConfig, data: sources.ImageData, team: Team = ONE_DEVICE
) -> keras.Model:
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
    on_jax = keras.backend.backend() == "jax"
    mirrored = team.replicas > 1 and not on_jax
    _synchronise(model, config.sync_batch_norm and mirrored)
    updates = config.epochs * (len(data.train) // config.batch_size)
    model.compile(
        optimizer=build_optimizer(config, model, updates, mirrored=mirrored),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        # Weighted, for the images that fill up a batch of `full_test_batches`.
        weighted_metrics=["accuracy"],
        # On small images XLA saves TensorFlow nothing and compiles for ten seconds; JAX has no
        # other way.
        jit_compile=on_jax,
    )
    return model


def _synchronise(model: keras.Model, wanted: bool) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = wanted


def fit(
    model: keras.Model,
    config: TrainConfig,
    data: sources.ImageData,
    folder: Path,
    team: Team = ONE_DEVICE,
    *,
    tensorboard: bool = False,
) -> list[dict[str, float]]:
    """Trains from the last finished epoch to the end.

    Returns:
        The rows of `history.csv`, one for each epoch since the start of the run.
    """
    done, history = _restore(model, folder, team)
    if done and team.leads:
        print(f"Going on after epoch {done} of {config.epochs}.")
    if done < config.epochs:
        _fit(model, config, data, folder, team, history, tensorboard)
    else:
        # As `model.fit` does at its end: the moving average takes the place of the weights.
        model.optimizer.finalize_variable_values(model.trainable_variables)
    return history


def _fit(
    model: keras.Model,
    config: TrainConfig,
    data: sources.ImageData,
    folder: Path,
    team: Team,
    history: list[dict[str, float]],
    tensorboard: bool,
) -> None:
    batches, steps = sources.training_batches(
        data,
        config.batch_size,
        config.seed,
        range(len(history), config.epochs),
        parts=config.accumulate,
        share=team.share,
    )
    part = config.batch_size // config.accumulate
    tests, tested = sources.test_batches(data, part), len(data.test)
    if team.replicas > 1:
        tests, tested = sources.full_test_batches(data, part, team.share)
    clock = InputClock(images_a_step=part)
    epochs = _Epochs(folder, config.seed, history, clock, team, tested / len(data.test))
    callbacks = [clock, epochs]
    if config.ema is not None:
        callbacks.insert(0, keras.callbacks.SwapEMAWeights())
    if tensorboard and team.leads:
        callbacks.append(keras.callbacks.TensorBoard(folder / TENSORBOARD))
    model.fit(
        clock.watch(batches),
        steps_per_epoch=steps,
        initial_epoch=len(history),
        epochs=config.epochs,
        validation_data=tests,
        callbacks=callbacks,
        shuffle=False,
        verbose=0 if not team.leads else 1 if sys.stdout.isatty() else 2,
    )


class _Epochs(keras.callbacks.Callback):
    """Puts each finished epoch on the disk."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        history: list[dict[str, float]],
        clock: InputClock,
        team: Team,
        filling: float,
    ):
        super().__init__()
        self.folder, self.seed, self.history = folder, seed, history
        self.clock, self.team, self.filling = clock, team, filling

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
        # Keras divides by the images that fill up the batches, too. In place, for what comes after
        # this: the line that is printed, and TensorBoard.
        logs["val_loss"] *= self.filling
        logs.update(self.clock.figures())
        self.history.append(
            {
                "epoch": epoch + 1,
                "learning_rate": float(self.model.optimizer.learning_rate),
                **{name: logs[name] for name in METRICS},
                "seconds": round(time.perf_counter() - self.started, 3),
            }
        )
        if self.team.leads:
            with alone():
                self._write(epoch + 1)

    def _write(self, done: int) -> None:
        # A stop between the two leaves a row too many, which `_restore` drops.
        _write_history(self.folder, self.history)
        with written_beside(self.folder / CHECKPOINT.format(done)) as partial:
            self.model.save_weights(partial)
        for _, older in _checkpoints(self.folder)[:-1]:
            remove(older)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    named = ((re.fullmatch(r"checkpoint-(\d+)\.weights\.h5", p.name), p) for p in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match)


def _restore(model: keras.Model, folder: Path, team: Team) -> tuple[int, list[dict[str, float]]]:
    """Loads the last checkpoint, if there is one: the weights and the state of the optimizer."""
    checkpoints = _checkpoints(folder) if team.leads else []
    done, path = checkpoints[-1] if checkpoints else (0, None)
    done = int(team.from_first(b"%d" % done))
    if not done:
        return 0, []
    with _for_all(path, team) as path:
        try:
            model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"can't read {path}: {error}") from error
    if not team.leads:
        return done, [{"epoch": epoch + 1} for epoch in range(done)]
    history = _read_history(folder)[:done]
    if len(history) != done:
        raise InputError(f"{folder / 'history.csv'} has {len(history)} rows, the run {done} epochs")
    return done, history


@contextmanager
def _for_all(path: Path | None, team: Team) -> Iterator[Path]:
    """The first process' file in every process: other machines need not see its folder."""
    if team.share.processes == 1:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.weights.h5"
        copy.write_bytes(team.from_first(path.read_bytes() if team.leads else b""))
        yield copy


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


def _finished(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the run is at its end; checks that these are its settings, if it has begun."""
    if not (folder / "settings.json").exists():
        return False
    _check_same_settings(read_json(folder / "settings.json"), settings, folder)
    if (folder / "report.json").exists():
        print(f"{folder} is finished: nothing to resume")
        return True
    return False


def _check_same_everywhere(settings: dict[str, Any], team: Team) -> None:
    digest = hashlib.sha256(json.dumps(settings).encode()).digest()
    if team.from_first(digest) != digest:
        raise InputError("it has other settings or other images than process 0")


def _check_batch(config: TrainConfig, team: Team) -> None:
    parts = team.replicas * config.accumulate
    if config.batch_size % parts:
        raise InputError(
            f"`batch_size` must be a multiple of {parts} (devices: {team.replicas}, parts: "
            f"{config.accumulate}), got {config.batch_size}."
        )
    if config.accumulate > 1 and team.replicas > 1 and keras.backend.backend() == "tensorflow":
        raise InputError(
            "`accumulate` with several devices needs the JAX backend (Keras can't accumulate in a "
            "MirroredStrategy): set KERAS_BACKEND=jax"
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
        (folder / name for name in (*RUN_FILES, TENSORBOARD)),
        (path for _, path in _checkpoints(folder)),
    ):
        if path.name != "settings.json":
            remove(path)
    write_json(folder / "settings.json", settings)


def _announce(
    config: TrainConfig, data: sources.ImageData, model: keras.Model, folder: Path, team: Team
) -> None:
    shape = " x ".join(map(str, data.image_shape))
    print(
        f"{config.model}, {model.count_params():,} parameters, on {config.data}: "
        f"{len(data.train):,} images to train, {len(data.test):,} to test, "
        f"{len(data.class_names)} classes, {shape}\n"
        f"{config.epochs} epochs, batches of {config.batch_size}{_parts(config, team)}, learning "
        f"rate up to {config.lr:g}{_rule(config, data.defaults)}\n"
        f"{config.precision}, seed {config.seed}, on {_devices(team)}; into {folder}"
    )


def _parts(config: TrainConfig, team: Team) -> str:
    parts = [
        f"{count} {what}"
        for count, what in ((team.replicas, "devices"), (config.accumulate, "parts"))
        if count > 1
    ]
    each = config.batch_size // (team.replicas * config.accumulate)
    return f" ({' x '.join(parts)} x {each} images)" if parts else ""


def _rule(config: TrainConfig, defaults: Defaults) -> str:
    by_the_rule = dataclasses.replace(config, lr=None).completed().lr
    if config.batch_size == defaults.batch_size or config.lr != by_the_rule:
        return ""
    return f" ({defaults.lr:g} for {defaults.batch_size} images, in proportion)"


def _devices(team: Team) -> str:
    kind = "GPU" if "gpu" in team.devices[0].lower() else "CPU"
    if team.replicas == 1:
        return f"one {kind}"
    of = f" of {team.share.processes} processes" if team.share.processes > 1 else ""
    return f"{team.replicas} {kind} devices{of}"


def _saved(model: keras.Model, folder: Path, team: Team) -> keras.Model:
    """Writes `model.keras`; gives the model on one device."""
    _synchronise(model, False)
    # Keras writes which optimizer it was, and could not read back those of this package.
    model.compile("sgd", loss=model.loss, weighted_metrics=["accuracy"])
    with written_beside(folder / "model.keras") as partial:
        model.save(partial, include_optimizer=False)
    if team.replicas == 1:
        return model
    return keras.models.load_model(folder / "model.keras", compile=False)


def _finish(
    model: keras.Model,
    config: TrainConfig,
    data: sources.ImageData,
    folder: Path,
    history: list[dict[str, float]],
    team: Team,
) -> dict[str, Any]:
    with written_beside(folder / "saved_model") as partial:
        _export(model, folder, partial)
    probabilities, difference = _compare_saved_model(model, config, data, folder / "saved_model")
    predicted = probabilities.argmax(axis=1)
    report.draw_curves(history, folder / "curves.png")
    report.draw_confusion(data.test.labels, predicted, data.class_names, folder / "confusion.png")
    content = report.summary(model, config, data, history, predicted, difference, team)
    write_json(folder / "report.json", content)
    for _, checkpoint in _checkpoints(folder):
        remove(checkpoint)
    print(f"Test accuracy {content['test']['accuracy']:.2%}. All of it is in {folder}:")
    print("  " + "  ".join(name + "/" * (name == "saved_model") for name in RUN_FILES))
    return content


def _export(model: keras.Model, folder: Path, path: Path) -> None:
    if keras.backend.backend() == "tensorflow":
        model.export(path, verbose=False)
        return
    # What JAX itself exports runs only on the kind of device that it was exported on.
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", EXPORT, folder / "model.keras", path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the SavedModel can't be made:\n{done.stderr}")


def _compare_saved_model(
    model: keras.Model, config: TrainConfig, data: sources.ImageData, saved: Path
) -> tuple[np.ndarray, float]:
    """Predicts the test images with the model and with its SavedModel, loaded back."""
    serve = load_classifier(saved).probabilities
    pairs = [
        (model.predict_on_batch(images.numpy()), serve(images.numpy()))
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
