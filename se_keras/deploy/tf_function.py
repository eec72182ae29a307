"""A model as a function of TensorFlow, which all converters start from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from se_keras.deploy.calibration import Arrays, split_batches
from se_keras.graph import is_quantized
from se_keras.metadata import input_type


@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """An optimized model as functions of TensorFlow.

    Attributes:
        function: arrays as of `engines.Run` in; out come tensors in the model's own structure. The
            weights are constants of it: that is how every engine wants them, and Keras' own
            `model.export` stores variables twice.
        specs: its inputs, named as the model's.
        output_names: names of the outputs, flat, each once.
        weights: arrays of two and more axes, by names.
        open_function, open_specs: the same function, which takes `weights` too, after the inputs.
            Converters copy a graph with its constants again and again: with them SE-ResNet-50, of
            112 MB, took tf2onnx 10 GB, and SENet-154, of 460 MB, OpenVINO 8; without, 0.2 and 0.7.
    """

    function: Any
    specs: tuple
    output_names: tuple[str, ...]
    weights: dict[str, np.ndarray]
    open_function: Any
    open_specs: tuple

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs)

    def named(self, *inputs: Any) -> dict[str, Any]:
        """Return the outputs by name."""
        return self._name_outputs(self.function(*inputs))

    def open_named(self, *inputs: Any) -> dict[str, Any]:
        return self._name_outputs(self.open_function(*inputs))

    def _name_outputs(self, outputs: Any) -> dict[str, Any]:
        return dict(zip(self.output_names, keras.tree.flatten(outputs), strict=True))


def serve(model: keras.Model) -> Served:
    """Make the functions of a functional model; floats are float32 outside, whatever is inside."""
    import tensorflow as tf

    variables = [*model.trainable_variables, *model.non_trainable_variables]
    arrays = [keras.ops.convert_to_numpy(variable) for variable in variables]
    names = [f"model_weight_{n}" if a.ndim > 1 else None for n, a in enumerate(arrays)]
    weights = {name: a for name, a in zip(names, arrays, strict=True) if name}
    specs = tuple(tf.TensorSpec(t.shape, input_type(t), t.name) for t in model.inputs)

    def outside(tensor: tf.Tensor) -> tf.Tensor:
        return tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor

    def call(*inputs: tf.Tensor) -> Any:
        given = dict(zip(weights, inputs[len(specs) :], strict=False))  # none: all are constants
        values = [
            given[name] if name in given else tf.constant(array)
            for name, array in zip(names, arrays, strict=True)
        ]
        trainable = len(model.trainable_variables)
        structured = keras.tree.pack_sequence_as(model.input, list(inputs[: len(specs)]))
        outputs, _ = model.stateless_call(
            values[:trainable], values[trainable:], structured, training=False
        )
        return keras.tree.map_structure(outside, outputs)

    further = (tf.TensorSpec(a.shape, a.dtype, name) for name, a in weights.items())
    open_specs = (*specs, *further)
    return Served(
        function=tf.function(call, input_signature=specs, autograph=False),
        specs=specs,
        output_names=_output_names(model),
        weights=weights,
        open_function=tf.function(call, input_signature=open_specs, autograph=False),
        open_specs=open_specs,
    )


def _output_names(model: keras.Model) -> tuple[str, ...]:
    """Return the names of the outputs, flat: the keys of a dict, or the names of the layers."""
    output = model.output
    if isinstance(output, dict) and len(output) == len(model.outputs):
        return tuple(sorted(output))  # the order in which Keras flattens a dict
    return _make_unique(model.output_names)


def _make_unique(names: Sequence[str]) -> tuple[str, ...]:
    """Make names that occur twice unique: `name`, `name_1`, and so on."""
    return tuple(
        f"{name}_{names[:n].count(name)}" if name in names[:n] else name
        for n, name in enumerate(names)
    )


def with_policy(model: keras.Model, policy: str) -> keras.Model:
    """Return a copy that computes in another precision, but for the layers at its two ends.

    Normalizing pixels stays in float32, and so do the layers that give the outputs: bfloat16 has
    two or three digits, which a softmax over 1000 classes needs all. The policy of a quantized
    layer says how its weights are stored, and stays too.
    """
    first = (keras.layers.Rescaling, keras.layers.Normalization)

    def copy(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        # An operation of `keras.ops` has no policy: it computes in the type of what it takes.
        computes = isinstance(layer, keras.Layer) and not isinstance(layer, keras.layers.InputLayer)
        if computes and not is_quantized(layer):
            is_end = isinstance(layer, first) or layer.name in model.output_names
            config["dtype"] = "float32" if is_end else policy
        return type(layer).from_config(config)

    clone = keras.models.clone_model(model, clone_function=copy, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


def feeds(model: keras.Model, served: Served, arrays: Arrays) -> Iterator[dict[str, np.ndarray]]:
    """Yield samples by the names of the inputs, as many at a time as the model takes."""
    for batch in split_batches(arrays, model.inputs[0].shape[0] or 1):
        yield dict(zip(served.input_names, batch, strict=True))
