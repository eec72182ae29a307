"""Classifying image files with what a run left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from se_keras.errors import InputError
from se_keras.files import read_json
from se_keras.train.data import decoder_message, read_image

BAR_WIDTH = 30


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A saved model, with what is needed to feed it an image and to read its answer.

    Attributes:
        probabilities: pixels (N, H, W, C) in 0..255 to (N, classes).
        shape: of its input, (N, H, W, C) with `None` where any number will do.
        class_names: names of the classes; empty where none are known.
    """

    probabilities: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int | None, ...]
    class_names: tuple[str, ...]


def predict(
    path: str | Path, images: Sequence[str | Path], *, top: int = 5
) -> list[list[tuple[str, float]]]:
    """Classifies image files.

    Args:
        path: the folder of a run, a `.keras` file or a SavedModel that a run left. Class names come
            from the `report.json` beside it; without one the classes are numbered.
        images: PNG, JPEG, BMP or GIF files.
        top: how many classes to give, the likeliest first.

    Returns:
        For each image its classes with their probabilities.

    Raises:
        InputError: naming the path or the image that can't be read, or if the model doesn't give
            probabilities.
    """
    if top < 1:
        raise InputError(f"top must be a positive whole number, got {top}")
    for image in images:
        if not Path(image).is_file():
            raise InputError(f"there is no image file {image}")
    classifier = load_classifier(Path(path))
    return [_classify(classifier, image, top) for image in images]


def load_classifier(path: Path) -> Classifier:
    """Loads the model of a run's folder, a `.keras` file or a SavedModel.

    Raises:
        InputError: if there is none of them, or it can't be read.
    """
    if (path / "settings.json").is_file():
        path = path / "model.keras"
        if not path.is_file():
            raise InputError(
                f"the run {path.parent} is not finished: `se-keras train` goes on with --resume"
            )
    report = path.parent / "report.json"
    names = tuple(read_json(report)["class_names"]) if report.is_file() else ()
    if path.is_file() and path.suffix == ".keras":
        return Classifier(class_names=names, **_open(_keras_model, path))
    if (path / "saved_model.pb").is_file():
        return Classifier(class_names=names, **_open(_saved_model, path))
    what = "is none of them" if path.exists() else "is not there"
    raise InputError(f"path must be a run's folder, a .keras file or a SavedModel; {path} {what}")


def _open(load: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
    try:
        return load(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"can't use {path}: {str(error).strip().splitlines()[0]}") from error


def _keras_model(path: Path) -> dict[str, Any]:
    model = keras.models.load_model(path, compile=False)
    return {
        "probabilities": lambda pixels: keras.ops.convert_to_numpy(model(pixels, training=False)),
        "shape": model.input_shape,
    }


def _saved_model(path: Path) -> dict[str, Any]:
    signature = tf.saved_model.load(path).signatures["serving_default"]
    (name, spec), *more = signature.structured_input_signature[1].items()
    if more:
        raise ValueError("it takes more than one input")
    return {
        "probabilities": lambda pixels: next(
            iter(signature(**{name: tf.constant(pixels, spec.dtype)}).values())
        ).numpy(),
        "shape": tuple(spec.shape),
    }


def _classify(classifier: Classifier, image: str | Path, top: int) -> list[tuple[str, float]]:
    _, height, _, channels = classifier.shape
    try:
        pixels = read_image(str(image), height, channels)
    except tf.errors.OpError as error:
        raise InputError(f"can't read {image}: {decoder_message(error)}") from error
    answer = classifier.probabilities(pixels.numpy()[np.newaxis].astype("float32"))
    if answer.ndim != 2 or abs(answer.sum() - 1) > 0.01:
        raise InputError(f"the model gives {answer.shape}, not the probabilities of classes")
    names = classifier.class_names or [f"class {number}" for number in range(answer.shape[1])]
    order = np.argsort(-answer[0], kind="stable")[:top]
    return [(names[number], float(answer[0, number])) for number in order]


def show_predictions(
    images: Sequence[str | Path], predictions: Sequence[Sequence[tuple[str, float]]]
) -> str:
    """The classes of each image as text, with a bar each.

    Example:

    >>> print(show_predictions(["a.png"], [[("cat", 0.9), ("dog", 0.1)]]))
    a.png
      cat   90.0 %  ███████████████████████████
      dog   10.0 %  ███
    """
    width = max(len(name) for classes in predictions for name, _ in classes)
    lines = []
    for image, classes in zip(images, predictions, strict=True):
        lines.append(str(image))
        for name, share in classes:
            bar = "█" * round(share * BAR_WIDTH)
            lines.append(f"  {name:{width}}  {share:6.1%}  {bar}".replace("%", " %").rstrip())
    return "\n".join(lines)
