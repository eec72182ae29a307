"""From an image to what a pretrained network takes, and from what it gives to names of classes.

The numbers are those of `se_keras.weights.presets` and, for other repositories of the hub, of their
`config.json`.
"""

import functools
import importlib.resources
import math
import os
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from se_keras.models.recipes import RECIPES, find_recipe
from se_keras.ops import standardize_data_format
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import InputError
from se_keras.weights import hub
from se_keras.weights.presets import (
    Preprocessing,
    preprocessing_of_config,
    preprocessing_of_recipe,
    preset_of,
)

if TYPE_CHECKING:
    from PIL.Image import Image

LAYER_NAME = "preprocessing"


def preprocess_input(
    images: Any, model_or_source: keras.Model | str, *, data_format: str | None = None
) -> Any:
    """Pixels as a pretrained network takes them: (pixel / 255 - mean) / std.

    The input stays as it is. `load_image` brings images to the right size before.

    Args:
        images: pixels 0..255, red, green, blue: (H, W, 3) or (N, H, W, 3), or with the colors
            first. A NumPy array or a tensor, of uint8 or floats; also within `tf.data`.
        model_or_source: a model that bears the name of its row, that name, or the source of
            weights, such as `"hf://timm/seresnet50.a1_in1k"`. Weights that were trained with
            another mean than the published ones of their row need their source.
        data_format: where the colors are; `None` for Keras' global setting.

    Returns:
        float32 of the same shape and kind; for a model that was built with
        `include_preprocessing=True` the images as they are.

    Raises:
        InputError: if nothing is known of the model or the source.
        InputError: if there are not three colors.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> white = np.full((1, 1, 3), 255, "uint8")
    >>> [f"{value:.3f}" for value in se_keras.preprocess_input(white, "seresnet50")[0, 0]]
    ['2.249', '2.429', '2.640']
    """
    if isinstance(model_or_source, keras.Model) and has_preprocessing(model_or_source):
        return images
    data_format = standardize_data_format(data_format)
    shape = tuple(images.shape)
    channels = (
        shape[-3 if data_format == "channels_first" else -1] if len(shape) in (3, 4) else None
    )
    if channels != 3:
        raise InputError(f"`images` must have three colors, {data_format}, got the shape {shape}.")
    normalized = preprocessing_layer(preprocessing_of(model_or_source), data_format)(images)
    return keras.ops.convert_to_numpy(normalized) if isinstance(images, np.ndarray) else normalized


def preprocessing_layer(preprocessing: Preprocessing, data_format: str) -> keras.layers.Layer:
    """The stock layer that normalizes pixels 0..255, in float32 under any dtype policy."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    # Keras shapes a vector by the global data format, and the offset not at all.
    shape = (3, 1, 1) if data_format == "channels_first" else (1, 1, 3)
    return keras.layers.Rescaling(
        scale=(1 / (255 * std)).reshape(shape).tolist(),
        offset=(-mean / std).reshape(shape).tolist(),
        dtype="float32",
        name=LAYER_NAME,
    )


def has_preprocessing(model: keras.Model) -> bool:
    """Whether a model was built with `include_preprocessing=True`."""
    return any(layer.name == LAYER_NAME for layer in model.layers)


def preprocessing_of(model_or_source: keras.Model | str) -> Preprocessing:
    """How images are prepared for a model or for published weights.

    Args:
        model_or_source: as of `preprocess_input`.

    Raises:
        InputError: if nothing is known of it.

    Example:

    >>> from se_keras.preprocessing import preprocessing_of
    >>> preprocessing_of("hf://timm/seresnet50.a3_in1k").size
    160
    """
    is_model = isinstance(model_or_source, keras.Model)
    name: Any = getattr(model_or_source, "name", model_or_source)
    if hub.is_published(name):
        return _preprocessing_of_source(name)
    if name in {recipe.name for recipe in RECIPES}:
        return preprocessing_of_recipe(find_recipe(name))
    what = f"a model called {name!r}" if is_model else repr(name)
    raise InputError(
        "`model_or_source` must be the name of a row of the catalog, a model of that name, or "
        f"the source of its weights ('hf://owner/repo'), got {what}."
    )


def _preprocessing_of_source(source: str) -> Preprocessing:
    preset = preset_of(source)
    if preset is not None:
        return preset.preprocessing
    return preprocessing_of_config(_config_of(source), source)


def _config_of(source: str) -> dict[str, Any]:
    config = hub.fetch_config(source) if source.startswith("hf://") else None
    if config is None:
        raise InputError(f"{source} has no config.json that says how images are prepared")
    return config


# --- from a file to an image ---------------------------------------------------------------------


def load_image(
    image: "str | os.PathLike | np.ndarray | Image", model_or_source: keras.Model | str
) -> np.ndarray:
    """The center of an image at the size that a pretrained network was evaluated with.

    Resizes with Pillow so that the shorter side is size / crop, and crops the square in the
    middle: the pixels are those of timm's evaluation transform.

    Args:
        image: path of an image file, uint8 array (H, W, 3), or image of Pillow.
        model_or_source: as of `preprocess_input`, which comes next.

    Returns:
        uint8, (size, size, 3).

    Raises:
        InputError: if the file can't be read or nothing is known of the model or the source.
        InputError: for an array of another type or shape.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> se_keras.load_image(np.zeros((300, 500, 3), "uint8"), "seresnet50").shape
    (224, 224, 3)
    """
    preprocessing = preprocessing_of(model_or_source)
    resized = _with_shorter_side(_opened(image), preprocessing)
    # torchvision.transforms.CenterCrop, which timm uses, rounds so.
    left, top = (round((side - preprocessing.size) / 2) for side in resized.size)
    return np.array(resized.crop((left, top, left + preprocessing.size, top + preprocessing.size)))


def _opened(image: "str | os.PathLike | np.ndarray | Image") -> "Image":
    from PIL import Image

    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise InputError(
                f"`image` must be uint8 of (H, W, 3), got {image.dtype} of {image.shape}."
            )
        return Image.fromarray(image)
    return open_image(image)


def open_image(path: str | os.PathLike) -> "Image":
    """The image of a file, in red, green and blue.

    Raises:
        InputError: if it can't be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"can't read the image {os.fspath(path)}: {error}") from error


def _with_shorter_side(image: "Image", preprocessing: Preprocessing) -> "Image":
    from PIL import Image

    short = math.floor(preprocessing.size / preprocessing.crop)
    # The longer side is rounded down, as by torchvision.transforms.Resize.
    width, height = (int(short * side / min(image.size)) for side in image.size)
    return image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])


# --- from an answer to names ---------------------------------------------------------------------


def decode_predictions(
    predictions: Any, top: int = 5, source: str | None = None
) -> list[list[tuple[str, str, float]]]:
    """The likeliest classes, by name.

    Args:
        predictions: what a classifier gives, (N, classes).
        top: how many classes to give, the likeliest first.
        source: `hf://owner/repo` of a fine-tuned network, whose `config.json` has the names;
            `None` for ImageNet's.

    Returns:
        For each image tuples of the class's identifier (ImageNet: WordNet's number), its name and
        its score.

    Raises:
        InputError: if the source has no names.
        InputError: if the predictions are not of that many classes.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> se_keras.decode_predictions(np.eye(1000)[[1]], top=1)
    [[('n01443537', 'goldfish', 1.0)]]
    """
    top = positive_integer("top", top)
    labels = imagenet_labels() if source is None else labels_of(source)
    if labels is None:
        raise InputError(f"{source} has no names of classes in its config.json")
    scores = keras.ops.convert_to_numpy(predictions)
    if scores.ndim != 2 or scores.shape[1] != len(labels):
        raise InputError(
            f"`predictions` must be (N, {len(labels)}), as there are classes, got {scores.shape}."
        )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [(*labels[number], float(row[number])) for number in best]
        for row, best in zip(scores, order, strict=True)
    ]


@functools.cache
def imagenet_labels() -> tuple[tuple[str, str], ...]:
    """WordNet's number and first name of the 1000 classes (`data/imagenet_classes.txt`)."""
    file = importlib.resources.files("se_keras") / "data" / "imagenet_classes.txt"
    lines = file.read_text("utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if not line.startswith("#"))
    return tuple((number, name) for number, _, name in pairs)


def labels_of(source: str) -> tuple[tuple[str, str], ...] | None:
    """Identifier and name of each class of published weights; `None` where nothing says them.

    Raises:
        InputError: if the source can't be had.
    """
    if preset_of(source) is not None:
        return imagenet_labels()
    config = (hub.fetch_config(source) if source.startswith("hf://") else None) or {}
    names = config.get("label_names")
    if isinstance(names, dict):  # timm: number -> name, where numbers are left out
        count = config.get("num_classes", 0)
        names = [names.get(str(number), f"class {number}") for number in range(count)]
    if not names:
        return None
    descriptions = config.get("label_descriptions") or {}
    return tuple((str(name), str(descriptions.get(name, name))) for name in names)
