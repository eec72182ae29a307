"""Classifying image files with what a run left, or with pretrained weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from se_keras import catalog
from se_keras.images import read_image
from se_keras.models.recipes import find_recipe
from se_keras.preprocessing import imagenet_labels, labels_of, load_image, preprocessing_of
from se_keras.support.errors import InputError, as_input_error, lines_of
from se_keras.support.files import read_json
from se_keras.weights import hub
from se_keras.weights.presets import find_preset, preset_of

BAR_WIDTH = 30


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model, with what is needed to feed it an image and to read its answer.

    Attributes:
        probabilities: pixels (N, H, W, C) in 0..255 to (N, classes).
        read: an image file to such pixels, (H, W, C).
        class_names: names of the classes; empty where none are known.
    """

    probabilities: Callable[[np.ndarray], np.ndarray]
    read: Callable[[str | Path], np.ndarray]
    class_names: tuple[str, ...]


def predict(
    path: str | Path, images: Sequence[str | Path], *, top: int = 5
) -> list[list[tuple[str, float]]]:
    """Classifies image files.

    Args:
        path: the folder of a run, a `.keras` file or a SavedModel that a run left. Class names come
            from the `report.json` beside it; without one the classes are numbered.
        images: files that `se_keras.images` reads.
        top: how many classes to give, the likeliest first.

    Returns:
        For each image its classes with their probabilities.

    Raises:
        InputError: naming the path or the image that can't be read, or if the model doesn't give
            probabilities.
    """
    _check(images, top)
    classifier = load_classifier(Path(path))
    return [_classify(classifier, image, top) for image in images]


def predict_pretrained(
    weights: str, images: Sequence[str | Path], *, model: str | None = None, top: int = 5
) -> list[list[tuple[str, float]]]:
    """Classifies image files with pretrained weights.

    Args:
        weights: as of `se_keras.create`. Class names are ImageNet's or, of another repository of
            the hub, those of its `config.json`; without any the classes are numbered.
        images: files that `se_keras.images` reads.
        model: catalog name; `None` for the one that a repository of the hub names.
        top: how many classes to give, the likeliest first.

    Returns:
        For each image its classes with their probabilities.

    Raises:
        InputError: if the weights can't be had, do not fit or come without a model, or naming the
            image that can't be read.
    """
    _check(images, top)
    with as_input_error():
        classifier = pretrained_classifier(weights, model)
    return [_classify(classifier, image, top) for image in images]


def _check(images: Sequence[str | Path], top: int) -> None:
    if top < 1:
        raise InputError(f"top must be a positive whole number, got {top}")
    for image in images:
        if not Path(image).is_file():
            raise InputError(f"there is no image file {image}")


def pretrained_classifier(weights: str, model: str | None = None) -> Classifier:
    """Builds the network of pretrained weights, with their preprocessing.

    Raises:
        InputError: if the weights can't be had, do not fit or come without a model.
        ValueError: for a model that the catalog or the registry does not have.
    """
    name = find_recipe(model or _architecture(weights)).name
    source = find_preset(name).source if weights == "imagenet" else weights
    about = source if hub.is_published(source) else name
    size = preprocessing_of(about).size
    network = catalog.create(
        name, weights=weights, include_preprocessing=True, input_shape=(size, size, 3)
    )
    labels = labels_of(about) if about == source else None
    if labels is None and network.output_shape[-1] == len(imagenet_labels()):
        labels = imagenet_labels()
    return Classifier(
        probabilities=_caller(network),
        read=partial(load_image, model_or_source=about),
        class_names=tuple(class_name for _, class_name in labels or ()),
    )


def _architecture(weights: str) -> str:
    preset = preset_of(weights)
    if preset is not None:
        return preset.recipe
    config = hub.fetch_config(weights) if weights.startswith("hf://") else None
    if not config or "architecture" not in config:
        raise InputError(f"{weights} does not say what network it is for: name it with --model")
    return config["architecture"]


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
        raise InputError(f"can't use {path}: {lines_of(error)[0]}") from error


def _keras_model(path: Path) -> dict[str, Any]:
    model = keras.models.load_model(path, compile=False)
    return {"probabilities": _caller(model), "read": partial(_read, model.input_shape)}


def _caller(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: keras.ops.convert_to_numpy(model(pixels, training=False))


def _saved_model(path: Path) -> dict[str, Any]:
    signature = tf.saved_model.load(path).signatures["serving_default"]
    (name, spec), *more = signature.structured_input_signature[1].items()
    if more:
        raise ValueError("it takes more than one input")
    return {
        "probabilities": lambda pixels: next(
            iter(signature(**{name: tf.constant(pixels, spec.dtype)}).values())
        ).numpy(),
        "read": partial(_read, tuple(spec.shape)),
    }


def _read(shape: tuple[int | None, ...], image: str | Path) -> np.ndarray:
    _, height, width, channels = shape
    size = (height or width, width or height) if height or width else None
    return read_image(image, size, channels).astype("float32")


def _classify(classifier: Classifier, image: str | Path, top: int) -> list[tuple[str, float]]:
    answer = classifier.probabilities(classifier.read(image)[np.newaxis])
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
