"""Count parameters, multiply-adds and activations of any functional model.

Multiply-adds are counted for one image, in convolutions of any rank (grouped, depthwise, separable,
transposed, dilated), `Dense`, `EinsumDense`, and the layers inside `SqueezeExcite` and its kin.
Biases, normalization, activations, pooling and element-wise operations are not counted, as in the
SENet paper (Table 2: 3.86 G for ResNet-50). Activations are the elements of the outputs of the
counted layers, as in timm and fvcore. Layers of unknown kinds are reported as not counted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from se_keras.graph import Graph, Shape, nested_inputs, shape_fits, trace
from se_keras.rewrite.work import work_of
from se_keras.support.arguments import items_of, plain
from se_keras.support.errors import InputError, shown
from se_keras.support.tables import format_table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One call of a layer or operation.

    Attributes:
        name: name of the layer or operation, after the names of the enclosing models, such as
            `backbone/conv1`.
        kind: class of the layer or operation.
        output_shape: shape of the first output, with the batch axis.
        params, trainable: number of all and of trainable parameters; 0 if an earlier row counts
            them already.
        macs: multiply-adds for one image; `None` if they are not counted.
        activations: elements of the outputs of its convolutions and dense layers for one image.
    """

    name: str
    kind: str
    output_shape: Shape
    params: int
    trainable: int
    macs: int | None
    activations: int


@dataclass(frozen=True, kw_only=True)
class Count:
    """The result of `count`; prints as a table with a total.

    Attributes:
        rows: one row for each call, in execution order.
        params: number of all parameters with moving statistics, equal to Keras' `count_params()`.
        trainable: number of trainable parameters.
        macs: multiply-adds for one image, without the rows that are not counted.
        activations: elements of the outputs of convolutions and dense layers for one image.
        uncounted: names of the rows whose multiply-adds are not counted.
    """

    rows: tuple[Row, ...]

    @property
    def params(self) -> int:
        return sum(row.params for row in self.rows)

    @property
    def trainable(self) -> int:
        return sum(row.trainable for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs or 0 for row in self.rows)

    @property
    def activations(self) -> int:
        return sum(row.activations for row in self.rows)

    @property
    def uncounted(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows if row.macs is None)

    def __str__(self) -> str:
        header = ["layer", "kind", "output", "parameters", "trainable", "multiply-adds"]
        lines = [
            [
                row.name,
                row.kind,
                row.output_shape,
                row.params,
                row.trainable,
                "not counted" if row.macs is None else row.macs,
                row.activations,
            ]
            for row in self.rows
        ]
        total = ["total", None, None, self.params, self.trainable, self.macs, self.activations]
        return format_table([*header, "activations"], [*lines, total])


def count(
    model: keras.Model, input_shape: Sequence[int | None] | Sequence[Shape] | None = None
) -> Count:
    """Count the parameters, multiply-adds and activations of a model.

    Multiply-adds are counted in convolutions, dense layers and SE layers, as in the SENet paper.

    Args:
        model: a functional or Sequential model; layers of nested models are counted too.
        input_shape: shape of one image, such as (224, 224, 3), if the model leaves sizes open; a
            list of shapes in the order of `model.inputs` for several inputs.

    Returns:
        A `Count` with `.params`, `.trainable`, `.macs` and `.activations`; it prints as a table.

    Raises:
        InputError: if the model is not functional, `input_shape` does not fit the model, or a
            needed size is unknown.

    Example:

    >>> import keras
    >>> import se_keras
    >>> x = keras.Input((8, 8, 3))
    >>> y = keras.layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv")(x)
    >>> print(se_keras.count(keras.Model(x, se_keras.se_block(y, 4, name="se"))))
    layer  kind           output            parameters  trainable  multiply-adds  activations
    conv   Conv2D         (None, 8, 8, 16)         432        432         27,648        1,024
    se     SqueezeExcite  (None, 8, 8, 16)         148        148            128           20
    total                                          580        580         27,776        1,044
    """
    graph = trace(model)
    trainable = {id(weight) for weight in model.trainable_weights}
    shapes = _resolve_input_shapes(model, input_shape)
    return Count(rows=tuple(_make_rows(graph, shapes, "", set(), trainable)))


def _resolve_input_shapes(model: keras.Model, input_shape: Sequence | None) -> list[Shape]:
    own = [tuple(tensor.shape) for tensor in model.inputs]
    if input_shape is None:
        return own
    rows = items_of(input_shape) or []
    inner = [items_of(row) for row in rows]
    given = [tuple(row or ()) for row in (inner if any(inner) else [rows])]
    expected = [shape[1:] for shape in own]
    fitting = len(given) == len(own) and all(map(_is_shape, given))
    if not fitting or not all(map(shape_fits, given, expected)):
        raise InputError(
            f"`input_shape` must fit {model.name!r}, with numbers for None: "
            f"{expected[0] if len(expected) == 1 else expected}, got {shown(input_shape)}."
        )
    return [(None, *shape) for shape in given]


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, Sequence) and all(
        size is None or (type(plain(size)) is int and plain(size) > 0) for size in shape
    )


def _make_rows(
    graph: Graph, input_shapes: Sequence[Shape], path: str, seen: set[int], trainable: set[int]
) -> Iterator[Row]:
    shapes = graph.shapes(input_shapes)
    for node in graph.nodes:
        if node.subgraph is not None:
            inner = [shapes[tensor] for tensor in nested_inputs(node)]
            yield from _make_rows(node.subgraph, inner, f"{path}{node.name}/", seen, trainable)
        elif node.inputs:
            weights = [w for w in getattr(node.op, "weights", ()) if id(w) not in seen]
            seen.update(map(id, weights))
            macs, activations = work_of(node, shapes)
            yield Row(
                name=path + node.name,
                kind=type(node.op).__name__,
                output_shape=shapes[node.outputs[0]],
                params=_size_of(weights),
                trainable=_size_of(w for w in weights if id(w) in trainable),
                macs=macs,
                activations=activations,
            )


def _size_of(weights) -> int:
    return sum(math.prod(weight.shape) for weight in weights)
