"""Write `SqueezeExcite` and its kin as layers of Keras for `optimize`, one function for each."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import KerasTensor, layers

from se_keras.graph import Graph, Node, is_quantized
from se_keras.layers import (
    ChannelGate,
    EffectiveSqueezeExcite,
    EfficientChannelAttention,
    GatherExcite,
    SpatialChannelSqueezeExcite,
    SqueezeExcite,
)
from se_keras.rewrite.folding import TRAINS, fold_normalization
from se_keras.rewrite.layer_kinds import RANKS
from se_keras.rewrite.scaling import LeftAlone, add_with_weights, array, inference_config

Layer = type[keras.layers.Layer]


def _of_ranks(name: str) -> dict[int, Layer]:
    return {rank: getattr(layers, name.format(rank)) for rank in RANKS}


CONVOLUTION_OF_RANK = _of_ranks("Conv{}D")
POOLS = {
    (kind, rank): pool
    for kind, name in (("avg", "GlobalAverage"), ("max", "GlobalMax"))
    for rank, pool in _of_ranks(name + "Pooling{}D").items()
}
WINDOWS = {
    kind: _of_ranks(f"{name}Pooling{{}}D") for kind, name in (("avg", "Average"), ("max", "Max"))
}
PADDING = _of_ranks("ZeroPadding{}D")


class Writer:
    """Add layers of Keras that replace a call of a gate.

    Attributes:
        layer: the layer of the gate.
        x: the map that the layer takes.
        rank: the number of spatial axes.
        last: whether the channels are the last axis of `x`.
        norms: the normalizations that were added.
    """

    def __init__(self, graph: Graph, node: Node):
        self._graph = graph
        self._name = node.name.replace("#", "_")  # each further call becomes a layer of its own
        self.layer: Any = node.op
        self.x: KerasTensor = node.inputs[0]
        self.rank = len(self.x.shape) - 2
        self.last = self.layer.data_format == "channels_last"
        self.norms: list[Node] = []

    def add(self, kind: Layer, name: str, x: Any, *args: Any, **options: Any) -> KerasTensor:
        """Call a new layer, which computes in the dtype of the gate."""
        options = {"dtype": self.layer.part_policy("squeeze"), **options}
        layer = kind(*args, name=f"{self._name}_{name}" if name else self._name, **options)
        return self._graph.add(layer, x).output

    def operate(
        self, function: Callable, x: KerasTensor, called_with: Mapping[str, Any], **options: Any
    ) -> KerasTensor:
        """Add one operation of `keras.ops`, made with `options` and called with `called_with`."""
        start = keras.KerasTensor(x.shape, x.dtype)
        end = function(start, **called_with, **options)
        (operation,) = keras.Function(start, end).operations
        return self._graph.add(operation, x, **called_with).output

    def reshape(self, x: KerasTensor, shape: Sequence[int], name: str) -> KerasTensor:
        before = self._graph.producer(x)
        x = before.inputs[0] if type(before.op) is layers.Reshape else x
        return self.add(layers.Reshape, name, x, tuple(shape))

    def squeeze(self) -> KerasTensor:
        """Return one number for each channel of the map, (N, 1, 1, C)."""
        pool = POOLS[self.layer.pool, self.rank]
        format = self.layer.data_format
        z = self.add(pool, "squeeze", self.x, keepdims=self.last, data_format=format)
        # TensorFlow has no channels_first convolution on a CPU.
        return z if self.last else self.reshape(z, (*[1] * self.rank, z.shape[-1]), "channels_last")

    def channels_last(self) -> KerasTensor:
        """Return the map with its channels last."""
        if self.last:
            return self.x
        axes = (*range(2, self.rank + 2), 1)
        return self.add(layers.Permute, "channels_last_map", self.x, axes, dtype=self.x.dtype)

    def own_format(self, gate: KerasTensor, name: str) -> KerasTensor:
        """Return a gate with its channels where the map has them."""
        if self.last:
            return gate
        _, *sizes, channels = gate.shape
        if set(sizes) == {1}:
            return self.reshape(gate, (channels, *sizes), name)
        axes = (self.rank + 1, *range(1, self.rank + 1))
        return self.add(layers.Permute, name, gate, axes)

    def activate(self, x: KerasTensor, activation: Callable, name: str) -> KerasTensor:
        return self.add(layers.Activation, name, x, activation)

    def pointwise(self, dense: layers.Dense, x: KerasTensor, activation: Callable) -> KerasTensor:
        """Add a dense layer as a 1x1 convolution.

        Engines compute it in the layout of the map; a dense layer on (N, 1, 1, C) needs transposes.
        """
        convolution = CONVOLUTION_OF_RANK[self.rank](
            dense.units,
            1,
            use_bias=dense.use_bias,
            kernel_initializer="zeros",
            data_format="channels_last",
            activation=activation,
            dtype=dense.dtype_policy,
            name=f"{self._name}_{dense.name}",
        )
        return self._with_weights_of(dense, convolution, x).output

    def copy(self, part: keras.layers.Layer, x: KerasTensor) -> Node:
        """Add a copy of a layer inside the gate."""
        config = {**inference_config(part), "name": f"{self._name}_{part.name}"}
        plain = {key: value for key, value in config.items() if not key.startswith("lora_")}
        return self._with_weights_of(part, type(part).from_config(plain), x)

    def _with_weights_of(
        self, part: keras.layers.Layer, new: keras.layers.Layer, x: KerasTensor
    ) -> Node:
        # A kernel with LoRA is a sum of weights.
        names = [weight.name for weight in part.weights if not weight.name.startswith("lora_")]
        weights = {name: array(getattr(part, name)) for name in names}
        return add_with_weights(self._graph, new, weights, x)

    def excite(self, z: KerasTensor) -> KerasTensor:
        """Add the two layers of SE."""
        hidden = self.pointwise(self.layer.reduce, z, self.layer.activation)
        return self.pointwise(self.layer.expand, hidden, self.layer.gate_activation)


# --- a function for each kind of gate: it returns one gate, or two of which the larger counts -----

Gates = tuple[KerasTensor, ...]


def _squeeze_excite(to: Writer) -> Gates:
    return (to.excite(to.squeeze()),)


def _efficient_channel(to: Writer) -> Gates:
    z = to.squeeze()
    numbers = to.reshape(z, (z.shape[-1], 1), "channels")
    convolved = to.copy(to.layer.conv, numbers).output
    # The activation may be a function of all channels, such as softmax.
    gate = to.reshape(convolved, z.shape[1:], "gate")
    return (to.activate(gate, to.layer.gate_activation, "activation"),)


def _effective(to: Writer) -> Gates:
    return (to.pointwise(to.layer.dense, to.squeeze(), to.layer.gate_activation),)


def _spatial_channel(to: Writer) -> Gates:
    s = to.excite(to.squeeze())
    q = to.pointwise(to.layer.spatial, to.channels_last(), to.layer.gate_activation)
    return (s, q) if to.layer.fusion == "max" else (to.add(layers.Add, "fused", [s, q]),)


def _gather_excite(to: Writer) -> Gates:
    layer, sizes = to.layer, to.x.shape[1:-1] if to.last else to.x.shape[2:]
    if layer.extent and None in sizes:
        raise LeftAlone("the sizes of its map are not known")
    if layer.extra_params:
        v = _gather_by_convolutions(to)
    else:
        v = _gather_windows(to, sizes) if layer.extent else to.squeeze()
    gate = to.excite(v) if layer.use_mlp else to.activate(v, layer.gate_activation, "activation")
    return (_spread(to, gate, sizes) if layer.extent else gate,)


def _gather_by_convolutions(to: Writer) -> KerasTensor:
    v = to.channels_last()
    for n in to.layer.convolutions:
        conv, norm = (getattr(to.layer, f"{part}{n}") for part in ("conv", "norm"))
        options = {"data_format": "channels_last", "dtype": conv.dtype_policy}
        if n > 1:
            v = to.add(
                layers.Activation, f"activation{n}", v, to.layer.activation, dtype=conv.dtype_policy
            )
        v = to.add(PADDING[to.rank], f"pad{n}", v, 1, **options) if to.layer.extent else v
        to.norms.append(to.copy(norm, to.copy(conv, v).output))
        v = to.norms[-1].output
    return v


def _gather_windows(to: Writer, sizes: Sequence[int]) -> KerasTensor:
    extent, last = to.layer.extent, {"data_format": "channels_last"}
    window, margin = 2 * extent - 1, extent - 1
    x, pool = to.channels_last(), WINDOWS[to.layer.pool][to.rank]
    if to.layer.pool == "max":
        margins = [(0, 0), *[(margin, margin)] * to.rank, (0, 0)]
        x = to.operate(keras.ops.pad, x, {"constant_values": -math.inf}, pad_width=margins)
        return to.add(pool, "gather", x, window, extent, **last)
    x = to.add(PADDING[to.rank], "pad", x, margin, **last)
    v = to.add(pool, "gather", x, window, extent, **last)
    # Keras' pool counts the positions outside of the map as zeros; GE ignores them.
    whole = np.ones(())
    for size in sizes:
        places = np.arange(0, size, extent)
        inside = np.minimum(places + extent, size) - np.maximum(places - margin, 0)
        whole = np.multiply.outer(whole, window / inside)
    return to.add(layers.Rescaling, "inside", v, whole[np.newaxis, ..., np.newaxis].tolist())


def _spread(to: Writer, gate: KerasTensor, sizes: Sequence[int]) -> KerasTensor:
    """Give a gate the sizes of the map, as `se_keras.ops.interpolate` does."""
    for axis, size in enumerate(sizes, start=1):
        few = gate.shape[axis]
        if few > 1:
            # Keras' layer repeats each value equally often, and by more operations.
            nearest = [place * few // size for place in range(size)]
            gate = to.operate(keras.ops.take, gate, {"indices": nearest}, axis=axis)
    return gate


class Lowering(NamedTuple):
    """A function that adds a kind of gate in layers of Keras, and its description."""

    write: Callable[[Writer], Gates]
    text: str


LOWERINGS: dict[type[ChannelGate], Lowering] = {
    SqueezeExcite: Lowering(
        _squeeze_excite, "written as a pool, two pointwise layers and a product"
    ),
    EfficientChannelAttention: Lowering(
        _efficient_channel, "written as a pool, a convolution over the channels and a product"
    ),
    EffectiveSqueezeExcite: Lowering(
        _effective, "written as a pool, a pointwise layer and a product"
    ),
    SpatialChannelSqueezeExcite: Lowering(
        _spatial_channel, "written as SE, a pointwise layer, and their sum or maximum"
    ),
    GatherExcite: Lowering(
        _gather_excite, "written as pools or depthwise convolutions and a product"
    ),
}


def lower_gate(graph: Graph, node: Node) -> str | None:
    """Write `SqueezeExcite` and its kin as layers of Keras; `folding` describes rules."""
    lowering = LOWERINGS.get(type(node.op))
    if lowering is None:
        return None
    if is_quantized(node.op):
        raise LeftAlone("it is quantized")
    if node.kwargs.get("mask") is not None or graph.has_mask(node.inputs[0]):
        raise LeftAlone("it takes a mask, which Keras' layers treat differently")
    parts = [getattr(node.op, name) for name in node.op.part_names()]
    if graph.may_train(node) and any(type(part) is layers.BatchNormalization for part in parts):
        raise LeftAlone(TRAINS)
    to = Writer(graph, node)
    gates = [
        _finish(to, gate, f"_{number}" if number else "")
        for number, gate in enumerate(lowering.write(to))
    ]
    graph.redirect(node.output, _multiply(to, gates))
    for norm in to.norms:
        fold_normalization(graph, norm)
    return lowering.text


def _finish(to: Writer, gate: KerasTensor, suffix: str) -> KerasTensor:
    if to.layer.gate_scale != 1:
        gate = to.add(layers.Rescaling, f"scale{suffix}", gate, to.layer.gate_scale)
    return to.own_format(gate, f"channels_first{suffix}")


def _multiply(to: Writer, gates: Sequence[KerasTensor]) -> KerasTensor:
    policy = to.layer.dtype_policy
    if len(gates) == 1:
        return to.add(layers.Multiply, "", [to.x, gates[0]], dtype=policy)
    products = [
        to.add(layers.Multiply, f"product{number}", [to.x, gate], dtype=policy)
        for number, gate in enumerate(gates, start=1)
    ]
    # A negative scale makes the larger product the smaller one.
    join = layers.Maximum if to.layer.gate_scale > 0 else layers.Minimum
    return to.add(join, "", products, dtype=policy)
