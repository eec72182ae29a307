"""The residual networks, against the paper's counts and timm's outputs."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import timm_weights
from checks import GOLDEN, array, by_size, se_layers, set_random_weights, trainable
from drawn_weights import image

import se_keras
from se_keras.blocks import PLACEMENTS
from se_keras.models.parts import ChannelPadding, refuse_odd
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError
from se_keras.weights.convert import plan_for_timm

# Those that golden/make_timm.py ran.
TIMM = [line.split()[0] for line in (GOLDEN / "timm_names.txt").read_text().splitlines()]
COMPARED = [name for name in TIMM if name not in timm_weights.DEEPEST]

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
        placement=placement,
        input_shape=(8, 8, 3),
        se_options={"gate_activation": keras.ops.zeros_like},
    )
    names = ("stage2_block1_out", "stage2_block2_norm2", "stage2_block2_se", "stage2_block2_out")
    probe = keras.Model(model.input, [model.get_layer(name).output for name in names])
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype("float32")
    before, branch, gated, after = map(array, probe(x))
    assert np.abs(gated).max() == 0
    # A closed gate before or inside the branch, or after the unit before ("post"), leaves the
    # last normalization nothing but zeros.
    assert (np.abs(branch).max() == 0) == (placement in {"pre", "conv3x3", "post"})
    shortcut = 0 if placement == "identity" else before
    branch = 0 if placement == "standard" else branch
    expected = 0 if placement == "post" else np.maximum(shortcut + branch, 0)
    np.testing.assert_allclose(after, np.broadcast_to(expected, after.shape), atol=1e-6)


@pytest.mark.parametrize("name", by_size(COMPARED))
def test_outputs_are_timms(name, tmp_path):
    recipe = find_recipe(name)
    dtype = "float64" if name in timm_weights.DEEP else "float32"
    options = {"classifier_activation": None, "dtype": dtype}
    model = se_keras.create(name, input_shape=(None, None, 3), **options)
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


# --- average pools in the place of strides -------------------------------------------------------

NARROW = {"depths": (1, 2, 1, 1), "widths": (8, 16, 16, 32), "stem_widths": (4, 4, 8)}


FEW = NARROW | {"depths": (1, 2), "widths": (8, 16)}


def pooled(name="seresnetaa50d", size=32, smaller=NARROW, **options):
    row = replace(find_recipe(name), **smaller)
    return se_keras.create(row, input_shape=(size, size, 3), classes=5, **options)


def test_an_average_pool_takes_the_place_of_each_stride_but_the_first():
    """timm, resnet.py with `aa_layer=AvgPool2d`, in float64: 3x3, normalization, ReLU, 2x2 mean."""
    model = pooled(dtype="float64")
    assert model.get_layer("stem_average_pool").pool_size == (2, 2)
    for stage in (3, 4, 5):
        assert model.get_layer(f"stage{stage}_block1_conv2").strides == (1, 1)
        unit = [f"stage{stage}_block1_{part}" for part in ("relu2", "pool", "conv3")]
        before, pool, after = map(model.get_layer, unit)
        assert (pool.input, after.input) == (before.output, pool.output)
    probe = keras.Model(
        model.input, [model.get_layer(f"stage3_block1_{p}").output for p in ("relu2", "pool")]
    )
    x, y = map(array, probe(np.random.default_rng(0).standard_normal((1, 32, 32, 3))))
    mean = sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    np.testing.assert_allclose(y, mean, rtol=1e-12)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    ("size", "odd"),
    # ceil(size / 2), then floor of the half of it, is the size before the pools: 8, 12, 14, 15.
    [(31, None), (34, None), (48, "stage5"), (56, "stage4"), (60, "stage3"), (225, None)],
)
def test_an_image_that_leaves_a_map_odd_is_refused(size, odd):
    if odd is None:
        assert pooled(size=size).get_layer("avg_pool").input.shape[1] == (size + 1) // 32
        return
    with pytest.raises(
        InputError, match=rf"`input_shape`: height and width must be even at {odd}_block1_pool"
    ):
        pooled(size=size)


def test_an_open_network_refuses_such_an_image_when_it_is_called():
    backbone = pooled(size=None, include_top=False)
    assert array(backbone(np.zeros((1, 64, 32, 3)))).shape == (1, 2, 1, 128)
    for shape in ((1, 50, 50, 3), (1, 32, 48, 3)):  # 3x3 maps would be added to 1x1 ones
        with pytest.raises(InputError, match="Height and width of the image can be any multiple"):
            backbone(np.zeros(shape))
    with pytest.raises(InputError, match=r"must be even at pool, .* got 4x3"):
        refuse_odd((1, 8, 4, 3), "channels_first", "pool")
    with pytest.raises(InputError, match="at least 31 pixels for seresnetaa50d, got 30x30"):
        pooled(size=30)


def test_what_exceeds_the_output_stride_is_not_pooled():
    maps = pooled(size=64, features_only=True, output_stride=8)
    assert maps.output_names == [f"stage{i}_stride{n}" for i, n in ((2, 4), (3, 8), (4, 8), (5, 8))]
    assert [tuple(x.shape[1:3]) for x in maps.outputs] == [(16, 16), (8, 8), (8, 8), (8, 8)]
    names = [layer.name for layer in maps.layers if layer.name.endswith("block1_pool")]
    assert names == ["stage3_block1_pool"]


@pytest.mark.parametrize("name", ["seresnetaa50d", "resnetrs50"])
def test_the_new_stems_and_units_go_through_all_that_takes_a_model(name, tmp_path):
    model = pooled(name, smaller=FEW)
    set_random_weights(model)
    x = np.random.default_rng(0).random((2, 32, 32, 3), "float32")
    expected = array(model(x))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        array(keras.models.load_model(tmp_path / "model.keras")(x)), expected
    )
    fast = se_keras.optimize(model, verbose=False)
    np.testing.assert_allclose(array(fast(x)), expected, atol=1e-5)
    assert {type(layer).__module__.partition(".")[0] for layer in fast.layers} == {"keras"}
    assert se_keras.count(fast).uncounted == ()
    plain = se_keras.remove_se(model)
    assert [w.shape for w in plain.weights] == [
        w.shape for w in pooled(name, smaller=FEW, se=False).weights
    ]
    assert len(se_keras.find_sites(plain).sites) == len(se_layers(model)) == 3
    inner = pooled(name, smaller=FEW, placement="conv3x3")  # SE sees what the 1x1 takes
    assert (
        inner.get_layer("stage3_block1_se").output is inner.get_layer("stage3_block1_conv3").input
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"stride_by_pool": False},
        {"stem_pool": "both"},
        {"stride_on_1x1": True},
        {"block": "preactivated_bottleneck"},
    ],
    ids=str,
)
def test_pools_that_can_not_take_the_place_of_strides_are_refused(wrong):
    with pytest.raises(InputError, match="`stride_by_pool=True`"):
        replace(find_recipe("seresnetaa50d"), **wrong)


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
