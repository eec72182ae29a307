"""`SpatialChannelSqueezeExcite`: scSE, a gate for channels and a gate for positions."""

from typing import Unpack

import keras

from se_keras import ops
from se_keras.layers.squeeze_excite import TwoLayerGate, TwoLayerOptions
from se_keras.support.arguments import one_of


@keras.saving.register_keras_serializable(package="se_keras")
class SpatialChannelSqueezeExcite(TwoLayerGate):
    """Concurrent spatial and channel squeeze-and-excitation.

    Source: Roy et al., arXiv 1803.02579; the equations are in `se_keras.ops`.

    Args:
        ratio: reduction ratio r of the gate for channels; 2 as in the authors' code.
        fusion: `"sum"` of both products, as in the paper, or `"max"`, the larger product, as in
            the authors' code (github.com/ai-med/squeeze_and_excitation).
        **kwargs: `reduced_channels`, `divisor`, `activation`, and the arguments of every gate, as
            in `SqueezeExcite`.

    Shapes, masks and errors are as in `SqueezeExcite`, except that `gate` has the shape of the
    input.

    Attributes:
        reduce, expand: the two `Dense` layers of the gate for channels (after `build`).
        spatial: the `Dense` layer of the gate for positions, C -> 1 (after `build`).

    Example:

    >>> import numpy as np
    >>> from se_keras import SpatialChannelSqueezeExcite
    >>> layer = SpatialChannelSqueezeExcite()
    >>> tuple(layer.gate(np.ones((2, 7, 7, 64), "float32")).shape), layer.count_params()
    ((2, 7, 7, 64), 4257)
    """

    excites_channels_last = True
    spatial: keras.layers.Dense

    def __init__(self, ratio: int = 2, *, fusion: str = "sum", **kwargs: Unpack[TwoLayerOptions]):
        super().__init__(ratio, **kwargs)
        self.fusion = one_of("fusion", fusion, ops.FUSIONS)

    def part_names(self) -> tuple[str, ...]:
        return (*super().part_names(), "spatial")

    def part_shapes(self, channels: int, sizes: tuple) -> dict[str, tuple[tuple, tuple]]:
        spatial = ((*sizes, channels), (*sizes, 1))
        return {**super().part_shapes(channels, sizes), "spatial": spatial}

    def map_parts(self) -> tuple[str, ...]:
        return ("spatial",)

    def last_parts(self) -> tuple[str, ...]:
        return ("expand", "spatial")

    def gate_at_zero(self, channels: int) -> float:
        return super().gate_at_zero(channels) * (2 if self.fusion == "sum" else 1)

    def build_parts(self, channels: int, sizes: tuple[int | None, ...]) -> None:
        super().build_parts(channels, sizes)
        self.make_part(keras.layers.Dense, "spatial", (None, *sizes, channels), units=1)

    def excite(self, inputs: ops.Tensor, mask: ops.Tensor | None) -> ops.Tensor:
        z = ops.squeeze(inputs, self.pool, "channels_last", mask)
        s = ops.excite(z, self.reduce, self.expand, self.activation, self.gate_activation)
        s = ops.expand_gate(s, len(inputs.shape), "channels_last")
        q = ops.excite_once(inputs, self.spatial, self.gate_activation)
        return ops.fuse(inputs, s, q, self.fusion)
