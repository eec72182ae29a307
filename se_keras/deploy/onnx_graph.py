"""An ONNX graph arranged so that ONNX Runtime keeps its blocked layout through the SE blocks.

On a CPU ONNX Runtime computes convolutions in a layout of its own, NCHWc, and puts a reordering
pass wherever an operator lacks it. The product of a map (N, C, H, W) and a gate (N, C, 1, 1) is
such an operator; a product of two maps of one shape is not, nor is a nearest resize. (Source:
`TransformBinary` and `TransformResize` in onnxruntime/core/optimizer/nchwc_transformer.cc.) So the
gate is spread by a resize. Its shape must be stated in the graph: shape inference loses the batch
axis at a resize, and then ONNX Runtime can't know that the two are of one shape.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, load, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

Shape = tuple[int | str, ...]  # sizes, or the names of open ones
LAYOUT_OPS = ("Transpose", "Reshape", "Squeeze", "Unsqueeze")


def fold_layouts(model: ModelProto) -> None:
    """Computes beforehand what only brings a constant into another layout: kernels' transposes."""
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
    """Takes out what reshapes a tensor to its own shape; the conversion puts it around gates."""
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


def spread_gates(model: ModelProto) -> ModelProto:
    """The model with its gates brought to the size of their maps, where ONNX Runtime gains by it.

    Args:
        model: in float32; it stays as it is.
    """
    spread = _spread_except(model, skip=set())
    # A resize outside of the blocked layout costs more than the reordering that it is to save.
    return _spread_except(model, skip=_find_unblocked(spread))


def _spread_except(model: ModelProto, skip: set[str]) -> ModelProto:
    new = ModelProto()
    new.CopyFrom(model)
    shapes = _shapes(model)
    computed = {name for node in model.graph.node for name in node.output}
    nodes: list[NodeProto] = []
    for node in new.graph.node:
        if node.op_type == "Mul" and node.output[0] not in skip:
            gate = _gate_index(node, shapes)
            if gate is not None and node.input[gate] in computed:
                nodes.append(_make_resize(new, node, gate, shapes))
        nodes.append(node)
    _set_nodes(new, nodes)
    return new


def _gate_index(node: NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Which input of a product is a gate, if the other is a map whose size is known."""
    first, second = (shapes.get(name, ()) for name in node.input)
    for index, (gate, whole) in enumerate([(first, second), (second, first)]):
        known = len(gate) == len(whole) == 4 and all(isinstance(n, int) for n in whole[1:])
        if known and gate[1:] == (whole[1], 1, 1) and whole[2:] != (1, 1):
            return index
    return None


def _make_resize(
    model: ModelProto, node: NodeProto, gate: int, shapes: Mapping[str, Shape]
) -> NodeProto:
    """The resize that spreads a gate; the product takes its output in place of the gate."""
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


def _find_unblocked(model: ModelProto) -> set[str]:
    """The products whose spread gate ONNX Runtime leaves outside of its blocked layout."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the optimized file is for this machine
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        optimized = load(options.optimized_model_filepath)
    left = {node.output[0] for node in optimized.graph.node if node.op_type == "Resize"}
    return {node.output[0] for node in model.graph.node if left.intersection(node.input)}


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
    # The batch axis is the one whose size inference may lose.
    if not before or not after:
        return False
    return all(isinstance(size, int) for size in before[1:]) and before[1:] == after[1:]


def _set_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
