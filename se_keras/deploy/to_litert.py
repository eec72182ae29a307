"""Export to LiteRT; TensorFlow's converter quantizes to int8."""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from se_keras.deploy.calibration import Arrays, describe_count
from se_keras.deploy.tf_function import Served, feeds, serve
from se_keras.deploy.to_saved_model import save


def write_litert(model: keras.Model, path: Path) -> str:
    path.write_bytes(_convert(serve(model)))
    return "float32 weights"


def quantize_litert(model: keras.Model, path: Path, calibration: Arrays) -> str:
    served = serve(model)
    batches = feeds(model, served, calibration)
    path.write_bytes(_convert(served, optimizations=["DEFAULT"], dataset=lambda: batches))
    count = describe_count(calibration)
    return f"weights and activations in int8, {count}; float32 inputs and outputs"


def compress_litert(model: keras.Model, path: Path) -> str:
    path.write_bytes(_convert(serve(model), optimizations=["DEFAULT"]))
    return "int8 weights, activations quantized at run time"


def _convert(
    served: Served, optimizations: Sequence[str] = (), dataset: Callable | None = None
) -> bytes:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        save(served, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        converter.optimizations = [tf.lite.Optimize[name] for name in optimizations]
        converter.representative_dataset = dataset
        with warnings.catch_warnings():
            # The converter's calibration uses a deprecated interpreter of TensorFlow.
            warnings.filterwarnings("ignore", "\\s*Warning: tf.lite.Interpreter is deprecated")
            content = converter.convert()
    return _restore_order(content, served)


def _restore_order(content: bytes, served: Served) -> bytes:
    """Restore the order of inputs and outputs, which the converter loses."""
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
