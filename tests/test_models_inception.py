"""The Inception networks, against the paper's counts, timm and pretrainedmodels."""

from dataclasses import replace

import inception_weights
import keras
import numpy as np
import pytest
from checks import (
    GOLDEN,
    array,
    by_size,
    run_python,
    se_layers,
    set_random_weights,
    trainable,
    uniform,
)
from drawn_weights import image

import se_keras
from se_keras.models.assembly import NetworkOptions, build_network
from se_keras.models.recipes import find_recipe

UPSTREAM = {
    "sebn_inception": "bn_inception",
    "seinception_v3": "inception_v3",
    "seinception_resnet_v2": "inception_resnet_v2",
}
NAMES = tuple(UPSTREAM)
# Trainable parameters: the Caffe release without its SE blocks; timm's inception_v3 (no auxiliary
# classifier) and inception_resnet_v2.
PLAIN = {
    "sebn_inception": 11_285_224,
    "seinception_v3": 23_834_568,
    "seinception_resnet_v2": 55_843_464,
}
# Channels of the maps that SE stands after: SE-BN-Inception.prototxt, 3a to 5b; what the forward
# pass of torchvision's inception_v3 notes, 5b to 7c; arXiv 1602.07261 as released: 40 units.
WIDTHS = {
    "sebn_inception": [256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024],
    "seinception_v3": [256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048],
    "seinception_resnet_v2": [320] * 10 + [1088] * 20 + [2080] * 10,
}
# Hidden widths of SE-BN-Inception.prototxt: num_output of the "1x1_down" layers.
RELEASED_HIDDEN = [16, 20, 36, 36, 36, 38, 38, 66, 64, 64]
# Last layer of each stage.
ENDS = {
    "sebn_inception": [
        "stem_relu1",
        "stem_relu3",
        "stage3_block2",
        "stage4_block5",
        "stage5_block3",
    ],
    "seinception_v3": [
        "stem_relu3",
        "stem_relu5",
        "stage3_block3",
        "stage4_block5",
        "stage5_block3",
    ],
    "seinception_resnet_v2": [
        "stem_relu3",
        "stem_relu5",
        "stage3_block10_out",
        "stage4_block20_out",
        "final_relu",
    ],
}
# Height and channels of the stages' maps: that prototxt at 224; torchvision's notes and timm's
# feature_info at 299.
MAPS = {
    "sebn_inception": [(112, 64), (56, 192), (28, 320), (14, 608), (7, 1024)],
    "seinception_v3": [(147, 64), (71, 192), (35, 288), (17, 768), (8, 2048)],
    "seinception_resnet_v2": [(147, 64), (71, 192), (35, 320), (17, 1088), (8, 1536)],
}


def se_weights(name):
    return sum(2 * c * (c // 16) for c in WIDTHS[name])


def readers(model, tensor):
    """Names of the layers that read a tensor."""
    return [
        layer.name
        for layer in model.layers
        if any(tensor is read for read in keras.tree.flatten(layer.input))
        and layer.output is not tensor
    ]


def short(name, **options):
    """The network, with one residual unit a stage, for what does not depend on their number."""
    recipe = find_recipe(name)
    if name == "seinception_resnet_v2":
        recipe = replace(recipe, depths=(1, 1, 1))
    return build_network(recipe, NetworkOptions(**options))


def small_resnet(input_shape=(75, 75, 3), **options):
    return short("seinception_resnet_v2", input_shape=input_shape, classes=10, **options)


def small_bn(input_shape=(64, 64, 3), **options):
    return short("sebn_inception", input_shape=input_shape, classes=10, **options)


def for_unknown_sizes(name, **options):
    return se_keras.create(name, input_shape=(None, None, 3), classifier_activation=None, **options)


# --- counts --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_are_those_of_the_plain_network_and_the_derived_ones_of_se(name):
    model = se_keras.create(name)
    biases = sum(c + c // 16 for c in WIDTHS[name])
    assert trainable(model) == PLAIN[name] + se_weights(name) + biases
    assert find_recipe(name).parameters == trainable(model)
    assert [layer.expand.units for layer in se_layers(model)] == WIDTHS[name]


@pytest.mark.usefixtures("shapes_only")
def test_the_parameters_of_bn_inception_without_se_and_without_its_biases():
    assert trainable(se_keras.create("sebn_inception", se=False)) == 11_285_224
    no_bias = se_keras.create("sebn_inception", se_options={"use_bias": False})
    assert trainable(no_bias) == 11_924_584
    assert [layer.reduce.units for layer in se_layers(no_bias)] == RELEASED_HIDDEN


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES[1:])
def test_the_plain_twin_has_upstreams_parameters(name):
    twin = se_keras.create(name, se=False)
    assert trainable(twin) == PLAIN[name]
    assert not se_layers(twin)


def multiply_adds(model, size):
    """Those of its convolutions and its classifier, by the shapes that Keras infers."""
    counted = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    ]
    outputs = keras.Model(model.input, [layer.output for layer in counted])
    maps = outputs.compute_output_spec(keras.KerasTensor((1, size, size, 3)))
    pairs = zip(counted, maps, strict=True)
    return sum(int(np.prod((*layer.kernel.shape, *map.shape[1:-1]))) for layer, map in pairs)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES)
def test_the_multiply_adds_are_those_that_torch_counts_upstream(name):
    recipe = find_recipe(name)
    plain = multiply_adds(for_unknown_sizes(name), recipe.input_size)
    with np.load(GOLDEN / f"{UPSTREAM[name]}.npz") as golden:
        assert plain == golden[f"multiply_adds_{recipe.input_size}"]
    assert recipe.multiply_adds == plain + se_weights(name)


@pytest.mark.usefixtures("shapes_only")
def test_the_multiply_adds_are_those_of_table_2():
    recipe = find_recipe("sebn_inception")
    assert recipe.multiply_adds == pytest.approx(2.04e9, rel=0.01)
    assert recipe.multiply_adds - se_weights(recipe.name) == pytest.approx(2.03e9, rel=0.01)
    # The paper's 11.75 and 11.76 are not those of this network at the 299 pixels that it names:
    # timm's has 13.2. From 291 to 298 they fit, where the three grids have one pixel less.
    model = for_unknown_sizes("seinception_resnet_v2")
    added = se_weights("seinception_resnet_v2")
    for size in (291, 298):
        plain = multiply_adds(model, size)
        assert plain == pytest.approx(11.75e9, rel=0.01)
        assert plain + added == pytest.approx(11.76e9, rel=0.01)
    assert round(added / 1e9, 2) == 0.01


# --- structure -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", by_size(NAMES))
def test_with_open_gates_the_stages_and_logits_are_upstreams(name):
    """All gates are 1: 2 sigmoid(0)."""
    options = {"gate_scale": 2.0, "kernel_initializer": "zeros"}
    model = for_unknown_sizes(name, se_options=options)
    names = inception_weights.assign(model, UPSTREAM[name])
    assert len(set(names)) == len(names)
    ends = [f"{end}_se" if end[-1].isdigit() and "block" in end else end for end in ENDS[name]]
    outputs = [model.get_layer(end).output for end in ends]
    stages = keras.Model(model.input, [*outputs, model.output])
    with np.load(GOLDEN / f"{UPSTREAM[name]}.npz") as golden:
        for size in inception_weights.SIZES[UPSTREAM[name]]:
            *maps, logits = (array(y) for y in stages(image(size), training=False))
            kept = [golden[f"stage{stage}_{size}"] for stage in range(1, 6)]
            pairs = [(y.mean((1, 2))[0], mean) for y, mean in zip(maps, kept, strict=True)]
            for found, expected in [*pairs, (logits[0], golden[f"logits_{size}"])]:
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.ptp(expected))


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES[:2])
def test_se_is_between_the_concatenation_and_all_that_reads_the_module(name):
    model = for_unknown_sizes(name)
    for layer in se_layers(model):
        concat = model.get_layer(layer.name.replace("_se", "_concat"))
        assert readers(model, concat.output) == [layer.name]
        assert readers(model, layer.output)


@pytest.mark.usefixtures("shapes_only")
def test_se_is_between_the_expansion_and_its_scaling():
    model = for_unknown_sizes("seinception_resnet_v2")
    names = [
        f"stage{stage}_block{block}"
        for stage, depth in ((3, 10), (4, 20), (5, 10))
        for block in range(1, depth + 1)
    ]
    for name in names:
        last = name == "stage5_block10"  # neither scaled nor activated
        expansion = model.get_layer(f"{name}_expansion_conv")
        se = model.get_layer(f"{name}_se")
        assert readers(model, expansion.output) == [se.name]
        assert readers(model, se.output) == [f"{name}_add" if last else f"{name}_scale"]
        following = readers(model, model.get_layer(f"{name}_add").output)
        assert following == ["final_conv" if last else f"{name}_out"]


@pytest.mark.parametrize("build", [small_bn, pytest.param(small_resnet, marks=pytest.mark.slow)])
def test_a_closed_gate_changes_the_output_and_training_reaches_every_se_block(build):
    model = build()
    x = uniform((2, *model.input_shape[1:]))
    before = array(model(x, training=False))
    se = [weight for layer in se_layers(model) for weight in layer.trainable_weights]
    values = [array(weight) for weight in se]
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    model.train_on_batch(x, np.array([1, 2]))
    moved = [np.any(array(weight) != value) for weight, value in zip(se, values, strict=True)]
    kernels = [flag for flag, weight in zip(moved, se, strict=True) if weight.name == "kernel"]
    assert all(kernels)
    closed = build(se_options={"gate_activation": keras.ops.zeros_like})
    closed.set_weights(model.get_weights())
    assert np.abs(array(closed(x, training=False)) - before).max() > 1e-3


# --- options -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_stages_sizes_and_channels(name):
    size = find_recipe(name).input_size
    model = short(name, features_only=True, se=False, input_shape=(size, size, 3))
    assert model.output_names == [f"stage{stage}_stride{2**stage}" for stage in range(1, 6)]
    assert [shape[1:] for shape in model.output_shape] == [(h, h, c) for h, c in MAPS[name]]


def test_bn_inception_takes_sizes_whose_maps_are_odd_where_they_are_halved():
    # 233 -> 117 -> 58 -> 29, where Caffe's pool and convolutions part; 29 -> 15 -> 8 by "pad 1".
    model = small_bn((None, 233, 1), features_only=True)
    assert [shape[2] for shape in model.output_shape] == [117, 58, 29, 15, 8]
    *_, last = model(uniform((1, 71, 233, 1)), training=False)
    assert last.shape == (1, 3, 8, 1024)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(("name", "smallest"), [(NAMES[0], 7), (NAMES[1], 75), (NAMES[2], 75)])
def test_the_smallest_size_gives_one_pixel_and_less_is_refused(name, smallest):
    options = {"se": False, "include_top": False}
    assert short(name, input_shape=(smallest, smallest, 3), **options).output_shape[1] == 1
    with pytest.raises(ValueError, match=rf"`input_shape`.*at least {smallest} pixels.*{name}"):
        short(name, input_shape=(smallest, smallest - 1, 3), **options)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES)
def test_stages_without_modules_have_no_se(name):
    with pytest.raises(ValueError, match=r"must be among \[3, 4, 5\], got \[1, 2, 6\]"):
        short(name, se_stages=[1, 2, 3, 6])


@pytest.mark.usefixtures("shapes_only")
def test_se_stages_chooses_the_modules():
    assert [layer.name for layer in se_layers(small_bn(se_stages=[3, 5]))] == [
        "stage3_block1_se",
        "stage3_block2_se",
        "stage5_block1_se",
        "stage5_block2_se",
        "stage5_block3_se",
    ]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (NAMES[0], {"placement": "pre"}),
        (NAMES[0], {"drop_path_rate": 0.1}),
        (NAMES[1], {"output_stride": 16}),
        (NAMES[2], {"output_stride": 16}),
    ],
)
def test_options_of_other_families_are_refused(name, option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}=.*{name} does not have"):
        se_keras.create(name, **option)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    ("placement", "widths", "source", "reader"),
    [
        ("standard", [320, 1088, 2080], "expansion_conv", "scale"),
        ("pre", [320, 1088, 2080], "stage4_entry_concat", "stage4_block1_1x1_conv"),
        ("post", [320, 1088, 2080], "out", "stage5_entry_3x3_conv1"),
        ("identity", [320, 1088, 2080], "stage4_entry_concat", "add"),
        ("conv3x3", [128, 384, 448], "concat", "expansion_conv"),
    ],
)
def test_each_placement_in_a_unit(placement, widths, source, reader):
    model = small_resnet(placement=placement)
    assert [layer.expand.units for layer in se_layers(model)] == widths
    name = "stage4_block1"
    se = model.get_layer(f"{name}_se")
    whole = [part if part.startswith("stage") else f"{name}_{part}" for part in (source, reader)]
    assert se.input is model.get_layer(whole[0]).output
    assert whole[1] in readers(model, se.output)


@pytest.mark.usefixtures("shapes_only")
def test_drop_path_rates_grow_to_the_last_unit():
    model = small_resnet(drop_path_rate=0.2)
    layers = [layer for layer in model.layers if layer.name.endswith("_drop_path")]
    assert [layer.name for layer in layers] == [
        "stage4_block1_drop_path",
        "stage5_block1_drop_path",
    ]
    assert [layer.rate for layer in layers] == pytest.approx([0.1, 0.2])
    assert layers[0].input is model.get_layer("stage4_block1_scale").output


def test_a_saved_network_predicts_the_same(tmp_path):
    model = small_resnet()
    set_random_weights(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = uniform((1, *model.input_shape[1:]))
    np.testing.assert_array_equal(array(loaded(x, training=False)), array(model(x, training=False)))


@pytest.mark.usefixtures("shapes_only")
def test_a_mixed_policy_reaches_every_layer():
    model = small_resnet(dtype="mixed_bfloat16")
    computed = {
        layer.name: layer.compute_dtype for layer in model.layers if layer.name != "predictions"
    }
    computed.pop("image", None)
    assert set(computed.values()) == {"bfloat16"}
    assert model.get_layer("predictions").compute_dtype == "float32"


CHANNELS_FIRST = """
import numpy as np
from checks import set_random_weights, uniform
import test_models_inception as tests

x = uniform((1, 79, 75, 3))
last = tests.small_resnet((79, 75, 3), include_top=False)
first = tests.small_resnet((3, 79, 75), include_top=False, data_format="channels_first")
for model in (last, first):
    set_random_weights(model)
outputs = last.predict(x, verbose=0), first.predict(np.moveaxis(x, -1, 1), verbose=0)
np.testing.assert_allclose(
    np.moveaxis(outputs[1], 1, -1), outputs[0], rtol=0, atol=1e-4 * np.ptp(outputs[0])
)
"""


@pytest.mark.slow
def test_channels_first_gives_the_same_on_jax():
    run_python(CHANNELS_FIRST, backend="jax")


@pytest.mark.usefixtures("shapes_only")
def test_the_named_builders_take_the_arguments_of_keras_applications():
    model = se_keras.SEInceptionV3(False, None, keras.Input((75, 75, 4)), None, "max")
    assert model.output_shape == (None, 2048)
    assert model.name == "seinception_v3"
