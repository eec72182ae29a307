"""Export to a SavedModel of TensorFlow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from se_keras.deploy.tf_function import Served, serve, with_policy


def write_saved_model(model: keras.Model, path: Path) -> str:
    save(serve(model), path)
    return "weights as constants"


def write_saved_model_bfloat16(model: keras.Model, path: Path) -> str:
    save(serve(with_policy(model, "bfloat16")), path)
    return "weights and activations in bfloat16, inputs and outputs in float32"


def save(served: Served, path: Path | str) -> None:
    """Write a SavedModel with the weights as constants."""
    import tensorflow as tf

    module = tf.Module()
    module.serve = served.function
    named = tf.function(served.named, input_signature=served.specs, autograph=False)
    tf.saved_model.save(module, str(path), {"serve": module.serve, "serving_default": named})
    _fill(Path(path) / "saved_model.pb", served.weights)


def _fill(file: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Put the weights into the constants that stand for them."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString(file.read_bytes())
    missing = set(weights)
    for graph in model.meta_graphs:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "Const" and node.name in weights:
                    _set_content(node.attr["value"].tensor, weights[node.name])
                    missing.discard(node.name)
    assert not missing, missing
    file.write_bytes(model.SerializeToString())


def _set_content(tensor: Any, array: np.ndarray) -> None:
    """Replace the value of a constant, which must have the same shape."""
    assert [axis.size for axis in tensor.tensor_shape.dim] == list(array.shape)
    for field, _ in tensor.ListFields():
        if field.name.endswith("_val"):
            tensor.ClearField(field.name)
    tensor.tensor_content = array.tobytes()


def save_open(served: Served, path: Path | str) -> None:
    """Write a SavedModel with the weights as inputs, for a converter."""
    import tensorflow as tf

    named = tf.function(served.open_named, input_signature=served.open_specs, autograph=False)
    tf.saved_model.save(tf.Module(), str(path), {"serving_default": named})
