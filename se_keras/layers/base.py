"""The base class of layers that compute a gate from a map and multiply the map by it."""

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypedDict, Unpack

import keras
import numpy as np

from se_keras import ops
from se_keras.support.arguments import (
    Check,
    boolean,
    keras_name,
    nonzero_number,
    one_of,
    refuse_unknown_options,
    shape,
)
from se_keras.support.errors import InputError, shown

# The options in a dense layer's config that `Model.quantize` and `Dense.enable_lora` change.
PART_OPTIONS = ("dtype", "quantization_config", "lora_rank", "lora_alpha")
# The options of every Keras layer.
KERAS_OPTIONS = ("name", "dtype", "trainable", "autocast", "activity_regularizer", "input_shape")
# torchvision's and timm's constants; momentum 0.1 of PyTorch is 0.9 of Keras.
NORM_EPSILON = 1e-5
NORM_MOMENTUM = 0.9
# Endings of argument names -> the functions of Keras that resolve them.
RESOLVED: dict[str, Any] = {
    "activation": keras.activations,
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}


class LayerOptions(TypedDict, total=False):
    """The options of every Keras layer."""

    name: str | None
    dtype: Any
    trainable: bool
    autocast: bool
    activity_regularizer: Any


class GateOptions(LayerOptions, total=False):
    """The options of every layer with a gate."""

    pool: str
    gate_activation: str | Callable | None
    gate_scale: float
    use_bias: bool
    data_format: str | None
    kernel_initializer: Any
    bias_initializer: Any
    kernel_regularizer: Any
    bias_regularizer: Any
    kernel_constraint: Any
    bias_constraint: Any


class ChannelGate(keras.layers.Layer):
    """A layer that multiplies a map by a gate that depends on the map.

    A subclass defines its inner layers (`part_names`, `part_shapes`, `build_parts`), its gate
    (`excite`), and the inner layers whose zero weights make the gate constant (`last_parts`).

    Args:
        pool: `"avg"` or `"max"`: reduces each channel to one number.
        gate_activation: activation of the gate; any Keras activation.
        gate_scale: a factor of the gate, other than 0.
        use_bias: whether the inner layers have biases.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras' global setting.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint: for all inner layers, as in `keras.layers.Dense`.
        **kwargs: `name`, `dtype` and `trainable`, as in every Keras layer.

    Input and output shape:
        (N, H, W, C), or (N, L, C), or (N, D, H, W, C); with `"channels_first"` C is second.
        The spatial sizes may be unknown.

    Masks:
        With a mask (N, *spatial), or the first axes of it, the gate depends only on the positions
        where the mask is true, but multiplies all positions. The mask is passed on. A sample
        without such positions has the gate of a map of zeros.

    Raises:
        InputError: if an argument is invalid (when the layer is made), or if the input has another
            rank or an unknown number of channels (when it is built).
    """

    def __init__(
        self,
        *,
        pool: str = "avg",
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
        refuse_unknown_options(type(self).__name__, kwargs, KERAS_OPTIONS + options_of(type(self)))
        super().__init__(**_checked(kwargs))
        self.supports_masking = True
        self.pool = one_of("pool", pool, ops.POOLS)
        self.gate_activation = resolve("gate_activation", gate_activation)
        self.gate_scale = nonzero_number("gate_scale", gate_scale)
        self.use_bias = boolean("use_bias", use_bias)
        self.data_format = ops.standardize_data_format(data_format)
        self.kernel_initializer = resolve("kernel_initializer", kernel_initializer)
        self.bias_initializer = resolve("bias_initializer", bias_initializer)
        self.kernel_regularizer = resolve("kernel_regularizer", kernel_regularizer)
        self.bias_regularizer = resolve("bias_regularizer", bias_regularizer)
        self.kernel_constraint = resolve("kernel_constraint", kernel_constraint)
        self.bias_constraint = resolve("bias_constraint", bias_constraint)
        self.part_options: dict[str, dict[str, Any]] = {}

    # --- subclasses -------------------------------------------------------------------------------

    # Whether `excite` takes the map with its channels last for any data format.
    excites_channels_last: ClassVar[bool] = False

    def part_names(self) -> tuple[str, ...]:
        """Return the attribute names of the inner layers, in the order of their weights."""
        raise NotImplementedError

    def part_shapes(self, channels: int, sizes: tuple) -> dict[str, tuple[tuple, tuple]]:
        """Return input and output shapes of inner layers with a kernel, without the batch axis."""
        raise NotImplementedError

    def map_parts(self) -> tuple[str, ...]:
        """Return the inner layers that take a map of many positions."""
        return ()

    def build_parts(self, channels: int, sizes: tuple[int | None, ...]) -> None:
        """Make the inner layers for a map with these channels and spatial sizes."""
        raise NotImplementedError

    def excite(self, inputs: ops.Tensor, mask: ops.Tensor | None) -> ops.Tensor:
        """Return the gate without `gate_scale`: (N, C), or with the rank of the input."""
        raise NotImplementedError

    def last_parts(self) -> tuple[str, ...]:
        """Return the inner layers that make the gate constant if their weights are zero."""
        return self.part_names()[-1:]

    def gate_at_zero(self, channels: int) -> float:
        """Return the gate at zero weights, without `gate_scale`, for a map with these channels."""
        return float(self.gate_activation(keras.ops.zeros((1, channels)))[0, 0])

    # --- shared methods --------------------------------------------------------------------------

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) not in (3, 4, 5):
            raise InputError(
                f"{self.name}: the input must be a feature map of rank 3, 4 or 5, "
                f"got the shape {tuple(input_shape)}."
            )
        _, *sizes = input_shape
        channels = sizes.pop(0 if self.data_format == "channels_first" else -1)
        if channels is None:
            raise InputError(
                f"{self.name}: the number of channels must be known ({self.data_format}), "
                f"got the input shape {tuple(input_shape)}."
            )
        self.build_parts(channels, tuple(sizes))

    def call(self, inputs: ops.Tensor, mask: ops.Tensor | None = None) -> ops.Tensor:
        return ops.recalibrate(inputs, self.gate(inputs, mask), self.data_format)

    def gate(self, inputs: ops.Tensor, mask: ops.Tensor | None = None) -> ops.Tensor:
        """Return the gate, by which `call` multiplies the input.

        Args:
            inputs: a map, as for `call`.
            mask: true at the positions to use; `None` for all.

        Returns:
            A tensor with the rank of the input, and size 1 for axes along which it is constant. One
            gate per channel has the shape (N, 1, 1, C), or (N, C, 1, 1) with `"channels_first"`.
            With a sigmoid, its values are between 0 and `gate_scale`.
        """
        inputs = ops.feature_map("inputs", inputs)
        if not self.built:
            self.build(inputs.shape)
        inputs = keras.ops.cast(inputs, self.compute_dtype)
        rank = len(inputs.shape)
        moved = self.excites_channels_last and self.data_format == "channels_first"
        gate = self.excite(keras.ops.moveaxis(inputs, 1, -1) if moved else inputs, mask)
        gate = gate if self.gate_scale == 1.0 else gate * self.gate_scale
        gate = keras.ops.cast(gate, self.compute_dtype)
        if moved and len(gate.shape) == rank:
            gate = keras.ops.moveaxis(gate, -1, 1)
        return ops.expand_gate(gate, rank, self.data_format)

    def warm_start_options(self) -> dict[str, float]:
        """Return the arguments with which the gate is exactly 1 after `start_at_zero`.

        Raises:
            InputError: if there are no such arguments.

        Example:

        >>> from se_keras import SqueezeExcite
        >>> SqueezeExcite().warm_start_options()
        {'gate_scale': 2.0}
        """
        if not self.last_parts():
            raise InputError(
                f"{self.name}: this {type(self).__name__} can't start as the identity, because "
                "none of its weights make the gate constant: pass warm_start=False."
            )
        # A softmax depends on the number of channels, so no single scale can compensate for it.
        at_zero, of_more = self.gate_at_zero(2), self.gate_at_zero(3)
        if not at_zero or at_zero != of_more or at_zero * (1 / at_zero) != 1:
            raise InputError(
                "`gate_activation` must have one value other than 0 at 0 for a warm start, got "
                f"{at_zero:g} for two channels and {of_more:g} for three: pass "
                "warm_start=False, or use 'sigmoid' or 'hard_sigmoid'."
            )
        return {"gate_scale": 1 / at_zero}

    def start_at_zero(self) -> None:
        """Set the weights of `last_parts` to zero; the layer must be built."""
        for name in self.last_parts():
            for weight in getattr(self, name).weights:
                # Not `trainable_weights`, which leaves out the weights of a frozen layer.
                if not weight.name.startswith("moving_"):
                    weight.assign(keras.ops.zeros(weight.shape, weight.dtype))

    def refuse_unused(self, unused: Collection[str], **given: Any) -> None:
        """Refuse arguments that differ from their defaults, but are not used.

        Args:
            unused: names of the arguments.
            **given: the arguments that do not use them.

        Raises:
            InputError: if an unused argument differs from its default.
        """
        defaults = _defaults_of(type(self))
        others = " and ".join(f"`{other}={shown(value)}`" for other, value in given.items())
        for name in sorted(unused):
            value, default = getattr(self, name), _resolved(name, defaults[name])
            if not _is_alike(value, default):
                raise InputError(
                    f"`{name}` must stay at its default with {others}, which do not use it, got "
                    f"{shown(value)}."
                )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def compute_mask(self, inputs: ops.Tensor, mask: ops.Tensor | None = None) -> Any:
        return mask

    # --- the config ------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        parts = self._changed_parts()
        return {
            **super().get_config(),
            **{name: _serialize(name, getattr(self, name)) for name in options_of(type(self))},
            **({"parts": parts} if parts else {}),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ChannelGate":
        config = dict(config)
        parts = config.pop("parts", {})
        layer = super().from_config(config)
        layer.part_options = parts
        return layer

    def save_assets(self, dir_path: str) -> None:
        """Write the quantization of the inner layers, if there is any.

        A container whose config does not include this layer recreates it without quantization.
        """
        if parts := self._changed_parts():
            Path(dir_path, "parts.json").write_text(json.dumps(parts))

    def load_assets(self, dir_path: str | None) -> None:
        """Quantize the inner layers as saved by `save_assets`; their weights are loaded later."""
        path = Path(dir_path, "parts.json") if dir_path else None
        if path is None or not path.exists():
            return
        for name, options in json.loads(path.read_text()).items():
            _change_part(getattr(self, name), _part_arguments(options))

    # --- inner layers ----------------------------------------------------------------------------

    def make_part(
        self,
        kind: type[keras.layers.Layer],
        name: str,
        shape: tuple[int | None, ...],
        *,
        kernel: str = "kernel",
        **arguments: Any,
    ) -> None:
        """Make an inner layer with weights, with the arguments that all of them share.

        Args:
            kind: class of the layer.
            name: name of the layer and of its attribute.
            shape: shape of its input.
            kernel: prefix of the kernel's arguments in its class.
            **arguments: further arguments of the class.
        """
        options = _part_arguments(self.part_options.get(name, {}))
        shared = {
            "use_bias": self.use_bias,
            "bias_initializer": _clone_initializer(self.bias_initializer),
            "bias_regularizer": self.bias_regularizer,
            "bias_constraint": self.bias_constraint,
            f"{kernel}_initializer": _clone_initializer(self.kernel_initializer),
            f"{kernel}_regularizer": self.kernel_regularizer,
            f"{kernel}_constraint": self.kernel_constraint,
            "dtype": self.part_policy(name),
        }
        part = kind(name=name, **{**shared, **arguments, **options})
        part.build(shape)
        if "lora_alpha" in options:  # building the layer resets it
            part.lora_alpha = options["lora_alpha"]
        setattr(self, name, part)

    def make_norm(self, name: str, shape: tuple[int | None, ...]) -> None:
        """Make, build and keep a batch normalization, as `make_part` does."""
        policy = self.part_policy(name)
        norm = keras.layers.BatchNormalization(
            momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, name=name, dtype=policy
        )
        norm.build(shape)
        setattr(self, name, norm)

    def part_policy(self, name: str) -> Any:
        """Return the dtype policy of an inner layer."""
        # Under a mixed policy, layers on (N, C) compute in the type of their variables: this costs
        # nothing, and in float16 their sums could overflow.
        policy = self.dtype_policy
        if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
            own = policy[f"{self.path}/{name}"]
            if own != policy.default_policy:
                return own
            policy = own
        mixed = policy.compute_dtype != policy.variable_dtype
        if mixed and policy.quantization_mode is None and name not in self.map_parts():
            return keras.dtype_policies.DTypePolicy(policy.variable_dtype)
        return policy

    def _changed_parts(self) -> dict[str, dict[str, Any]]:
        # Not by path, because a layer's path depends on the model that contains it.
        if not self.built:
            return dict(self.part_options)
        parts = {}
        for name in self.part_names():
            part = getattr(self, name)
            changed = getattr(part, "quantization_config", None) is not None
            changed = changed or getattr(part, "lora_enabled", False)
            if changed or part.dtype_policy != self.part_policy(name):
                config = part.get_config()
                parts[name] = {key: config[key] for key in PART_OPTIONS if key in config}
        return parts


def options_of(kind: type[ChannelGate]) -> tuple[str, ...]:
    """Return the names of the arguments that a layer adds to every Keras layer's.

    Example:

    >>> from se_keras.layers import ChannelGate, options_of
    >>> options_of(ChannelGate)[:3]
    ('pool', 'gate_activation', 'gate_scale')
    """
    return tuple(_defaults_of(kind))


def _defaults_of(kind: type[ChannelGate]) -> dict[str, Any]:
    kinds = kind.__mro__[: kind.__mro__.index(ChannelGate) + 1]
    parameters = [p for each in kinds for p in inspect.signature(each).parameters.values()]
    named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    defaults: dict[str, Any] = {}
    for parameter in named:  # the first parameter of a name is the subclass's
        defaults.setdefault(parameter.name, parameter.default)
    return defaults


def _part_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    deserialize = keras.saving.deserialize_keras_object
    return {key: deserialize(value) for key, value in options.items()}


def _change_part(part: keras.layers.Dense, options: Mapping[str, Any]) -> None:
    """Quantize a built dense layer and enable LoRA, according to `options`."""
    policy = keras.dtype_policies.get(options["dtype"])
    if policy.quantization_mode != part.quantization_mode:
        part.quantize(policy.quantization_mode, config=options.get("quantization_config"))
    if "lora_rank" in options and not part.lora_enabled:
        part.enable_lora(options["lora_rank"], options["lora_alpha"])


def _clone_initializer(initializer: Any) -> Any:
    # An initializer draws the same values at each call, so each layer needs its own.
    return initializer.clone() if isinstance(initializer, keras.Initializer) else initializer


def resolve(argument: str, value: Any) -> Any:
    """Return the activation, initializer, regularizer or constraint that `value` stands for.

    Args:
        argument: name of the argument, whose last word is its kind.
        value: a name, a config or a function.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.layers import resolve
    >>> resolve("gate_activation", "sigmoid").__name__
    'sigmoid'
    """
    kind = argument.rpartition("_")[-1]
    message = f"`{argument}` must be a Keras {kind}, its name or a function, got {shown(value)}."
    # Keras takes arrays as initializers, but their one shape can't fit all inner layers.
    if isinstance(value, np.ndarray | np.generic) or keras.ops.is_tensor(value):
        raise InputError(message)
    try:
        return RESOLVED[kind].get(value)
    except Exception as error:  # an object of any class may raise any error
        raise InputError(message) from error


def resolve_dtype(argument: str, value: Any) -> keras.DTypePolicy:
    """Return the dtype policy that `value` stands for.

    Args:
        argument: name of the argument.
        value: a name, a config, a policy, or `None` for Keras' global policy.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.layers import resolve_dtype
    >>> resolve_dtype("dtype", "mixed_bfloat16").compute_dtype
    'bfloat16'
    """
    wanted = f"`{argument}` must be a Keras dtype policy, such as 'mixed_bfloat16'"
    try:
        policy = keras.dtype_policies.get(value)
    except Exception as error:  # an object of any class may raise any error
        raise InputError(f"{wanted}, got {shown(value)}.") from error
    if "float" not in str(policy.compute_dtype):
        raise InputError(f"{wanted}, got {shown(value)}, which is not of floats.")
    return policy


# Checks for the options of every Keras layer: Keras' own errors would not name the argument.
KERAS_CHECKS: dict[str, Check] = {
    "name": keras_name,
    "dtype": resolve_dtype,
    "trainable": boolean,
    "autocast": boolean,
    "activity_regularizer": resolve,
    "input_shape": shape,
}
MAY_BE_NONE = ("name", "dtype", "activity_regularizer", "input_shape")


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    checked = dict(options)
    for name, value in options.items():
        if name in KERAS_CHECKS and not (value is None and name in MAY_BE_NONE):
            checked[name] = KERAS_CHECKS[name](name, value)
    return checked


def _resolved(argument: str, value: Any) -> Any:
    return resolve(argument, value) if argument.rpartition("_")[-1] in RESOLVED else value


def _is_alike(first: Any, second: Any) -> bool:
    # Not by `serialize`: while a file is read or written, Keras marks what has the address of an
    # earlier object, which may be gone.
    if type(first) is type(second) and hasattr(first, "get_config"):
        return first.get_config() == second.get_config()
    return first == second


def _serialize(argument: str, value: Any) -> Any:
    module = RESOLVED.get(argument.rpartition("_")[-1])
    return value if module is None else module.serialize(value)
