"""The kin of squeeze-and-excitation in `record_excitations`, the figures and `prune_se`."""

import keras
import numpy as np
import pytest
from checks import array, set_random_weights, uniform
from keras import layers

import se_keras
from se_keras import plot_excitations, prune_se, record_excitations
from se_keras.explain import plan_pruning
from se_keras.layers import GATES

LABELS = np.arange(40) % 3
KIN = {
    "eca": ("eca", {}),
    "ese": ("ese", {}),
    "scse": ("scse", {"gate_scale": 1.5}),
    "ge": ("ge", {}),
    "ge_4": ("ge", {"extent": 4, "data_format": "channels_first"}),
}
SPATIAL = ("scse", "ge_4")


def network(case):
    kind, options = KIN[case]
    x = keras.Input((6, 5, 3))
    y = layers.Conv2D(8, 3, padding="same", name="conv")(x)
    first = "data_format" in options
    y = layers.Permute((3, 1, 2))(y) if first else y
    y = GATES[kind](**options, name="gate")(y)
    y = layers.Permute((2, 3, 1))(y) if first else y
    model = keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))
    set_random_weights(model)
    return model


def images():
    return uniform((40, 6, 5, 3)) * np.linspace(0.1, 6, 40).reshape(-1, 1, 1, 1)


def gates_of(model, x):
    """Return all gates, (N, H, W, C): the output of the layer divided by the map."""
    gate = model.get_layer("gate")
    before, after = map(array, keras.Model(model.input, [gate.input, gate.output])(x))
    gates = after.astype("float64") / before
    return np.moveaxis(gates, 1, -1) if gate.data_format == "channels_first" else gates


@pytest.mark.parametrize("case", KIN)
def test_statistics_are_those_of_all_gates_at_all_positions(case):
    model, x = network(case), images()
    stats = record_excitations(model, (x, LABELS), verbose=False)
    (layer,) = stats.layers
    gates = gates_of(model, x)
    by_class = [gates[np.equal(LABELS, number)] for number in range(3)]
    positions = (0, 1, 2)
    largest = model.get_layer("gate").gate_scale * (2 if case == "scse" else 1)
    close = {"rtol": 1e-4, "atol": 1e-4}
    for number, of_class in enumerate(by_class):
        np.testing.assert_allclose(layer.mean[number], of_class.mean(axis=positions), **close)
        np.testing.assert_allclose(layer.std[number], of_class.std(axis=positions), **close)
        share = (of_class > 0.9 * largest).mean(axis=positions)
        np.testing.assert_allclose(layer.open[number], share, atol=1e-6)
    variance = gates.var(axis=positions)
    variability = np.sqrt(variance.sum() / (gates**2).mean(axis=positions).sum())
    assert layer.variability == pytest.approx(variability, rel=1e-3)
    assert (layer.map is not None) == (case in SPATIAL)
    if layer.map is not None:
        expected = [of_class.mean(axis=(0, 3)) for of_class in by_class]
        np.testing.assert_allclose(layer.map, expected, **close)
        np.testing.assert_allclose(layer.map_of_all, gates.mean(axis=(0, 3)), **close)


def test_gates_of_positions_are_drawn_as_maps(tmp_path):
    model = network("scse")
    data = images(), LABELS
    stats = record_excitations(model, data, class_names=["a", "$b$", "c"], verbose=False)
    figures = plot_excitations(stats, classes=["c", "$b$"], path=tmp_path)
    assert (tmp_path / "maps.png").stat().st_size
    pictures = [axes for axes in figures["maps"].axes if axes.get_images() and axes.get_title()]
    assert [axes.get_title() for axes in pictures] == ["all images", "c", "$b$"]
    layer = stats["gate"]
    for axes, drawn in zip(pictures, (layer.map_of_all, layer.map[2], layer.map[1]), strict=True):
        (image,) = axes.get_images()
        np.testing.assert_allclose(image.get_array(), drawn)
        assert image.get_clim() == pictures[0].get_images()[0].get_clim()
    gates_alike = record_excitations(network("eca"), data, verbose=False)
    assert "maps" not in plot_excitations(gates_alike)


def test_maps_of_several_sizes_have_no_mean():
    x = keras.Input((None, None, 4))
    model = keras.Model(x, GATES["scse"](name="gate")(x))
    set_random_weights(model)
    batches = [uniform((2, size, 5, 4)) for size in (3, 6)]
    (layer,) = record_excitations(model, [(x, None) for x in batches], verbose=False).layers
    means = np.concatenate([gates_of(model, x).mean(axis=(1, 2)) for x in batches])
    np.testing.assert_allclose(layer.mean_of_all, means.mean(axis=0), rtol=1e-4)
    assert layer.map is None


@pytest.mark.parametrize("case", KIN)
def test_gates_that_do_not_vary_become_constants(case):
    model, x = network(case), images()
    gate = model.get_layer("gate")
    for weight in gate.weights:
        weight.assign(0.3 * np.ones(weight.shape) if "bias" in weight.path else 0 * weight)
    if case == "ge":  # no weights: the same for all images where these are the same
        x = np.repeat(x[:1], 40, axis=0)
    if case == "ge_4":
        conv = model.get_layer("conv")
        conv.set_weights([0 * w for w in conv.get_weights()])
    stats = record_excitations(model, x, verbose=False)
    assert stats["gate"].variability < 1e-3
    plan = plan_pruning(model, stats, keep=0)
    (row,) = plan.layers
    assert (row.keep, row.parameters) == (False, gate.count_params())
    (counted,) = [row for row in se_keras.count(model).rows if row.name == "gate"]
    assert row.macs == counted.macs
    new = prune_se(model, plan)
    assert not any(type(layer) is type(gate) for layer in new.layers)
    np.testing.assert_allclose(array(new(x)), array(model(x)), rtol=1e-4, atol=1e-5)
