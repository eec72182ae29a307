"""`GatherExcite`: GE, gates for windows of the map."""

import math
from typing import Unpack

import keras

from se_keras import ops
from se_keras.layers.squeeze_excite import TwoLayerGate, TwoLayerOptions
from se_keras.support.arguments import boolean, one_of
from se_keras.support.errors import InputError

EXTENTS = (0, 2, 4, 8)
DEPTHWISE = {1: keras.layers.DepthwiseConv1D, 2: keras.layers.DepthwiseConv2D}
# Arguments of the two layers of `use_mlp`, and of any inner layer with weights.
OF_BIASES = ("use_bias", "bias_initializer", "bias_regularizer", "bias_constraint")
OF_MLP = ("ratio", "reduced_channels", "divisor", *OF_BIASES)
OF_WEIGHTS = ("activation", "kernel_initializer", "kernel_regularizer", "kernel_constraint")


@keras.saving.register_keras_serializable(package="se_keras")
class GatherExcite(TwoLayerGate):
    """Gather-excite: each channel has a gate for each part of the map, or one for the whole map.

    Source: Hu et al., arXiv 1810.12348; the equations are in `se_keras.ops`. It equals
    timm's `GatherExcite`, except for a global extent with weights: there timm pads the map, but
    the paper and this layer compute one number per channel.

    Args:
        extent: the extent e: 2, 4, 8, or 0 for the whole map.
        extra_params: whether to gather by depthwise convolutions with normalization instead of
            means: the paper's GE-theta instead of GE-theta-minus. With `extent=0` the kernel has
            the size of the map, which must be known.
        use_mlp: whether SE's two layers follow: with `extra_params` the paper's GE-theta-plus.
        **kwargs: `ratio` (16), `reduced_channels`, `divisor` for `use_mlp`, `activation`, and the
            arguments of every gate, as in `SqueezeExcite`.

    Shapes, masks and errors are as in `SqueezeExcite`, except that `gate` has the shape of the
    input if there is an extent, and that `extra_params` needs an input of rank 3 or 4.

    Attributes:
        conv1, norm1, ...: the convolutions and their normalizations (after `build`).
        reduce, expand: the two `Dense` layers of `use_mlp` (after `build`).

    Example:

    >>> import numpy as np
    >>> from se_keras import GatherExcite
    >>> layer = GatherExcite(4, extra_params=True)
    >>> tuple(layer.gate(np.ones((2, 7, 7, 64), "float32")).shape), layer.count_params()
    ((2, 7, 7, 64), 1664)
    """

    excites_channels_last = True

    def __init__(
        self,
        extent: int = 0,
        *,
        extra_params: bool = False,
        use_mlp: bool = False,
        **kwargs: Unpack[TwoLayerOptions],
    ):
        super().__init__(**kwargs)
        self.extent = one_of("extent", extent, EXTENTS)
        self.extra_params = boolean("extra_params", extra_params)
        self.use_mlp = boolean("use_mlp", use_mlp)
        unused = {"pool"} if extra_params else set() if use_mlp else {*OF_WEIGHTS}
        unused |= set() if use_mlp else {*OF_MLP}
        self.refuse_unused(unused, extra_params=extra_params, use_mlp=use_mlp)

    @property
    def convolutions(self) -> range:
        """The numbers of the gathering convolutions."""
        return range(1, self.extra_params * (1 + int(math.log2(self.extent or 2))))

    def map_parts(self) -> tuple[str, ...]:
        return tuple(f"{part}{n}" for n in self.convolutions for part in ("conv", "norm"))

    def part_names(self) -> tuple[str, ...]:
        return (*self.map_parts(), *(super().part_names() if self.use_mlp else ()))

    def part_shapes(self, channels: int, sizes: tuple) -> dict[str, tuple[tuple, tuple]]:
        shapes = {}
        for n in self.convolutions:
            given, left = (tuple(-(-s // e) for s in sizes) for e in (2 ** (n - 1), 2**n))
            left = left if self.extent else (1,) * len(sizes)
            shapes[f"conv{n}"] = ((*given, channels), (*left, channels))
        if self.use_mlp:
            sizes = tuple(-(-size // self.extent) for size in sizes) if self.extent else ()
            for name, (given, left) in super().part_shapes(channels, sizes).items():
                shapes[name] = ((*sizes, *given), (*sizes, *left))
        return shapes

    def build_parts(self, channels: int, sizes: tuple[int | None, ...]) -> None:
        if self.extra_params:
            self._refuse_sizes(sizes)
        shape = (None, *([None] * len(sizes) if self.extent else sizes), channels)
        for n in self.convolutions:
            self.make_part(
                DEPTHWISE[len(sizes)],
                f"conv{n}",
                shape,
                kernel="depthwise",
                kernel_size=3 if self.extent else sizes,
                strides=2 if self.extent else 1,
                use_bias=False,
                data_format="channels_last",
            )
            self.make_norm(f"norm{n}", shape)
        if self.use_mlp:
            super().build_parts(channels, sizes)

    def _refuse_sizes(self, sizes: tuple[int | None, ...]) -> None:
        if len(sizes) not in DEPTHWISE:
            raise InputError(
                f"{self.name}: `extra_params=True` needs maps of rank 3 or 4, for which Keras has "
                f"depthwise convolutions, got rank {len(sizes) + 2}."
            )
        if not self.extent and None in sizes:
            raise InputError(
                f"{self.name}: `extra_params=True` with `extent=0` has a weight for each position, "
                f"so the sizes of the map must be known, got {sizes}."
            )

    def call(
        self, inputs: ops.Tensor, mask: ops.Tensor | None = None, training: bool | None = None
    ) -> ops.Tensor:
        # Keras passes `training` on to inner layers only if `call` has the argument.
        return super().call(inputs, mask)

    def excite(self, inputs: ops.Tensor, mask: ops.Tensor | None) -> ops.Tensor:
        gate = self._gather(inputs, mask)
        if self.use_mlp:
            gate = self.expand(self.activation(self.reduce(gate)))
        sizes = keras.ops.shape(inputs)[1:-1] if len(gate.shape) > 2 else ()
        return ops.interpolate(self.gate_activation(gate), sizes)

    def _gather(self, u: ops.Tensor, mask: ops.Tensor | None) -> ops.Tensor:
        if not self.extra_params and not self.extent:
            return ops.squeeze(u, self.pool, "channels_last", mask)
        if not self.extra_params:
            return ops.gather(u, self.extent, self.pool, mask)
        v = ops.without_masked(u, mask)
        for n in self.convolutions:
            v = self.activation(v) if n > 1 else v
            margins = [(0, 0), *[(1, 1)] * (len(v.shape) - 2), (0, 0)]
            v = keras.ops.pad(v, margins) if self.extent else v
            v = getattr(self, f"norm{n}")(getattr(self, f"conv{n}")(v))
        return v
