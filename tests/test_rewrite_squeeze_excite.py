"""Find squeeze-and-excitation in stock layers, and nothing else."""

import keras
import numpy as np
import pytest
from checks import array, set_random_weights, uniform
from keras import layers, ops

from se_keras import (
    SqueezeExcite,
    count,
    insert_se,
    optimize,
    record_excitations,
    remove_se,
)
from se_keras.explain import plan_pruning
from se_keras.graph import trace
from se_keras.rewrite.squeeze_excite import find_gates

C = 8


def dense_pair(z):
    """(N, C), or a map of one position."""
    return layers.Dense(C, "sigmoid", name="expand")(layers.Dense(3, "relu", name="reduce")(z))


def conv_pair(z, data_format=None):
    rank = len(z.shape) - 2
    conv = getattr(layers, f"Conv{rank}D")
    z = conv(3, 1, activation="silu", data_format=data_format, name="reduce")(z)
    return conv(C, 1, activation="sigmoid", data_format=data_format, name="expand")(z)


def pool(x, **options):
    return getattr(layers, f"GlobalAveragePooling{len(x.shape) - 2}D")(**options)(x)


def by_reshape(x):
    return layers.Multiply()([x, layers.Reshape((1, 1, C))(dense_pair(pool(x)))])


def with_hard_sigmoid(x):
    z = layers.Dense(C, name="expand")(layers.Dense(3, "relu")(pool(x, keepdims=True)))
    return layers.Multiply()([layers.ReLU(6.0)(z + 3.0) * (1.0 / 6.0), x])


def with_swish_and_dropout(x):
    z = layers.Dense(3)(layers.Dropout(0.5)(pool(x, keepdims=True)))
    z = layers.Dropout(0.5)(z * ops.sigmoid(z))
    return layers.Dense(C, "sigmoid", name="expand")(z) * x


def channels_first(x):
    x = layers.Permute((3, 1, 2))(x)
    s = layers.Reshape((C, 1, 1))(dense_pair(pool(x, data_format="channels_first")))
    return layers.Permute((2, 3, 1))(ops.multiply(s, x))


def cbam(x):
    """CBAM's gate of channels: one pair of layers for two pools."""
    reduce, expand = layers.Dense(3, "relu", name="reduce"), layers.Dense(C, name="expand")
    average, largest = (
        expand(reduce(f(x, axis=(1, 2), keepdims=True))) for f in (ops.mean, ops.max)
    )
    return x * ops.sigmoid(average + largest)


def with_normalization(x):
    z = layers.BatchNormalization()(layers.Dense(3, use_bias=False)(pool(x, keepdims=True)))
    return x * layers.Dense(C, "sigmoid", name="expand")(layers.ReLU()(z))


def efficient_attention(x):
    """ECA: a convolution over the channels."""
    z = layers.Conv1D(1, 3, padding="same", activation="sigmoid", name="expand")(
        layers.Reshape((C, 1))(pool(x))
    )
    return x * layers.Reshape((1, 1, C))(z)


def in_a_model(x):
    inner = keras.Input(x.shape[1:])
    return x * keras.Model(inner, dense_pair(pool(inner, keepdims=True)), name="expand")(x)


class Gate(layers.Layer):
    """A gate that hides what it does."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(C, "sigmoid")

    def build(self, shape):
        self.dense.build((None, C))

    def call(self, x):
        return ops.reshape(self.dense(ops.mean(x, axis=(1, 2))), (-1, 1, 1, C))


SE = {
    "reshape": by_reshape,
    "vector": lambda x: layers.Multiply()([x, dense_pair(pool(x))]),
    "keepdims": lambda x: x * dense_pair(pool(x, keepdims=True)),
    "convolutions": lambda x: ops.multiply(conv_pair(pool(x, keepdims=True)), x),
    "hard sigmoid": with_hard_sigmoid,
    "swish and dropout": with_swish_and_dropout,
    "channels first": channels_first,
    "cbam": cbam,
    "normalization": with_normalization,
    "eca": efficient_attention,
    "residual gate": lambda x: x * (1.0 + dense_pair(pool(x, keepdims=True))),
    "model": in_a_model,
    "own layer": lambda x: x * Gate(name="expand")(x),
    "expanded": lambda x: x * dense_pair(pool(x))[:, None, None, :],
    "lambda": lambda x: x * dense_pair(layers.Lambda(lambda t: ops.mean(t, (1, 2), True))(x)),
    "negative axes": lambda x: x * dense_pair(ops.mean(x, (-3, -2), keepdims=True)),
    "pool of the whole map": lambda x: x * dense_pair(layers.AveragePooling2D((5, 6))(x)),
    "positions in a row": lambda x: (
        x * layers.Reshape((1, 1, C))(dense_pair(pool(layers.Reshape((30, C))(x))))
    ),
}


def model_of(function, shape=(5, 6, C)):
    """The map is not the input, so that there is something before it."""
    image = keras.Input((*shape[:-1], 3))
    x = layers.Dense(shape[-1], name="map")(image)
    model = keras.Model(image, function(x), name="network")
    set_random_weights(model)
    return model


def check_one_gate(model, name="expand"):
    """Check that the recorded gate is the second factor of the product."""
    (gate,) = find_gates(trace(model)).values()
    assert gate.name == name
    assert gate.channels == C
    x = 3 * uniform((7, *model.input_shape[1:]))
    stats = record_excitations(model, x, verbose=False)
    before, after = (array(t) for t in keras.Model(model.input, [gate.x, gate.node.output])(x))
    before, after = (np.moveaxis(t, gate.axis, -1).reshape(7, -1, C) for t in (before, after))
    gates = (before * after).sum(axis=1) / (before**2).sum(axis=1)  # least squares
    assert gates.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(stats[name].mean[0], gates.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(stats[name].std[0], gates.std(axis=0), atol=1e-5)


@pytest.mark.parametrize("kind", SE)
def test_se_in_stock_layers_is_found_and_recorded(kind):
    check_one_gate(model_of(SE[kind]))


@pytest.mark.parametrize("shape", [(9, C), (3, 4, 5, C)])
def test_maps_of_every_rank(shape):
    check_one_gate(model_of(lambda x: x * conv_pair(pool(x, keepdims=True)), shape))
    check_one_gate(model_of(lambda x: layers.Multiply()([x, dense_pair(pool(x))]), shape))


def test_an_adaptive_pool():
    # Found alone: Keras can't compute this layer in a compiled function of TensorFlow.
    model = model_of(lambda x: x * dense_pair(layers.AdaptiveAveragePooling2D(1)(x)))
    assert list(find_gates(trace(model))) == ["expand"]


def test_a_map_of_one_position_has_one_gate():
    model = model_of(lambda x: x * dense_pair(pool(x, keepdims=True)), (1, 1, C))
    (gate,) = find_gates(trace(model)).values()
    assert gate.nodes[0].name == "expand"


def spatial_attention(x):
    both = [f(x, axis=-1, keepdims=True) for f in (ops.mean, ops.max)]
    return x * layers.Conv2D(1, 3, padding="same", activation="sigmoid")(ops.concatenate(both))


def self_attention(x):
    row = layers.Reshape((-1, C))(x)
    return layers.Attention()([layers.Dense(C)(row), row, row]) * row


def from_another_map(x):
    return layers.Conv2D(C, 3, padding="same")(x) * dense_pair(pool(x, keepdims=True))


def from_two_maps(x):
    """FiLM: the gate depends on more than the map."""
    other = layers.Dense(C)(x)
    return x * dense_pair(pool(x, keepdims=True) + pool(other, keepdims=True))


def by_position(x):
    """As many positions as channels, one number a position."""
    row = layers.Reshape((-1, C))(x)[:, :C]
    scores = layers.Dense(C, "sigmoid")(ops.mean(row, axis=-1))
    return row * layers.Reshape((C, 1))(scores)


class LayerScale(layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], name="gamma")

    def call(self, x):
        return x * self.gamma


NO_SE = {
    "swish": lambda x: x * ops.sigmoid(x),
    "swish with a layer": lambda x: x * layers.Dense(C, "sigmoid")(x),
    "swish of a pool": lambda x: (lambda z: layers.Dense(C)(z * ops.sigmoid(z)))(
        layers.Dense(C)(pool(x, keepdims=True))
    ),
    "spatial attention": spatial_attention,
    "self-attention": self_attention,
    "layer scale": lambda x: LayerScale()(x),
    "constant": lambda x: x * 0.5 * np.ones((1, 1, 1, C), "float32"),
    "another map": from_another_map,
    "two maps": from_two_maps,
    "no weights": lambda x: x * ops.sigmoid(pool(x, keepdims=True)),
    "one number a position": by_position,
    "one number a sample": lambda x: x * layers.Dense(1, "sigmoid")(pool(x, keepdims=True)),
    "first position": lambda x: x * dense_pair(x[:, :1, :1]),
    "local pool": lambda x: x * dense_pair(layers.AveragePooling2D((4, 4))(x)),
    "flattened": lambda x: x * layers.Reshape((1, 1, C))(dense_pair(layers.Flatten()(x))),
}


@pytest.mark.parametrize("kind", NO_SE)
def test_what_is_not_se(kind):
    assert find_gates(trace(model_of(NO_SE[kind]))) == {}


def test_layers_that_are_called_again_and_a_gate_that_multiplies_twice():
    reduce, expand = layers.Dense(3, "relu"), layers.Dense(C, "sigmoid", name="expand")
    first = keras.Input((5, 6, C))
    x = layers.Multiply(name="first")([first, expand(reduce(pool(first, keepdims=True)))])
    x = x * expand(reduce(pool(x, keepdims=True)))
    gate = layers.Dense(C, "sigmoid", name="twice")(pool(x, keepdims=True))
    model = keras.Model(first, [x * gate, ops.square(x) + x * gate])
    names = list(find_gates(trace(model)))
    assert names[:3] == ["first", "expand#2", "twice"]
    assert names[3].startswith("multiply")
    assert len(names) == 4
    stats = record_excitations(model, uniform((4, 5, 6, C)), verbose=False)
    assert [layer.name for layer in stats.layers] == names
    np.testing.assert_array_equal(stats["twice"].mean, stats[names[3]].mean)


def test_both_kinds_and_nested_models():
    x = keras.Input((5, 6, C))
    inner = keras.Model(x, SqueezeExcite(2, name="se")(SE["reshape"](x)), name="inner")
    y = inner(inner(x))
    model = keras.Model(x, layers.Multiply(name="outer")([y, dense_pair(pool(y))]))
    assert list(find_gates(trace(model))) == ["outer", "inner/expand", "inner/se"]
    data = uniform((4, 5, 6, C))
    stats = record_excitations(model, data, verbose=False)
    assert [layer.count.tolist() for layer in stats.layers] == [[4], [8], [8]]
    gate = keras.Model(inner.input, inner.get_layer("expand").output)
    calls = np.concatenate([array(gate(data)), array(gate(inner(data)))])
    np.testing.assert_allclose(stats["inner/expand"].mean[0], calls.mean(axis=0), atol=1e-6)


class Unit(layers.Layer):
    """A layer with a convolution and SE inside, which is another such layer."""

    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(C, 1, name="conv")
        self.reduce = layers.Dense(3, "relu", name="reduce")
        self.expand = layers.Dense(C, "sigmoid", name="expand")

    def build(self, shape):
        self.conv.build(shape)
        self.reduce.build((None, C))
        self.expand.build((None, 3))

    def call(self, x):
        y = self.conv(x)
        return x + y * self.expand(self.reduce(ops.mean(y, axis=(1, 2), keepdims=True)))


class ReadsNumbers(Unit):
    def call(self, x):
        assert not isinstance(x, keras.KerasTensor)
        return super().call(x)


def test_se_inside_other_layers_is_recorded_and_stays():
    model = model_of(lambda x: Unit(name="second")(by_reshape(Unit(name="first")(x))))
    data = 3 * uniform((4, 5, 6, 3))
    stats = record_excitations(model, data, verbose=False)
    names = ["expand", "first/expand", "second/expand"]
    assert [layer.name for layer in stats.layers] == names
    unit = model.get_layer("first")
    y = unit.conv(keras.Model(model.input, unit.input)(data))
    gates = array(unit.expand(unit.reduce(ops.mean(y, axis=(1, 2)))))
    np.testing.assert_allclose(stats["first/expand"].mean[0], gates.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["first/expand"].std[0], gates.std(axis=0), atol=1e-6)
    plan = plan_pruning(model, stats, keep=0)
    assert [layer.keep for layer in plan.layers] == [False, True, True]
    assert plan.layers[1].reason == "stays: it is inside another layer"
    new = plan.apply(model)
    assert new.count_params() == model.count_params() - plan.parameters
    # The inner layers were not called, because they would record the call.
    with pytest.raises(AttributeError):
        _ = unit.conv.output


def test_a_layer_whose_code_needs_numbers_stays_closed():
    model = model_of(lambda x: ReadsNumbers(name="unit")(x))
    with pytest.raises(ValueError, match="'network' must have an SE layer"):
        record_excitations(model, uniform((1, 5, 6, 3)), verbose=False)


def test_a_model_without_se_is_told_what_counts():
    model = model_of(NO_SE["swish"])
    with pytest.raises(
        ValueError, match="'network' must have an SE layer: `SqueezeExcite`, one of"
    ):
        record_excitations(model, uniform((1, 5, 6, 3)), verbose=False)


def test_remove_se_takes_out_layers_of_it_alone_and_says_what_else_is_there():
    model = model_of(SE["reshape"])
    with pytest.raises(
        ValueError,
        match=r"layer to remove, and none of its kin; its SE is in layers of Keras: 'expand'\.",
    ):
        remove_se(model)
    gates = find_gates(trace(remove_se(insert_se(model, ["map"], force=True))))
    assert list(gates) == ["expand"]


# --- gates that are constant ---------------------------------------------------------------------


def with_constant_gates(model):
    """Zeros in the last layer of each gate, as after a warm start."""
    for weight in model.weights:
        if "expand" in weight.path and "kernel" in weight.name:
            weight.assign(0 * weight)
    return model


def assert_same_outputs(model, new):
    x = 3 * uniform((7, *model.input_shape[1:]))
    expected = array(model(x))
    np.testing.assert_allclose(array(new(x)), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kind", SE)
def test_pruning_makes_them_constants_and_counts_what_goes(kind):
    model = with_constant_gates(model_of(SE[kind]))
    stats = record_excitations(model, uniform((4, 5, 6, 3)), verbose=False)
    plan = plan_pruning(model, stats, keep=0)
    new = plan.apply(model)
    assert find_gates(trace(new)) == {}
    assert_same_outputs(model, new)
    before, after = count(model), count(new)
    assert plan.parameters == before.params - after.params > 0
    assert plan.macs == before.macs - after.macs
    assert plan.layers[0].into == (() if kind == "channels first" else ("map",))
    assert plan_pruning(model, stats, keep=1).parameters == 0


@pytest.mark.parametrize("kind", SE)
def test_optimize_folds_a_constant_gate(kind):
    model = with_constant_gates(model_of(SE[kind]))
    new = optimize(model, verbose=False)
    assert_same_outputs(model, new)
    hidden = kind in ("model", "own layer")
    assert len(find_gates(trace(new))) == hidden


def test_optimize_leaves_a_gate_that_varies_or_trains():
    for function, constant in ((SE["vector"], False), (with_dropout_in_training, True)):
        model = model_of(function)
        new = optimize(with_constant_gates(model) if constant else model, verbose=False)
        assert len(find_gates(trace(new))) == 1


def with_dropout_in_training(x):
    z = layers.Dense(C, name="expand")(pool(x, keepdims=True))
    return x * ops.sigmoid(layers.Dropout(0.5)(z, training=True))


def test_pruning_counts_shared_layers_once():
    reduce, expand = layers.Dense(3, "relu"), layers.Dense(C, "sigmoid", name="expand")
    first = keras.Input((5, 6, C))
    x = layers.Multiply(name="a")([first, expand(reduce(pool(first, keepdims=True)))])
    x = layers.Conv2D(C, 1, name="conv")(x)
    y = layers.Multiply(name="b")([x, expand(reduce(pool(x, keepdims=True)))])
    model = with_constant_gates(keras.Model(first, y))
    stats = record_excitations(model, uniform((4, 5, 6, C)), verbose=False)
    shared = 3 * C + 3 + 3 * C + C
    for keep, gone in ((["a"], [0, 0]), (["b"], [0, 0]), ([], [0, shared])):
        plan = plan_pruning(model, stats, keep=keep)
        assert [layer.parameters for layer in plan.layers] == gone
        assert [layer.macs for layer in plan.layers] == [
            0 if layer.name in keep else 2 * 3 * C for layer in plan.layers
        ]
        assert plan.parameters == model.count_params() - plan.apply(model).count_params()
        assert_same_outputs(model, plan.apply(model))


def test_a_masked_map_keeps_its_gate():
    """A product of Keras passes a mask on differently from a constant."""
    words = keras.Input((9,), dtype="int32")
    x = layers.Embedding(5, C, mask_zero=True)(words)
    model = keras.Model(words, layers.LSTM(3)(layers.Multiply(name="se")([x, dense_pair(pool(x))])))
    stats = record_excitations(with_constant_gates(model), [np.ones((2, 9), "int32")])
    plan = plan_pruning(model, stats, keep=0)
    assert plan.layers[0].keep
    assert plan.layers[0].reason.startswith("stays: its map has a mask")
    assert plan.parameters == plan.macs == 0
    assert list(find_gates(trace(plan.apply(model)))) == ["se"]


# --- networks of others --------------------------------------------------------------------------


def efficientnet_of_kerashub():
    hub = pytest.importorskip("test_surgery_kerashub")
    return hub.efficientnet("v1", "v1", se_ratio=0.25)


def of_applications(name):
    build = getattr(keras.applications, name)
    return lambda: build(weights=None, include_top=False, input_shape=(32, 32, 3))


# The layer that multiplies, by its own name: what it takes is the map and its gates.
NETWORKS = {
    "MobileNetV3Small": (of_applications("MobileNetV3Small"), "squeeze_excite_mul", 9),
    "MobileNetV3Large": (of_applications("MobileNetV3Large"), "squeeze_excite_mul", 8),
    "EfficientNetB0": (of_applications("EfficientNetB0"), "se_excite", 16),
    "EfficientNetV2B0": (of_applications("EfficientNetV2B0"), "se_excite", 16),
    "KerasHub": (efficientnet_of_kerashub, "se_excite", 4),
}
QUICK = ("MobileNetV3Small", "KerasHub")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NETWORKS]
)
def test_the_gates_of_networks_are_those_that_their_products_take(name):
    build, ending, number = NETWORKS[name]
    model = build()
    for layer in model.layers:
        if not isinstance(layer, layers.Normalization):  # of the image
            set_random_weights(layer)
        if isinstance(layer, layers.DepthwiseConv2D):  # one channel is what it sums
            layer.kernel.assign(layer.kernel * np.sqrt(layer.kernel.shape[2]))
    products = [layer for layer in model.layers if layer.name.endswith(ending)]
    assert len(products) == number
    data = uniform((6, *model.input_shape[1:])) * np.linspace(1, 250, 6).reshape(-1, 1, 1, 1)
    stats = record_excitations(model, data, verbose=False)
    assert [layer.name for layer in stats.layers] == [layer.name for layer in products]
    assert stats.layers[0].std.max() > 5e-5
    gates = keras.Model(model.input, [layer.input[1] for layer in products])(data)
    for layer, gate in zip(stats.layers, gates, strict=True):
        values = array(gate).reshape(6, -1).astype("float64")
        assert values.std(axis=1).min() > 0.01
        np.testing.assert_allclose(layer.mean[0], values.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(layer.std[0], values.std(axis=0), atol=1e-6)
        assert layer.gate_scale == 1


def test_the_gates_of_kerashubs_layers():
    """The gates of MobileNetV3 are in nested layers."""
    model = pytest.importorskip("test_surgery_kerashub").mobilenet(se_ratio=0.25)
    set_random_weights(model)
    data = 100 * uniform((4, *model.input_shape[1:]))
    stats = record_excitations(model, data, verbose=False)
    names = [f"block_1_{n}/block_1_{n}_se/block_1_{n}_se_conv_expand" for n in (0, 1)]
    assert [layer.name for layer in stats.layers] == names
    unit = model.get_layer("block_1_0")
    x = keras.Model(model.input, unit.input)(data)
    for name in ("conv1", "batch_normalization1", "activation1", "pad", "conv2"):
        x = getattr(unit, name)(x)
    x = ops.mean(unit.activation2(unit.batch_normalization2(x)), axis=(1, 2), keepdims=True)
    se = unit.squeeze_excite
    gates = array(se.gate(se.conv_expand(se.activation1(se.conv_reduce(x)))))[:, 0, 0]
    assert gates.std(axis=0).max() > 1e-4
    np.testing.assert_allclose(stats.layers[0].mean[0], gates.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats.layers[0].std[0], gates.std(axis=0), atol=1e-6)
