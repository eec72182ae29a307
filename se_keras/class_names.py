"""Turn predictions into class names, from a model, published weights or a training run."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from se_keras.metadata import format_of, read_metadata
from se_keras.pixels import ROWS, PixelSource, called, pixels_of
from se_keras.support.arguments import plain, plain_text, positive_integer, text_of_path
from se_keras.support.errors import InputError, shown
from se_keras.support.files import read_json
from se_keras.support.schema import Fields, characters, row
from se_keras.weights.class_lists import Labels, labels_of_list
from se_keras.weights.preprocessing import IMAGENET
from se_keras.weights.source import Weights, labels_named, parse_source

REPORT = "report.json"


def decode_predictions(
    predictions: Any, model_or_source: PixelSource | None = None, top: int = 5
) -> list[list[tuple[str, str, float]]]:
    """Return the names of the classes with the highest scores.

    Args:
        predictions: output of a classifier, (N, classes).
        model_or_source: where the names are: a model with published weights; the name or source of
            published weights; the folder of a run of `se-keras train`, or a file in it; an
            exported file or folder; `None` for ImageNet's classes.
        top: number of classes for each image, the highest score first.

    Returns:
        For each image a list of tuples of the class's identifier (for ImageNet its WordNet
        number), name and score.

    Raises:
        InputError: if the names are unknown, or their number differs from the predictions.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> se_keras.decode_predictions(np.eye(1000)[[1]], top=1)
    [[('n01443537', 'goldfish', 1.0)]]
    """
    number = plain(model_or_source)
    if type(number) is int and number > 0:  # the order of keras.applications: (predictions, 3)
        return decode_predictions(predictions, None, number)
    top = positive_integer("top", top)
    labels = labels_of(IMAGENET if model_or_source is None else model_or_source)
    if labels is None:
        name = called(model_or_source)
        raise InputError(
            f"`model_or_source`: the class names of {name} are unknown. Give the source of its "
            "weights, the folder of its training run, or None for ImageNet's classes."
        )
    wanted = f"`predictions` must have the shape (N, {len(labels)}), one score for each class"
    try:
        scores = np.asarray(keras.ops.convert_to_numpy(predictions), "float64")
    except Exception as error:  # an object of any class may raise any error
        raise InputError(f"{wanted}, got {shown(predictions)}.") from error
    if scores.ndim != 2 or scores.shape[1] != len(labels):
        raise InputError(f"{wanted}, got {scores.shape}.")
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [(*labels[number], float(row[number])) for number in best]
        for row, best in zip(scores, order, strict=True)
    ]


def labels_of(model_or_source: PixelSource) -> Labels | None:
    """Return the identifier and name of each class; `None` if they are unknown.

    Args:
        model_or_source: as in `decode_predictions`; `"imagenet"` for ImageNet's classes.

    Raises:
        InputError: if the source can't be read.

    Example:

    >>> from se_keras.class_names import labels_of
    >>> labels_of("seresnet50.a1_in1k")[1]
    ('n01443537', 'goldfish')
    """
    if isinstance(model_or_source, str):
        model_or_source = plain_text(model_or_source) or ""
    if isinstance(model_or_source, str) and model_or_source == IMAGENET:
        return labels_of_list(IMAGENET)
    if isinstance(model_or_source, str | os.PathLike) and _is_there(model_or_source):
        of_run = labels_of_run(Path(model_or_source))
        if of_run is not None or Path(model_or_source).is_dir():
            return of_run
    if isinstance(model_or_source, Weights) and plain_text(model_or_source) not in ROWS:
        return parse_source(model_or_source, argument="model_or_source", others=ROWS).labels
    labels = pixels_of(model_or_source).labels
    return None if labels is None else labels_named(labels)


def _is_there(path: Any) -> bool:
    try:
        return bool(os.path.exists(text_of_path("model_or_source", path)))
    except InputError:
        return False


def labels_of_run(path: Path) -> Labels | None:
    """Return the classes in an exported file or in a run's report; `None` if there are none.

    Args:
        path: an exported file; or the folder of a run, or a file or folder in it.

    Raises:
        InputError: if the file or the report is damaged.
    """
    if format_of(path) and (own := read_metadata(path).class_names):
        return tuple((name, name) for name in own)
    report = next(
        (file for file in (path / REPORT, path.parent / REPORT) if os.path.lexists(file)), None
    )
    if report is None:
        names: tuple[str, ...] = ()
    else:
        content = read_json(report)
        fields = Fields(content, f"can't read {report}")
        is_of_run = os.path.lexists(report.parent / "settings.json")
        read = fields.need if is_of_run or "class_names" in content else fields.take
        names = read("class_names", partial(row, read=characters), "a list of texts") or ()
    return tuple((name, name) for name in names) or None
