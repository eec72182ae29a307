"""explain: compare statistics with NumPy in float64, and pruned models with the originals."""

import csv
import dataclasses
import json
import tracemalloc

import keras
import numpy as np
import pytest
from checks import (
    array,
    reference_gate,
    refused,
    run_python,
    se_layers,
    set_random_weights,
    uniform,
)
from keras import layers
from PIL import Image

import se_keras
from se_keras import SqueezeExcite, plot_excitations, prune_se, record_excitations
from se_keras.cli import main
from se_keras.commands.explain import warn_of_cost
from se_keras.explain import plan_pruning, plots
from se_keras.support.files import PARTIAL

LABELS = np.array([2, 0, 0, 3, 2, 0, 3, 3, 2, 0] * 5)  # no image of class 1
CLASSES = ("0", "2", "3")


def small_model():
    """Two layers of SE, the second with other options; gates that change from image to image."""
    x = image = keras.Input((6, 5, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(x)
    x = SqueezeExcite(2, name="se1")(x)
    x = layers.Conv2D(12, 3, strides=2, name="conv2")(x)
    x = SqueezeExcite(4, pool="max", gate_activation="tanh", gate_scale=1.5, name="se2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(4, name="logits")(x), name="small")
    set_random_weights(model)
    for name in ("se1", "se2"):
        layer = model.get_layer(name)
        layer.expand.kernel.assign(20 * layer.expand.kernel)
    return model


def images(number=50, shape=(6, 5, 3)):
    return uniform((number, *shape)) * np.linspace(0.1, 4, number).reshape(-1, 1, 1, 1)


def reference_gates(model, name, x, **options):
    """Compute gates by the paper's equations in float64, from the model's inputs of SE."""
    layer = model.get_layer(name)
    maps = array(keras.Model(model.input, layer.input)(x))
    weights = [array(weight) for weight in layer.weights]
    return np.array([reference_gate(u, weights, **options) for u in maps])


SE2 = {"pool": "max", "gate_activation": "tanh", "scale": 1.5}


def check_layer(layer, gates, labels, scale=1.0):
    """Compare every number of a layer with numbers from all gates at once, (N, C)."""
    present = np.unique(labels)
    total = gates.var(axis=0).sum()
    assert total > 1e-3
    np.testing.assert_array_equal(layer.count, [(labels == k).sum() for k in present])
    for row, k in enumerate(present):
        of_class = gates[labels == k]
        np.testing.assert_allclose(layer.mean[row], of_class.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(layer.std[row], of_class.std(axis=0), atol=1e-6)
        np.testing.assert_allclose(layer.closed[row], (of_class < 0.1 * scale).mean(axis=0))
        np.testing.assert_allclose(layer.open[row], (of_class > 0.9 * scale).mean(axis=0))
    by_class = np.array([gates[labels == k].mean(axis=0) for k in labels])  # (N, C)
    expected = {
        "mean": gates.mean(),
        "std": gates.std(axis=0).mean(),
        "variability": np.sqrt(total / (gates**2).mean(axis=0).sum()),
        "specificity": by_class.var(axis=0).sum() / total,
        "below 0.1": (gates < 0.1 * scale).mean(),
        "above 0.9": (gates > 0.9 * scale).mean(),
    }
    assert layer.summary == pytest.approx(expected, abs=1e-6)


# --- statistics ----------------------------------------------------------------------------------


def uneven(x, labels):
    for start, end in ((0, 7), (7, 8), (8, 28), (28, 50)):
        yield x[start:end], labels[start:end]


def tf_data(x, labels):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, labels)).batch(16)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, labels):
        super().__init__()
        self.arrays = x, labels

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return tuple(part[index * 13 : (index + 1) * 13] for part in self.arrays)


FORMS = {
    "arrays": lambda x, labels: (x, labels),
    "uneven batches": uneven,
    "list of batches": lambda x, labels: list(uneven(x, labels)),
    "tf.data": tf_data,
    "PyDataset": Batches,
    "one-hot": lambda x, labels: tf_data(x, np.eye(4, dtype="float32")[labels]),
    "column of labels": lambda x, labels: (x, labels[:, np.newaxis].astype("float64")),
    "weights too": lambda x, labels: [(x, labels, np.ones(50))],
}


@pytest.mark.parametrize("form", FORMS)
def test_statistics_are_those_of_all_gates_at_once(form):
    model, x = small_model(), images()
    stats = record_excitations(model, FORMS[form](x, LABELS), verbose=False)
    assert stats.classes == CLASSES
    assert [layer.name for layer in stats.layers] == ["se1", "se2"]
    check_layer(stats["se1"], reference_gates(model, "se1", x), LABELS)
    check_layer(stats["se2"], reference_gates(model, "se2", x, **SE2), LABELS, scale=1.5)


def test_batches_without_an_image_count_for_nothing():
    model, x, labels = small_model(), images(), LABELS
    empty = (x[:0], labels[:0])
    got = record_excitations(model, [empty, (x, labels), empty], verbose=False)
    expected = record_excitations(model, [(x, labels)], verbose=False)
    assert str(got) == str(expected)
    assert got.layers[0].count.sum() == len(x)


def test_without_labels_there_is_one_class():
    model, x = small_model(), images()
    stats = record_excitations(model, x, verbose=False)
    assert stats.classes == ("all",)
    assert stats["se1"].count.tolist() == [50]
    assert stats["se1"].specificity == pytest.approx(0, abs=1e-12)
    gates = reference_gates(model, "se1", x)
    np.testing.assert_allclose(stats["se1"].mean_of_all, gates.mean(axis=0), atol=1e-6)


def test_small_deviations_from_a_large_mean_are_not_lost():
    # Sums of squares would be: the deviations are 1e-5 of the gates.
    se = SqueezeExcite(1, activation=None, gate_activation=None, use_bias=False, name="se")
    model = keras.Sequential([keras.Input((1, 1, 2), dtype="float64"), se])
    identity = np.eye(2, dtype="float32")
    se.set_weights([identity, identity])
    x = 1000 + 0.01 * uniform((400, 1, 1, 2)).astype("float32")
    layer = record_excitations(model, list(np.split(x, 40)), verbose=False)["se"]
    np.testing.assert_allclose(layer.std_of_all, x.astype("float64").std(axis=0)[0, 0], rtol=1e-6)


def test_every_call_of_a_layer_is_counted_where_it_stands():
    """A nested model called twice: each image counts twice. A layer called twice: two rows."""
    part = keras.Input((4, 4, 6))
    inner = keras.Model(part, SqueezeExcite(2, name="se")(part), name="inner")
    left, right = keras.Input((4, 4, 6), name="left"), keras.Input((4, 4, 6), name="right")
    se = SqueezeExcite(3, name="se")
    x = layers.Add(name="add")([se(inner(left)), right])
    model = keras.Model({"left": left, "right": right}, se(inner(x, training=False)))
    set_random_weights(model)
    x = {"left": 9 * uniform((8, 4, 4, 6)), "right": 7 * uniform((8, 4, 4, 6), seed=2)}
    labels = np.arange(8) % 2
    stats = record_excitations(model, [(x, labels)], verbose=False)
    assert {layer.name for layer in stats.layers} == {"se", "se#2", "inner/se"}
    added = se(inner(x["left"])) + x["right"]
    inside = [array(inner.get_layer("se").gate(u))[:, 0, 0] for u in (x["left"], added)]
    check_layer(stats["inner/se"], np.concatenate(inside).astype("float64"), np.tile(labels, 2))
    for name, u in (("se", inner(x["left"])), ("se#2", inner(added))):
        check_layer(stats[name], array(se.gate(u))[:, 0, 0].astype("float64"), labels)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_maps_of_other_ranks_and_formats(data_format):
    shape = (7, 4) if data_format == "channels_last" else (4, 7)
    u = keras.Input(shape)
    se = SqueezeExcite(2, data_format=data_format, name="se")
    model = keras.Model(u, se(u))
    set_random_weights(model)
    x = 9 * uniform((12, *shape))
    stats = record_excitations(model, x, verbose=False)
    gates = array(se.gate(x)).reshape(12, 4).astype("float64")
    check_layer(stats["se"], gates, np.zeros(12))


def test_the_model_stays_as_it_was():
    model, x = small_model(), images(8)
    before, tensor = array(model(x)), model.get_layer("conv2").output
    weights = model.get_weights()
    stats = record_excitations(model, x, verbose=False)
    prune_se(model, stats, keep=0)
    assert model.get_layer("conv2").output is tensor
    np.testing.assert_array_equal(array(model(x)), before)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_dropout_and_moving_statistics_are_those_of_inference():
    image = keras.Input((4, 4, 6))
    x = layers.Dropout(0.9)(layers.BatchNormalization(name="bn")(image))
    model = keras.Model(image, SqueezeExcite(2, name="se")(x))
    set_random_weights(model)
    x = uniform((8, 4, 4, 6))
    mean = array(model.get_layer("bn").moving_mean).copy()
    first, again = (record_excitations(model, x, verbose=False)["se"].mean for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(array(model.get_layer("bn").moving_mean), mean)
    gates = reference_gates(model, "se", x)
    np.testing.assert_allclose(first[0], gates.mean(axis=0), atol=1e-6)


def test_memory_does_not_grow_with_the_number_of_images():
    model = small_model()
    grown = []

    def batches():
        for number in range(300):
            if number == 20:
                tracemalloc.start()
            if number in (40, 290):
                grown.append(tracemalloc.get_traced_memory()[0])
            yield images(64), np.arange(64) % 4

    record_excitations(model, batches(), verbose=False)
    tracemalloc.stop()
    # 250 batches of gates would be 250 * 64 * 20 * 8 bytes, 2.6 MB.
    assert grown[1] - grown[0] < 1_000_000


def test_a_progress_bar_counts_batches(capsys):
    record_excitations(small_model(), (images(), LABELS))
    assert "2/2" in capsys.readouterr().out
    record_excitations(small_model(), uneven(images(), LABELS))
    assert "4/4" in capsys.readouterr().out


class Endless(list):
    """A data set with tf.data's cardinality of an endless data set."""

    def cardinality(self):
        return -1


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ([], "at least one image"),
        (images(0), "at least one image"),
        ([(images(0), np.zeros(0, int))], "at least one image"),
        (3, "int"),
        (Endless(), "end"),
        (images(2)[0], "(6, 5, 3)"),
        (images(2, (6, 6, 3)), "(None, 6, 5, 3)"),
        ([[images(2), images(2), images(2), images(2)]], "sample_weight"),
        ((images(2), np.array([0, 1, 2])), "class numbers"),
        ((images(2), np.array([0.5, 1])), "class numbers"),
        ((images(2), np.array([-1, 1])), "class numbers"),
        ((images(2), np.array(["a", "b"])), "class numbers"),
        ((images(2), np.zeros((2, 3, 4))), "class numbers"),
        ((images(2), np.array([0, 2])), "2 names"),
        ([(images(2), np.array([0, 1])), images(2)], "in none"),
        (np.full((2, 6, 5, 3), np.nan), "finite"),
    ],
)
def test_bad_data_is_refused(data, named):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the message is compared below)
        record_excitations(small_model(), data, class_names=("a", "b"), verbose=False)
    assert named in str(caught.value)


def test_a_gate_that_is_not_finite_is_named():
    model = small_model()
    bias = model.get_layer("se2").expand.bias
    bias.assign(np.full(bias.shape, np.nan))
    with pytest.raises(se_keras.InputError, match="the gates of 'se2' are not finite"):
        record_excitations(model, images(2), verbose=False)


def test_models_without_se_or_without_a_graph_are_refused():
    x = keras.Input((4,))
    with pytest.raises(ValueError, match="must have an SE layer"):
        record_excitations(keras.Model(x, layers.Dense(2)(x)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="functional"):
        record_excitations(SqueezeExcite(2), np.zeros((2, 4)))


def test_a_missing_layer_and_class_are_named():
    stats = record_excitations(small_model(), (images(), LABELS), verbose=False)
    with pytest.raises(KeyError, match=r"'se3'.*'se2' or 'se1'"):
        stats["se3"]
    with pytest.raises(ValueError, match="'1'"):
        plot_excitations(stats, classes=["1"])


# --- pictures ------------------------------------------------------------------------------------


def many_layers(channels):
    x = image = keras.Input((4, 4, channels[0]))
    for number, width in enumerate(channels):
        x = layers.Conv2D(width, 1, name=f"conv{number}")(x)
        x = SqueezeExcite(4, name=f"se{number}")(x)
    model = keras.Model(image, x)
    set_random_weights(model)
    return model


def test_figures_draw_the_statistics(tmp_path):
    model = many_layers((8, 8, 120, 16, 16))
    data = 5 * uniform((30, 4, 4, 8)), np.arange(30) % 5
    names = ("cat", "dog", "$cost_1$", "bird", "fish")
    stats = record_excitations(model, data, class_names=names, verbose=False)
    figures = plot_excitations(stats, classes=["$cost_1$", "cat"], path=tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "classes.png",
        "layers.png",
        "spread.png",
    ]
    panels = [axes for axes in figures["classes"].axes if axes.lines]
    titles = [axes.get_title() for axes in panels]
    # The last layer of each stage.
    assert titles == ["se1, 8 channels", "se2, 120 channels", "se4, 16 channels"]
    shown = panels[1].lines[0].get_xdata()
    assert len(shown) == 50
    assert (shown[0], shown[-1]) == (0, 119)
    layer = stats["se2"]
    for line, expected in zip(
        panels[1].lines, (layer.mean[2], layer.mean[0], layer.mean_of_all), strict=True
    ):
        np.testing.assert_allclose(line.get_ydata(), expected[shown])
    (band, _) = figures["spread"].axes[1].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx((layer.mean[2] + layer.std[2])[shown].max())
    assert heights.min() == pytest.approx((layer.mean[2] - layer.std[2])[shown].min())
    rows = figures["layers"].axes[0].get_images()[0].get_array()
    assert rows.shape[0] == 5
    np.testing.assert_allclose(np.unique(rows[0]), np.unique(stats["se0"].mean_of_all))
    assert "2 of 5 classes" in figures["classes"].get_suptitle()
    assert "2 of 5 classes" in figures["spread"].get_suptitle()


def test_all_classes_are_drawn_as_long_as_colors_last():
    model = many_layers((8,))
    for classes, title in ((7, "all 7 classes"), (12, "10 of 12 classes")):
        data = uniform((24, 4, 4, 8)), np.arange(24) % classes
        names = ["фото " + "x" * 40, *map(str, range(1, classes))]
        stats = record_excitations(model, data, class_names=names, verbose=False)
        figures = plot_excitations(stats)
        assert title in figures["classes"].get_suptitle()
        assert "2 of " in figures["spread"].get_suptitle()
        (panel,) = [axes for axes in figures["classes"].axes if axes.lines]
        assert len({line.get_color() for line in panel.lines}) == min(classes, 10) + 1
        (legend,) = figures["classes"].legends
        texts = [text.get_text() for text in legend.get_texts()]
        assert texts[0].startswith("фото xxxxxxx…")
        assert texts[1:] == [*map(str, range(1, min(classes, 10))), "all images"]


# --- pruning -------------------------------------------------------------------------------------


def conv(x, name, filters=8, **options):
    return layers.Conv2D(filters, 3, padding="same", name=name, **options)(x)


def norm(x, name, **options):
    return layers.BatchNormalization(name=name, **options)(x)


def joined(x):
    branches = [layers.ReLU(6.0)(conv(x, "a", 3)), norm(conv(x, "b", 5), "b_bn")]
    branches[0] = conv(branches[0], "a2", 3, activation="relu")
    return layers.Concatenate(name="join")(branches)


def split(x):
    x = conv(x, "conv")
    return layers.Add(name="add")([SqueezeExcite(2, name="other")(x), x])


# The layers before SE; the layers that take its constants, or why none does.
BEFORE_SE = {
    "convolution": (lambda x: conv(x, "conv"), "conv"),
    "without a bias": (lambda x: conv(x, "conv", use_bias=False), "conv"),
    "grouped": (lambda x: conv(conv(x, "first"), "conv", groups=4), "conv"),
    "dense": (lambda x: layers.Dense(8, name="dense")(x), "dense"),
    "activated": (lambda x: conv(x, "conv", activation="relu"), "conv"),
    "normalization": (lambda x: norm(conv(x, "conv"), "bn"), "bn"),
    "only shifted": (lambda x: norm(conv(x, "conv"), "bn", scale=False), "bn"),
    "only scaled": (lambda x: norm(conv(x, "conv"), "bn", center=False), "bn"),
    "neither": (lambda x: norm(conv(x, "conv"), "bn", center=False, scale=False), "bn"),
    "ReLU": (lambda x: layers.ReLU()(norm(conv(x, "conv"), "bn")), "bn"),
    "leaky ReLU": (lambda x: layers.LeakyReLU()(conv(x, "conv")), "conv"),
    "layer of an activation": (lambda x: layers.Activation("relu")(conv(x, "conv")), "conv"),
    "dropout and pools": (
        lambda x: layers.MaxPooling2D(2)(
            layers.AveragePooling2D(3, 1, "same")(layers.Dropout(0.1)(conv(x, "conv")))
        ),
        "conv",
    ),
    "branches": (joined, "a2, b_bn"),
    "another SE": (lambda x: SqueezeExcite(2, name="other")(conv(x, "conv")), "conv"),
    "bounded": (lambda x: layers.ReLU(6.0, name="relu6")(conv(x, "conv")), "relu6 can't take it"),
    "curved": (lambda x: conv(x, "conv", activation="gelu"), "conv can't take it"),
    "swish": (lambda x: layers.Activation("silu", name="silu")(conv(x, "c")), "silu can't take"),
    "depthwise": (lambda x: layers.DepthwiseConv2D(3, name="dw", depth_multiplier=2)(x), "dw"),
    "separable": (lambda x: layers.SeparableConv2D(8, 3, name="sep")(x), "sep"),
    "transposed": (lambda x: layers.Conv2DTranspose(8, 3, 2, name="up")(x), "up"),
    "rows joined": (
        lambda x: layers.Concatenate(axis=1, name="rows")([conv(x, "a"), conv(x, "b")]),
        "rows can't take it",
    ),
    "the same twice": (
        lambda x: layers.Concatenate(name="twice")([conv(x, "conv", 4)] * 2),
        "twice can't take it",
    ),
    "other readers": (split, "others read conv too"),
    "a sum": (lambda x: layers.Add()([conv(x, "a"), norm(conv(x, "b"), "b_bn")]), "a, b_bn"),
    "the same added": (lambda x: layers.Add(name="twice")([conv(x, "a")] * 2), "twice can't take"),
    "factors": (lambda x: layers.Rescaling(0.5)(layers.PReLU()(conv(x, "conv"))), "conv"),
    "shifted": (lambda x: layers.Rescaling(2, 1, name="up")(conv(x, "c")), "up can't take it"),
    "noise": (lambda x: layers.GaussianNoise(1, name="noise")(conv(x, "c")), "noise can't take it"),
    "larger": (lambda x: layers.UpSampling2D()(layers.ZeroPadding2D()(conv(x, "c"))), "c"),
    "pool over channels": (
        lambda x: layers.AveragePooling2D(3, 1, "same", data_format="channels_first", name="mixed")(
            conv(x, "c")
        ),
        "mixed can't take it",
    ),
    "the input": (lambda x: x, "image can't take it"),
}


def constant_gates(model):
    """A model whose gates differ between channels, but not between images."""
    set_random_weights(model)
    for number, layer in enumerate(se_layers(model)):
        layer.expand.kernel.assign(0 * layer.expand.kernel)
        layer.expand.bias.assign(3 * uniform(layer.expand.bias.shape, seed=number))
    return model


def check_same(model, new, x, **options):
    expected = array(model(x, **options))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(array(new(x, **options)), expected, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("before", BEFORE_SE)
def test_constant_gates_go_into_what_is_before_them(before):
    make, named = BEFORE_SE[before]
    image = keras.Input((6, 6, 8), name="image")
    x = SqueezeExcite(2, name="se")(make(image))
    model = constant_gates(keras.Model(image, conv(x, "after")))
    x = uniform((4, 6, 6, 8))
    stats = record_excitations(model, x, verbose=False)
    plan = plan_pruning(model, stats, keep=0)
    (row,) = [row for row in plan.layers if row.name == "se"]
    folded = "can't" not in named and "others" not in named
    assert row.reason.startswith(
        f"folded into {named}" if folded else "replaced by a constant layer"
    )
    assert named in row.reason
    new = prune_se(model, stats, keep=0)
    assert se_layers(new) == []
    left = [layer.name for layer in new.layers if isinstance(layer, layers.Rescaling)]
    assert ("se_constant" in left) is not folded
    check_same(model, new, x)
    if before not in ("dropout and pools", "only shifted", "neither"):
        check_same(model, new, x, training=True)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("globally", ["channels_last", "channels_first"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_constant_is_laid_along_the_channels(rank, globally, data_format):
    keras.config.set_image_data_format(globally)
    shape = (5,) * rank
    shape = (*shape, 4) if data_format == "channels_last" else (4, *shape)
    u = keras.Input(shape)
    model = constant_gates(keras.Model(u, SqueezeExcite(2, data_format=data_format)(u)))
    x = uniform((3, *shape))
    stats = record_excitations(model, x, verbose=False)
    check_same(model, prune_se(model, stats, keep=0), x)


def test_the_channels_of_a_normalization_are_those_of_the_layer():
    for axis, taken in ((1, True), (-1, False)):
        u = keras.Input((4, 5, 5))
        x = SqueezeExcite(2, data_format="channels_first", name="se")(norm(u, "bn", axis=axis))
        model = constant_gates(keras.Model(u, x))
        x = uniform((3, 4, 5, 5))
        stats = record_excitations(model, x, verbose=False)
        plan = plan_pruning(model, stats, keep=0)
        assert plan.layers[0].into == (("bn",) if taken else ())
        check_same(model, prune_se(model, stats, keep=0), x)


@pytest.mark.parametrize("apart", [False, True])
def test_negative_gates_do_not_go_through_a_relu(apart):
    u = keras.Input((5, 5, 4))
    x = layers.ReLU()(conv(u, "conv", 4)) if apart else conv(u, "conv", 4, activation="relu")
    x = SqueezeExcite(2, gate_activation="tanh", name="se")(x)
    model = constant_gates(keras.Model(u, x))
    x = uniform((3, 5, 5, 4))
    stats = record_excitations(model, x, verbose=False)
    assert stats["se"].mean.min() < 0
    assert plan_pruning(model, stats, keep=0).layers[0].into == ()
    check_same(model, prune_se(model, stats, keep=0), x)


def test_a_convolution_that_is_called_twice_is_not_scaled():
    u = keras.Input((5, 5, 4))
    shared = layers.Conv2D(4, 1, name="shared")
    x = SqueezeExcite(2, name="se")(shared(shared(u)))
    model = constant_gates(keras.Model(u, x))
    x = uniform((3, 5, 5, 4))
    stats = record_excitations(model, x, verbose=False)
    assert "called more than once" in plan_pruning(model, stats, keep=0).layers[0].reason
    check_same(model, prune_se(model, stats, keep=0), x)


def test_the_calls_of_one_layer_are_pruned_one_by_one():
    u = keras.Input((5, 5, 8))
    se = SqueezeExcite(2, name="se")
    model = constant_gates(keras.Model(u, se(conv(se(u), "conv"))))
    x = uniform((3, 5, 5, 8))
    stats = record_excitations(model, x, verbose=False)
    for keep, gone, left in ((["se"], 0, 1), (["se#2"], 0, 1), ([], se.count_params(), 0)):
        plan = plan_pruning(model, stats, keep=keep)
        assert plan.parameters == gone
        new = prune_se(model, stats, keep=keep)
        assert len(se_layers(new)) == left
        check_same(model, new, x)


def test_nested_models_are_pruned_inside():
    part = keras.Input((6, 6, 8))
    x = SqueezeExcite(2, name="se")(norm(conv(part, "conv"), "bn"))
    inner = keras.Model(part, x, name="inner")
    left, right = keras.Input((6, 6, 8)), keras.Input((6, 6, 8))
    x = layers.Add()([inner(left), inner(right)])
    model = constant_gates(keras.Model([left, right], SqueezeExcite(2, name="se")(x)))
    x = [uniform((3, 6, 6, 8)), uniform((3, 6, 6, 8), seed=2)]
    stats = record_excitations(model, [(tuple(x),)], verbose=False)
    plan = plan_pruning(model, stats, keep=0)
    assert [(row.name, row.into) for row in plan.layers] == [
        ("se", ()),
        ("inner/se", ("inner/bn",)),
    ]
    new = prune_se(model, stats, keep=0)
    assert [layer.name for layer in new.layers if isinstance(layer, keras.Model)] == ["inner"]
    check_same(model, new, x)


def test_a_sequential_model_in_bfloat16_stays_one(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(8, 3, dtype="mixed_bfloat16", name="conv"),
            SqueezeExcite(2, dtype="mixed_bfloat16", name="se"),
            layers.Activation("gelu", dtype="mixed_bfloat16"),
            SqueezeExcite(2, dtype="mixed_bfloat16", name="last"),
        ]
    )
    constant_gates(model)
    x = uniform((4, 6, 6, 3))
    new = prune_se(model, record_excitations(model, x, verbose=False), keep=0)
    assert type(new) is keras.Sequential
    np.testing.assert_allclose(array(new(x)), array(model(x)), atol=0.02)
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(array(loaded(x)), array(new(x)))


@pytest.fixture(scope="module")
def network():
    model = se_keras.create("seresnet20", input_shape=(16, 16, 3), classes=10)
    set_random_weights(model)
    return model, record_excitations(model, uniform((8, 16, 16, 3)), verbose=False)


@pytest.mark.parametrize(
    ("keep", "number"), [(0, 0), (0.0, 0), (0.05, 0), (0.06, 1), (0.5, 5), (0.8, 7), (1, 9)]
)
def test_a_share_keeps_the_most_variable(network, keep, number):
    model, stats = network
    plan = plan_pruning(model, stats, keep=keep)
    kept = {row.name for row in plan.layers if row.keep}
    by_variability = sorted(stats.layers, key=lambda layer: layer.variability, reverse=True)
    assert kept == {layer.name for layer in by_variability[:number]}
    new = prune_se(model, stats, keep=keep)
    assert {layer.name for layer in se_layers(new)} == kept
    before, after = se_keras.count(model), se_keras.count(new)
    assert plan.parameters == before.params - after.params
    assert plan.macs == before.macs - after.macs
    assert f"{9 - number} of 9 removed" in str(plan)


def test_names_are_kept(network):
    model, stats = network
    plan = plan_pruning(model, stats, keep=["stage3_block2_se"])
    assert [row.name for row in plan.layers if row.keep] == ["stage3_block2_se"]


@pytest.mark.parametrize("keep", [-0.1, 1.1, 2, True, "stage3_block2_se", ["se1"], float("nan")])
def test_another_keep_is_refused(network, keep):
    with pytest.raises(ValueError, match="`keep`"):
        prune_se(*network, keep=keep)


def test_statistics_of_another_model_are_refused(network):
    model, stats = network
    with pytest.raises(ValueError, match="`stats`"):
        prune_se(small_model(), stats, keep=0.5)
    narrower = dataclasses.replace(stats.layers[0], mean=stats.layers[0].mean[:, :2])
    other = dataclasses.replace(stats, layers=(narrower, *stats.layers[1:]))
    with pytest.raises(ValueError, match="`stats`"):
        prune_se(model, other, keep=0.5)


# --- other backends ------------------------------------------------------------------------------


def explain_small(folder):
    """In a fresh process: statistics of a model, and the outputs of it pruned to a half."""
    model = keras.models.load_model(f"{folder}/model.keras")
    x, labels = images(), LABELS
    stats = record_excitations(model, [(x, labels)], verbose=False)
    np.save(f"{folder}/std.npy", stats["se2"].std)
    pruned = prune_se(model, stats, keep=["se2"])
    np.save(f"{folder}/pruned.npy", pruned.predict_on_batch(x))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same(backend, tmp_path):
    pytest.importorskip(backend)
    model, x = small_model(), images()
    model.save(tmp_path / "model.keras")
    code = "import sys, test_explain; test_explain.explain_small(sys.argv[1])"
    run_python(code, tmp_path, backend=backend)
    stats = record_excitations(model, (x, LABELS), verbose=False)
    np.testing.assert_allclose(np.load(tmp_path / "std.npy"), stats["se2"].std, atol=1e-5)
    expected = array(prune_se(model, stats, keep=["se2"])(x))
    np.testing.assert_allclose(np.load(tmp_path / "pruned.npy"), expected, atol=1e-4)


# --- the command ---------------------------------------------------------------------------------


def digits_model(classes=10):
    x = pixels = keras.Input((8, 8, 1), name="pixels")
    x = layers.Rescaling(1 / 255)(x)
    for number, width in enumerate((8, 8, 16), start=1):
        x = conv(x, f"conv{number}", width, activation="relu", strides=1 + number // 3)
        x = SqueezeExcite(4, name=f"se{number}")(x)
    x = layers.Dense(classes, activation="softmax", name="scores")(layers.Flatten()(x))
    return keras.Model(pixels, x)


@pytest.fixture(scope="module")
def digits():
    from se_keras.train.config import TrainConfig
    from se_keras.train.data import open_data

    return open_data(TrainConfig(seed=3).completed())


@pytest.fixture(scope="module")
def trained(digits):
    """A model that has seen the training digits of seed 3 a few times."""
    keras.utils.set_random_seed(0)
    model = digits_model()
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    pixels = digits.train.items.astype("float32")
    model.fit(pixels, digits.train.labels, batch_size=32, epochs=4, verbose=0)
    return model


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_explain_of_a_run(trained, digits, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "results" / "explained"
    run.mkdir()
    trained.save(run / "model.keras")
    (run / "settings.json").write_text(json.dumps({"data": "digits", "seed": 3, "image_size": 8}))
    assert main(["explain", str(run), "--out", str(out), "--keep", "0.34"]) == 0
    printed = capsys.readouterr().out
    text = (out / "report.txt").read_text()
    assert text in printed
    assert {path.name for path in out.iterdir()} == {
        "layers.csv",
        "channels.csv",
        "classes.png",
        "spread.png",
        "layers.png",
        "report.txt",
        "report.json",
        "pruned.keras",
    }
    Image.fromarray(digits.test.items[0, ..., 0]).save(tmp_path / "digit.png")
    assert main(["predict", str(out / "pruned.keras"), str(tmp_path / "digit.png")]) == 0
    assert "class" not in capsys.readouterr().out
    check_csv(out, trained, digits)
    check_comparison(out, text, trained, digits)


def check_csv(out, model, digits):
    """Check that the statistics are those of the run's training images."""
    pixels = digits.train.items.astype("float32")
    gates = reference_gates(model, "se3", pixels)
    rows = [row for row in rows_of(out / "channels.csv") if row["layer"] == "se3"]
    assert len(rows) == 10 * 16
    assert sum(int(row["count"]) for row in rows) == 16 * len(digits.train)
    for row in rows[::17]:
        of_class = gates[digits.train.labels == int(row["class"]), int(row["channel"])]
        assert float(row["mean"]) == pytest.approx(of_class.mean(), abs=1e-6)
        assert float(row["std"]) == pytest.approx(of_class.std(), abs=1e-6)
    last = rows_of(out / "layers.csv")[-1]
    assert (last["layer"], last["channels"]) == ("se3", "16")
    assert float(last["mean"]) == pytest.approx(gates.mean(), abs=1e-6)


def check_comparison(out, text, model, digits):
    """Check the accuracy before and after on the test images."""
    pruned = keras.models.load_model(out / "pruned.keras")
    assert len(se_layers(pruned)) == 1
    pixels = digits.test.items.astype("float32")
    answers = [array(each(pixels)).argmax(axis=1) for each in (model, pruned)]
    shares = [np.mean(answer == digits.test.labels) for answer in answers]
    assert shares[0] > 0.8
    lines = {line[:21].strip(): line[21:].split() for line in text.splitlines()}
    assert lines["accuracy, test images"] == [f"{share:.2%}" for share in shares]
    counts = [se_keras.count(each) for each in (model, pruned)]
    assert lines["parameters"] == [f"{counted.params:,}" for counted in counts]
    assert lines["multiply-adds"] == [f"{counted.macs:,}" for counted in counts]
    assert float(lines["ms for 8 images"][2]) > 0
    assert f"The same class for {np.mean(answers[0] == answers[1]):.2%} of 359" in text
    assert "Warning: pruning costs" not in text  # all answers are those of before


def test_the_cost_of_pruning_is_told_with_how_likely_chance_is():
    """7 of 100 images lost, 1 won: 6 points; McNemar's exact p is 2 (1 + 8) / 2^8 = 0.0703."""
    before, after = np.arange(100) < 90, (np.arange(100) >= 7) & (np.arange(100) < 91)
    (text,) = warn_of_cost(before, after, [1000, 990])
    assert "costs 6.0 points of accuracy, for 1.0% of the parameters" in text
    assert "Of 100 test images, 7 are right only before pruning and 1 only after it" in text
    assert "by chance is 0.07 (McNemar" in text
    assert warn_of_cost(after, before, [1000, 990]) == []
    assert warn_of_cost(before, before, [1000, 990]) == []


def test_explain_names_layers_that_hardly_vary(tmp_path):
    """Also without the folder of a run. A model with other classes gets no accuracy."""
    pixels = keras.Input((8, 8, 1))
    varying = SqueezeExcite(1, activation=None, name="varying")
    x = conv(varying(layers.Rescaling(1 / 255)(pixels)), "conv")
    x = SqueezeExcite(4, name="constant", kernel_initializer="zeros")(x)
    x = layers.Dense(7)(layers.GlobalAveragePooling2D()(x))
    # The mean pixel of the digits is 0.31, and from image to image it differs by some 0.03.
    weights = ([[100]], [-31], [[1]], [0])
    varying.set_weights([np.array(values, "float32") for values in weights])
    keras.Model(pixels, x).save(tmp_path / "model.keras")
    out = tmp_path / "out"
    out.mkdir()
    arguments = [tmp_path / "model.keras", "--data", "digits", "--out", out, "--keep", "0"]
    assert main(["explain", *map(str, arguments)]) == 0
    text = (out / "report.txt").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("Gates that hardly vary")]
    assert line.endswith(": constant.")
    assert "the gates of 1 of the 2 removed layers have a variability of 0.1 or more" in text
    variability = [float(row["variability"]) for row in rows_of(out / "layers.csv")]
    assert variability[0] > 0.3
    assert variability[1] == pytest.approx(0, abs=1e-6)
    assert "other classes" in text


def test_class_activation_maps_are_drawn(trained, digits, tmp_path, capsys):
    """For the worst test images; and for files, with a model without SE and its own pixels."""
    run = tmp_path / "run"
    run.mkdir()
    trained.save(run / "model.keras")
    (run / "settings.json").write_text(json.dumps({"data": "digits", "seed": 3, "image_size": 8}))
    assert main(["explain", str(run), "--out", str(tmp_path / "worst"), "--cam"]) == 0
    assert {"cam.png", "classes.png"} <= {path.name for path in (tmp_path / "worst").iterdir()}
    table = (
        capsys.readouterr()
        .out.split("Class activation maps, in cam.png:")[1]
        .split("The results")[0]
    )
    answers = array(trained(digits.test.items.astype("float32")))
    wrong = np.flatnonzero(answers.argmax(axis=1) != digits.test.labels)
    surest = wrong[np.argsort(-answers[wrong].max(axis=1))]
    rows = [line.split() for line in table.strip().splitlines()[1:]]
    assert [row[0] for row in rows] == [str(digits.test.names[number]) for number in surest[:12]]
    assert [int(row[1]) for row in rows] == digits.test.labels[surest[:12]].tolist()

    plain, files = plain_classifier(tmp_path / "plain.keras"), [str(tmp_path / "a.png")]
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), "uint8")
    Image.fromarray(pixels).save(files[0])
    options = ["--out", str(tmp_path / "new"), "--pixels", "tf", "--cam", *files]
    assert main(["explain", str(tmp_path / "plain.keras"), *options]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"cam.png", "report.txt"}
    scores = array(plain(pixels[None, ..., None] / np.float32(127.5) - 1))[0]
    *_, label, share, sign = capsys.readouterr().out.split("The results")[0].split()
    assert (int(label), sign) == (scores.argmax(), "%")
    assert float(share) == pytest.approx(100 * scores.max(), abs=0.06)


def plain_classifier(path):
    x = keras.Input((8, 8, 1))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(x))
    model = keras.Model(x, layers.Dense(3, activation="softmax")(y))
    set_random_weights(model)
    model.save(path)
    return model


def test_a_stopped_explain_leaves_nothing(trained, tmp_path, monkeypatch):
    trained.save(tmp_path / "model.keras")

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "plot_excitations", stopped)
    arguments = [tmp_path / "model.keras", "--data", "digits", "--out", tmp_path / "out"]
    assert main(["explain", *map(str, arguments)]) == 130
    assert {path.name for path in tmp_path.iterdir()} == {"model.keras"}
    monkeypatch.undo()
    (tmp_path / (PARTIAL + "out")).mkdir()  # as a killed process leaves it
    assert main(["explain", *map(str, arguments)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"model.keras", "out"}
    assert not (tmp_path / "out" / "pruned.keras").exists()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workplace")
    digits_model().save(folder / "good.keras")
    (folder / "bad.keras").write_bytes(b"not a model")
    (folder / "taken").mkdir()
    (folder / "taken" / "thesis.txt").write_text("words")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "settings.json").write_text('{"data": "digits"}')
    (folder / "moved").mkdir()
    (folder / "moved" / "settings.json").write_text('{"data": "photos", "image_size": 8}')
    digits_model().save(folder / "moved" / "model.keras")
    x = keras.Input((8, 8, 1))
    keras.Model(x, layers.Flatten()(x)).save(folder / "plain.keras")
    se_keras.create("seresnet20", input_shape=(8, 8, 3)).save(folder / "color.keras")
    keras.Model(x, SqueezeExcite(1)(x)).save(folder / "map.keras")
    x = keras.Input((8,))
    keras.Model(x, layers.Dense(2)(x)).save(folder / "vector.keras")
    return folder


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("nowhere.keras --data digits --out new", "nowhere.keras"),
        ("taken --data digits --out new", "got taken"),
        ("unfinished --out new", "unfinished is not finished"),
        ("bad.keras --data digits --out new", "bad.keras"),
        ("good.keras --out new", "--data"),
        ("moved --out new", "in photos are missing: name them by --data"),
        ("good.keras --data digits", "--out"),
        ("good.keras --data digits --out taken", "taken"),
        ("good.keras --data digits --out bad.keras", "bad.keras"),
        ("good.keras --data nothing --out new", "nothing"),
        ("good.keras --data digits --out new --keep 1.5", "[0, 1]"),
        ("good.keras --data digits --out new --keep most", "most"),
        ("good.keras --data digits --out new --prune 0.5", "--prune is now --keep"),
        ("plain.keras --data digits --out new", "SqueezeExcite"),
        ("good.keras --out new --cam gone.png", "--cam: there is no image file gone.png."),
        (
            "good.keras --data digits --out new --cam" + 13 * " bad.keras",
            "at most 12 images, got 13",
        ),
        ("good.keras --out new --cam bad.keras", "bad.keras"),
        ("map.keras --out new --cam bad.keras", "bad.keras"),
        ("color.keras --data digits --out new", "(8, 8, 1)"),
        ("vector.keras --data digits --out new", "images"),
        ("map.keras --data digits --out new --keep 0", "scores of classes"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, named, workplace, capsys, monkeypatch):
    monkeypatch.chdir(workplace)
    before = sorted(workplace.rglob("*"))
    line = refused(main, ["explain", *arguments.split()], capsys)
    assert line.startswith("se-keras")
    assert named in line
    assert sorted(workplace.rglob("*")) == before


LEFT, RIGHT, OF_TWO = uniform((5, 4, 4, 8)), uniform((5, 4, 4, 8), 1), np.array([0, 1, 0, 1, 1])


@pytest.mark.parametrize(
    "data",
    [
        ([LEFT, RIGHT], OF_TWO),
        ((LEFT, RIGHT), OF_TWO),
        ({"left": LEFT, "right": RIGHT}, OF_TWO),
        [LEFT, RIGHT],
        (LEFT, RIGHT),
        ((LEFT, RIGHT),),
        {"right": RIGHT, "left": LEFT},
    ],
)
def test_arrays_of_two_inputs_are_read_as_their_batches(data):
    left, right = keras.Input((4, 4, 8), name="left"), keras.Input((4, 4, 8), name="right")
    layer = SqueezeExcite(2, name="se")
    both = layers.Subtract()([left, right])
    model = keras.Model([left, right], layer(both))
    stats = se_keras.record_excitations(model, data, verbose=False)
    labels = OF_TWO if isinstance(data, tuple) and data[-1] is OF_TWO else np.zeros(5, int)
    gates = array(layer.gate(LEFT - RIGHT)).reshape(5, 8)
    expected = [gates[labels == number].mean(axis=0) for number in np.unique(labels)]
    np.testing.assert_allclose(stats["se"].mean, expected, rtol=1e-5)


def test_arrays_of_two_inputs_are_of_one_length():
    left, right = keras.Input((4, 4, 8)), keras.Input((4, 4, 8))
    model = keras.Model([left, right], SqueezeExcite(2)(layers.Add()([left, right])))
    with pytest.raises(
        se_keras.InputError, match="`data` must have equally many images for each input"
    ):
        se_keras.record_excitations(model, ([LEFT, RIGHT[:3]], OF_TWO), verbose=False)


def test_gates_are_those_of_a_model_that_is_called_with_training():
    x = keras.Input((4, 4, 8))
    inner = keras.Model(x, SqueezeExcite(2, name="se")(layers.BatchNormalization()(x)))
    model = keras.Model(x, inner(x, training=True))
    stats = se_keras.record_excitations(model, LEFT, verbose=False)
    batch = (LEFT - LEFT.mean(axis=(0, 1, 2))) / np.sqrt(LEFT.var(axis=(0, 1, 2)) + 1e-3)
    expected = array(inner.get_layer("se").gate(batch)).reshape(5, 8).mean(axis=0)
    np.testing.assert_allclose(stats.layers[0].mean[0], expected, rtol=1e-4)
