"""`se_block` in a functional model."""

import keras
import numpy as np
import pytest
from checks import array, reference_se, set_random_weights, uniform

from se_keras import SqueezeExcite, se_block


def test_the_block_is_a_layer_with_the_given_arguments():
    x = keras.Input((6, 5, 12))
    y = se_block(x, 3, "stage2_se", pool="max", gate_scale=2.0, dtype="float64")
    model = keras.Model(x, y)
    layer = model.get_layer("stage2_se")
    expected = SqueezeExcite(3, name="stage2_se", pool="max", gate_scale=2.0, dtype="float64")
    assert layer.get_config() == expected.get_config()
    assert model.output_shape == (None, 6, 5, 12)


def test_the_default_ratio_is_16():
    x = keras.Input((4, 4, 64))
    model = keras.Model(x, se_block(x))
    assert model.count_params() == 64 * 4 + 4 + 4 * 64 + 64


@pytest.mark.parametrize("spatial", [(7,), (5, 4), (3, 2, 4), (None, None)])
def test_the_block_computes_se(spatial):
    x = keras.Input((*spatial, 6))
    model = keras.Model(x, se_block(x, ratio=2))
    set_random_weights(model)
    values = uniform((2, *(size or 3 for size in spatial), 6))
    expected, _ = reference_se(values, [array(weight) for weight in model.weights])
    np.testing.assert_allclose(model.predict(values, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_each_call_makes_new_weights():
    x = keras.Input((4, 4, 8))
    model = keras.Model(x, se_block(se_block(x, 4, "first"), 4, "second"))
    assert len(model.trainable_weights) == 8
    first, second = (model.get_layer(name).reduce.kernel for name in ("first", "second"))
    assert first is not second


@pytest.mark.parametrize("x", [np.ones((1, 2, 2, 4), "float32"), None, "x"])
def test_what_is_not_symbolic_is_refused(x):
    with pytest.raises(ValueError, match=r"`x` must be a symbolic Keras tensor.*Got "):
        se_block(x)


def test_a_bad_option_is_refused_as_the_layer_does():
    with pytest.raises(ValueError, match="`ratio` must be a positive integer, got 0"):
        se_block(keras.Input((4, 4, 8)), ratio=0)
