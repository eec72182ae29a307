"""Factors and shifts that move back into weights, and those that can't."""

import copy
import pickle

import keras
import numpy as np
import pytest
from checks import array, set_random_weights, uniform
from keras import layers

import se_keras
from se_keras import SqueezeExcite
from se_keras.explain import plan_pruning
from se_keras.graph import innermost_layers, trace


def equal_when_optimized(model, *inputs, rtol=1e-5):
    new = se_keras.optimize(model, verbose=False)
    given = list(inputs) if len(inputs) > 1 else inputs[0]
    for old, got in zip(*(keras.tree.flatten(m(given)) for m in (model, new)), strict=True):
        assert old.dtype == got.dtype
        expected = array(old)
        np.testing.assert_allclose(array(got), expected, rtol=0, atol=rtol * np.abs(expected).max())
    return new


def kinds(model):
    return {type(layer).__name__ for layer in innermost_layers(model)} - {"InputLayer"}


def conv(filters=6, **options):
    return layers.Conv2D(filters, 3, padding="same", **options)


def norm(x, **options):
    return layers.BatchNormalization(**options)(x)


def doubled(x):
    return layers.Rescaling(2.0)(x)


def shut(x, **options):
    """SE with a gate that does not depend on the map."""
    layer = SqueezeExcite(2, name="se", **options)
    return layer(x)


def network(body, shape=(6, 6, 4), seed=0):
    x = keras.Input(shape)
    model = keras.Model(x, body(x))
    set_random_weights(model, seed)
    for layer in innermost_layers(model):
        if isinstance(layer, SqueezeExcite):
            layer.expand.kernel.assign(0 * layer.expand.kernel)
    return model


def joined(x):
    return layers.Concatenate()([conv(2)(x), layers.MaxPooling2D(3, 1, "same")(conv(3)(x))])


def summed(x, add=lambda parts: layers.Add()(parts)):
    return add([conv()(x), layers.AveragePooling2D(3, 1, "same")(conv(use_bias=False)(x))])


BODIES = {
    "average": (lambda x: norm(layers.AveragePooling2D(2)(conv()(x))), True),
    "average with a border": (
        lambda x: norm(layers.AveragePooling2D(3, 2, "same")(conv()(x))),
        True,
    ),
    "enlarged": (lambda x: norm(layers.UpSampling2D(2)(conv()(x))), True),
    "dropout": (lambda x: norm(layers.Dropout(0.5)(conv()(x))), True),
    "sum": (lambda x: norm(summed(x)), True),
    "sum in ops": (lambda x: norm(summed(x, lambda parts: keras.ops.add(*parts))), True),
    "joined in ops": (lambda x: norm(keras.ops.concatenate([conv(2)(x), conv(3)(x)], -1)), True),
    "twice": (lambda x: norm(norm(conv()(x))), True),
    "gate over ReLU": (lambda x: shut(layers.ReLU()(conv()(x))), True),
    "gate over joined": (lambda x: shut(layers.ReLU(negative_slope=0.1)(joined(x))), True),
    "factor": (lambda x: doubled(layers.LeakyReLU()(conv(activation="relu")(x))), True),
    "offset": (lambda x: layers.Rescaling([2.0] * 6, offset=1.0)(conv()(x)), True),
    "shift before a ReLU": (lambda x: norm(layers.ReLU()(conv()(x))), False),
    "shift at a border": (lambda x: norm(layers.ZeroPadding2D()(conv()(x))), False),
    "offset and ReLU": (lambda x: layers.Rescaling(2, 1)(layers.ReLU()(conv()(x))), False),
    "negative": (lambda x: layers.Rescaling(-2)(layers.ReLU()(conv()(x))), False),
    "over space": (lambda x: layers.Rescaling(uniform((1, 6, 1)))(conv()(x)), False),
    "rows": (lambda x: norm(layers.Concatenate(1)([conv(2)(x), conv(2)(x)]), axis=1), False),
    "broadcast": (lambda x: norm(layers.Add()([conv(2)(x), conv(1)(x)])), False),
    "with a constant": (lambda x: norm(keras.ops.add(conv()(x), 1.0)), False),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_change_goes_into_the_layers_before_where_that_is_exact(name):
    body, gone = BODIES[name]
    model = network(body)
    left = kinds(equal_when_optimized(model, uniform((3, 6, 6, 4))))
    changing = {"BatchNormalization", "Rescaling", "SqueezeExcite"}
    assert bool(left & changing) != gone


def test_what_gives_several_maps_is_not_looked_through():
    def body(x):
        halves = keras.ops.split(conv()(x), 2, axis=-1)
        both = layers.Identity()([norm(halves[0]), halves[1]])
        return [norm(both[0]), doubled(both[1]), norm(keras.Model(x, [x, conv()(x)])(x)[1])]

    new = equal_when_optimized(network(body), uniform((2, 6, 6, 4)))
    assert "BatchNormalization" in kinds(new)


def test_negative_gammas_do_not_go_through_the_largest_value():
    model = network(lambda x: norm(layers.MaxPooling2D(2)(conv()(x))))
    assert kinds(equal_when_optimized(model, uniform((2, 6, 6, 4)))) == {"Conv2D", "MaxPooling2D"}
    bn = model.layers[-1]
    bn.gamma.assign(-bn.gamma)
    assert "BatchNormalization" in kinds(equal_when_optimized(model, uniform((2, 6, 6, 4))))


def test_a_vector_of_factors_is_read_as_keras_reads_it():
    x = uniform((2, 4, 6, 4))
    for data_format, axis in (("channels_last", -1), ("channels_first", 1)):
        keras.config.set_image_data_format(data_format)
        body = lambda x: layers.Rescaling([1.0, 2.0, 3.0, 4.0])(norm(x, axis=axis))  # noqa: B023, E731
        model = network(body, (4, 6, 4))
        assert kinds(equal_when_optimized(model, x)) == {"BatchNormalization"}


@pytest.mark.parametrize("kind", ["gate", "normalization", "factor"])
def test_a_layer_of_another_type_stays_for_its_output(kind):
    other = {"gate": shut, "normalization": norm, "factor": layers.Rescaling}[kind]
    add = (lambda x: other(2.0, dtype="float32")(x)) if kind == "factor" else None
    add = add or (lambda x: other(x, dtype="float32"))
    model = network(lambda x: add(conv(dtype="mixed_float16")(x)))
    new = equal_when_optimized(model, uniform((2, 6, 6, 4)), rtol=2e-3)
    assert kinds(new) & {"Rescaling", "BatchNormalization"}


def test_what_others_read_or_the_model_gives_out_is_not_changed():
    x = keras.Input((6, 6, 4))
    y = conv(name="conv")(x)
    for outputs in ([shut(y), y], [shut(y), layers.ReLU()(y)]):
        model = keras.Model(x, outputs)
        set_random_weights(model)
        model.get_layer("se").expand.kernel.assign(np.zeros((3, 6)))
        left = kinds(equal_when_optimized(model, uniform((2, 6, 6, 4))))
        # A constant in place of the pool and the two layers all the same.
        assert left - {"ReLU"} == {"Conv2D", "Rescaling"}


def test_a_layer_of_an_inner_and_an_outer_model_is_called_twice():
    shared = conv(4, name="shared")
    image, inner = keras.Input((6, 6, 4)), keras.Input((6, 6, 4))
    body = keras.Model(inner, norm(shared(inner)), name="body")
    model = keras.Model(image, layers.Add()([body(image), norm(shared(image))]))
    set_random_weights(model)
    graph = trace(model)
    assert {path: inner.calls_of(shared) for path, inner in graph.graphs()} == {"": 2, "body/": 2}
    assert "BatchNormalization" in kinds(equal_when_optimized(model, uniform((2, 6, 6, 4))))


def test_the_factor_of_a_gate_goes_over_to_its_map_in_either_order():
    for order in (1, -1):

        def body(x, order=order):
            y = layers.ReLU()(conv()(x))
            gate = layers.Rescaling(2.0)(layers.Dense(6, "sigmoid")(layers.Dense(3)(x[:, :1, :1])))
            return layers.Multiply()([y, gate][::order])

        assert "Rescaling" not in kinds(equal_when_optimized(network(body), uniform((2, 6, 6, 4))))


def test_a_constant_gate_hands_its_mask_on():
    words = keras.Input((6,), dtype="int32")
    x = layers.Dense(8)(layers.Embedding(10, 8, mask_zero=True)(words))
    model = keras.Model(words, layers.Bidirectional(layers.GRU(3))(shut(layers.PReLU()(x))))
    set_random_weights(model)
    model.get_layer("se").expand.kernel.assign(np.zeros((4, 8)))
    given = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 0, 0]])
    assert not kinds(equal_when_optimized(model, given)) & {"SqueezeExcite", "Rescaling"}


# --- pruned models are trained further ------------------------------------------------------------


def before_training():
    x = keras.Input((6, 6, 4))
    y = conv(name="conv", kernel_regularizer="l2", kernel_constraint="non_neg")(x)
    y = layers.Dropout(0.5, seed=1)(norm(y, name="bn", gamma_regularizer="l1"))
    y = conv(name="frozen", trainable=False)(shut(y))
    y = SqueezeExcite(2, name="se2")(layers.ReLU()(y))
    y = SqueezeExcite(2, name="se3")(conv(name="last", use_bias=False)(y))
    model = keras.Model(x, y, name="net")
    set_random_weights(model)
    for name in ("se", "se2"):
        expand = model.get_layer(name).expand
        expand.kernel.assign(0 * expand.kernel)
    model.get_layer("bn").beta.trainable = False
    return model


@pytest.fixture(scope="module")
def recorded():
    model = before_training()
    stats = se_keras.record_excitations(model, uniform((4, 6, 6, 4)), verbose=False)
    return model, stats, plan_pruning(model, stats, keep=["se3"])


def test_training_is_that_of_the_model_before(recorded):
    model, stats, plan = recorded
    new = se_keras.prune_se(model, stats, keep=["se3"])
    x = uniform((4, 6, 6, 4), seed=5)
    expected, given = (array(each(x, training=True)) for each in (model, new))
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    for name in ("conv", "bn", "frozen", "last"):
        old, layer = model.get_layer(name), new.get_layer(name)
        assert old.get_config() == layer.get_config()
        assert [w.trainable for w in old.weights] == [w.trainable for w in layer.weights]
    np.testing.assert_array_equal(*(array(m.get_layer("bn").moving_mean) for m in (model, new)))
    assert [row.into for row in plan.layers] == [("bn",), ("frozen",), ()]


def test_a_plan_is_names_and_numbers(recorded, tmp_path):
    model, stats, plan = recorded
    model.save(tmp_path / "model.keras")
    expected = array(se_keras.prune_se(model, stats, keep=["se3"])(uniform((2, 6, 6, 4))))
    copies = (plan, copy.deepcopy(plan), pickle.loads(pickle.dumps(plan)))
    assert copies[1] == copies[2] == plan
    models = model, model, keras.models.load_model(tmp_path / "model.keras")
    for each, to in zip(copies, models, strict=True):
        for new in (each.apply(to), se_keras.prune_se(to, each)):
            np.testing.assert_array_equal(array(new(uniform((2, 6, 6, 4)))), expected)


def test_a_plan_of_another_model_is_refused(recorded):
    _, stats, plan = recorded
    other = network(lambda x: shut(conv()(x)))
    with pytest.raises(se_keras.InputError, match=r"'net'.* must be \{'se': 6, .*got \{'se': 6\}"):
        plan.apply(other)
    with pytest.raises(se_keras.InputError, match="must have an SE layer"):
        plan.apply(network(conv()))
    with pytest.raises(se_keras.InputError, match="`keep` is part of the plan"):
        se_keras.prune_se(recorded[0], plan, keep=0.5)
    with pytest.raises(se_keras.InputError, match="`keep` must be"):
        se_keras.prune_se(recorded[0], stats)
