"""SE in functional models: the block alone, and its placements around a residual unit."""

from collections.abc import Callable
from typing import Any

import keras

from se_keras.layers import SqueezeExcite
from se_keras.support.errors import InputError

PLACEMENTS = ("standard", "pre", "post", "identity", "conv3x3")


def se_block(
    x: keras.KerasTensor, ratio: int = 16, name: str | None = None, **options: Any
) -> keras.KerasTensor:
    """Put squeeze-and-excitation after `x` in a functional model.

    Args:
        x: a symbolic feature map (N, H, W, C), or any other shape that `SqueezeExcite` takes.
        ratio: reduction ratio r.
        name: name of the layer.
        **options: any other argument of `SqueezeExcite`.

    Returns:
        The recalibrated map, with the shape of `x`.

    Raises:
        InputError: if `x` is not symbolic (use `SqueezeExcite` for tensors), or an argument of
            `SqueezeExcite` is invalid.

    Example:

    >>> import keras
    >>> from se_keras import se_block
    >>> x = keras.Input((32, 32, 64))
    >>> model = keras.Model(x, se_block(x, ratio=8))
    >>> model.output_shape
    (None, 32, 32, 64)
    """
    if not isinstance(x, keras.KerasTensor):
        raise InputError(
            "`x` must be a symbolic Keras tensor: the block makes new weights at each call. "
            f"For tensors, make one `SqueezeExcite` layer and call it. Got {type(x).__name__}."
        )
    return SqueezeExcite(ratio, name=name, **options)(x)


def residual_unit(
    x: keras.KerasTensor,
    branch: Callable[..., keras.KerasTensor],
    shortcut: keras.KerasTensor,
    merge: Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor],
    se: Callable[[keras.KerasTensor], keras.KerasTensor],
    placement: str = "standard",
) -> keras.KerasTensor:
    """Build a residual unit with SE at one of the paper's placements (Fig. 5, Tables 14, 15).

    Args:
        x: input of the branch.
        branch: function `branch(x, after_3x3)` that applies `after_3x3` to the output of its 3x3
            convolution.
        shortcut: output of the shortcut.
        merge: function that adds branch and shortcut, and applies any operations after the sum.
        se: function that applies an SE block to a map.
        placement: `"standard"`, `"pre"`, `"post"`, `"identity"` or `"conv3x3"`.

    Returns:
        The output of the unit.

    Example:

    >>> import keras
    >>> from se_keras.blocks import residual_unit, se_block
    >>> x = keras.Input((8, 8, 16))
    >>> conv = keras.layers.Conv2D(16, 3, padding="same")
    >>> y = residual_unit(x, lambda x, after_3x3: after_3x3(conv(x)), x,
    ...                   lambda a, b: keras.layers.add([a, b]), se_block, "post")
    >>> y.shape
    (None, 8, 8, 16)
    """

    def at(place: str) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
        return se if place == placement else lambda x: x

    y = at("standard")(branch(at("pre")(x), at("conv3x3")))
    return at("post")(merge(y, at("identity")(shortcut)))
