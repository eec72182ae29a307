"""Files that an earlier version saved."""

import keras
import numpy as np
from checks import GOLDEN, array

from se_keras import GatherExcite, SqueezeExcite


def test_a_file_of_squeeze_excite_from_before_its_base_class_loads(tmp_path):
    """Made by golden/make_se_layers.py: of float32, with all options, of int8."""
    golden = np.load(GOLDEN / "se_layers.npz")
    model = keras.models.load_model(GOLDEN / "se_layers.keras")
    assert [weight.path for weight in model.weights] == list(golden["paths"])
    layers = [layer for layer in model.layers if isinstance(layer, SqueezeExcite)]
    modes = [layer.expand.quantization_mode for layer in layers]
    assert modes == [None, None, "int8"]
    np.testing.assert_allclose(array(model(golden["x"])), golden["expected"], rtol=1e-6, atol=1e-7)
    model.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(array(again(golden["x"])), array(model(golden["x"])))


def test_a_file_of_many_layers_loads(tmp_path):
    """While it loads, Keras marks objects that have the address of an earlier one."""
    inputs = x = keras.Input((4, 4, 2))
    for _ in range(100):
        x = GatherExcite(2)(x)
    keras.Model(inputs, x).save(tmp_path / "a.keras")
    for _ in range(2):
        assert len(keras.models.load_model(tmp_path / "a.keras").layers) == 101


def test_a_file_of_each_kind_of_its_kin_loads_and_is_served(tmp_path):
    """Made by golden/make_kin_layers.py."""
    golden = np.load(GOLDEN / "kin_layers.npz")
    model = keras.models.load_model(GOLDEN / "kin_layers.keras")
    assert [weight.path for weight in model.weights] == list(golden["paths"])
    x, expected = golden["x"], golden["expected"]
    np.testing.assert_allclose(array(model(x)), expected, rtol=1e-6, atol=1e-7)
    model.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(array(again(x)), array(model(x)))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        model.export(tmp_path / "saved_model", verbose=False)
        served = tf.saved_model.load(tmp_path / "saved_model")
        np.testing.assert_allclose(array(served.serve(x)), expected, rtol=1e-5, atol=1e-6)
