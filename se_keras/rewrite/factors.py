"""Move a constant factor for each channel back through layers that commute, into weights:

    c * relu(pool(W x + b)) = relu(pool((c W) x + c b))        for c >= 0

Batch normalization is a factor and a shift; a constant gate is a factor. A shift moves through
fewer layers. Some moves are only valid in inference.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import KerasTensor, layers

from se_keras.graph import Graph, Node
from se_keras.layers import ChannelGate
from se_keras.rewrite.layer_kinds import LINEAR_FORMS, is_stock, kind_of, passing, passing_of
from se_keras.rewrite.scaling import Array, LeftAlone, channel_axis, has_plain_weights, scaled

OVER_SPACE = ("pool", "upsampling", "other")


class Change(NamedTuple):
    """The change `scale * x + shift`, with (C,) numbers along one axis of x."""

    scale: Array
    shift: Array
    axis: int

    def passes(self, factors: str, shifts: bool = False) -> bool:
        """Return whether the change moves through a layer that passes these factors and shifts."""
        if np.any(self.shift) and not shifts:
            return False
        return factors == "all" or (factors == "positive" and bool(self.scale.min() >= 0))

    def split(self, sizes: Sequence[int]) -> list["Change"]:
        """Split the change for maps with these numbers of channels, in this order."""
        ends = np.cumsum(sizes)[:-1]
        parts = zip(np.split(self.scale, ends), np.split(self.shift, ends), strict=True)
        return [Change(scale, shift, self.axis) for scale, shift in parts]


class Target(NamedTuple):
    """A layer that takes a change, or the part for its channels."""

    node: Node
    change: Change


def factor(scale: Array, axis: int) -> Change:
    """Return a change that only multiplies."""
    return Change(scale, np.zeros_like(scale), axis)


def put_factor(
    graph: Graph, node: Node, x: KerasTensor, scale: Array, axis: int, name: str
) -> Node:
    """Replace the product of a map and its gate by a constant factor.

    Args:
        graph: the graph of the product.
        node: the product: any call that computes `x` times a gate.
        x: the map that the product takes.
        scale: factors (C,) along `axis` of `x`.
        axis: the axis of the channels.
        name: name of the new `Rescaling` layer.

    Raises:
        LeftAlone: if the map has a mask, which a product of Keras passes on differently.
    """
    if graph.has_mask(x) and not isinstance(node.op, ChannelGate):
        raise LeftAlone("its map has a mask, which a constant factor would pass on differently")
    shape = [1] * len(x.shape)
    shape[axis] = len(scale)
    # With all axes, because Keras would reshape a vector by the global data format.
    layer = layers.Rescaling(scale.reshape(shape).tolist(), dtype=node.output.dtype, name=name)
    constant = graph.add(layer, x)
    graph.redirect(node.output, constant.output)
    return constant


def fold_factor(graph: Graph, node: Node) -> str | None:
    """Fold a constant factor and offset into the weights of the layers before."""
    if type(node.op) is not layers.Rescaling:
        return None
    return fold(graph, node, _change_of(graph, node))


def fold(graph: Graph, node: Node, change: Change, training: bool = False) -> str:
    """Remove a node that changes its map, and fold the change into the layers before.

    Args:
        graph: the graph of the node.
        node: the node.
        change: the change of the map.
        training: whether the result must also be equal in training.

    Returns:
        A description in words.

    Raises:
        LeftAlone: if no layers before it can take the change.
    """
    targets = find_targets(graph, node, node.inputs[0], change, training)
    take_out(graph, node)
    apply(graph, targets, training)
    if not targets:
        return "removed: it changes nothing"
    return f"folded into the layer{'s' * (len(targets) > 1)} before it"


def take_out(graph: Graph, node: Node) -> None:
    """Make the consumers of a node's output take its input."""
    graph.redirect(node.output, node.inputs[0])


def apply(graph: Graph, targets: Sequence[Target], training: bool = False) -> None:
    """Replace the found layers by layers with changed weights."""
    for node, change in targets:
        new = scaled(graph, node, change.scale, change.shift, training)
        graph.redirect(node.output, new.output)


def find_targets(
    graph: Graph, node: Node, x: KerasTensor, change: Change, training: bool = False
) -> list[Target]:
    """Return the layers that can apply a change to a node's input; none if nothing changes.

    Args:
        graph: the graph of the node, which is not changed.
        node: the node.
        x: the map that the node takes.
        change: the change of the map.
        training: whether the result must also be equal in training.

    Raises:
        LeftAlone: if a layer on the way does not pass the change, or can't take it.
    """
    if node.output.dtype != x.dtype:
        raise LeftAlone("it changes the type")
    if np.all(change.scale == 1) and not np.any(change.shift):
        return []
    return list(_targets(graph, node, x, change, training))


def _targets(
    graph: Graph, node: Node, x: KerasTensor, change: Change, training: bool
) -> Iterator[Target]:
    before = graph.producer(x)
    if graph.sole_consumer(x) is not node:
        raise LeftAlone("others read {} too", before)
    if _lets_through(graph, before, change, training):
        parts = [(before.inputs[0], change)]
    else:
        parts = _parts(before, change)
    if not parts:
        _refuse(graph, before, change)
        yield Target(before, change)
    for part, of_part in parts:
        yield from _targets(graph, before, part, of_part, training)


def _lets_through(graph: Graph, node: Node, change: Change, training: bool) -> bool:
    """Return whether changing a layer's only input changes its output in the same way."""
    kind = kind_of(node.op)
    if len(node.inputs) != 1 or len(node.outputs) != 1:
        return False
    if kind.inert and not training and not graph.may_train(node):
        return True
    if kind.form in OVER_SPACE and channel_axis(node.op, len(node.output.shape)) != change.axis:
        return False
    return change.passes(passing(node.op), kind.shifts)


def _parts(node: Node, change: Change) -> list[tuple[KerasTensor, Change]]:
    """Return the maps that a node joins or adds, with their changes; none for other nodes."""
    maps, shape, axis = node.inputs, node.outputs[0].shape, change.axis
    if len(maps) < 2 or len(set(maps)) < len(maps):
        return []
    if isinstance(node.op, keras.Layer) and not is_stock(node.op):
        return []
    name = type(node.op).__name__  # operations of keras.ops have the same names
    sizes = [part.shape[axis] for part in maps]
    if name == "Concatenate" and node.op.axis % len(shape) == axis:
        return list(zip(maps, change.split(sizes), strict=True))
    if name == "Add" and all(part.shape == shape for part in maps):
        unshifted = factor(change.scale, axis)
        return [(maps[0], change), *((part, unshifted) for part in maps[1:])]
    return []


def _refuse(graph: Graph, node: Node, change: Change) -> None:
    """Raise `LeftAlone` for a node whose weights can't take a change."""
    op = node.op
    linear = kind_of(op).form in LINEAR_FORMS or type(op) is layers.BatchNormalization
    passes = passing_of(getattr(op, "activation", None))
    if not (linear and has_plain_weights(op) and change.passes(passes, passes == "all")):
        raise LeftAlone("{} can't take it", node)
    if channel_axis(op, len(node.output.shape)) != change.axis:
        raise LeftAlone("{} has its channels on another axis", node)
    if graph.calls_of(op) > 1:
        raise LeftAlone("{} is called more than once", node)


def _change_of(graph: Graph, node: Node) -> Change:
    """Return the change that a `Rescaling` layer makes."""
    x = node.inputs[0]
    scale, shift = (np.asarray(values, "float64") for values in (node.op.scale, node.op.offset))
    if scale.ndim in (1, 2) and keras.config.image_data_format() == "channels_first":
        scale = scale.reshape(*scale.shape, *[1] * (3 - scale.ndim))  # as Keras does
    ends = [len(x.shape) - values.ndim for values in (scale, shift)]
    axes = {
        end + axis
        for end, values in zip(ends, (scale, shift), strict=True)
        for axis in np.flatnonzero(np.array(values.shape) > 1)
    }
    axis = int(axes.pop()) if axes else channel_axis(graph.producer(x).op, len(x.shape))
    channels = x.shape[axis]
    if axes or min(ends) < 0 or channels is None or not {scale.size, shift.size} <= {1, channels}:
        raise LeftAlone("it does not scale by channel alone")
    scale, shift = (np.resize(values.ravel(), channels) for values in (scale, shift))
    return Change(scale, shift, axis)
