"""Export to a SavedModel of TensorFlow."""

from pathlib import Path

import keras

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


def save_open(served: Served, path: Path | str) -> None:
    """Write a SavedModel with the weights as inputs, for a converter."""
    import tensorflow as tf

    named = tf.function(served.open_named, input_signature=served.open_specs, autograph=False)
    tf.saved_model.save(tf.Module(), str(path), {"serving_default": named})
