"""Samples for the calibration of an export and for its comparison with the Keras model."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from se_keras.folders import SUFFIXES, for_each_image, list_classes, list_images
from se_keras.graph import ends_of, in_model_order, shape_fits
from se_keras.images import line_of
from se_keras.metadata import input_type
from se_keras.pixels import Pixels, load_image, pixels_of, preprocess_input
from se_keras.support.batches import read_batches
from se_keras.support.errors import InputError

if TYPE_CHECKING:
    from se_keras.images import ImageSource

# NNCF's default; more samples hardly change the ranges of activations.
LIMIT = 300
# Every fifth sample is kept for the comparison, if that gives at least ten.
HOLD_OUT_STEP = 5
HOLD_OUT_MINIMUM = 50
# The image size if neither the model nor its weights have one.
OPEN_SIZE = 224

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples as tuples of arrays (N, ...), one array for each input of the model.

    Attributes:
        calibration: samples to measure activations on; `None` without a calibration set.
        comparison: samples to compare the file and the Keras model on.
        text: description of the comparison samples in words.
        labels: class of each comparison sample, (N,); `None` if the classes are unknown.
        files: files of the comparison samples; empty if they do not come from files.
        trained_on: number of comparison samples that the model was trained on; `None` if it is
            unknown.
    """

    calibration: Arrays | None
    comparison: Arrays
    text: str
    labels: np.ndarray | None = None
    files: tuple[str, ...] = ()
    trained_on: int | None = None


def open_samples(model: keras.Model, calibration: Any, class_names: Sequence[str] = ()) -> Samples:
    """Read at most `LIMIT` samples of a calibration set; without one, use photos or noise.

    Args:
        model: the model that takes the samples.
        calibration: as in `se_keras.export`; `Samples` are returned unchanged.
        class_names: class names of the model, which turn folder names into labels.

    Raises:
        InputError: if the set has no samples, or they do not fit the model's inputs.
    """
    if calibration is None:
        arrays, text = _without_calibration(model)
        return Samples(calibration=None, comparison=arrays, text=text)
    if isinstance(calibration, Samples):
        return calibration
    if isinstance(calibration, str | os.PathLike):
        arrays, labels, files, left_out = _read_folder(model, Path(calibration), class_names)
        name = line_of(calibration)
    else:
        arrays, targets = _collect(model, calibration)
        labels = _labels_of_targets(model, targets)
        files, left_out, name = np.array([], object), "", type(calibration).__name__
    _check_fit(model, arrays)
    arrays = tuple(
        _as_input(_choose_evenly(a), t) for a, t in zip(arrays, model.inputs, strict=True)
    )
    labels = None if labels is None else _choose_evenly(labels)
    count = len(arrays[0])
    step = HOLD_OUT_STEP if count >= HOLD_OUT_MINIMUM else 1
    held_out = np.arange(count) % step == step - 1
    comparison = tuple(array[held_out] for array in arrays)
    text = f"the {count} calibration samples of {name}{left_out}"
    if step > 1:
        text = f"{held_out.sum()} of the {count} samples of {name}, not used for calibration"
        text += left_out
    return Samples(
        calibration=tuple(array[~held_out] for array in arrays) if step > 1 else comparison,
        comparison=comparison,
        text=text,
        labels=None if labels is None else labels[held_out],
        files=tuple(files[held_out]) if len(files) else (),
    )


def samples_of_images(
    model: keras.Model, images: "Sequence[ImageSource]", labels: np.ndarray, text: str
) -> Samples:
    """Return evenly chosen images of known classes, at most `LIMIT`, for the comparison.

    Args:
        model: the model that takes the images; its pixels must be known.
        images: paths or pixels.
        labels: class number of each image.
        text: description of the images in words; `{}` stands for their number.

    Raises:
        InputError: if an image can't be read; the message names it.
    """
    chosen = _choose_evenly(np.arange(len(images)))
    some = [images[number] for number in chosen]
    pixels = _as_input(_as_model_takes(_pixels(model), some), model.inputs[0])
    return Samples(
        calibration=None,
        comparison=(pixels,),
        text=text.format(len(some)),
        labels=labels[chosen],
        files=tuple(str(image) for image in some if isinstance(image, str | os.PathLike)),
    )


# --- labels --------------------------------------------------------------------------------------


def _labels_of_files(
    folder: Path, paths: np.ndarray, class_names: Sequence[str]
) -> np.ndarray | None:
    """Return the class of each file, if the folder has a folder for each class; else `None`."""
    try:
        found = list_classes(folder)
    except InputError:
        return None
    numbers = {name: number for number, name in enumerate(class_names)}
    names = [found.class_names[label] for label in found.labels]
    class_of = {path: numbers.get(name) for path, name in zip(found.paths, names, strict=True)}
    labels = [class_of.get(path) for path in paths]
    return None if None in labels else np.array(labels, int)


def _labels_of_targets(model: keras.Model, targets: np.ndarray | None) -> np.ndarray | None:
    """Return the class of each sample from the targets of batches; `None` for other targets."""
    shape = model.outputs[0].shape
    is_classifier = len(model.outputs) == 1 and len(shape) == 2
    if targets is None or targets.dtype.kind not in "biuf" or not is_classifier:
        return None
    if targets.shape[1:] == (shape[1],) and shape[1] > 1:
        return targets.argmax(axis=1) if np.all(targets.max(axis=1) == 1) else None
    if targets.size != len(targets):
        return None
    labels = targets.reshape(-1).astype(int)
    is_class = np.all(labels == targets.reshape(-1)) and set(labels) <= set(range(max(shape[1], 2)))
    return labels if is_class else None


# --- arrays and batches --------------------------------------------------------------------------


def _collect(model: keras.Model, calibration: Any) -> tuple[Arrays, np.ndarray | None]:
    """Return arrays, or the first `LIMIT` samples of batches, with their targets."""
    if isinstance(calibration, np.ndarray):
        return (calibration,), None
    if _is_array_per_input(calibration, len(model.inputs)):
        return tuple(map(keras.ops.convert_to_numpy, _order_inputs(model, calibration))), None
    parts, targets, count = [], [], 0
    wanted = (
        "a folder of images, an array, arrays by the names of the inputs, or batches such as "
        "`predict` takes"
    )
    batches, _ = read_batches("calibration", calibration, wanted)
    for batch in batches:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        arrays = _order_inputs(model, x) if isinstance(x, Mapping | Sequence) else (x,)
        parts.append([np.atleast_1d(keras.ops.convert_to_numpy(array)) for array in arrays])
        if hasattr(y, "shape"):
            targets.append(keras.ops.convert_to_numpy(y))
        count += len(parts[-1][0])
        if count >= LIMIT:
            break
    if not count:
        raise InputError("`calibration` must have at least one sample, got none.")
    has_targets = len(targets) == len(parts) and len({y.shape[1:] for y in targets}) == 1
    arrays = tuple(np.concatenate(column)[:LIMIT] for column in zip(*parts, strict=True))
    return arrays, np.concatenate(targets)[:LIMIT] if has_targets else None


def _is_array_per_input(calibration: Any, inputs: int) -> bool:
    """Return whether a calibration set is one array for each of several inputs."""
    if isinstance(calibration, Mapping):
        return True
    is_several = inputs > 1 and isinstance(calibration, list | tuple)
    return is_several and all(isinstance(array, np.ndarray) for array in calibration)


def _order_inputs(model: keras.Model, arrays: Mapping | Sequence) -> Sequence:
    names = [tensor.name for tensor in model.inputs]
    if isinstance(arrays, Mapping) and set(arrays) != set(names):
        raise InputError(f"`calibration` must have the inputs {names}, got {list(arrays)}.")
    return in_model_order(arrays, ends_of(model)[0])


def _check_fit(model: keras.Model, arrays: Arrays) -> None:
    expected = [(None, *tensor.shape[1:]) for tensor in model.inputs]
    got = [array.shape for array in arrays]
    fits = len(got) == len(expected) and all(map(shape_fits, got, expected))
    if not fits or len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
        raise InputError(f"`calibration` must be samples of {expected}, got {got}.")


def _as_input(array: np.ndarray, tensor: keras.KerasTensor) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=input_type(tensor))


def split_batches(arrays: Arrays, batch: int) -> Iterator[Arrays]:
    """Yield batches of one size, with a padded last batch: a model may have a fixed size."""
    count = len(arrays[0])
    for start in range(0, count, batch):
        indices = np.arange(start, start + batch) % count
        yield tuple(array[indices] for array in arrays)


def describe_count(calibration: Arrays) -> str:
    return f"{len(calibration[0])} calibration samples"


def _choose_evenly(items: np.ndarray) -> np.ndarray:
    """Choose at most `LIMIT` samples at equal distances, because a set may be sorted by class."""
    step = max(1.0, len(items) / LIMIT)
    chosen = [math.floor(number * step) for number in range(min(len(items), LIMIT))]
    return items[chosen]


# --- images --------------------------------------------------------------------------------------


def _read_folder(
    model: keras.Model, folder: Path, class_names: Sequence[str]
) -> tuple[Arrays, np.ndarray | None, np.ndarray, str]:
    """Return at most `LIMIT` images of a folder, their labels and files, and the left-out files."""
    if not folder.is_dir():
        raise InputError(
            f"`calibration` must be a folder of images, got {folder}, which is not a folder."
        )
    if not _takes_images(model):
        raise InputError(
            "`calibration` can be a folder only if the model takes one image (N, H, W, C) with 1 "
            f"or 3 channels, got inputs {[tensor.shape for tensor in model.inputs]}. Give arrays."
        )
    pixels = _pixels(model)
    if pixels.unknown:
        raise InputError(
            f"`calibration` can be a folder only if the model's pixels are known, but the pixels "
            f"of {model.name!r} are unknown: {pixels.origin}. Give arrays from "
            "`se_keras.load_image` and `preprocess_input`, or a model that has published weights "
            "or begins with a Rescaling layer (`include_preprocessing`)."
        )
    paths, left_out = list_images(folder)
    if not paths:
        raise InputError(
            f"`calibration`: {line_of(folder)} has no images ({', '.join(SUFFIXES)}). "
            f"{left_out}".strip()
        )
    said = f"; left out: {left_out.in_words}" if left_out else ""
    chosen = _choose_evenly(np.array(paths, object))
    labels = _labels_of_files(folder, chosen, class_names)
    return (_as_model_takes(pixels, list(chosen)),), labels, chosen, said


def _without_calibration(model: keras.Model) -> tuple[Arrays, str]:
    if not _takes_images(model):
        return _noise(model), "noise, because the model does not take images"
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        return _noise(model), "noise, because scikit-learn, which has photos, is not installed"
    pieces = [piece for photo in load_sample_images().images for piece in _pieces(photo)]
    pixels, text = _pixels(model), f"{len(pieces)} pieces of scikit-learn's two photos"
    if pixels.unknown:
        # Any range is good enough to compare two programs of one network.
        half = (0.5,) * pixels.channels
        pixels = replace(pixels, mean=half, std=half)
        text += " in -1..1, because the model's pixels are unknown"
    return (_as_input(_as_model_takes(pixels, pieces), model.inputs[0]),), text


def _pieces(photo: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the photo, and nine pieces with half its height and width."""
    yield photo
    height, width, _ = photo.shape
    for x, y in product(range(3), repeat=2):
        left, top = x * width // 4, y * height // 4
        yield photo[top : top + height // 2, left : left + width // 2]


def _noise(model: keras.Model) -> Arrays:
    rng = np.random.default_rng(0)
    shapes = [[size or OPEN_SIZE for size in tensor.shape[1:]] for tensor in model.inputs]
    # 0 and 1 are valid for most inputs of integers.
    return tuple(
        rng.random((16, *shape), "float32")
        if "float" in input_type(tensor)
        else rng.integers(0, 2, (16, *shape)).astype(input_type(tensor))
        for shape, tensor in zip(shapes, model.inputs, strict=True)
    )


def _takes_images(model: keras.Model) -> bool:
    shapes = [tensor.shape for tensor in model.inputs]
    return len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][-1] in (1, 3)


def _pixels(model: keras.Model) -> Pixels:
    """Return the pixels that the model takes, with a known size."""
    pixels = pixels_of(model)
    return replace(pixels, size=pixels.size or OPEN_SIZE)


def _as_model_takes(pixels: Pixels, images: "Sequence[ImageSource]") -> np.ndarray:
    cut = [np.empty(0)] * len(images)

    def read(number: int) -> None:
        cut[number] = load_image(images[number], pixels)

    for_each_image(read, len(images))
    return preprocess_input(np.stack(cut), pixels, data_format="channels_last")
