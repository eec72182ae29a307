"""Class activation maps: which places of an image speak for a class (Grad-CAM, arXiv 1610.02391).

They are made of the last map that has positions: that of which a global pool, or whatever stands in
its place, makes one vector an image. It is found in the graph, not by names. In a network with SE
it comes after the whole unit, its gate and its addition: a map before the gate is not what the
classifier sees.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, tree

from se_keras.graph import Graph, nested_inputs, trace
from se_keras.support.errors import InputError

# What makes probabilities of scores, and what may stand after it.
PROBABILITIES = tuple(map(keras.activations.get, ("softmax", "sigmoid")))
SHAPES = (keras.layers.Flatten, keras.layers.Reshape)


def class_maps(model: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return how much each place of an image speaks for a class: Grad-CAM of its score.

    The score is that before softmax or sigmoid. Where a global average and one dense layer follow
    the map, this is the class activation map of arXiv 1512.04150, divided by the number of places.

    Args:
        model: a functional or Sequential classifier, (N, classes), on TensorFlow.
        images: as the model takes them, (N, H, W, C).
        classes: the class to explain of each image, (N,).

    Returns:
        (N, height, width) of the map, 0 and above: what speaks against the class is 0.

    Raises:
        InputError: if the model has no such map or several, or is no classifier.

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
        raise InputError(f"`cam`: {model.name} must give scores of classes, (N, classes).")
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
    """Find the only map that all scores depend on, inside nested models too."""
    found = _maps_before(graph)
    if len(found) != 1:
        raise InputError(
            f"`cam`: {graph.model.name} makes its scores of {len(found) or 'no'} maps with "
            "positions, not of one."
        )
    return found[0]


def _maps_before(graph: Graph) -> list[KerasTensor]:
    """Return the maps that outputs depend on; an input of a nested model is its own."""
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
            # What a nested model is given is a map of the graph around it.
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
            f"`cam`: {graph.model.name} has no map before its scores, but {tuple(tensor.shape)}."
        )
    return not positions <= {1}


# --- the model, step by step ---------------------------------------------------------------------


def _run(
    graph: Graph, inputs: Sequence[Any], keep: Callable[[KerasTensor, Any], None], last: Any
) -> Any:
    """Compute the output of a graph; `keep` sees each tensor on the way, `last` hands on scores."""
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
    """Call an operation, as in inference; `raw` leaves out its softmax or sigmoid."""
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
    """Return the layer that makes probabilities of scores; `None` where the model gives scores."""
    (tensor,) = tree.flatten(graph.outputs)
    while isinstance((node := graph.producer(tensor)).op, SHAPES):
        (tensor,) = node.inputs
    if node.subgraph is not None:
        return _makes_probabilities(node.subgraph)
    is_softmax = isinstance(node.op, keras.layers.Softmax)
    return node.op if is_softmax or getattr(node.op, "activation", None) in PROBABILITIES else None
