"""Save a model of SE's kin, and its outputs, for a test of later versions.

Made once, by version 0.1.0; not to be made again:
    python tests/golden/make_kin_layers.py
"""

import pathlib

import keras
import numpy as np

import se_keras

HERE = pathlib.Path(__file__).parent


def main():
    x = image = keras.Input((5, 6, 8), name="image")
    for layer in (
        se_keras.EfficientChannelAttention(5, pool="max", use_bias=True, name="eca"),
        se_keras.EffectiveSqueezeExcite(name="ese"),
        se_keras.SpatialChannelSqueezeExcite(4, fusion="max", gate_scale=2.0, name="scse"),
        se_keras.GatherExcite(2, name="ge"),
        se_keras.GatherExcite(
            4, extra_params=True, use_mlp=True, ratio=2, activation="silu", name="ge_plus"
        ),
    ):
        x = layer(x)
    model = keras.Model(image, x, name="kin_layers")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        least = 0.5 if weight.name == "moving_variance" else -1
        weight.assign(rng.uniform(least, 1, weight.shape))
    x = rng.uniform(-1, 1, (2, 5, 6, 8)).astype("float32")
    model.save(HERE / "kin_layers.keras")
    np.savez_compressed(
        HERE / "kin_layers.npz",
        x=x,
        expected=np.asarray(model(x)),
        paths=[weight.path for weight in model.weights],
    )


if __name__ == "__main__":
    main()
