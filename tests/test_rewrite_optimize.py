"""`optimize`: equal outputs in stock layers, each rule against NumPy, what is left alone."""

import re
import zipfile

import keras
import numpy as np
import pytest
from checks import array, set_random_weights, uniform
from keras import layers

import se_keras
from se_keras.graph import innermost_layers
from se_keras.rewrite.optimize import report_optimization

STOCK = 1e-4  # of the largest output; measured: 1e-6


def assert_equal_outputs(model, new, *inputs, rtol=STOCK):
    given = list(inputs) if len(inputs) > 1 else inputs[0]
    expected, got = model(given), new(given)
    for one, other in zip(keras.tree.flatten(expected), keras.tree.flatten(got), strict=True):
        one, other = array(one), array(other)
        assert np.max(np.abs(one - other)) <= rtol * np.max(np.abs(one))


def optimized(model, *inputs, **options):
    before = [array(weight).copy() for weight in model.weights]
    config = model.get_config()
    new = se_keras.optimize(model, verbose=False)
    assert model.get_config() == config
    assert all(np.array_equal(array(w), b) for w, b in zip(model.weights, before, strict=True))
    assert_equal_outputs(model, new, *inputs, **options)
    return new


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def innermost_kinds(model):
    return {type(layer).__name__ for layer in innermost_layers(model)}


def texts(model, *, done):
    return {step.text for step in report_optimization(model).steps if step.done is done}


def network(shape, *made):
    return keras.Sequential([keras.Input(shape), *made])


def test_normalization_is_folded_into_every_linear_layer():
    for layer, shape in [
        (layers.Conv1D(6, 3), (9, 4)),
        (layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False), (9, 9, 4)),
        (layers.Conv2D(6, 3, groups=2), (9, 9, 4)),
        (layers.Conv3D(6, 2), (5, 5, 5, 4)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 4)),
        (layers.SeparableConv2D(6, 3), (9, 9, 4)),
        (layers.Conv2DTranspose(6, 3, strides=2), (5, 5, 4)),
        (layers.Dense(6), (4,)),
        (layers.Dense(6), (7, 4)),
    ]:
        model = network(shape, layer, layers.BatchNormalization(), layers.ReLU())
        set_random_weights(model)
        new = optimized(model, uniform((3, *shape)))
        assert kinds(new) == [type(layer).__name__, "ReLU"]


def test_a_folded_kernel_is_what_numpy_says():
    model = network(
        (4, 4, 2), layers.Conv2D(3, 1, name="conv"), layers.BatchNormalization(name="bn")
    )
    set_random_weights(model)
    new = se_keras.optimize(model, verbose=False)
    conv, bn = model.get_layer("conv"), model.get_layer("bn")
    gamma, beta, mean, variance = (array(w).astype("float64") for w in bn.weights)
    factor = gamma / np.sqrt(variance + bn.epsilon)
    kernel, bias = new.get_layer("conv").get_weights()
    np.testing.assert_allclose(kernel, array(conv.kernel) * factor, rtol=1e-6)
    np.testing.assert_allclose(bias, (array(conv.bias) - mean) * factor + beta, rtol=1e-5)


def test_the_gate_is_computed_from_the_narrow_map():
    model = network(
        (6, 6, 8),
        layers.Conv2D(32, 1, use_bias=False, name="wide"),
        layers.BatchNormalization(),
        se_keras.SqueezeExcite(ratio=4, gate_scale=1.5, name="se"),
    )
    set_random_weights(model)
    new = optimized(model, uniform((3, 6, 6, 8)))
    # mean, first layer, second layer, and the product with the wide map; the factor 1.5 is gone
    assert sorted(kinds(new)) == sorted(
        ["InputLayer", "Conv2D", "GlobalAveragePooling2D", "Conv2D", "Conv2D", "Multiply"]
    )
    assert new.get_layer("se_reduce").kernel.shape == (1, 1, 8, 8)
    assert new.get_layer("se_squeeze").input.shape[-1] == 8


@pytest.mark.parametrize("groups", [1, 2])
def test_the_narrow_gate_is_the_formula(groups):
    model = network(
        (5, 5, 4),
        layers.Conv2D(8, 1, groups=groups, name="wide"),
        se_keras.SqueezeExcite(ratio=2, name="se"),
    )
    set_random_weights(model)
    new = se_keras.optimize(model, verbose=False)
    se = model.get_layer("se")
    # What the wide convolution does to one position, read off unit vectors.
    units = np.eye(4, dtype="float32")[:, None, None, :]
    shift = array(model.get_layer("wide")(0 * units[:1]))[0, 0, 0].astype("float64")
    matrix = array(model.get_layer("wide")(units))[:, 0, 0].astype("float64") - shift
    first, bias = (array(weight).astype("float64") for weight in se.reduce.weights)
    kernel, folded = new.get_layer("se_reduce").get_weights()
    np.testing.assert_allclose(kernel[0, 0], matrix @ first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(folded, shift @ first + bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ([layers.Conv2D(32, 1, activation="relu")], "it reads what an activation"),
        ([layers.Conv2D(32, 3)], "its input comes from a convolution that is not pointwise"),
        (
            [layers.Conv2D(32, 1, strides=2)],
            "its input comes from a convolution that is not pointwise",
        ),
        ([layers.Conv2D(4, 1)], "the map before the pointwise convolution is not narrower"),
    ],
)
def test_the_gate_stays_on_the_wide_map_where_algebra_or_cost_forbid_the_narrow_one(made, reason):
    model = network((6, 6, 8), *made, se_keras.SqueezeExcite(ratio=2, name="se"))
    set_random_weights(model)
    optimized(model, uniform((2, 6, 6, 8)))
    assert any(text.startswith(reason) for text in texts(model, done=False))


@pytest.mark.parametrize("channels", [4, 9])
def test_a_mean_over_the_channels_is_no_squeeze(channels):
    model = network(
        (9, 3),
        layers.Conv1D(channels, 1),
        layers.GlobalAveragePooling1D(data_format="channels_first"),
        layers.Dense(2),
    )
    set_random_weights(model)
    optimized(model, uniform((2, 9, 3)))
    assert texts(model, done=False) == {"it averages over the channels"}


def test_other_squeezes_ranks_and_formats_become_stock_layers():
    for layer, shape in [
        (se_keras.SqueezeExcite(ratio=2, pool="max"), (6, 6, 8)),
        (se_keras.SqueezeExcite(ratio=2, use_bias=False, gate_activation="tanh"), (9, 8)),
        (se_keras.SqueezeExcite(ratio=2, activation="silu", gate_scale=2.0), (4, 4, 4, 8)),
        (se_keras.SqueezeExcite(ratio=2, data_format="channels_first"), (8, 6, 6)),
        (se_keras.SqueezeExcite(ratio=2), (None, None, 8)),
    ]:
        model = network(shape, layer)
        set_random_weights(model)
        size = [5 if n is None else n for n in shape]
        new = optimized(model, uniform((2, *size)))
        assert "SqueezeExcite" not in kinds(new)


def test_a_constant_gate_becomes_weights():
    x = keras.Input((6, 6, 8))
    wide = layers.Conv2D(16, 3, name="conv")(x)
    y = se_keras.SqueezeExcite(ratio=4, name="se")(wide)
    model = keras.Model(x, y)
    set_random_weights(model)
    se = model.get_layer("se")
    se.expand.kernel.assign(np.zeros(se.expand.kernel.shape))
    new = optimized(model, uniform((2, 6, 6, 8)))
    assert kinds(new) == ["InputLayer", "Conv2D"]


def test_a_warm_start_is_taken_out_again():
    plain = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(16, 3), layers.ReLU()])
    new = optimized(se_keras.insert_se(plain), uniform((2, 8, 8, 3)))
    assert kinds(new) == kinds(plain)


def test_squeeze_excite_written_in_stock_layers_reads_the_narrow_map():
    """As users write it: (N, C), two dense layers, a reshape; and with the reshape first."""
    x = keras.Input((6, 6, 4))
    y = layers.BatchNormalization()(layers.Conv2D(16, 1)(x))
    z = layers.Dense(4, activation="relu")(layers.GlobalAveragePooling2D()(y))
    y = layers.Multiply()([y, layers.Reshape((1, 1, 16))(layers.Dense(16, "sigmoid")(z))])
    y = layers.BatchNormalization()(layers.Conv2D(32, 1)(y))
    z = layers.Reshape((1, 1, 32))(layers.GlobalAveragePooling2D()(y))
    z = layers.Conv2D(32, 1, activation="sigmoid")(layers.Conv2D(8, 1, activation="relu")(z))
    model = keras.Model(x, layers.Multiply()([y, z]))
    set_random_weights(model)
    new = optimized(model, uniform((2, 6, 6, 4)))
    reads = [layer.input.shape[-1] for layer in new.layers if "Pooling" in type(layer).__name__]
    assert reads == [4, 16]
    assert kinds(new).count("Reshape") == 1


def test_what_training_adds_is_taken_out_and_what_is_asked_for_stays():
    x = keras.Input((8,))
    y = layers.Dropout(0.5)(layers.Identity()(layers.GaussianNoise(0.1)(layers.Dense(8)(x))))
    model = keras.Model(x, layers.Activation("linear")(y))
    assert kinds(optimized(model, uniform((2, 8)))) == ["InputLayer", "Dense"]
    sampled = keras.Model(x, layers.Dropout(0.5)(layers.Dense(8)(x), training=True))
    assert "Dropout" in kinds(se_keras.optimize(sampled, verbose=False))
    assert texts(sampled, done=False) == {
        "it, or a model that contains it, is called with training=True"
    }


def nested(body):
    x = keras.Input((6,))
    return keras.Model(x, body(x))


def trained_body(x, **call):
    return layers.BatchNormalization()(layers.Dense(6)(x), **call)


def called_with(model, *values):
    """A model that calls another one with each value of `training`."""
    return nested(lambda x: [model(x, training=value) for value in values])


def called_with_an_input():
    x, training = keras.Input((6,)), keras.Input(batch_shape=(), dtype="bool")
    return keras.Model([x, training], nested(trained_body)(x, training=training))


@pytest.mark.parametrize(
    ("make", "stays"),
    [
        (lambda: called_with(nested(trained_body), True), True),
        (lambda: called_with(called_with(nested(trained_body), None), True), True),
        (lambda: called_with(called_with(nested(trained_body), False), True), True),
        (lambda: called_with(nested(trained_body), True, None), True),
        (lambda: called_with(nested(trained_body), None, True), True),
        (lambda: called_with(nested(trained_body), keras.ops.convert_to_tensor(True)), True),
        (called_with_an_input, True),
        (lambda: called_with(nested(trained_body), None), False),
        (lambda: called_with(nested(lambda x: trained_body(x, training=True)), False), False),
        (lambda: called_with(called_with(nested(trained_body), True), False), False),
    ],
)
def test_what_a_call_is_given_holds_for_all_inside(make, stays):
    model = make()
    set_random_weights(model)
    x = uniform((8, 6))
    x = [*map(keras.ops.convert_to_tensor, (x, True))] if len(model.inputs) == 2 else x
    new = se_keras.optimize(model, verbose=False)
    assert_equal_outputs(model, new, x)
    assert ("BatchNormalization" in innermost_kinds(new)) == stays


def test_dropout_of_a_model_that_is_called_with_training_stays():
    model = called_with(nested(layers.Dropout(0.5)), True)
    assert "Dropout" in innermost_kinds(se_keras.optimize(model, verbose=False))


def test_normalization_that_can_not_be_folded_stays():
    x = keras.Input((6, 6, 4))
    conv = layers.Conv2D(4, 3, padding="same", name="conv")
    relu = layers.BatchNormalization(name="a")(layers.ReLU()(x))
    read_twice = conv(relu)
    model = keras.Model(
        x,
        [
            layers.BatchNormalization(name="b")(read_twice),
            read_twice,
            layers.BatchNormalization(axis=1, name="c")(layers.Conv2D(4, 1)(x)),
            layers.BatchNormalization(name="d")(layers.Conv2D(4, 1)(x), training=True),
        ],
    )
    set_random_weights(model)
    new = optimized(model, uniform((2, 6, 6, 4)))
    assert kinds(new).count("BatchNormalization") == 4
    assert len(texts(model, done=False)) == 4


def test_shared_layers_nested_models_several_inputs_and_outputs():
    image = keras.Input((8, 8, 3))
    y = layers.BatchNormalization()(layers.Conv2D(4, 1)(image))
    y = layers.BatchNormalization()(layers.Conv2D(16, 1)(y))
    body = keras.Model(image, se_keras.SqueezeExcite(ratio=4, name="se")(y), name="body")
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    shared = layers.Conv2D(5, 3, name="shared")
    both = [layers.BatchNormalization()(shared(body(side))) for side in (left, right)]
    model = keras.Model([left, right], {"sum": layers.Add()(both), "left": both[0]})
    set_random_weights(model)
    new = optimized(model, uniform((2, 8, 8, 3)), uniform((2, 8, 8, 3), 2))
    assert kinds(new.get_layer("body")).count("SqueezeExcite") == 0
    assert "the layer before it is called more than once" in texts(model, done=False)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_types_are_kept(policy):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 8)),
            layers.Conv2D(32, 1, dtype=policy),
            layers.BatchNormalization(dtype=policy),
            se_keras.SqueezeExcite(ratio=4, dtype=policy),
        ]
    )
    set_random_weights(model)
    tolerance = {"mixed_bfloat16": 3e-2, "mixed_float16": 4e-3, "float64": 1e-6}[policy]
    new = optimized(model, uniform((2, 6, 6, 8)), rtol=tolerance)
    assert new.outputs[0].dtype == model.outputs[0].dtype


def test_the_file_names_nothing_but_keras(tmp_path):
    """So it loads without the package; test_public.py loads another one in this way."""
    model = se_keras.create("seresnet20", input_shape=(16, 16, 3), classes=3)
    set_random_weights(model)
    x = uniform((2, 16, 16, 3))
    new = optimized(model, x)
    assert not {"SqueezeExcite", "BatchNormalization"} & set(kinds(new))
    new.save(tmp_path / "fast.keras")
    with zipfile.ZipFile(tmp_path / "fast.keras") as file:
        config = file.read("config.json").decode()
    modules = {module.partition(".")[0] for module in re.findall(r'"module": "(.*?)"', config)}
    assert modules == {"keras"}
    loaded = keras.models.load_model(tmp_path / "fast.keras")
    np.testing.assert_array_equal(array(loaded(x)), array(new(x)))


def test_every_gate_of_a_bottleneck_reads_the_narrow_map_and_none_of_a_mobile_network():
    """Every gate of bottlenecks from the narrow map; none of a mobile network, by the cost rule."""
    for name, narrow in [("legacy_seresnext26_32x4d", 8), ("semobilenet", 0)]:
        model = se_keras.create(name, input_shape=(32, 32, 3), classes=5)
        set_random_weights(model)
        optimized(model, uniform((2, 32, 32, 3)))
        plan = report_optimization(model)
        means = [step for step in plan.steps if step.rule == "global mean" and step.done]
        assert len(means) == narrow


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV2",
        "MobileNetV3Small",
        "EfficientNetB0",
        "ResNet50V2",
        "DenseNet121",
        "Xception",
        "NASNetMobile",
        "InceptionV3",
        "ConvNeXtTiny",
        "VGG16",
    ],
)
def test_networks_of_keras_applications_give_equal_outputs(name):
    size = 96
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=7)
    set_random_weights(model)
    optimized(model, 255 * uniform((2, size, size, 3)))


def test_the_plan_is_printed(capsys):
    model = network((6, 6, 8), layers.Conv2D(32, 1), se_keras.SqueezeExcite(name="se"))
    se_keras.optimize(model)
    printed = capsys.readouterr().out
    assert "squeeze-and-excitation" in printed
    assert "from the narrow map" in printed
    se_keras.optimize(model, verbose=False)
    assert capsys.readouterr().out == ""
    assert str(report_optimization(network((4,), layers.Dense(2)))) == "nothing to rewrite"


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="`model` must be a functional model"):
        se_keras.optimize(Own())
