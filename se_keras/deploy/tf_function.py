"""Turn a model into a TensorFlow function, which all converters start from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from se_keras.deploy.calibration import Arrays, split_batches
from se_keras.graph import ends_of, is_quantized
from se_keras.metadata import input_type


@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """An optimized model as TensorFlow functions.

    Attributes:
        function: function from arrays (as in `engines.Run`) to tensors in the model's output
            structure. Its weights are constants, as every engine needs them; Keras'
            `model.export` would store variables twice. In its graph the `weights`
            are zeros, which take no memory: TensorFlow copies a graph with its constants up to 18
            times. `to_saved_model.save` puts the values into the file.
        specs: the inputs of the function, with the model's names.
        output_names: unique names of the flattened outputs.
        weights: arrays of at least two axes, by the names of their constants.
        open_function, open_specs: the same function with `weights` as further inputs. Converters
            copy a graph with its constants many times, which takes up to 90 times the memory.
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
    """Make the functions of a functional model; float inputs and outputs are float32."""
    import tensorflow as tf

    variables = [*model.trainable_variables, *model.non_trainable_variables]
    arrays = [keras.ops.convert_to_numpy(variable) for variable in variables]
    names = [f"model_weight_{n}" if a.ndim > 1 else None for n, a in enumerate(arrays)]
    weights = {name: a for name, a in zip(names, arrays, strict=True) if name}
    specs = tuple(tf.TensorSpec(t.shape, input_type(t), t.name) for t in model.inputs)

    def outside(tensor: tf.Tensor) -> tf.Tensor:
        return tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor

    def constant(name: str | None, array: np.ndarray) -> tf.Tensor:
        if name is None:
            return tf.constant(array)
        return tf.constant(array.dtype.type(0), array.dtype, array.shape, name)

    def call(*inputs: tf.Tensor) -> Any:
        given = dict(
            zip(weights, inputs[len(specs) :], strict=False)
        )  # empty if all weights are constants
        values = [
            given[name] if name in given else constant(name, array)
            for name, array in zip(names, arrays, strict=True)
        ]
        trainable = len(model.trainable_variables)
        structured = keras.tree.pack_sequence_as(ends_of(model)[0], list(inputs[: len(specs)]))
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
    _, output = ends_of(model)
    if isinstance(output, dict) and len(output) == len(model.outputs):
        return tuple(sorted(output))  # Keras flattens a dict in this order
    return _make_unique(_output_layers(model))


def _output_layers(model: keras.Model) -> list[str]:
    """Return the names of the layers that compute the outputs."""
    is_chain = isinstance(model, keras.Sequential)
    return [model.layers[-1].name] if is_chain else model.output_names


def _make_unique(names: Sequence[str]) -> tuple[str, ...]:
    """Make names that occur twice unique: `name`, `name_1`, and so on."""
    return tuple(
        f"{name}_{names[:n].count(name)}" if name in names[:n] else name
        for n, name in enumerate(names)
    )


def with_policy(model: keras.Model, policy: str) -> keras.Model:
    """Return a copy in another precision, but keep the layers at both ends.

    Layers that normalize pixels and layers that compute outputs stay in float32: bfloat16 has two
    or three digits, which are too few for a softmax over 1000 classes. Quantized layers keep
    their policy, which states how their weights are stored.
    """
    first = (keras.layers.Rescaling, keras.layers.Normalization)

    def copy(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        # An operation of `keras.ops` has no policy: it computes in the type of its inputs.
        computes = isinstance(layer, keras.Layer) and not isinstance(layer, keras.layers.InputLayer)
        if computes and not is_quantized(layer):
            is_end = isinstance(layer, first) or layer.name in _output_layers(model)
            config["dtype"] = "float32" if is_end else policy
        return type(layer).from_config(config)

    clone = keras.models.clone_model(model, clone_function=copy, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


def feeds(model: keras.Model, served: Served, arrays: Arrays) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches of samples by the names of the inputs, in the model's batch size."""
    for batch in split_batches(arrays, model.inputs[0].shape[0] or 1):
        yield dict(zip(served.input_names, batch, strict=True))
