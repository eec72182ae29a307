"""Find the distance of each layer from the classifier, in stages.

A stage ends where height and width of the maps fall to two thirds or less, as at every halving. The
names of layers are not used.
"""

from collections.abc import Sequence

import keras

from se_keras.graph import Graph, Shape, innermost_layers, nested_inputs, trace

# The smallest ratio between the areas of the maps of two neighboring stages.
SHRINKS = (3 / 2) ** 2


def classifier_of(model: keras.Model) -> keras.Layer | None:
    """Return the last Dense layer."""
    layers = reversed(list(innermost_layers(model)))
    return next((layer for layer in layers if isinstance(layer, keras.layers.Dense)), None)


def stages_from_end(model: keras.Model) -> dict[keras.Layer, int]:
    """Return the stage of each trainable layer, counted from the classifier, which is stage 0.

    Args:
        model: a functional or Sequential model with a fixed image size.

    Example:

    >>> import se_keras
    >>> model = se_keras.SEResNet20(input_shape=(32, 32, 3), classes=10)
    >>> stages = {layer.name: stage for layer, stage in stages_from_end(model).items()}
    >>> [stages[name] for name in ("stem_conv", "stage3_block1_conv1", "predictions")]
    [3, 2, 0]
    """
    areas: dict[keras.Layer, int] = {}
    _collect(trace(model), [tuple(tensor.shape) for tensor in model.inputs], 0, areas)
    classifier = classifier_of(model)
    # Leave out Normalization, whose statistics of pixels are not trained.
    areas = {
        layer: area
        for layer, area in areas.items()
        if layer.weights and not isinstance(layer, keras.layers.Normalization)
    }
    body = {area for layer, area in areas.items() if layer is not classifier}
    largest: list[int] = []
    for area in sorted(body, reverse=True):
        if not largest or SHRINKS * area <= largest[-1]:
            largest.append(area)
    return {
        layer: 0 if layer is classifier else 1 + sum(other < area for other in largest)
        for layer, area in areas.items()
    }


def _collect(
    graph: Graph, input_shapes: Sequence[Shape], after: int, areas: dict[keras.Layer, int]
) -> None:
    """Store the area of the largest map at or after each layer, because gates are small between.

    Args:
        graph: graph of the model or of a nested model.
        input_shapes: shapes of its inputs.
        after: largest area of the maps after the graph.
        areas: dict to store the areas in.
    """
    shapes = graph.shapes(input_shapes)
    largest = {tensor: _area(shape) for tensor, shape in shapes.items()}
    for node in reversed(graph.nodes):
        takers = {taker for tensor in node.outputs for taker in graph.consumers(tensor)}
        tensors = [*node.outputs, *(tensor for taker in takers for tensor in taker.outputs)]
        area = max([after, *(largest[tensor] for tensor in tensors)])
        largest.update(dict.fromkeys(node.outputs, area))
        if node.subgraph is not None:
            _collect(node.subgraph, [shapes[t] for t in nested_inputs(node)], area, areas)
        elif isinstance(node.op, keras.Layer):
            areas[node.op] = max(area, areas.get(node.op, 0))


def _area(shape: Shape) -> int:
    """Return the number of positions of a map (N, H, W, ...); 0 for other tensors."""
    return (shape[1] or 0) * (shape[2] or 0) if len(shape) > 3 else 0
