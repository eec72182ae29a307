"""`prune_se`: replace SE layers whose gates hardly vary by constants in the layers before them."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from se_keras.explain.record import gates_of_model
from se_keras.explain.statistics import ExcitationStats
from se_keras.graph import Graph, Node, Shape, trace
from se_keras.rewrite.factors import apply, factor, find_targets, put_factor, take_out
from se_keras.rewrite.scaling import LeftAlone
from se_keras.rewrite.squeeze_excite import Gate, find_gates, open_layers
from se_keras.rewrite.work import work_of
from se_keras.support.arguments import did_you_mean, instance_of, items_of, plain_text, share
from se_keras.support.errors import InputError, shown
from se_keras.support.tables import format_table

Keep = float | Collection[str]


@dataclass(frozen=True, kw_only=True)
class PlannedLayer:
    """The plan for one SE layer.

    Attributes:
        name: name of the layer in the statistics.
        channels: number of channels of its map.
        variability: variability of its gates; see `LayerStats`.
        keep: whether the layer stays.
        gate: the constants that replace its gates, one per channel; none if it stays.
        into: the layers that take the constants; none if it stays, or a `Rescaling` layer remains.
        reason: description in words.
        parameters: number of removed parameters; 0 if another call of the layer stays or counts
            them already.
        macs: number of removed multiply-adds for one call; 0 if they depend on open sizes.
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

    A plan holds only names and numbers: it can be pickled, copied and applied many times.

    Attributes:
        model: name of the model that the plan was made for.
        layers: all SE layers, in the order of the statistics.
    """

    model: str
    layers: tuple[PlannedLayer, ...]

    @property
    def parameters(self) -> int:
        """The number of removed parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """The number of removed multiply-adds."""
        return sum(layer.macs for layer in self.layers)

    def __str__(self) -> str:
        rows = [
            [row.name, f"{row.variability:.3f}", row.parameters, row.macs, row.reason]
            for row in self.layers
        ]
        header = ["layer", "variability", "parameters", "multiply-adds", "outcome"]
        gone = f"{sum(not row.keep for row in self.layers)} of {len(rows)} removed"
        return format_table(header, [*rows, ["total", None, self.parameters, self.macs, gone]])

    def apply(self, model: keras.Model) -> keras.Model:
        """Carry the plan out in a copy of a model, as `prune_se` does.

        Args:
            model: the model that the plan was made for, or one with the same SE layers, such as a
                clone or a model loaded from a file.

        Returns:
            The new model; it is not compiled.

        Raises:
            InputError: if the model has other SE layers, or can't be rebuilt.

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
                f"`model`: {model.name!r} does not fit the plan, which was made for "
                f"{self.model!r}: its SE layers and their channels must be {planned}, got {own}."
            )
        gates = {layer.name: np.array(layer.gate) for layer in self.layers if not layer.keep}
        _make_constant(graph, found, gates)
        return graph.build()


def plan_pruning(model: keras.Model, stats: ExcitationStats, *, keep: Keep | None) -> PruningPlan:
    """Plan what `prune_se` does with each SE layer, from the same arguments.

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
    layer  variability  parameters  multiply-adds  outcome
    se     0.000               148            128  folded into conv
    total                      148            128  1 of 1 removed
    """
    instance_of("stats", stats, ExcitationStats, "the result of `record_excitations`, or a plan")
    graph, found, own = _read(model)
    recorded = {layer.name: layer.channels for layer in stats.layers}
    if own != recorded:
        raise InputError(
            "`stats` must come from this model, whose SE layers and their channels are "
            f"{own}, got {recorded}."
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
    """Return a copy of a model in which constants replace SE layers whose gates hardly vary.

    The mean gates of a layer multiply the weights of the convolution, dense layer or batch
    normalization before it, also through activations and pools that pass factors, and in the
    branches of a concatenation. Where this is not possible, for example if other layers use the
    same map, a `Rescaling` layer with the constants remains. If the gates are the same for all
    images, the new model computes the same as `model`.

    Args:
        model: a functional or Sequential model, which is not changed.
        stats: result of `record_excitations` for the model, or a plan from `plan_pruning`.
        keep: the share of SE layers to keep, in [0, 1], those with the largest `variability`; or
            the names of the layers to keep. `None` with a plan, which has decided this already.

    Returns:
        The new model; it is not compiled.

    Raises:
        InputError: if the statistics or plan belong to another model, `keep` is out of range, or
            the model can't be rebuilt.

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
        raise InputError(
            "`keep` is part of the plan: give it to `plan_pruning`, not to `prune_se`."
        )
    return stats.apply(model)


def _read(model: keras.Model) -> tuple[Graph, dict[str, Gate], dict[str, int]]:
    """Return the graph, the removable SE layers, and the channels of all SE layers by name."""
    opened = trace(model)
    open_layers(opened)
    channels = {name: gate.channels for name, gate in gates_of_model(opened).items()}
    graph = trace(model)
    return graph, find_gates(graph), channels


def _names_to_keep(stats: ExcitationStats, keep: Keep | None) -> set[str]:
    """Return the names of the SE layers to keep."""
    asked = items_of(keep)
    if asked is not None:
        names = {layer.name for layer in stats.layers}
        for name in asked:
            if plain_text(name) not in names:
                hint = did_you_mean(name, names)
                wanted = "`keep` must name SE layers of the model"
                raise InputError(f"{wanted}, got {shown(name)}.{hint}")
        return names.intersection(map(plain_text, asked))
    kept = share("keep", keep, "the share of SE layers to keep, in [0, 1], or their names")
    number = math.floor(kept * len(stats.layers) + 0.5)
    by_variability = sorted(stats.layers, key=lambda layer: -layer.variability)
    return {layer.name for layer in by_variability[:number]}


def _make_constant(
    root: Graph,
    found: Mapping[str, Gate],
    constants: Mapping[str, np.ndarray],
    plan_only: bool = False,
) -> dict[str, dict[str, Any]]:
    """Replace SE layers by constants, and fold these into the layers before if possible.

    Args:
        root: the graph of the model, which is changed with its nested graphs.
        found: all SE layers.
        constants: constants (C,) by the names of the removed layers.
        plan_only: whether to leave the weights unchanged; the graph can't be used afterwards.

    Returns:
        The fields of the plan's row for each removed layer.
    """
    paths = {graph: path for path, graph in root.graphs()}
    # By index, because removing an SE layer changes the input tensor of the next one.
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
        return {**gone, "reason": f"replaced by a constant layer: {reason.naming(path)}"}
    take_out(graph, constant)
    apply(graph, [] if plan_only else targets, training=True)
    into = tuple(path + target.node.name for target in targets)
    where = f"folded into {', '.join(into)}" if into else "removed: it is always 1"
    return {**gone, "into": into, "reason": where}


def _work_that_goes(root: Graph, gone: Sequence[Node]) -> tuple[int, int]:
    """Return the parameters and multiply-adds of removed calls."""
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
    return parameters, sum(_macs_of(node, shapes) for node in calls)


def _macs_of(node: Node, shapes: Mapping[keras.KerasTensor, Shape]) -> int:
    try:
        return work_of(node, shapes)[0] or 0
    except InputError:  # open sizes
        return 0


def _innermost(node: Node) -> Iterator[Node]:
    """Yield a call, or the calls within the nested model that it calls."""
    if node.subgraph is None:
        yield node
    else:
        for inner in node.subgraph.nodes:
            yield from _innermost(inner)
