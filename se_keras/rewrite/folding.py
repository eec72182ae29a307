"""Rules for inference: remove layers without effect, and fold layers into the weights before them.

`write_padding` and `write_pool` replace a layer of this package by an operation or layer of Keras.

A rule is called with a graph and a node. It returns `None` for a node of another kind, edits the
graph and returns a description, or raises `LeftAlone` with the reason.
"""

import keras
import numpy as np
from keras import layers

from se_keras.graph import Graph, Node
from se_keras.models.parts import ChannelPadding, EvenAveragePooling2D
from se_keras.rewrite.factors import Change, fold
from se_keras.rewrite.layer_kinds import kind_of
from se_keras.rewrite.scaling import LeftAlone, array, channel_axis

TRAINS = "it, or a model that contains it, is called with training=True"


def drop_inert(graph: Graph, node: Node) -> str | None:
    """Remove dropout, drop path, noise and identity layers."""
    linear = type(node.op) is layers.Activation and node.op.activation is keras.activations.linear
    if len(node.outputs) != 1 or not (kind_of(node.op).inert or linear):
        return None
    if graph.may_train(node):
        raise LeftAlone(TRAINS)
    (x,) = node.inputs
    if x.dtype != node.output.dtype:
        raise LeftAlone("it changes the type")
    graph.redirect(node.output, x)
    return "removed: it has no effect in inference"


def write_padding(graph: Graph, node: Node) -> str | None:
    """Write `ChannelPadding` as `keras.ops.pad`, which loads without this package."""
    if type(node.op) is not ChannelPadding:
        return None
    (x,) = node.inputs
    if x.dtype != node.output.dtype:
        raise LeftAlone("it changes the type")
    without_past = keras.KerasTensor(x.shape, x.dtype)
    (pad,) = keras.Function(without_past, node.op.call(without_past)).operations
    graph.redirect(node.output, graph.add(pad, x).output)
    return "written as an operation of Keras"


def write_pool(graph: Graph, node: Node) -> str | None:
    """Write `EvenAveragePooling2D` as Keras' layer, which loads without this package."""
    if type(node.op) is not EvenAveragePooling2D:
        return None
    stock = layers.AveragePooling2D.from_config(node.op.get_config())
    graph.redirect(node.output, graph.add(stock, *node.inputs).output)
    return "written as a layer of Keras"


def fold_normalization(graph: Graph, node: Node) -> str | None:
    """Fold batch normalization, whose moving statistics are a factor and shift per channel."""
    if type(node.op) is not layers.BatchNormalization:
        return None
    if graph.may_train(node):
        raise LeftAlone(TRAINS)
    return fold(graph, node, _change_of(node))


def _change_of(node: Node) -> Change:
    layer = node.op
    scale = 1 / np.sqrt(array(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * array(layer.gamma)
    shift = -scale * array(layer.moving_mean)
    if layer.center:
        shift = shift + array(layer.beta)
    return Change(scale, shift, channel_axis(layer, len(node.output.shape)))
