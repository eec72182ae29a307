"""The kin of squeeze-and-excitation in `optimize`: stock layers, narrow maps, constants."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from checks import array, set_random_weights, uniform
from keras import layers
from test_layers_kin import CASES, made, reference, weights_of

import se_keras
from se_keras.graph import innermost_layers
from se_keras.layers import GATES
from se_keras.models.recipes import find_recipe
from se_keras.rewrite.layer_kinds import is_stock
from se_keras.rewrite.optimize import report_optimization

ROUNDING = 1e-5  # of the largest output
# Layers for another rank differ only in the number of axes, so that a few cases show it.
SEQUENCES = {case: [((2, 11, 8), "channels_last")] for case in ("eca", "ge_max", "ge_4_params")}
KIN = [kind for kind in GATES if kind != "se"]


def optimized(model):
    new = se_keras.optimize(model, verbose=False)
    assert all(map(is_stock, innermost_layers(new)))
    return new


def assert_near(got, expected, tolerance=ROUNDING):
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def network(gate, shape, *before):
    x = y = keras.Input(shape)
    for layer in before:
        y = layer(y)
    model = keras.Model(x, gate(y))
    set_random_weights(model)
    return model


@pytest.mark.parametrize("case", CASES)
def test_each_is_written_in_stock_layers_that_compute_its_equations(case):
    shapes = [((2, 17, 9, 4), "channels_last"), ((2, 5, 6, 8), "channels_first")]
    for shape, data_format in shapes + SEQUENCES.get(case, []):
        layer = made(case, shape, name="gate", data_format="channels_last")
        x = uniform(shape)
        expected = np.array([reference(case, u, weights_of(layer)) for u in x.astype("float64")])
        if data_format == "channels_first":
            kind, options = CASES[case]
            weights, x, expected = (
                layer.get_weights(),
                *(np.moveaxis(a, -1, 1) for a in (x, expected)),
            )
            layer = GATES[kind](**options, name="gate", data_format=data_format)
            layer.build(x.shape)
            layer.set_weights(weights)
        new = optimized(keras.Sequential([keras.Input(x.shape[1:]), layer]))
        assert_near(array(new(x)), expected)


@pytest.mark.parametrize("case", ["ge_max", "ge_8_plus", "scse_max"])
def test_operations_and_constants_are_saved(case, tmp_path):
    new = optimized(keras.Sequential([keras.Input((5, 6, 8)), made(case)]))
    new.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = uniform((2, 5, 6, 8))
    np.testing.assert_array_equal(array(loaded(x)), array(new(x)))


def matrix_of_eca(layer, channels):
    kernel = array(layer.conv.kernel).ravel()
    half = len(kernel) // 2
    return np.array(
        [
            [kernel[i - o + half] if abs(i - o) <= half else 0 for o in range(channels)]
            for i in range(channels)
        ],
        "float64",
    )


@pytest.mark.parametrize(
    ("kind", "name", "matrix_of"),
    [
        ("eca", "gate_conv", matrix_of_eca),
        ("ese", "gate_dense", lambda layer, channels: array(layer.dense.kernel)),
        ("scse", "gate_reduce", lambda layer, channels: array(layer.reduce.kernel)),
        ("scse", "gate_spatial", lambda layer, channels: array(layer.spatial.kernel)),
        ("ge", "gate_squeeze_pointwise", lambda layer, channels: np.eye(channels)),
    ],
)
def test_gates_that_are_linear_in_the_map_read_the_narrow_one(kind, name, matrix_of):
    wide = layers.Conv2D(16, 1, name="wide")
    model = network(GATES[kind](name="gate"), (6, 7, 4), wide)
    new = optimized(model)
    assert_near(array(new(x := uniform((2, 6, 7, 4)))), array(model(x)))
    assert new.get_layer("gate_squeeze").input.shape[-1] == 4
    first, bias = (array(weight).astype("float64") for weight in wide.weights)
    matrix = matrix_of(model.get_layer("gate"), 16)
    kernel, shift = new.get_layer(name).get_weights()
    np.testing.assert_allclose(kernel[0, 0], first[0, 0] @ matrix, rtol=1e-5, atol=1e-6)
    own = getattr(model.get_layer("gate"), name.removeprefix("gate_"), None)
    own_bias = own.bias if getattr(own, "use_bias", False) else 0
    np.testing.assert_allclose(shift, bias @ matrix + array(own_bias), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "narrow"), [(3, False), (5, False), (6, True), (None, False)])
@pytest.mark.parametrize("kind", ["eca", "ge"])
def test_a_matrix_in_place_of_none_must_pay_for_itself(kind, size, narrow):
    # 16 channels of 4 at P positions: 16 P numbers are read, or 4 P and a matrix of 64.
    model = network(GATES[kind](name="gate"), (size, 1, 4), layers.Conv2D(16, 1))
    steps = report_optimization(model).steps
    (step,) = [step for step in steps if step.rule == "global mean"]
    assert step.done is narrow
    assert narrow or "costs more than the mean of the wide one" in step.text


def test_a_gate_of_positions_whose_wide_map_has_an_activation_stays_on_it():
    model = network(GATES["scse"](name="gate"), (6, 7, 4), layers.Conv2D(16, 1, activation="relu"))
    new = optimized(model)
    assert new.get_layer("gate_spatial").input.shape[-1] == 16
    assert_near(array(new(x := uniform((2, 6, 7, 4)))), array(model(x)))


@pytest.mark.parametrize("kind", [kind for kind in KIN if kind != "ge"])
def test_a_warm_start_is_taken_out(kind):
    options = GATES[kind]().warm_start_options()
    gate = GATES[kind](**options)
    model = network(gate, (6, 7, 4), layers.Conv2D(8, 3))
    gate.start_at_zero()
    new = optimized(model)
    assert [type(layer).__name__ for layer in new.layers] == ["InputLayer", "Conv2D"]
    assert_near(array(new(x := uniform((2, 6, 7, 4)))), array(model(x)))


def test_the_larger_of_two_constant_gates_is_no_constant_factor():
    gate = GATES["scse"](fusion="max")
    model = network(gate, (6, 7, 4))  # the sign of the map decides, and the biases differ
    for part in (gate.expand, gate.spatial):
        part.kernel.assign(np.zeros(part.kernel.shape))
    assert_near(array(optimized(model)(x := uniform((2, 6, 7, 4)))), array(model(x)))


def test_what_can_not_be_written_stays_and_says_why():
    for gate, shape, reason in [
        (GATES["ge"](4), (None, None, 8), "the sizes of its map are not known"),
        (GATES["ge"](2, extra_params=True), (6, 6, 8), "is called with training=True"),
    ]:
        x = keras.Input(shape)
        called = {"training": True} if "training" in reason else {}
        model = keras.Model(x, gate(x, **called))
        (step,) = report_optimization(model).steps
        assert not step.done
        assert reason in step.text
        assert gate.name in [layer.name for layer in se_keras.optimize(model, verbose=False).layers]


@pytest.mark.parametrize(
    "policy", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", KIN)
def test_networks_give_equal_outputs(kind, policy):
    row = replace(find_recipe("seresnet20"), depths=(1, 1), widths=(16, 32))
    options = {"extent": 4, "extra_params": True} if kind == "ge" else {}
    model = se_keras.create(
        row,
        input_shape=(17, 17, 3),
        attention=kind,
        se_options=options,
        dtype=policy,
        classifier_activation=None,
    )
    set_random_weights(model)
    new = se_keras.optimize(model, verbose=False)
    assert not {type(layer) for layer in innermost_layers(new)} & {*GATES.values()}
    x = uniform((2, 17, 17, 3))
    # bfloat16 has eight bits; folded weights round at other places.
    assert_near(array(new(x)), array(model(x)), ROUNDING if policy == "float32" else 2e-2)
