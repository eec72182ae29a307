"""How a model is written: one row a format and precision."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from se_keras.deploy.engines import OPENVINO_FILE
from se_keras.deploy.samples import Arrays, in_batches, input_type
from se_keras.errors import InputError

# Weights per channel need 13; at 18 tf2onnx does not find GlobalAveragePool any more, for which
# engines have kernels, in the mean over positions.
OPSET = 17


@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """An optimised model as a function of TensorFlow.

    The weights are constants of it: that is how every engine wants them, and Keras' own
    `model.export` stores variables twice.

    Attributes:
        function: arrays as of `engines.Run` in; out come tensors in the model's own structure.
        specs: its inputs, named as the model's.
        output_names: names of the outputs, flat, each once.
    """

    function: Any
    specs: tuple
    output_names: tuple[str, ...]

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs)

    def named(self, *inputs: Any) -> dict[str, Any]:
        """The outputs by name."""
        outputs = keras.tree.flatten(self.function(*inputs))
        return dict(zip(self.output_names, outputs, strict=True))


def serve(model: keras.Model) -> Served:
    """Makes the function of a functional model; floats are float32 outside, whatever is inside."""
    import tensorflow as tf

    weights = [
        [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]

    def outside(tensor: tf.Tensor) -> tf.Tensor:
        return tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor

    def call(*inputs: tf.Tensor) -> Any:
        constants = [[tf.constant(array) for array in arrays] for arrays in weights]
        structured = keras.tree.pack_sequence_as(model.input, list(inputs))
        outputs, _ = model.stateless_call(*constants, structured, training=False)
        return keras.tree.map_structure(outside, outputs)

    specs = tuple(tf.TensorSpec(t.shape, input_type(t), t.name) for t in model.inputs)
    return Served(
        function=tf.function(call, input_signature=specs, autograph=False),
        specs=specs,
        output_names=_output_names(model),
    )


def _output_names(model: keras.Model) -> tuple[str, ...]:
    """Names of the outputs, flat: the keys of a dict, or the layers that give them."""
    output = model.output
    if isinstance(output, dict) and len(output) == len(model.outputs):
        return tuple(sorted(output))  # the order in which Keras flattens a dict
    return _unique(model.output_names)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, the second of the same with `_1`, and so on."""
    return tuple(
        f"{name}_{names[:n].count(name)}" if name in names[:n] else name
        for n, name in enumerate(names)
    )


def with_policy(model: keras.Model, policy: str) -> keras.Model:
    """A copy that computes in another precision, but for the layers at its two ends.

    Normalising pixels stays in float32, and so do the layers that give the outputs: bfloat16 has
    two or three digits, which a softmax over 1000 classes needs all. The policy of a quantized
    layer says how its weights are stored, and stays too.
    """
    first = (keras.layers.Rescaling, keras.layers.Normalization)

    def copy(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        quantized = getattr(layer, "quantization_mode", None) is not None
        if not (quantized or isinstance(layer, keras.layers.InputLayer)):
            is_end = isinstance(layer, first) or layer.name in model.output_names
            config["dtype"] = "float32" if is_end else policy
        return type(layer).from_config(config)

    clone = keras.models.clone_model(model, clone_function=copy, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


# --- SavedModel ----------------------------------------------------------------------------------


def _write_saved_model(model: keras.Model, path: Path) -> str:
    _save(serve(model), path)
    return "weights as constants"


def _write_saved_model_bfloat16(model: keras.Model, path: Path) -> str:
    _save(serve(with_policy(model, "bfloat16")), path)
    return "weights and activations in bfloat16, inputs and outputs in float32"


def _save(served: Served, path: Path | str) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.serve = served.function
    named = tf.function(served.named, input_signature=served.specs, autograph=False)
    tf.saved_model.save(module, str(path), {"serve": module.serve, "serving_default": named})


# --- ONNX ----------------------------------------------------------------------------------------


def write_plain_onnx(model: keras.Model, path: Path) -> None:
    """Writes a model without what is arranged for ONNX Runtime: what gates cost there otherwise."""
    import onnx

    onnx.save(_to_onnx(serve(model)), path)


def _write_onnx(model: keras.Model, path: Path) -> str:
    import onnx

    from se_keras.deploy.onnx_graph import spread_gates

    onnx.save(spread_gates(_to_onnx(serve(model))), path)
    return f"opset {OPSET}"


def _to_onnx(served: Served) -> Any:
    import tf2onnx

    from se_keras.deploy.onnx_graph import remove_reshapes

    with _inlined():
        proto, _ = tf2onnx.convert.from_function(
            served.function, input_signature=served.specs, opset=OPSET
        )
        _keep_constants(proto, served)
    graph = proto.graph
    _rename(graph, dict(zip((o.name for o in graph.output), served.output_names, strict=True)))
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[:1]
        if first and first[0].dim_param:
            first[0].dim_param = "batch"
    remove_reshapes(proto)
    used = {name for node in graph.node for name in node.input}
    for constant in [constant for constant in graph.initializer if constant.name not in used]:
        graph.initializer.remove(constant)
    return proto


def _keep_constants(proto: Any, served: Served) -> None:
    """Gives values to what tf2onnx takes for inputs: tensors that are no variables.

    Such are the statistics of `keras.layers.Normalization`.
    """
    from onnx import numpy_helper

    concrete = served.function.get_concrete_function(*served.specs)
    inner = concrete.inputs[len(served.specs) :]
    values = dict(zip((tensor.name for tensor in inner), concrete.captured_inputs, strict=True))
    for value in [value for value in proto.graph.input if value.name in values]:
        array = values[value.name].numpy()
        proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
        proto.graph.input.remove(value)


@contextmanager
def _inlined() -> Iterator[None]:
    """Traces Keras' compiled grouped convolution as a part of the model: tf2onnx takes no calls."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Gives tensors other names."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _quantize_onnx(model: keras.Model, path: Path, calibration: Arrays) -> str:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    served = serve(model)
    feeds = _feeds(model, served, calibration)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(feeds, None)

    # Only notes the shapes: the graph is folded already.
    quant_pre_process(_to_onnx(served), path, skip_optimization=True, skip_symbolic_shape=True)
    quantization.quantize_static(
        path,
        path,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        # On x86 ONNX Runtime has int8 convolutions for unsigned activations only. Their products
        # with weights of 8 bits saturate where a CPU has no VNNI; with 7 bits they do not.
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        reduce_range=True,
    )
    return f"static QDQ, weights per channel, {_count(calibration)}"


def _compress_onnx(model: keras.Model, path: Path) -> str:
    import onnx

    proto = _to_onnx(serve(model))
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
    """A kernel as int8 with a scale for each output channel, and the node that multiplies both.

    ONNX Runtime's own `quantize_dynamic` quantises activations too and its ConvInteger runs in few
    other engines.
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


# --- OpenVINO ------------------------------------------------------------------------------------


# OpenVINO keeps no such hint in the file.
HINT = "compile with INFERENCE_PRECISION_HINT {}"
REST = HINT.format("bf16") + " for what is not int8"


def _write_openvino(model: keras.Model, path: Path) -> str:
    _save_openvino(_to_openvino(model), path)
    return f"float32 weights; {HINT.format('f32')}"


def _write_openvino_bfloat16(model: keras.Model, path: Path) -> str:
    _save_openvino(_to_openvino(model), path, compress_to_fp16=True)
    return f"float16 weights; {HINT.format('bf16')}"


def _quantize_openvino(model: keras.Model, path: Path, calibration: Arrays) -> str:
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    batches = [list(batch) for batch in in_batches(calibration, model.inputs[0].shape[0] or 1)]
    # NNCF's defaults cut every range at the mean of the images' largest values, and correct biases
    # by a rounded mean: a network of 8 and 16 channels then gave another answer to 39 % of the
    # digits, and without both to 1.4 %; SE-ResNet-20 to 0.3 % and none.
    parameters = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        disable_bias_correction=True,
    )
    quantized = nncf.quantize(
        _to_openvino(model),
        nncf.Dataset(batches),
        subset_size=len(batches),
        advanced_parameters=parameters,
    )
    _save_openvino(quantized, path)
    return f"weights and activations in int8 by NNCF, {_count(calibration)}; {REST}"


def _compress_openvino(model: keras.Model, path: Path) -> str:
    import nncf

    nncf.set_log_level(logging.ERROR)
    mode = nncf.CompressWeightsMode.INT8_SYM
    _save_openvino(nncf.compress_weights(_to_openvino(model), mode=mode), path)
    return f"int8 weights per channel by NNCF; {REST}"


def _to_openvino(model: keras.Model) -> Any:
    import openvino

    served = serve(model)
    with tempfile.TemporaryDirectory() as folder:
        _save(served, folder)
        converted = openvino.convert_model(folder)
    # It has lost their order.
    return openvino.Model(
        [converted.output(name).get_node() for name in served.output_names],
        [converted.input(name).get_node() for name in served.input_names],
        model.name,
    )


def _save_openvino(converted: Any, path: Path, compress_to_fp16: bool = False) -> None:
    import openvino

    path.mkdir()
    openvino.save_model(converted, path / OPENVINO_FILE, compress_to_fp16)


# --- LiteRT --------------------------------------------------------------------------------------


def _write_litert(model: keras.Model, path: Path) -> str:
    path.write_bytes(_to_litert(serve(model)))
    return "float32 weights"


def _quantize_litert(model: keras.Model, path: Path, calibration: Arrays) -> str:
    served = serve(model)
    feeds = _feeds(model, served, calibration)
    path.write_bytes(_to_litert(served, optimizations=["DEFAULT"], dataset=lambda: feeds))
    return f"weights and activations in int8, {_count(calibration)}; float32 outside"


def _compress_litert(model: keras.Model, path: Path) -> str:
    path.write_bytes(_to_litert(serve(model), optimizations=["DEFAULT"]))
    return "int8 weights, activations quantised as they come"


def _to_litert(
    served: Served, optimizations: Sequence[str] = (), dataset: Callable | None = None
) -> bytes:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _save(served, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        converter.optimizations = [tf.lite.Optimize[name] for name in optimizations]
        converter.representative_dataset = dataset
        with warnings.catch_warnings():
            # Its calibration runs TensorFlow's own interpreter, which goes in favour of LiteRT's.
            warnings.filterwarnings("ignore", "\\s*Warning: tf.lite.Interpreter is deprecated")
            content = converter.convert()
    return _in_order(content, served)


def _in_order(content: bytes, served: Served) -> bytes:
    """The same file with its inputs and outputs in the model's order, which the converter loses."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    if len(served.input_names) == len(served.output_names) == 1:
        return content
    file = schema.ModelT.InitFromPackedBuf(content)
    (graph,), (signature,) = file.subgraphs, file.signatureDefs
    inputs = {tensor.name.decode(): tensor.tensorIndex for tensor in signature.inputs}
    outputs = {tensor.name.decode(): tensor.tensorIndex for tensor in signature.outputs}
    graph.inputs = [inputs[name] for name in served.input_names]
    graph.outputs = [outputs[name] for name in served.output_names]
    builder = flatbuffers.Builder()
    builder.Finish(file.Pack(builder), b"TFL3")
    return bytes(builder.Output())


# --- what they share -----------------------------------------------------------------------------


def _feeds(model: keras.Model, served: Served, arrays: Arrays) -> Iterator[dict[str, np.ndarray]]:
    """Batches of one by the names of the inputs, or of the number that the model is fixed to."""
    for batch in in_batches(arrays, model.inputs[0].shape[0] or 1):
        yield dict(zip(served.input_names, batch, strict=True))


def _count(calibration: Arrays) -> str:
    return f"{len(calibration[0])} calibration samples"


# --- the rows ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Target:
    """One row.

    Attributes:
        format, precision: as of `se_keras.export`.
        write: writes an optimised model, in float32, to a path; says in words how.
        calibrate: the same with samples to measure activations on; `None` if they change nothing.
    """

    format: str
    precision: str
    write: Callable[[keras.Model, Path], str]
    calibrate: Callable[[keras.Model, Path, Arrays], str] | None = None

    def write_file(self, model: keras.Model, path: Path, calibration: Arrays | None) -> str:
        if self.calibrate is None or calibration is None:
            return self.write(model, path)
        return self.calibrate(model, path, calibration)


TARGETS = (
    Target(format="tf_saved_model", precision="float32", write=_write_saved_model),
    Target(format="tf_saved_model", precision="bfloat16", write=_write_saved_model_bfloat16),
    Target(format="onnx", precision="float32", write=_write_onnx),
    Target(format="onnx", precision="int8", write=_compress_onnx, calibrate=_quantize_onnx),
    Target(format="openvino", precision="float32", write=_write_openvino),
    Target(format="openvino", precision="bfloat16", write=_write_openvino_bfloat16),
    Target(
        format="openvino",
        precision="int8",
        write=_compress_openvino,
        calibrate=_quantize_openvino,
    ),
    Target(format="litert", precision="float32", write=_write_litert),
    Target(format="litert", precision="int8", write=_compress_litert, calibrate=_quantize_litert),
)


def find_target(format: str, precision: str) -> Target:
    """The row of a format and a precision.

    Raises:
        InputError: if there is none; the message lists them all.

    Example:

    >>> from se_keras.deploy.targets import find_target
    >>> find_target("litert", "bfloat16")
    Traceback (most recent call last):
    ...
    se_keras.errors.InputError: there is no export to litert in bfloat16; there are \
tf_saved_model in float32, bfloat16; onnx in float32, int8; openvino in float32, bfloat16, int8; \
litert in float32, int8
    """
    precisions: dict[str, list[str]] = {}
    for row in TARGETS:
        precisions.setdefault(row.format, []).append(row.precision)
        if (row.format, row.precision) == (format, precision):
            return row
    have = "; ".join(f"{name} in {', '.join(rows)}" for name, rows in precisions.items())
    raise InputError(f"there is no export to {format} in {precision}; there are {have}")
