"""Write the texts of a run: its announcement and its report."""

import dataclasses
import platform
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from se_keras.support.files import write_csv
from se_keras.support.tables import format_table, visible
from se_keras.train.augmentation import Augmentation
from se_keras.train.choosing import chosen_epoch
from se_keras.train.cluster import Team
from se_keras.train.config import DEFAULTS, Defaults, TrainConfig
from se_keras.train.data import ImageData, read_whole
from se_keras.train.duplicates import Twin
from se_keras.train.metrics import (
    BINS,
    INTERVALS,
    calibration_error,
    confusion,
    fit_temperature,
    measure,
    with_temperature,
)
from se_keras.train.pictures import MOST_MISTAKES, draw_mistakes
from se_keras.train.splits import PARTS, describe_small

# The number of classes, twins and confused pairs that are listed; the others are counted.
LISTED_CLASSES, LISTED_TWINS, LISTED_PAIRS = 20, 5, 10
# The use of the images in each part.
WORDS = {"train": "to train", "validation": "to validate", "test": "to test"}


def announcement(
    config: TrainConfig, data: ImageData, model: keras.Model, folder: Path, team: Team
) -> str:
    """Return the announcement of a run: model, data and settings."""
    shape = " x ".join(map(str, data.image_shape))
    images = ", ".join(f"{len(part):,} {WORDS[name]}" for name, part in data.parts.items())
    return (
        f"{model.name}, {model.count_params():,} parameters, on {config.data}: "
        f"{images}, {len(data.class_names)} classes, {shape}\n"
        f"{config.epochs} epoch{'s' * (config.epochs != 1)}{_end(config)}, batches of "
        f"{config.batch_size}{_parts(config, team)}, learning rate up to "
        f"{config.lr:g}{_rule(config, data.defaults)}\n"
        f"{_augmentation(config, data.defaults)}\n"
        f"{config.precision}, seed {config.seed}, on {_devices(team)}; into {folder}"
        f"{_classes(data) if config.data not in DEFAULTS else ''}"
    )


def _augmentation(config: TrainConfig, defaults: Defaults) -> str:
    """Return the augmentation of the training images in words."""
    own = {
        f"shifts by up to {defaults.shift} px": defaults.shift > 0,
        f"squares of at least {defaults.zoom:g} of the side": defaults.zoom < 1,
        "flips": defaults.flip,
        str(Augmentation.of(config)): True,
    }
    texts = [text for text, used in own.items() if used and text]
    return f"augmentation: {', '.join(texts) or 'none'}"


def _end(config: TrainConfig) -> str:
    """Return in words when the run ends, and which epoch it keeps."""
    best = config.choose == "best"
    kept = "the best by validation is kept" if best else "the last is kept"
    if not config.patience:
        return f" ({kept})"
    return f" at most ({kept}; stops after {config.patience} without improvement)"


def _classes(data: ImageData) -> str:
    """Return the classes of a folder with their images in each part, and the left-out files."""
    names, counts = data.class_names, data.counts
    rows = [[name, *map(int, row)] for name, row in zip(names, counts, strict=True)]
    lines = [format_table(["class", *WORDS.values()], rows[:LISTED_CLASSES])]
    if more := rows[LISTED_CLASSES:]:
        images = counts[LISTED_CLASSES:].sum(axis=1)
        lines.append(
            f"and {len(more):,} more classes of {images.min():,} to {images.max():,} images"
        )
    small = describe_small(counts, names)
    return "\n".join(["", "", *lines, *filter(None, [small]), f"Parts: {data.split}."]) + (
        f"\n{data.left_out}" if data.left_out else ""
    )


def describe_twins(twins: Sequence[Twin]) -> str:
    """Return a warning about images that are in two parts; an empty text if there are none."""
    if not twins:
        return ""
    more = f"; and {len(twins) - LISTED_TWINS:,} more" if len(twins) > LISTED_TWINS else ""
    pairs = "; ".join(visible(str(twin)) for twin in twins[:LISTED_TWINS])
    look = "image looks" if len(twins) == 1 else "images look"
    return (
        f"{len(twins):,} held-out {look} like an image of another part, which makes the results "
        f"too good: {pairs}{more}.\n"
    )


def _parts(config: TrainConfig, team: Team) -> str:
    parts = [
        f"{count} {what}"
        for count, what in ((team.replicas, "devices"), (config.accumulate, "parts"))
        if count > 1
    ]
    assert config.batch_size is not None  # the settings are completed
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


def summary(
    model: keras.Model,
    config: TrainConfig,
    data: ImageData,
    history: Sequence[dict[str, float]],
    answers: dict[str, np.ndarray],
    difference: float,
    team: Team,
) -> dict[str, Any]:
    """Return the content of `report.json`.

    Args:
        model: the trained model.
        config: the completed settings.
        data: the images.
        history: rows of `history.csv`.
        answers: probabilities (N, classes) of the images of "validation" and "test".
        difference: largest difference between the model and its SavedModel.
        team: the devices.
    """
    return {
        "model": model.name,
        "parameters": {
            "trainable": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
            "all": model.count_params(),
        },
        "input": {"shape": [None, *data.image_shape], "range": [0, 255]},
        "data": _data(config, data),
        "class_names": list(data.class_names),
        "settings": dataclasses.asdict(config) | {"model": model.name},
        "epochs": _epochs(config, history),
        **_figures(config, data, answers),
        "devices": team.replicas,
        "processes": team.share.processes,
        "saved_model": {"largest_difference": difference},
        "training_seconds": round(sum(row["seconds"] for row in history), 1),
        "images_per_second": round(float(np.median(_column(history, "images_per_second"))), 1),
        "waiting_for_input": round(float(np.mean(_column(history, "waiting_for_input"))), 4),
        "versions": _versions(),
    }


def _data(config: TrainConfig, data: ImageData) -> dict[str, Any]:
    rows = [dict(zip(PARTS, map(int, row), strict=True)) for row in data.counts]
    return {
        "name": config.data,
        "split": data.split,
        "training_images": len(data.train),
        "validation_images": len(data.validation),
        "test_images": len(data.test),
        "images_by_class": [
            {"class": name} | row for name, row in zip(data.class_names, rows, strict=True)
        ],
        "in_two_parts": [dataclasses.asdict(twin) for twin in data.twins],
    }


def _epochs(config: TrainConfig, history: Sequence[dict[str, float]]) -> dict[str, Any]:
    assert config.epochs is not None  # the settings are completed
    return {
        "trained": len(history),
        "chosen": chosen_epoch(history, config),
        "ended_early": len(history) < config.epochs,
    }


def _figures(
    config: TrainConfig, data: ImageData, answers: dict[str, np.ndarray]
) -> dict[str, Any]:
    names = data.class_names
    validation, test = (
        measure(data.parts[part].labels, answers[part], names, config.seed)
        for part in ("validation", "test")
    )
    recalls = {row["class"]: row["recall"] for row in test["by_class"]}
    predicted = answers["test"].argmax(axis=1)
    test |= {"accuracy_by_class": recalls, "confused": _confused(data, predicted)}
    del validation["by_class"]
    return {
        "intervals": INTERVALS,
        "validation": validation,
        "test": test,
        "calibration": _calibration(data, answers),
    }


def _confused(data: ImageData, predicted: np.ndarray) -> list[dict[str, Any]]:
    """Return the pairs of classes that are confused most often."""
    names, labels = data.class_names, data.test.labels
    counts = confusion(labels, predicted, len(names))
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts, axis=None, kind="stable")[:LISTED_PAIRS]
    places = [divmod(int(place), len(names)) for place in most]
    return [
        {
            "true": names[true],
            "predicted": names[taken],
            "images": int(counts[true, taken]),
            "share": round(float(counts[true, taken] / totals[true]), 4),
        }
        for true, taken in places
        if counts[true, taken]
    ]


def _calibration(data: ImageData, answers: dict[str, np.ndarray]) -> dict[str, Any]:
    temperature = fit_temperature(data.validation.labels, answers["validation"])
    labels, probabilities = data.test.labels, answers["test"]
    content = {
        "bins": BINS,
        "expected_calibration_error": round(calibration_error(labels, probabilities), 4),
        "temperature": None,
        "error_with_temperature": None,
    }
    if temperature is not None:
        cooled = with_temperature(probabilities, temperature)
        content["temperature"] = round(float(temperature), 4)
        content["error_with_temperature"] = round(calibration_error(labels, cooled), 4)
    return content


def _versions() -> dict[str, str]:
    from se_keras import __version__

    return {
        "se_keras": __version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _column(history: Sequence[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in history]


# --- other files of the run ---------------------------------------------------------------------


def write_predictions(data: ImageData, answers: dict[str, np.ndarray], path: Path) -> None:
    """Write the predicted class of each held-out image."""
    rows = []
    for part, probabilities in answers.items():
        split = data.parts[part]
        taken = probabilities.argmax(axis=1)
        for name, label, answer, row in zip(
            split.names, split.labels, taken, probabilities, strict=True
        ):
            names = (data.class_names[label], data.class_names[answer])
            rows.append([name, *names, f"{row[answer]:.4f}", part])
    write_csv(path, ["file", "true", "predicted", "probability", "part"], rows)


def worst_mistakes(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the numbers of the images to look at, and the number of wrong answers.

    These are the wrong answers, the most confident first; if none is wrong, the least confident
    answers.

    Example:

    >>> probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> worst_mistakes(np.array([1, 1, 1]), probabilities)[0].tolist()
    [0, 1]
    """
    wrong = probabilities.argmax(axis=1) != labels
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")
    worst = surest[wrong[surest]] if wrong.any() else surest[::-1]
    return worst[:MOST_MISTAKES], int(wrong.sum())


def draw_worst(data: ImageData, probabilities: np.ndarray, path: Path) -> list[list[Any]]:
    """Draw the worst mistakes among the test images.

    Returns:
        For each image the file, its class, the predicted class and its probability.
    """
    split = data.test
    worst, count = worst_mistakes(split.labels, probabilities)
    rows, captions = [], []
    for number in worst:
        answers = probabilities[number]
        label, taken = int(split.labels[number]), int(answers.argmax())
        names = [data.class_names[each] for each in (label, taken)]
        rows.append([split.names[number], *names, float(answers[taken])])
        shares = (f"({answers[each]:.0%}): {data.class_names[each]}" for each in (label, taken))
        captions.append((*shares, posixpath.basename(split.names[number])))
    images = [read_whole(data, split.items[number]) for number in worst]
    title = f"{count:,} of {len(split):,} test images were classified wrongly"
    title += ", the most confident first" if count else ": the least confident answers"
    draw_mistakes(images, captions, title, path)
    return rows if count else []
