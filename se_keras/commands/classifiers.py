"""Load classifiers for `predict` and `evaluate`: a run, a `.keras` file, an export or weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.commands.model_files import check_takes_images, model_file, open_model
from se_keras.folders import for_each_image
from se_keras.metadata import MARKERS, format_of, read_metadata
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError, damage_named
from se_keras.support.startup import load_keras, load_tensorflow

if TYPE_CHECKING:
    import keras
    import numpy as np

    from se_keras.pixels import Pixels

# Numbers of channels in which image files can be read.
COLORS = (1, 3)
# The number of images that are read and classified at a time.
BATCH = 32
SOURCES = (
    "folder of a run of `se-keras train`, .keras file, or output of `se-keras export`: SavedModel "
    "folder, .onnx file, OpenVINO folder or .tflite file"
)
PIXELS = (
    "pixel values that the model takes, needed only if the model and its weights do not state "
    "them: raw (0..255), imagenet (ImageNet's mean and deviation), tf (-1..1), or the name of the "
    "published weights that it was trained from, such as seresnet50.a1_in1k"
)


# The most probable classes of an image, with their probabilities.
Answer = list[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model as a function from image files to classes.

    Attributes:
        probabilities: function from pixels (N, H, W, C) in 0..255 to probabilities (N, classes).
        read: function from an image file to its pixels (H, W, C).
        class_names: names of the classes; empty if they are unknown.
        batch: fixed batch size of the model; `None` for any.
    """

    probabilities: "Callable[[np.ndarray], np.ndarray]"
    read: "Callable[[str | Path], np.ndarray]"
    class_names: tuple[str, ...]
    batch: int | None = None

    def read_all(self, images: Sequence[str | Path]) -> "list[np.ndarray | InputError]":
        """Return the pixels of each image, or its error."""
        found: dict[int, Any] = {}

        def read(number: int) -> None:
            try:
                found[number] = self.read(images[number])
            except InputError as error:
                found[number] = error

        for_each_image(read, len(images))
        return [found[number] for number in range(len(images))]

    def answer(self, pixels: "Sequence[np.ndarray]") -> "np.ndarray":
        """Return the probabilities (N, classes) of images, which may differ in size.

        Raises:
            InputError: if the outputs of the model are not probabilities.
        """
        import numpy as np

        shapes = [image.shape for image in pixels]
        parts: dict[int, np.ndarray] = {}
        for shape in dict.fromkeys(shapes):
            numbers = [n for n, other in enumerate(shapes) if other == shape]
            answers = self._answer_equal(np.stack([pixels[n] for n in numbers]))
            parts |= dict(zip(numbers, _as_probabilities(answers), strict=True))
        return np.stack([parts[number] for number in range(len(pixels))])

    def _answer_equal(self, pixels: "np.ndarray") -> "np.ndarray":
        import numpy as np

        if self.batch is None:
            return self.probabilities(pixels)
        answers = []
        for start in range(0, len(pixels), self.batch):
            filled = np.arange(start, start + self.batch) % len(pixels)
            answers.append(self.probabilities(pixels[filled]))
        return np.concatenate(answers)[: len(pixels)]


def _as_probabilities(answers: "np.ndarray") -> "np.ndarray":
    """Check the probabilities of classes; turn the output of one sigmoid into two classes."""
    import numpy as np

    if answers.ndim == 2 and answers.shape[1] == 1 and 0 <= answers.min() <= answers.max() <= 1:
        answers = np.concatenate([1 - answers, answers], axis=1)
    if answers.ndim != 2 or not np.all(np.abs(answers.sum(axis=1) - 1) <= 0.01):
        raise InputError(
            f"The model must return probabilities that sum to 1, got outputs of {answers.shape}."
        )
    return answers


def classify(
    classifier: Classifier, images: Sequence[str | Path], top: int
) -> Iterator[tuple[Any, Any]]:
    """Yield each image with its classes or its error, in batches of `BATCH`."""
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        pixels = classifier.read_all(some)
        readable = [image for image in pixels if not isinstance(image, InputError)]
        answers = iter(classifier.answer(readable) if readable else ())
        for image, found in zip(some, pixels, strict=True):
            if isinstance(found, InputError):
                yield image, found
            else:
                yield image, _likeliest(next(answers), classifier.class_names, top)


def _likeliest(shares: "np.ndarray", names: tuple[str, ...], top: int) -> Answer:
    if len(names) != len(shares):
        names = tuple(f"class {number}" for number in range(len(shares)))
    order = (-shares).argsort(kind="stable")[:top]
    return [(names[number], float(shares[number])) for number in order]


def pretrained_classifier(
    weights: str, model: str | None = None, pixels: str | None = None
) -> Classifier:
    """Build the network of pretrained weights, with their preprocessing.

    Raises:
        InputError: if the weights can't be loaded, do not fit, or do not name their network.
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
            f"The pixels of the weights {weights} are unknown: {source.pixels.origin}. Give "
            "--pixels, the weights that they were trained from, such as seresnet50.a1_in1k."
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
    """Load the model of a run's folder, a `.keras` file, or an exported file or folder.

    Args:
        path: path of the model.
        pixels: as in `predict`.

    Raises:
        InputError: if `path` is none of these, it can't be read, or its pixels are unknown.
    """
    path = path.parent if path.name == MARKERS["openvino"] else path
    shape: Any  # shape of the model's input, checked below
    if format_of(path):
        probabilities, shape, own = _load_exported(path)
    else:
        path = model_file(path)
        model = open_model(path)
        from se_keras.pixels import pixels_of

        probabilities, shape = _caller(model), getattr(model, "input_shape", None)
        if not isinstance(getattr(model, "output_shape", ()), tuple):
            raise InputError(f"{path} must have one output, got {len(model.output_shape)}.")
        own = pixels_of(model)
    check_takes_images(shape, path)
    if shape[1] != shape[2] or shape[3] not in COLORS:
        raise InputError(f"{path} must take images (N, H, H, C) with C in {COLORS}, got {shape}.")
    from se_keras.class_names import labels_of_run

    own = replace(own, size=shape[1] or own.size)
    if own.unknown:
        own = replace(own, channels=shape[3])
    return Classifier(
        probabilities=probabilities,
        read=_reader(path, own if pixels is None else _pixels_called(pixels, own), shape),
        class_names=tuple(name for _, name in labels_of_run(path) or ()),
        batch=shape[0],
    )


def _load_exported(path: Path) -> "tuple[Callable[[np.ndarray], np.ndarray], Any, Pixels]":
    """Return the function of an exported file, its input shape and its pixels."""
    name = format_of(path)
    assert name is not None  # the caller has checked it
    load_keras()
    if name == "tf_saved_model":
        load_tensorflow()
        from se_keras.train.saved_model import load_saved_model

        return *load_saved_model(path), read_metadata(path).pixels
    from se_keras.deploy.engines import find_engine

    engine = find_engine(name)
    engine.require()
    metadata = read_metadata(path)
    if len(metadata.inputs) != 1:
        raise InputError(f"{path} must have metadata on one input, as `se-keras export` writes it.")
    with damage_named(f"can't read {path}"):
        call = engine.load(path, metadata.precision)
    (taken,) = metadata.inputs
    return (
        lambda pixels: call([pixels.astype(taken["type"])])[0],
        tuple(taken["shape"]),
        metadata.pixels,
    )


def _caller(model: "keras.Model") -> "Callable[[np.ndarray], np.ndarray]":
    import keras

    return lambda pixels: keras.ops.convert_to_numpy(model(pixels, training=False))


def _pixels_called(name: str, own: "Pixels") -> "Pixels":
    """Return the pixels that the user names, with the model's size and channels."""
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
            f"The pixels that {path} takes are unknown: {pixels.origin}. Give --pixels: raw for "
            "0..255, or the weights that it was trained from, such as seresnet50.a1_in1k."
        )
    any_size = pixels.size is None
    cut = partial(_read, shape) if any_size else partial(load_image, model_or_source=pixels)
    return lambda image: preprocess_input(cut(image), pixels, data_format="channels_last")


def _read(shape: tuple[Any, ...], image: str | Path) -> "np.ndarray":
    from se_keras.images import read_image

    _, height, width, channels = shape
    size = (height or width, width or height) if height or width else None
    return read_image(image, size, channels).astype("float32")
