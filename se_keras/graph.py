"""Read a functional model as a graph, edit the graph, and build a new model from it.

Only this module uses Keras' internal data structures of networks. A node is one call of a layer or
of an operation of `keras.ops`; the edges are the symbolic tensors of the traced model. A nested
model is one node with its own graph, so that edits on either level keep the nesting.

    graph = trace(model)
    for node in graph.nodes: ...                     # execution order
    graph.insert(keras.layers.ReLU(), graph.nodes[3].output)
    new = graph.build()                              # `model` is unchanged
"""

import inspect
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras
from keras import KerasTensor, tree

from se_keras.support.errors import InputError, in_one_line
from se_keras.support.tables import format_table

# Keras builds and loads a network by recursion, with one call for each layer of the longest chain:
# ResNet-RS-420 needs over 1,500, but Python's default limit is 1,000.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 4_000))

Shape = tuple[int | None, ...]


def shape_fits(shape: Shape, expected: Shape) -> bool:
    """Return whether a shape fits an expected shape, in which `None` allows any size.

    Example:

    >>> from se_keras.graph import shape_fits
    >>> shape_fits((8, 224, 224, 3), (None, None, None, 3)), shape_fits((8, 3), (None, 4))
    (True, False)
    """
    return len(shape) == len(expected) and all(
        wanted in (None, size) for size, wanted in zip(shape, expected, strict=True)
    )


@dataclass(eq=False)
class Node:
    """One call of an operation.

    Attributes:
        name: name of the operation; its second call is `name#2`, and so on.
        op: the called layer, nested model or operation of `keras.ops`.
        args, kwargs: arguments of the call: `KerasTensor`s, constants, and structures of both.
        outputs: the output tensors as a flat list.
        subgraph: the inner graph, if `op` is a functional or Sequential model. All calls of a
            model share it.
    """

    name: str
    op: keras.Operation
    args: tuple
    kwargs: dict[str, Any]
    outputs: list[KerasTensor]
    subgraph: "Graph | None" = None

    @property
    def inputs(self) -> list[KerasTensor]:
        """All tensors among the arguments, as a flat list in order."""
        return _tensors((self.args, self.kwargs))

    @property
    def output(self) -> KerasTensor:
        """The only output."""
        (tensor,) = self.outputs
        return tensor


@dataclass(eq=False)
class Graph:
    """The result of `trace`: a model as a graph.

    Edits change the graph, but never the traced model.

    Attributes:
        model: the traced model.
        inputs: its input tensors, in the structure of `model.input`.
        outputs: its output tensors, in the structure of `model.output`; see `set_outputs`.
    """

    model: keras.Model
    inputs: Any
    outputs: Any
    _producers: dict[KerasTensor, Node] = field(repr=False)
    # The `training` arguments of the calls of this model: see `_note_calls`.
    _trainings: set[bool | None] = field(default_factory=set, repr=False)
    _takes_masks: bool = field(default=False, repr=False)
    # All graphs of the same `trace`.
    _family: Collection["Graph"] = field(default=(), repr=False)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The inputs and all calls that the outputs need, in execution order."""
        order: dict[Node, None] = {}
        opened: set[Node] = set()
        waiting = [self._producers[tensor] for tensor in reversed(self._end_tensors())]
        while waiting:
            node = waiting[-1]
            missing = [self._producers[t] for t in node.inputs if self._producers[t] not in order]
            if node in order or not missing:
                order[waiting.pop()] = None
                continue
            if not opened.isdisjoint(missing):
                raise ValueError(f"The edited graph has a cycle at {node.name!r}.")
            opened.add(node)
            waiting.extend(reversed(missing))
        return tuple(order)

    @cached_property
    def _consumers(self) -> dict[KerasTensor, list[Node]]:
        consumers: dict[KerasTensor, dict[Node, None]] = {}
        for node in self.nodes:
            for tensor in node.inputs:
                consumers.setdefault(tensor, {})[node] = None
        return {tensor: list(nodes) for tensor, nodes in consumers.items()}

    @cached_property
    def _node_set(self) -> frozenset[Node]:
        return frozenset(self.nodes)

    @cached_property
    def _masked(self) -> set[KerasTensor]:
        masked: set[KerasTensor] = set()
        for node in self.nodes:
            given = not masked.isdisjoint(node.inputs) or bool(_tensors(node.kwargs.get("mask")))
            if not node.inputs:
                comes = self._takes_masks
            elif node.subgraph is not None:
                comes = any(map(node.subgraph.has_mask, _tensors(node.subgraph.outputs)))
            else:
                comes = given and getattr(node.op, "supports_masking", False)
            if comes or any(getattr(t, "_keras_mask", None) is not None for t in node.outputs):
                masked.update(node.outputs)
        return masked

    def _end_tensors(self) -> list[KerasTensor]:
        return [*_tensors(self.inputs), *_tensors(self.outputs)]

    # --- reading ---------------------------------------------------------------------------------

    def producer(self, tensor: KerasTensor) -> Node:
        """Return the node that outputs a tensor; for an input of the model, its `InputLayer`."""
        return self._producers[tensor]

    def consumers(self, tensor: KerasTensor) -> list[Node]:
        """Return the nodes that take a tensor, in execution order, each once."""
        return self._consumers.get(tensor, [])

    def is_output(self, tensor: KerasTensor) -> bool:
        """Return whether a tensor is an output of the model."""
        return any(tensor is output for output in _tensors(self.outputs))

    def sole_consumer(self, tensor: KerasTensor) -> Node | None:
        """Return the only consumer of a tensor; `None` for several, and for an output."""
        consumers = self.consumers(tensor)
        return consumers[0] if len(consumers) == 1 and not self.is_output(tensor) else None

    def has_mask(self, tensor: KerasTensor) -> bool:
        """Return whether a tensor may have a mask, which Keras passes to its consumers."""
        return tensor in self._masked

    def may_train(self, node: Node) -> bool:
        """Return whether a call may be in training mode if the model is called without `training=`.

        The `training` argument of a model's call holds for all inner calls. It may be a tensor, and
        a model may be called several times.
        """
        return True in {_training_of(node, fixed) for fixed in self._trainings}

    def __contains__(self, node: Node) -> bool:
        """Return whether a node is still one of `nodes`, after edits."""
        return node in self._node_set

    def calls_of(self, op: keras.Operation) -> int:
        """Return how often the traced model calls an operation, including nested models."""
        return sum(node.op is op for graph in self._family for node in graph.nodes)

    def find(self, name: str) -> Node:
        """Return the node with this name.

        Raises:
            InputError: if there is no such node.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise InputError(f"`name` must be the name of a node of {self.model.name!r}, got {name!r}.")

    def graphs(self) -> Iterator[tuple[str, "Graph"]]:
        """Yield this graph and all nested graphs, each once, with its path.

        Yields:
            `("", graph)`, then `("backbone/", subgraph)`, ...
        """
        yield from self._walk("", set())

    def _walk(self, path: str, seen: set["Graph"]) -> Iterator[tuple[str, "Graph"]]:
        seen.add(self)
        yield path, self
        for node in self.nodes:
            if node.subgraph is not None and node.subgraph not in seen:
                yield from node.subgraph._walk(f"{path}{node.name}/", seen)

    def calls(self, kind: type) -> Iterator[tuple[str, "Graph", Node]]:
        """Yield the calls of layers or operations of a class, in this graph and nested ones.

        Yields:
            The path of the graph that contains the node, the graph, and the node.
        """
        for path, graph in self.graphs():
            for node in graph.nodes:
                if isinstance(node.op, kind):
                    yield path, graph, node

    def shapes(self, input_shapes: Sequence[Shape]) -> dict[KerasTensor, Shape]:
        """Return the shapes of this graph's tensors (without nested graphs) for given inputs.

        Args:
            input_shapes: shapes with the batch axis, in the order of `model.inputs`.
        """
        shapes = dict(zip(_tensors(self.inputs), map(tuple, input_shapes), strict=True))
        for node in self.nodes:
            if node.inputs:
                shapes.update(zip(node.outputs, _output_shapes(node, shapes), strict=True))
        return shapes

    def __str__(self) -> str:
        rows = [
            [
                path + node.name,
                type(node.op).__name__,
                node.outputs[0].shape if len(node.outputs) == 1 else f"{len(node.outputs)} outputs",
                ", ".join(graph.producer(tensor).name for tensor in node.inputs),
            ]
            for path, graph in self.graphs()
            for node in graph.nodes
        ]
        return format_table(["node", "operation", "output", "inputs"], rows)

    # --- editing ---------------------------------------------------------------------------------

    def add(self, op: keras.Operation, *args: Any, **kwargs: Any) -> Node:
        """Call a new operation on tensors of this graph.

        The node becomes part of `nodes` when an output needs it: see `redirect`.

        Args:
            op: a new layer or operation of `keras.ops` that no model has. It is built.
            *args, **kwargs: arguments of the call, as in a functional model.
        """
        # Use new tensors, because the traced model's own tensors would record the call.
        outputs = op(*_map_tensors(_detach, args), **_map_tensors(_detach, kwargs))
        calls = sum(node.op is op for node in set(self._producers.values()))
        node = Node(_call_name(op, calls + 1), op, args, kwargs, _tensors(outputs))
        self._producers.update(dict.fromkeys(node.outputs, node))
        return node

    def redirect(
        self, old: KerasTensor, new: KerasTensor, into: Iterable[Node] | None = None
    ) -> None:
        """Make consumers of one tensor take another tensor.

        Args:
            old, new: tensors of this graph.
            into: the consumers to change; `None` for all `nodes` and the model's outputs.
        """

        def switch(tensor: KerasTensor) -> KerasTensor:
            return new if tensor is old else tensor

        if into is None:
            into = self.consumers(old)
            self.outputs = _map_tensors(switch, self.outputs)
        for node in into:
            node.args = _map_tensors(switch, node.args)
            node.kwargs = _map_tensors(switch, node.kwargs)
        self._forget_order()

    def set_outputs(self, outputs: Any) -> None:
        """Set the outputs of the model: tensors of this graph, in any structure."""
        self.outputs = outputs
        self._forget_order()

    def _forget_order(self) -> None:
        for cached in ("nodes", "_consumers", "_node_set", "_masked"):
            self.__dict__.pop(cached, None)

    def insert(
        self, op: keras.Operation, after: KerasTensor, into: Iterable[Node] | None = None
    ) -> Node:
        """Insert a new operation between a tensor and all or some of its consumers.

        Args:
            op: as in `add`.
            after: the tensor that the operation takes.
            into: the consumers that take its output; `None` for all, and the model's outputs.
        """
        node = self.add(op, after)
        self.redirect(after, node.output, into)
        return node

    def build(self) -> keras.Model:
        """Build a new model from this graph, with copies of all operations and weights.

        Layer names, trainable flags and dtype policies are kept. The class is kept if it can be
        made from inputs and outputs, else it is `keras.Model`; a Sequential model that is still a
        chain stays Sequential. The new model is not compiled.

        Raises:
            InputError: if an operation can't be recreated from its config, or different layers
                share weights.
        """
        return _Builder().build(self)


def trace(model: keras.Model) -> Graph:
    """Read a functional or Sequential model as a graph, without calling its layers.

    Raises:
        InputError: if `model` is another object, or a Sequential model that is not built.

    Example:

    >>> import keras
    >>> from se_keras.graph import trace
    >>> x = keras.Input((8,), name="x")
    >>> model = keras.Model(x, keras.layers.Dense(4, name="dense")(x))
    >>> graph = trace(model)
    >>> relu = graph.insert(keras.layers.ReLU(name="relu"), graph.find("dense").output)
    >>> print(graph)
    node   operation   output     inputs
    x      InputLayer  (None, 8)
    dense  Dense       (None, 4)  x
    relu   ReLU        (None, 4)  dense
    >>> [layer.name for layer in graph.build().layers], [layer.name for layer in model.layers]
    (['x', 'dense', 'relu'], ['x', 'dense'])
    """
    if not is_functional(model):
        raise InputError(
            "`model` must be a functional model or a built Sequential model, got "
            f"{type(model).__name__}, whose layers are called in Python code, or not called yet."
        )
    graph = _trace(model, {})
    graph._trainings.add(None)
    _note_calls(graph)
    return graph


def open_layer(node: Node, copies: bool = True) -> Graph | None:
    """Return the graph of the calls that a custom layer makes in inference.

    Args:
        node: a call of the layer.
        copies: whether to call a copy of the layer, so that its inner layers do not record the
        call.

    Returns:
        The result of `trace` for a model of this layer; `None` if it takes several tensors, can't
        be recreated from its config, or can't be called on symbolic tensors.

    Example:

    >>> import keras
    >>> from se_keras.graph import open_layer, trace
    >>> class Twice(keras.layers.Layer):
    ...     def call(self, x):
    ...         return keras.ops.add(x, x)
    >>> x = keras.Input((4,))
    >>> graph = trace(keras.Model(x, Twice(name="twice")(x)))
    >>> [type(node.op).__name__ for node in open_layer(graph.find("twice")).nodes]
    ['InputLayer', 'Add']
    """
    if node.args != tuple(node.inputs) or len(node.inputs) != 1:
        return None
    (given,) = node.inputs
    x = keras.Input(batch_shape=given.shape, dtype=given.dtype)
    try:
        layer = _copy_of(node) if copies else node.op
        return trace(keras.Model(x, layer.call(x), name=node.op.name))
    except Exception:  # custom code can raise any error on symbolic tensors
        return None


def _copy_of(node: Node) -> keras.Layer:
    layer = _remake(node.op)
    layer(*map(_detach, node.inputs))
    _copy_state(node.op, layer)
    return layer


def is_functional(model: Any) -> bool:
    """Return whether Keras recorded all calls of a model, so that no Python code makes them."""
    return (
        isinstance(model, keras.Model)
        and type(model).call.__module__.split(".")[0] == "keras"
        and getattr(model, "inputs", None) is not None
    )


def is_quantized(layer: keras.Layer) -> bool:
    """Return whether a layer or model, or a part of it, is quantized.

    Example:

    >>> import keras
    >>> from se_keras.graph import is_quantized
    >>> layer = keras.layers.Dense(2, dtype="int8_from_float32")
    >>> is_quantized(layer), is_quantized(keras.layers.Dense(2))
    (True, False)
    """
    return any(part.quantization_mode is not None for part in layer._flatten_layers())


def innermost_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """Yield the layers of a model, with nested models replaced by their layers.

    Example:

    >>> import keras
    >>> from se_keras.graph import innermost_layers
    >>> body = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="a")])
    >>> model = keras.Sequential([keras.Input((4,)), body, keras.layers.Dense(2, name="b")])
    >>> [layer.name for layer in innermost_layers(model)]
    ['a', 'b']
    """
    for layer in model.layers:
        yield from innermost_layers(layer) if isinstance(layer, keras.Model) else (layer,)


def ends_of(model: keras.Model) -> tuple[Any, Any]:
    """Return the input and output tensors of a functional or Sequential model, in its structures.

    A Sequential model has `input` and `output` only after it was called in another model.

    Example:

    >>> import keras
    >>> from se_keras.graph import ends_of
    >>> x, y = ends_of(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    >>> x.shape, y.shape
    ((None, 4), (None, 2))
    """
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def _trace(model: keras.Model, known: dict[keras.Model, Graph]) -> Graph:
    if model in known:
        return known[model]
    graph = known[model] = Graph(model, *ends_of(model), {}, _family=known.values())
    calls: Counter[keras.Operation] = Counter()
    for record in _records(model):
        op = record.operation
        calls[op] += 1
        node = Node(
            _call_name(op, calls[op]),
            op,
            record.arguments.args,
            record.arguments.kwargs,
            list(record.outputs),
            _trace(op, known) if is_functional(op) else None,
        )
        graph._producers.update(dict.fromkeys(node.outputs, node))
    return graph


def _note_calls(graph: Graph) -> None:
    """Note in each nested graph the `training` arguments of its calls and of enclosing calls."""
    for node in graph.nodes:
        inner = node.subgraph
        if inner is None:
            continue
        trainings = {_training_of(node, fixed) for fixed in graph._trainings}
        masks = any(map(graph.has_mask, nested_inputs(node))) or bool(
            _tensors(node.kwargs.get("mask"))
        )
        if not trainings <= inner._trainings or masks > inner._takes_masks:
            inner._trainings |= trainings
            inner._takes_masks |= masks
            inner._forget_order()
            _note_calls(inner)


def _training_of(node: Node, fixed: bool | None) -> bool | None:
    """Return the `training` of a call within a call with `fixed`; `True` may be a tensor."""
    value = node.kwargs.get("training") if fixed is None else fixed
    return value if value is None else isinstance(value, KerasTensor) or bool(value)


def _records(model: keras.Model) -> Iterator[Any]:
    """Yield Keras' records of the calls in a model, inputs first."""
    # With public API, a model can only be read by calling its layers again (`clone_model`), which
    # changes `layer.output`, or by serializing them (`get_config`), which many layers can't do.
    by_depth = keras.Function(model.inputs, model.outputs, name=model.name)._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def _call_name(op: keras.Operation, call: int) -> str:
    return op.name if call == 1 else f"{op.name}#{call}"


# --- tensors in structures -----------------------------------------------------------------------


def _tensors(structure: Any) -> list[KerasTensor]:
    return [leaf for leaf in tree.flatten(structure) if isinstance(leaf, KerasTensor)]


def _map_tensors(function: Any, structure: Any) -> Any:
    return tree.map_structure(
        lambda leaf: function(leaf) if isinstance(leaf, KerasTensor) else leaf, structure
    )


def _detach(tensor: KerasTensor) -> KerasTensor:
    return KerasTensor(tensor.shape, tensor.dtype)


def _output_shapes(node: Node, shapes: dict[KerasTensor, Shape]) -> list[Shape]:
    if all(shapes[tensor] == tuple(tensor.shape) for tensor in node.inputs):
        return [tuple(tensor.shape) for tensor in node.outputs]
    if node.subgraph is not None:
        inside = node.subgraph.shapes([shapes[t] for t in nested_inputs(node)])
        return [inside[tensor] for tensor in _tensors(node.subgraph.outputs)]

    def resize(tensor: KerasTensor) -> KerasTensor:
        # Outside of a layer's call, its weights are not cast to its compute type, so its inputs
        # must have the type of the weights.
        is_layer_float = isinstance(node.op, keras.Layer) and "float" in tensor.dtype
        return KerasTensor(
            shapes[tensor], node.op.variable_dtype if is_layer_float else tensor.dtype
        )

    args, kwargs = _map_tensors(resize, node.args), _map_tensors(resize, node.kwargs)
    try:
        spec = node.op.compute_output_spec(*args, **kwargs)
    except ValueError as error:  # raised by Keras for sizes that this layer can't take
        sizes = ", ".join(str(shapes[tensor]) for tensor in node.inputs)
        reason = in_one_line(error)
        raise InputError(
            f"`input_shape`: {node.name!r} can't take an input of shape {sizes}: "
            f"{reason.rstrip('.')}."
        ) from error
    return [tuple(tensor.shape) for tensor in _tensors(spec)]


def in_model_order(given: Any, inputs: Any) -> list[Any]:
    """Return one value for each input of a model, in the order of `model.inputs`.

    Args:
        given: one value for each input, in the structure of the inputs, or by their names.
        inputs: the input tensors, in the structure of `model.input`.

    Example:

    >>> import keras
    >>> from se_keras.graph import in_model_order
    >>> inputs = [keras.Input((4,), name="b"), keras.Input((4,), name="a")]
    >>> in_model_order({"a": 1, "b": 2}, inputs)
    [2, 1]
    """
    if isinstance(given, Mapping) and not isinstance(inputs, dict):
        return [given[tensor.name] for tensor in tree.flatten(inputs)]
    return tree.flatten(given)


def nested_inputs(node: Node) -> list[KerasTensor]:
    """Return the tensors that a call of a nested model takes, in the order of its `inputs`."""
    assert node.subgraph is not None  # the node calls a model
    given = node.args[0] if node.args else node.kwargs["inputs"]
    return in_model_order(given, node.subgraph.inputs)


# --- building ------------------------------------------------------------------------------------


class _Builder:
    """Build a graph and its nested graphs, with one copy of each operation."""

    def __init__(self):
        self.copies: dict[keras.Operation, keras.Operation] = {}
        self.models: list[tuple[keras.Model, keras.Model]] = []

    def build(self, graph: Graph) -> keras.Model:
        _refuse_tied_weights(graph)
        model = self._model(graph)
        # Setting a model's flag sets it in all its layers, so the outermost model goes first.
        for old, new in reversed(self.models):
            new.trainable = old.trainable
        for old, new in self.copies.items():
            if isinstance(old, keras.Layer) and not is_functional(old):
                _copy_state(old, new)
        return model

    def _model(self, graph: Graph) -> keras.Model:
        old = graph.model
        if type(old) is keras.Sequential and _is_chain(graph):
            layers = [self._copy(node) for node in graph.nodes]
            new = keras.Sequential(layers, name=old.name)
        else:
            new = _functional_class(old)(*self._call(graph), name=old.name)
        self.models.append((old, new))
        return new

    def _call(self, graph: Graph) -> tuple[Any, Any]:
        """Return the inputs and outputs of the new model."""
        tensors: dict[KerasTensor, KerasTensor] = {}
        for node in graph.nodes:
            op = self._copy(node)
            if node.inputs:
                outputs = op(
                    *_map_tensors(tensors.__getitem__, node.args),
                    **_map_tensors(tensors.__getitem__, node.kwargs),
                )
            else:
                outputs = op.output
            tensors.update(zip(node.outputs, _tensors(outputs), strict=True))
        inputs = _map_tensors(tensors.__getitem__, graph.inputs)
        return inputs, _map_tensors(tensors.__getitem__, graph.outputs)

    def _copy(self, node: Node) -> keras.Operation:
        if node.op not in self.copies:
            made = self._model(node.subgraph) if node.subgraph is not None else _remake(node.op)
            self.copies[node.op] = made
        return self.copies[node.op]


def _remake(op: keras.Operation) -> keras.Operation:
    # Inner layers that a constructor makes mostly use the global policy: set it to the layer's.
    before = keras.config.dtype_policy()
    policy = getattr(op, "dtype_policy", before)
    if type(policy) is keras.dtype_policies.DTypePolicy:
        keras.config.set_dtype_policy(policy)
    try:
        return type(op).from_config(op.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f"`model`: {op.name!r} ({type(op).__name__}) can't be recreated from its config: "
            f"{str(error).rstrip('.')}."
        ) from error
    finally:
        keras.config.set_dtype_policy(before)


def _copy_state(old: keras.Layer, new: keras.Layer) -> None:
    """Copy weights, random seeds, vocabularies and trainable flags."""
    _copy_assets(old, new)
    specs = [_specification(layer) for layer in (old, new)]
    if specs[0] != specs[1]:
        for part in filter(_is_changed, old._flatten_layers()):
            raise InputError(
                f"`model`: {old.name!r} ({type(old).__name__}) can't be recreated: {part.name!r} "
                "was quantized or got LoRA, which its config does not have. Change the model "
                "first, then call `quantize` or `enable_lora` on the new model."
            )
        raise InputError(
            f"`model`: {old.name!r} ({type(old).__name__}) must have {specs[0]} when it is "
            f"recreated from its config, got {specs[1]}."
        )
    # Public API does not list sublayers, and the sublayers of a frozen part have their own flags.
    for part, copy in zip(old._flatten_layers(), new._flatten_layers(), strict=True):
        copy.trainable = part.trainable
        if getattr(part, "lora_enabled", False):  # enabling LoRA sets it to the rank
            copy.lora_alpha = part.lora_alpha
    for variable, copy in zip(_variables(old), _variables(new), strict=True):
        # Copy the values: JAX would share the buffer, which training the new model would free.
        copy.assign(keras.ops.copy(variable))
        copy.trainable = variable.trainable
    for part in new._flatten_layers():
        # keras.layers.Normalization computes constants from its weights.
        if hasattr(part, "finalize_state"):
            part.finalize_state()


def _is_changed(layer: keras.Layer) -> bool:
    """Return whether the weights of a layer were replaced after it was built."""
    return layer.quantization_mode is not None or getattr(layer, "lora_enabled", False)


def _copy_assets(old: keras.Layer, new: keras.Layer) -> None:
    # This comes before the weights, because a quantized layer's weights depend on its assets.
    for part, copy in zip(old._flatten_layers(), new._flatten_layers(), strict=False):
        if hasattr(part, "save_assets") and type(copy) is type(part):
            with tempfile.TemporaryDirectory() as folder:
                part.save_assets(folder)
                copy.load_assets(folder)


def _variables(layer: keras.Layer) -> list[keras.Variable]:
    """Return the variables of a layer, sorted by name within each part with unique names.

    A layer that was quantized later has its weights in another order than one made quantized.
    """
    known: set[int] = set()
    ordered: list[keras.Variable] = []
    for part in reversed(list(layer._flatten_layers())):
        own = [variable for variable in part.variables if id(variable) not in known]
        known.update(map(id, own))
        names = [variable.name for variable in own]
        ordered += sorted(own, key=lambda v: v.name) if len(set(names)) == len(names) else own
    return ordered


def _specification(layer: keras.Layer) -> list[str]:
    """Return the facts that a copy must share; not the names, which Keras may number."""
    parts = layer._flatten_layers(include_self=False)
    return [
        *(f"{v.dtype} weights {tuple(v.shape)}" for v in _variables(layer)),
        *(f"{type(part).__name__} in {part.compute_dtype}" for part in parts),
    ]


def _refuse_tied_weights(graph: Graph) -> None:
    owners: dict[int, keras.Layer] = {}
    for _, _, node in graph.calls(keras.Layer):
        own = node.op.weights if node.subgraph is None else ()
        for weight in own:
            owner = owners.setdefault(id(weight), node.op)
            if owner is not node.op:
                raise InputError(
                    f"`model`: {owner.name!r} and {node.op.name!r} share the weight "
                    f"{weight.name!r}, but copies of them would not."
                )


def _is_chain(graph: Graph) -> bool:
    previous = graph.nodes[0].output
    for node in graph.nodes[1:]:
        # A Sequential model itself passes `training` and `mask`.
        given = set(node.kwargs) - {"training", "mask"}
        if not isinstance(node.op, keras.Layer) or given or node.args != (previous,):
            return False
        previous = node.output
    return graph.outputs is previous and len({node.op for node in graph.nodes}) == len(graph.nodes)


def _functional_class(model: keras.Model) -> type[keras.Model]:
    parameters = inspect.signature(type(model).__init__).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    takes_all = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
    return type(model) if takes_all or {"inputs", "outputs"} <= set(parameters) else keras.Model
