"""SE-VGG-16, against the paper's counts, keras.applications and timm."""

import importlib.util
from dataclasses import replace
from itertools import pairwise

import keras
import numpy as np
import pytest
from checks import GOLDEN, array, run_python, se_layers, set_random_weights, trainable, uniform
from drawn_weights import image
from timm_weights import VARIABLES, draw

import se_keras
from se_keras.models.assembly import NetworkOptions, build_network
from se_keras.models.recipes import find_recipe

NAMES = ("sevgg16", "sevgg16_bn")
# arXiv 1409.1556, Table 1, column D.
WIDTHS = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
CONVOLUTIONS = sum(9 * a * b + b for a, b in pairwise([3, *WIDTHS]))
DENSE = (7 * 7 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000)
SE_WEIGHTS = sum(2 * c * (c // 16) for c in WIDTHS)
SE_BIASES = sum(c // 16 + c for c in WIDTHS)
NORM = {"sevgg16": 0, "sevgg16_bn": sum(2 * c for c in WIDTHS)}
# What others count: keras.applications' VGG16, torchvision's vgg16_bn.
PLAIN = {"sevgg16": 138_357_544, "sevgg16_bn": 138_365_992}


def small(name="sevgg16_bn", input_shape=(32, 32, 3), **options):
    """The network with less of it, for what does not depend on its size."""
    recipe = replace(find_recipe(name), depths=(1, 2, 1, 1, 1), widths=(8, 8, 16, 16, 32))
    return build_network(recipe, NetworkOptions(input_shape=input_shape, **options))


# --- counts --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_are_those_of_the_paper(name):
    plain = se_keras.create(name, include_top=False, se=False)
    no_bias = se_keras.create(name, include_top=False, se_options={"use_bias": False})
    se = se_keras.create(name, include_top=False)
    assert trainable(plain) == CONVOLUTIONS + NORM[name] == PLAIN[name] - DENSE
    assert trainable(no_bias) == trainable(plain) + SE_WEIGHTS
    assert trainable(se) == trainable(plain) + SE_WEIGHTS + SE_BIASES
    assert find_recipe(name).parameters == PLAIN[name] + SE_WEIGHTS + SE_BIASES


@pytest.mark.parametrize("name", NAMES)
def test_the_multiply_adds_are_those_of_the_paper(name):
    sizes = [224] * 2 + [112] * 2 + [56] * 3 + [28] * 3 + [14] * 3
    rows = zip([3, *WIDTHS[:-1]], WIDTHS, sizes, strict=True)
    convolutions = sum(9 * a * b * size**2 for a, b, size in rows)
    total = convolutions + 25088 * 4096 + 4096 * 4096 + 4096 * 1000 + SE_WEIGHTS
    assert find_recipe(name).multiply_adds == total
    assert total == pytest.approx(15.48e9, rel=0.01)  # paper, Table 2


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_network_has_them_too(name):
    assert trainable(se_keras.create(name)) == find_recipe(name).parameters


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES)
def test_se_stands_behind_the_non_linearity_of_each_convolution(name):
    model = se_keras.create(name, include_top=False)
    layers = [layer for layer in model.layers if not layer.name.endswith("_pool")]
    before = {b.name: a for a, b in pairwise(layers)}
    found = se_layers(model)
    assert [layer.expand.units for layer in found] == WIDTHS
    assert [layer.reduce.units for layer in found] == [c // 16 for c in WIDTHS]
    assert all(before[layer.name].activation is keras.activations.relu for layer in found)
    assert all(layer.input is before[layer.name].output for layer in found)


# --- structure -----------------------------------------------------------------------------------


def test_the_plain_twin_is_the_network_of_keras_applications():
    options = {"weights": None, "input_shape": (32, 32, 3), "classes": 10}
    theirs = keras.applications.VGG16(**options)
    ours = se_keras.SEVGG16(**options, se=False)
    theirs.set_weights([uniform(w.shape, i) * 0.1 for i, w in enumerate(theirs.weights)])
    ours.set_weights(theirs.get_weights())
    x = uniform((2, 32, 32, 3))
    expected = theirs.predict(x, verbose=0)
    assert expected.std() > 0.01
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


def timm_layer(name, norm):
    """timm's module: the layers of `features` in order, an activation and a pool counted."""
    if not name.startswith("stage"):
        return {"fc1": "pre_logits.fc1", "fc2": "pre_logits.fc2", "predictions": "head.fc"}[name]
    stage, kind, index = int(name[5]), name[7:11], int(name[-1])
    depths = (2, 2, 3, 3, 3)
    before = sum(depths[: stage - 1]) + index - 1
    return f"features.{before * (3 if norm else 2) + stage - 1 + (kind == 'norm')}"


def timm_array(path, shape, norm):
    """What `draw` gives timm's tensor, as the Keras variable of this path wants it."""
    layer, variable = path.split("/")
    name = f"{timm_layer(layer, norm)}.{VARIABLES[variable]}"
    if len(shape) == 4:
        return draw(name, (shape[3], shape[2], 3, 3)).transpose(2, 3, 1, 0)
    if layer == "fc1" and variable == "kernel":  # a 7x7 convolution in timm
        return draw(name, (4096, 512, 7, 7)).transpose(2, 3, 1, 0).reshape(shape)
    if layer == "fc2" and variable == "kernel":
        return draw(name, (4096, 4096, 1, 1))[:, :, 0, 0].T
    return draw(name, shape[::-1]).T


def with_timm_weights(name, **options):
    model = se_keras.create(f"se{name}", se=False, classifier_activation=None, **options)
    for weight in model.weights:
        weight.assign(timm_array(weight.path, tuple(weight.shape), name.endswith("bn")))
    return model


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_the_plain_twin_gives_the_maps_of_timm(name):
    model = with_timm_weights(name, features_only=True)
    golden = np.load(GOLDEN / f"{name}.npz")
    for size in (224, 97):
        for stage, map in enumerate(model(image(size), training=False), start=1):
            expected = golden[f"stage{stage}_{size}"]
            difference = np.abs(array(map).mean((0, 1, 2)) - expected).max()
            assert difference < 1e-4 * np.abs(expected).max(), (stage, size)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_the_plain_twin_gives_the_logits_of_timm(name):
    logits = with_timm_weights(name).predict(image(224), verbose=0)[0]
    expected = np.load(GOLDEN / f"{name}.npz")["logits_224"]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


# --- SE at work ----------------------------------------------------------------------------------


def test_each_se_layer_is_in_the_way():
    model = small(include_top=False)
    x = uniform((1, 32, 32, 3))
    assert model.predict(x, verbose=0).any()
    for layer in se_layers(model):
        bias = layer.expand.bias
        bias.assign(bias - 200.0)  # a gate of zero
        assert not model.predict(x, verbose=0).any(), layer.name
        bias.assign(bias + 200.0)


def test_a_training_step_reaches_every_se_layer():
    model = small(include_top=False, pooling="avg", ratio=1)
    before = {w.path: array(w) for layer in se_layers(model) for w in layer.trainable_weights}
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(uniform((4, 32, 32, 3)), uniform((4, 32)), batch_size=4, verbose=0)
    after = {weight.path: array(weight) for weight in model.trainable_weights}
    assert len(before) == 6 * 4
    assert [path for path, old in before.items() if (after[path] == old).all()] == []


@pytest.mark.usefixtures("shapes_only")
def test_the_named_stages_alone_carry_se():
    names = [layer.name for layer in se_layers(small(include_top=False, se_stages=(2, 4)))]
    assert names == ["stage2_se1", "stage2_se2", "stage4_se1"]


# --- the classifier ------------------------------------------------------------------------------


@pytest.mark.usefixtures("shapes_only")
def test_the_classifier_fits_any_known_size():
    model = small(input_shape=(97, 64, 1), classes=5)
    layers = ["flatten", "fc1", "fc1_dropout", "fc2", "fc2_dropout", "predictions"]
    assert [layer.name for layer in model.layers[-6:]] == layers
    assert model.get_layer("flatten").output.shape == (None, 3 * 2 * 32)
    assert model.output_shape == (None, 5)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(("dropout", "rates"), [(None, [0.5, 0.5]), (0.25, [0.25] * 2), (0.0, [])])
def test_dropout_has_the_given_rate(dropout, rates):
    layers = small(dropout=dropout).layers
    assert [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)] == rates


def test_under_a_mixed_policy_the_predictions_are_float32():
    model = small(dtype="mixed_bfloat16", classes=4)
    assert model.get_layer("fc1").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"


@pytest.mark.parametrize("shape", [(None, None, 3), (64, None, 3)])
def test_an_unknown_size_with_the_classifier_is_refused(shape):
    with pytest.raises(ValueError, match=r"`input_shape` must have a known height and width.*None"):
        small(input_shape=shape)


@pytest.mark.parametrize("shape", [(31, 64, 3), (32, 8, 3)])
def test_what_the_pools_would_leave_nothing_of_is_refused(shape):
    with pytest.raises(ValueError, match="`input_shape`: height and width must be at least 32"):
        small(input_shape=shape, include_top=False)


def test_an_option_of_other_families_is_refused():
    with pytest.raises(ValueError, match="`output_stride=16`: sevgg16_bn does not have"):
        small(output_stride=16)


# --- what every network gives --------------------------------------------------------------------


@pytest.mark.usefixtures("shapes_only")
def test_features_are_the_pooled_maps():
    model = small(features_only=True, input_shape=(65, 97, 3))
    assert model.output_names == [f"stage{i}_stride{2**i}" for i in range(1, 6)]
    sizes = [tuple(shape[1:3]) for shape in model.output_shape]
    assert sizes == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]


def test_unknown_sizes_work_without_the_classifier():
    model = small(input_shape=(None, None, 4), include_top=False, pooling="avg")
    assert model.predict(uniform((1, 45, 70, 4)), verbose=0).shape == (1, 32)


@pytest.mark.parametrize("include_top", [True, False])
def test_a_saved_network_is_the_same(tmp_path, include_top):
    model = small(include_top=include_top, classes=7 if include_top else None)
    set_random_weights(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = uniform((2, 32, 32, 3))
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


CHANNELS_FIRST = """
from test_models_vgg import *
options = {"classes": 3, "classifier_activation": None}
last = small(input_shape=(64, 32, 3), **options)
first = small(input_shape=(3, 64, 32), data_format="channels_first", **options)
set_random_weights(last)
first.set_weights(last.get_weights())
x = uniform((2, 64, 32, 3))
expected = array(last(x, training=False))
assert expected.std() > 1e-4
np.testing.assert_allclose(array(first(x.transpose(0, 3, 1, 2), training=False)), expected,
                           rtol=1e-4, atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_channels_first_computes_the_same_with_the_same_weights(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    run_python(CHANNELS_FIRST, backend=backend)
