"""`SqueezeExcite`: the SE block as one Keras layer."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

import keras

from se_keras import ops
from se_keras.support.arguments import (
    boolean,
    finite_number,
    one_of,
    positive_integer,
    refuse_unknown_options,
)
from se_keras.support.errors import InputError

PARTS = ("reduce", "expand")
# What `Model.quantize` and `Dense.enable_lora` change in a dense layer, as its config names it.
PART_OPTIONS = ("dtype", "quantization_config", "lora_rank", "lora_alpha")
# What every Keras layer takes.
KERAS_OPTIONS = ("name", "dtype", "trainable", "autocast", "activity_regularizer", "input_shape")


class LayerOptions(TypedDict, total=False):
    """What every Keras layer takes."""

    name: str | None
    dtype: Any
    trainable: bool
    autocast: bool
    activity_regularizer: Any


@keras.saving.register_keras_serializable(package="se_keras")
class SqueezeExcite(keras.layers.Layer):
    """Squeeze-and-excitation: each channel is multiplied by a gate that the whole map decides.

    Source: Hu et al., arXiv 1709.01507, section 3; the equations are in `se_keras.ops`.

    Args:
        ratio: reduction ratio r; the hidden width is `max(1, channels // ratio)`.
        reduced_channels: the hidden width itself, in place of `ratio`.
        divisor: rounds the hidden width that `ratio` gives to the nearest multiple, at least one.
            For even values this is timm's `make_divisible` with `round_limit=0`; its non-legacy
            networks use 8.
        pool: `"avg"` or `"max"` (paper, Table 11).
        activation: between the two layers; any Keras activation.
        gate_activation: makes the gate; any Keras activation (paper, Table 12).
        gate_scale: a constant that multiplies the gate. With 2 and `expand` at zero a sigmoid
            gate starts at exactly 1: the layer begins as the identity.
        use_bias: whether both layers have biases. The paper's ablations have none, the released
            weights do.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras' global setting.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint: for both layers, as in `keras.layers.Dense`.
        **kwargs: `name`, `dtype` and `trainable`, as in every Keras layer.

    Input and output shape:
        (N, H, W, C), or (N, L, C), or (N, D, H, W, C); with `"channels_first"` C is second.
        The spatial sizes may be unknown.

    Masks:
        With a mask, (N, *spatial) or its first axes, only the positions that it marks decide the
        gate, which multiplies all; the mask is handed on. A sample without any such position has
        the gate of a map of zeros.

    Attributes:
        reduce: the `Dense` layer W1, C -> hidden (after `build`).
        expand: the `Dense` layer W2, hidden -> C (after `build`).

    Raises:
        InputError: for an argument of the wrong kind, when the layer is made; for an input of
            another rank or an unknown number of channels, when it is built.

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
        refuse_unknown_options("SqueezeExcite", kwargs, KERAS_OPTIONS + se_options())
        super().__init__(**kwargs)
        self.supports_masking = True
        self.ratio = positive_integer("ratio", ratio)
        self.divisor = positive_integer("divisor", divisor)
        self.reduced_channels = reduced_channels
        if reduced_channels is not None:
            self.reduced_channels = positive_integer("reduced_channels", reduced_channels)
            if self.divisor != 1:
                raise InputError(
                    "`divisor` rounds the hidden width that `ratio` gives; with "
                    f"`reduced_channels={reduced_channels}` it must stay 1, got {divisor}."
                )
        self.pool = one_of("pool", pool, ops.POOLS)
        self.activation = resolve("activation", activation)
        self.gate_activation = resolve("gate_activation", gate_activation)
        self.gate_scale = finite_number("gate_scale", gate_scale)
        self.use_bias = boolean("use_bias", use_bias)
        self.data_format = ops.standardize_data_format(data_format)
        self.kernel_initializer = resolve("kernel_initializer", kernel_initializer)
        self.bias_initializer = resolve("bias_initializer", bias_initializer)
        self.kernel_regularizer = resolve("kernel_regularizer", kernel_regularizer)
        self.bias_regularizer = resolve("bias_regularizer", bias_regularizer)
        self.kernel_constraint = resolve("kernel_constraint", kernel_constraint)
        self.bias_constraint = resolve("bias_constraint", bias_constraint)
        self.part_options: dict[str, dict[str, Any]] = {}

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) not in (3, 4, 5):
            raise InputError(
                f"{self.name}: the input must be a feature map of rank 3, 4 or 5, "
                f"got the shape {tuple(input_shape)}."
            )
        channels = input_shape[1 if self.data_format == "channels_first" else -1]
        if channels is None:
            raise InputError(
                f"{self.name}: the number of channels must be known ({self.data_format}), "
                f"got the input shape {tuple(input_shape)}."
            )
        hidden = self.hidden_channels(channels)
        self.reduce = self._dense(channels, hidden, "reduce")
        self.expand = self._dense(hidden, channels, "expand")

    def hidden_channels(self, channels: int) -> int:
        """The width between the two layers, for an input of so many channels."""
        if self.reduced_channels is not None:
            return self.reduced_channels
        return hidden_width(channels, self.ratio, self.divisor)

    def call(self, inputs: ops.Tensor, mask: ops.Tensor | None = None) -> ops.Tensor:
        return ops.recalibrate(inputs, self.gate(inputs, mask), self.data_format)

    def gate(self, inputs: ops.Tensor, mask: ops.Tensor | None = None) -> ops.Tensor:
        """The excitation itself: what `call` multiplies the input by.

        Args:
            inputs: a map such as `call` takes.
            mask: true at the positions that count; `None` for all.

        Returns:
            (N, 1, 1, C), or (N, C, 1, 1) with `"channels_first"`; of the rank of the input.
            With a sigmoid its numbers lie between 0 and `gate_scale`.
        """
        if not self.built:
            self.build(inputs.shape)
        inputs = keras.ops.cast(inputs, self.compute_dtype)
        z = ops.squeeze(inputs, self.pool, self.data_format, mask)
        s = ops.excite(
            z, self.reduce, self.expand, self.activation, self.gate_activation, self.gate_scale
        )
        gate = keras.ops.cast(s, self.compute_dtype)
        return ops.expand_gate(gate, len(inputs.shape), self.data_format)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def compute_mask(self, inputs: ops.Tensor, mask: ops.Tensor | None = None) -> Any:
        return mask

    def get_config(self) -> dict[str, Any]:
        parts = self._changed_parts()
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "reduced_channels": self.reduced_channels,
            "divisor": self.divisor,
            "pool": self.pool,
            "activation": keras.activations.serialize(self.activation),
            "gate_activation": keras.activations.serialize(self.gate_activation),
            "gate_scale": self.gate_scale,
            "use_bias": self.use_bias,
            "data_format": self.data_format,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            **({"parts": parts} if parts else {}),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SqueezeExcite":
        config = _without_policy_map(config)
        parts = config.pop("parts", {})
        layer = super().from_config(config)
        layer.part_options = parts
        return layer

    def save_assets(self, dir_path: str) -> None:
        """Write how `reduce` and `expand` are quantized, if they are.

        A container whose config does not hold this layer makes it again as it was at first.
        """
        if parts := self._changed_parts():
            Path(dir_path, "parts.json").write_text(json.dumps(parts))

    def load_assets(self, dir_path: str | None) -> None:
        """Quantize `reduce` and `expand` as `save_assets` says; their weights are read later."""
        path = Path(dir_path, "parts.json") if dir_path else None
        if path is None or not path.exists():
            return
        for name, options in json.loads(path.read_text()).items():
            _change_part(getattr(self, name), _part_arguments(options))

    def _dense(self, width: int, units: int, name: str) -> keras.layers.Dense:
        options = _part_arguments(self.part_options.get(name, {}))
        dense = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=_clone_initializer(self.kernel_initializer),
            bias_initializer=_clone_initializer(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            name=name,
            **{"dtype": self._part_policy(name), **options},
        )
        dense.build((None, width))
        if "lora_alpha" in options:  # Keras forgets it when the layer is built
            dense.lora_alpha = options["lora_alpha"]
        return dense

    def _part_policy(self, name: str) -> Any:
        # Under a mixed policy the two layers keep the type of their variables: on (N, C) that
        # costs nothing, and in float16 their sums overflow on maps that are themselves finite.
        policy = self.dtype_policy
        if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
            own = policy[f"{self.path}/{name}"]
            if own != policy.default_policy:
                return own
            policy = own
        mixed = policy.compute_dtype != policy.variable_dtype
        if mixed and policy.quantization_mode is None:
            return keras.dtype_policies.DTypePolicy(policy.variable_dtype)
        return policy

    def _changed_parts(self) -> dict[str, dict[str, Any]]:
        # Never by path: that of the layer depends on the model that it is saved from.
        if not self.built:
            return dict(self.part_options)
        parts = {}
        for name in PARTS:
            part = getattr(self, name)
            changed = part.quantization_config is not None or part.lora_enabled
            if changed or part.dtype_policy != self._part_policy(name):
                config = part.get_config()
                parts[name] = {key: config[key] for key in PART_OPTIONS if key in config}
        return parts


def hidden_width(channels: int, ratio: int, divisor: int = 1) -> int:
    """Return how many hidden units `SqueezeExcite` has for a map of so many channels.

    Example:

    >>> from se_keras.layers import hidden_width
    >>> hidden_width(64, 16), hidden_width(64, 16, divisor=8)
    (4, 8)
    """
    nearest = channels // ratio + divisor // 2
    return max(divisor, nearest // divisor * divisor)


def se_options() -> tuple[str, ...]:
    """Return the names of the arguments of `SqueezeExcite`, without those of every Keras layer.

    Example:

    >>> from se_keras.layers import se_options
    >>> se_options()[:4]
    ('ratio', 'reduced_channels', 'divisor', 'pool')
    """
    return tuple(name for name in inspect.signature(SqueezeExcite).parameters if name != "kwargs")


def _without_policy_map(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the policies of the parts by name: once they were in a map, by path."""
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


def _part_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    deserialize = keras.saving.deserialize_keras_object
    return {key: deserialize(value) for key, value in options.items()}


def _change_part(part: keras.layers.Dense, options: Mapping[str, Any]) -> None:
    """Quantize a dense layer that is built, and give it its LoRA, as `options` have it."""
    policy = keras.dtype_policies.get(options["dtype"])
    if policy.quantization_mode != part.quantization_mode:
        part.quantize(policy.quantization_mode, config=options.get("quantization_config"))
    if "lora_rank" in options and not part.lora_enabled:
        part.enable_lora(options["lora_rank"], options["lora_alpha"])


def _clone_initializer(initializer: Any) -> Any:
    # An initializer draws the same values each time it is called: each layer needs its own.
    return initializer.clone() if isinstance(initializer, keras.Initializer) else initializer


def resolve(argument: str, value: Any) -> Any:
    """Return the activation, initializer, regularizer or constraint that `value` stands for.

    Args:
        argument: its name, which ends with what it is.
        value: a name, a config or a function.

    Raises:
        InputError: for anything else.

    Example:

    >>> from se_keras.layers import resolve
    >>> resolve("gate_activation", "sigmoid").__name__
    'sigmoid'
    """
    kind = argument.rpartition("_")[-1]
    get = {
        "activation": keras.activations.get,
        "initializer": keras.initializers.get,
        "regularizer": keras.regularizers.get,
        "constraint": keras.constraints.get,
    }[kind]
    try:
        return get(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`{argument}` must be a Keras {kind}, its name or a function, got {value!r}."
        ) from error
