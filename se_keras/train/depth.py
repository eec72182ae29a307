"""The distance of each layer from the classifier, in stages, as the graph tells.

A stage ends where the maps get smaller, in both directions to two thirds or less, as each halving
makes them. Names say nothing of it.
"""

from collections.abc import Sequence

import keras

from se_keras.graph import Graph, Shape, innermost_layers, nested_inputs, trace

# Area of the largest maps of a stage to that of the next one's, at least.
SHRINKS = (3 / 2) ** 2


def classifier_of(model: keras.Model) -> keras.Layer | None:
    """Return the last Dense layer."""
    layers = reversed(list(innermost_layers(model)))
    return next((layer for layer in layers if isinstance(layer, keras.layers.Dense)), None)


def stages_from_end(model: keras.Model) -> dict[keras.Layer, int]:
    """Return the stage of each layer that can be trained, from 0, which is the classifier alone.

    Args:
        model: functional or Sequential, for images of one size.

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
    # Normalization holds the numbers of pixels, which nobody trains.
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
    """Note of each layer the largest maps that come out of it or later: gates are small between.

    Args:
        graph: may be that of a nested model.
        input_shapes: of its inputs.
        after: the largest area of what takes its outputs.
        areas: gets the layers of the graph and those inside.
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
    """Return positions of maps (N, H, W, ...); 0 of anything else."""
    return (shape[1] or 0) * (shape[2] or 0) if len(shape) > 3 else 0
