"""Class activation maps: the places of an image that support a class (Grad-CAM, arXiv 1610.02391).

They are computed from the last feature map, which a global pool (or its replacement) turns into one
vector for each image. It is found in the graph and not by names. In a network with SE it comes
after the gate and the addition of the last unit, because the classifier does not see earlier maps.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, tree

from se_keras.graph import Graph, nested_inputs, trace
from se_keras.support.errors import InputError

# Activations that turn scores into probabilities, and layers that may follow them.
PROBABILITIES = tuple(map(keras.activations.get, ("softmax", "sigmoid")))
SHAPES = (keras.layers.Flatten, keras.layers.Reshape)


def class_maps(model: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return how much each place of an image supports a class: Grad-CAM of the class score.

    The score is taken before softmax or sigmoid. If a global average and one dense layer follow the
    map, the result is the class activation map of arXiv 1512.04150, divided by the number of
    places.

    Args:
        model: a functional or Sequential classifier with output (N, classes), on TensorFlow.
        images: images as the model takes them, (N, H, W, C).
        classes: the class to explain for each image, (N,).

    Returns:
        Maps (N, height, width) of values from 0 on; places against the class have 0.

    Raises:
        InputError: if the model is not a classifier, or does not have exactly one last map.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> from se_keras.train.activation_maps import class_maps
    >>> model = se_keras.create("seresnet20", input_shape=(32, 32, 3), classes=10)
    >>> class_maps(model, np.zeros((2, 32, 32, 3)), np.array([3, 7])).shape
    (2, 8, 8)
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError("`cam`: class activation maps need KERAS_BACKEND=tensorflow.")
    import tensorflow as tf

    graph = trace(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise InputError(f"`cam`: {model.name} must return scores of classes, (N, classes).")
    target = _last_map(graph)
    kept: dict[KerasTensor, Any] = {}

    with tf.GradientTape() as tape:

        def keep(tensor: KerasTensor, value: Any) -> None:
            if tensor is target:
                tape.watch(value)
                kept[tensor] = value

        given = keras.ops.cast(images, model.inputs[0].dtype)
        scores = _run(graph, [given], keep, _makes_probabilities(graph))
        chosen = tf.gather(tf.cast(scores, tf.float32), classes, axis=1, batch_dims=1)
    maps = kept[target]
    weights = tf.reduce_mean(tape.gradient(chosen, maps), axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(tf.cast(weights * maps, tf.float32), axis=-1)).numpy()


def _last_map(graph: Graph) -> KerasTensor:
    """Find the only map that all scores depend on, also inside nested models."""
    found = _maps_before(graph)
    if len(found) != 1:
        raise InputError(
            f"`cam`: the scores of {graph.model.name} must depend on one last feature map, got "
            f"{len(found) or 'none'}."
        )
    return found[0]


def _maps_before(graph: Graph) -> list[KerasTensor]:
    """Return the last maps that the outputs depend on."""
    found: dict[KerasTensor, None] = {}
    waiting = list(tree.flatten(graph.outputs))
    while waiting:
        tensor = waiting.pop()
        node = graph.producer(tensor)
        if _has_positions(tensor, graph):
            found[tensor] = None
        elif node.subgraph is not None:
            inputs = tree.flatten(node.subgraph.inputs)
            inside = dict.fromkeys(_maps_before(node.subgraph))
            # The input of a nested model is a map of the surrounding graph.
            own = [tensor for tensor in inside if tensor not in inputs]
            found |= dict.fromkeys(own)
            waiting += nested_inputs(node) if len(own) < len(inside) or not inside else []
        else:
            waiting += node.inputs
    return list(found)


def _has_positions(tensor: KerasTensor, graph: Graph) -> bool:
    positions = set(tensor.shape[1:-1])
    if len(tensor.shape) not in (2, 4) and positions != {1}:
        raise InputError(
            f"`cam`: {graph.model.name} must have a feature map before its scores, got "
            f"{tuple(tensor.shape)}."
        )
    return not positions <= {1}


# --- the model, step by step ---------------------------------------------------------------------


def _run(
    graph: Graph, inputs: Sequence[Any], keep: Callable[[KerasTensor, Any], None], last: Any
) -> Any:
    """Compute the output of a graph; `keep` gets each tensor, `last` passes scores on."""
    values = dict(zip(tree.flatten(graph.inputs), inputs, strict=True))

    def value(leaf: Any) -> Any:
        return values[leaf] if isinstance(leaf, KerasTensor) else leaf

    for node in graph.nodes:
        if node.subgraph is not None:
            given = [values[tensor] for tensor in nested_inputs(node)]
            outputs = [_run(node.subgraph, given, keep, last)]
        elif node.inputs:
            args, kwargs = tree.map_structure(value, (node.args, node.kwargs))
            outputs = tree.flatten(_call(node.op, args, kwargs, raw=node.op is last))
        else:
            outputs = [values[node.output]]
        for tensor, output in zip(node.outputs, outputs, strict=True):
            values[tensor] = output
            keep(tensor, output)
    (output,) = tree.flatten(graph.outputs)
    return values[output]


def _call(op: Any, args: Any, kwargs: dict[str, Any], raw: bool) -> Any:
    """Call an operation in inference mode; `raw` skips its softmax or sigmoid."""
    if "training" in kwargs:
        kwargs = {**kwargs, "training": False}
    if not raw:
        return op(*args, **kwargs)
    if isinstance(op, keras.layers.Softmax):
        return args[0]
    activation, op.activation = op.activation, keras.activations.linear
    try:
        return op(*args, **kwargs)
    finally:
        op.activation = activation


def _makes_probabilities(graph: Graph) -> Any:
    """Return the layer that turns scores into probabilities; `None` if there is none."""
    (tensor,) = tree.flatten(graph.outputs)
    while isinstance((node := graph.producer(tensor)).op, SHAPES):
        (tensor,) = node.inputs
    if node.subgraph is not None:
        return _makes_probabilities(node.subgraph)
    is_softmax = isinstance(node.op, keras.layers.Softmax)
    return node.op if is_softmax or getattr(node.op, "activation", None) in PROBABILITIES else None
