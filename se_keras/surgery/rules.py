"""The rules that find places for SE: one function for each rule."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import keras
from keras import KerasTensor

from se_keras.graph import Graph, Node
from se_keras.rewrite.squeeze_excite import is_own_layer
from se_keras.support.arguments import did_you_mean, items_of, plain_text
from se_keras.support.errors import InputError, in_one_line, shown
from se_keras.surgery.nodes import is_prediction, is_scaling, kernels
from se_keras.surgery.patterns import ResidualUnit, Structure

PLACES = ("standard", "pre", "post", "identity")
MOST_NAMES = 100_000
Where = str | Iterable[str] | Callable[[keras.Layer], bool]
Structures = list[tuple[str, Structure]]


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A tensor after which SE can be inserted.

    Attributes:
        structure: structure of the graph that contains the tensor.
        path: path of this graph.
        tensor: the tensor.
        into: the consumers that take the output of SE; `None` for all.
        reason: reason why SE can be inserted here.
        placed: whether the place depends on the placement in residual units.
        within: the nodes of its unit; SE inside any of them counts as SE at this place.
        around: other nodes that may already be SE at this place.
    """

    structure: Structure
    path: str = ""
    tensor: KerasTensor
    into: tuple[Node, ...] | None = None
    reason: str
    placed: bool = False
    within: tuple[Node, ...] = ()
    around: tuple[Node, ...] = ()

    @property
    def graph(self) -> Graph:
        return self.structure.graph

    @property
    def after(self) -> Node:
        return self.graph.producer(self.tensor)

    @property
    def has_se(self) -> bool:
        near = (self.after, *self.structure.consumers(self.tensor), *self.around)
        is_near = any(map(self.structure.is_squeeze_excite, near))
        return is_near or any(map(self.structure.holds_squeeze_excite, self.within))


def find_spots(graph: Graph, where: Where, placement: str) -> list[Spot]:
    """Find all places in a graph and its nested graphs.

    Args:
        graph: graph of the model.
        where: as in `find_sites`.
        placement: placement in residual units; one of `PLACES`.

    Raises:
        InputError: if `where` is invalid, or names a layer that does not exist.
    """
    structures = [(path, Structure(inner)) for path, inner in graph.graphs()]
    word = plain_text(where)
    if word in RULES:
        return _find_by_rules(structures, (RULES[word],), placement)
    if word == "auto":
        found = (_find_by_rules(structures, rules, placement) for rules in AUTO_RULES)
        return next(filter(None, found), [])
    if word is not None:
        return _find_by_pattern(structures, word)
    if callable(where):
        return _find_by_function(structures, where)
    return _find_by_names(structures, where)


# --- rules ---------------------------------------------------------------------------------------


def _find_by_rules(structures: Structures, rules: Iterable["Rule"], placement: str) -> list[Spot]:
    spots: list[Spot] = []
    for path, structure in structures:
        found = [spot for rule in rules for spot in rule(structure, placement)]
        found.sort(key=lambda spot: structure.order[spot.after])
        spots.extend(replace(spot, path=path) for spot in found)
    return spots


def residual(structure: Structure, placement: str) -> Iterator[Spot]:
    """Yield the place in each residual unit (Fig. 5 of the paper)."""
    for unit in structure.residual_units:
        tensor, into = CUTS[placement](structure, unit)
        following, _ = _cut_post(structure, unit)
        reason = f"{REASONS[placement]} {unit.join.name}"
        yield Spot(
            structure=structure,
            tensor=tensor,
            into=into,
            reason=reason,
            placed=True,
            within=(*unit.branch.nodes, *unit.shortcut.nodes),
            around=tuple(structure.consumers(following)),
        )


Cut = tuple[KerasTensor, tuple[Node, ...] | None]


def _cut_standard(structure: Structure, unit: ResidualUnit) -> Cut:
    tensor, into = unit.inner, unit.join
    while is_scaling(structure.graph.producer(tensor)):
        into = structure.graph.producer(tensor)
        (tensor,) = into.inputs
    return tensor, (into,)


def _cut_pre(structure: Structure, unit: ResidualUnit) -> Cut:
    into = (node for node in structure.graph.consumers(unit.fork) if node in unit.branch.nodes)
    return unit.fork, tuple(into)


def _cut_post(structure: Structure, unit: ResidualUnit) -> Cut:
    following = structure.next(unit.join)
    if following is not None and structure.activates(following):
        return following.output, None
    return unit.join.output, None


def _cut_identity(structure: Structure, unit: ResidualUnit) -> Cut:
    return unit.skip, (unit.join,)


CUTS = {"standard": _cut_standard, "pre": _cut_pre, "post": _cut_post, "identity": _cut_identity}
REASONS = {
    "standard": "residual branch of",
    "pre": "input of the branch of",
    "post": "after the addition",
    "identity": "shortcut of",
}


def concat(structure: Structure, placement: str) -> Iterator[Spot]:
    """Yield the place after each module's concatenation and each transition of dense blocks."""
    for module in structure.modules:
        reason = f"concatenation of {len(module.branches)} branches"
        yield Spot(structure=structure, tensor=module.node.output, reason=reason)
    for node in structure.transitions:
        yield Spot(structure=structure, tensor=node.output, reason="transition of dense blocks")


def pointwise(structure: Structure, placement: str) -> Iterator[Spot]:
    """Yield the place after each pointwise convolution of a depthwise separable one."""
    for node in filter(structure.is_pointwise, structure.convolutions):
        after = structure.activation(node) or structure.normalized(node)
        reason = f"pointwise convolution {node.name}"
        yield Spot(structure=structure, tensor=after.output, reason=reason)


def conv(structure: Structure, placement: str) -> Iterator[Spot]:
    """Yield the place after each activated convolution, except predictions and gates."""
    for node in structure.convolutions:
        after = structure.activation(node)
        if after is None or len(after.outputs) != 1:
            continue
        predicts = is_prediction(after) and structure.graph.is_output(after.output)
        if not (predicts or structure.gates_a_product(after)):
            reason = f"activation of {node.name}"
            yield Spot(structure=structure, tensor=after.output, reason=reason, within=(node,))


def hidden(structure: Structure, placement: str) -> Iterator[Spot]:
    """Yield the place after each custom layer that contains a whole unit."""
    for node in structure.hidden_units:
        if len(node.outputs) == 1:
            reason = f"layer with convolutions inside: {len(kernels(node))}"
            yield Spot(structure=structure, tensor=node.output, reason=reason, within=(node,))


Rule = Callable[[Structure, str], Iterator[Spot]]
RULES = {"residual": residual, "concat": concat, "conv": conv, "pointwise": pointwise}
# The paper's sec. 3.3 and 4: residual units and modules if a network has them, else custom layers
# that hide them. Any other network is a chain of separable (MobileNet) or plain convolutions (VGG).
AUTO_RULES = ((residual, concat), (hidden,), (pointwise,), (conv,))


# --- named places ------------------------------------------------------------------------------


def _find_by_pattern(structures: Structures, pattern: str) -> list[Spot]:
    try:
        matches = re.compile(pattern).fullmatch
    except re.error as error:
        raise InputError(
            f"`where` must be a regular expression, got {shown(pattern)} ({in_one_line(error)})."
        ) from error
    return _make_spots(
        structures, lambda names, node: any(map(matches, names)), f"matches {pattern}"
    )


def _find_by_function(
    structures: Structures, function: Callable[[keras.Layer], bool]
) -> list[Spot]:
    return _make_spots(
        structures,
        lambda names, node: isinstance(node.op, keras.Layer) and function(node.op),
        "chosen by the function",
    )


def _find_by_names(structures: Structures, names: Iterable[str]) -> list[Spot]:
    wanted = _check_names(structures, names)
    return _make_spots(structures, lambda names, node: not wanted.isdisjoint(names), "named")


def _make_spots(
    structures: Structures, chosen: Callable[[set[str], Node], bool], reason: str
) -> list[Spot]:
    return [
        Spot(
            structure=structure,
            path=path,
            tensor=node.output,
            reason=reason,
            within=(node,) if is_own_layer(node) else (),
        )
        for path, structure in structures
        for node in structure.graph.nodes
        if is_map(node) and chosen(_names_of(path, node), node)
    ]


def _names_of(path: str, node: Node) -> set[str]:
    """Return the names that a user may give for a node; all calls of a layer have its name."""
    return {node.name, node.op.name, path + node.name, path + node.op.name}


def is_map(node: Node) -> bool:
    """Return whether SE can be inserted after a node."""
    if not node.inputs or len(node.outputs) != 1:
        return False
    return 3 <= len(node.output.shape) <= 5 and "float" in node.output.dtype


def _check_names(structures: Structures, names: Iterable[str]) -> set[str]:
    """Return the names; refuse names that are not of a layer with a feature map."""
    nodes = {
        name: node
        for path, structure in structures
        for node in structure.graph.nodes
        for name in _names_of(path, node)
    }
    wanted = _listed(names)
    for name in wanted:
        if name not in nodes:
            hint = did_you_mean(name, nodes)
            raise InputError(f"`where`: there is no layer {shown(name)}.{hint}")
        _refuse_no_map(name, nodes[name])
    return set(wanted)


def _listed(names: Iterable[str]) -> list[str]:
    # An iterator may have no end.
    row = list(islice(names, MOST_NAMES)) if isinstance(names, Iterator) else items_of(names)
    wanted = [name for name in map(plain_text, row or ()) if name is not None]
    if not wanted or len(wanted) < len(row or ()):
        raise InputError(
            f"`where` must be 'auto', one of {tuple(RULES)}, a regular expression, a list of layer "
            f"names or a function of a layer, got {shown(names)}."
        )
    return wanted


def _refuse_no_map(name: str, node: Node) -> None:
    if not is_map(node):
        shapes = [tensor.shape for tensor in node.outputs]
        raise InputError(
            f"`where`: {name!r} must output a feature map of floats, (N, L, C), (N, H, W, C) or "
            f"(N, D, H, W, C), got {shapes[0] if len(shapes) == 1 else shapes}."
        )
