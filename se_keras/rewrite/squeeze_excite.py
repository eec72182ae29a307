"""Squeeze-and-excitation in a graph: layers of it, and the same in layers of Keras.

Of the second kind is a product `x * f(x)` with one number a channel from f, if f begins with a
global pool of x and has weights. So it is in keras.applications' and KerasHub's networks. Names
play no part.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import keras
from keras import KerasTensor, layers

from se_keras.graph import Graph, Node, open_layer
from se_keras.layers import SqueezeExcite
from se_keras.rewrite.layer_kinds import is_stock, kind_like, kind_of

# The classes of keras.ops are not public, so operations go by the names of their classes.
REDUCTIONS = {"mean", "max", "min", "sum", "std", "var", "average", "median"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Gate:
    """One call of squeeze-and-excitation.

    Attributes:
        name: readable and unique in the model: that of the layer or of the product, or where Keras
            chose that one, of the last layer of the gate that has a name; with the path.
        graph: that the call is in.
        node: the call of `SqueezeExcite`, or the product.
        x: the map that is multiplied.
        factor: what it is multiplied by, (N, 1, 1, C); `None` inside a `SqueezeExcite` layer.
        nodes: from the pools to the factor, later ones first; none for a `SqueezeExcite` layer.
        axis: of the channels in `x`.
    """

    name: str
    graph: Graph
    node: Node
    x: KerasTensor
    factor: KerasTensor | None = None
    nodes: tuple[Node, ...] = ()
    axis: int

    @property
    def channels(self) -> int:
        return self.x.shape[self.axis]

    @property
    def scale(self) -> float:
        """Return the constant factor that the layer names: `gate_scale`."""
        return self.node.op.gate_scale if self.factor is None else 1.0


def find_gates(graph: Graph) -> dict[str, Gate]:
    """Return all squeeze-and-excitation of a graph and of those nested in it, by name.

    Example:

    >>> import keras
    >>> from se_keras.graph import trace
    >>> from se_keras.rewrite.squeeze_excite import find_gates
    >>> x = keras.Input((8, 8, 16))
    >>> s = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    >>> s = keras.layers.Dense(4, "relu", name="reduce")(s)
    >>> s = keras.layers.Dense(16, "sigmoid", name="expand")(s)
    >>> list(find_gates(trace(keras.Model(x, x * s))))
    ['expand']
    """
    found: dict[str, Gate] = {}
    for path, inner in graph.graphs():
        for gate in gates_of(inner, path):
            # A gate that multiplies twice is two.
            name = gate.name if gate.name not in found else path + gate.node.name
            found[name] = replace(gate, name=name)
    return found


def open_layers(graph: Graph, copies: bool = True) -> None:
    """Let layers of the user's that have squeeze-and-excitation inside be nested graphs.

    Such a graph can be read and computed, not built.

    Args:
        graph: it is changed, with those nested in it.
        copies: whether the layers are copied first, so that theirs do not remember the calls.
    """
    for _, inner in list(graph.graphs()):
        for node in inner.nodes:
            hides = is_own_layer(node) and node.op.weights and not inner.has_mask(node.inputs[0])
            opened = open_layer(node, copies) if hides else None
            if opened is not None:
                open_layers(opened, copies=False)
                node.subgraph = opened if find_gates(opened) else None


def gates_of(graph: Graph, path: str = "") -> Iterator[Gate]:
    """Yield the squeeze-and-excitation of one graph, without those nested in it."""
    for node in graph.nodes:
        gate = read_gate(graph, node, path)
        if gate is not None:
            yield gate


def read_gate(graph: Graph, node: Node, path: str = "") -> Gate | None:
    """Return the squeeze-and-excitation that a call is, if it is one."""
    if isinstance(node.op, SqueezeExcite):
        x = node.inputs[0]
        last = len(x.shape) - 1
        axis = 1 if node.op.data_format == "channels_first" else last
        return Gate(name=path + node.name, graph=graph, node=node, x=x, axis=axis)
    if not is_multiplication(node) or len(node.inputs) != 2:
        return None
    pairs = (node.inputs, node.inputs[::-1])
    for x, factor, axis in ((*pair, axis) for pair in pairs for axis in _channel_axes(node, *pair)):
        nodes = _nodes_from_pools(graph, factor, x, axis)
        if any(map(_has_weights, nodes)):
            name = path + _readable_name(node, nodes)
            return Gate(
                name=name, graph=graph, node=node, x=x, factor=factor, nodes=nodes, axis=axis
            )
    return None


def is_multiplication(node: Node) -> bool:
    """Return whether a node multiplies tensors, as a layer or as an operation."""
    return isinstance(node.op, layers.Multiply) or op_name(node) == "multiply"


def op_name(node: Node) -> str:
    """Return the name of an operation's class in lower case; empty for a layer."""
    return "" if isinstance(node.op, keras.Layer) else type(node.op).__name__.lower()


def is_own_layer(node: Node) -> bool:
    """Return whether a node is a layer of the user's: no model, and not one of `keras.layers`."""
    known = is_stock(node.op) or isinstance(node.op, SqueezeExcite)
    return isinstance(node.op, keras.Layer) and node.subgraph is None and not known


def upstream(graph: Graph, node: Node) -> Iterator[Node]:
    """Yield a node and all before it, near ones first; for a nested model its nodes."""
    seen: dict[Node, None] = {node: None}
    waiting = deque(seen)
    while waiting:
        node = waiting.popleft()
        yield from [node] if node.subgraph is None else reversed(node.subgraph.nodes)
        before = [graph.producer(tensor) for tensor in node.inputs]
        waiting.extend(each for each in before if each not in seen)
        seen.update(dict.fromkeys(before))


def format_of(graph: Graph, node: Node) -> str:
    """Return what the nearest layer that knows of one says, from a node backward."""
    near = (_own_data_format(each) for each in upstream(graph, node))
    return next(filter(None, near), keras.config.image_data_format())


def _own_data_format(node: Node) -> str | None:
    # Zero-padding alone is not asked. Keras has no other layer to pad channels with, so files that
    # were saved before `ChannelPadding` was here, and networks of others, give it the wrong format.
    padding = isinstance(node.op, layers.ZeroPadding2D)
    return None if padding else getattr(node.op, "data_format", None)


# --- one number a channel ------------------------------------------------------------------------


def _channel_axes(product: Node, x: KerasTensor, factor: KerasTensor) -> list[int]:
    """Return the axes of a map along which a factor may have a number each: one, or none."""
    rank = len(x.shape)
    missing = rank - len(factor.shape)
    # The layer gives a vector (N, C) axes after the first, NumPy before it.
    vector = missing > 0 and isinstance(product.op, layers.Multiply) and len(factor.shape) == 2
    if rank not in (3, 4, 5) or not (vector or missing == 0):
        return []
    sizes = (1, *[1] * missing, *factor.shape[1:])
    return [
        axis
        for axis in (rank - 1, 1)
        if sizes[axis] == x.shape[axis] is not None
        and {1} >= {size for other, size in enumerate(sizes) if other != axis}
    ]


# --- from the factor back to the pools -----------------------------------------------------------


def _nodes_from_pools(
    graph: Graph, factor: KerasTensor, x: KerasTensor, axis: int
) -> tuple[Node, ...]:
    """Return the nodes that compute a factor from global pools of a map alone, or none."""
    found: dict[Node, None] = {}
    waiting = [factor]
    while waiting:
        node = graph.producer(waiting.pop())
        if node in found:
            continue
        # The map itself, as in `x * sigmoid(x)`, or what is before it.
        if not node.inputs or any(tensor is x for tensor in node.outputs):
            return ()
        found[node] = None
        if not _pools(graph, node, x, axis):
            waiting.extend(node.inputs)
    return tuple(found)


def _pools(graph: Graph, node: Node, x: KerasTensor, axis: int) -> bool:
    """Return whether a call gives one number a channel of `x`, and takes nothing else."""
    mask = node.kwargs.get("mask")
    inputs = [tensor for tensor in node.inputs if tensor is not mask]
    if len(inputs) != 1 or len(node.outputs) != 1:
        return False
    kept = _axis_that_stays(graph, node, inputs[0])
    return kept is not None and _is_same_map(graph, inputs[0], kept, x, axis)


def _axis_that_stays(graph: Graph, node: Node, x: KerasTensor) -> int | None:
    """Return the only axis beside the batch that a call does not pool, or `None`."""
    op, rank = node.op, len(x.shape)
    by_format = 1 if getattr(op, "data_format", None) == "channels_first" else rank - 1
    form = kind_like(op).form
    if form == "global pool":
        return by_format
    if form == "pool" or (is_stock(op) and hasattr(op, "output_size")):  # or an adaptive one
        return by_format if _covers_all(op, x.shape, by_format) else None
    if op_name(node) in REDUCTIONS:
        kept = _axis_not_reduced(op.axis, rank)
        # The operation does not say what the other axes are: one number a row is no gate.
        last = format_of(graph, node) == "channels_last"
        return kept if kept == (rank - 1 if last else 1) else None
    if node.subgraph is not None:
        return _axis_of_model(node, rank)
    # What is in a layer of the user's can't be seen, but that it leaves one number a channel.
    if (is_own_layer(node) or isinstance(op, layers.Lambda)) and rank > 2:
        sizes = [size for size in node.output.shape[1:] if size != 1]
        return next((axis for axis in (rank - 1, 1) if sizes == [x.shape[axis]]), None)
    return None


def _covers_all(pool: keras.Layer, shape: tuple, channels: int) -> bool:
    """Return whether a pool has one window, which is the whole map."""
    if hasattr(pool, "output_size"):
        return set(pool.output_size) == {1}
    return tuple(pool.pool_size) == tuple(
        size for axis, size in enumerate(shape) if axis not in (0, channels)
    )


def _axis_not_reduced(axes: int | tuple[int, ...] | None, rank: int) -> int | None:
    given = [axes] if axes is None or isinstance(axes, int) else axes
    left = set(range(1, rank)) - {axis % rank for axis in given if axis is not None}
    reduces = None not in given and 0 not in given and len(left) == 1
    return left.pop() if reduces else None


def _axis_of_model(node: Node, rank: int) -> int | None:
    """Return the axis that a nested model pools its only input to, in all that it gives."""
    assert node.subgraph is not None  # or it calls no model
    inputs, outputs = (keras.tree.flatten(t) for t in (node.subgraph.inputs, node.subgraph.outputs))
    if len(inputs) != 1 or len(outputs) != 1:
        return None
    axes = (rank - 1, 1)
    return next(
        (a for a in axes if _nodes_from_pools(node.subgraph, outputs[0], inputs[0], a)), None
    )


def _is_same_map(graph: Graph, tensor: KerasTensor, axis: int, x: KerasTensor, of_x: int) -> bool:
    """Return whether a tensor has the channels of a map, at the axis that is said, unchanged."""
    while tensor is not x:
        node = graph.producer(tensor)
        rank = len(tensor.shape)
        passes = kind_of(node.op).inert or op_name(node) in ("cast", "identity")
        if not passes and not (_is_reshape(node) and axis == rank - 1):
            return False
        before = node.inputs[0]
        # A reshape may join the axes of space, where the channels are the last one.
        if before.shape[-1] != tensor.shape[-1]:
            return False
        axis += len(before.shape) - rank
        tensor = before
    return axis == of_x


def _is_reshape(node: Node) -> bool:
    return isinstance(node.op, layers.Reshape) or op_name(node) == "reshape"


# --- names ---------------------------------------------------------------------------------------


def _has_weights(node: Node) -> bool:
    return bool(getattr(node.op, "weights", ()))


def _readable_name(product: Node, nodes: tuple[Node, ...]) -> str:
    named = (node for node in (product, *filter(_has_weights, nodes)) if not _is_numbered(node))
    chosen = next(named, product)
    calls = (node.name for node in nodes if node.op is chosen.op)
    return min(calls, default=chosen.name, key=len)


def _is_numbered(node: Node) -> bool:
    """Return whether Keras chose the name: that of the class, and a number."""
    name = re.sub(r"(_\d+)?(#\d+)?$", "", node.name)
    return name.replace("_", "") == type(node.op).__name__.lower()
