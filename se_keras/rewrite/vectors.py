"""Rules for one engine: vectors (N, C) in place of maps (N, 1, 1, C) of a single position.

`write_dense` is for TensorFlow, which takes longer to start a convolution than a product of
matrices; in a small network that is longer than to compute it. Other engines would have to change
the layout of the map for a dense layer.

`write_vector` is for OpenVINO. If a global pool keeps the dimensions, OpenVINO 2026.4 takes longer
for the products with the gates: SE-MobileNet and EfficientNet-B0 at batch 8 by 3 % of the whole
network, as measured by `benchmarks.paired`. Why was not found; the kernels and layouts are equal.
"""

from typing import Any

import keras
from keras import KerasTensor, layers

from se_keras.graph import Graph, Node
from se_keras.rewrite.lowering import POOLS
from se_keras.rewrite.scaling import (
    LeftAlone,
    add_with_weights,
    has_plain_weights,
    inference_config,
    is_pointwise,
    pointwise_matrix,
    with_weights,
)


def write_dense(graph: Graph, node: Node) -> str | None:
    """Write a 1x1 convolution or dense layer on (N, 1, 1, C) as a dense layer on (N, C)."""
    layer = node.op
    if not is_pointwise(node) or {*node.inputs[0].shape[1:-1]} != {1}:
        return None
    if getattr(layer, "data_format", None) == "channels_first" or not has_plain_weights(layer):
        return None
    if getattr(layer, "groups", 1) > 1:
        return None
    if not _is_of_keras(layer.activation):
        raise LeftAlone("its activation may depend on the number of axes")
    if node.kwargs or graph.has_mask(node.inputs[0]):
        raise LeftAlone("its input has a mask")
    if graph.is_output(node.output):
        raise LeftAlone("its name is the name of an output")
    kernel, bias = pointwise_matrix(node)
    weights = {"kernel": kernel, **({"bias": bias} if layer.use_bias else {})}
    config = _config_of(layer, units=kernel.shape[-1], name=_plain_name(node))
    dense = layers.Dense.from_config(config)
    made = add_with_weights(graph, dense, weights, _vector(graph, node.inputs[0]))
    _put_map(graph, node, made.output)
    return "written as a dense layer on vectors"


def write_vector(graph: Graph, node: Node) -> str | None:
    """Let a global pool give vectors (N, C), and reshape them to (N, 1, 1, C)."""
    if type(node.op) not in POOLS.values() or not node.op.keepdims:
        return None
    if graph.is_output(node.output):
        raise LeftAlone("its name is the name of an output")
    vector = with_weights(graph, node, {}, keepdims=False).output
    _put_map(graph, node, vector)
    return "gives vectors, which are reshaped to maps"


def _put_map(graph: Graph, node: Node, vector: KerasTensor) -> None:
    """Replace the output of a node by a vector, reshaped to a map."""
    options = {"dtype": node.op.dtype_policy, "name": f"{_plain_name(node)}_map"}
    layer = layers.Reshape(tuple(node.output.shape[1:]), **options)
    graph.redirect(node.output, graph.add(layer, vector).output)


def _is_of_keras(activation: Any) -> bool:
    """Return whether an activation is of Keras: these depend at most on the last axis."""
    return getattr(keras.activations, getattr(activation, "__name__", ""), None) is activation


def _config_of(layer: keras.Layer, **changes: Any) -> dict[str, Any]:
    """Return the options of a layer that a dense layer has too, with changes."""
    config = {**inference_config(layer), **changes}
    return {key: config[key] for key in layers.Dense(1).get_config() if key in config}


def _vector(graph: Graph, x: KerasTensor) -> KerasTensor:
    """Return (N, 1, 1, C) as (N, C), if possible without another operation."""
    before = graph.producer(x)
    if type(before.op) is layers.Reshape and len(before.inputs[0].shape) == 2:
        return before.inputs[0]
    if type(before.op) in POOLS.values() and graph.sole_consumer(x) is not None:
        return with_weights(graph, before, {}, keepdims=False).output
    options = {"dtype": x.dtype, "name": f"{_plain_name(before)}_vector"}
    return graph.add(layers.Reshape((x.shape[-1],), **options), x).output


def _plain_name(node: Node) -> str:
    return node.name.replace("#", "_")
