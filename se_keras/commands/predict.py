"""`se-keras predict`: image files classified with what a run left, or with pretrained weights."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.commands.model_files import check_takes_images, model_file, open_model
from se_keras.models.recipes import find_recipe
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import InputError
from se_keras.support.startup import load_keras

if TYPE_CHECKING:
    import keras
    import numpy as np

    from se_keras.pixels import Pixels

BAR_WIDTH = 30
# Numbers of channels that image files can be read with.
COLORS = (1, 3)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `predict` to the commands."""
    parser = commands.add_parser(
        "predict",
        help="classify image files",
        description="Prints the likeliest classes of each image, with their probabilities.",
    )
    parser.add_argument(
        "path",
        metavar="MODEL",
        nargs="?",
        help="folder of a run of `se-keras train`, .keras file, or SavedModel folder; left out "
        "with --weights",
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image file")
    parser.add_argument(
        "--weights",
        metavar="SOURCE",
        help="pretrained: a name such as seresnet50.a1_in1k, hf://OWNER/REPO[@REVISION], or, with "
        "--model, imagenet or a file",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="with --weights: a name that `se-keras list` shows"
    )
    parser.add_argument(
        "--pixels",
        metavar="NAME",
        help="what pixels the model takes, where neither it nor its weights say so: those of the "
        "published weights that it began with, such as seresnet50.a1_in1k, or, of a MODEL, raw "
        "(0..255), imagenet (its mean and deviation) or tf (-1..1)",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="classes to print for each image (default %(default)s)",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Classify the images and print the answers."""
    path, images = parsed.path, parsed.images
    if parsed.weights is not None:
        images = images if path is None else [path, *images]
        answers = predict_pretrained(
            parsed.weights, images, model=parsed.model, pixels=parsed.pixels, top=parsed.top
        )
    elif parsed.model is not None:
        raise InputError("--model goes with --weights.")
    elif path is None:
        raise InputError("It takes MODEL and IMAGE, or --weights SOURCE and IMAGE.")
    else:
        answers = predict(path, images, pixels=parsed.pixels, top=parsed.top)
    print(show_predictions(images, answers))


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model, with what is needed to feed it an image and to read its answer.

    Attributes:
        probabilities: pixels (N, H, W, C) in 0..255 to (N, classes).
        read: an image file to such pixels, (H, W, C).
        class_names: names of the classes; empty where none are known.
    """

    probabilities: "Callable[[np.ndarray], np.ndarray]"
    read: "Callable[[str | Path], np.ndarray]"
    class_names: tuple[str, ...]


def predict(
    path: str | Path, images: Sequence[str | Path], *, pixels: str | None = None, top: int = 5
) -> list[list[tuple[str, float]]]:
    """Classify image files.

    Args:
        path: the folder of a run, a `.keras` file or a SavedModel. Class names come from the
            `report.json` beside it or, of a SavedModel that a run left, from itself; without any
            the classes are numbered.
        images: files that `se_keras.images` reads.
        pixels: what pixels the model takes, in place of what it says itself: `"raw"` for 0..255,
            or the name or source of the published weights that it began with.
        top: how many classes to give, the likeliest first.

    Returns:
        For each image its classes with their probabilities.

    Raises:
        InputError: naming the path or the image that can't be read, or if the model doesn't give
            probabilities.
    """
    _check(images, top)
    classifier = load_classifier(Path(path), pixels)
    return [_classify(classifier, image, top) for image in images]


def predict_pretrained(
    weights: str,
    images: Sequence[str | Path],
    *,
    model: str | None = None,
    pixels: str | None = None,
    top: int = 5,
) -> list[list[tuple[str, float]]]:
    """Classify image files with pretrained weights.

    Args:
        weights: as of `se_keras.create`. Class names are ImageNet's or, of another repository of
            the hub, those of its `config.json`; without any the classes are numbered.
        images: files that `se_keras.images` reads.
        model: catalog name; `None` for the one that a repository of the hub names.
        pixels: what pixels the weights take: the name or source of those that they began with;
            `None` for their own, which those of a file do not say.
        top: how many classes to give, the likeliest first.

    Returns:
        For each image its classes with their probabilities.

    Raises:
        InputError: if the weights can't be had, do not fit or come without a model, or naming the
            image that can't be read.
    """
    _check(images, top)
    classifier = pretrained_classifier(weights, model, pixels)
    return [_classify(classifier, image, top) for image in images]


def _check(images: Sequence[str | Path], top: int) -> None:
    positive_integer("top", top)
    for image in images:
        if not Path(image).is_file():
            raise InputError(f"There is no image file {image}.")


def pretrained_classifier(
    weights: str, model: str | None = None, pixels: str | None = None
) -> Classifier:
    """Build the network of pretrained weights, with their preprocessing.

    Raises:
        InputError: if the weights can't be had, do not fit or come without a model.
    """
    if model is not None:
        find_recipe(model)
    load_keras()
    from se_keras import catalog
    from se_keras.class_names import labels_of
    from se_keras.pixels import load_image, pixels_of_images
    from se_keras.weights.source import parse_source

    source = parse_source(weights, model)
    recipe = source.recipe if model is None else find_recipe(model)
    about = pixels or source
    if pixels is None and source.pixels.unknown:
        raise InputError(
            f"What pixels the weights of {weights} take is unknown: {source.pixels.origin}. Name "
            "with --pixels the weights that they began with, such as seresnet50.a1_in1k."
        )
    known = pixels_of_images(about)
    network = catalog.create(
        recipe,
        weights=source,
        include_preprocessing=known,
        input_shape=(*(known.height_and_width or ()), 3),
    )
    labels = labels_of(about)
    if labels is None or len(labels) != network.output_shape[-1]:
        labels = ()
    return Classifier(
        probabilities=_caller(network),
        read=partial(load_image, model_or_source=known),
        class_names=tuple(class_name for _, class_name in labels),
    )


def load_classifier(path: Path, pixels: str | None = None) -> Classifier:
    """Load the model of a run's folder, a `.keras` file or a SavedModel.

    Args:
        path: where it is.
        pixels: as of `predict`.

    Raises:
        InputError: if there is none of them, or it can't be read, or it is unknown what pixels it
            takes.
    """
    shape: Any  # of the model's input; checked below
    if (path / "saved_model.pb").is_file():
        load_keras()
        from se_keras.pixels import read_pixels
        from se_keras.train.saved_model import load_saved_model

        probabilities, shape = load_saved_model(path)
        own, _ = read_pixels(path)
    else:
        path = model_file(path)
        model = open_model(path)
        from se_keras.pixels import pixels_of

        probabilities, shape = _caller(model), getattr(model, "input_shape", None)
        if not isinstance(getattr(model, "output_shape", ()), tuple):
            raise InputError(f"{path} must have one output, it has {len(model.output_shape)}.")
        own = pixels_of(model)
    check_takes_images(shape, path)
    if shape[1] != shape[2] or shape[3] not in COLORS:
        raise InputError(f"{path} must take images (N, H, H, C), C of {COLORS}, it takes {shape}.")
    from se_keras.class_names import labels_of_run

    own = replace(own, size=shape[1] or own.size)
    if own.unknown:
        own = replace(own, channels=shape[3])
    return Classifier(
        probabilities=probabilities,
        read=_reader(path, own if pixels is None else _pixels_called(pixels, own), shape),
        class_names=tuple(name for _, name in labels_of_run(path) or ()),
    )


def _caller(model: "keras.Model") -> "Callable[[np.ndarray], np.ndarray]":
    import keras

    return lambda pixels: keras.ops.convert_to_numpy(model(pixels, training=False))


def _pixels_called(name: str, own: "Pixels") -> "Pixels":
    """Return the pixels that the user names, at the model's size and with its channels."""
    from se_keras.pixels import gray_pixels, pixels_named

    named = pixels_named(name)
    if own.channels == 1 and named.mean is not None:
        named = gray_pixels(named)
    return replace(named, size=own.size, channels=own.channels)


def _reader(
    path: Path, pixels: "Pixels", shape: tuple[Any, ...]
) -> "Callable[[str | Path], np.ndarray]":
    from se_keras.pixels import load_image, preprocess_input

    if pixels.unknown:
        raise InputError(
            f"What pixels {path} takes is unknown: {pixels.origin}. Say it with --pixels: raw for "
            "0..255, or the weights that it began with, such as seresnet50.a1_in1k."
        )
    any_size = pixels.size is None
    cut = partial(_read, shape) if any_size else partial(load_image, model_or_source=pixels)
    return lambda image: preprocess_input(cut(image), pixels, data_format="channels_last")


def _read(shape: tuple[Any, ...], image: str | Path) -> "np.ndarray":
    from se_keras.images import read_image

    _, height, width, channels = shape
    size = (height or width, width or height) if height or width else None
    return read_image(image, size, channels).astype("float32")


def _classify(classifier: Classifier, image: str | Path, top: int) -> list[tuple[str, float]]:
    answer = classifier.probabilities(classifier.read(image)[None])
    if answer.ndim != 2 or abs(answer.sum() - 1) > 0.01:
        raise InputError(f"The model gives {answer.shape}, not the probabilities of classes.")
    names = classifier.class_names
    if len(names) != answer.shape[1]:
        names = tuple(f"class {number}" for number in range(answer.shape[1]))
    order = (-answer[0]).argsort(kind="stable")[:top]
    return [(names[number], float(answer[0, number])) for number in order]


def show_predictions(
    images: Sequence[str | Path], predictions: Sequence[Sequence[tuple[str, float]]]
) -> str:
    """Return the classes of each image as text, with a bar each.

    Example:

    >>> from se_keras.commands.predict import show_predictions
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
