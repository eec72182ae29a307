"""Find gates in a graph: layers of SE and its kin, and SE in layers of Keras.

A product `x * f(x)` is SE if f begins with a global pool of x, has weights, and gives one number
for each channel. This is how keras.applications and KerasHub write SE. Names are not used.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import keras
from keras import KerasTensor, layers

from se_keras.graph import Graph, Node, open_layer
from se_keras.layers import ChannelGate
from se_keras.rewrite.layer_kinds import is_stock, kind_like, kind_of

# The classes of keras.ops are not public, so operations are found by their class names.
REDUCTIONS = {"mean", "max", "min", "sum", "std", "var", "average", "median"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Gate:
    """One call of squeeze-and-excitation.

    Attributes:
        name: readable and unique name in the model, with the path: the name of the layer or the
            product, or, if Keras chose this name, of the last named layer of the gate.
        graph: the graph of the call.
        node: the call of the layer, or the product.
        x: the map that is multiplied.
        factor: the gate (N, 1, 1, C); `None` for a layer of this package.
        nodes: nodes from the pools to the gate, in reverse order; none for such a layer.
        axis: axis of the channels in `x`.
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
        """Return the constant factor of the layer, or twice that for a sum of two gates."""
        if self.factor is not None:
            return 1.0
        summed = getattr(self.node.op, "fusion", None) == "sum"
        return self.node.op.gate_scale * (2 if summed else 1)


def find_gates(graph: Graph) -> dict[str, Gate]:
    """Return all SE of a graph and of its nested graphs, by name.

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
            # A gate that multiplies two maps counts twice.
            name = gate.name if gate.name not in found else path + gate.node.name
            found[name] = replace(gate, name=name)
    return found


def open_layers(graph: Graph, copies: bool = True) -> None:
    """Turn custom layers that contain SE into nested graphs.

    Such a graph can be read and computed, but not built.

    Args:
        graph: the graph, which is changed with its nested graphs.
        copies: whether to copy the layers first, so that inner layers do not record the calls.
    """
    for _, inner in list(graph.graphs()):
        for node in inner.nodes:
            hides = is_own_layer(node) and node.op.weights and not inner.has_mask(node.inputs[0])
            opened = open_layer(node, copies) if hides else None
            if opened is not None:
                open_layers(opened, copies=False)
                node.subgraph = opened if find_gates(opened) else None


def gates_of(graph: Graph, path: str = "") -> Iterator[Gate]:
    """Yield the SE of one graph, without its nested graphs."""
    for node in graph.nodes:
        gate = read_gate(graph, node, path)
        if gate is not None:
            yield gate


def read_gate(graph: Graph, node: Node, path: str = "") -> Gate | None:
    """Return the gate of a call that is SE; `None` for other calls."""
    if isinstance(node.op, ChannelGate):
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
    """Return whether a node is a custom layer: neither a model nor a layer of Keras."""
    known = is_stock(node.op) or isinstance(node.op, ChannelGate)
    return isinstance(node.op, keras.Layer) and node.subgraph is None and not known


def upstream(graph: Graph, node: Node) -> Iterator[Node]:
    """Yield a node and all nodes before it, near nodes first; for a nested model its nodes."""
    seen: dict[Node, None] = {node: None}
    waiting = deque(seen)
    while waiting:
        node = waiting.popleft()
        yield from [node] if node.subgraph is None else reversed(node.subgraph.nodes)
        before = [graph.producer(tensor) for tensor in node.inputs]
        waiting.extend(each for each in before if each not in seen)
        seen.update(dict.fromkeys(before))


def format_of(graph: Graph, node: Node) -> str:
    """Return the data format of the nearest layer with one, from a node backward."""
    near = (_own_data_format(each) for each in upstream(graph, node))
    return next(filter(None, near), keras.config.image_data_format())


def _own_data_format(node: Node) -> str | None:
    # Ignore zero-padding: some networks pad channels with it, and give it the wrong format for
    # this.
    padding = isinstance(node.op, layers.ZeroPadding2D)
    return None if padding else getattr(node.op, "data_format", None)


# --- one number a channel ------------------------------------------------------------------------


def _channel_axes(product: Node, x: KerasTensor, factor: KerasTensor) -> list[int]:
    """Return the axis of a map along which a factor varies, as a list: one axis, or none."""
    rank = len(x.shape)
    missing = rank - len(factor.shape)
    # `Multiply` adds axes to a vector (N, C) after the first axis, NumPy before it.
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
    """Return the nodes that compute a factor only from global pools of a map, or none."""
    found: dict[Node, None] = {}
    waiting = [factor]
    while waiting:
        node = graph.producer(waiting.pop())
        if node in found:
            continue
        # It depends on the map itself, as in `x * sigmoid(x)`, or on an earlier map.
        if not node.inputs or any(tensor is x for tensor in node.outputs):
            return ()
        found[node] = None
        if not _pools(graph, node, x, axis):
            waiting.extend(node.inputs)
    return tuple(found)


def _pools(graph: Graph, node: Node, x: KerasTensor, axis: int) -> bool:
    """Return whether a call takes only `x`, and gives one number for each channel."""
    mask = node.kwargs.get("mask")
    inputs = [tensor for tensor in node.inputs if tensor is not mask]
    if len(inputs) != 1 or len(node.outputs) != 1:
        return False
    kept = _axis_that_stays(graph, node, inputs[0])
    return kept is not None and _is_same_map(graph, inputs[0], kept, x, axis)


def _axis_that_stays(graph: Graph, node: Node, x: KerasTensor) -> int | None:
    """Return the only axis besides the batch axis that a call does not pool, or `None`."""
    op, rank = node.op, len(x.shape)
    by_format = 1 if getattr(op, "data_format", None) == "channels_first" else rank - 1
    form = kind_like(op).form
    if form == "global pool":
        return by_format
    if form == "pool" or (is_stock(op) and hasattr(op, "output_size")):  # or an adaptive one
        return by_format if _covers_all(op, x.shape, by_format) else None
    if op_name(node) in REDUCTIONS:
        kept = _axis_not_reduced(op.axis, rank)
        # The operation does not say which axis has the channels: one number per row is not a gate.
        last = format_of(graph, node) == "channels_last"
        return kept if kept == (rank - 1 if last else 1) else None
    if node.subgraph is not None:
        return _axis_of_model(node, rank)
    # The inside of a custom layer is unknown; only its output shape shows one number per channel.
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
    """Return the axis to which a nested model pools its only input, in all outputs."""
    assert node.subgraph is not None  # or it calls no model
    inputs, outputs = (keras.tree.flatten(t) for t in (node.subgraph.inputs, node.subgraph.outputs))
    if len(inputs) != 1 or len(outputs) != 1:
        return None
    axes = (rank - 1, 1)
    return next(
        (a for a in axes if _nodes_from_pools(node.subgraph, outputs[0], inputs[0], a)), None
    )


def _is_same_map(graph: Graph, tensor: KerasTensor, axis: int, x: KerasTensor, of_x: int) -> bool:
    """Return whether a tensor has the unchanged channels of a map at the given axis."""
    while tensor is not x:
        node = graph.producer(tensor)
        rank = len(tensor.shape)
        passes = kind_of(node.op).inert or op_name(node) in ("cast", "identity")
        if not passes and not (_is_reshape(node) and axis == rank - 1):
            return False
        before = node.inputs[0]
        # A reshape may merge spatial axes if the channels are last.
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
    """Return whether Keras chose the name: the class name with a number."""
    name = re.sub(r"(_\d+)?(#\d+)?$", "", node.name)
    return name.replace("_", "") == type(node.op).__name__.lower()
