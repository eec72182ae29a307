"""Layers that are linear in the channels: what they compute, and the same with other weights."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from se_keras.graph import Graph, Node
from se_keras.rewrite.layer_kinds import LINEAR_FORMS, kind_of

Array = np.ndarray

# A rewritten layer never draws its weights, and nobody trains it.
_INFERENCE_CONFIG = {
    **{f"{part}_initializer": "zeros" for part in ("kernel", "depthwise", "pointwise", "bias")},
    **{
        f"{part}_{kind}": None
        for part in ("kernel", "depthwise", "pointwise", "bias", "activity")
        for kind in ("regularizer", "constraint")
    },
}


class LeftAlone(Exception):  # noqa: N818  (a reason, not an error)
    """Why a rule does not apply to a node of its kind."""


def array(variable: Any) -> Array:
    """The values of a weight in float64, in which weights are folded."""
    return keras.ops.convert_to_numpy(getattr(variable, "value", variable)).astype("float64")


def has_plain_weights(layer: keras.Layer) -> bool:
    """Return whether what a layer computes with are the numbers in its weights."""
    quantized = getattr(layer, "quantization_mode", None) is not None
    return not quantized and not getattr(layer, "lora_enabled", False)


def is_linear(node: Node) -> bool:
    """A convolution or dense layer without an activation, whose weights are plain numbers."""
    op = node.op
    return (
        kind_of(op).form in LINEAR_FORMS
        and op.activation in (None, keras.activations.linear)
        and has_plain_weights(op)
    )


def is_pointwise(node: Node) -> bool:
    """A dense layer, or a convolution over single positions, of stride 1."""
    op = node.op
    form = kind_of(op).form
    if form == "dense":
        return has_plain_weights(op)
    return form == "convolution" and {*op.kernel_size, *op.strides} == {1}


def called_once(graph: Graph, node: Node) -> bool:
    """Return whether a layer stands at one place of a graph only."""
    return sum(other.op is node.op for other in graph.nodes) == 1


def linear_before(graph: Graph, node: Node) -> Node:
    """The linear layer that gives a node its first input, and gives it to no other.

    Raises:
        LeftAlone: if there is none.
    """
    before = graph.producer(node.inputs[0])
    if not is_linear(before):
        raise LeftAlone("no linear layer is before it")
    if graph.sole_consumer(before.output) is not node:
        raise LeftAlone("others read the layer before it")
    if not called_once(graph, before):
        raise LeftAlone("the layer before it is called more than once")
    return before


def channel_axis(layer: keras.Layer, rank: int) -> int:
    """Which axis of its output, of so many axes, has the channels."""
    if isinstance(layer, layers.BatchNormalization):
        axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
        return axis % rank
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def scaled_weights(layer: keras.Layer, scale: Array) -> dict[str, Array]:
    """Weights with which a linear layer gives `scale * layer(x)`, per channel, by their names."""
    if kind_of(layer).form == "separable":
        weights = {
            "depthwise_kernel": array(layer.depthwise_kernel),
            "pointwise_kernel": array(layer.pointwise_kernel) * scale,
        }
    else:
        kernel = array(layer.kernel)
        weights = {"kernel": kernel * scale.reshape(_scale_shape(layer, kernel))}
    return {**weights, "bias": array(layer.bias) * scale} if layer.use_bias else weights


def scale_outputs(graph: Graph, node: Node, scale: Array, shift: Array | float = 0.0) -> Node:
    """A linear layer that gives `scale * layer(x) + shift`, per channel, in place of a layer."""
    weights = {"bias": np.zeros_like(scale), **scaled_weights(node.op, scale)}
    weights["bias"] = weights["bias"] + shift
    return with_weights(graph, node, weights, use_bias=True)


def _scale_shape(layer: keras.Layer, kernel: Array) -> tuple[int, ...]:
    form = kind_of(layer).form
    if form == "transposed":  # (..., out, in)
        return (kernel.shape[-2], 1)
    if form == "depthwise":  # (..., in, multiplier); the outputs are in that order
        return kernel.shape[-2:]
    return kernel.shape[-1:]


def with_weights(graph: Graph, node: Node, weights: Mapping[str, Array], **changes: Any) -> Node:
    """A copy of a layer on the same input, with other weights; `changes` are of its config."""
    known = node.op.get_config()
    config = {**known, **{k: v for k, v in _INFERENCE_CONFIG.items() if k in known}, **changes}
    layer = type(node.op).from_config(config)
    return add_with_weights(graph, layer, weights, *node.args, **node.kwargs)


def add_with_weights(
    graph: Graph, layer: keras.Layer, weights: Mapping[str, Array], *args: Any, **kwargs: Any
) -> Node:
    """Calls a new layer as `Graph.add` does, and sets its weights by their names."""
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
