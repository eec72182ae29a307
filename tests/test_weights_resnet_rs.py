"""The h5 files of ResNet-RS, in the layout of Keras 2.

Names and order are those of the code that wrote such files: sebastian-sz/resnet-rs-keras, whose
files keras.applications published (their md5 are the same), and keras.applications as it was before
keras-team/keras ac9aadc47a. The numbers are timm's, drawn by its names.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest
from checks import GOLDEN, array
from classification_models_weights import write_h5
from drawn_weights import image
from keras import layers
from timm_weights import SIZES, draw

import se_keras
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError

# Layer of timm -> what both call it, before that the one's and the other's beginning of a name.
STEM = {
    "conv1.0": "conv_1",
    "conv1.1": "batch_norm_1",
    "conv1.3": "conv_2",
    "conv1.4": "batch_norm_2",
    "conv1.6": "conv_3",
    "bn1": "batch_norm_3",
    "maxpool.0": "conv_4",
    "maxpool.1": "batch_norm_4",
}
UNIT = {
    "conv1": "conv_1",
    "bn1": "batch_norm_1",
    "conv2": "conv_2",
    "bn2": "batch_norm_2",
    "conv3": "conv_3",
    "bn3": "batch_norm_3",
    "se.fc1": "se_reduce",
    "se.fc2": "se_expand",
    "downsample.1": "projection_conv",
    "downsample.2": "projection_batch_norm",
}


def published(stage, block, part):
    return f"c{stage}_block_{block}_{part}"


def of_keras_applications(stage, block, part):
    """The first normalization of a unit lacks a mark, and SE has one more."""
    mark = {"batch_norm_1": "", "se_reduce": "_se_", "se_expand": "_se_"}.get(part, "_")
    return f"BlockGroup{stage}__block_{block}_{mark}{part}"


SCHEMES = {"stem_": published, "stem_1_stem_": of_keras_applications}


def shapes_of(depths, widths, classes):
    """(stage and block or None, layer of timm, shape of its kernel or number of its channels)."""
    for layer, into, out in (("0", 3, 32), ("3", 32, 32), ("6", 32, 64)):
        yield None, f"conv1.{layer}", (3, 3, into, out)
        yield None, {"0": "conv1.1", "3": "conv1.4", "6": "bn1"}[layer], out
    yield None, "maxpool.0", (3, 3, 64, 64)
    yield None, "maxpool.1", 64
    before = 64
    for stage, (units, width) in enumerate(zip(depths, widths, strict=True), start=2):
        for block in range(units):
            after = 4 * width
            kernels = [(1, before, width), (3, width, width), (1, width, after)]
            for number, (size, into, out) in enumerate(kernels, start=1):
                yield (stage, block), f"conv{number}", (size, size, into, out)
                yield (stage, block), f"bn{number}", out
            yield (stage, block), "se.fc1", (1, 1, after, width)
            yield (stage, block), "se.fc2", (1, 1, width, after)
            if block == 0:
                yield (stage, block), "downsample.1", (1, 1, before, after)
                yield (stage, block), "downsample.2", after
            before = after
    if classes:
        yield None, "fc", (before, classes)


def write_drawn(path, depths=(1, 2), widths=(8, 16), classes=5, stem="stem_"):
    """A file as Keras 2 writes it; returns its path and timm's name of each tensor."""
    layers, sources = [], {}
    for place, layer, shape in shapes_of(depths, widths, classes):
        if place is None:
            name = "predictions" if layer == "fc" else stem + STEM[layer]
            theirs = layer
        else:
            name = SCHEMES[stem](*place, UNIT[layer])
            theirs = f"layer{place[0] - 1}.{place[1]}.{layer}"
        if isinstance(shape, int):
            leaves = {"gamma": "weight", "beta": "bias"}
            leaves |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
            variables = dict.fromkeys(leaves, (shape,))
        else:
            leaves = {"kernel": "weight", "bias": "bias"}
            with_bias = layer == "fc" or layer.startswith("se.")
            variables = {"kernel": shape} | ({"bias": shape[-1:]} if with_bias else {})
        layers.append((name, tuple((f"{name}/{v}:0", s) for v, s in variables.items())))
        sources |= {f"{name}/{v}": f"{theirs}.{leaves[v]}" for v in variables}
    return write_h5(path, layers, lambda name, s: values(sources[name[:-2]], s)), sources


def values(source, shape):
    """What timm's tensor is in the layout of Keras."""
    axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[len(shape)]
    theirs = draw(source, tuple(shape[axis] for axis in axes))
    return theirs.transpose(np.argsort(axes))


def of_definition(depths, widths, classes):
    """The network as resnet-rs-keras defines it, without the layers that only training knows."""

    def conv_norm(x, width, size, stride, conv, norm, activation="relu"):
        if stride > 1:
            x = layers.ZeroPadding2D((size - 1) // 2)(x)
        padding = "valid" if stride > 1 else "same"
        x = layers.Conv2D(width, size, stride, padding, use_bias=False, name=conv)(x)
        x = layers.BatchNormalization(epsilon=1e-5, name=norm)(x)
        return layers.Activation(activation)(x)

    def unit(x, width, stride, place):
        name = [published(*place, part) for part in UNIT.values()]
        shortcut = x
        if place[1] == 0:
            if stride == 2:
                shortcut = layers.AveragePooling2D(2, 2, "same")(x)
            shortcut = conv_norm(shortcut, 4 * width, 1, 1, *name[8:], "linear")
        x = conv_norm(x, width, 1, 1, *name[0:2])
        x = conv_norm(x, width, 3, stride, *name[2:4])
        x = conv_norm(x, 4 * width, 1, 1, *name[4:6], "linear")
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        gate = layers.Conv2D(width, 1, activation="relu", name=name[6])(gate)
        gate = layers.Conv2D(4 * width, 1, activation="sigmoid", name=name[7])(gate)
        return layers.ReLU()(layers.add([layers.multiply([x, gate]), shortcut]))

    x = inputs = keras.Input((None, None, 3))
    for n, (width, stride) in enumerate([(32, 2), (32, 1), (64, 1), (64, 2)], start=1):
        x = conv_norm(x, width, 3, stride, f"stem_conv_{n}", f"stem_batch_norm_{n}")
    for stage, (units, width) in enumerate(zip(depths, widths, strict=True), start=2):
        for block in range(units):
            x = unit(x, width, 1 if block or stage == 2 else 2, (stage, block))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, name="predictions")(x))


@pytest.mark.parametrize("size", [32, 37])
def test_logits_are_those_of_the_definition(size, tmp_path):
    path, sources = write_drawn(tmp_path / "a.h5")
    theirs = of_definition(ROW.depths, ROW.widths, 5)
    for variable in theirs.weights:
        variable.assign(values(sources[variable.path], variable.shape))
    options = {"input_shape": (None, None, 3), "classifier_activation": None}
    ours = se_keras.create(ROW, weights=path, **options)
    expected = array(theirs(image(size)))
    assert np.abs(array(ours(image(size))) - expected).max() < 1e-5 * expected.std()


ROW = replace(find_recipe("resnetrs50"), depths=(1, 2), widths=(8, 16))


@pytest.mark.parametrize("stem", SCHEMES)
def test_each_tensor_goes_to_its_layer(stem, tmp_path):
    """The same layer as from timm's file, and the same logits."""
    path, sources = write_drawn(tmp_path / "a.h5", stem=stem)
    model = se_keras.create(ROW, weights=path, input_shape=(32, 32, 3))
    plan = se_keras.load_weights(model, path)
    timm = se_keras.weights.convert.plan_for_timm(model)
    expected = {row.target: row.source for row in timm.assignments}
    assert {row.target: sources[row.source] for row in plan.assignments} == expected
    variables = {variable.path: variable for variable in model.weights}
    for row in timm.assignments:
        drawn = row.layout.to_keras(draw(row.source, row.source_shape))
        np.testing.assert_array_equal(array(variables[row.target].value), drawn)
    assert plan.ignored == ()


@pytest.mark.slow
def test_logits_are_timms(tmp_path):
    row = find_recipe("resnetrs50")
    path, _ = write_drawn(tmp_path / "a.h5", row.depths, row.widths, 1000)
    options = {"input_shape": (None, None, 3), "classifier_activation": None}
    model = se_keras.create("resnetrs50", weights=path, **options)
    golden = np.load(GOLDEN / "resnetrs50.npz")
    for size in SIZES:
        expected = golden[f"logits_{size}"]
        assert np.abs(array(model(image(size)))[0] - expected).max() < 1e-4 * expected.std(), size


def test_a_backbone_takes_either_file(tmp_path):
    top, _ = write_drawn(tmp_path / "top.h5")
    no_top, _ = write_drawn(tmp_path / "no_top.h5", classes=None)
    models = [se_keras.create(ROW, weights=path, include_top=False) for path in (top, no_top)]
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match=r"missing +predictions/kernel"):
        se_keras.create(ROW, weights=no_top, classes=5, input_shape=(32, 32, 3))


def test_a_lost_layer_is_named(tmp_path):
    path, _ = write_drawn(tmp_path / "a.h5", depths=(1, 1))
    with pytest.raises(InputError, match=r"missing +c3_block_1_conv_1/kernel"):
        se_keras.create(ROW, weights=path, input_shape=(32, 32, 3))
