"""`InsertionPlan`: the places for SE in a model, as names and numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import KerasTensor

from se_keras.graph import Graph, Node, trace
from se_keras.layers import GATES, ChannelGate
from se_keras.rewrite.squeeze_excite import format_of
from se_keras.support.arguments import boolean
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table
from se_keras.surgery.nodes import channels_of, dtype_policy_of


@dataclass(frozen=True, kw_only=True)
class Site:
    """One place for a layer of SE or its kin.

    Attributes:
        after: name of the layer before the new layer; in a nested model `backbone/conv1`.
        output: index of the output of that layer.
        into: names of the layers that take the output of the new layer; `None` for all consumers.
        channels: number of channels of the map.
        reduced_channels: hidden width of the new layer; `None` if it has none.
        parameters: number of added parameters; 0 if an earlier site has the same new layer.
        stage: s, if the input has 2**s times the height and width of the map, as in "C2 to C5" of
            feature pyramids; 2 is the paper's conv2_x in ResNet-50.
        reason: reason why it is a site.
        has_se: whether SE or its kin is there already.
        shares: index of the site whose new layer is reused here (its own index if it has one).
            If the model calls a layer twice, both calls are followed by the same new layer.
    """

    after: str
    output: int
    into: tuple[str, ...] | None
    channels: int
    reduced_channels: int | None
    parameters: int
    stage: int
    reason: str
    has_se: bool
    shares: int


@dataclass(frozen=True, kw_only=True)
class InsertionPlan:
    """The result of `find_sites`; prints as a table.

    A plan holds only names and numbers: it can be pickled, copied and applied many times.

    Attributes:
        model: name of the model that the plan was made for.
        sites: sites in execution order, those in nested models last.
        ratio: reduction ratio of the new layers; `None` if they have none.
        options: arguments of the new layers, as given to `find_sites`.
        attention: kind of the new layers, `"se"` or one of its kin.
    """

    model: str
    sites: tuple[Site, ...]
    ratio: int | None
    options: dict[str, Any]
    attention: str = "se"

    @property
    def parameters(self) -> int:
        """The number of parameters that the plan adds."""
        return sum(site.parameters for site in self.sites)

    def apply(
        self, model: keras.Model, warm_start: bool = True, *, force: bool = False
    ) -> keras.Model:
        """Insert squeeze-and-excitation into a copy of a model, as `insert_se` does.

        Args:
            model: the model that the plan was made for, or one with the same layers at the sites,
                such as a clone or a model loaded from a file.
            warm_start, force: as in `insert_se`.

        Returns:
            The new model; it is not compiled.

        Raises:
            InputError: as in `insert_se`, and if the model lacks a layer of the plan or has another
                number of channels there.

        Example:

        >>> import keras
        >>> import se_keras
        >>> model = keras.Sequential([keras.Input((8, 8, 3)),
        ...                           keras.layers.Conv2D(16, 3, activation="relu", name="conv")])
        >>> plan = se_keras.find_sites(model, ratio=4)
        >>> [layer.name for layer in plan.apply(keras.models.clone_model(model)).layers]
        ['conv', 'conv_se']
        """
        warm_start = boolean("warm_start", warm_start)
        force = boolean("force", force)
        graph = trace(model)
        places = self._places(graph)
        if not force:
            self._refuse_second_se(graph, places)
        self._refuse_other_model(graph, map(_problem_of_way, self.sites, places))
        layers = self._make_layers(places, self._neutral_options() if warm_start else {})
        for place, layer in zip(places, layers, strict=True):
            place.graph.insert(layer, place.tensor, place.into)
        if warm_start:
            for layer in set(layers):
                layer.start_at_zero()
        return graph.build()

    def _places(self, graph: Graph) -> list["_Place"]:
        """Find the sites in the graph of a model before changing it."""
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
                f"`model`: {graph.model.name!r} does not fit the plan, which was made for "
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

    def _neutral_options(self) -> dict[str, float]:
        """Return the options that make a gate exactly 1 if the last weights are zero."""
        if "gate_scale" in self.options:
            raise InputError(
                "`gate_scale` is what warm_start=True sets; pass warm_start=False for it."
            )
        return self._make_layer(name=self.attention).warm_start_options()

    def _make_layer(self, **more: Any) -> ChannelGate:
        ratio: dict[str, Any] = {} if self.ratio is None else {"ratio": self.ratio}
        return GATES[self.attention](**ratio, **self.options, **more)

    def _make_layers(self, places: list["_Place"], options: dict[str, Any]) -> list[ChannelGate]:
        """Make the layer for each site; some sites share a layer."""
        names = {place.graph: {node.op.name for node in place.graph.nodes} for place in places}
        layers: list[ChannelGate] = []
        for index, (site, place) in enumerate(zip(self.sites, places, strict=True)):
            if site.shares < index:
                layers.append(layers[site.shares])
                continue
            layer = self._make_layer(
                **options,
                data_format=format_of(place.graph, place.after),
                dtype=dtype_policy_of(place.graph, place.tensor),
                name=_unused_name(f"{place.after.op.name}_{self.attention}", names[place.graph]),
            )
            layers.append(layer)
        return layers

    def __str__(self) -> str:
        rows: list[list[Any]] = [
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
        kind = "" if self.attention == "se" else f" for {GATES[self.attention].__name__}"
        total = ["total", None, None, self.parameters, None, f"{len(rows)} sites{kind}"]
        if all(site.reduced_channels is None for site in self.sites):
            for row in (header, *rows, total):
                del row[2]
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
        """Return whether SE or its kin is there: the plan may have been applied already."""
        near = (self.after, *self.graph.consumers(self.tensor))
        return any(isinstance(node.op, ChannelGate) for node in near)


def _missing(site: Site, nodes: dict[str, Node]) -> str | None:
    path, name = _split(site.after)
    missing = [path + each for each in (name, *(site.into or ())) if path + each not in nodes]
    if missing:
        return f"it has no layer {missing[0]!r}"
    count = len(nodes[site.after].outputs)
    return None if site.output < count else f"{site.after!r} has {count} outputs"


def _place(site: Site, graphs: dict[str, Graph], nodes: dict[str, Node]) -> _Place:
    path, _ = _split(site.after)
    into = None if site.into is None else [nodes[path + name] for name in site.into]
    return _Place(graphs[path], nodes[site.after].outputs[site.output], into)


def _problem_of_channels(site: Site, place: _Place) -> str | None:
    channels = channels_of(place.graph, place.tensor)
    if channels == site.channels:
        return None
    return f"{site.after!r} has {channels} channels, not {site.channels}"


def _problem_of_way(site: Site, place: _Place) -> str | None:
    strangers = [node.name for node in place.into or () if place.tensor not in node.inputs]
    return f"{strangers[0]!r} does not take the output of {site.after!r}" if strangers else None


def _split(name: str) -> tuple[str, str]:
    """Split a name into the path of the enclosing model and the node's own name."""
    path, slash, own = name.rpartition("/")
    return path + slash, own


# --- its layer -----------------------------------------------------------------------------------


def _unused_name(base: str, taken: set[str]) -> str:
    name, number = base, 2
    while name in taken:
        name, number = f"{base}{number}", number + 1
    taken.add(name)
    return name
