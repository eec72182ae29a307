"""Find residual units, concatenated branches and chains of convolutions in a network.

All of this is read from the graph: operations and their consumers. Names are not used.
"""

import itertools
from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property

from keras import KerasTensor

from se_keras.graph import Graph, Node
from se_keras.rewrite.squeeze_excite import format_of, gates_of, is_multiplication
from se_keras.surgery.nodes import (
    ends_maps,
    has_activation,
    has_convolution,
    holds_squeeze_excite,
    is_activation,
    is_addition,
    is_concatenation,
    is_convolution,
    is_depthwise,
    is_gate,
    is_normalization,
    is_own_convolution,
    is_pool,
    is_scaling,
    is_separable,
    is_squeeze_excite,
    kernels,
    upsamples,
)


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The nodes that lead only to one input of a join.

    Attributes:
        nodes: the nodes, latest first; empty if the input has other consumers too.
        entries: the tensors that the branch takes from outside.
        sources: the nodes that output the entries.
    """

    nodes: tuple[Node, ...]
    entries: frozenset[KerasTensor]
    sources: frozenset[Node]

    @cached_property
    def kernels(self) -> list[int]:
        return [size for node in self.nodes for size in kernels(node)]

    @property
    def work(self) -> tuple[int, int]:
        """The number and total size of its kernels: a branch has more than a shortcut."""
        return len(self.kernels), sum(self.kernels)

    @property
    def convolves(self) -> bool:
        return any(map(has_convolution, self.nodes))

    @property
    def upsamples(self) -> bool:
        """Return whether it returns from a lower resolution, except from a global pool (ASPP)."""
        return any(map(upsamples, self.nodes)) and not any(map(ends_maps, self.nodes))


@dataclass(frozen=True, kw_only=True)
class ResidualUnit:
    """A branch and a shortcut that start at the same node.

    Attributes:
        join: the node that merges them.
        inner, skip: the inputs of the join from the branch and from the shortcut.
        branch, shortcut: the nodes that lead to these inputs.
    """

    join: Node
    inner: KerasTensor
    skip: KerasTensor
    branch: Branch
    shortcut: Branch

    @property
    def fork(self) -> KerasTensor:
        """Return the tensor at which the branch starts."""
        (tensor,) = self.branch.entries
        return tensor

    @property
    def is_residual(self) -> bool:
        """Return whether both start together, and the branch computes more than the shortcut."""
        starts_once = len(self.branch.entries) == 1
        starts_together = starts_once and self.branch.sources == self.shortcut.sources
        computes = self.branch.convolves and self.branch.work > self.shortcut.work
        returns = self.branch.upsamples or self.shortcut.upsamples
        return starts_together and computes and not returns


@dataclass(frozen=True, kw_only=True)
class Concatenation:
    """A concatenation and its branches.

    Attributes:
        node: the node of the concatenation.
        branches: one branch for each input.
        leaves: the joined tensors, also through nested concatenations.
        starts_together: whether its branches start at the same node.
    """

    node: Node
    branches: tuple[Branch, ...]
    leaves: frozenset[KerasTensor]
    starts_together: bool

    @cached_property
    def inside(self) -> frozenset[Node]:
        return frozenset(node for branch in self.branches for node in branch.nodes)

    @cached_property
    def is_module(self) -> bool:
        """Return whether it is a module: branches start together, one has a kernel above 1x1.

        With 1x1 kernels alone it is a projection, as in NASNet. No branch may return from a lower
        resolution, as in a U-Net.
        """
        spatial = any(size > 1 for branch in self.branches for size in branch.kernels)
        returns = any(branch.upsamples for branch in self.branches)
        return len(self.branches) > 1 and spatial and not returns and self.starts_together


class Structure:
    """The structure of one graph, in which `x * f(x)` is one step from `x`, for any `f`.

    So handwritten SE, attention or swish does not hide the unit around it.

    Attributes:
        graph: the graph.
        gates: each such multiplication -> its `x`.
        order: each node -> its number in execution order.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.gates: dict[Node, KerasTensor] = {}
        self.order = {node: index for index, node in enumerate(graph.nodes)}
        self._factors: dict[Node, Branch] = {}
        self._within_gates: set[Node] = set()
        self._squeeze_excites = {gate.node for gate in gates_of(graph)}
        for node in graph.nodes:
            self._read_gate(node)

    def _read_gate(self, node: Node) -> None:
        if not is_multiplication(node) or len(node.inputs) != 2:
            return
        for x, factor in (node.inputs, node.inputs[::-1]):
            branch = self.branch(node, factor)
            if branch.nodes and branch.entries == {x}:
                self.gates[node], self._factors[node] = x, branch
                self._within_gates.update(branch.nodes)
                return

    # --- steps -----------------------------------------------------------------------------------

    def inputs(self, node: Node) -> list[KerasTensor]:
        if node in self.gates:
            return [self.gates[node]]
        return [tensor for tensor in node.inputs if tensor is not node.kwargs.get("mask")]

    def consumers(self, tensor: KerasTensor) -> list[Node]:
        return [node for node in self.graph.consumers(tensor) if node not in self._within_gates]

    def previous(self, node: Node) -> Node | None:
        """Return the only node that this node takes its input from; `None` for several."""
        inputs = self.inputs(node)
        return self.graph.producer(inputs[0]) if len(inputs) == 1 else None

    def next(self, node: Node) -> Node | None:
        """Return the only consumer of this node's output; `None` for several."""
        if len(node.outputs) != 1 or self.graph.is_output(node.output):
            return None
        consumers = self.consumers(node.output)
        return consumers[0] if len(consumers) == 1 else None

    def branch(self, join: Node, *tensors: KerasTensor) -> Branch:
        """Collect the nodes that lead only to the given inputs of `join`."""
        starts = {self.graph.producer(tensor): {tensor} for tensor in tensors}
        nodes: dict[Node, None] = {}
        entries: set[KerasTensor] = set()
        taken = dict(starts)
        # Go from the latest node to the earliest, so that all consumers of a node come before it.
        while taken:
            node = max(taken, key=self.order.__getitem__)
            fed = taken.pop(node)
            if not self._feeds_only(node, {*nodes, join} if node in starts else nodes.keys()):
                entries |= fed
                continue
            nodes[node] = None
            for tensor in self.inputs(node):
                taken.setdefault(self.graph.producer(tensor), set()).add(tensor)
        sources = frozenset(map(self.graph.producer, entries))
        return Branch(nodes=tuple(nodes), entries=frozenset(entries), sources=sources)

    def _feeds_only(self, node: Node, nodes: Set[Node]) -> bool:
        """Return whether a node is not an input, and only these nodes take its output."""
        return bool(node.inputs) and all(
            consumer in nodes and not self.graph.is_output(tensor)
            for tensor in node.outputs
            for consumer in tuple(self.consumers(tensor)) or (None,)
        )

    def is_concatenation(self, node: Node) -> bool:
        """Return whether a node concatenates the channels of maps."""
        if not is_concatenation(node):
            return False
        rank = len(node.output.shape)
        channels = 1 if format_of(self.graph, node) == "channels_first" else rank - 1
        return rank > 2 and node.op.axis % rank == channels

    # --- residual units --------------------------------------------------------------------------

    @cached_property
    def residual_units(self) -> list[ResidualUnit]:
        """The innermost residual units; a skip around other units (as in EDSR) is not a unit."""
        units: list[ResidualUnit] = []
        joins: set[Node] = set()
        for node in self.graph.nodes:
            unit = self._residual_unit(node)
            if unit is not None and joins.isdisjoint(unit.branch.nodes):
                units.append(unit)
                joins.add(node)
        return [unit for unit in units if not self._is_part_of_a_module(unit)]

    def _residual_unit(self, node: Node) -> ResidualUnit | None:
        joins = self.is_concatenation(node) or is_addition(node)
        if not joins or len(node.inputs) != 2:
            return None
        pairs = [(tensor, self.branch(node, tensor)) for tensor in node.inputs]
        (skip, shortcut), (inner, branch) = sorted(pairs, key=lambda pair: pair[1].work)
        unit = ResidualUnit(join=node, inner=inner, skip=skip, branch=branch, shortcut=shortcut)
        return unit if unit.is_residual and self._skips(unit) else None

    def _skips(self, unit: ResidualUnit) -> bool:
        """Return whether the shortcut is at most a projection."""
        if not self.is_concatenation(unit.join):
            return len(unit.shortcut.kernels) <= 1
        # ShuffleNet concatenates with a pool or a part of the channels. In DenseNet the
        # concatenated map also goes into the branch.
        return not unit.shortcut.kernels and len(self.consumers(unit.skip)) <= 1

    def _is_part_of_a_module(self, unit: ResidualUnit) -> bool:
        """Return whether its fork also feeds other branches of a module (a cell of NASNet)."""
        return any(
            branch.kernels and unit.join not in branch.nodes and unit.fork in branch.entries
            for module in self._concatenations
            if module.is_module and unit.join in module.inside
            for branch in module.branches
        )

    # --- concatenated branches -------------------------------------------------------------------

    @cached_property
    def _concatenations(self) -> list[Concatenation]:
        return [
            self._concatenation(node) for node in self.graph.nodes if self.is_concatenation(node)
        ]

    def _concatenation(self, node: Node) -> Concatenation:
        return Concatenation(
            node=node,
            branches=tuple(self.branch(node, tensor) for tensor in node.inputs),
            leaves=self._leaves(node),
            starts_together=self._starts_together(node),
        )

    def _starts_together(self, node: Node) -> bool:
        """Return whether all branches start at one map; they may fork later (Inception-v3)."""
        groups = [[tensor] for tensor in node.inputs]
        while len(groups) > 1:
            sources = [self.branch(node, *group).sources for group in groups]
            numbers = itertools.combinations(range(len(groups)), 2)
            joined = next((pair for pair in numbers if sources[pair[0]] & sources[pair[1]]), None)
            if joined is None:
                return False
            groups[joined[0]] += groups.pop(joined[1])
        return True

    def _leaves(self, node: Node) -> frozenset[KerasTensor]:
        leaves: set[KerasTensor] = set()
        waiting = [*node.inputs]
        while waiting:
            tensor = waiting.pop()
            producer = self.graph.producer(tensor)
            if self.is_concatenation(producer):
                waiting.extend(producer.inputs)
            else:
                leaves.add(tensor)
        return frozenset(leaves)

    @cached_property
    def modules(self) -> list[Concatenation]:
        """The outermost concatenations of branches that start together, one of them spatial."""
        in_units = {node for unit in self.residual_units for node in unit.branch.nodes}
        joins = {unit.join for unit in self.residual_units}
        candidates = [each for each in self._concatenations if each.is_module]
        return [
            module
            for module in candidates
            # A module with units in its branches is a stage, as in CSPNet.
            if module.node not in in_units | joins
            and joins.isdisjoint(module.inside)
            and not any(module.leaves < other.leaves for other in candidates)
        ]

    @cached_property
    def transitions(self) -> list[Node]:
        """Return the nodes between two dense blocks (DenseNet's transition layers)."""
        ends = {module.node for module in self.modules if self._find_start(module) is not None}
        starts = [self._find_start(module) for module in self.modules]
        maps = [node for node in starts if node is not None and len(node.outputs) == 1]
        return [node for node in maps if self._follows(node, ends)]

    def _find_start(self, module: Concatenation) -> Node | None:
        """Return the input of a dense block, at which its layers start, or at each other."""
        producers = {self.graph.producer(tensor) for tensor in module.leaves}
        inner = [other for other in self._concatenations if other.leaves <= module.leaves]
        sources = {node for other in inner for branch in other.branches for node in branch.sources}
        if not sources <= producers | {other.node for other in inner}:
            return None
        return min(producers & sources, key=self.order.__getitem__, default=None)

    def _follows(self, node: Node | None, ends: set[Node]) -> bool:
        while node is not None and node not in ends:
            node = self.previous(node)
        return node is not None

    # --- convolutions in a row -------------------------------------------------------------------

    @cached_property
    def convolutions(self) -> list[Node]:
        """Return the convolutions of feature maps, without gates and nodes after a global pool."""
        pooled: set[Node] = set()
        found = []
        for node in self.graph.nodes:
            before = [self.graph.producer(tensor) for tensor in self.inputs(node)]
            if ends_maps(node) or (before and pooled.issuperset(before)):
                pooled.add(node)
            elif is_convolution(node) and node not in self._within_gates:
                found.append(node)
        return [node for node in found if not self.is_squeeze_excite(node)]

    @cached_property
    def hidden_units(self) -> list[Node]:
        """Custom layers with several convolutions each, if they contain most convolutions.

        A MobileNet or EfficientNet of such layers shows no residual units, so these are its units.
        """
        own = [node for node in self.convolutions if is_own_convolution(node)]
        spatial = [node for node in own if max(kernels(node)) > 1]
        inside = sum(len(kernels(node)) for node in spatial if len(kernels(node)) > 1)
        all_kernels = sum(len(kernels(node)) for node in self.convolutions)
        return spatial if 2 * inside > all_kernels else []

    def activation(self, node: Node) -> Node | None:
        """Return the node with the activation of a convolution: itself, or a node after it.

        A custom layer is assumed to include its activation.
        """
        while not (has_activation(node) or is_own_convolution(node) or self.activates(node)):
            following = self.next(node)
            between = (is_normalization, is_scaling, is_pool, self.activates)
            if following is None or not any(passes(following) for passes in between):
                return None
            node = following
        return node

    def gates_a_product(self, node: Node) -> bool:
        """Return whether a node is a sigmoid or softmax whose output is multiplied."""
        return is_gate(node) and any(map(is_multiplication, self.consumers(node.output)))

    def activates(self, node: Node) -> bool:
        """Return whether a node is an activation, also in the form `x * sigmoid(x)`."""
        written_out = node in self.gates and not self._factors[node].kernels
        return is_activation(node) or written_out

    def normalized(self, node: Node) -> Node:
        """Return the normalization after a convolution, or the convolution if there is none."""
        following = self.next(node)
        return following if following is not None and is_normalization(following) else node

    def is_pointwise(self, node: Node) -> bool:
        """Return whether a convolution is 1x1 after a depthwise one, or a layer that has both."""
        if is_separable(node):
            return True
        before = self.previous(node)
        while before is not None and not kernels(before) and self.next(before) is not None:
            before = self.previous(before)
        return kernels(node) == [1] and before is not None and is_depthwise(before)

    # --- existing squeeze-and-excitation -------------------------------------------------------

    def is_squeeze_excite(self, node: Node) -> bool:
        """Return whether a node is an SE layer, or a product with a gate for each channel."""
        return node in self._squeeze_excites or is_squeeze_excite(node)

    def holds_squeeze_excite(self, node: Node) -> bool:
        """Return whether a node contains SE, or is SE."""
        if node.subgraph is not None:
            inside = Structure(node.subgraph)
            return any(map(inside.holds_squeeze_excite, node.subgraph.nodes))
        return self.is_squeeze_excite(node) or holds_squeeze_excite(node)
