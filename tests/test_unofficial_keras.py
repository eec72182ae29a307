"""Test undocumented behavior of Keras that the package uses outside of `graph.py`.

CONTRIBUTING.md lists it. A test that fails here says what a new Keras has changed.
"""

import h5py
import keras
import numpy as np
import pytest

from se_keras.graph import trace


def test_a_weights_file_counts_the_layers_of_a_class_and_keeps_their_names(tmp_path):
    """`weights/readers/hdf5.py` reads such files without the model that wrote them."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="stem")(image)
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="deep")(x)
    inner = keras.Input(x.shape[1:])
    nested = keras.Model(inner, keras.layers.BatchNormalization(name="bn")(inner), name="part")
    keras.Model(image, nested(x)).save_weights(tmp_path / "model.weights.h5")
    places = {
        "layers/conv2d": ("stem", 2),
        "layers/conv2d_1": ("deep", 1),
        "layers/functional/layers/batch_normalization": ("bn", 4),
    }
    found = []
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(
            lambda place, item: found.append(place) if isinstance(item, h5py.Dataset) else None
        )
        names = {place: file[f"{place}/vars"].attrs["name"] for place in places}
    assert names == {place: name for place, (name, _) in places.items()}
    assert sorted(found) == sorted(
        f"{place}/vars/{number}" for place, (_, count) in places.items() for number in range(count)
    )


def test_the_random_states_of_layers_are_known_by_their_name():
    """`train/run.py` sets them at the start of each epoch."""
    x = keras.Input((4,))
    y = keras.layers.GaussianNoise(0.1)(keras.layers.Dropout(0.5)(keras.layers.Dense(2)(x)))
    names = [variable.name for variable in keras.Model(x, y).variables]
    assert names.count("seed_generator_state") == 2


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: keras.ops.add(x, x), "Add"),
        (lambda x: x + x, "Add"),
        (lambda x: keras.ops.multiply(x, x), "Multiply"),
        (lambda x: x * 2, "Multiply"),
        (lambda x: x / 2, "TrueDivide"),
        (lambda x: keras.ops.divide(x, 2), "Divide"),
        (lambda x: keras.ops.cast(x, "float16"), "Cast"),
        (lambda x: keras.ops.concatenate([x, x]), "Concatenate"),
        (lambda x: keras.ops.image.resize(x, (4, 4)), "Resize"),
        (lambda x: keras.ops.conv_transpose(x, np.ones((1, 1, 2, 3), "float32")), "ConvTranspose"),
        (lambda x: keras.ops.conv(x, np.ones((1, 1, 3, 2), "float32")), "Conv"),
        (lambda x: keras.ops.matmul(x, np.ones((3, 2), "float32")), "Matmul"),
        (keras.ops.relu, "Relu"),
        (keras.ops.relu6, "Relu6"),
        (keras.ops.sigmoid, "Sigmoid"),
        (keras.ops.silu, "Silu"),
    ],
)
def test_an_operation_has_the_class_name_that_is_looked_for(call, name):
    """`surgery` and `counting.py` know the functions of `keras.ops` by these."""
    x = keras.Input((8, 8, 3))
    assert type(trace(keras.Model(x, call(x))).nodes[-1].op).__name__ == name


def test_keras_updates_weights_by_the_methods_that_are_overridden():
    """`train/optimizer.py` has its own `apply` and `check_finite`."""
    called = []

    class Watched(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            called.append(len(grads))
            super().apply(grads, trainable_variables)

    class WatchedScale(keras.optimizers.LossScaleOptimizer):
        def check_finite(self, grads):
            called.append("finite")
            return super().check_finite(grads)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    for optimizer, expected in ((Watched(), 2), (WatchedScale(keras.optimizers.SGD()), "finite")):
        model.compile(optimizer, "mse", jit_compile=False)
        model.train_on_batch(x, y)
        assert called[-1] == expected


def test_keras_updates_each_variable_by_the_step_that_is_overridden():
    """`train/optimizer.py` gives each variable its own learning rate and decay there."""
    called = []

    class Watched(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            called.append((self._get_variable_index(variable), self._use_weight_decay(variable)))
            super().update_step(gradient, variable, learning_rate)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = Watched()
    optimizer.exclude_from_weight_decay([model.trainable_variables[1]])
    model.compile(optimizer, "mse", jit_compile=False)
    model.train_on_batch(np.ones((4, 3), "float32"), np.ones((4, 2), "float32"))
    assert called[-2:] == [(0, True), (1, False)]


def test_random_layers_draw_from_the_seeds_that_they_are_given():
    """`train/augmentation.py` has its own seeds, which follow from the number of the image."""
    drawn = []

    class Seeds(keras.random.SeedGenerator):
        def __init__(self):
            pass

        def next(self, ordered=True):
            drawn.append(len(drawn))
            return keras.ops.convert_to_tensor([7, len(drawn)], "int32")

    class Layer(keras.layers.MixUp):
        def _get_seed_generator(self, backend=None):
            return Seeds()

    Layer()(np.ones((4, 8, 8, 3), "float32"))
    assert drawn
