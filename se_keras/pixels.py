"""Find out which pixels a model takes, and prepare images for it.

`pixels_of` reads the first layers of a model, and the name of the model, which says where its
weights come from (`se_keras.weights.source.split_name`). All other code calls `pixels_of`. It never
guesses: if the pixels are unknown, the error says how to name the weights or give the numbers.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import keras
import numpy as np

from se_keras.graph import Graph, Node, is_functional, trace
from se_keras.images import center_crop, open_image, read_image
from se_keras.models.recipes import RECIPES
from se_keras.ops import standardize_data_format
from se_keras.support.arguments import one_of, plain_text
from se_keras.support.errors import InputError, shown
from se_keras.weights.hub import HubFile
from se_keras.weights.preprocessing import Pixels
from se_keras.weights.presets import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    presets_of,
    shared_pixels,
)
from se_keras.weights.source import Weights, WeightSource, parse_source, split_name

if TYPE_CHECKING:
    from PIL.Image import Image

    from se_keras.images import ImageSource

PixelSource: TypeAlias = keras.Model | Pixels | WeightSource | str | os.PathLike
LAYER_NAME = "preprocessing"
# Words for pixels that a command takes besides the names of weights.
WORDS = {
    "raw": Pixels(raw=True),
    "imagenet": Pixels(mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "tf": Pixels(mean=(0.5,) * 3, std=(0.5,) * 3),
}


def preprocess_input(
    images: Any, model_or_source: PixelSource, *, data_format: str | None = None
) -> Any:
    """Normalize pixels for a model: (pixel / 255 - mean) / std; unchanged if the model does so.

    The input array is not changed. Use `load_image` first to get images of the right size.

    Args:
        images: pixels in 0..255: (H, W, C) or (N, H, W, C), or with the channels first. A NumPy
            array or a tensor of uint8 or floats. The shape may be unknown within `tf.data`.
        model_or_source: as in `pixels_of`.
        data_format: `"channels_last"` or `"channels_first"`; `None` for Keras' global setting.

    Returns:
        float32 values of the same shape and kind. If the model normalizes pixels itself, the
        images are returned unchanged.

    Raises:
        InputError: if the model's pixels are unknown, or the images have another number of
            channels.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> white = np.full((1, 1, 3), 255, "uint8")
    >>> values = se_keras.preprocess_input(white, "seresnet50.a1_in1k")
    >>> [f"{value:.3f}" for value in values[0, 0]]
    ['2.249', '2.429', '2.640']
    """
    pixels = known_pixels(model_or_source)
    if pixels.raw:
        return images
    data_format = standardize_data_format(data_format)
    images = _with_channels(images, pixels.channels, data_format)
    layer = normalization_layer(pixels, data_format)
    if getattr(images.shape, "rank", 0) is None:
        return _of_any_rank(images, layer)
    normalized = layer(images)
    return keras.ops.convert_to_numpy(normalized) if isinstance(images, np.ndarray) else normalized


def _with_channels(images: Any, channels: int, data_format: str) -> Any:
    """Check the number of channels; within `tf.data` it may be known only at run time."""
    axis = -3 if data_format == "channels_first" else -1
    message = f"`images` must have {channels} channel{'s' * (channels > 1)}, {data_format}"
    if not hasattr(images, "shape"):
        raise InputError(f"{message}, and be an array or a tensor, got {type(images).__name__}.")
    rank = getattr(images.shape, "rank", 0)  # only TensorFlow's shapes have a rank
    if rank is None or (rank in (3, 4) and images.shape[axis] is None):
        return _checked_later(images, channels, axis, message)
    shape = tuple(images.shape)
    if len(shape) not in (3, 4) or shape[axis] != channels:
        raise InputError(f"{message}, got the shape {shape}.")
    return images


def _checked_later(images: Any, channels: int, axis: int, message: str) -> Any:
    import tensorflow as tf  # the images are TensorFlow tensors on every backend

    check = tf.debugging.assert_equal(
        tf.shape(images)[axis], channels, f"{message}; decode them with channels={channels}."
    )
    with tf.control_dependencies([check]):
        images = tf.identity(images)
    if images.shape.rank is not None:
        shape = images.shape.as_list()
        shape[axis] = channels
        images.set_shape(shape)
    return images


def _of_any_rank(images: Any, layer: keras.layers.Rescaling) -> Any:
    """Compute the layer's output: Keras can't call layers on tensors of unknown rank."""
    import tensorflow as tf

    return tf.cast(images, tf.float32) * layer.scale + layer.offset


def normalization_layer(pixels: Pixels, data_format: str) -> keras.layers.Layer:
    """Return the Keras layer that normalizes pixels in 0..255, in float32 under any policy."""
    mean, std = np.array(pixels.mean), np.array(pixels.std)
    # Keras reshapes the scale by the global data format, and does not reshape the offset.
    shape = (-1, 1, 1) if data_format == "channels_first" else (1, 1, -1)
    return keras.layers.Rescaling(
        scale=(1 / (255 * std)).reshape(shape).tolist(),
        offset=(-mean / std).reshape(shape).tolist(),
        dtype="float32",
        name=LAYER_NAME,
    )


# --- finding pixels------------------------------------------------------------------------------


def pixels_of(model_or_source: PixelSource) -> Pixels:
    """Return the pixels that a model takes, read from the model or the source of its weights.

    A model's first layers show its pixels if they normalize them. Otherwise its name does, if it is
    the name of published weights: `create` sets it, and the model keeps it in files, in clones, in
    other models, and in the results of `insert_se`, `remove_se`, `prune_se` and `optimize`.

    Args:
        model_or_source: a model; the name or source of published weights, such as
            `"seresnet50.a1_in1k"` or `"hf://timm/seresnet50.a1_in1k"`; the name of a network in
            the catalog, for what all its published weights have in common; or `Pixels`.

    Returns:
        The pixels; their `unknown` is True if nothing shows which pixels the model takes.

    Raises:
        InputError: if `model_or_source` is none of these, or the source can't be read.

    Example:

    >>> import se_keras
    >>> se_keras.pixels_of("seresnet50.a3_in1k").size
    160
    >>> se_keras.pixels_of(se_keras.create("seresnet20")).unknown
    True
    >>> se_keras.pixels_of(se_keras.create("seresnet20", include_preprocessing=True)).raw
    True
    """
    return _pixels_of(model_or_source, "model_or_source")


def _pixels_of(model_or_source: PixelSource, argument: str) -> Pixels:
    if isinstance(model_or_source, Pixels):
        return model_or_source
    if isinstance(model_or_source, keras.Model):
        return _of_model(model_or_source)
    if isinstance(model_or_source, Weights):
        return _of_source(model_or_source, argument)
    raise InputError(
        f"`{argument}` must be a model, the name or source of its weights, or Pixels, got "
        f"{shown(model_or_source)}."
    )


ROWS = tuple(recipe.name for recipe in RECIPES)


def _of_source(source: Weights, argument: str = "model_or_source") -> Pixels:
    name = plain_text(source)
    if name in ROWS:
        return shared_pixels(name)
    parsed = parse_source(source, argument=argument, others=(*ROWS, *WORDS))
    if parsed.pixels.unknown and isinstance(parsed.published, HubFile):
        raise InputError(f"{parsed.pixels.origin}.")
    return parsed.pixels


def known_pixels(model_or_source: PixelSource, argument: str = "model_or_source") -> Pixels:
    """Return the pixels of a model or source; refuse unknown pixels.

    Args:
        model_or_source: as in `pixels_of`.
        argument: the caller's name for the argument, which errors show.

    Raises:
        InputError: if the pixels are unknown; the message says what to give.

    Example:

    >>> import se_keras
    >>> from se_keras.pixels import known_pixels
    >>> known_pixels("seresnet32")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: the pixels that seresnet32 takes are unknown: ...
    """
    return _known(_pixels_of(model_or_source, argument), model_or_source)


def _known(pixels: Pixels, model_or_source: PixelSource) -> Pixels:
    if not pixels.unknown:
        return pixels
    name = called(model_or_source)
    raise InputError(f"the pixels that {name} takes are unknown: {pixels.origin}. {_remedy(name)}")


def pixels_named(text: str, argument: str = "pixels") -> Pixels:
    """Return the pixels that a word or the name of published weights stands for.

    Args:
        text: `"raw"` for 0..255, `"imagenet"` for ImageNet's mean and deviation, `"tf"` for -1..1,
            or a name as in `pixels_of`.
        argument: the caller's name for the argument, which errors show.

    Raises:
        InputError: if `text` is none of these.

    Example:

    >>> from se_keras.pixels import pixels_named
    >>> pixels_named("tf").range, pixels_named("seresnet50.a3_in1k").size
    ((-1.0, 1.0), 160)
    >>> pixels_named("seresnet32")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: the pixels that seresnet32 takes are unknown: ...
    """
    return WORDS[text] if text in WORDS else _known(_of_source(text, argument), text)


def called(model_or_source: PixelSource) -> str:
    """Return the name of a model, a source of weights or Pixels in messages."""
    if isinstance(model_or_source, Pixels):
        return "the model of these Pixels"
    if isinstance(model_or_source, keras.Model):
        return model_or_source.name
    return plain_text(model_or_source) or str(model_or_source)


def _remedy(name: str) -> str:
    names = [preset.name for preset in presets_of(split_name(name)[0])]
    choice = ", ".join(map(repr, names or ["seresnet50.a1_in1k"]))
    return (
        f"Give its weights, or the weights that it was trained from "
        f"({'' if names else 'such as '}{choice}, 'hf://owner/repo'), or the numbers: "
        "se_keras.Pixels(mean=(...), std=(...))."
    )


def _unknown(reason: str) -> Pixels:
    return Pixels(origin=reason)


# --- a model -------------------------------------------------------------------------------------

# Layers that may precede the normalizing layer, because they keep the range of pixels.
PASSING = tuple(
    kind
    for name, kind in vars(keras.layers).items()
    if name.startswith("Rand") or name in ("AugMix", "CenterCrop", "Identity", "Resizing")
)
# Prefixes of the names of the first layers in our own networks.
OWN_FIRST = ("stem_", "input_norm", "stage1_")
# Operation with a constant c -> its factor and shift.
LINES: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "TrueDivide": lambda c: (1 / c, 0),
    "Divide": lambda c: (1 / c, 0),
    "Multiply": lambda c: (c, 0),
    "Subtract": lambda c: (1, -c),
    "Add": lambda c: (1, c),
}
# Up to this factor, a layer scales pixels in 0..255; no one would scale 0..1 so far down.
SMALL = 1 / 16


def _of_model(model: keras.Model) -> Pixels:
    if not is_functional(model):
        return _unknown("its layers are called in Python code, which can't be read")
    shapes = [tensor.shape for tensor in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return _unknown(f"its inputs are not images but have the shapes {shapes}")
    height, width, channels = _image_shape(shapes[0])
    if channels not in (1, 3):
        return _unknown(f"it takes {channels} channels")
    graph, (tensor,) = trace(model), model.inputs
    pixels = _at(graph, tensor)
    if pixels.unknown and "int" in tensor.dtype:
        pixels = _raw(graph, "its input, which takes integers")
    if pixels.mean is not None and len(pixels.mean) != channels:
        if channels != 1:
            return _unknown(f"it takes {channels} channels, unlike its published weights")
        pixels = gray_pixels(pixels)
    side = height or width
    size = (height or side, width or side) if side else pixels.size
    return replace(pixels, size=size, channels=channels)


def gray_pixels(pixels: Pixels) -> Pixels:
    """Return pixels for gray images, for weights whose first kernel took three colors.

    The mean and deviation are averaged over the colors, as in timm's loader (`adapt_to_chs`).

    Example:

    >>> from se_keras.pixels import gray_pixels, pixels_of
    >>> [round(mean, 3) for mean in gray_pixels(pixels_of("seresnet50.a1_in1k")).mean]
    [0.449]
    """
    numbers: dict[str, Any] = {
        name: (float(np.mean(getattr(pixels, name))),) for name in ("mean", "std")
    }
    origin = f"{pixels.origin}: the average of three colors, for gray images"
    return replace(pixels, **numbers, channels=1, origin=origin)


def _image_shape(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return (height, width, channels) for either data format."""
    _, first, *others = shape
    return (*others, first) if is_channels_first(shape) else tuple(shape[1:])


def is_channels_first(shape: tuple[int | None, ...]) -> bool:
    """Return whether a shape of images is (N, C, H, W) and not (N, H, W, C).

    Example:

    >>> from se_keras.pixels import is_channels_first
    >>> is_channels_first((None, 3, 32, 32)), is_channels_first((None, 32, 32, 3))
    (True, False)
    """
    return shape[1] in (1, 3) and shape[-1] not in (1, 3)


def _at(graph: Graph, tensor: keras.KerasTensor) -> Pixels:
    """Return the pixels that the consumers of a tensor show."""
    answers = {_of_call(graph, node) for node in graph.consumers(tensor)}
    return (
        answers.pop()
        if len(answers) == 1
        else _unknown("several layers take its input, and differ")
    )


def _of_call(graph: Graph, node: Node) -> Pixels:
    if node.subgraph is not None:
        return _of_nested(graph, node)
    if isinstance(node.op, PASSING) or type(node.op).__name__ == "Cast":
        return _at(graph, node.output)
    if isinstance(node.op, keras.layers.Normalization):
        return _of_normalization(graph, node)
    if (line := _line(node)) is not None:
        return _of_line(graph, node, *line)
    if node.op.name.startswith(OWN_FIRST):
        return pixels_of_name(graph.model.name)
    return _unknown(f"its first layer, {node.op.name!r}, does not show them")


def _of_nested(graph: Graph, node: Node) -> Pixels:
    assert node.subgraph is not None
    inputs = keras.tree.flatten(node.subgraph.inputs)
    if len(inputs) != 1:
        return _unknown(f"its model {node.op.name!r} has several inputs")
    pixels = _at(node.subgraph, inputs[0])
    named = pixels_of_name(graph.model.name)
    return named if pixels.unknown and not named.unknown else pixels


def _line(node: Node) -> tuple[Any, Any] | None:
    """Return the factor and shift of a node that computes factor * pixels + shift."""
    if isinstance(node.op, keras.layers.Rescaling):
        return node.op.scale, node.op.offset
    constants = [x for x in (*node.args, *node.kwargs.values()) if isinstance(x, NUMBERS)]
    line = LINES.get(type(node.op).__name__)
    if line is None or len(constants) != 1 or len(node.inputs) != 1 or not np.all(constants[0]):
        return None
    turned = constants[0] is node.args[0] and type(node.op).__name__ not in ("Multiply", "Add")
    return None if turned else line(np.asarray(constants[0], float))


NUMBERS = (int, float, np.number, np.ndarray)


def _of_line(graph: Graph, node: Node, factor: Any, shift: Any) -> Pixels:
    factor, shift = (float(np.abs(number).max()) for number in (factor, shift))
    what = f"its layer {node.op.name!r}, which normalizes pixels"
    if node.op.name == LAYER_NAME or 0 < factor <= SMALL or (factor == 1 and shift > 1):
        return _raw(graph, what)
    if factor == 1 and not shift:
        return _at(graph, node.output)
    return _unknown(
        f"its first layer, {node.op.name!r}, multiplies by {factor:g} and adds {shift:g}"
    )


def _of_normalization(graph: Graph, node: Node) -> Pixels:
    layer: Any = node.op
    channels: Any = _image_shape(node.output.shape)[-1]
    mean = keras.ops.convert_to_numpy(layer.mean)
    std = np.sqrt(keras.ops.convert_to_numpy(layer.variance))
    if not layer.invert and std.max() > 1:
        return _raw(graph, f"its layer {layer.name!r}, which normalizes pixels")
    if not layer.invert and mean.min() >= 0 and mean.max() <= 1 and std.max() <= 0.5:
        return Pixels(
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            channels=channels,
            origin=f"its layer {layer.name!r}, which takes 0..1",
        )
    return _unknown(f"its first layer, {layer.name!r}, normalizes no pixels")


def _raw(graph: Graph, what: str) -> Pixels:
    """Return pixels in 0..255, with the size and crop of the weights in the model's name."""
    named = pixels_of_name(graph.model.name)
    if named.unknown:
        return Pixels(raw=True, origin=what)
    return replace(named, mean=None, std=None, raw=True, origin=f"{what}, and {named.origin}")


def pixels_of_name(name: str) -> Pixels:
    """Return the pixels for the weights in a model's name, without any connection.

    Example:

    >>> from se_keras.pixels import pixels_of_name
    >>> pixels_of_name("seresnet50.a3_in1k").size, pixels_of_name("seresnet50").unknown
    (160, True)
    """
    _, source = split_name(name)
    if source is None:
        return _unknown("neither its first layers nor its name show them")
    return source.pixels


# --- loading images -----------------------------------------------------------------------------


def load_image(
    image: "ImageSource", model_or_source: PixelSource, *, size: str = "own"
) -> np.ndarray:
    """Load an image and crop its center to the size that a model takes.

    For published weights the image is resized so that its shorter side is size / crop, and the
    central square is cut out, with the same pixels as timm's evaluation transform. For other
    models that normalize pixels themselves, such as models from `se-keras train`, the largest
    central part is resized with Pillow's `BILINEAR`, as in training.

    Args:
        image: path or bytes of an image file, uint8 array (H, W, 3) or (H, W), or Pillow image.
        model_or_source: as in `pixels_of`.
        size: `"own"` for the size that the model takes, or `"test"` for the second, larger size at
            which published weights were measured, with its crop (`pixels_of(...).second`).

    Returns:
        A uint8 array (height, width, channels).

    Raises:
        InputError: if the image can't be read, if the model's pixels are unknown, or if
            `size="test"` has no second size or does not fit the model.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> photo = np.zeros((300, 500, 3), "uint8")
    >>> se_keras.load_image(photo, "seresnet50.a1_in1k").shape
    (224, 224, 3)
    >>> se_keras.load_image(photo, "seresnet50.a1_in1k", size="test").shape
    (288, 288, 3)
    """
    one_of("size", size, choices=("own", "test"))
    pixels = pixels_of_images(model_or_source)
    if size == "test":
        pixels = _at_second_size(pixels, model_or_source)
    if pixels.raw and (pixels.crop, pixels.interpolation) == (1, "bilinear"):
        return read_image(image, pixels.size, pixels.channels)
    return _cropped(open_image(image, pixels.channels), pixels)


def _at_second_size(pixels: Pixels, model_or_source: PixelSource) -> Pixels:
    name, larger = called(model_or_source), pixels.at_second_size
    if larger is None:
        raise InputError(f"`size` must be 'own' for {name}, which has no second size, got 'test'.")
    if isinstance(model_or_source, keras.Model):
        sides = _image_shape(model_or_source.inputs[0].shape)[:2]
        if any(side not in (None, larger.size) for side in sides):
            raise InputError(
                f"`size='test'` is {larger.size}x{larger.size} for the weights of {name}, but the "
                f"model takes {sides[0]}x{sides[1]}: build it with "
                f"`input_shape=({larger.size}, {larger.size}, 3)`."
            )
    return larger


def pixels_of_images(model_or_source: PixelSource) -> Pixels:
    """Return known pixels whose size, crop and interpolation are known too.

    Raises:
        InputError: if one of these is unknown; the message says what to give.

    Example:

    >>> from se_keras.pixels import pixels_of_images
    >>> pixels_of_images("legacy_seresnet50").size
    224
    """
    pixels = known_pixels(model_or_source)
    if None in (pixels.size, pixels.crop, pixels.interpolation):
        raise InputError(_which_image(model_or_source))
    return pixels


def _which_image(model_or_source: PixelSource) -> str:
    name = called(model_or_source)
    if isinstance(model_or_source, str) and presets_of(name):
        names = ", ".join(repr(preset.name) for preset in presets_of(name))
        return f"the published weights of {name} take different images: give one of {names}."
    return (
        f"{name} takes images of any size: give "
        "dataclasses.replace(se_keras.pixels_of(model), size=...) instead."
    )


def _cropped(image: "Image", pixels: Pixels) -> np.ndarray:
    from PIL.Image import Resampling

    height, width = cast(tuple[int, int], pixels.height_and_width)
    crop, interpolation = cast(float, pixels.crop), cast(str, pixels.interpolation)
    if height == width:
        cropped = center_crop(image, height, crop, interpolation)
    else:
        scale = crop * min(image.height / height, image.width / width)
        across, down = width * scale, height * scale
        left, top = (image.width - across) / 2, (image.height - down) / 2
        method = Resampling[interpolation.upper()]
        cropped = image.resize((width, height), method, (left, top, left + across, top + down))
    return np.array(cropped).reshape(height, width, pixels.channels)
