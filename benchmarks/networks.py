"""The networks that are measured, by name or file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras

from se_keras import catalog
from se_keras.commands.model_files import open_model
from se_keras.graph import trace
from se_keras.layers import SqueezeExcite
from se_keras.models.recipes import RECIPES, find_recipe
from se_keras.support.errors import InputError

# Image size for files that leave height and width open.
DEFAULT_SIZE = 224
# The usual image size of each network of keras.applications, in the order of their computation.
APPLICATIONS = {
    "MobileNetV3Small": 224,
    "MobileNetV3Large": 224,
    "MobileNetV2": 224,
    "EfficientNetB0": 224,
    "MobileNet": 224,
    "NASNetMobile": 224,
    "EfficientNetV2B0": 224,
    "EfficientNetB1": 240,
    "EfficientNetB2": 260,
    "EfficientNetV2B1": 240,
    "EfficientNetV2B2": 260,
    "EfficientNetB3": 300,
    "DenseNet121": 224,
    "EfficientNetV2B3": 300,
    "DenseNet169": 224,
    "ResNet50V2": 224,
    "ResNet50": 224,
    "DenseNet201": 224,
    "EfficientNetB4": 380,
    "ConvNeXtTiny": 224,
    "InceptionV3": 299,
    "ResNet101V2": 224,
    "ResNet101": 224,
    "Xception": 299,
    "EfficientNetV2S": 384,
    "ConvNeXtSmall": 224,
    "EfficientNetB5": 456,
    "ResNet152V2": 224,
    "ResNet152": 224,
    "InceptionResNetV2": 299,
    "ConvNeXtBase": 224,
    "VGG16": 224,
    "EfficientNetB6": 528,
    "VGG19": 224,
    "NASNetLarge": 331,
    "EfficientNetV2M": 480,
    "ConvNeXtLarge": 224,
    "EfficientNetB7": 600,
    "EfficientNetV2L": 480,
    "ConvNeXtXLarge": 224,
}
# A product of this size takes a quarter of a second on one core, and no cache holds its operands.
PRODUCT = 2048
PRODUCT_WIDTH = 32


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network.

    Attributes:
        name: name or file, as the user gave it.
        sizes: image sizes at which it is measured.
        has_se: whether `remove_se` can make a plain twin of it.
        build: function from an image size to a model, with new weights or the file's weights.
    """

    name: str
    sizes: tuple[int, ...]
    has_se: bool
    build: Callable[[int], keras.Model]


def open_network(name: str, sizes: Sequence[int] | None) -> Network:
    """Find a network.

    Args:
        name: a name of the catalog or of `keras.applications`, or a `.keras` file.
        sizes: image sizes in pixels; `None` for the usual size.

    Raises:
        InputError: if there is no such network, or it takes another size.

    Example:

    >>> from benchmarks.networks import open_network
    >>> open_network("seresnet50", None).sizes
    (224,)
    """
    if name.endswith(".keras"):
        return _of_file(name, sizes)
    if name in {recipe.name for recipe in RECIPES}:
        return Network(
            name=name,
            sizes=tuple(sizes or [find_recipe(name).input_size]),
            has_se=True,
            build=lambda size: catalog.create(name, input_shape=(size, size, 3)),
        )
    if name not in APPLICATIONS:
        raise InputError(
            f"there is no model {name!r}: it must be a name that `se-keras list` shows, one of "
            "keras.applications, or a .keras file."
        )
    return Network(
        name=name,
        sizes=tuple(sizes or [APPLICATIONS[name]]),
        has_se=False,
        build=lambda size: getattr(keras.applications, name)(
            weights=None, input_shape=(size, size, 3)
        ),
    )


def _of_file(name: str, sizes: Sequence[int] | None) -> Network:
    model = open_model(name)
    has_se = _has_se(name, model)
    shapes = [tensor.shape for tensor in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise InputError(f"{name} must take one image (N, H, W, C), got {shapes}.")
    _, height, width, _ = shapes[0]
    fixed = height if height == width else None
    if height != width or (sizes and height and set(sizes) != {height}):
        raise InputError(f"{name} takes images of {height} x {width} pixels, got sizes {sizes}.")
    return Network(
        name=name,
        sizes=tuple(sizes or [fixed or DEFAULT_SIZE]),
        has_se=has_se,
        build=lambda size: open_model(name),
    )


def _has_se(name: str, model: keras.Model) -> bool:
    try:
        graph = trace(model)
    except InputError as error:
        raise InputError(f"cannot measure {name}: {error}") from error
    return any(True for _ in graph.calls(SqueezeExcite))


def products_of_matrices() -> tuple[tuple[Network, int], ...]:
    """Return networks that compute one product of two square matrices, each with its batch size.

    One is a dense layer, the other a 1x1 convolution: some engines compute one of them faster,
    some the other.

    Example:

    >>> from benchmarks.networks import products_of_matrices
    >>> [(network.build(64).count_params(), batch) for network, batch in products_of_matrices()]
    [(4096, 2048), (4096, 1)]
    """

    def dense(size: int) -> keras.Model:
        rows = keras.Input((size,))
        return keras.Model(rows, keras.layers.Dense(size, use_bias=False)(rows))

    def convolution(size: int) -> keras.Model:
        rows = keras.Input((size // PRODUCT_WIDTH, PRODUCT_WIDTH, size))
        return keras.Model(rows, keras.layers.Conv2D(size, 1, use_bias=False)(rows))

    return tuple(
        (Network(name=build.__name__, sizes=(PRODUCT,), has_se=False, build=build), batch)
        for build, batch in ((dense, PRODUCT), (convolution, 1))
    )
