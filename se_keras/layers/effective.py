"""`EffectiveSqueezeExcite`: eSE, a gate from a single layer without reduction."""

from typing import Unpack

import keras

from se_keras import ops
from se_keras.layers.base import ChannelGate, GateOptions


@keras.saving.register_keras_serializable(package="se_keras")
class EffectiveSqueezeExcite(ChannelGate):
    """Effective squeeze-and-excitation: one layer C -> C and a hard sigmoid.

    Source: Lee and Park, arXiv 1911.06667 (VoVNetV2); the equation is in `se_keras.ops`. It is
    timm's `EffectiveSEModule`.

    Args:
        **kwargs: the arguments of every gate, as in `SqueezeExcite`: `pool`, `gate_activation`
            (default `"hard_sigmoid"`), `gate_scale`, `use_bias`, `data_format`,
            `kernel_initializer`, ..., and `name`, `dtype`, `trainable`.

    Shapes, masks and errors are as in `SqueezeExcite`.

    Attributes:
        dense: the `Dense` layer W, C -> C (after `build`).

    Example:

    >>> import numpy as np
    >>> from se_keras import EffectiveSqueezeExcite
    >>> layer = EffectiveSqueezeExcite()
    >>> tuple(layer(np.ones((2, 7, 7, 64), "float32")).shape), layer.count_params()
    ((2, 7, 7, 64), 4160)
    """

    dense: keras.layers.Dense

    def __init__(self, **kwargs: Unpack[GateOptions]):
        kwargs.setdefault("gate_activation", "hard_sigmoid")
        super().__init__(**kwargs)

    def part_names(self) -> tuple[str, ...]:
        return ("dense",)

    def part_shapes(self, channels: int, sizes: tuple) -> dict[str, tuple[tuple, tuple]]:
        return {"dense": ((channels,), (channels,))}

    def build_parts(self, channels: int, sizes: tuple[int | None, ...]) -> None:
        self.make_part(keras.layers.Dense, "dense", (None, channels), units=channels)

    def excite(self, inputs: ops.Tensor, mask: ops.Tensor | None) -> ops.Tensor:
        z = ops.squeeze(inputs, self.pool, self.data_format, mask)
        return ops.excite_once(z, self.dense, self.gate_activation)
