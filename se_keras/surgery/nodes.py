"""Classify single nodes of a graph for surgery."""

import itertools
import math
from typing import Any

import keras
from keras import KerasTensor, layers

from se_keras.graph import Graph, Node
from se_keras.layers import ChannelGate
from se_keras.rewrite.layer_kinds import CONVOLUTION_FORMS, kind_like
from se_keras.rewrite.squeeze_excite import format_of, is_own_layer, op_name, upstream

# The classes of keras.ops are not public, so operations are found by their class names.
ACTIVATION_OPS = {name.replace("_", "") for name in dir(keras.activations)} - {"linear"}
SCALING_OPS = {"multiply", "truedivide", "divide", "identity", "cast"}


def kernels(node: Node) -> list[int]:
    """Return the sizes of a node's kernels, 1 for a dense layer; empty if it has none.

    For a nested model these are all kernels, for a custom layer all weights with a kernel's rank.
    """
    if node.subgraph is not None:
        return [size for inner in node.subgraph.nodes for size in kernels(inner)]
    form = kind_like(node.op).form
    if form in CONVOLUTION_FORMS:
        size = math.prod(node.op.kernel_size)
        return [size, 1] if form == "separable" else [size]
    if form == "dense":
        return [1]
    if not is_own_layer(node):
        return []
    # A convolution's kernel has two axes of channels and at least one spatial axis.
    rank = max(3, len(node.outputs[0].shape))
    return [math.prod(w.shape[:-2]) for w in node.op.weights if len(w.shape) == rank]


def is_own_convolution(node: Node) -> bool:
    """Return whether a node is a custom layer with a convolution inside."""
    return is_own_layer(node) and bool(kernels(node))


def has_convolution(node: Node) -> bool:
    """Return whether a node is a convolution, or a nested model with one."""
    if node.subgraph is not None:
        return any(map(has_convolution, node.subgraph.nodes))
    return is_convolution(node)


def is_convolution(node: Node) -> bool:
    return kind_like(node.op).form in CONVOLUTION_FORMS or is_own_convolution(node)


def channels_of(graph: Graph, tensor: KerasTensor) -> int | None:
    """Return the number of channels of a map; `None` if it is unknown."""
    first = format_of(graph, graph.producer(tensor)) == "channels_first"
    return tensor.shape[1 if first else -1]


def dtype_policy_of(graph: Graph, tensor: KerasTensor) -> str | keras.DTypePolicy:
    """Return the policy of the nearest earlier layer that computes in the map's type."""
    for node in upstream(graph, graph.producer(tensor)):
        policy: Any = getattr(node.op, "dtype_policy", None)
        plain = type(policy) is keras.DTypePolicy
        if plain and policy.compute_dtype == tensor.dtype:
            return policy
    return tensor.dtype


def is_depthwise(node: Node) -> bool:
    groups = getattr(node.op, "groups", 1)
    each_channel = groups > 1 and groups == getattr(node.op, "filters", None)
    return kind_like(node.op).form == "depthwise" or each_channel


def is_separable(node: Node) -> bool:
    """Return whether a layer is a depthwise and a pointwise convolution in one."""
    return kind_like(node.op).form == "separable"


def is_addition(node: Node) -> bool:
    """Return whether a node adds maps of one shape, perhaps as a custom layer."""
    shapes = {tensor.shape for tensor in (*node.inputs, *node.outputs)}
    adds = isinstance(node.op, layers.Add) or op_name(node) == "add"
    return len(shapes) == 1 and (adds or (is_own_layer(node) and not node.op.weights))


def is_concatenation(node: Node) -> bool:
    return isinstance(node.op, layers.Concatenate) or op_name(node) == "concatenate"


def is_normalization(node: Node) -> bool:
    return kind_like(node.op).form == "normalization"


def is_scaling(node: Node) -> bool:
    """Return whether a node drops or scales its input: dropout, LayerScale, a constant factor."""
    if len(node.inputs) != 1 or len(node.outputs) != 1:
        return False
    if node.inputs[0].shape != node.output.shape:
        return False
    if is_own_layer(node):
        weights = node.op.weights
        return len(weights) <= 1 and all(len(weight.shape) <= 1 for weight in weights)
    linear = isinstance(node.op, layers.Activation) and not has_activation(node)
    return linear or kind_like(node.op).form == "scaling" or op_name(node) in SCALING_OPS


def has_activation(node: Node) -> bool:
    """Return whether a layer applies an activation, as `Conv2D(..., activation="relu")` does."""
    activation = getattr(node.op, "activation", None)
    return activation not in (None, keras.activations.linear)


def is_activation(node: Node) -> bool:
    """Return whether a node is only an activation."""
    linear = isinstance(node.op, layers.Activation) and not has_activation(node)
    is_layer = kind_like(node.op).form == "activation" and not linear
    return is_layer or (op_name(node) in ACTIVATION_OPS and len(node.inputs) == 1)


def is_prediction(node: Node) -> bool:
    """Return whether a node is a softmax, sigmoid or tanh, which predicts on an output map."""
    return is_gate(node) or _activation_name(node) == "tanh"


def is_gate(node: Node) -> bool:
    """Return whether a node is a softmax or sigmoid, which makes a factor a gate."""
    kinds = ("softmax", "sigmoid", "hard_sigmoid", "hardsigmoid")
    return _activation_name(node) in kinds or isinstance(node.op, layers.Softmax)


def _activation_name(node: Node) -> str:
    return getattr(getattr(node.op, "activation", None), "__name__", op_name(node))


def is_pool(node: Node) -> bool:
    return kind_like(node.op).form == "pool"


def ends_maps(node: Node) -> bool:
    """Return whether a node ends the feature maps: a global pool or a flattening."""
    return isinstance(node.op, layers.Flatten) or kind_like(node.op).form == "global pool"


def upsamples(node: Node) -> bool:
    if node.subgraph is not None:
        return any(map(upsamples, node.subgraph.nodes))
    resizes = isinstance(node.op, layers.Resizing) or op_name(node) in ("resize", "convtranspose")
    return resizes or kind_like(node.op).form in ("upsampling", "transposed")


def stride(node: Node) -> float:
    """Return the factor by which a node reduces the resolution; below 1 if it increases it."""
    form = kind_like(node.op).form
    if form == "upsampling":
        return 1 / _largest_factor(node.op.size)
    # Custom layers use either name.
    given = getattr(node.op, "strides", None) or getattr(node.op, "stride", None)
    if given is None and is_own_layer(node):
        return _shrinkage(node)
    factor = _largest_factor(given or 1)
    return 1 / factor if form == "transposed" else factor


def _shrinkage(node: Node) -> float:
    """Return the stride from the sizes, as a power of two: a convolution may drop a border."""
    before, after = (tensors[0].shape for tensors in (node.inputs, node.outputs))
    if len(before) != len(after) or len(before) < 3:
        return 1
    # With four or five axes, the third axis is spatial in both data formats.
    by_format = 1 if keras.config.image_data_format() == "channels_last" else 2
    axis = 2 if len(before) > 3 else by_format
    if not (before[axis] and after[axis]):
        return 1
    return 2.0 ** round(math.log2(before[axis] / after[axis]))


def _largest_factor(factors: int | tuple[int, ...]) -> int:
    return max(factors) if isinstance(factors, list | tuple) else factors


def is_squeeze_excite(node: Node) -> bool:
    """Return whether a node is SE or of its kin, or a custom layer of two small layers."""
    if isinstance(node.op, ChannelGate):
        return True
    if not is_own_layer(node) or {t.shape for t in node.inputs} != {t.shape for t in node.outputs}:
        return False
    return len(_matrix_shapes(node)) == 2 and holds_squeeze_excite(node)


def holds_squeeze_excite(node: Node) -> bool:
    """Return whether a custom layer has two dense layers in a row: C to fewer, and back."""
    pairs = itertools.pairwise(_matrix_shapes(node) if is_own_layer(node) else ())
    return any(
        math.prod((*first[:-2], *second[:-2])) == 1
        and first[-1] < first[-2]
        and second[-2:] == first[:-3:-1]
        for first, second in pairs
    )


def _matrix_shapes(node: Node) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in node.op.weights if len(weight.shape) >= 2]
