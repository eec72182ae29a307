"""Compare each claim in the table of layer kinds with Keras' results."""

import keras
import numpy as np
import pytest
from checks import array, uniform
from keras import layers

from se_keras.rewrite.layer_kinds import KINDS, STOCK, is_stock, kind_like, kind_of

PASSING = [layer for layer, kind in KINDS.items() if kind.passes != "none"]
SHIFTING = [layer for layer, kind in KINDS.items() if kind.shifts]
INERT = [layer for layer, kind in KINDS.items() if kind.inert]
ARGUMENTS = {
    "Adaptive": {"output_size": 3},
    "Pooling": {"pool_size": 2, "padding": "same"},
    "Dropout": {"rate": 0.4, "seed": 1},
    "Noise": {"stddev": 1},
    "Rescaling": {"scale": 1.5},
}


def made(layer):
    fits = (arguments for part, arguments in ARGUMENTS.items() if part in layer.__name__)
    return layer(**next(fits, {}))


def map_for(layer):
    rank = int(layer.__name__[-2]) if layer.__name__.endswith("D") else 2
    return uniform((2, *[6] * rank, 4))


@pytest.mark.parametrize("layer", PASSING)
def test_a_factor_passes_where_the_table_says_so(layer):
    x = map_for(layer)
    factor = np.array([0.5, 3, 0, 2 if KINDS[layer].passes == "positive" else -2], "float32")
    for call in ({"training": False}, {"training": True}) if KINDS[layer].inert else ({},):
        plain, scaled = (array(made(layer)(each, **call)) for each in (x, x * factor))
        np.testing.assert_allclose(scaled, plain * factor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", SHIFTING)
def test_a_shift_passes_where_the_table_says_so(layer):
    x, shift = map_for(layer), np.array([0.5, 3, 0, -2], "float32")
    plain, shifted = (array(made(layer)(each)) for each in (x, x + shift))
    np.testing.assert_allclose(shifted, plain + shift, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", INERT)
def test_an_inert_layer_gives_its_input_on(layer):
    x = map_for(layer)
    np.testing.assert_array_equal(array(made(layer)(x)), x)


def test_every_row_is_a_layer_of_keras():
    assert set(KINDS) < STOCK
    names = {layer.__name__ for layer in KINDS}
    assert {"Conv1D", "Conv2D", "Conv3D", "Conv3DTranspose", "SeparableConv1D"} <= names
    assert {"SpatialDropout1D", "ZeroPadding3D", "PReLU", "Subtract"} <= names


def test_a_layer_of_the_same_name_is_not_of_keras():
    own = type("Conv2D", (layers.Conv2D,), {"__module__": "keras_hub.layers"})(2, 3)
    assert not is_stock(own)
    assert kind_of(own).form == "other"
    assert kind_like(own).form == "convolution"
    # Keras makes one layer from another too, which is then of its own kind.
    assert not kind_like(layers.ReversibleEmbedding(4, 2)).free
    assert kind_like(keras.Sequential()).form == "other"
