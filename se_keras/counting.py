"""Parameters, multiply-adds and activations of any functional model.

Counted are the multiply-adds of one image in convolutions (of any rank; grouped, depthwise,
separable, transposed, dilated), `Dense`, `EinsumDense` and the two layers of `SqueezeExcite`.
Biases, normalization, activations, pooling and other element-wise work count nothing, as in the
SENet paper (its Table 2: 3.86 G for ResNet-50). Activations are the elements that these layers
give, as in timm and fvcore. What is of no known kind is reported as not counted.
"""

import math
import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from se_keras.graph import Graph, Shape, nested_inputs, shape_fits, trace
from se_keras.rewrite.work import work_of
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One call of a layer or operation.

    Attributes:
        name: of the call; inside a nested model after its name, `backbone/conv1`.
        kind: class of the layer or operation.
        output_shape: with the batch axis; of the first output.
        params, trainable: parameters, and those that training changes; 0 where an earlier call
            has them already.
        macs: multiply-adds of one image; `None` if not counted.
        activations: elements that its convolutions and dense layers give for one image.
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
        rows: one a call, in execution order.
        params: all parameters, moving statistics included: Keras' `count_params()`.
        trainable: those that training changes.
        macs: multiply-adds of one image, without the rows that are not counted.
        activations: elements that convolutions and dense layers give for one image.
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
    """Count parameters, multiply-adds and activations (see the module for what counts).

    Args:
        model: a functional or Sequential model; nested models are walked.
        input_shape: of one image, such as (224, 224, 3), where the model leaves sizes open; for
            several inputs a list of shapes, in the order of `model.inputs`.

    Returns:
        The count, `.params`, `.trainable`, `.macs`, `.activations`; it prints as a table.

    Raises:
        InputError: for a model that is not functional, for an `input_shape` that is not one of
            the model's, and where a size that is needed is not known.

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
    given = input_shape if isinstance(input_shape, Sequence) else ()
    if not any(isinstance(shape, Sequence) for shape in given):
        given = [given]
    expected = [shape[1:] for shape in own]
    shapes = len(given) == len(own) and all(map(_is_shape, given))
    if not shapes or not all(map(shape_fits, given, expected)):
        raise InputError(
            f"`input_shape` must be the one of {model.name!r}, with sizes for None: "
            f"{expected[0] if len(expected) == 1 else expected}; got {input_shape!r}."
        )
    return [(None, *shape) for shape in given]


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, Sequence) and all(
        size is None or (isinstance(size, numbers.Integral) and int(size) > 0) for size in shape
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
