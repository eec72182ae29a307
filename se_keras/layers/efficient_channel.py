"""`EfficientChannelAttention`: ECA, a gate from neighboring channels."""

import math
from typing import Unpack

import keras

from se_keras import ops
from se_keras.layers.base import ChannelGate, GateOptions
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import InputError


@keras.saving.register_keras_serializable(package="se_keras")
class EfficientChannelAttention(ChannelGate):
    """Efficient channel attention: a convolution over the channels instead of SE's two layers.

    Source: Wang et al., arXiv 1910.03151; the equations are in `se_keras.ops`. It equals timm's
    `EcaModule`, whose kernel has at least three weights.

    Args:
        kernel_size: the odd kernel size k; `None` for the paper's function of the number of
            channels, `neighbors`.
        **kwargs: the arguments of every gate, as in `SqueezeExcite`: `pool`, `gate_activation`,
            `gate_scale`, `use_bias` (default `False`), `data_format`,
            `kernel_initializer`, ..., and `name`, `dtype`, `trainable`.

    Shapes, masks and errors are as in `SqueezeExcite`.

    Attributes:
        conv: the `Conv1D` layer over the channels, (N, C, 1) -> (N, C, 1) (after `build`).

    Example:

    >>> import numpy as np
    >>> from se_keras import EfficientChannelAttention
    >>> layer = EfficientChannelAttention()
    >>> tuple(layer(np.ones((2, 7, 7, 256), "float32")).shape), layer.count_params()
    ((2, 7, 7, 256), 5)
    """

    conv: keras.layers.Conv1D

    def __init__(self, kernel_size: int | None = None, **kwargs: Unpack[GateOptions]):
        kwargs.setdefault("use_bias", False)
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        if kernel_size is not None:
            self.kernel_size = positive_integer("kernel_size", kernel_size, 2**16)
            if not self.kernel_size % 2:
                raise InputError(f"`kernel_size` must be odd, got {self.kernel_size}.")

    def part_names(self) -> tuple[str, ...]:
        return ("conv",)

    def part_shapes(self, channels: int, sizes: tuple) -> dict[str, tuple[tuple, tuple]]:
        return {"conv": ((channels, 1), (channels, 1))}

    def build_parts(self, channels: int, sizes: tuple[int | None, ...]) -> None:
        self.make_part(
            keras.layers.Conv1D,
            "conv",
            (None, channels, 1),
            filters=1,
            kernel_size=self.kernel_size or neighbors(channels),
            padding="same",
            data_format="channels_last",
        )

    def excite(self, inputs: ops.Tensor, mask: ops.Tensor | None) -> ops.Tensor:
        z = ops.squeeze(inputs, self.pool, self.data_format, mask)
        return ops.excite_neighbors(z, self.conv, self.gate_activation)


def neighbors(channels: int) -> int:
    """Return ECA's kernel size: an odd number near (log2 C + b) / gamma, with gamma 2 and b 1.

    As in the authors' code, it is rounded down, and an even result is increased by 1.

    Example:

    >>> from se_keras.layers import neighbors
    >>> [neighbors(channels) for channels in (64, 256, 512, 2048)]
    [3, 5, 5, 7]
    """
    size = int((math.log2(channels) + 1) / 2)
    return size if size % 2 else size + 1
