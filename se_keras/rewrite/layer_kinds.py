"""A table of Keras' layers with the facts that counting, surgery and rewriting need."""

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import layers

Form = Literal[
    "convolution",
    "depthwise",
    "separable",
    "transposed",
    "dense",
    "einsum",
    "normalization",
    "activation",
    "pool",
    "global pool",
    "scaling",
    "upsampling",
    "other",
]
Passes = Literal["none", "positive", "all"]
RANKS = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The kind of a layer.

    Attributes:
        form: role of the layer for surgery; "scaling" drops or scales its input.
        inert: whether inference passes the input through unchanged.
        passes: the factors c for each channel with f(c x) = c f(x), in inference and in training.
            The options of a layer may restrict them: see `passing`.
        shifts: whether f(x + b) = f(x) + b for a number b for each channel.
        free: whether its multiply-adds are not counted.
    """

    form: Form = "other"
    inert: bool = False
    passes: Passes = "none"
    shifts: bool = False
    free: bool = True


UNKNOWN = Kind(free=False)


def _rows(names: str, **facts: Any) -> dict[type[keras.Layer], Kind]:
    """Return a row for each layer name; `{}` stands for the number of spatial axes."""
    found = (getattr(layers, name.format(rank), None) for name in names.split() for rank in RANKS)
    return {layer: Kind(**facts) for layer in found if layer is not None}


KINDS = {
    **_rows("Conv{}D", form="convolution", free=False),
    **_rows("DepthwiseConv{}D", form="depthwise", free=False),
    **_rows("SeparableConv{}D", form="separable", free=False),
    **_rows("Conv{}DTranspose", form="transposed", free=False),
    **_rows("Dense", form="dense", free=False),
    **_rows("EinsumDense", form="einsum", free=False),
    **_rows(
        "BatchNormalization GroupNormalization LayerNormalization RMSNormalization "
        "UnitNormalization",
        form="normalization",
    ),
    **_rows("Activation ELU Softmax", form="activation"),
    **_rows("ReLU LeakyReLU PReLU", form="activation", passes="positive"),
    **_rows("MaxPooling{}D", form="pool", passes="positive", shifts=True),
    **_rows("AveragePooling{}D", form="pool", passes="all", shifts=True),
    **_rows("AdaptiveMaxPooling{}D", passes="positive", shifts=True),
    **_rows("AdaptiveAveragePooling{}D", passes="all", shifts=True),
    **_rows("GlobalAveragePooling{}D GlobalMaxPooling{}D", form="global pool"),
    **_rows("Dropout SpatialDropout{}D GaussianDropout", form="scaling", inert=True, passes="all"),
    **_rows("AlphaDropout GaussianNoise ActivityRegularization", form="scaling", inert=True),
    **_rows("Identity", form="scaling", inert=True, passes="all"),
    **_rows("Rescaling", form="scaling", passes="all"),
    **_rows("UpSampling{}D", form="upsampling", passes="all", shifts=True),
    **_rows("Cropping{}D", passes="all", shifts=True),
    **_rows("ZeroPadding{}D", passes="all"),
    **_rows(
        "Add Average CenterCrop Concatenate "
        "Embedding Flatten Masking Maximum Minimum Multiply Normalization Permute "
        "RandomBrightness RandomContrast RandomCrop RandomFlip RepeatVector Reshape Resizing "
        "Subtract"
    ),
}
STOCK = frozenset(filter(inspect.isclass, vars(layers).values()))
CONVOLUTION_FORMS = ("convolution", "depthwise", "separable", "transposed")
# Layers with a bias and a kernel whose last axes are channels.
LINEAR_FORMS = (*CONVOLUTION_FORMS, "dense")


def is_stock(op: keras.Operation) -> bool:
    """Return whether an operation is a layer of `keras.layers`, and not a subclass of one.

    Example:

    >>> from keras import layers
    >>> from se_keras.rewrite.layer_kinds import is_stock
    >>> is_stock(layers.Dense(2)), is_stock(type("Dense", (layers.Dense,), {})(2))
    (True, False)
    """
    return type(op) in STOCK


def kind_of(op: keras.Operation) -> Kind:
    """Return the kind of a Keras layer; other layers are of no known kind.

    Example:

    >>> from keras import layers
    >>> from se_keras.rewrite.layer_kinds import kind_of
    >>> kind_of(layers.SpatialDropout2D(0.1))
    Kind(form='scaling', inert=True, passes='all', shifts=False, free=True)
    """
    return KINDS.get(type(op), UNKNOWN)


def kind_like(op: keras.Operation) -> Kind:
    """Return the kind of a Keras layer, or of the Keras layer that a custom layer subclasses.

    Example:

    >>> from keras import layers
    >>> from se_keras.rewrite.layer_kinds import kind_like
    >>> kind_like(type("Own", (layers.Conv2D,), {})(2, 3)).form
    'convolution'
    """
    nearest = next((base for base in type(op).__mro__ if base in STOCK), None)
    return UNKNOWN if nearest is None else KINDS.get(nearest, UNKNOWN)


def passing(op: keras.Operation) -> Passes:
    """Return the factors that a layer with its options passes.

    Example:

    >>> from keras import layers
    >>> from se_keras.rewrite.layer_kinds import passing
    >>> passing(layers.ReLU()), passing(layers.ReLU(6.0)), passing(layers.Activation("relu"))
    ('positive', 'none', 'positive')
    """
    if type(op) is layers.Activation:
        return passing_of(op.activation)
    if type(op) is layers.ReLU and (op.max_value is not None or op.threshold):
        return "none"
    if type(op) is layers.Rescaling and np.any(op.offset):
        return "none"
    return kind_of(op).passes


def passing_of(activation: Any) -> Passes:
    """Return the factors that an activation passes; `None` means no activation."""
    if activation in (None, keras.activations.linear):
        return "all"
    homogeneous = (keras.activations.relu, keras.activations.leaky_relu)
    return "positive" if activation in homogeneous else "none"
