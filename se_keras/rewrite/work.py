"""Count the multiply-adds and activations of one call, as described in `se_keras.counting`."""

import math
from collections.abc import Callable, Mapping
from typing import cast

import keras

from se_keras.graph import Node, Shape
from se_keras.layers import ChannelGate
from se_keras.rewrite.layer_kinds import is_stock, kind_like
from se_keras.support.errors import InputError

# One function for each kind of layer, from (layer, input shape, output shape) without the batch
# axis to (multiply-adds, activations).

Sizes = tuple[int, ...]
Work = tuple[int, int]


def _work_of_conv(layer: keras.Layer, x: Sizes, y: Sizes) -> Work:
    inputs = _channels_of(layer, x) // layer.groups
    return math.prod(y) * math.prod(layer.kernel_size) * inputs, math.prod(y)


def _work_of_depthwise(layer: keras.Layer, x: Sizes, y: Sizes) -> Work:
    return math.prod(y) * math.prod(layer.kernel_size), math.prod(y)


def _work_of_separable(layer: keras.Layer, x: Sizes, y: Sizes) -> Work:
    between = _channels_of(layer, x) * layer.depth_multiplier
    depthwise = math.prod(y) // layer.filters * between
    macs = depthwise * math.prod(layer.kernel_size) + math.prod(y) * between
    return macs, depthwise + math.prod(y)


def _work_of_transposed(layer: keras.Layer, x: Sizes, y: Sizes) -> Work:
    # Each input element is multiplied by the whole kernel (fvcore's conv_flop_count, transposed).
    return math.prod(x) * math.prod(layer.kernel_size) * layer.filters, math.prod(y)


def _work_of_dense(layer: keras.Layer, x: Sizes, y: Sizes) -> Work:
    return math.prod(y) * x[-1], math.prod(y)


def _work_of_einsum(layer: keras.Layer, x: Sizes, y: Sizes) -> Work:
    # Use the equation, because `y` has None wherever `output_shape` has None.
    operands, output = layer.equation.split("->")
    given, kernel = operands.split(",")
    before, _, after = given.partition("...")
    shape = (1, *x)
    end = len(shape) - len(after)
    sizes = dict(zip(kernel, layer.kernel.shape, strict=True))
    sizes.update(zip(before + after, shape[: len(before)] + shape[end:], strict=True))
    under_dots = math.prod(shape[len(before) : end])
    outputs = math.prod(sizes[label] for label in output.replace(".", ""))
    return under_dots * math.prod(sizes.values()), under_dots * outputs


def _work_of_gate(layer: ChannelGate, x: Sizes, y: Sizes) -> Work:
    sizes = x[1:] if layer.data_format == "channels_first" else x[:-1]
    macs = activations = 0
    for name, (given, left) in layer.part_shapes(_channels_of(layer, x), sizes).items():
        part = getattr(layer, name)
        work = WORK_FUNCTIONS[kind_like(part).form](part, given, left)
        macs, activations = macs + work[0], activations + work[1]
    return macs, activations


def _channels_of(layer: keras.Layer, x: Sizes) -> int:
    return x[0 if layer.data_format == "channels_first" else -1]


WORK_FUNCTIONS: dict[str, Callable[[keras.Layer, Sizes, Sizes], Work]] = {
    "convolution": _work_of_conv,
    "depthwise": _work_of_depthwise,
    "separable": _work_of_separable,
    "transposed": _work_of_transposed,
    "dense": _work_of_dense,
    "einsum": _work_of_einsum,
}
# Operations of keras.ops that sum products, by the names of their classes, which are not public.
# fmt: off
SUMMING_OPS = frozenset({
    "Matmul", "Einsum", "Dot", "Tensordot", "Inner", "Vdot", "Conv", "DepthwiseConv",
    "SeparableConv", "ConvTranspose", "DotProductAttention",
})
# fmt: on


def work_of(node: Node, shapes: Mapping[keras.KerasTensor, Shape]) -> tuple[int | None, int]:
    """Return the multiply-adds of a call for one image, and the elements of its output.

    Args:
        node: a call of a layer or operation, not of a model.
        shapes: shapes of its inputs and outputs, with the batch axis.

    Returns:
        The multiply-adds, `None` if they are not counted; the activations.

    Raises:
        InputError: if a needed size is unknown.
    """
    is_gate = isinstance(node.op, ChannelGate)
    function = _work_of_gate if is_gate else WORK_FUNCTIONS.get(kind_like(node.op).form)
    if function is None:
        return (0 if _is_free(node.op) else None), 0
    x, y = shapes[node.inputs[0]][1:], shapes[node.outputs[0]][1:]
    # The cost of SE does not depend on the spatial sizes, because the squeeze removes them.
    if None in x and not (is_gate and not node.op.excites_channels_last):
        raise InputError(
            f"`input_shape` must be given, such as (224, 224, 3), because the model leaves sizes "
            f"open: {node.name!r} takes {(None, *x)}."
        )
    return function(node.op, cast(Sizes, x), cast(Sizes, y))


def _is_free(op: keras.Operation) -> bool:
    """Return whether an operation is not counted: free, without weights, or element-wise."""
    if not isinstance(op, keras.Layer):
        return type(op).__name__ not in SUMMING_OPS
    return kind_like(op).free or not (is_stock(op) or op.weights)
