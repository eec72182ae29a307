"""The h5 files of classification_models, in the layout of Keras 2.

The layers and logits in golden/ are those of classification_models itself, under legacy Keras
(golden/make_classification_models.py); the files are written here in the same layout.
"""

import functools
from dataclasses import replace

import h5py
import numpy as np
import pytest
from checks import GOLDEN, array, by_size, set_random_weights
from classification_models_weights import (
    NAMES,
    SIZES,
    draw,
    from_text,
    texts,
    write_h5,
    write_texts,
)
from drawn_weights import image

import se_keras
from se_keras import cli
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError
from se_keras.weights import hub

SMALL = {"input_shape": (32, 32, 3)}


def golden(name):
    return np.load(GOLDEN / f"classification_models_{name}.npz")


@functools.cache
def layers_of(name):
    return from_text(golden(name)["layers"].item().decode())


# --- the whole networks --------------------------------------------------------------------------


FILES = [
    pytest.param(name, row, marks=sized.marks)
    for (name, row), sized in zip(NAMES.items(), by_size(NAMES.values()), strict=True)
]


@pytest.mark.parametrize(("name", "row"), FILES)
def test_logits_are_those_of_classification_models(name, row, tmp_path):
    path = write_h5(tmp_path / "drawn.h5", layers_of(name))
    options = {"input_shape": (None, None, 3), "classifier_activation": None}
    model = se_keras.create(row, weights=path, **options)
    for size in SIZES:
        expected = golden(name)[f"logits_{size}"]
        found = array(model(image(size)))[0]
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max(), size


@pytest.mark.parametrize(("name", "row"), FILES)
def test_a_file_for_another_network_names_the_builder_that_fits(name, row, tmp_path):
    path = write_h5(tmp_path / "a.h5", layers_of(name), draw=None)
    model = se_keras.create("seresnet20", input_shape=(8, 8, 3))
    with pytest.raises(InputError, match=rf"nothing was loaded. The file fits create\('{row}'\)\."):
        se_keras.load_weights(model, path)


@pytest.mark.parametrize(
    ("name", "row", "different"),
    [
        ("seresnet18", "seresnet18", "normalization  before its convolution  after its"),
        ("seresnet50", "seresnet50", "stride of units  on the 1x1  "),
        ("seresnet50", "legacy_seresnet50", "stem pool  padded on both sides  padded at the end"),
        pytest.param(
            "seresnext50",
            "legacy_seresnext50_32x4d",
            "stem pool  padded on both sides  padded at",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_row_of_the_same_shapes_is_told_apart(name, row, different, tmp_path):
    path = write_h5(tmp_path / "a.h5", layers_of(name), draw=None)
    with pytest.raises(InputError) as caught:
        se_keras.create(row, weights=path, **SMALL)
    assert different in str(caught.value)


# --- their first stages --------------------------------------------------------------------------

ROWS = {
    "seresnet18": replace(find_recipe("cm_seresnet18"), depths=(2,), widths=(64,)),
    "seresnet50": replace(find_recipe("cm_seresnet50"), depths=(3,), widths=(64,)),
    "seresnext50": replace(find_recipe("seresnext50_32x4d"), depths=(3,), widths=(64,)),
    "senet154": replace(find_recipe("senet154"), depths=(3,), widths=(64,)),
}


def first_stage(name, classes=5):
    """The layers of a network of one stage: up to the SE of its last unit, and the classifier."""
    layers, units = layers_of(name), ROWS[name].depths[0]
    with_bias = [i for i, (_, variables) in enumerate(layers) if len(variables) == 2]
    last = with_bias[2 * units - 1]
    kept, channels = layers[: last + 1], layers[last][1][-1][1]
    if name == "seresnet18":
        variables = ("gamma:0", "beta:0", "moving_mean:0", "moving_variance:0")
        kept.append(("bn1", tuple((f"bn1/{variable}", channels) for variable in variables)))
    if classes:
        shapes = (("fc1/kernel:0", (*channels, classes)), ("fc1/bias:0", (classes,)))
        kept.append(("fc1", shapes))
    return kept


def made(name="seresnext50", **options):
    model = se_keras.create(ROWS[name], **(SMALL | {"classes": 5} | options))
    set_random_weights(model, 3)
    return model


def value(model, path):
    return array(next(w for w in model.weights if w.path == path).value)


# Read off the files of classification_models itself: Keras numbers layers as they are built, and in
# a unit the shortcut is built before SE.
PLACES = {
    "seresnet18": {
        "bn_data/moving_mean:0": "input_norm/moving_mean",
        "conv0/kernel:0": "stem_conv/kernel",
        "stage1_unit1_bn1/gamma:0": "stage2_block1_norm1/gamma",
        "stage1_unit1_sc/kernel:0": "stage2_block1_shortcut_conv/kernel",
        "stage1_unit2_conv1/kernel:0": "stage2_block2_conv1/kernel",
        "bn1/moving_variance:0": "final_norm/moving_variance",
        "fc1/bias:0": "predictions/bias",
    },
    "seresnet50": {
        "batch_normalization/gamma:0": "stem_norm/gamma",
        "conv2d_3/kernel:0": "stage2_block1_conv3/kernel",
        "conv2d_4/kernel:0": "stage2_block1_shortcut_conv/kernel",
        "batch_normalization_4/beta:0": "stage2_block1_shortcut_norm/beta",
        "conv2d_5/bias:0": "stage2_block1_se/reduce/bias",
        "conv2d_6/bias:0": "stage2_block1_se/expand/bias",
        "conv2d_7/kernel:0": "stage2_block2_conv1/kernel",
        "batch_normalization_10/moving_mean:0": "stage2_block3_norm3/moving_mean",
    },
    "seresnext50": {"conv2d_34/kernel:0": "stage2_block1_conv3/kernel"},  # 1 + 1 + 32 before it
    "senet154": {
        "conv2d_2/kernel:0": "stem_conv3/kernel",
        "conv2d_68/kernel:0": "stage2_block1_conv3/kernel",  # 3 + 1 + 64 before it
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_each_tensor_goes_to_its_layer(name, tmp_path):
    model = made(name)
    plan = se_keras.load_weights(model, write_h5(tmp_path / "a.h5", first_stage(name)))
    assert len(plan.assignments) == len(model.weights)
    for theirs, ours in PLACES[name].items():
        found = value(model, ours)
        np.testing.assert_array_equal(found, draw(theirs, found.shape))


@pytest.mark.parametrize(("name", "groups", "first"), [("seresnext50", 32, 2), ("senet154", 64, 4)])
def test_groups_are_one_kernel_in_their_order(name, groups, first, tmp_path):
    model = made(name)
    plan = se_keras.load_weights(model, write_h5(tmp_path / "a.h5", first_stage(name)))
    kernel = value(model, "stage2_block1_conv2/kernel")
    each = (*kernel.shape[:3], kernel.shape[3] // groups)
    expected = [draw(f"conv2d_{number}/kernel:0", each) for number in range(first, first + groups)]
    np.testing.assert_array_equal(kernel, np.concatenate(expected, axis=-1))
    source = f"conv2d_{first} ... conv2d_{first + groups - 1}/kernel"
    assert [row.target for row in plan.assignments if row.source == source] == [
        "stage2_block1_conv2/kernel"
    ]


def test_se_is_a_pointwise_convolution_there(tmp_path):
    model = made("seresnet50")
    plan = se_keras.load_weights(model, write_h5(tmp_path / "a.h5", first_stage("seresnet50")))
    expected = draw("conv2d_5/kernel:0", (1, 1, 256, 16))[0, 0]
    np.testing.assert_array_equal(value(model, "stage2_block1_se/reduce/kernel"), expected)
    line = "conv2d_5/kernel 1x1x256x16 stage2_block1_se/reduce/kernel 256x16 11IO -> IO"
    assert line in [" ".join(row.split()) for row in str(plan).splitlines()]


def test_the_numbers_that_keras_gives_do_not_matter(tmp_path):
    """Keras counts the layers that were built before in the session."""
    layers = [
        (f"later_{layer}", tuple((f"later_{variable}", shape) for variable, shape in variables))
        for layer, variables in first_stage("seresnext50")
    ]
    model, other = made(), made()
    se_keras.load_weights(model, write_h5(tmp_path / "a.h5", first_stage("seresnext50")))
    se_keras.load_weights(
        other,
        write_h5(tmp_path / "b.h5", layers, lambda name, s: draw(name.removeprefix("later_"), s)),
    )
    assert_same_weights(model.get_weights(), other)


def test_a_whole_model_and_split_lists_of_names(tmp_path):
    layers = first_stage("seresnext50")
    model = made()
    se_keras.load_weights(model, write_h5(tmp_path / "a.h5", layers))
    with h5py.File(write_h5(tmp_path / "b.h5", layers, root="model_weights"), "r+") as file:
        names = texts(file["model_weights"], "layer_names")
        del file["model_weights"].attrs["layer_names"]
        write_texts(file["model_weights"], "layer_names", names, most=2000)
        assert {"layer_names0", "layer_names1"} <= set(file["model_weights"].attrs)
        file["optimizer_weights/iterations:0"] = 7
    other = made()
    se_keras.load_weights(other, tmp_path / "b.h5")
    assert_same_weights(model.get_weights(), other)


def assert_same_weights(before, model):
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- with and without a classifier ---------------------------------------------------------------


@pytest.fixture
def top(tmp_path):
    return write_h5(tmp_path / "top.h5", first_stage("seresnet18"))


@pytest.fixture
def no_top(tmp_path):
    return write_h5(tmp_path / "no_top.h5", first_stage("seresnet18", classes=None))


def test_a_backbone_takes_either_file(top, no_top):
    a, b = (made("seresnet18", include_top=False) for _ in range(2))
    plan = se_keras.load_weights(a, top)
    assert {(row.source, row.reason) for row in plan.ignored} == {
        ("fc1/kernel", "the model has no classifier"),
        ("fc1/bias", "the model has no classifier"),
    }
    assert se_keras.load_weights(b, no_top).ignored == ()
    assert_same_weights(a.get_weights(), b)


def test_the_classes_are_those_of_the_file(top):
    model = se_keras.create(ROWS["seresnet18"], weights=top, **SMALL)
    assert model.output_shape == (None, 5)
    with pytest.raises(InputError, match=r"`classes` must be 5, .*top.h5', got 7"):
        se_keras.create(ROWS["seresnet18"], weights=top, classes=7, **SMALL)


def test_a_classifier_needs_a_file_with_one(no_top):
    model = made("seresnet18")
    before = model.get_weights()
    with pytest.raises(InputError, match=r"no name for it .* predictions/kernel"):
        se_keras.load_weights(model, no_top)
    assert_same_weights(before, model)
    se_keras.load_weights(model, no_top, fresh_classifier=True)
    assert_same_weights(before[-2:], model.get_layer("predictions"))


# --- damage --------------------------------------------------------------------------------------


def rename_variable(file):
    weights = file["batch_normalization_2"]
    weights["batch_normalization_2/gama:0"] = weights.pop("batch_normalization_2/gamma:0")[()]
    names = texts(weights, "weight_names")
    write_texts(weights, "weight_names", [name.replace("gamma", "gama") for name in names])


def drop_variable(file):
    del file["batch_normalization_2/batch_normalization_2/gamma:0"]


def forget_variable(file):
    weights = file["batch_normalization_2"]
    write_texts(weights, "weight_names", texts(weights, "weight_names")[1:])


def without(layer):
    def damage(file):
        del file[layer]
        rename_layers(file, lambda names: [name for name in names if name != layer])

    return damage


def rename_layers(file, change):
    names = change(texts(file, "layer_names"))
    del file.attrs["layer_names"]
    write_texts(file, "layer_names", names)


def list_twice(file):
    rename_layers(file, lambda names: [*names, "conv2d_1"])


def copy_layer(file):
    file.copy("conv2d_1", "conv2d_999")
    rename_layers(file, lambda names: [*names, "conv2d_999"])


def swap_layers(file):
    swapped = {"conv2d_1": "batch_normalization_1", "batch_normalization_1": "conv2d_1"}
    rename_layers(file, lambda names: [swapped.get(name, name) for name in names])


def put(place, change):
    def damage(file):
        values = file[place][()]
        del file[place]
        file[place] = change(values)

    return damage


def stray(file):
    file["conv2d_1/ema/kernel:0"] = np.zeros(3, "float32")


KERNEL = "conv2d_1/conv2d_1/kernel:0"
GROUP = "conv2d_9/conv2d_9/kernel:0"
DAMAGES = {
    "a renamed variable": (
        rename_variable,
        r"a\.h5: its layers begin like .*, but from .*batch_normalization_2 on they must",
    ),
    "a lost variable": (drop_variable, r"once: batch_normalization_2/.*/gamma:0"),
    "an unlisted variable": (forget_variable, r"once: batch_normalization_2/.*/gamma:0"),
    "a stray tensor": (stray, r"once: conv2d_1/ema/kernel:0"),
    "a lost layer": (lambda file: file.pop("conv2d_1"), r"it has no layer conv2d_1\.$"),
    "a layer listed twice": (list_twice, r"once: conv2d_1/conv2d_1/kernel:0"),
    "a lost norm": (
        without("batch_normalization_5"),
        r"but from conv2d_35, batch_normalization_4, conv2d_38",
    ),
    "a lost convolution": (
        without("conv2d_34"),
        r"but from conv2d_1, batch_normalization_1, conv2d_2 ",
    ),
    "a lost group": (without("conv2d_9"), r"other shape  conv2d_2 ... conv2d_33/kernel  3x3x4x124"),
    "a layer too many": (copy_layer, r"but from .*conv2d_999 on they must be"),
    "swapped layers": (swap_layers, r"but from .*batch_normalization_1"),
    "another shape": (put(KERNEL, lambda v: v[..., :-1]), r"other shape  conv2d_1/kernel"),
    "another rank": (put(KERNEL, lambda v: v[0]), r"other shape  conv2d_1/kernel +1x64x128 "),
    "a number": (put(KERNEL, lambda v: v[0, 0, 0, 0]), r"other shape  conv2d_1/kernel"),
    "another shape of a group": (
        put(GROUP, lambda v: v[:2]),
        r"but from .*conv2d_2 ... conv2d_8",
    ),
    "another type": (put(KERNEL, lambda v: v.astype("int32")), r"other type  conv2d_1/kernel"),
    "another type of a group": (
        put(GROUP, lambda v: v.astype("float64")),
        r"but from .*conv2d_2 ... conv2d_8",
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file and a model that it fits."""
    path = write_h5(tmp_path_factory.mktemp("whole") / "a.h5", first_stage("seresnext50"))
    return path, made()


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_and_nothing_changed(damage, message, whole, tmp_path):
    path, model = tmp_path / "a.h5", whole[1]
    path.write_bytes(whole[0].read_bytes())
    with h5py.File(path, "r+") as file:
        damage(file)
    before = model.get_weights()
    with pytest.raises(InputError, match=message):
        se_keras.load_weights(model, path)
    assert_same_weights(before, model)


@pytest.mark.parametrize("part", [0, 0.5, 0.999])
def test_a_truncated_file_is_refused(part, whole, tmp_path):
    content = whole[0].read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError, match=r"a\.h5 is not a whole HDF5 file"):
        se_keras.load_weights(whole[1], tmp_path / "a.h5")


def test_other_files_of_keras_2_are_of_no_known_scheme(tmp_path):
    """The first layers of keras.applications' VGG16."""
    shapes = (("kernel:0", (3, 3, 3, 64)), ("bias:0", (64,)))
    layer = ("block1_conv1", tuple((f"block1_conv1/{v}", s) for v, s in shapes))
    path = write_h5(tmp_path / "a.h5", [("input_1", ()), layer])
    with pytest.raises(InputError, match=r"none of the known schemes: .*, classification_models\."):
        se_keras.load_weights(made(), path)


def test_a_model_within_a_model_is_of_no_known_scheme(tmp_path):
    """All tensors of its layers are in one layer of the file."""
    shapes = (("a/kernel:0", (3, 3, 3, 64)), ("b/kernel:0", (3, 3, 64, 64)))
    path = write_h5(tmp_path / "a.h5", [("model", shapes)])
    with pytest.raises(InputError, match=r"tensor names \(model/a/kernel:0, model/b/kernel:0"):
        se_keras.load_weights(made(), path)


# --- published -----------------------------------------------------------------------------------


def test_imagenet_is_the_published_file(tmp_path, monkeypatch):
    path = write_h5(tmp_path / "seresnet18_imagenet_1000.h5", layers_of("seresnet18"))
    fetched = []
    monkeypatch.setattr(hub, "fetch", lambda s: fetched.append(str(s)) or hub.Fetched(path=path))
    model = se_keras.CMSEResNet18(weights="imagenet", **SMALL)
    assert fetched == [
        "https://github.com/qubvel/classification_models/releases/download/0.0.1/"
        "seresnet18_imagenet_1000.h5#md5=9a925fd96d050dbf7cc4c54aabfcf749"
    ]
    stem = value(model, "stem_conv/kernel")
    np.testing.assert_array_equal(stem, draw("conv0/kernel:0", (7, 7, 3, 64)))


def test_the_preactivated_networks_take_pixels_as_they_are():
    pixels = np.arange(256, dtype="uint8").repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(se_keras.preprocess_input(pixels, "cm_seresnet18"), pixels)


def test_timm_has_no_such_networks(tmp_path, capsys):
    narrow = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 16), "stem_widths": (8,)}
    for name in ("cm_seresnet18", "cm_seresnet50"):
        row = replace(find_recipe(name), **narrow)
        se_keras.create(row, classes=5, **SMALL).save(tmp_path / "a.keras")
        arguments = ["convert", str(tmp_path / "a.keras"), str(tmp_path / "a.safetensors")]
        assert cli.main([*arguments, "--to", "timm"]) == 2
        error = capsys.readouterr().err
        assert f"timm has no network like {name}" in error
        assert "stem pool: padded on both sides" in error
        assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]
