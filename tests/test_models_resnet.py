"""The residual networks, against the paper's counts and timm's outputs."""

import keras
import numpy as np
import pytest
import timm_weights
from checks import GOLDEN, array, by_size, se_layers, set_random_weights, trainable
from drawn_weights import image

import se_keras
from se_keras.blocks import PLACEMENTS
from se_keras.models.parts import ChannelPadding
from se_keras.models.recipes import find_recipe
from se_keras.weights.convert import plan_for_timm

# Those that golden/make_timm.py ran.
TIMM = [line.split()[0] for line in (GOLDEN / "timm_names.txt").read_text().splitlines()]

# Trainable parameters: plain, with SE, with SE and biases (counts of conv + BN + fc; each is the
# paper's or the release's architecture counted layer by layer).
COUNTS = {
    "legacy_seresnet18": (11_689_512, 11_776_552, 11_778_592),
    "legacy_seresnet34": (21_797_672, 21_954_856, 21_958_868),
    "legacy_seresnet50": (25_557_032, 28_071_976, 28_088_024),
    "legacy_seresnet101": (44_549_160, 49_292_328, 49_326_872),
    "legacy_seresnet152": (60_192_808, 66_770_984, 66_821_848),
    "seresnet50": (25_557_032, 28_071_976, 28_088_024),
    "seresnet101": (44_549_160, 49_292_328, 49_326_872),
    "seresnet152": (60_192_808, 66_770_984, 66_821_848),
    "seresnext50_32x4d": (25_028_904, 27_543_848, 27_559_896),
    "seresnext101_32x4d": (44_177_704, 48_920_872, 48_955_416),
    "legacy_senet154": (108_459_944, 115_038_120, 115_088_984),
    "senet154": (108_459_944, 115_038_120, 115_088_984),
    # He et al. 2015, Table 6 (0.27M, 1.7M) and arXiv 1605.07146, Table 4 (11.0M), to the digit:
    # 3x3 convolutions, option A shortcuts; SE: 2 C^2/r a unit (r = 16), then C/r + C biases.
    "seresnet20": (269_722, 269_722 + 3 * (32 + 128 + 512), 269_722 + 3 * (49 + 162 + 580)),
    "seresnet110": (1_727_962, 1_727_962 + 18 * 672, 1_727_962 + 18 * 791),
}


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", by_size(COUNTS))
def test_parameters_are_the_papers_to_the_digit(name):
    plain, without_bias, with_bias = COUNTS[name]
    assert trainable(se_keras.create(name, se=False)) == plain
    assert trainable(se_keras.create(name, se_options={"use_bias": False})) == without_bias
    assert find_recipe(name).parameters == with_bias  # held to the built network in test_catalog


@pytest.fixture
def seresnet50(shapes_only):
    return se_keras.create("seresnet50", input_shape=(32, 32, 3))


def test_seresnet50_has_16_se_layers_of_the_right_widths(seresnet50):
    widths = [(w.expand.units, w.reduce.units) for w in se_layers(seresnet50)]
    assert widths == [(256, 16)] * 3 + [(512, 32)] * 4 + [(1024, 64)] * 6 + [(2048, 128)] * 3


def test_se_is_before_the_addition(seresnet50):
    """Paper, Fig. 3: normalization, SE, addition, ReLU."""
    names = [layer.name for layer in seresnet50.layers]
    unit = [n.removeprefix("stage3_block2_") for n in names if n.startswith("stage3_block2_")]
    assert unit[-4:] == ["norm3", "se", "add", "out"]


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    ("name", "strided"),
    [
        ("seresnet50", "conv2"),
        ("legacy_seresnet50", "conv1"),
        ("legacy_seresnext26_32x4d", "conv2"),
    ],
)
def test_the_stride_is_where_the_release_has_it(name, strided):
    model = se_keras.create(name, se=False, input_shape=(32, 32, 3))
    strides = {c: model.get_layer(f"stage3_block1_{c}").strides for c in ("conv1", "conv2")}
    assert strides.pop(strided) == (2, 2)
    assert set(strides.values()) == {(1, 1)}


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    ("ratio", "millions"), [(2, 45.730), (4, 35.670), (8, 30.640), (16, 28.125), (32, 26.868)]
)
def test_reduction_ratios_of_table_10(ratio, millions):
    model = se_keras.SEResNet50(
        ratio=ratio, se_options={"use_bias": False}, input_shape=(32, 32, 3)
    )
    assert model.count_params() / 1e6 == pytest.approx(millions, abs=0.001)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    ("stages", "added"), [([2], 24_576), ([3], 131_072), ([4], 786_432), (None, 2_514_944)]
)
def test_stage_ablation_adds_the_papers_weights(stages, added):
    """Paper, sec. 6.4 (Table 14 of the stages)."""
    model = se_keras.SEResNet50(
        se_stages=stages, se_options={"use_bias": False}, input_shape=(32, 32, 3)
    )
    assert trainable(model) - 25_557_032 == added


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    ("placement", "parameters"),
    [
        ("standard", 28_071_976),
        ("post", 28_071_976),
        ("identity", 28_071_976),
        ("pre", 27_548_200),  # C is that of the unit's input
        ("conv3x3", 25_714_216),  # C is a quarter: 25.8M in Table 15
    ],
)
def test_placements_have_the_papers_parameters(placement, parameters):
    model = se_keras.SEResNet50(
        placement=placement,
        se_options={"use_bias": False, "divisor": 1},  # C/r exactly, as in the paper
        input_shape=(32, 32, 3),
    )
    assert trainable(model) == parameters
    assert len(se_layers(model)) == 16


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_closed_gate_cuts_what_the_placement_says(placement):
    """With all gates at zero a unit is its shortcut, its branch, or nothing (paper, Fig. 5)."""
    model = se_keras.SEResNet20(
        placement=placement, input_shape=(8, 8, 3), se_options={"gate_scale": 0.0}
    )
    names = ("stage2_block1_out", "stage2_block2_norm2", "stage2_block2_se", "stage2_block2_out")
    probe = keras.Model(model.input, [model.get_layer(name).output for name in names])
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype("float32")
    before, branch, gated, after = map(array, probe(x))
    assert np.abs(gated).max() == 0
    # A closed gate before or inside the branch, or behind the unit before ("post"), leaves the
    # last normalization nothing but zeros.
    assert (np.abs(branch).max() == 0) == (placement in {"pre", "conv3x3", "post"})
    shortcut = 0 if placement == "identity" else before
    branch = 0 if placement == "standard" else branch
    expected = 0 if placement == "post" else np.maximum(shortcut + branch, 0)
    np.testing.assert_allclose(after, np.broadcast_to(expected, after.shape), atol=1e-6)


@pytest.mark.parametrize("name", by_size(TIMM))
def test_outputs_are_timms(name, tmp_path):
    recipe = find_recipe(name)
    model = se_keras.create(name, input_shape=(None, None, 3), classifier_activation=None)
    # The names are timm's: `test_names_and_shapes_are_timms` holds them to its own list.
    shapes = {row.source: row.source_shape for row in plan_for_timm(model).assignments}
    drawn = timm_weights.write_drawn(tmp_path / "drawn.safetensors", shapes)
    se_keras.load_weights(model, drawn)
    ends = [f"stage{stage}_block{n}_out" for stage, n in enumerate(recipe.depths, start=2)]
    probe = keras.Model(model.input, [model.output, *(model.get_layer(n).output for n in ends)])
    golden = np.load(GOLDEN / f"{name}.npz")
    for size in timm_weights.SIZES:
        logits, *maps = map(array, probe(image(size)))
        found = {"logits": logits[0]}
        found |= {f"stage{i}": m.mean((0, 1, 2)) for i, m in enumerate(maps, start=2)}
        for key, value in found.items():
            expected = golden[f"{key}_{size}"]
            assert np.abs(value - expected).max() < 1e-4 * np.abs(expected).max(), (key, size)


@pytest.mark.parametrize(("axis", "policy"), [(-1, "float32"), (1, "mixed_float16")])
def test_channels_of_zeros_stand_on_both_sides(axis, policy):
    x = np.random.default_rng(0).random((2, 4, 5, 3)).astype("float16")
    margins = [(0, 0)] * 4
    margins[axis] = (1, 2)
    layer = ChannelPadding((1, 2), axis, dtype=policy)
    layer = ChannelPadding.from_config(layer.get_config())
    y = array(layer(x))
    assert y.dtype == layer.compute_dtype
    np.testing.assert_array_equal(y, np.pad(x, margins))
    open_sizes = [None if i and i != axis % 4 else n for i, n in enumerate(x.shape)]
    expected = [n and n + 3 * (i == axis % 4) for i, n in enumerate(open_sizes)]
    assert list(layer(keras.KerasTensor(open_sizes, "float16")).shape) == expected


def with_old_padding(model):
    """As in files saved before `ChannelPadding` was here: zero-padding told the wrong format."""

    def clone(layer):
        if not isinstance(layer, ChannelPadding):
            return type(layer).from_config(layer.get_config())
        margins = ((0, 0), layer.padding)
        return keras.layers.ZeroPadding2D(margins, data_format="channels_first", name=layer.name)

    old = keras.models.clone_model(model, clone_function=clone)
    old.set_weights(model.get_weights())
    return old


def test_a_file_with_the_old_padding_is_the_same_network(tmp_path):
    model = se_keras.SEResNet20(se=False, input_shape=(16, 16, 3))
    set_random_weights(model)
    with_old_padding(model).save(tmp_path / "old.keras")
    old = keras.models.load_model(tmp_path / "old.keras")
    paddings = [old.get_layer(f"stage{stage}_block1_shortcut_pad") for stage in (3, 4)]
    assert {padding.data_format for padding in paddings} == {"channels_first"}
    model.save(tmp_path / "model.keras")  # a file of weights, which either takes
    se_keras.load_weights(old, tmp_path / "model.keras")
    x = np.random.default_rng(0).random((2, 16, 16, 3), "float32")
    for change in (
        lambda m: m,
        insert_into_shortcuts,
        lambda m: se_keras.optimize(m, verbose=False),
    ):
        np.testing.assert_allclose(change(old)(x), change(model)(x), rtol=1e-4, atol=1e-6)
    assert se_keras.count(old).macs == se_keras.count(model).macs
    for placement in ("standard", "identity"):
        sites = [se_keras.find_sites(m, placement=placement).sites for m in (old, model)]
        assert sites[0] == sites[1]


def insert_into_shortcuts(model):
    """SE whose weights do not depend on the run, so that two models get the same."""
    options = {"kernel_initializer": keras.initializers.RandomNormal(seed=0), "warm_start": False}
    return se_keras.insert_se(model, placement="identity", **options)


def test_drop_path_drops_whole_images_and_grows_with_depth():
    model = se_keras.SEResNet20(drop_path_rate=0.4, input_shape=(8, 8, 3))
    rates = [layer.rate for layer in model.layers if layer.name.endswith("drop_path")]
    assert rates == pytest.approx([0.4 * i / 8 for i in range(1, 9)])
    layer = model.get_layer("stage4_block3_drop_path")
    kept = array(layer(np.ones((64, 2, 2, 3), "float32"), training=True)).reshape(64, -1)
    assert set(np.unique(kept).round(5)) == {0.0, np.float32(1 / 0.6).round(5)}
    assert (kept.min(axis=1) == kept.max(axis=1)).all()


@pytest.mark.usefixtures("shapes_only")
def test_preactivated_networks_are_as_large_as_their_papers_say():
    """arXiv 1603.05027, Table 4 (1.7M) and arXiv 1605.07146, Table 4 (11.0M), without SE."""
    assert trainable(se_keras.SEResNet164(se=False)) == pytest.approx(1.7e6, rel=0.01)
    assert trainable(se_keras.SEWRN16_8(se=False)) == pytest.approx(11.0e6, rel=0.01)
