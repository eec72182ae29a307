"""`SqueezeExcite`: the SE block as one Keras layer, and the base of gates with two layers."""

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import keras

from se_keras import ops
from se_keras.layers.base import ChannelGate, GateOptions, LayerOptions, options_of, resolve
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import InputError

PARTS = ("reduce", "expand")


# The most channels of a hidden layer.
WIDEST = 2**16


class TwoLayerOptions(GateOptions, total=False):
    """The options of every gate with two layers."""

    reduced_channels: int | None
    divisor: int
    activation: str | Callable | None


class TwoLayerGate(ChannelGate):
    """A gate from two inner layers: the narrow `reduce`, and `expand`.

    Args:
        ratio: reduction ratio r; the hidden width is `max(1, channels // ratio)`.
        reduced_channels: the hidden width, instead of `ratio`.
        divisor: the hidden width from `ratio` is rounded to a multiple of it, at least one.
        activation: activation between the two layers; any Keras activation.
        **kwargs: as in `ChannelGate`.

    Attributes:
        reduce: the `Dense` layer W1, C -> hidden (after `build`).
        expand: the `Dense` layer W2, hidden -> C (after `build`).
    """

    reduce: keras.layers.Dense
    expand: keras.layers.Dense

    def __init__(
        self,
        ratio: int = 16,
        *,
        reduced_channels: int | None = None,
        divisor: int = 1,
        activation: str | Callable | None = "relu",
        **kwargs: Unpack[GateOptions],
    ):
        super().__init__(**kwargs)
        self.ratio = positive_integer("ratio", ratio)
        self.divisor = positive_integer("divisor", divisor, WIDEST)
        self.reduced_channels = reduced_channels
        if reduced_channels is not None:
            self.reduced_channels = positive_integer("reduced_channels", reduced_channels, WIDEST)
            if self.divisor != 1:
                raise InputError(
                    "`divisor` rounds the hidden width from `ratio`: with "
                    f"`reduced_channels={reduced_channels}` it must be 1, got {divisor}."
                )
        self.activation = resolve("activation", activation)

    def hidden_channels(self, channels: int) -> int:
        """Return the hidden width for an input with this number of channels."""
        if self.reduced_channels is not None:
            return self.reduced_channels
        return hidden_width(channels, self.ratio, self.divisor)

    def part_names(self) -> tuple[str, ...]:
        return PARTS

    def part_shapes(self, channels: int, sizes: tuple) -> dict[str, tuple[tuple, tuple]]:
        wide, narrow = (channels,), (self.hidden_channels(channels),)
        return {"reduce": (wide, narrow), "expand": (narrow, wide)}

    def build_parts(self, channels: int, sizes: tuple[int | None, ...]) -> None:
        hidden = self.hidden_channels(channels)
        self.make_part(keras.layers.Dense, "reduce", (None, channels), units=hidden)
        self.make_part(keras.layers.Dense, "expand", (None, hidden), units=channels)


@keras.saving.register_keras_serializable(package="se_keras")
class SqueezeExcite(TwoLayerGate):
    """Squeeze-and-excitation: multiply each channel by a gate that depends on the whole map.

    Source: Hu et al., arXiv 1709.01507, section 3; the equations are in `se_keras.ops`.

    Args:
        ratio: reduction ratio r; the hidden width is `max(1, channels // ratio)`.
        reduced_channels: the hidden width, instead of `ratio`.
        divisor: the hidden width from `ratio` is rounded to a multiple of it, at least one.
            For even values this is timm's `make_divisible` with `round_limit=0`; its non-legacy
            networks use 8.
        pool: `"avg"` or `"max"` (paper, Table 11).
        activation: activation between the two layers; any Keras activation.
        gate_activation: activation of the gate; any Keras activation (paper, Table 12).
        gate_scale: a factor of the gate, other than 0. With 2 and zero weights in `expand`, a
            sigmoid gate is exactly 1, so the layer starts as the identity.
        use_bias: whether both layers have biases. The paper's ablations have no biases, but the
            released weights do.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras' global setting.
        kernel_initializer, bias_initializer: initializers of both layers, as in `Dense`.
        kernel_regularizer, bias_regularizer: regularizers of both layers.
        kernel_constraint, bias_constraint: constraints of both layers.
        **kwargs: `name`, `dtype` and `trainable`, as in every Keras layer.

    Input and output shape:
        (N, H, W, C), or (N, L, C), or (N, D, H, W, C); with `"channels_first"` C is second.
        The spatial sizes may be unknown.

    Masks:
        With a mask (N, *spatial), or the first axes of it, the gate depends only on the positions
        where the mask is true, but multiplies all positions. The mask is passed on. A sample
        without such positions has the gate of a map of zeros.

    Attributes:
        reduce: the `Dense` layer W1, C -> hidden (after `build`).
        expand: the `Dense` layer W2, hidden -> C (after `build`).

    Raises:
        InputError: if an argument is invalid (when the layer is made), or if the input has another
            rank or an unknown number of channels (when it is built).

    Example:

    >>> import keras, numpy as np
    >>> from se_keras import SqueezeExcite
    >>> layer = SqueezeExcite(ratio=16)
    >>> x = np.ones((2, 7, 7, 64), "float32")
    >>> tuple(layer(x).shape), tuple(layer.gate(x).shape)
    ((2, 7, 7, 64), (2, 1, 1, 64))
    >>> layer.count_params()  # 64*4 + 4 + 4*64 + 64
    580
    """

    # The arguments of the base classes are repeated here so that `help` shows them.

    def __init__(
        self,
        ratio: int = 16,
        *,
        reduced_channels: int | None = None,
        divisor: int = 1,
        pool: str = "avg",
        activation: str | Callable | None = "relu",
        gate_activation: str | Callable | None = "sigmoid",
        gate_scale: float = 1.0,
        use_bias: bool = True,
        data_format: str | None = None,
        kernel_initializer: Any = "he_normal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(
            ratio,
            reduced_channels=reduced_channels,
            divisor=divisor,
            pool=pool,
            activation=activation,
            gate_activation=gate_activation,
            gate_scale=gate_scale,
            use_bias=use_bias,
            data_format=data_format,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )

    def excite(self, inputs: ops.Tensor, mask: ops.Tensor | None) -> ops.Tensor:
        z = ops.squeeze(inputs, self.pool, self.data_format, mask)
        return ops.excite(z, self.reduce, self.expand, self.activation, self.gate_activation)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ChannelGate:
        return super().from_config(_without_policy_map(config))


def hidden_width(channels: int, ratio: int, divisor: int = 1) -> int:
    """Return the hidden width of `SqueezeExcite` for a map with this number of channels.

    Example:

    >>> from se_keras.layers import hidden_width
    >>> hidden_width(64, 16), hidden_width(64, 16, divisor=8)
    (4, 8)
    """
    nearest = channels // ratio + divisor // 2
    return max(divisor, nearest // divisor * divisor)


def se_options() -> tuple[str, ...]:
    """Return the names of the arguments that `SqueezeExcite` adds to every Keras layer's.

    Example:

    >>> from se_keras.layers import se_options
    >>> se_options()[:4]
    ('ratio', 'reduced_channels', 'divisor', 'pool')
    """
    return options_of(SqueezeExcite)


def _without_policy_map(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with the policies of inner layers by name; old files have paths."""
    config = dict(config)
    policy = config.get("dtype")
    policy = keras.dtype_policies.deserialize(policy) if isinstance(policy, dict) else policy
    if not isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        return config
    paths = {path.rpartition("/") for path in policy}
    owners = {owner.rpartition("/")[-1] for owner, _, _ in paths}
    if owners != {config.get("name")} or not {part for _, _, part in paths} <= set(PARTS):
        return config
    serialize = keras.dtype_policies.serialize
    parts = {path.rpartition("/")[-1]: {"dtype": serialize(policy[path])} for path in policy}
    return {**config, "dtype": policy.default_policy, "parts": parts}
