"""Read the weights of linear layers, and add copies of layers with other weights."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from se_keras.graph import Graph, Node
from se_keras.rewrite.layer_kinds import LINEAR_FORMS, kind_of

Array = np.ndarray

# Rewritten layers are for inference: drop initializers, regularizers and constraints.
_INFERENCE_CONFIG = {
    **{f"{part}_initializer": "zeros" for part in ("kernel", "depthwise", "pointwise", "bias")},
    **{
        f"{part}_{kind}": None
        for part in ("kernel", "depthwise", "pointwise", "bias", "activity")
        for kind in ("regularizer", "constraint")
    },
}


class LeftAlone(Exception):  # noqa: N818  (a reason, not an error)
    """The reason why a rule does not apply to a node of its kind.

    Args:
        text: the reason; `{}` stands for the layer that prevents it.
        node: the layer that prevents it.
    """

    def __init__(self, text: str, node: Node | None = None):
        super().__init__(text)
        self.node = node

    def __str__(self) -> str:
        return self.args[0].format("the layer before it")

    def naming(self, path: str) -> str:
        """Return the reason, with the path and name of the layer that prevents the rule."""
        return self.args[0].format(path + self.node.name if self.node else "")


def array(variable: Any) -> Array:
    """Return the values of a weight in float64, the type for folding."""
    return keras.ops.convert_to_numpy(getattr(variable, "value", variable)).astype("float64")


def has_plain_weights(layer: keras.Layer) -> bool:
    """Return whether a layer computes directly with its weights (without quantization or LoRA)."""
    quantized = getattr(layer, "quantization_mode", None) is not None
    return not quantized and not getattr(layer, "lora_enabled", False)


def is_linear(node: Node) -> bool:
    """Return whether a node is linear: a convolution or dense layer with plain weights."""
    op = node.op
    return (
        kind_of(op).form in LINEAR_FORMS
        and op.activation in (None, keras.activations.linear)
        and has_plain_weights(op)
    )


def is_pointwise(node: Node) -> bool:
    """Return whether a node is a dense layer, or a 1x1 convolution of stride 1."""
    op = node.op
    form = kind_of(op).form
    if form == "dense":
        return has_plain_weights(op)
    return form == "convolution" and {*op.kernel_size, *op.strides} == {1}


def channel_axis(layer: keras.Layer, rank: int) -> int:
    """Return the axis of the channels in an output of the given rank."""
    if isinstance(layer, layers.BatchNormalization):
        axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
        return axis % rank
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def scaled(graph: Graph, node: Node, scale: Array, shift: Array, training: bool = False) -> Node:
    """Add a copy of a layer that computes `scale * layer(x) + shift` for each channel.

    Args:
        graph: the graph of the layer.
        node: a linear layer or a batch normalization.
        scale, shift: numbers (C,).
        training: whether the result must also be equal in training.
    """
    op = node.op
    normalizes = type(op) is layers.BatchNormalization
    kernel, bias, switch = ("gamma", "beta", "center") if normalizes else _names(op)
    weights = {weight.name: array(weight) for weight in op.weights}
    values = weights.get(kernel, np.ones_like(scale))
    weights[kernel] = values * scale.reshape(_scale_shape(op, values))
    changes = {switch: bool(np.any(shift)) or getattr(op, switch)}
    if changes[switch]:
        weights[bias] = weights.get(bias, 0.0) * scale + shift
    if normalizes:
        changes["scale"] = True
    return with_weights(graph, node, weights, training, **changes)


def _names(layer: keras.Layer) -> tuple[str, str, str]:
    separable = kind_of(layer).form == "separable"
    return "pointwise_kernel" if separable else "kernel", "bias", "use_bias"


def _scale_shape(layer: keras.Layer, kernel: Array) -> tuple[int, ...]:
    form = kind_of(layer).form
    if form == "transposed":  # (..., out, in)
        return (kernel.shape[-2], 1)
    if form == "depthwise":  # (..., in, multiplier), the order of the outputs
        return kernel.shape[-2:]
    return kernel.shape[-1:]


def inference_config(layer: keras.Layer) -> dict[str, Any]:
    """Return the config of a layer without the options that only training needs."""
    config = layer.get_config()
    return {**config, **{k: v for k, v in _INFERENCE_CONFIG.items() if k in config}}


def with_weights(
    graph: Graph, node: Node, weights: Mapping[str, Array], training: bool = False, **changes: Any
) -> Node:
    """Add a copy of a layer on the same input, with other weights and changes of its config."""
    config = node.op.get_config() if training else inference_config(node.op)
    layer = type(node.op).from_config({**config, **changes})
    new = add_with_weights(graph, layer, weights, *node.args, **node.kwargs)
    for weight in node.op.weights:
        getattr(layer, weight.name).trainable = weight.trainable
    return new


def add_with_weights(
    graph: Graph, layer: keras.Layer, weights: Mapping[str, Array], *args: Any, **kwargs: Any
) -> Node:
    """Call a new layer as `Graph.add` does, and set its weights by their names."""
    node = graph.add(layer, *args, **kwargs)
    for name, value in weights.items():
        variable = getattr(layer, name)
        variable.assign(value.reshape(variable.shape))
    return node


def pointwise_matrix(node: Node) -> tuple[Array, Array]:
    """Return the kernel (C_in, C_out) and the bias (C_out,) of a pointwise layer."""
    kernel = array(node.op.kernel)
    kernel = kernel.reshape(*kernel.shape[-2:])
    bias = array(node.op.bias) if node.op.use_bias else np.zeros(kernel.shape[-1])
    groups = getattr(node.op, "groups", 1)
    if groups > 1:
        blocks = np.split(kernel, groups, axis=-1)
        full = np.zeros((groups, kernel.shape[0], groups, blocks[0].shape[-1]))
        for group, block in enumerate(blocks):
            full[group, :, group] = block
        kernel = full.reshape(groups * kernel.shape[0], -1)
    return kernel, bias
