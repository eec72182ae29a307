"""A training run: from the settings to a folder with a model, with resuming."""

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from se_keras import catalog
from se_keras.graph import innermost_layers
from se_keras.metadata import describe, read_metadata, write_metadata
from se_keras.support.archives import check_archive
from se_keras.support.arguments import boolean, function, instance_of, path
from se_keras.support.errors import InputError, extra
from se_keras.support.files import (
    digest_of,
    remove_left,
    temporary_files_beside,
    write_json,
    written_beside,
)
from se_keras.train import checkpoints, report
from se_keras.train import data as sources
from se_keras.train.augmentation import Augmentation
from se_keras.train.choosing import best_epoch, chosen_epoch, is_over
from se_keras.train.cluster import Team, join_devices, on_own_device, quick_compilation
from se_keras.train.config import DEFAULTS, Cluster, TrainConfig, is_model_file
from se_keras.train.input_clock import InputClock
from se_keras.train.metrics import confusion
from se_keras.train.optimizer import build_optimizer
from se_keras.train.page import between, percent, write_page
from se_keras.train.pictures import draw_confusion, draw_curves
from se_keras.train.progress import Progress
from se_keras.train.run_files import TABLES, History, read_report
from se_keras.train.run_folder import (
    RUN_FILES,
    TENSORBOARD,
    begin,
    check_folder,
    check_there,
    default_folder,
    is_finished,
    locked,
    restore_history,
    save_epoch,
)
from se_keras.train.saved_model import (
    compare_saved_model,
    exported,
    load_saved_model,
    predict_part,
)
from se_keras.train.splits import balanced_weights, describe_small, write_parts
from se_keras.train.stages import Stage, Stages, held_layers, stages_of
from se_keras.train.start import TUNING, Start, start_of

# A function that builds the network from `input_tensor`, `classes` and `dtype`.
Network = Callable[..., keras.Model]
ONE_DEVICE = Team(devices=("CPU:0",))
METRICS = (
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "images_per_second",
    "waiting_for_input",
)


def train(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    cluster: Cluster | None = None,
    tensorboard: bool = False,
    network: Network | None = None,
    model: keras.Model | None = None,
) -> dict[str, Any]:
    """Train a model on images, and write the results to a folder.

    Args:
        config: the settings.
        out: the folder; `None` for `runs/<data>-<model>`. It gets `model.keras` and `saved_model/`,
            which both take raw pixels (N, H, W, C) in 0..255 and return class probabilities (N,
            classes); `history.csv`, `curves.png`, `confusion.png`, and `report.json`, which has the
            class names.
        resume: whether to continue a stopped run, or to start it if there is none yet.
        overwrite: whether to replace a finished or stopped run in `out`.
        cluster: the devices and processes; `None` for one device. Of several processes only the
            first reads and writes `out`, and an error ends the process.
        tensorboard: whether to write logs for TensorBoard to `out/tensorboard`.
        network: a function that builds the network, instead of `config.model`. It is called as
            `network(input_tensor=..., classes=..., dtype=...)` with scaled pixels (N, H, W, C) in
            -1..1, a number of classes and a Keras dtype policy, and returns a `keras.Model` on that
            tensor that gives class probabilities. `settings.json` keeps its name, so that a run is
            resumed with the same one.
        model: a functional classifier or backbone to train further, instead of `config.model`. It
            is not changed: a copy gets a fresh classifier for the data's classes, after a global
            average for a backbone.

    Returns:
        The content of `report.json`; an empty dict in any process but the first.

    Raises:
        InputError: if the data can't be read, the model doesn't fit them, `out` is in use, a
            setting differs from the resumed run, or the devices are not available.
        WrongResultError: if the SavedModel and the model return different results.
    """
    instance_of("config", config, TrainConfig, "a TrainConfig")
    resume, overwrite = boolean("resume", resume), boolean("overwrite", overwrite)
    tensorboard = boolean("tensorboard", tensorboard)
    if cluster is not None:
        instance_of("cluster", cluster, Cluster, "a Cluster or None")
    if network is not None:
        function("network", network)
    if model is not None:
        instance_of("model", model, keras.Model, "a Keras model or None")
    with extra("train"):
        import matplotlib  # noqa: F401
    if tensorboard:
        with extra("tensorboard"):
            from tensorboard import summary  # noqa: F401
    if out is not None:
        path("out", out)
    config.completed()  # refuses what does not fit
    fallback = default_folder(config, _name_given(network, model))
    folder = path("out", fallback if out is None else out)
    cluster = cluster or Cluster()
    if cluster.process:
        return _train(config, folder, False, cluster, tensorboard, network, model)
    check_folder(folder, resume, overwrite)
    with locked(folder):
        check_folder(folder, resume, overwrite)  # another process may have been there meanwhile
        remove_left(folder)
        return _train(config, folder, resume, cluster, tensorboard, network, model)


def _train(
    asked: TrainConfig,
    folder: Path,
    resume: bool,
    cluster: Cluster,
    tensorboard: bool,
    network: Network | None,
    model: keras.Model | None,
) -> dict[str, Any]:
    """Train in a folder that no other process writes to."""
    with join_devices(cluster) as team, sources.image_errors():
        if network is not None:
            _refuse_start(asked, model)
        start = start_of(asked, model) if network is None else None
        config = (start.config if start else asked).completed()
        name = _name_of(network) if network else start.name if start else config.model
        data = sources.open_data(config)
        config = _set_batch_size(config, data)
        _check_batch(config, team)
        settings = _settings(config, name, data)
        _check_same_everywhere(settings, team)
        finished = team.leads and resume and is_finished(folder, settings) and _can_be_used(folder)
        if team.from_first(bytes([finished])) == bytes([True]):
            return read_report(folder) if team.leads else {}
        keras.utils.set_random_seed(config.seed)
        with _temporary_files(folder, team):
            with team.scope():
                with quick_compilation():
                    trained = build_model(config, data, team, network, start)
                if team.leads:
                    print(report.announcement(config, data, trained, folder, team))
                    print(start.describe(config) if start else "", end="")
                data = sources.prepare(data)
                if team.leads:
                    print(report.describe_twins(data.twins), end="")
                    begin(folder, settings, keep=resume)
                    write_parts(folder / "split.csv", _split_rows(data))
                history = fit(trained, config, data, folder, team, tensorboard=tensorboard)
            if team.leads:
                trained = _save_model(trained, folder, team)
    with sources.image_errors(), _temporary_files(folder, team):
        return _finish(trained, config, data, folder, history, team) if team.leads else {}


def _temporary_files(folder: Path, team: Team) -> AbstractContextManager:
    """Keep what TensorFlow writes while it traces functions where a resumed run deletes it."""
    return temporary_files_beside(folder / "temporary") if team.leads else nullcontext()


def _can_be_used(folder: Path) -> bool:
    """Return whether the models of a finished run are undamaged."""
    try:
        check_archive(folder / "model.keras")
        load_saved_model(folder / "saved_model")
        read_metadata(folder / "saved_model")
    except InputError as error:
        print(f"{error} It is recreated.")
        return False
    print(f"{folder} is finished: nothing to resume")
    return True


def _settings(config: TrainConfig, model: str | None, data: sources.ImageData) -> dict[str, Any]:
    """Return the content of `settings.json`: the settings that a resumed run must share."""
    folder = config.data if config.data in DEFAULTS else os.path.abspath(config.data)
    files = sources.fingerprint(data)
    return dataclasses.asdict(config) | {"model": model, "data": folder, "files": files}


def _split_rows(data: sources.ImageData) -> list[tuple[str, str, str]]:
    return [
        (name, data.class_names[label], part)
        for part, split in data.parts.items()
        for name, label in zip(split.names, split.labels, strict=True)
    ]


def _refuse_start(config: TrainConfig, model: keras.Model | None) -> None:
    named = {name: getattr(config, name) for name in ("weights", *TUNING)}
    given = [name for name, value in (named | {"model": model}).items() if value is not None]
    if given or is_model_file(config.model):
        raise InputError(f"`{(given or ['model'])[0]}` and `network` exclude each other.")


def _name_given(network: Network | None, model: keras.Model | None) -> str:
    """Return the name of the given network or model, which replaces the settings' model."""
    if network is not None:
        return _name_of(network)
    return "" if model is None else model.name


def _name_of(network: Network) -> str:
    return getattr(network, "__qualname__", type(network).__qualname__)


def build_model(
    config: TrainConfig,
    data: sources.ImageData,
    team: Team = ONE_DEVICE,
    network: Network | None = None,
    start: Start | None = None,
) -> keras.Model:
    """Build the model of the settings on raw pixels, ready for `fit`.

    Args:
        config: the settings, completed.
        data: the images.
        team: the devices.
        network: as in `train`.
        start: start of the run from weights; `None` for fresh weights.

    Raises:
        InputError: if the model can't take images of this size, or `network` returns anything but
            a model of that many classes.
    """
    pixels = keras.Input(data.image_shape, name="pixels")
    if start is None:
        # The range -1..1, which keras.applications calls "tf".
        scaled = keras.layers.Rescaling(1 / 127.5, -1.0, dtype="float32", name="scale")(pixels)
        model = _build_network(config, data, scaled, network)
    else:
        scaled, classes = start.prepare(pixels), len(data.class_names)
        model = start.build(input_tensor=scaled, classes=classes, dtype=config.precision)
    held_layers(model, config)  # refuses before the images are read
    _synchronize(model, config.sync_batch_norm and _is_mirrored(team))
    _compile(model, config, data, team, stages_of(config)[0])
    team.adapt(model)
    return model


def _is_mirrored(team: Team) -> bool:
    return team.replicas > 1 and keras.backend.backend() != "jax"


def _compile(
    model: keras.Model, config: TrainConfig, data: sources.ImageData, team: Team, stage: Stage
) -> None:
    """Give the model the optimizer of a stage."""
    assert config.lr is not None  # the settings are completed
    assert config.batch_size is not None
    updates = (stage.end - stage.begin) * (len(data.train) // config.batch_size)
    its_config = dataclasses.replace(config, lr=config.lr * stage.share)
    model.compile(
        optimizer=build_optimizer(its_config, model, updates, mirrored=_is_mirrored(team)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        # Weighted by class weights, and by 0 for the padding in batches of `full_batches`.
        weighted_metrics=["accuracy"],
        # In TensorFlow, XLA compiles for seconds and saves nothing on small images; JAX always
        # compiles.
        jit_compile=keras.backend.backend() == "jax",
    )


def _build_network(
    config: TrainConfig,
    data: sources.ImageData,
    pixels: keras.KerasTensor,
    network: Network | None,
) -> keras.Model:
    classes = len(data.class_names)
    options = {"input_tensor": pixels, "classes": classes, "dtype": config.precision}
    if network is None:
        try:
            assert config.model is not None  # the settings are completed
            return catalog.create(config.model, **options, **config.network_options)
        except (InputError, TypeError) as error:  # a TypeError: it has no such option
            size = data.image_shape
            reason = str(error).replace("`input_shape`", "`image_size`")
            raise InputError(f"{config.model} with images of {size}: {reason}") from error
    if config.network_options:
        raise InputError(
            "`ratio`, `placement`, `attention` and `no_se` are for `model`, not for a `network`."
        )
    model = network(**options)
    # A model that is not built has no shape.
    got = getattr(model, "output_shape", None)
    if not isinstance(model, keras.Model) or got != (None, classes):
        raise InputError(
            f"`network` must return a keras.Model with the output (None, {classes}), got "
            f"{got or type(model).__name__}."
        )
    return model


def _synchronize(model: keras.Model, wanted: bool) -> None:
    for layer in innermost_layers(model):
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
) -> History:
    """Train from the last finished epoch to the end; the model gets the chosen epoch's weights.

    Returns:
        The rows of `history.csv`, one for each epoch since the start of the run.
    """
    stages = Stages(model, config, lambda stage: _compile(model, config, data, team, stage))
    history = restore_history(folder, team)
    if history:
        stages.enter(len(history) - 1)
        checkpoints.load(model, folder, len(history), team)
        if team.leads:
            print(f"Going on after epoch {len(history)} of {config.epochs}.")
    while not _agree(team.leads and is_over(history, config), team):
        end = stages.enter(len(history)).end
        _fit(model, config, data, folder, team, history, end, tensorboard)
        # Keras replaces the weights by their moving average at the end of `fit`.
        checkpoints.load(model, folder, len(history), team)
    if team.leads and len(history) < (config.epochs or 0):
        best = best_epoch(history)
        print(f"The run ends: {config.patience} epochs were no better than epoch {best}.")
    chosen = chosen_epoch(history, config) if team.leads else 0
    chosen = int(team.from_first(b"%d" % chosen))
    stages.enter(chosen - 1)
    checkpoints.load(model, folder, chosen, team)
    # The moving average replaces the weights.
    model.optimizer.finalize_variable_values(model.trainable_variables)
    stages.leave()
    return history


def _agree(answer: bool, team: Team) -> bool:
    """Return the answer of the first process, so that rounding does not separate the processes."""
    return team.from_first(bytes([answer])) == bytes([True])


def _fit(
    model: keras.Model,
    config: TrainConfig,
    data: sources.ImageData,
    folder: Path,
    team: Team,
    history: History,
    end: int,
    tensorboard: bool,
) -> None:
    """Train up to an epoch, in one stage."""
    assert config.epochs is not None  # the settings are completed
    assert config.batch_size is not None
    batches, steps = sources.training_batches(
        data,
        config.batch_size,
        config.seed,
        range(len(history), end),
        parts=config.accumulate,
        share=team.share,
        weights=_class_weights(config, data, "train"),
        more=Augmentation.of(config),
    )
    part = config.batch_size // config.accumulate
    validation, validated = _validation(config, data, part, team)
    clock = InputClock(images_a_step=part)
    epochs = _Epochs(folder, config, history, clock, team, validated / len(data.validation))
    callbacks = [clock, epochs]
    if config.ema is not None:
        callbacks.insert(0, keras.callbacks.SwapEMAWeights())
    if tensorboard and team.leads:
        callbacks.append(keras.callbacks.TensorBoard(folder / TENSORBOARD))
    if team.leads:
        callbacks.append(Progress(config.epochs, steps, history, end=end))
    model.fit(
        clock.watch(batches),
        steps_per_epoch=steps,
        initial_epoch=len(history),
        epochs=end,
        validation_data=validation,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


def _validation(
    config: TrainConfig, data: sources.ImageData, batch_size: int, team: Team
) -> tuple[tf.data.Dataset, int]:
    """Return the batches for the validation of an epoch, and the number of images in them."""
    weights = _class_weights(config, data, "validation")
    if team.replicas > 1:
        return sources.full_batches(data, "validation", batch_size, team.share, weights)
    batches = sources.part_batches(data, "validation", batch_size, weights)
    return batches, len(data.validation)


def _class_weights(config: TrainConfig, data: sources.ImageData, part: str) -> np.ndarray | None:
    if config.class_weights == "none":
        return None
    return balanced_weights(data.parts[part].labels, len(data.class_names))


class _Epochs(keras.callbacks.Callback):
    """A callback that saves each finished epoch, and ends the run when it is over."""

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        history: History,
        clock: InputClock,
        team: Team,
        filling: float,
    ):
        super().__init__()
        self.folder, self.config, self.history = folder, config, history
        self.clock, self.team, self.filling = clock, team, filling

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.started = time.perf_counter()
        # Keras does not save the random states of layers, so each epoch sets them from its number.
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for number, state in enumerate(states):
            drawn = np.random.SeedSequence((self.config.seed, epoch, number)).generate_state(2)
            state.assign(drawn)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None  # `fit` gives them
        if not math.isfinite(logs["loss"]):
            raise InputError(
                f"The loss became {logs['loss']} in epoch {epoch + 1}: try a smaller learning rate."
            )
        # Keras also counts the padding of the batches. Correct the loss in place, for the printed
        # line and TensorBoard.
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
            with on_own_device():
                save_epoch(self.folder, self.model, self.history)
        over = self.team.leads and is_over(self.history, self.config)
        self.model.stop_training = _agree(over, self.team)


def _check_same_everywhere(settings: dict[str, Any], team: Team) -> None:
    digest = hashlib.sha256(json.dumps(settings).encode()).digest()
    if team.from_first(digest) != digest:
        raise InputError("this process has different settings or images from process 0.")


def _check_batch(config: TrainConfig, team: Team) -> None:
    assert config.batch_size is not None  # the settings are completed
    parts = team.replicas * config.accumulate
    if config.batch_size % parts:
        raise InputError(
            f"`batch_size` must be a multiple of {parts} (devices: {team.replicas}, parts: "
            f"{config.accumulate}), got {config.batch_size}."
        )
    if config.accumulate > 1 and team.replicas > 1 and keras.backend.backend() == "tensorflow":
        raise InputError(
            "`accumulate` with several devices needs the JAX backend (Keras can't accumulate in a "
            "MirroredStrategy): set KERAS_BACKEND=jax."
        )


def _set_batch_size(config: TrainConfig, data: sources.ImageData) -> TrainConfig:
    images = len(data.train)
    size = config.batch_size or min(data.defaults.batch_size, images)
    if size > images:
        raise InputError(
            f"`batch_size` must be at most {images}, the number of training images, got {size}."
        )
    return dataclasses.replace(config, batch_size=size)


def _save_model(model: keras.Model, folder: Path, team: Team) -> keras.Model:
    """Write `model.keras`; return the model on one device."""
    _synchronize(model, False)
    # Keras saves the optimizer, and could not load this package's own.
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
    history: History,
    team: Team,
) -> dict[str, Any]:
    with written_beside(folder / "saved_model") as partial:
        with exported(model, folder / "model.keras", partial):
            parts = ("validation", "test")
            answers = {part: predict_part(model, config, data, part) for part in parts}
        write_metadata(partial, describe(model, data.class_names))
    difference = compare_saved_model(answers["test"], config, data, folder / "saved_model")
    content = report.summary(model, config, data, history, answers, difference, team)
    _write_results(content, data, folder, history, answers)
    check_there(folder)
    content["files"] = {name: digest_of(folder / name) for name in TABLES}
    write_json(folder / "report.json", content, sealed=True)
    test_figures = content["test"]
    print(
        f"Test accuracy {percent(test_figures['accuracy'])} (95 %: "
        f"{between(test_figures['accuracy_interval'])}), balanced over the classes "
        f"{percent(test_figures['balanced_accuracy'])}, of epoch {content['epochs']['chosen']}. "
        f"All files are in {folder}:"
    )
    print("  " + "  ".join(name + "/" * (name == "saved_model") for name in RUN_FILES))
    return content


def _write_results(
    content: dict[str, Any],
    data: sources.ImageData,
    folder: Path,
    history: History,
    answers: dict[str, np.ndarray],
) -> None:
    """Write tables, pictures and the page."""
    report.write_predictions(data, answers, folder / "predictions.csv")
    draw_curves(history, content["epochs"]["chosen"], folder / "curves.png")
    predicted = answers["test"].argmax(axis=1)
    counts = confusion(data.test.labels, predicted, len(data.class_names))
    draw_confusion(counts, data.class_names, folder / "confusion.png")
    mistakes = report.draw_worst(data, answers["test"], folder / "mistakes.png")
    small = describe_small(data.counts, data.class_names)
    warnings = [report.describe_twins(data.twins), small, data.left_out]
    with written_beside(folder / "report.html") as partial:
        write_page(
            partial,
            content,
            folder=folder,
            warnings=list(filter(None, warnings)),
            mistakes=mistakes,
        )
