"""Compare class activation maps with arXiv 1512.04150 in NumPy, and with differences."""

import keras
import numpy as np
import pytest
from checks import array, set_random_weights
from keras import layers

import se_keras
from se_keras.graph import innermost_layers
from se_keras.support.errors import InputError
from se_keras.train.activation_maps import class_maps

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 12, 12, 3)).astype("float32")
CLASSES = np.array([1, 0, 3])


def backbone(name="backbone"):
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    x = se_keras.SqueezeExcite(2)(x)
    x = layers.Conv2D(5, 3, strides=2, padding="same", name="conv")(x)
    return keras.Model(image, layers.Activation("relu", name="map")(x), name=name)


def plain():
    body = backbone()
    x = layers.GlobalAveragePooling2D()(body.output)
    return keras.Model(body.input, layers.Dense(4, activation="softmax", name="top")(x))


def nested():
    image, body = keras.Input((12, 12, 3)), backbone()
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(body(image)))
    return keras.Model(image, layers.Softmax()(layers.Dense(4, name="top")(x)))


def pooled_inside():
    body = backbone()
    pooled = keras.Model(body.input, layers.GlobalAveragePooling2D()(body.output), name="pooled")
    head = keras.Sequential([keras.Input((5,)), layers.Dense(4, name="top")])
    return keras.Sequential([keras.Input((12, 12, 3)), pooled, head, layers.Activation("softmax")])


def head_of_a_map():
    body = backbone()
    head = [layers.GlobalAveragePooling2D(), layers.Dense(4, "sigmoid", name="top")]
    head = keras.Sequential([keras.Input((6, 6, 5)), *head])
    return keras.Model(body.input, head(body.output))


def as_mobilenet():
    body = backbone()
    x = layers.GlobalAveragePooling2D(keepdims=True)(body.output)
    x = layers.Reshape((4,))(layers.Conv2D(4, 1, name="top")(x))
    return keras.Model(body.input, layers.Activation("softmax")(x))


def found_layer(model, name):
    return next(layer for layer in innermost_layers(model) if layer.name == name)


@pytest.mark.parametrize("make", [plain, nested, pooled_inside, head_of_a_map, as_mobilenet])
def test_after_a_global_average_they_are_the_weighted_maps(make):
    """CAM is sum_c w_c map_c; Grad-CAM is CAM divided by the number of places."""
    model = make()
    set_random_weights(model)
    before, outputs = model.get_weights(), array(model(IMAGES))
    body = backbone()
    body.set_weights(before[: len(body.weights)])
    maps = array(body(IMAGES)).astype("float64")
    kernel = array(found_layer(model, "top").kernel).astype("float64").reshape(5, 4)
    expected = np.einsum("nhwc,cn->nhw", maps, kernel[:, CLASSES]).clip(0) / 36
    assert expected.max() > 0.001
    np.testing.assert_allclose(class_maps(model, IMAGES, CLASSES), expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(array(model(IMAGES)), outputs)  # the softmax is there again


def test_after_other_heads_they_are_made_of_the_gradient():
    """The gradient of VGG's head is computed by differences in float64."""
    body = backbone()
    x = layers.Flatten()(body.output)
    x = layers.Dense(7, activation="tanh", name="fc")(x)
    model = keras.Model(body.input, layers.Dense(4, activation="softmax", name="top")(x))
    set_random_weights(model)
    maps = array(body(IMAGES)).astype("float64")
    (fc, fc_bias), (top, _) = (
        [weight.astype("float64") for weight in model.get_layer(name).get_weights()]
        for name in ("fc", "top")
    )
    hidden = 1 - np.tanh(maps.reshape(3, -1) @ fc + fc_bias) ** 2
    gradient = np.stack([fc @ (h * top[:, c]) for h, c in zip(hidden, CLASSES, strict=True)])
    weights = gradient.reshape(maps.shape).mean((1, 2), keepdims=True)
    expected = (weights * maps).sum(-1).clip(0)
    np.testing.assert_allclose(class_maps(model, IMAGES, CLASSES), expected, rtol=1e-3, atol=1e-6)


def tokens():
    image = keras.Input((12, 12, 3))
    x = layers.Reshape((36, 12))(image)
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def two_maps():
    body, pool = backbone(), layers.GlobalAveragePooling2D
    x = layers.Concatenate()([pool()(body.output), pool()(body.get_layer("conv").output)])
    return keras.Model(body.input, layers.Dense(4)(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (tokens, r"must have a feature map before its scores, got \(None, 36, 12\)"),
        (two_maps, "must depend on one last feature map, got 2"),
        (backbone, "must return scores of classes"),
    ],
)
def test_models_without_one_map_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        class_maps(make(), IMAGES, CLASSES)
