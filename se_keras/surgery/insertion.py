"""`insert_se` and `remove_se`: squeeze-and-excitation into a built model, and out of it."""

import inspect
from collections.abc import Collection
from typing import Any

import keras

from se_keras.graph import Graph, Node, trace
from se_keras.layers import SqueezeExcite
from se_keras.support.errors import InputError
from se_keras.surgery.plan import InsertionPlan, find_sites, refuse_other_options, se_layer
from se_keras.surgery.rules import Spot, Where


def insert_se(
    model: keras.Model,
    where: Where | InsertionPlan = "auto",
    ratio: int = 16,
    warm_start: bool = True,
    *,
    placement: str = "standard",
    stages: Collection[int] | None = None,
    skip_last_stage: bool = False,
    force: bool = False,
    **options: Any,
) -> keras.Model:
    """Puts squeeze-and-excitation into a copy of a model.

    Weights, names, trainable flags, dtype policies, nesting and sharing are those of `model`,
    which stays as it is. Each new layer has the name of the one that it follows, with `_se`; in a
    model that is frozen as a whole (`model.trainable = False`) it is frozen too.

    Args:
        model: a functional or Sequential model.
        where, ratio, placement, stages, skip_last_stage: see `find_sites`. Or `where` is the plan
            that it gave for this model: then what the plan was made with is not given again.
        warm_start: every gate is 1 at first, so that the new model computes what `model` does:
            the layer `expand` starts at zero, and `gate_scale` makes up for the activation (2 for
            a sigmoid). `False` is the paper's initialization.
        force: inserts also where squeeze-and-excitation is there already.
        **options: further arguments of `SqueezeExcite`. A warm start sets `gate_scale`, and
            `expand`'s initial weights.

    Returns:
        The new model; it is not compiled.

    Raises:
        InputError: as `find_sites` does; where a site has squeeze-and-excitation and `force` is
            not given; for a warm start that the gate's activation can't give.
        TypeError: for an option that `SqueezeExcite` does not have.

    Example:

    >>> import keras, numpy as np
    >>> import se_keras
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv"),
    ...                           keras.layers.ReLU(name="relu")])
    >>> new = se_keras.insert_se(model)
    >>> [layer.name for layer in new.layers]
    ['conv', 'relu', 'relu_se']
    >>> x = np.random.default_rng(0).random((1, 8, 8, 3), "float32")
    >>> bool(np.all(np.asarray(new(x)) == np.asarray(model(x))))
    True
    """
    refuse_other_options(insert_se, options)
    choice: dict[str, Any] = {
        "placement": placement,
        "stages": stages,
        "skip_last_stage": skip_last_stage,
    }
    if isinstance(where, InsertionPlan):
        plan = where
        _check_plan(plan, model, ratio, {**choice, **options})
    else:
        plan = find_sites(model, where, ratio, **choice, **options)
    if not force:
        _refuse_second_se(model, plan)
    options = plan.options
    if warm_start:
        options = {**options, "gate_scale": _neutral_scale(plan.ratio, options)}
    layers = _make_layers(plan, options)
    # A graph of its own: the plan can be applied again.
    graph = trace(model)
    graphs = dict(graph.graphs())
    places = [
        (graphs[spot.path], spot.tensor, _same_nodes(graphs[spot.path], spot.into))
        for spot in plan.spots
    ]
    for (inner, tensor, into), layer in zip(places, layers, strict=True):
        inner.insert(layer, tensor, into)
    if warm_start:
        for layer in set(layers):
            _start_at_zero(layer.expand)
    return graph.build()


def remove_se(model: keras.Model) -> keras.Model:
    """A copy of a model without its `SqueezeExcite` layers; what they took goes on as it is.

    Args:
        model: a functional or Sequential model.

    Raises:
        InputError: for a model that is not functional, or has no such layer.

    Example:

    >>> import se_keras
    >>> model = se_keras.create("seresnet20")
    >>> twin = se_keras.create("seresnet20", se=False)
    >>> se_keras.remove_se(model).count_params() == twin.count_params()
    True
    """
    graph = trace(model)
    found = list(graph.calls(SqueezeExcite))
    if not found:
        raise InputError(f"`model`: {model.name!r} has no SqueezeExcite layer to remove.")
    for _, inner, node in found:
        inner.redirect(node.output, node.inputs[0])
    return graph.build()


def _check_plan(
    plan: InsertionPlan, model: keras.Model, ratio: int, choice: dict[str, Any]
) -> None:
    """Refuse a plan of another model, and what the plan has decided already."""
    if plan.graph.model is not model:
        raise InputError(
            f"`where` must be a plan of this model, got that of another, {plan.graph.model.name!r}."
        )
    parameters = inspect.signature(insert_se).parameters
    given = [
        name
        for name, value in choice.items()
        if name not in parameters or value != parameters[name].default
    ]
    if ratio not in (plan.ratio, parameters["ratio"].default):
        given.insert(0, "ratio")
    if given:
        raise InputError(
            f"`{given[0]}` is the plan's: give it to `find_sites`, not to `insert_se`."
        )


def _same_nodes(graph: Graph, nodes: Collection[Node] | None) -> list[Node] | None:
    """The nodes of another trace of the same model that have the names of these."""
    return None if nodes is None else [graph.find(node.name) for node in nodes]


def _refuse_second_se(model: keras.Model, plan: InsertionPlan) -> None:
    taken = [site.after for site in plan.sites if site.has_se]
    if taken:
        raise InputError(
            f"`model`: {model.name!r} has squeeze-and-excitation at {len(taken)} of "
            f"{len(plan.sites)} sites already ({taken[0]!r}, ...). `force=True` inserts it a "
            "second time; `where` can name other layers."
        )


def _make_layers(plan: InsertionPlan, options: dict[str, Any]) -> list[SqueezeExcite]:
    """One for each site; sites of one layer have the same."""
    names = {spot.graph: {node.op.name for node in spot.graph.nodes} for spot in plan.spots}
    layers: list[SqueezeExcite] = []
    for index, (site, spot) in enumerate(zip(plan.sites, plan.spots, strict=True)):
        if site.shares < index:
            layers.append(layers[site.shares])
            continue
        name = _unused_name(spot, names[spot.graph])
        place = {"data_format": spot.data_format, "dtype": spot.dtype_policy, "name": name}
        layers.append(se_layer(plan.ratio, options, **place))
    return layers


def _unused_name(spot: Spot, taken: set[str]) -> str:
    base = name = spot.after.op.name + "_se"
    number = 2
    while name in taken:
        name, number = f"{base}{number}", number + 1
    taken.add(name)
    return name


def _neutral_scale(ratio: int, options: dict[str, Any]) -> float:
    """Return what makes a gate exactly 1 where `expand` gives 0."""
    if "gate_scale" in options:
        raise InputError("`gate_scale` is what warm_start=True sets; pass warm_start=False for it.")
    activation = se_layer(ratio, options).gate_activation
    # A softmax depends on how many channels there are; no one scale makes up for that.
    at_zero, of_more = (float(activation(keras.ops.zeros((1, n)))[0, 0]) for n in (2, 3))
    if not at_zero or at_zero != of_more or at_zero * (1 / at_zero) != 1:
        raise InputError(
            "`gate_activation` must give one number other than 0 at 0 for a warm start, got one "
            f"that gives {at_zero:g} for two channels and {of_more:g} for three; pass "
            "warm_start=False, or take 'sigmoid' or 'hard_sigmoid'."
        )
    return 1 / at_zero


def _start_at_zero(expand: keras.layers.Dense) -> None:
    for weight in expand.weights:
        weight.assign(keras.ops.zeros(weight.shape, weight.dtype))
