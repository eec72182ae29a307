"""Draw the pictures of a run: curves, confusion matrix, worst mistakes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from se_keras.support.plotting import new_figure, save_figure, shorten, show_names

# Inches for each class in the confusion matrix, with few and with many classes.
WIDE, NARROW = 0.45, 0.18
WIDE_CLASSES = 20
# With more classes there is no room for names and counts.
NAMED_CLASSES = 200
COLUMNS, MOST_MISTAKES = 5, 20
GRAY = "0.4"


def draw_curves(history: Sequence[dict[str, float]], chosen: int, path: Path) -> None:
    """Draw loss and accuracy over the epochs, in training and validation; mark an epoch.

    Args:
        history: rows of `history.csv`.
        chosen: number of the kept epoch, from 1.
        path: path of the picture.
    """
    figure = new_figure(10, 4)
    epochs = [row["epoch"] for row in history]
    # A line through one point is invisible.
    marker = "o" if len(epochs) == 1 else None
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        validated = [row[f"val_{metric}"] for row in history]
        axes.plot(epochs, [row[metric] for row in history], label="training", marker=marker)
        axes.plot(epochs, validated, label="validation", marker=marker)
        axes.axvline(chosen, color=GRAY, linestyle=":", label=f"epoch {chosen} (kept)")
        axes.plot(chosen, validated[chosen - 1], "o", color=GRAY, fillstyle="none", markersize=9)
        axes.set(xlabel="epoch", title=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)


def draw_confusion(counts: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draw the confusion matrix: true classes (rows) by predicted classes (columns).

    Args:
        counts: counts (classes, classes) from `metrics.confusion`.
        class_names: names of the classes, by number.
        path: path of the picture.
    """
    classes = len(class_names)
    per_class = WIDE if classes <= WIDE_CLASSES else NARROW
    size = 3.5 + per_class * min(classes, NAMED_CLASSES)
    figure = new_figure(size + 1, size)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the row", fraction=0.046)
    if classes <= NAMED_CLASSES:
        _write_classes(axes, class_names, 9 if classes <= WIDE_CLASSES else 8)
        _write_counts(axes, counts, shares, 8 if classes <= WIDE_CLASSES else 6)
        axes.set(xlabel="predicted", ylabel="true")
    else:
        axes.set(xlabel="predicted, number of the class", ylabel="true, number of the class")
    axes.set_title("test images")
    save_figure(figure, path)


def _write_classes(axes: Any, class_names: Sequence[str], size: int) -> None:
    names, fonts = show_names([shorten(name) for name in class_names])
    # A dollar sign in a folder's name must not start a formula.
    text: dict[str, Any] = {"fontsize": size, "parse_math": False, "fontfamily": fonts}
    axes.set_xticks(range(len(names)), names, rotation=90, **text)
    axes.set_yticks(range(len(names)), names, **text)


def _write_counts(axes: Any, counts: np.ndarray, shares: np.ndarray, size: int) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        text = f"{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)


def draw_class_maps(
    images: Sequence[np.ndarray],
    maps: Sequence[Sequence[tuple[str, np.ndarray]]],
    names: Sequence[str],
    path: Path,
) -> None:
    """Draw images with their class activation maps.

    Args:
        images: at least one uint8 image (H, W, C).
        maps: for each image at least one caption with its class map (h, w).
        names: names of the files.
        path: path of the picture.
    """
    columns = 1 + max(len(of_image) for of_image in maps)
    figure = new_figure(0.4 + 2.5 * columns, 0.6 + 2.6 * len(images))
    figure.suptitle("The warmer a place, the more it supports the class")
    grid = figure.subplots(len(images), columns, squeeze=False)
    for row, image, of_image, name in zip(grid, images, maps, names, strict=True):
        for axes, (caption, heat) in zip(row, [(shorten(name), None), *of_image], strict=False):
            pixels = image[..., 0] if image.shape[-1] == 1 else image
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            if heat is not None:
                height, width = image.shape[:2]
                axes.imshow(
                    heat / (heat.max() or 1),
                    cmap="turbo",
                    alpha=0.5,
                    vmin=0,
                    vmax=1,
                    extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                    interpolation="bilinear",
                )
            (text,), fonts = show_names([caption])
            axes.set_title(text, fontsize=8, parse_math=False, fontfamily=fonts)
        for axes in row:
            axes.set_axis_off()
    save_figure(figure, path)


def draw_mistakes(
    images: Sequence[np.ndarray], captions: Sequence[tuple[str, str, str]], title: str, path: Path
) -> None:
    """Draw images with their true and predicted classes.

    Args:
        images: at least one uint8 image (H, W, C).
        captions: for each image its class and its predicted class, each after its probability, and
            its file.
        title: title of the picture.
        path: path of the picture.
    """
    columns = min(COLUMNS, len(images))
    lines = -(-len(images) // columns)
    figure = new_figure(max(5, 2.4 * columns), 0.6 + 2.8 * lines)
    figure.suptitle(title)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, caption in zip(grid, images, captions, strict=False):
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        (true, taken, file), fonts = show_names([shorten(text) for text in caption])
        text: dict[str, Any] = {"parse_math": False, "fontfamily": fonts}
        # Probabilities come first, because a right-to-left name would move them.
        axes.set_title(f"true {true}\npredicted {taken}", fontsize=8, **text)
        axes.text(
            0.5,
            -0.03,
            file,
            transform=axes.transAxes,
            ha="center",
            va="top",
            color=GRAY,
            fontsize=7,
            **text,
        )
    save_figure(figure, path)
