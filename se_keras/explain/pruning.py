"""`prune_se`: SE layers whose gates hardly vary become constants, in the layers before them."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from se_keras.explain.record import gates_of_model
from se_keras.explain.statistics import ExcitationStats
from se_keras.graph import Graph, Node, trace
from se_keras.rewrite.factors import apply, factor, find_targets, put_factor, take_out
from se_keras.rewrite.scaling import LeftAlone
from se_keras.rewrite.squeeze_excite import Gate, find_gates, open_layers
from se_keras.rewrite.work import work_of
from se_keras.support.arguments import did_you_mean, instance_of, share
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table

Keep = float | Collection[str]


@dataclass(frozen=True, kw_only=True)
class PlannedLayer:
    """The plan for one SE layer.

    Attributes:
        name: as in the statistics.
        channels: of its map.
        variability: of its gates; see `LayerStats`.
        keep: it stays.
        gate: the constants, one a channel, that take its place; none if it stays.
        into: the layers that take over its mean gates; none if it stays, or leaves a constant.
        reason: in words.
        parameters: that go with it; 0 where another call of the layer stays or has them already.
        macs: multiply-adds of one call that go.
    """

    name: str
    channels: int
    variability: float
    keep: bool = True
    gate: tuple[float, ...] = field(default=(), repr=False)
    into: tuple[str, ...] = ()
    reason: str = "stays"
    parameters: int = 0
    macs: int = 0


@dataclass(frozen=True, kw_only=True)
class PruningPlan:
    """The result of `plan_pruning`; prints as a table.

    It holds names and numbers: pickle it, copy it, apply it as often as you like.

    Attributes:
        model: name of the model that it was made for.
        layers: all SE layers, in the order of the statistics.
    """

    model: str
    layers: tuple[PlannedLayer, ...]

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
        gone = f"{sum(not row.keep for row in self.layers)} of {len(rows)} go"
        return format_table(header, [*rows, ["total", None, self.parameters, self.macs, gone]])

    def apply(self, model: keras.Model) -> keras.Model:
        """Make the constants in a copy of a model, as `prune_se` does.

        Args:
            model: the one that the plan was made for, or another with the same SE layers: a clone,
                or the model that was read from a file.

        Returns:
            The new model; it is not compiled.

        Raises:
            InputError: for a model with other SE layers, and as `trace` and `Graph.build` do.

        Example:

        >>> import keras, numpy as np
        >>> import se_keras
        >>> from se_keras.explain import plan_pruning
        >>> model = se_keras.create("seresnet20", input_shape=(16, 16, 3), classes=10)
        >>> images = np.random.default_rng(0).random((4, 16, 16, 3), "float32")
        >>> stats = se_keras.record_excitations(model, images, verbose=False)
        >>> small = plan_pruning(model, stats, keep=0).apply(model)
        >>> any(isinstance(layer, se_keras.SqueezeExcite) for layer in small.layers)
        False
        """
        graph, found, own = _read(model)
        planned = {layer.name: layer.channels for layer in self.layers}
        if own != planned:
            raise InputError(
                f"`model`: {model.name!r} is another than the plan was made for, {self.model!r}: "
                f"its SE layers and their channels are {own}, planned are {planned}."
            )
        gates = {layer.name: np.array(layer.gate) for layer in self.layers if not layer.keep}
        _make_constant(graph, found, gates)
        return graph.build()


def plan_pruning(model: keras.Model, stats: ExcitationStats, *, keep: Keep | None) -> PruningPlan:
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
    instance_of("stats", stats, ExcitationStats, "what `record_excitations` gives, or a plan")
    graph, found, own = _read(model)
    recorded = {layer.name: layer.channels for layer in stats.layers}
    if own != recorded:
        raise InputError(
            "`stats` must come from this model: its SE layers and their channels are "
            f"{own}, recorded are {recorded}."
        )
    kept = _names_to_keep(stats, keep)
    gates = {layer.name: layer.mean_of_all for layer in stats.layers if layer.name not in kept}
    hidden = gates.keys() - found.keys()
    seen = {name: gate for name, gate in gates.items() if name in found}
    changes = _make_constant(graph, found, seen, plan_only=True)
    changes.update({name: {"reason": "stays: it is inside another layer"} for name in hidden})
    rows = (
        PlannedLayer(
            name=layer.name,
            channels=layer.channels,
            variability=layer.variability,
            **changes.get(layer.name, {}),
        )
        for layer in stats.layers
    )
    return PruningPlan(model=model.name, layers=tuple(rows))


def prune_se(
    model: keras.Model, stats: ExcitationStats | PruningPlan, *, keep: Keep | None = None
) -> keras.Model:
    """Return a copy of a model in which SE layers whose gates hardly vary are constants.

    The mean gates of a layer multiply the weights of the convolution, dense layer or batch
    normalization before it, through activations and pools that let a factor pass, and into the
    branches of a concatenation. Where that can't be, as before a layer that others read too, a
    `Rescaling` layer with the constants is left. Where the gates are the same for all images, the
    new model computes what `model` does.

    Args:
        model: a functional or Sequential model; it stays as it is.
        stats: what `record_excitations` gave for it; or the plan that `plan_pruning` made of that.
        keep: the share of the SE layers that stay, in [0, 1]: the ones of largest `variability`;
            or the names of those that stay. A plan has decided that already.

    Returns:
        The new model; it is not compiled.

    Raises:
        InputError: for statistics or a plan of another model, a `keep` out of range, and as `trace`
            and `Graph.build` do.

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
    if not isinstance(stats, PruningPlan):
        stats = plan_pruning(model, stats, keep=keep)
    elif keep is not None:
        raise InputError("`keep` is the plan's: give it to `plan_pruning`, not to `prune_se`.")
    return stats.apply(model)


def _read(model: keras.Model) -> tuple[Graph, dict[str, Gate], dict[str, int]]:
    """Return the graph, the SE layers that can go, and the channels of all by name."""
    opened = trace(model)
    open_layers(opened)
    channels = {name: gate.channels for name, gate in gates_of_model(opened).items()}
    graph = trace(model)
    return graph, find_gates(graph), channels


def _names_to_keep(stats: ExcitationStats, keep: Keep | None) -> set[str]:
    """Return the names of the SE layers that stay."""
    if isinstance(keep, Collection) and not isinstance(keep, str | bytes | Mapping):
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


def _make_constant(
    root: Graph,
    found: Mapping[str, Gate],
    constants: Mapping[str, np.ndarray],
    plan_only: bool = False,
) -> dict[str, dict[str, Any]]:
    """Put constants in the places of SE layers, and these into the layers before where they can go.

    Args:
        root: the graph of the model; it and those in it are changed.
        found: all SE layers.
        constants: (C,), by the names of those that go.
        plan_only: change no weights, so that the graph is of no further use.

    Returns:
        For each of these what its row of the plan says.
    """
    paths = {graph: path for path, graph in root.graphs()}
    # By their numbers: once an SE layer is gone, the next one takes another tensor.
    inputs = {
        name: [tensor is gate.x for tensor in gate.node.inputs].index(True)
        for name, gate in found.items()
    }
    return {
        name: _replace(root, paths[found[name].graph], found[name], inputs[name], scale, plan_only)
        for name, scale in constants.items()
    }


def _replace(
    root: Graph, path: str, gate: Gate, number: int, scale: np.ndarray, plan_only: bool
) -> dict[str, Any]:
    graph, before = gate.graph, gate.graph.nodes
    x, name = gate.node.inputs[number], gate.name.removeprefix(path).replace("#", "_")
    try:
        constant = put_factor(graph, gate.node, x, scale, gate.axis, f"{name}_constant")
    except LeftAlone as reason:
        return {"reason": f"stays: {reason.naming(path)}"}
    parameters, macs = _work_that_goes(root, [node for node in before if node not in graph])
    gone = {"keep": False, "gate": tuple(map(float, scale)), "parameters": parameters, "macs": macs}
    try:
        targets = find_targets(graph, constant, x, factor(scale, gate.axis), training=True)
    except LeftAlone as reason:
        return {**gone, "reason": f"leaves a constant: {reason.naming(path)}"}
    take_out(graph, constant)
    apply(graph, [] if plan_only else targets, training=True)
    into = tuple(path + target.node.name for target in targets)
    where = f"goes into {', '.join(into)}" if into else "goes: it is always 1"
    return {**gone, "into": into, "reason": where}


def _work_that_goes(root: Graph, gone: Sequence[Node]) -> tuple[int, int]:
    """Return the parameters and multiply-adds that go with calls."""
    calls = [inner for node in gone for inner in _innermost(node)]
    stay = {
        id(weight)
        for _, _, node in root.calls(keras.Layer)
        if node.subgraph is None
        for weight in node.op.weights
    }
    weights = {id(weight): weight for node in calls for weight in getattr(node.op, "weights", ())}
    parameters = sum(math.prod(w.shape) for number, w in weights.items() if number not in stay)
    shapes = {t: tuple(t.shape) for node in calls for t in (*node.inputs, *node.outputs)}
    return parameters, sum(work_of(node, shapes)[0] or 0 for node in calls)


def _innermost(node: Node) -> Iterator[Node]:
    """Yield a call, or those in a nested model that it calls."""
    if node.subgraph is None:
        yield node
    else:
        for inner in node.subgraph.nodes:
            yield from _innermost(inner)
