"""Arrange an ONNX graph so that ONNX Runtime keeps its blocked layout through SE blocks.

On a CPU, ONNX Runtime computes convolutions in its own layout, NCHWc, and reorders the data before
and after each operator that does not support this layout. The product of a map (N, C, H, W) and a
gate (N, C, 1, 1) does not support it, but a product of two maps of the same shape and a nearest
resize do. (Source: `TransformBinary` and `TransformResize` in
onnxruntime/core/optimizer/nchwc_transformer.cc.) So a resize spreads the gate to the shape of the
map. The graph must state this shape: shape inference loses the batch axis at a resize, and then
ONNX Runtime can't know that the two shapes are equal.

A resize outside of the blocked layout costs more than the reordering that it saves. Blocks have 8
channels with AVX2 and 16 with AVX-512, and the file must suit both. So a gate is spread only if it
and its map are in the blocked layout on both kinds of CPU.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

Shape = tuple[int | str, ...]  # sizes, or names of unknown sizes
GENERATED = re.compile(r"__\d+")  # the numbers that tf2onnx appends to names
LAYOUT_OPS = ("Transpose", "Reshape", "Squeeze", "Unsqueeze")
SMALLEST_BLOCK, LARGEST_BLOCK = 8, 16
# Channels of a convolution without groups are padded to whole blocks in steps of these.
ALIGNMENT = 4
# Operators that compute in the blocked layout if their first input, or all inputs, are in it.
FOLLOWING = {
    *("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "BatchNormalization"),
    *("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"),
}
MERGING = {"Add", "Sum", "Mul", "Concat"}


def fold_layouts(model: ModelProto) -> None:
    """Compute operators that only change the layout of a constant: transposes of kernels."""
    values = {constant.name: constant for constant in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type in LAYOUT_OPS and all(name in values for name in node.input):
            arrays = {name: numpy_helper.to_array(values[name]) for name in node.input}
            results: Any = ReferenceEvaluator(node).run(None, arrays)
            values[node.output[0]] = numpy_helper.from_array(results[0], node.output[0])
            model.graph.initializer.append(values[node.output[0]])
        else:
            kept.append(node)
    _set_nodes(model, kept)


def remove_reshapes(model: ModelProto) -> None:
    """Remove operators that do not change a shape; the conversion adds them around gates."""
    shapes = _shapes(model)
    given_out = {value.name for value in model.graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        needed = node.op_type != "Reshape" or node.output[0] in given_out
        if not needed and _same_shape(shapes, node):
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    _set_nodes(model, kept)


def join_hard_sigmoids(model: ModelProto) -> None:
    """Write relu6(x + 3) / 6 as one operator, which ONNX Runtime fuses with a convolution."""
    graph = model.graph
    numbers = {
        constant.name: float(numpy_helper.to_array(constant).ravel()[0])
        for constant in graph.initializer
        if math.prod(constant.dims) == 1
    }
    makers = {node.output[0]: node for node in graph.node}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    joined: set[str] = set()
    for node in graph.node:
        clip = makers.get(_operand_beside(node, "Mul", 1 / 6, numbers))
        if clip is None or clip.op_type != "Clip":
            continue
        moved, *bounds = clip.input
        x = _operand_beside(makers.get(moved), "Add", 3.0, numbers)
        if x and [numbers.get(bound) for bound in bounds] == [0.0, 6.0]:
            inner = {moved, clip.output[0]}
            if {uses[name] for name in inner} == {1}:
                joined |= inner
                end = [node.output[0]]
                new = helper.make_node("HardSigmoid", [x], end, node.name, alpha=1 / 6, beta=0.5)
                node.CopyFrom(new)
    _set_nodes(model, [node for node in graph.node if node.output[0] not in joined])


def _operand_beside(
    node: NodeProto | None, kind: str, number: float, numbers: Mapping[str, float]
) -> str:
    """Return the operand of an operator of this kind besides a constant; empty for others."""
    if node is None or node.op_type != kind:
        return ""
    for index, name in enumerate(node.input):
        if math.isclose(numbers.get(name, math.nan), number, rel_tol=1e-6):
            return node.input[1 - index]
    return ""


def number_names(model: ModelProto) -> None:
    """Name tensors and constants by the order of the nodes.

    tf2onnx numbers them in the order of sets of strings, which differs between processes. The name
    that it keeps for equal constants differs too.
    """
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    numbers: dict[str, str] = {}

    def numbered(name: str) -> str:
        def put_number(found: re.Match) -> str:
            return numbers.setdefault(found[0], f"_n{len(numbers)}")

        return name if name in kept else GENERATED.sub(put_number, name)

    _name_constants(model)
    for node in graph.node:
        node.name = numbered(node.name)
        node.input[:] = map(numbered, node.input)
        node.output[:] = map(numbered, node.output)
    for value in (*graph.initializer, *graph.value_info):
        value.name = numbered(value.name)


def _name_constants(model: ModelProto) -> None:
    """Name each constant by the first node that takes it, and sort constants by name."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    names: dict[str, str] = {}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in constants:
                node.input[index] = names.setdefault(name, f"{node.output[0]}/input_{index}")
    used = [TensorProto.FromString(constants[name].SerializeToString()) for name in names]
    del model.graph.initializer[:]
    for constant in used:
        constant.name = names[constant.name]
    model.graph.initializer.extend(used)


def spread_gates(model: ModelProto) -> None:
    """Spread gates to the size of their maps where this makes ONNX Runtime faster.

    Args:
        model: a float32 model.
    """
    shapes = _shapes(model)
    blocked = _find_blocked(model, shapes)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        gate = _gate_index(node, shapes) if node.op_type == "Mul" else None
        if gate is not None and blocked.issuperset(node.input):
            nodes.append(_make_resize(model, node, gate, shapes))
        nodes.append(node)
    _set_nodes(model, nodes)


def _find_blocked(model: ModelProto, shapes: Mapping[str, Shape]) -> set[str]:
    """Return the tensors that are in the blocked layout of any CPU when all gates are spread."""
    kernels = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
    blocked: set[str] = set()
    convolved: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Conv":
            stays = node.input[1] in kernels and _fits(kernels[node.input[1]], _groups(node))
            convolved |= {node.output[0]} if stays else set()
        elif node.op_type == "HardSigmoid":  # within a convolution only
            stays = node.input[0] in convolved
        else:
            stays = _follows(node, blocked, shapes)
        if stays:
            blocked.add(node.output[0])
    return blocked


def _follows(node: NodeProto, blocked: set[str], shapes: Mapping[str, Shape]) -> bool:
    """Return whether an operator other than a convolution keeps the blocked layout."""
    if node.op_type in FOLLOWING:
        return node.input[0] in blocked
    if node.op_type not in MERGING or not blocked.issuperset(node.input):
        return False
    if node.op_type == "Concat":  # partly filled blocks can't be concatenated
        return all(shapes[name][1] % LARGEST_BLOCK == 0 for name in node.input)
    # A gate gets the shape of its map; nothing else is broadcast in this layout.
    is_gated = node.op_type == "Mul" and _gate_index(node, shapes) is not None
    return is_gated or len({shapes.get(name, ())[1:] for name in node.input}) == 1


def _fits(kernel: tuple[int, ...], groups: int) -> bool:
    """Return whether a convolution is computed in the blocked layout, as `TransformConv` does."""
    filters, channels = kernel[:2]  # for one group
    if len(kernel) != 4:
        return False
    if groups == 1:
        return channels < SMALLEST_BLOCK or channels % ALIGNMENT == 0
    depthwise = channels == 1 and filters == groups
    whole = channels % LARGEST_BLOCK == 0 and filters // groups % LARGEST_BLOCK == 0
    return filters % ALIGNMENT == 0 and (depthwise or whole)


def _groups(node: NodeProto) -> int:
    return next((each.i for each in node.attribute if each.name == "group"), 1)


def _gate_index(node: NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Return the index of a product's input that is a gate, if the other is a map of known size."""
    first, second = (shapes.get(name, ()) for name in node.input)
    for index, (gate, whole) in enumerate([(first, second), (second, first)]):
        known = len(gate) == len(whole) == 4 and all(isinstance(n, int) for n in whole[1:])
        if known and gate[1:] == (whole[1], 1, 1) and whole[2:] != (1, 1):
            return index
    return None


def _make_resize(
    model: ModelProto, node: NodeProto, gate: int, shapes: Mapping[str, Shape]
) -> NodeProto:
    """Make the resize that spreads a gate, and make the product take its output."""
    whole = shapes[node.input[1 - gate]]
    spread = f"{node.output[0]}_spread"
    factors = numpy_helper.from_array(np.array([1, 1, *whole[2:]], "float32"), f"{spread}_factors")
    model.graph.initializer.append(factors)
    model.graph.value_info.append(helper.make_tensor_value_info(spread, 1, whole))
    resize = helper.make_node(
        "Resize",
        [node.input[gate], "", factors.name],
        [spread],
        name=spread,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    node.input[gate] = spread
    return resize


def _shapes(model: ModelProto) -> dict[str, Shape]:
    graph = shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(
            axis.dim_value if axis.HasField("dim_value") else axis.dim_param
            for axis in value.type.tensor_type.shape.dim
        )
        for value in [*graph.input, *graph.value_info, *graph.output]
    }


def _same_shape(shapes: Mapping[str, Shape], node: NodeProto) -> bool:
    before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
    # Shape inference may lose the size of the batch axis.
    if not before or not after:
        return False
    return all(isinstance(size, int) for size in before[1:]) and before[1:] == after[1:]


def _set_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
