"""SE in a functional model: the block alone, and its places around a residual unit."""

from typing import Any

import keras

from se_keras.layers import SqueezeExcite


def se_block(
    x: keras.KerasTensor, ratio: int = 16, name: str | None = None, **options: Any
) -> keras.KerasTensor:
    """Puts squeeze-and-excitation behind `x` in a functional model.

    Args:
        x: a symbolic feature map, (N, H, W, C) or another that `SqueezeExcite` takes.
        ratio: reduction ratio r.
        name: name of the layer.
        **options: any other argument of `SqueezeExcite`.

    Returns:
        The recalibrated map, of the shape of `x`.

    Raises:
        ValueError: if `x` is not symbolic (for tensors there is `SqueezeExcite`), or as
            `SqueezeExcite` does.

    Example:

    >>> import keras
    >>> from se_keras import se_block
    >>> x = keras.Input((32, 32, 64))
    >>> model = keras.Model(x, se_block(x, ratio=8))
    >>> model.output_shape
    (None, 32, 32, 64)
    """
    if not isinstance(x, keras.KerasTensor):
        raise ValueError(
            "`x` must be a symbolic Keras tensor: the block makes new weights at each call. "
            f"For tensors make one `SqueezeExcite` layer and call it; got {type(x).__name__}."
        )
    return SqueezeExcite(ratio, name=name, **options)(x)
