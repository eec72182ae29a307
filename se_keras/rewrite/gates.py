"""Rules for the gates of squeeze-and-excitation; `folding` describes rules.

`squeeze_before_pointwise` uses an identity: if the map is u = W y + b, a 1x1 convolution of a
narrower map y, then the squeeze and the first layer of the excitation can be computed from y:

    F mean(u) + f = (F W) mean(y) + (F b + f)

F W is one small matrix, and mean(y) has fewer values than mean(u).
"""

from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers

from se_keras.graph import Graph, Node, is_quantized
from se_keras.layers import SqueezeExcite
from se_keras.rewrite.factors import apply, factor, find_targets, put_factor, take_out
from se_keras.rewrite.layer_kinds import LINEAR_FORMS, kind_of
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

CONVOLUTION_OF_RANK = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
POOLS = {
    (kind, rank): getattr(layers, f"Global{name}Pooling{rank}D")
    for kind, name in (("avg", "Average"), ("max", "Max"))
    for rank in CONVOLUTION_OF_RANK
}
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
    """Return the gate of a `SqueezeExcite` layer, (C,), if it is the same for every map."""
    layer = gate.node.op
    if type(layer) is not SqueezeExcite or is_quantized(layer):
        return None
    if np.any(array(layer.reduce.kernel)) and np.any(array(layer.expand.kernel)):
        return None
    shape = [1] * len(gate.x.shape)
    shape[gate.axis] = gate.channels
    return array(layer.gate(keras.ops.zeros(shape))).ravel()


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


def lower_squeeze_excite(graph: Graph, node: Node) -> str | None:
    """Write `SqueezeExcite` as layers of Keras: a global pool, two 1x1 convolutions, a product."""
    if type(node.op) is not SqueezeExcite:
        return None
    if is_quantized(node.op):
        raise LeftAlone("it is quantized")
    x = node.inputs[0]
    if node.kwargs.get("mask") is not None or graph.has_mask(x):
        raise LeftAlone("it takes a mask, which Keras' layers treat differently")
    name = node.name.replace("#", "_")  # each further call becomes a layer of its own
    gate = _add_gate(graph, node.op, x, name)
    product = graph.add(layers.Multiply(dtype=node.op.dtype_policy, name=name), [x, gate])
    graph.redirect(node.output, product.output)
    return "written as a pool, two pointwise layers and a product"


def _add_gate(graph: Graph, layer: SqueezeExcite, x: KerasTensor, name: str) -> KerasTensor:
    rank = len(x.shape) - 2
    last = layer.data_format == "channels_last"
    common: dict[str, Any] = {"dtype": layer.reduce.dtype_policy}
    pool = POOLS[layer.pool, rank](
        keepdims=last, data_format=layer.data_format, name=f"{name}_squeeze", **common
    )
    gate = graph.add(pool, x).output
    if not last:  # TensorFlow has no channels_first convolution on a CPU
        gate = _add_reshape(graph, gate, (*[1] * rank, x.shape[1]), f"{name}_channels_last", common)
    for part, activation in (
        (layer.reduce, layer.activation),
        (layer.expand, layer.gate_activation),
    ):
        options = {**common, "activation": activation, "name": f"{name}_{part.name}"}
        gate = _add_pointwise(graph, part, gate, options)
    if layer.gate_scale != 1:
        scale = layers.Rescaling(layer.gate_scale, name=f"{name}_scale", **common)
        gate = graph.add(scale, gate).output
    if not last:
        gate = _add_reshape(
            graph, gate, (x.shape[1], *[1] * rank), f"{name}_channels_first", common
        )
    return gate


def _add_reshape(
    graph: Graph, x: KerasTensor, shape: tuple[int, ...], name: str, common: dict[str, Any]
) -> KerasTensor:
    return graph.add(layers.Reshape(shape, name=name, **common), x).output


def _add_pointwise(
    graph: Graph, dense: layers.Dense, x: KerasTensor, options: dict[str, Any]
) -> KerasTensor:
    """Add a dense layer as a 1x1 convolution.

    Engines compute it in the layout of the map; a dense layer on (N, 1, 1, C) needs transposes.
    """
    convolution = CONVOLUTION_OF_RANK[len(x.shape) - 2](
        dense.units,
        1,
        use_bias=dense.use_bias,
        kernel_initializer="zeros",
        data_format="channels_last",
        **options,
    )
    weights = {"kernel": array(dense.kernel)}
    if dense.use_bias:
        weights["bias"] = array(dense.bias)
    return add_with_weights(graph, convolution, weights, x).output


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


def squeeze_before_pointwise(graph: Graph, node: Node) -> str | None:
    """Compute the gate from the narrow map before the last 1x1 convolution (see the module).

    The mean then reads C_in instead of C_out values at each position, and the first layer of the
    gate has C_in instead of C_out inputs. So the rule applies if C_in < C_out.
    """
    if type(node.op) not in MEAN_POOLS:
        return None
    reduce = graph.sole_consumer(node.output)
    if reduce is None or not is_pointwise(reduce) or getattr(reduce.op, "groups", 1) != 1:
        return None
    wide = graph.producer(node.inputs[0])
    rank = len(wide.output.shape)
    if channel_axis(node.op, rank) != channel_axis(wide.op, rank):
        raise LeftAlone("it averages over the channels")
    if not is_linear(wide):
        raise LeftAlone("it reads what an activation or another layer gives")
    if not is_pointwise(wide) or type(wide.op) is layers.Dense:
        raise LeftAlone("its input comes from a convolution that is not pointwise")
    matrix, shift = pointwise_matrix(wide)
    if node.kwargs.get("mask") is not None or graph.has_mask(wide.inputs[0]):
        raise LeftAlone("its input has a mask, which changes the average")
    if matrix.shape[0] >= matrix.shape[1]:
        raise LeftAlone("the map before the pointwise convolution is not narrower")
    first, bias = pointwise_matrix(reduce)
    weights = {"kernel": matrix @ first, "bias": shift @ first + bias}
    mean = graph.add(_copy(node.op), wide.inputs[0])
    made = add_with_weights(graph, _copy(reduce.op, use_bias=True), weights, mean.output)
    graph.redirect(reduce.output, made.output)
    return "from the narrow map before the pointwise convolution, both matrices in one"


def _copy(layer: keras.Layer, **changes: Any) -> keras.Layer:
    return type(layer).from_config({**layer.get_config(), **changes})
