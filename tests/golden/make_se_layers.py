"""Save a model of `SqueezeExcite` layers, and its outputs, for a test of later versions.

Made once, by version 0.1.0 before the layer had a base class; not to be made again:
    python tests/golden/make_se_layers.py
"""

import pathlib

import keras
import numpy as np

from se_keras import SqueezeExcite

HERE = pathlib.Path(__file__).parent
OTHER = {
    "reduced_channels": 3,
    "pool": "max",
    "activation": "silu",
    "gate_activation": "hard_sigmoid",
    "gate_scale": 2.0,
    "use_bias": False,
    "kernel_regularizer": keras.regularizers.L2(1e-4),
    "data_format": "channels_last",
}


def main():
    image = keras.Input((5, 4, 8), name="image")
    x = SqueezeExcite(4, divisor=2, name="plain")(image)
    x = SqueezeExcite(name="other", **OTHER)(x)
    x = SqueezeExcite(2, name="int8")(x)
    model = keras.Model(image, x, name="se_layers")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(-1, 1, weight.shape))
    for part in ("reduce", "expand"):
        getattr(model.get_layer("int8"), part).quantize("int8")
    x = rng.uniform(-1, 1, (2, 5, 4, 8)).astype("float32")
    model.save(HERE / "se_layers.keras")
    np.savez_compressed(
        HERE / "se_layers.npz",
        x=x,
        expected=np.asarray(model(x)),
        paths=[weight.path for weight in model.weights],
    )


if __name__ == "__main__":
    main()
