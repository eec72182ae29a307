"""`prune_se`: SE layers whose gates hardly vary become constants, in the layers before them."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import KerasTensor, layers

from se_keras.explain.record import gates_of_model
from se_keras.explain.statistics import ExcitationStats
from se_keras.graph import Graph, Node, trace
from se_keras.rewrite.layer_kinds import LINEAR_FORMS, kind_of
from se_keras.rewrite.scaling import (
    array,
    channel_axis,
    has_plain_weights,
    scaled_weights,
)
from se_keras.rewrite.squeeze_excite import Gate
from se_keras.support.arguments import did_you_mean, share
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table

Keep = float | Collection[str]


@dataclass(frozen=True, kw_only=True)
class PlannedLayer:
    """What becomes of one SE layer.

    Attributes:
        name: as in the statistics.
        variability: of its gates; see `LayerStats`.
        keep: it stays.
        into: the layers that take over its mean gates; none if it stays, or leaves a constant.
        reason: in words.
        parameters: that go with it; 0 where another call of the layer stays or has them already.
        macs: multiply-adds of one call that go.
    """

    name: str
    variability: float
    keep: bool = True
    into: tuple[str, ...] = ()
    reason: str = "stays"
    parameters: int = 0
    macs: int = 0


@dataclass(frozen=True, kw_only=True)
class PruningPlan:
    """What `plan_pruning` gives; printed, it is a table.

    Attributes:
        layers: all SE layers, in the order of the statistics.
        gates: the constants, (C,), of those that go, by name.
        factors: what the channels of other layers are multiplied by, (C,), by name with path.
        graph: the traced model.
    """

    layers: tuple[PlannedLayer, ...]
    gates: Mapping[str, np.ndarray] = field(repr=False)
    factors: Mapping[str, np.ndarray] = field(repr=False)
    graph: Graph = field(repr=False)

    @property
    def parameters(self) -> int:
        """All parameters that go."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """All multiply-adds that go."""
        return sum(layer.macs for layer in self.layers)

    def __str__(self) -> str:
        rows = [
            [row.name, f"{row.variability:.3f}", row.parameters, row.macs, row.reason]
            for row in self.layers
        ]
        header = ["layer", "variability", "parameters", "multiply-adds", "what becomes of it"]
        gone = f"{len(self.gates)} of {len(rows)} go"
        return format_table(header, [*rows, ["total", None, self.parameters, self.macs, gone]])


def plan_pruning(model: keras.Model, stats: ExcitationStats, *, keep: Keep) -> PruningPlan:
    """Return what `prune_se` does with each SE layer; take and raise what it does.

    Example:

    >>> import keras, numpy as np
    >>> import se_keras
    >>> from se_keras.explain import plan_pruning
    >>> x = keras.Input((8, 8, 3))
    >>> y = keras.layers.Conv2D(16, 3, name="conv")(x)
    >>> y = se_keras.SqueezeExcite(4, kernel_initializer="zeros", name="se")(y)
    >>> model = keras.Model(x, y)
    >>> images = np.random.default_rng(0).random((8, 8, 8, 3), "float32")
    >>> stats = se_keras.record_excitations(model, images, verbose=False)
    >>> print(plan_pruning(model, stats, keep=0.0))
    layer  variability  parameters  multiply-adds  what becomes of it
    se     0.000               148            128  goes into conv
    total                      148            128  1 of 1 go
    """
    graph = trace(model)
    found = gates_of_model(graph)
    _refuse_other_model(found, stats)
    nodes = {name: gate.node for name, gate in found.items()}
    in_stock_layers = {name for name, gate in found.items() if gate.factor is not None}
    kept = _names_to_keep(stats, keep) | in_stock_layers
    folding = _Folding(graph, {node for name, node in nodes.items() if name not in kept})
    staying = {nodes[name].op for name in kept}
    rows: list[PlannedLayer] = []
    factors: dict[str, np.ndarray] = {}
    for layer in stats.layers:
        op = nodes[layer.name].op
        if layer.name in kept:
            rows.append(PlannedLayer(name=layer.name, variability=layer.variability))
            continue
        targets, reason = folding.targets(nodes[layer.name], layer.mean_of_all)
        for name, factor in targets.items():
            factors[name] = factors.get(name, 1.0) * factor
        parameters = 0 if op in staying else op.count_params()
        staying.add(op)
        macs = 2 * op.reduce.units * op.expand.units
        rows.append(
            PlannedLayer(
                name=layer.name,
                variability=layer.variability,
                keep=False,
                into=tuple(targets),
                reason=reason,
                parameters=parameters,
                macs=macs,
            )
        )
    gates = {layer.name: layer.mean_of_all for layer in stats.layers if layer.name not in kept}
    return PruningPlan(layers=tuple(rows), gates=gates, factors=factors, graph=graph)


def prune_se(model: keras.Model, stats: ExcitationStats, *, keep: Keep) -> keras.Model:
    """A copy of a model in which SE layers whose gates hardly vary are constants.

    The mean gates of a layer multiply the weights of the convolution, dense layer or batch
    normalization before it, through activations and pools that let a factor pass, and into the
    branches of a concatenation. Where that can't be, as before a layer that others read too, a
    `Rescaling` layer with the constants is left. Where the gates are the same for all images, the
    new model computes what `model` does.

    Args:
        model: a functional or Sequential model; it stays as it is.
        stats: what `record_excitations` gave for it.
        keep: the share of the SE layers that stay, in [0, 1]: those of the largest `variability`;
            or the names of those that stay.

    Returns:
        The new model; it is not compiled.

    Raises:
        InputError: for statistics of another model, a `keep` out of range, and as `trace` and
            `Graph.build` do.

    Example:

    >>> import keras, numpy as np
    >>> import se_keras
    >>> model = se_keras.create("seresnet20", input_shape=(16, 16, 3), classes=10)
    >>> images = np.random.default_rng(0).random((4, 16, 16, 3), "float32")
    >>> stats = se_keras.record_excitations(model, images, verbose=False)
    >>> small = se_keras.prune_se(model, stats, keep=0.5)
    >>> [sum(isinstance(x, se_keras.SqueezeExcite) for x in m.layers) for m in (model, small)]
    [9, 5]
    """
    return apply(plan_pruning(model, stats, keep=keep))


def apply(plan: PruningPlan) -> keras.Model:
    """The pruned model of a plan, which is spent after that."""
    into = {row.name: row.into for row in plan.layers}
    for path, graph in list(plan.graph.graphs()):
        for node in graph.nodes:
            name = path + node.name
            if name in plan.gates and into[name]:
                graph.redirect(node.output, node.inputs[0])
            elif name in plan.gates:
                _leave_constant(graph, node, plan.gates[name])
            elif name in plan.factors and type(node.op) is layers.BatchNormalization:
                _give_gamma(graph, node)
    model = plan.graph.build()
    for path, graph in trace(model).graphs():
        for node in graph.nodes:
            if path + node.name in plan.factors:
                _scale(node.op, plan.factors[path + node.name])
    return model


def _refuse_other_model(gates: Mapping[str, Gate], stats: ExcitationStats) -> None:
    own = {name: gate.channels for name, gate in gates.items()}
    recorded = {layer.name: layer.channels for layer in stats.layers}
    if own != recorded:
        raise InputError(
            "`stats` must be those of this model: its SE layers and their channels are "
            f"{own}, recorded are {recorded}."
        )


def _names_to_keep(stats: ExcitationStats, keep: Keep) -> set[str]:
    """The names of the SE layers that stay."""
    if isinstance(keep, Collection) and not isinstance(keep, str):
        names = [layer.name for layer in stats.layers]
        for name in keep:
            if name not in names:
                hint = did_you_mean(name, names)
                raise InputError(f"`keep`: there is no SE layer {name!r}.{hint}")
        return set(keep)
    kept = share("keep", keep, "the share of the SE layers that stay, in [0, 1], or their names")
    number = math.floor(kept * len(stats.layers) + 0.5)
    by_variability = sorted(stats.layers, key=lambda layer: -layer.variability)
    return {layer.name for layer in by_variability[:number]}


# --- where a constant can go ---------------------------------------------------------------------


class _NotFoldable(Exception):  # noqa: N818  (a reason, not an error)
    """Why a constant can't go into the layers before it."""


class _Folding:
    """Finds the layers that can take over the gates of SE layers."""

    def __init__(self, graph: Graph, removed: set[Node]):
        self.removed = removed
        self.homes = {node: home for home in graph.graphs() for node in home[1].nodes}
        self.calls = Counter(node.op for node in self.homes)

    def targets(self, node: Node, gate: np.ndarray) -> tuple[dict[str, np.ndarray], str]:
        """The factors of the layers by name with path, and what happens, in words."""
        axis = channel_axis(node.op, len(node.output.shape))
        try:
            targets = dict(self._find_targets(node, node.inputs[0], gate, axis))
        except _NotFoldable as reason:
            return {}, f"leaves a constant: {reason}"
        return targets, f"goes into {', '.join(targets)}"

    def _find_targets(
        self, node: Node, tensor: KerasTensor, factor: np.ndarray, axis: int
    ) -> Iterator[tuple[str, np.ndarray]]:
        """The layers that can multiply the channels of an input of a node."""
        path, graph = self.homes[node]
        before = graph.producer(tensor)
        name = path + before.name
        if graph.sole_consumer(tensor) is not node:
            raise _NotFoldable(f"others read {name} too")
        if before in self.removed or _passes(before, factor, axis):
            yield from self._find_targets(before, before.inputs[0], factor, axis)
        elif _joins_channels(before, axis):
            ends = np.cumsum([part.shape[axis] for part in before.inputs])
            for part, of_part in zip(before.inputs, np.split(factor, ends[:-1]), strict=True):
                yield from self._find_targets(before, part, of_part, axis)
        elif not _takes(before, factor, axis):
            raise _NotFoldable(f"{name} can't take it")
        elif self.calls[before.op] > 1:
            raise _NotFoldable(f"{name} is called more than once")
        else:
            yield name, factor


def _passes(node: Node, factor: np.ndarray, axis: int) -> bool:
    """Return whether a factor of the channels before a node is the same as one behind it."""
    op = node.op
    over_space = kind_of(op).form in ("pool", "upsampling", "other")
    if over_space and channel_axis(op, len(node.output.shape)) != axis:
        return False
    activation = op.activation if type(op) is layers.Activation else None
    passes = kind_of(op).passes
    if passes == "all" or activation is keras.activations.linear:
        return True
    clipped = type(op) is layers.ReLU and (op.max_value is not None or op.threshold)
    homogeneous = passes == "positive" or activation is keras.activations.relu
    return homogeneous and not clipped and factor.min() >= 0


def _joins_channels(node: Node, axis: int) -> bool:
    if type(node.op) is not layers.Concatenate:
        return False
    rank = len(node.output.shape)
    return node.op.axis % rank == axis and len(set(node.inputs)) == len(node.inputs)


def _takes(node: Node, factor: np.ndarray, axis: int) -> bool:
    """Return whether the channels of a layer's output can be multiplied in its weights."""
    op = node.op
    linear = kind_of(op).form in LINEAR_FORMS
    if not (linear or type(op) is layers.BatchNormalization) or not has_plain_weights(op):
        return False
    if channel_axis(op, len(node.output.shape)) != axis:
        return False
    activation = getattr(op, "activation", None)
    if activation is keras.activations.relu:
        return bool(factor.min() >= 0)
    return activation in (None, keras.activations.linear)


# --- edits ---------------------------------------------------------------------------------------


def _leave_constant(graph: Graph, node: Node, gate: np.ndarray) -> None:
    shape = [1] * len(node.output.shape)
    shape[channel_axis(node.op, len(shape))] = len(gate)
    # With all axes: Keras would shape a vector by the global data format.
    constant = layers.Rescaling(
        gate.reshape(shape).tolist(),
        dtype=node.op.compute_dtype,
        name=f"{node.name.replace('#', '_')}_constant",
    )
    graph.redirect(node.output, graph.add(constant, node.inputs[0]).output)


def _give_gamma(graph: Graph, node: Node) -> None:
    """A normalization without `gamma` gets one, of ones."""
    if node.op.scale:
        return
    layer = layers.BatchNormalization.from_config({**node.op.get_config(), "scale": True})
    new = graph.add(layer, *node.args, **node.kwargs)
    for weight in node.op.weights:
        getattr(layer, weight.name).assign(weight)
    graph.redirect(node.output, new.output)


def _scale(layer: keras.Layer, factor: np.ndarray) -> None:
    if type(layer) is layers.BatchNormalization:
        weights = {"gamma": array(layer.gamma) * factor}
        if layer.center:
            weights["beta"] = array(layer.beta) * factor
    else:
        weights = scaled_weights(layer, factor)
    for name, values in weights.items():
        getattr(layer, name).assign(values)
