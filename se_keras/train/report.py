"""What a run tells people: what it sets out to do, then curves, confusion matrix, report."""

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from se_keras.support.plotting import new_figure, save_figure
from se_keras.support.tables import format_table
from se_keras.train.cluster import Team
from se_keras.train.config import DEFAULTS, Defaults, TrainConfig
from se_keras.train.data import ImageData

# Beyond so many classes the counts in the squares are too small to read.
READABLE_CLASSES = 20
# Classes that the announcement lists before it only counts.
LISTED_CLASSES = 20


def announcement(
    config: TrainConfig, data: ImageData, model: keras.Model, folder: Path, team: Team
) -> str:
    """What is to be trained, on what and how, before it begins."""
    shape = " x ".join(map(str, data.image_shape))
    return (
        f"{model.name}, {model.count_params():,} parameters, on {config.data}: "
        f"{len(data.train):,} images to train, {len(data.test):,} to test, "
        f"{len(data.class_names)} classes, {shape}\n"
        f"{config.epochs} epochs, batches of {config.batch_size}{_parts(config, team)}, learning "
        f"rate up to {config.lr:g}{_rule(config, data.defaults)}\n"
        f"{config.precision}, seed {config.seed}, on {_devices(team)}; into {folder}"
        f"{_classes(data) if config.data not in DEFAULTS else ''}"
    )


def _classes(data: ImageData) -> str:
    """The classes of a folder with their images in each part; what was left out of it."""
    names = data.class_names
    parts = [np.bincount(part.labels, minlength=len(names)) for part in (data.train, data.test)]
    rows = [[name, *map(int, counts)] for name, *counts in zip(names, *parts, strict=True)]
    lines = [format_table(["class", "to train", "to test"], rows[:LISTED_CLASSES])]
    if more := rows[LISTED_CLASSES:]:
        images = [sum(counts) for _, *counts in more]
        lines.append(f"and {len(more):,} more classes of {min(images):,} to {max(images):,} images")
    return "\n".join(["", "", *lines, f"Split: {data.split}.", *filter(None, [data.left_out])])


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


def draw_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Draws loss and accuracy over the epochs, on the training and the test images."""
    figure = new_figure(10, 4)
    epochs = [row["epoch"] for row in history]
    # A line through one point is not seen.
    marker = "o" if len(epochs) == 1 else None
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [row[metric] for row in history], label="training", marker=marker)
        axes.plot(epochs, [row[f"val_{metric}"] for row in history], label="test", marker=marker)
        axes.set(xlabel="epoch", title=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)


def draw_confusion(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], path: Path
) -> None:
    """Draws how many images of each class (row) were taken for which (column)."""
    counts = confusion(labels, predicted, len(class_names))
    size = 3 + min(0.45 * len(class_names), 12)
    figure = new_figure(size + 1, size)
    axes = figure.subplots()
    shares = counts / counts.sum(axis=1, keepdims=True)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the row", fraction=0.046)
    font = 9 if len(class_names) <= READABLE_CLASSES else 5
    # A dollar sign in a folder's name is no formula.
    text: dict[str, Any] = {"fontsize": font, "parse_math": False}
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=90, **text)
    axes.set_yticks(ticks, class_names, **text)
    axes.set(xlabel="predicted", ylabel="true", title="test images")
    if len(class_names) <= READABLE_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, count or "", ha="center", va="center", color=color, fontsize=8)
    save_figure(figure, path)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts of images, (classes, classes): true class by predicted class.

    Example:

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def summary(
    model: keras.Model,
    config: TrainConfig,
    data: ImageData,
    history: Sequence[dict[str, float]],
    predicted: np.ndarray,
    difference: float,
    team: Team,
) -> dict[str, Any]:
    """The content of `report.json`."""
    from se_keras import __version__

    counts = confusion(data.test.labels, predicted, len(data.class_names))
    recalls = counts.diagonal() / counts.sum(axis=1)
    return {
        "model": model.name,
        "parameters": {
            "trainable": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
            "all": model.count_params(),
        },
        "input": {"shape": [None, *data.image_shape], "range": [0, 255]},
        "data": {
            "name": config.data,
            "split": data.split,
            "training_images": len(data.train),
            "test_images": len(data.test),
        },
        "class_names": list(data.class_names),
        "settings": dataclasses.asdict(config) | {"model": model.name},
        "test": {
            "accuracy": float(np.mean(predicted == data.test.labels)),
            "accuracy_by_class": dict(
                zip(data.class_names, recalls.round(4).tolist(), strict=True)
            ),
        },
        "devices": team.replicas,
        "processes": team.share.processes,
        "saved_model": {"largest_difference": difference},
        "training_seconds": round(sum(row["seconds"] for row in history), 1),
        "images_per_second": round(float(np.median(_column(history, "images_per_second"))), 1),
        "waiting_for_input": round(float(np.mean(_column(history, "waiting_for_input"))), 4),
        "versions": {
            "se_keras": __version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _column(history: Sequence[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in history]
