"""Export to ONNX with tf2onnx; ONNX Runtime's quantizer quantizes to int8."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from se_keras.deploy.calibration import Arrays, describe_count
from se_keras.deploy.engines import import_onnxruntime
from se_keras.deploy.tf_function import Served, feeds, serve

# Weights per channel need opset 13. From 18 on, tf2onnx no longer turns the mean over positions
# into GlobalAveragePool, for which engines have kernels.
OPSET = 17


def write_plain_onnx(model: keras.Model, path: Path) -> None:
    """Write a model without the arrangement for ONNX Runtime, to measure its effect."""
    import onnx

    onnx.save(_convert(serve(model)), path)


def write_onnx(model: keras.Model, path: Path) -> str:
    import onnx

    from se_keras.deploy.onnx_graph import spread_gates

    proto = _convert(serve(model))
    spread_gates(proto)
    onnx.save(proto, path)
    return f"opset {OPSET}"


def _convert(served: Served) -> Any:
    import tf2onnx

    from se_keras.deploy.onnx_graph import (
        fold_layouts,
        join_hard_sigmoids,
        number_names,
        remove_reshapes,
    )

    with _trace_eagerly():
        proto, _ = tf2onnx.convert.from_function(
            served.open_function,
            input_signature=served.open_specs,
            opset=OPSET,
            custom_rewriter=[_lift_scalars],
            custom_op_handlers=FURTHER_OPERATORS,
        )
        _set_constants(proto, served)
    graph = proto.graph
    graph.doc_string = ""  # the number of a function, which differs from export to export
    _rename(graph, dict(zip((o.name for o in graph.output), served.output_names, strict=True)))
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[:1]
        if first and first[0].dim_param:
            first[0].dim_param = "batch"
    fold_layouts(proto)
    remove_reshapes(proto)
    join_hard_sigmoids(proto)
    number_names(proto)
    return proto


def _lift_scalars(graph: Any, nodes: Any) -> Any:
    """Give an added scalar an axis: without one, tf2onnx's removal of transposes fails.

    Hard sigmoid, relu6(x + 3) / 6, adds such a scalar.
    """
    for node in nodes:
        for index, operand in enumerate(node.inputs if node.type in ("Add", "AddV2") else ()):
            other = graph.get_shape(node.input[1 - index])
            if operand.is_const() and graph.get_shape(operand.output[0]) == [] and other:
                lifted = operand.get_tensor_value(as_list=False).reshape(1)
                constant = graph.make_const(f"{node.name}_{index}_lifted", lifted)
                graph.replace_input(node, node.input[index], constant.output[0], index)
    return graph.get_nodes()


def _write_difference(graph: Any, node: Any, name: str, args: Sequence[str]) -> None:
    """Write an operator that tf2onnx does not know as a difference to 1.

    Args:
        graph, node, name: the graph of tf2onnx, and the operator with its name; its type is
            already that of ONNX.
        args: the side of the difference that the operator is on.
    """
    from tf2onnx.utils import map_onnx_to_numpy_type

    facts = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
    # A constant without axes would stop the removal of transposes, as in `_lift_scalars`.
    number = np.ones(1, map_onnx_to_numpy_type(node.output_dtypes[0]))
    one = graph.make_const(f"{name}_one", number).output[0]
    known = graph.make_node(node.type, node.input, name=f"{name}_inner", **facts).output[0]
    graph.remove_node(name)
    sides = [known, one] if args == ["left"] else [one, known]
    graph.make_node("Sub", sides, outputs=node.output, name=name, **facts)


# erfc(x) = 1 - erf(x), for GELU, and expm1(x) = exp(x) - 1, for CELU.
FURTHER_OPERATORS = {
    "Erfc": (_write_difference, ["Erf", "right"]),
    "Expm1": (_write_difference, ["Exp", "left"]),
}


def _set_constants(proto: Any, served: Served) -> None:
    """Replace inputs that stand for weights by constants.

    tf2onnx also turns some constants into inputs, such as statistics of `Normalization`.
    """
    from onnx import numpy_helper

    concrete = served.open_function.get_concrete_function(*served.open_specs)
    inner = concrete.inputs[len(served.open_specs) :]
    captured = {
        tensor.name: value.numpy()
        for tensor, value in zip(inner, concrete.captured_inputs, strict=True)
    }
    values = {**served.weights, **captured}
    for value in [value for value in proto.graph.input if value.name in values]:
        proto.graph.initializer.append(numpy_helper.from_array(values[value.name], value.name))
        proto.graph.input.remove(value)


@contextmanager
def _trace_eagerly() -> Iterator[None]:
    """Inline Keras' compiled grouped convolution, because tf2onnx can't convert calls."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Rename tensors."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def quantize_onnx(model: keras.Model, path: Path, calibration: Arrays) -> str:
    import_onnxruntime()
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    served = serve(model)
    batches = feeds(model, served, calibration)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    proto = _convert(served)
    # This step only adds shapes: the graph is folded already.
    quant_pre_process(proto, path, skip_optimization=True, skip_symbolic_shape=True)
    quantization.quantize_static(
        path,
        path,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        # On x86, ONNX Runtime has int8 convolutions only for unsigned activations. On a CPU without
        # VNNI, their products with 8-bit weights saturate; with 7-bit weights they do not.
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        reduce_range=True,
        # The quantizer would round probabilities to 1/256, and those of 1,000 classes to 0.
        nodes_to_exclude=[node.name for node in proto.graph.node if node.op_type == "Softmax"],
    )
    return f"static QDQ, weights per channel, {describe_count(calibration)}"


def compress_onnx(model: keras.Model, path: Path) -> str:
    import onnx

    proto = _convert(serve(model))
    graph = proto.graph
    axes = {
        node.input[1]: {"Conv": 0, "MatMul": -1}[node.op_type]
        for node in graph.node
        if node.op_type in ("Conv", "MatMul")
    }
    kernels = [kernel for kernel in graph.initializer if kernel.name in axes]
    for kernel in kernels:
        _store_in_int8(graph, kernel, axes[kernel.name] % len(kernel.dims))
    onnx.save(proto, path)
    return "int8 weights per channel, computed in float32"


def _store_in_int8(graph: Any, kernel: Any, axis: int) -> None:
    """Store a kernel as int8 with a scale for each output channel, and multiply them in the graph.

    ONNX Runtime's `quantize_dynamic` would also quantize activations, and few other engines run its
    ConvInteger.
    """
    from onnx import helper, numpy_helper

    values, name = numpy_helper.to_array(kernel), kernel.name
    others = tuple(a for a in range(values.ndim) if a != axis)
    scale = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-12) / 127
    stored = {
        f"{name}/int8": np.round(values / scale).astype("int8"),
        f"{name}/scale": scale.ravel().astype("float32"),
        f"{name}/zero": np.zeros(scale.size, "int8"),
    }
    graph.initializer.remove(kernel)
    graph.initializer.extend(numpy_helper.from_array(array, n) for n, array in stored.items())
    graph.node.insert(0, helper.make_node("DequantizeLinear", list(stored), [name], axis=axis))
