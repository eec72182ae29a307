"""Exports let a max pool pad what a ReLU gives, where this changes nothing."""

import keras
import numpy as np
import pytest
from checks import set_random_weights, uniform
from keras import layers

import se_keras
from se_keras.deploy.engines import find_engine
from se_keras.deploy.padded_pool import PAD_IN_POOL, PaddedMaxPooling2D
from se_keras.deploy.targets import TARGETS
from se_keras.graph import trace
from se_keras.rewrite.optimize import rewrite

WITH_RULE = [row for row in TARGETS if PAD_IN_POOL in row.rules]


def network(before, padding=1, pool=None, **options):
    x = keras.Input((9, 12, 3), name="image")
    y = before(layers.Conv2D(8, 3, padding="same")(x))
    y = layers.ZeroPadding2D(padding, **options)(y)
    y = (pool or layers.MaxPooling2D(3, 2))(y)
    model = keras.Model(x, layers.Flatten()(y))
    set_random_weights(model)
    return model


def rewritten(model):
    graph = trace(model)
    rewrite(graph, [PAD_IN_POOL])
    return graph.build()


def pads_in_pool(model):
    return any(type(layer) is PaddedMaxPooling2D for layer in rewritten(model).layers)


@pytest.mark.parametrize(
    "before",
    [layers.ReLU(), layers.ReLU(6.0), layers.Activation("relu"), layers.Dense(8, "sigmoid")],
)
@pytest.mark.parametrize("padding", [1, ((1, 0), (0, 2))])
def test_a_pool_pads_what_is_not_negative(before, padding):
    model = network(type(before).from_config(before.get_config()), padding)
    x = uniform((2, 9, 12, 3))
    assert pads_in_pool(model)
    np.testing.assert_array_equal(rewritten(model)(x), model(x))


@pytest.mark.parametrize(
    ("before", "options"),
    [
        (layers.Identity(), {}),
        (layers.ReLU(negative_slope=0.1), {}),
        (layers.Activation("tanh"), {}),
        (layers.Activation("silu"), {}),
        (layers.ReLU(), {"padding": 3}),
        (layers.ReLU(), {"pool": layers.MaxPooling2D(3, 2, padding="same")}),
        (layers.ReLU(), {"pool": layers.AveragePooling2D(3, 2)}),
        (layers.ReLU(), {"data_format": "channels_first"}),
    ],
)
def test_the_padding_stays_where_it_counts(before, options):
    assert not pads_in_pool(network(before, **options))


def test_another_consumer_keeps_its_padding():
    x = keras.Input((8, 8, 3))
    y = layers.ZeroPadding2D(1)(layers.ReLU()(x))
    model = keras.Model(x, [layers.MaxPooling2D(3, 2)(y), layers.AveragePooling2D(3, 2)(y)])
    image = uniform((2, 8, 8, 3))
    new = rewritten(model)
    assert {layers.ZeroPadding2D, PaddedMaxPooling2D} <= {type(layer) for layer in new.layers}
    for one, other in zip(new(image), model(image), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("row", WITH_RULE, ids=lambda row: f"{row.format}-{row.precision}")
def test_files_have_no_padding_of_their_own(row, tmp_path):
    model = network(layers.ReLU(), ((1, 2), (0, 1)))
    path = tmp_path / f"m{find_engine(row.format).suffix}"
    x = uniform((60, 9, 12, 3))
    calibration = x if row.calibrate else None
    report = se_keras.export(model, path, row.format, row.precision, calibration)
    assert report.rms_difference < {"float32": 1e-6, "bfloat16": 1e-2, "int8": 5e-2}[row.precision]
    assert not any("Pad" in name for name in operators_of(path, row.format))


def operators_of(path, format):
    """Return the types of the operators in a file."""
    if format == "onnx":
        import onnx

        return {node.op_type for node in onnx.load(path).graph.node}
    if format == "openvino":
        import openvino

        model = openvino.Core().read_model(path / "model.xml")
        return {op.get_type_name() for op in model.get_ops()}
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    functions = file.meta_graphs[0].graph_def.library.function
    return {node.op for function in functions for node in function.node_def}


def test_networks_with_this_stem_have_the_rule():
    assert pads_in_pool(se_keras.create("seresnet18", input_shape=(32, 32, 3)))
    assert pads_in_pool(keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3)))
    # Its pool reads a convolution.
    assert not pads_in_pool(keras.applications.ResNet50V2(weights=None, input_shape=(32, 32, 3)))
