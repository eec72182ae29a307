"""`InsertionPlan`: where squeeze-and-excitation goes in a model, in names and numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import KerasTensor

from se_keras.graph import Graph, Node, trace
from se_keras.layers import SqueezeExcite
from se_keras.rewrite.squeeze_excite import format_of
from se_keras.support.arguments import boolean
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table
from se_keras.surgery.nodes import channels_of, dtype_policy_of


@dataclass(frozen=True, kw_only=True)
class Site:
    """One place for a layer of squeeze-and-excitation.

    Attributes:
        after: name of the layer after which it goes; in a nested model `backbone/conv1`.
        output: which of the outputs of that layer it takes, from 0.
        into: names of the layers beside it that shall take what it gives; `None` for all.
        channels: of the map there.
        reduced_channels: hidden width of the layer.
        parameters: that it adds; 0 where an earlier site has the same layer.
        stage: s where the input has 2**s times the height and width of the map, as in "C2 to C5"
            of feature pyramids; 2 is the paper's conv2_x in ResNet-50.
        reason: why it is a site.
        has_se: squeeze-and-excitation is there already.
        shares: number of the site (of the plan, from 0) whose layer it has; its own if none. A
            layer that the model calls twice has one layer of SE after both calls.
    """

    after: str
    output: int
    into: tuple[str, ...] | None
    channels: int
    reduced_channels: int
    parameters: int
    stage: int
    reason: str
    has_se: bool
    shares: int


@dataclass(frozen=True, kw_only=True)
class InsertionPlan:
    """The result of `find_sites`; prints as a table.

    It holds names and numbers: pickle it, copy it, apply it as often as you like.

    Attributes:
        model: name of the model that it was made for.
        sites: the outer model's first, each model's in execution order.
        ratio, options: of the layers, as `find_sites` was given them.
    """

    model: str
    sites: tuple[Site, ...]
    ratio: int
    options: dict[str, Any]

    @property
    def parameters(self) -> int:
        """All parameters that the plan adds."""
        return sum(site.parameters for site in self.sites)

    def apply(
        self, model: keras.Model, warm_start: bool = True, *, force: bool = False
    ) -> keras.Model:
        """Insert squeeze-and-excitation into a copy of a model, as `insert_se` does.

        Args:
            model: the one that the plan was made for, or another with the same layers at its
                sites: a clone, or the model that was read from a file.
            warm_start, force: see `insert_se`.

        Returns:
            The new model; it is not compiled.

        Raises:
            InputError: as `insert_se` does, and for a model that lacks a layer of the plan, or has
                another number of channels there.

        Example:

        >>> import keras
        >>> import se_keras
        >>> model = keras.Sequential([keras.Input((8, 8, 3)),
        ...                           keras.layers.Conv2D(16, 3, activation="relu", name="conv")])
        >>> plan = se_keras.find_sites(model, ratio=4)
        >>> [layer.name for layer in plan.apply(keras.models.clone_model(model)).layers]
        ['conv', 'conv_se']
        """
        boolean("warm_start", warm_start)
        boolean("force", force)
        graph = trace(model)
        places = self._places(graph)
        if not force:
            self._refuse_second_se(graph, places)
        self._refuse_other_model(graph, map(_problem_of_way, self.sites, places))
        options = self.options
        if warm_start:
            options = {**options, **_neutral_options(self.ratio, options)}
        layers = self._make_layers(places, options)
        for place, layer in zip(places, layers, strict=True):
            place.graph.insert(layer, place.tensor, place.into)
        if warm_start:
            for layer in set(layers):
                layer.start_at_zero()
        return graph.build()

    def _places(self, graph: Graph) -> list["_Place"]:
        """Find the sites in the graph of a model, before any is changed."""
        graphs = dict(graph.graphs())
        nodes = {path + node.name: node for path, inner in graphs.items() for node in inner.nodes}
        self._refuse_other_model(graph, (_missing(site, nodes) for site in self.sites))
        places = [_place(site, graphs, nodes) for site in self.sites]
        self._refuse_other_model(graph, map(_problem_of_channels, self.sites, places))
        return places

    def _refuse_other_model(self, graph: Graph, problems: Iterable[str | None]) -> None:
        found = list(filter(None, problems))
        if found:
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise InputError(
                f"`model`: {graph.model.name!r} is another than the plan was made for, "
                f"{self.model!r}: {found[0]}{more}."
            )

    def _refuse_second_se(self, graph: Graph, places: list["_Place"]) -> None:
        pairs = zip(self.sites, places, strict=True)
        taken = [site.after for site, place in pairs if site.has_se or place.has_layer]
        if taken:
            raise InputError(
                f"`model`: {graph.model.name!r} has squeeze-and-excitation at {len(taken)} of "
                f"{len(self.sites)} sites already ({taken[0]!r}, ...). `force=True` inserts it a "
                "second time; `where` can name other layers."
            )

    def _make_layers(self, places: list["_Place"], options: dict[str, Any]) -> list[SqueezeExcite]:
        """Make one layer for each site; sites of one layer share it."""
        names = {place.graph: {node.op.name for node in place.graph.nodes} for place in places}
        layers: list[SqueezeExcite] = []
        for index, (site, place) in enumerate(zip(self.sites, places, strict=True)):
            if site.shares < index:
                layers.append(layers[site.shares])
                continue
            layer = SqueezeExcite(
                self.ratio,
                **options,
                data_format=format_of(place.graph, place.after),
                dtype=dtype_policy_of(place.graph, place.tensor),
                name=_unused_name(f"{place.after.op.name}_se", names[place.graph]),
            )
            layers.append(layer)
        return layers

    def __str__(self) -> str:
        rows = [
            [
                site.after,
                site.channels,
                site.reduced_channels,
                site.parameters,
                site.stage,
                f"{site.reason}; has SE already" if site.has_se else site.reason,
            ]
            for site in self.sites
        ]
        header = ["after", "channels", "SE width", "parameters", "stage", "why"]
        total = ["total", None, None, self.parameters, None, f"{len(rows)} sites"]
        return format_table(header, [*rows, total])


# --- a site in the graph of a model --------------------------------------------------------------


class _Place(NamedTuple):
    graph: Graph
    tensor: KerasTensor
    into: list[Node] | None

    @property
    def after(self) -> Node:
        return self.graph.producer(self.tensor)

    @property
    def has_layer(self) -> bool:
        """True if `SqueezeExcite` stands there: the plan may have been applied already."""
        near = (self.after, *self.graph.consumers(self.tensor))
        return any(isinstance(node.op, SqueezeExcite) for node in near)


def _missing(site: Site, nodes: dict[str, Node]) -> str | None:
    path, name = _split(site.after)
    missing = [path + each for each in (name, *(site.into or ())) if path + each not in nodes]
    if missing:
        return f"it has no layer {missing[0]!r}"
    count = len(nodes[site.after].outputs)
    return None if site.output < count else f"{site.after!r} gives {count} outputs"


def _place(site: Site, graphs: dict[str, Graph], nodes: dict[str, Node]) -> _Place:
    path, _ = _split(site.after)
    into = None if site.into is None else [nodes[path + name] for name in site.into]
    return _Place(graphs[path], nodes[site.after].outputs[site.output], into)


def _problem_of_channels(site: Site, place: _Place) -> str | None:
    channels = channels_of(place.graph, place.tensor)
    if channels == site.channels:
        return None
    return f"{site.after!r} gives {channels} channels, not {site.channels}"


def _problem_of_way(site: Site, place: _Place) -> str | None:
    strangers = [node.name for node in place.into or () if place.tensor not in node.inputs]
    return f"{strangers[0]!r} does not take what {site.after!r} gives" if strangers else None


def _split(name: str) -> tuple[str, str]:
    """Return the path of the model that a node is in, and the node's own name."""
    path, slash, own = name.rpartition("/")
    return path + slash, own


# --- its layer -----------------------------------------------------------------------------------


def _unused_name(base: str, taken: set[str]) -> str:
    name, number = base, 2
    while name in taken:
        name, number = f"{base}{number}", number + 1
    taken.add(name)
    return name


def _neutral_options(ratio: int, options: dict[str, Any]) -> dict[str, float]:
    """Return what makes a gate exactly 1 where `expand` gives 0."""
    if "gate_scale" in options:
        raise InputError("`gate_scale` is what warm_start=True sets; pass warm_start=False for it.")
    return SqueezeExcite(ratio, **options).warm_start_options()
