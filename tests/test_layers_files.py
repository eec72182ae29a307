"""Files that an earlier version saved."""

import keras
import numpy as np
from checks import GOLDEN, array

from se_keras import SqueezeExcite


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
