"""`find_sites`: find the places for SE in a model, as a plan."""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

import keras
from keras import KerasTensor

from se_keras.graph import Graph, Node, trace
from se_keras.layers import GATES, ChannelGate, options_of, refuse_options_of_others
from se_keras.rewrite.squeeze_excite import format_of
from se_keras.support.arguments import (
    boolean,
    did_you_mean,
    integers,
    one_of,
    positive_integer,
    refuse_unknown_options,
)
from se_keras.support.errors import InputError, shown
from se_keras.surgery.nodes import channels_of, stride
from se_keras.surgery.plan import InsertionPlan, Site
from se_keras.surgery.rules import PLACES, RULES, Spot, Where, find_spots


def find_sites(
    model: keras.Model,
    where: Where = "auto",
    ratio: int | None = None,
    *,
    attention: str = "se",
    placement: str = "standard",
    stages: Collection[int] | None = None,
    skip_last_stage: bool = False,
    **options: Any,
) -> InsertionPlan:
    """Find the places for squeeze-and-excitation in a model (the paper's sec. 3.3 and Fig. 5).

    Args:
        model: a functional or Sequential model; nested models are included.
        where: one of

            - `"residual"`: the branch of each residual unit, before the addition and before any
              layer that scales or drops the branch;
            - `"concat"`: after the outermost concatenation of each module of branches; in dense
              blocks after the last concatenation, and after the transition to the next block;
            - `"pointwise"`: after each pointwise convolution that follows a depthwise one, and
              after its activation if there is one;
            - `"conv"`: after the activation of each convolution;
            - `"auto"`: residual units and concatenations; if there are none, custom layers that
              contain most of the convolutions, several each; else `"pointwise"`, else `"conv"`;
            - a regular expression that matches the whole name of a layer;
            - a list of layer names; for nested models `"backbone/conv1"` or `"conv1"`;
            - a function that returns whether SE goes after a layer.
        ratio: reduction ratio r; `None` for the default of the layer, 16 for SE.
        attention: `"se"`, or its kin: `"eca"`, `"ese"`, `"scse"` or `"ge"`, as in `create`.
        placement: placement in residual units: `"standard"`, `"pre"`, `"post"` or `"identity"`.
        stages: use only sites of these stages (see `Site`); `None` for all.
        skip_last_stage: whether to leave out the stage with the lowest resolution, which has most
            of the parameters (the paper's sec. 4 and 6.4).
        **options: further arguments of `SqueezeExcite`, or of the layer that `attention` names.

    Returns:
        The plan, which prints as a table.

    Raises:
        InputError: if the model is not functional or has no such site, or if the number of channels
            at a site is unknown; or if the layer does not accept the map.
        TypeError: if the layer does not have an option.

    Example:

    >>> import keras
    >>> import se_keras
    >>> x = keras.Input((8, 8, 16))
    >>> y = keras.layers.Conv2D(16, 3, padding="same", name="conv")(x)
    >>> model = keras.Model(x, keras.layers.Add(name="add")([x, y]))
    >>> print(se_keras.find_sites(model, ratio=4))
    after  channels  SE width  parameters  stage  why
    conv         16         4         148      0  residual branch of add
    total                             148         1 sites
    """
    refuse_other_options(find_sites, attention, ratio, options)
    one_of("placement", placement, PLACES)
    skip_last_stage = boolean("skip_last_stage", skip_last_stage)
    asked = options if ratio is None else {"ratio": ratio, **options}
    layer = GATES[attention](**asked)
    graph = trace(model)
    spots = find_spots(graph, where, placement)
    _refuse_no_site(model, where, placement, spots)
    strides = _strides(graph, 1.0)
    numbered = [(spot, round(math.log2(strides[spot.tensor]))) for spot in spots]
    chosen = _select_stages(numbered, stages, skip_last_stage)
    sites = tuple(_make_sites(chosen, attention, asked, bool(layer.part_names())))
    return InsertionPlan(
        model=model.name,
        sites=sites,
        attention=attention,
        ratio=getattr(layer, "ratio", None),
        options=options,
    )


def refuse_other_options(
    function: Callable, attention: str, ratio: int | None, options: dict[str, Any]
) -> None:
    """Refuse options that neither a function of this package nor a layer with a gate has.

    Args:
        function: a function with its own arguments, and those of the layer as `options`.
        attention: kind of the layer.
        ratio: argument of the function.
        options: the user's options besides the arguments of the function.

    Raises:
        InputError: if `attention` is unknown, or if an option belongs to another kind.
        TypeError: if an option is unknown.
    """
    kind = GATES[one_of("attention", attention, tuple(GATES))]
    asked = options if ratio is None else {"ratio": positive_integer("ratio", ratio), **options}
    refuse_options_of_others(attention, asked)
    known = {*inspect.signature(function).parameters, *options_of(kind)}
    refuse_unknown_options(function.__name__, options, known - {"model", "options", "data_format"})


def _refuse_no_site(model: keras.Model, where: Where, placement: str, spots: list[Spot]) -> None:
    if not spots:
        names = ("auto", *RULES, *(layer.name for layer in model.layers))
        hint = did_you_mean(where, names) or (
            " Name the layers to insert SE after, as in where=['conv1_relu', 'conv2_relu']."
        )
        raise InputError(f"`where`: {model.name!r} has no site for {shown(where)}.{hint}")
    if placement != "standard" and not any(spot.placed for spot in spots):
        raise InputError(
            f"`placement={placement!r}` needs residual units, but {model.name!r} has none with "
            f"where={shown(where)}."
        )


# --- stages --------------------------------------------------------------------------------------


def _strides(graph: Graph, of_input: float) -> dict[KerasTensor, float]:
    """Return the ratio of the input's resolution to the resolution of each map."""
    strides: dict[KerasTensor, float] = {}
    for node in graph.nodes:
        before = max(map(strides.__getitem__, node.inputs), default=of_input)
        following = [before * stride(node)] * len(node.outputs)
        if node.subgraph is not None:
            inner = _strides(node.subgraph, before)
            strides.update(inner)
            following = [inner[tensor] for tensor in keras.tree.flatten(node.subgraph.outputs)]
        strides.update(zip(node.outputs, following, strict=True))
    return strides


def _select_stages(
    numbered: list[tuple[Spot, int]], stages: Collection[int] | None, skip_last_stage: bool
) -> list[tuple[Spot, int]]:
    present = sorted({stage for _, stage in numbered})
    words = f"some of {present}, the stages with sites"
    wanted = set(present if stages is None else integers("stages", stages, words))
    if not wanted <= set(present):
        raise InputError(f"`stages` must be {words}, got {shown(stages)}.")
    if skip_last_stage:
        wanted.discard(present[-1])
    if not wanted:
        raise InputError(
            f"`stages` and `skip_last_stage` leave no site: the stages with sites are {present}."
        )
    return [(spot, stage) for spot, stage in numbered if stage in wanted]


# --- sites ---------------------------------------------------------------------------------------


def _make_sites(
    numbered: list[tuple[Spot, int]], attention: str, options: dict[str, Any], weights: bool
) -> Iterator[Site]:
    # Zeros: a plan draws no random numbers.
    zeros = dict.fromkeys(("kernel_initializer", "bias_initializer"), "zeros") if weights else {}
    options = {**options, **zeros, "dtype": "float32"}
    built: dict[tuple, ChannelGate] = {}
    owners: dict[tuple, int] = {}
    repeats: Counter[frozenset[Node]] = Counter()
    for index, (spot, stage) in enumerate(numbered):
        channels = _channels(spot)
        calls = _find_weighted_calls(spot)
        # Two sites after one call of a layer get two new layers; sites after two calls share one.
        shape, data_format = tuple(spot.tensor.shape), format_of(spot.graph, spot.after)
        if (shape, data_format) not in built:
            layer = GATES[attention](**options, data_format=data_format, name=spot.after.op.name)
            layer.build(shape)
            built[shape, data_format] = layer
        layer = built[shape, data_format]
        # A layer that has weights for each position can't be shared by maps of two sizes.
        shapes = tuple(weight.shape for weight in layer.weights)
        key = (frozenset(node.op for node in calls), repeats[calls], channels, shapes)
        repeats[calls] += 1
        owner = owners.setdefault(key, index)
        yield Site(
            after=spot.path + spot.after.name,
            output=spot.after.outputs.index(spot.tensor),
            into=None if spot.into is None else tuple(node.name for node in spot.into),
            channels=channels,
            reduced_channels=layer.reduce.units if hasattr(layer, "reduce") else None,
            parameters=layer.count_params() if owner == index else 0,
            stage=stage,
            reason=spot.reason,
            has_se=spot.has_se,
            shares=owner,
        )


def _find_weighted_calls(spot: Spot) -> frozenset[Node]:
    """Return the nearest calls of layers with weights, on all paths back."""
    found, waiting = set(), [spot.after]
    while waiting:
        node = waiting.pop()
        if getattr(node.op, "weights", ()):
            found.add(node)
        else:
            waiting.extend(map(spot.graph.producer, node.inputs))
    return frozenset(found)


def _channels(spot: Spot) -> int:
    channels = channels_of(spot.graph, spot.tensor)
    if channels is None:
        raise InputError(
            f"`where`: the number of channels after {spot.path + spot.after.name!r} must be known, "
            f"got the shape {spot.tensor.shape}."
        )
    return channels
