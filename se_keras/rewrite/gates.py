"""Rules for the gates of squeeze-and-excitation; `folding` describes rules.

`squeeze_before_pointwise` uses an identity: if the map is u = W y + b, a 1x1 convolution of a
narrower map y, then the squeeze and the first layer of the excitation can be computed from y:

    F mean(u) + f = (F W) mean(y) + (F b + f)

F W is one small matrix, and mean(y) has fewer values than mean(u). F can also be ECA's convolution,
or the identity if nothing linear follows the mean. A gate of positions, F u + f, needs no mean.
"""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import KerasTensor, layers

from se_keras.graph import Graph, Node, is_quantized
from se_keras.layers import ChannelGate
from se_keras.rewrite.factors import apply, factor, find_targets, put_factor, take_out
from se_keras.rewrite.layer_kinds import LINEAR_FORMS, kind_of
from se_keras.rewrite.lowering import CONVOLUTION_OF_RANK, POOLS
from se_keras.rewrite.scaling import (
    Array,
    LeftAlone,
    add_with_weights,
    array,
    channel_axis,
    has_plain_weights,
    is_linear,
    is_pointwise,
    pointwise_matrix,
    with_weights,
)
from se_keras.rewrite.squeeze_excite import Gate, read_gate

MEAN_POOLS = tuple(pool for (kind, _), pool in POOLS.items() if kind == "avg")


def fold_constant_gate(graph: Graph, node: Node) -> str | None:
    """Replace a gate that does not depend on the map by a constant factor.

    A gate is constant if one of its layers has only zeros: after a warm start, or if training
    switched it off.
    """
    gate = read_gate(graph, node)
    if gate is None:
        return None
    constant = _constant_of_layer(gate) if gate.factor is None else _constant_of_product(gate)
    if constant is None:
        return None
    put_factor(graph, node, gate.x, constant, gate.axis, f"{gate.name.replace('#', '_')}_constant")
    return "replaced by a constant factor: it does not depend on the map"


def _constant_of_layer(gate: Gate) -> Array | None:
    """Return the gate of a layer of this package, (C,), if it is the same for every map."""
    layer = gate.node.op
    last = layer.last_parts()
    if is_quantized(layer) or not last or not all(_is_constant(layer, name) for name in last):
        return None
    shape = [size or 1 for size in gate.x.shape]
    # With the larger of two products, the gate depends on the sign of the map.
    gates = [
        np.moveaxis(array(layer.gate(sign * keras.ops.ones(shape))), gate.axis, -1)
        for sign in (1, -1)
    ]
    found = np.concatenate([values.reshape(-1, gate.channels) for values in gates])
    return found[0] if np.all(found == found[0]) else None


def _is_constant(layer: ChannelGate, name: str) -> bool:
    """Return whether a layer inside has the same output for every map."""
    names = [name, "reduce"] if name == "expand" else [name]
    kernels = [w for n in names for w in getattr(layer, n).weights if w.name in ("kernel", "gamma")]
    return any(not np.any(array(kernel)) for kernel in kernels)


def _constant_of_product(gate: Gate) -> Array | None:
    """Return the gate in stock layers, (C,), if each path from the pools has a layer of zeros."""
    inside = frozenset(gate.nodes)
    nodes = [node for node in gate.graph.nodes if node in inside]
    if any(map(gate.graph.may_train, nodes)) or not any(map(_has_zeros, nodes)):
        return None
    values: dict[KerasTensor, Any] = {}
    constant: set[KerasTensor] = set()
    for node in nodes:
        if not values.keys() >= {*node.inputs}:  # a pool: use any map
            shapes = ([size or 1 for size in t.shape] for t in node.outputs)
            outputs = list(map(keras.ops.zeros, shapes, (t.dtype for t in node.outputs)))
        else:
            args, kwargs = keras.tree.map_structure(
                lambda leaf: values[leaf] if isinstance(leaf, KerasTensor) else leaf,
                (node.args, node.kwargs),
            )
            outputs = keras.tree.flatten(node.op(*args, **kwargs))
            if _has_zeros(node) or constant.issuperset(node.inputs):
                constant.update(node.outputs)
        values.update(zip(node.outputs, outputs, strict=True))
    return array(values[gate.factor]).ravel() if gate.factor in constant else None


def _has_zeros(node: Node) -> bool:
    """Return whether a layer's output is its bias for any input."""
    linear = kind_of(node.op).form in LINEAR_FORMS and has_plain_weights(node.op)
    kernels = [weight for weight in node.op.weights if "kernel" in weight.name] if linear else []
    return any(not np.any(array(kernel)) for kernel in kernels)


def fold_gate_scale(graph: Graph, node: Node) -> str | None:
    """Fold a constant factor of the gate into the convolution that the gate multiplies."""
    if type(node.op) is not layers.Rescaling:
        return None
    product = graph.sole_consumer(node.output)
    if product is None or type(product.op) is not layers.Multiply:
        return None
    maps = [x for x in product.inputs if x is not node.output]
    if len(maps) != 1 or np.ndim(node.op.scale) or np.any(node.op.offset):
        return None
    x = maps[0]
    if x.shape != product.output.shape or node.output.dtype != node.inputs[0].dtype:
        return None
    axis = channel_axis(graph.producer(x).op, len(x.shape))
    change = factor(np.full(x.shape[axis], float(node.op.scale)), axis)
    targets = find_targets(graph, product, x, change)
    take_out(graph, node)
    apply(graph, targets)
    return "folded into the layer that the gate multiplies"


def keep_dimensions(graph: Graph, node: Node) -> str | None:
    """Make a global pool keep its dimensions if its (N, C) is reshaped to (N, 1, 1, C)."""
    if type(node.op) is not layers.Reshape:
        return None
    pool = graph.producer(node.inputs[0])
    if type(pool.op) not in POOLS.values() or pool.op.keepdims:
        return None
    rank = len(pool.inputs[0].shape)
    shape = [1] * rank
    shape[channel_axis(pool.op, rank)] = pool.output.shape[-1]
    if tuple(node.output.shape[1:]) != tuple(shape[1:]):
        return None
    kept = with_weights(graph, pool, {}, keepdims=True)
    graph.redirect(node.output, kept.output)
    return "removed: the pool before it keeps the dimensions"


class _Matrix(NamedTuple):
    """The linear map that follows a mean: kernel (C, outputs), bias, and its number of weights.

    `end` is its output, and `layer` a pointwise convolution, without weights, that can compute it.
    """

    kernel: Array
    bias: Array
    weights: int
    end: KerasTensor
    layer: keras.Layer


def squeeze_before_pointwise(graph: Graph, node: Node) -> str | None:
    """Compute the gate from the narrow map before the last 1x1 convolution (see the module).

    At P positions, the mean of C channels reads C P numbers, and the matrix after it C times the
    number of outputs. ECA has a small kernel instead of this matrix, and gather-excite nothing. So
    the rule applies to SE if the map is narrower, and to these two only if the map is also large.
    """
    if type(node.op) not in MEAN_POOLS:
        return None
    after = _matrix_after(graph, node)
    if after is None:
        return None
    wide = graph.producer(node.inputs[0])
    rank = len(wide.output.shape)
    if channel_axis(node.op, rank) != channel_axis(wide.op, rank):
        raise LeftAlone("it averages over the channels")
    matrix, shift = _matrix_of_wide(wide)
    if node.kwargs.get("mask") is not None or graph.has_mask(wide.inputs[0]):
        raise LeftAlone("its input has a mask, which changes the average")
    narrow, channels = matrix.shape
    if narrow >= channels:
        raise LeftAlone("the map before the pointwise convolution is not narrower")
    positions = math.prod(size or 1 for size in wide.output.shape[1:-1])
    if channels * positions + after.weights <= narrow * (positions + len(after.bias)):
        raise LeftAlone("the matrix from the narrow map costs more than the mean of the wide one")
    weights = {"kernel": matrix @ after.kernel, "bias": shift @ after.kernel + after.bias}
    keepdims = True if type(after.layer) in CONVOLUTION_OF_RANK.values() else node.op.keepdims
    mean = graph.add(_copy(node.op, keepdims=keepdims), wide.inputs[0])
    made = add_with_weights(graph, _copy(after.layer, use_bias=True), weights, mean.output)
    graph.redirect(after.end, made.output)
    return "from the narrow map before the pointwise convolution, both matrices in one"


def point_before_pointwise(graph: Graph, node: Node) -> str | None:
    """Compute a gate of the positions from the narrow map before the last 1x1 convolution.

    The rule applies to any 1x1 convolution to fewer channels, if other layers also read its input.
    It then reads fewer numbers at each position.
    """
    layer = node.op
    if type(layer) not in CONVOLUTION_OF_RANK.values() or not is_pointwise(node):
        return None
    wide = graph.producer(node.inputs[0])
    groups = {layer.groups, getattr(wide.op, "groups", 1)}
    if groups != {1} or layer.filters >= node.inputs[0].shape[-1] or not has_plain_weights(layer):
        return None
    if type(wide.op) is not type(layer) or wide.op.data_format != layer.data_format:
        return None
    if not (is_linear(wide) and is_pointwise(wide)) or graph.sole_consumer(wide.output) is node:
        return None
    first, shift = pointwise_matrix(wide)
    if first.shape[0] >= first.shape[1] or wide.output.dtype != node.output.dtype:
        return None
    matrix, bias = pointwise_matrix(node)
    weights = {"kernel": first @ matrix, "bias": shift @ matrix + bias}
    made = add_with_weights(graph, _copy(layer, use_bias=True), weights, wide.inputs[0])
    graph.redirect(node.output, made.output)
    return "from the narrow map before the pointwise convolution, both matrices in one"


def _matrix_of_wide(wide: Node) -> tuple[Array, Array]:
    if not is_linear(wide):
        raise LeftAlone("it reads what an activation or another layer gives")
    if not is_pointwise(wide) or type(wide.op) is layers.Dense:
        raise LeftAlone("its input comes from a convolution that is not pointwise")
    return pointwise_matrix(wide)


def _matrix_after(graph: Graph, pool: Node) -> _Matrix | None:
    """Return the only consumer of a mean as a matrix, if it is linear or elementwise."""
    after = graph.sole_consumer(pool.output)
    if after is None:
        return None
    if is_pointwise(after) and getattr(after.op, "groups", 1) == 1:
        kernel, bias = pointwise_matrix(after)
        return _Matrix(kernel, bias, kernel.size, after.output, after.op)
    if getattr(pool.op, "data_format", None) != "channels_last":
        return None
    if type(after.op) is layers.Activation and pool.op.keepdims:
        channels = pool.output.shape[-1]
        layer = _pointwise_layer(pool, f"{pool.name.replace('#', '_')}_pointwise")
        return _Matrix(np.eye(channels), np.zeros(channels), 0, pool.output, layer)
    return _matrix_over_channels(graph, pool, after)


def _matrix_over_channels(graph: Graph, pool: Node, after: Node) -> _Matrix | None:
    """Return ECA's convolution over the channels, which is between two reshapes."""
    channels = pool.output.shape[-1]
    convolution = graph.sole_consumer(after.output)
    if convolution is None or not _is_over_channels(convolution):
        return None
    last = graph.sole_consumer(convolution.output)
    if last is None or {type(after.op), type(last.op)} != {layers.Reshape}:
        return None
    whole = (*[1] * (len(pool.inputs[0].shape) - 2), channels)
    if after.output.shape[1:] != (channels, 1) or last.output.shape[1:] != whole:
        return None
    taps = array(convolution.op.kernel).ravel()
    kernel = sum(tap * np.eye(channels, k=len(taps) // 2 - place) for place, tap in enumerate(taps))
    bias = array(convolution.op.bias) if convolution.op.use_bias else np.zeros(1)
    layer = _pointwise_layer(pool, convolution.name.replace("#", "_"))
    return _Matrix(kernel, np.resize(bias, channels), taps.size, last.output, layer)


def _is_over_channels(node: Node) -> bool:
    layer = node.op
    return (
        type(layer) is layers.Conv1D
        and is_linear(node)
        and (layer.filters, layer.padding, layer.data_format) == (1, "same", "channels_last")
        and {*layer.strides, *layer.dilation_rate} == {1}
        and layer.kernel_size[0] % 2 == 1
    )


def _pointwise_layer(pool: Node, name: str) -> keras.Layer:
    convolution = CONVOLUTION_OF_RANK[len(pool.inputs[0].shape) - 2]
    channels = pool.output.shape[-1]
    return convolution(
        channels, 1, data_format="channels_last", dtype=pool.op.dtype_policy, name=name
    )


def _copy(layer: keras.Layer, **changes: Any) -> keras.Layer:
    return type(layer).from_config({**layer.get_config(), **changes})
