"""A rule for engines whose max pools can pad: no operator for the padding before them."""

from typing import Any

from keras import KerasTensor, activations, layers

from se_keras.graph import Graph, Node
from se_keras.rewrite.layer_kinds import LINEAR_FORMS, kind_of
from se_keras.rewrite.optimize import Rule

NOT_NEGATIVE = (activations.relu, activations.relu6, activations.sigmoid)


class PaddedMaxPooling2D(layers.MaxPooling2D):
    """`MaxPooling2D` of a map (N, H, W, C) with explicit padding; for exports from TensorFlow.

    Args:
        padding_widths: ((top, bottom), (left, right)).
        **options: as in `MaxPooling2D`.
    """

    def __init__(self, padding_widths: Any, **options: Any):
        super().__init__(**options)
        self.padding_widths = tuple(map(tuple, padding_widths))

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        widths = [(0, 0), *self.padding_widths, (0, 0)]
        return tf.nn.max_pool2d(x, self.pool_size, self.strides, widths)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, *sizes, channels = input_shape
        padded = [
            size and size + sum(widths)
            for size, widths in zip(sizes, self.padding_widths, strict=True)
        ]
        return super().compute_output_shape((batch, *padded, channels))

    def compute_output_spec(self, x: KerasTensor) -> KerasTensor:
        return KerasTensor(self.compute_output_shape(x.shape), x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding_widths": self.padding_widths}


def pad_in_pool(graph: Graph, node: Node) -> str | None:
    """Let a max pool pad what a ReLU gives.

    A max pool ignores its own padding. Zeros do the same beside numbers that are not negative.
    """
    pool = node.op
    if type(pool) is not layers.MaxPooling2D or pool.padding != "valid":
        return None
    before = graph.producer(node.inputs[0])
    pad = before.op
    if type(pad) is not layers.ZeroPadding2D or {pad.data_format, pool.data_format} != {
        "channels_last"
    }:
        return None
    narrow = all(
        max(widths) < size for widths, size in zip(pad.padding, pool.pool_size, strict=True)
    )
    if not narrow or not _is_not_negative(graph.producer(before.inputs[0])):
        return None
    made = PaddedMaxPooling2D(pad.padding, **pool.get_config())
    graph.redirect(node.output, graph.add(made, before.inputs[0]).output)
    return "pads by itself"


PAD_IN_POOL = Rule(name="padded pool", apply=pad_in_pool)


def _is_not_negative(node: Node) -> bool:
    """Return whether a layer's outputs are never negative."""
    layer = node.op
    if type(layer) is layers.ReLU:
        return not layer.negative_slope
    computes = type(layer) is layers.Activation or kind_of(layer).form in LINEAR_FORMS
    return computes and layer.activation in NOT_NEGATIVE
