"""`SqueezeExcite`: compared with a float64 reference; its options, its config, bad input."""

import inspect

import keras
import numpy as np
import pytest
from checks import (
    ACTIVATIONS,
    POLICIES,
    array,
    reference_se,
    set_random_weights,
    uniform,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from se_keras import SqueezeExcite

# Relative to the largest output. Half a unit in the last place is 2^-9 of a value in bfloat16 and
# 2^-12 in float16; the mixed policies round the gate, then the product; bfloat16 also both layers.
TOLERANCE = {
    "float64": 1e-12,
    "float32": 2e-6,
    "mixed_float16": 2**-10,
    "mixed_bfloat16": 2**-7,
    "bfloat16": 2**-5,
}
COMPUTE = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


def made(shape, seed=0, **options):
    """Make a built layer whose weights and biases are all different from zero."""
    layer = SqueezeExcite(**options)
    layer.build((None, *shape[1:]))
    set_random_weights(layer, seed)
    return layer


def reference_options(layer_options):
    names = {"pool": "pool", "activation": "activation", "gate_activation": "gate_activation"}
    names |= {"gate_scale": "scale", "data_format": "data_format"}
    return {names[key]: value for key, value in layer_options.items() if key in names}


def assert_equals_reference(layer, x, policy="float32", **options):
    weights = [array(weight) for weight in layer.weights]
    expected, gates = reference_se(array(x), weights, **reference_options(options))
    y, gate = layer(x), layer.gate(x)
    assert tuple(y.shape) == tuple(x.shape)
    assert keras.backend.standardize_dtype(y.dtype) == COMPUTE.get(policy, policy)
    first = options.get("data_format") == "channels_first"
    ones = (1,) * (len(x.shape) - 2)
    n, c = gates.shape
    assert tuple(gate.shape) == ((n, c, *ones) if first else (n, *ones, c))
    for got, wanted in ((array(y), expected), (array(gate).reshape(n, c), gates)):
        scale = np.abs(wanted).max(initial=1e-3)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE[policy] * scale)


@st.composite
def layer_cases(draw):
    """Draw the shape of a map, the arguments of a layer, and a policy."""
    channels = draw(st.integers(1, 40))
    spatial = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    options = {
        "ratio": draw(st.integers(1, 20)),
        "divisor": draw(st.sampled_from([1, 2, 8])),
        "pool": draw(st.sampled_from(["avg", "max"])),
        "activation": draw(st.sampled_from(sorted(ACTIVATIONS))),
        "gate_activation": draw(st.sampled_from(sorted(ACTIVATIONS))),
        "gate_scale": draw(st.sampled_from([1.0, 2.0, -0.5])),
        "use_bias": draw(st.booleans()),
        "data_format": draw(st.sampled_from(["channels_last", "channels_first"])),
    }
    inside = [channels, *spatial]
    if options["data_format"] == "channels_last":
        inside = [*spatial, channels]
    policy = draw(st.sampled_from(POLICIES))
    return (draw(st.integers(0, 3)), *inside), options, policy


@settings(max_examples=150)
@given(case=layer_cases(), seed=st.integers(0, 999))
def test_the_layer_equals_the_reference(case, seed):
    shape, options, policy = case
    if policy == "float64" and keras.backend.backend() == "jax":
        policy = "float32"  # JAX computes in float64 only where `jax_enable_x64` is set
    layer = made(shape, seed, dtype=policy, **options)
    # In the compute type from the start, so that the reference sees the same numbers.
    x = keras.ops.cast(uniform(shape, seed + 1, "float64"), COMPUTE.get(policy, policy))
    assert_equals_reference(layer, x, policy, **options)


# Hidden widths of timm 1.0 `SEModule(channels, rd_ratio=1 / ratio, rd_divisor=divisor)`, whose
# `make_divisible(channels * rd_ratio, divisor, round_limit=0.0)` was worked out by hand:
# max(divisor, int(v + divisor / 2) // divisor * divisor). E.g. 192 / 16 = 12 -> 16, 160 / 16 -> 8.
@pytest.mark.parametrize(
    ("channels", "ratio", "divisor", "hidden"),
    [
        (64, 16, 8, 8),
        (128, 16, 8, 8),
        (160, 16, 8, 8),
        (184, 16, 8, 8),
        (192, 16, 8, 16),
        (256, 16, 8, 16),
        (320, 16, 8, 24),
        (512, 16, 8, 32),
        (576, 16, 8, 40),
        (1024, 16, 8, 64),
        (2048, 16, 8, 128),
        (96, 4, 8, 24),
        (16, 16, 8, 8),
        (72, 4, 4, 20),
        # divisor 1 is the paper's floor, not timm's rounding (SENet-154 and legacy weights).
        (2048, 16, 1, 128),
        (64, 16, 1, 4),
        (31, 16, 1, 1),
        (47, 16, 1, 2),
        (15, 16, 1, 1),
        (1, 16, 1, 1),
    ],
)
def test_the_hidden_width_follows_ratio_and_divisor(channels, ratio, divisor, hidden):
    layer = made((None, 4, 4, channels), ratio=ratio, divisor=divisor)
    assert layer.hidden_channels(channels) == hidden
    assert tuple(layer.reduce.kernel.shape) == (channels, hidden)
    assert tuple(layer.expand.kernel.shape) == (hidden, channels)


def test_reduced_channels_is_the_hidden_width():
    layer = made((None, 4, 4, 64), ratio=16, reduced_channels=7)
    assert tuple(layer.reduce.kernel.shape) == (64, 7)
    assert layer.count_params() == 64 * 7 + 7 + 7 * 64 + 64


# SE's share of SE-ResNet-50 (paper, Table 10 and section 4): 16 layers, 2 C^2 / r weights each.
def test_the_weights_of_se_resnet50_without_biases():
    widths = 3 * [256] + 4 * [512] + 6 * [1024] + 3 * [2048]
    layers = [made((None, 1, 1, width), use_bias=False) for width in widths]
    assert sum(layer.count_params() for layer in layers) == 2_514_944


def test_an_all_ones_gate_changes_nothing_and_a_zero_gate_does():
    x = uniform((2, 5, 5, 8))
    layer = made(x.shape, gate_activation="hard_sigmoid")
    layer.expand.kernel.assign(np.zeros((1, 8)))
    layer.expand.bias.assign(np.full(8, 9.0))  # hard_sigmoid(9) is exactly 1
    np.testing.assert_array_equal(array(layer(x)), x)
    layer.expand.bias.assign(np.full(8, -9.0))
    np.testing.assert_array_equal(array(layer(x)), np.zeros_like(x))


def test_a_gate_scale_of_two_starts_as_the_identity():
    x = uniform((2, 5, 5, 8))
    layer = SqueezeExcite(4, gate_scale=2.0)
    layer(x)
    layer.expand.kernel.assign(np.zeros((2, 8)))
    np.testing.assert_array_equal(array(layer(x)), x)


def test_each_sample_has_its_own_gate():
    x = uniform((3, 4, 4, 8))
    layer = made(x.shape, ratio=2)
    alone = np.concatenate([array(layer(x[n : n + 1])) for n in range(3)])
    np.testing.assert_allclose(array(layer(x)), alone, rtol=1e-6)
    assert np.ptp(array(layer.gate(x)), axis=0).min() > 0


def test_call_is_the_input_times_the_gate():
    x = uniform((2, 3, 4, 6))
    layer = made(x.shape, ratio=2)
    np.testing.assert_allclose(array(layer(x)), x * array(layer.gate(x)), rtol=1e-6)


def test_gate_builds_an_unbuilt_layer():
    x = uniform((2, 3, 4, 6))
    layer = SqueezeExcite(2)
    assert tuple(layer.gate(x).shape) == (2, 1, 1, 6)
    assert [weight.path.split("/")[-2] for weight in layer.weights] == 2 * ["reduce"] + 2 * [
        "expand"
    ]


def test_every_backend_runs_a_batch_of_unknown_sizes():
    inputs = keras.Input((None, None, 8))
    layer = SqueezeExcite(4)
    model = keras.Model(inputs, layer(inputs))
    set_random_weights(model)
    assert model.output_shape == (None, None, None, 8)
    for size in ((1, 1), (7, 3), (16, 16)):
        x = uniform((2, *size, 8))
        expected, _ = reference_se(x, [array(weight) for weight in layer.weights])
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("data_format", "shape"),
    [
        ("channels_last", (None, None, 8)),
        ("channels_last", (2, None, 3, 8)),
        ("channels_first", (None, 8, 4, None, None)),
    ],
)
def test_compute_output_shape(data_format, shape):
    layer = SqueezeExcite(data_format=data_format)
    assert layer.compute_output_shape(shape) == shape
    assert not layer.built


def test_the_global_data_format_is_the_default():
    keras.config.set_image_data_format("channels_first")
    x = uniform((2, 6, 3, 4))
    layer = made(x.shape, ratio=2)
    assert layer.get_config()["data_format"] == "channels_first"
    assert tuple(layer.gate(x).shape) == (2, 6, 1, 1)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_policy_decides_the_types(policy):
    layer = made((None, 4, 4, 8), dtype=policy)
    variable = {"mixed_float16": "float32", "mixed_bfloat16": "float32"}.get(policy, policy)
    assert layer.compute_dtype == COMPUTE.get(policy, policy)
    assert {weight.dtype for weight in layer.weights} == {variable}
    # The excitation keeps the type of its variables: in float16 its sums would overflow.
    assert {layer.reduce.compute_dtype, layer.expand.compute_dtype} == {variable}


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_a_large_float16_map_stays_finite_and_right(pool):
    x = np.full((1, 512, 512, 8), 60000.0, "float16")
    layer = made(x.shape, ratio=4, pool=pool, dtype="mixed_float16")
    layer.reduce.kernel.assign(np.full((8, 2), 0.5))  # 8 * 0.5 * 60000 is infinite in float16
    layer.expand.kernel.assign(uniform((2, 8)) * 3e-6)
    weights = [array(weight) for weight in layer.weights]
    expected, _ = reference_se(x[:, :1, :1], weights)
    y = array(layer(x))
    assert 0.1 < expected.min() / 60000 < expected.max() / 60000 < 0.9
    np.testing.assert_allclose(y, np.broadcast_to(expected, x.shape), rtol=2**-10)


def test_a_byte_image_is_a_map_too():
    x = np.arange(2 * 3 * 3 * 4, dtype="uint8").reshape(2, 3, 3, 4)
    layer = made(x.shape, ratio=2)
    expected, _ = reference_se(x, [array(weight) for weight in layer.weights])
    np.testing.assert_allclose(array(layer(x)), expected, rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="uses tf.GradientTape")
def test_gradients_reach_every_weight_and_the_input():
    import tensorflow as tf

    shape, options = (2, 3, 2, 6), {"activation": "silu", "gate_scale": 1.5}
    layer = made(shape, seed=3, ratio=2, dtype="float64", **options)
    x, direction = uniform(shape, 4, "float64"), uniform(shape, 5, "float64")
    weights = [array(weight).copy() for weight in layer.weights]

    def loss(*values):
        y, _ = reference_se(values[0], values[1:], activation="silu", scale=1.5)
        return (y * direction).sum()

    with tf.GradientTape() as tape:
        inputs = tf.Variable(x)
        total = tf.reduce_sum(layer(inputs) * direction)
    found = tape.gradient(total, [inputs, *(weight.value for weight in layer.weights)])
    for index, (gradient, expected) in enumerate(
        zip(found, central_differences(loss, [x, *weights]), strict=True)
    ):
        assert np.abs(expected).min() > 1e-6, index
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)


def central_differences(function, arrays, step=1e-6):
    """Return the numerical gradient of `function(*arrays)`; its error is about step squared."""
    gradients = [np.zeros_like(values) for values in arrays]
    for values, gradient in zip(arrays, gradients, strict=True):
        for index in np.ndindex(values.shape):
            kept = values[index]
            values[index] = kept + step
            above = function(*arrays)
            values[index] = kept - step
            gradient[index] = (above - function(*arrays)) / (2 * step)
            values[index] = kept
    return gradients


def test_the_two_layers_start_from_different_numbers():
    layer = SqueezeExcite(1, kernel_initializer="glorot_uniform")
    layer.build((None, 4, 4, 8))
    assert not np.allclose(array(layer.reduce.kernel), array(layer.expand.kernel))


def test_initializers_regularizers_and_constraints_act_on_both_layers():
    layer = SqueezeExcite(
        2,
        kernel_initializer="ones",
        bias_initializer=keras.initializers.Constant(0.5),
        kernel_regularizer=keras.regularizers.L1(0.1),
        bias_regularizer=keras.regularizers.L2(0.2),
        kernel_constraint="non_neg",
        bias_constraint="unit_norm",
    )
    layer.build((None, 4, 4, 4))
    losses = sorted(float(array(loss)) for loss in layer.losses)
    # kernels 0.1 * 8 ones, twice; biases 0.2 * 0.25 * (2 and 4)
    np.testing.assert_allclose(losses, [0.1, 0.2, 0.8, 0.8], rtol=1e-6)
    constraints = [type(weight.constraint).__name__ for weight in layer.weights]
    assert constraints == ["NonNeg", "UnitNorm"] * 2


def test_a_frozen_layer_has_no_trainable_weights():
    layer = made((None, 4, 4, 8), trainable=False)
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 4


# Every argument at a value that is not its default; `divisor` and `reduced_channels` exclude
# each other, so there are two sets.
OTHER_VALUES = {
    "ratio": 3,
    "pool": "max",
    "activation": "silu",
    "gate_activation": "hard_sigmoid",
    "gate_scale": 2.0,
    "use_bias": False,
    "data_format": "channels_first",
    "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.3),
    "bias_initializer": keras.initializers.Constant(0.25),
    "kernel_regularizer": keras.regularizers.L1(0.1),
    "bias_regularizer": keras.regularizers.L2(0.2),
    "kernel_constraint": keras.constraints.MaxNorm(3),
    "bias_constraint": keras.constraints.NonNeg(),
    "name": "gate_of_stage_2",
    "dtype": "mixed_bfloat16",
    "trainable": False,
}
EXCLUSIVE = ({"divisor": 4}, {"reduced_channels": 5})


def test_the_config_has_every_argument_of_the_signature():
    parameters = inspect.signature(SqueezeExcite.__init__).parameters.values()
    arguments = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"}
    assert set(SqueezeExcite().get_config()) == arguments | {"name", "dtype", "trainable"}
    tried = set(OTHER_VALUES) | {name for choice in EXCLUSIVE for name in choice}
    assert tried == arguments | {"name", "dtype", "trainable"}


@pytest.mark.parametrize("exclusive", EXCLUSIVE)
def test_a_config_round_trip_keeps_every_argument(exclusive):
    values = OTHER_VALUES | exclusive
    layer, default = SqueezeExcite(**values), SqueezeExcite().get_config()
    config = layer.get_config()
    assert [name for name in values if config[name] == default[name]] == []
    assert config == default | {
        name: keras.saving.serialize_keras_object(value) for name, value in values.items()
    } | {"dtype": keras.saving.serialize_keras_object(layer.dtype_policy)}
    again = SqueezeExcite.from_config(config)
    assert again.get_config() == config
    assert again.activation is keras.activations.silu
    assert again.gate_activation is keras.activations.hard_sigmoid


def test_a_rebuilt_layer_computes_the_same():
    x = uniform((2, 6, 5, 4))
    values = {**OTHER_VALUES, "divisor": 4, "dtype": "float32"}
    layer = SqueezeExcite(**values)
    again = SqueezeExcite.from_config(layer.get_config())
    expected = layer(x)
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(array(again(x)), array(expected))


def test_building_changes_no_config():
    for exclusive in EXCLUSIVE:
        layer = SqueezeExcite(**OTHER_VALUES, **exclusive)
        before = layer.get_config()
        layer(np.ones((2, 8, 4, 4), "float32"))
        assert layer.get_config() == before


def test_a_function_may_be_an_activation():
    x = uniform((2, 3, 3, 4))
    layer = made(x.shape, ratio=2, gate_activation=lambda v: keras.ops.tanh(v) + 1)
    weights = [array(weight) for weight in layer.weights]
    expected, _ = reference_se(x, weights, gate_activation="tanh")
    np.testing.assert_allclose(array(layer(x)), expected + x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("argument", ["ratio", "divisor", "reduced_channels"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 16.0, True, "16", [16]])
def test_a_width_that_is_not_a_positive_integer_is_refused(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be a positive integer, got ") as error:
        SqueezeExcite(**{argument: value})
    assert repr(value) in str(error.value)


def test_a_ratio_of_none_is_refused():
    with pytest.raises(ValueError, match="`ratio` must be a positive integer, got None"):
        SqueezeExcite(None)


def test_an_integer_of_numpy_is_an_integer():
    ratio = SqueezeExcite(np.int64(4)).get_config()["ratio"]
    assert (ratio, type(ratio)) == (4, int)


def test_a_divisor_beside_reduced_channels_is_refused():
    with pytest.raises(ValueError, match=r"`divisor` rounds.*`reduced_channels=4` it must be 1"):
        SqueezeExcite(reduced_channels=4, divisor=8)


@pytest.mark.parametrize("argument", ["activation", "gate_activation"])
@pytest.mark.parametrize("value", ["sigmiod", 3])
def test_an_unknown_activation_is_refused(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be a Keras activation.*got {value!r}"):
        SqueezeExcite(**{argument: value})


@pytest.mark.parametrize(
    ("argument", "value"),
    [("pool", "mean"), ("pool", None), ("data_format", "NHWC"), ("data_format", 4)],
)
def test_an_unknown_word_is_refused(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be .*one of .*got {value!r}"):
        SqueezeExcite(**{argument: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much", None, 0])
def test_a_gate_scale_that_is_no_finite_number_or_0_is_refused(value):
    with pytest.raises(ValueError, match="`gate_scale` must be a finite number other than 0, got"):
        SqueezeExcite(gate_scale=value)


@pytest.mark.parametrize("shape", [(None, 8), (None, 2, 2, 2, 2, 8)])
def test_an_input_of_another_rank_is_refused(shape):
    with pytest.raises(ValueError, match="must be a feature map of rank 3, 4 or 5, got the shape"):
        SqueezeExcite()(keras.Input(shape[1:]))
    with pytest.raises(ValueError, match="must be a feature map of rank 3, 4 or 5, got the shape"):
        SqueezeExcite()(np.ones([size or 2 for size in shape], "float32"))


@pytest.mark.parametrize(
    ("data_format", "shape"),
    [("channels_last", (8, 8, None)), ("channels_first", (None, 8, 8))],
)
def test_an_unknown_number_of_channels_is_refused(data_format, shape):
    with pytest.raises(ValueError, match=rf"channels must be known \({data_format}\), got the"):
        SqueezeExcite(data_format=data_format)(keras.Input(shape))
