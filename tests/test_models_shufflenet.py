"""SE-ShuffleNet, against the paper's table and a NumPy network in float64."""

import importlib.util
from dataclasses import replace

import keras
import numpy as np
import pytest
from checks import (
    array,
    reference_se,
    run_python,
    se_layers,
    trainable,
    uniform,
)

import se_keras
from se_keras.models.assembly import NetworkOptions, build_network
from se_keras.models.recipes import find_recipe
from se_keras.models.shufflenet import ChannelShuffle

# arXiv 1707.01083, Table 1, g = 3: (channels, units, size of the maps at 224).
STAGES = ((240, 4, 28), (480, 8, 14), (960, 4, 7))


def units():
    """(channels in, channels of the branch's end, stage's channels, groups of the first 1x1)."""
    channels = 24
    for stage, (width, depth, _) in enumerate(STAGES):
        for unit in range(depth):
            first = unit == 0
            yield (
                channels,
                width - channels if first else width,
                width,
                1 if stage == 0 == unit else 3,
            )
            channels = width


def se_weights(channels, bias):
    hidden = channels // 16
    return 2 * channels * hidden + (channels + hidden if bias else 0)


def create(**options):
    return se_keras.create("seshufflenet", **options)


def small(**options):
    """The network with four units, for what does not depend on its size."""
    recipe = replace(find_recipe("seshufflenet"), depths=(1, 2, 1), widths=(48, 96, 192))
    return build_network(recipe, NetworkOptions(**{"ratio": 4, **options}))


def set_weights(model, seed=0):
    """Random weights that keep the maps' size from unit to unit, and no bias at zero."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            values = rng.uniform(0.5, 1.5, weight.shape)
        elif len(weight.shape) == 1:
            values = rng.uniform(-0.3, 0.3, weight.shape)
        else:
            fan_in = np.prod(weight.shape[: 2 if "depthwise" in weight.path else -1])
            values = rng.standard_normal(weight.shape) / np.sqrt(fan_in)
        weight.assign(values)


# --- counts --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shapes_only")
def test_the_parameters_are_those_of_the_table():
    plain = 27 * 24 + 2 * 24 + 960 * 1000 + 1000
    for channels, end, width, groups in units():
        narrow = width // 4
        convolutions = channels * narrow // groups + 9 * narrow + narrow * end // 3
        plain += convolutions + 2 * (2 * narrow + end)
    ends = [end for _, end, _, _ in units()]
    without_bias = plain + sum(se_weights(end, bias=False) for end in ends)
    with_bias = plain + sum(se_weights(end, bias=True) for end in ends)
    assert (plain, without_bias) == (1_865_728, 2_476_144)  # "1.8M", "2.4M" in SENet's Table 3
    assert trainable(create(se=False)) == plain
    assert trainable(create(se_options={"use_bias": False})) == without_bias
    assert trainable(create()) == with_bias == find_recipe("seshufflenet").parameters


def test_the_multiply_adds_are_those_of_the_table():
    plain = 27 * 24 * 112**2 + 960 * 1000
    sizes = [size for _, depth, size in STAGES for _ in range(depth)]
    for (channels, end, width, groups), size in zip(units(), sizes, strict=True):
        narrow = width // 4
        first_size = 2 * size if channels != width else size  # the 3x3 has the stride
        plain += channels * narrow // groups * first_size**2
        plain += (9 * narrow + narrow * end // 3) * size**2
    assert plain == pytest.approx(137e6, rel=0.005)  # arXiv 1707.01083, Table 1
    added = sum(se_weights(end, bias=False) for _, end, _, _ in units())
    assert find_recipe("seshufflenet").multiply_adds == plain + added


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    ("placement", "channels"),
    [
        ("standard", [end for _, end, _, _ in units()]),
        ("pre", [channels for channels, _, _, _ in units()]),
        ("identity", [channels for channels, _, _, _ in units()]),
        ("post", [width for _, _, width, _ in units()]),
        ("conv3x3", [width // 4 for _, _, width, _ in units()]),
    ],
)
def test_each_placement_has_its_widths(placement, channels):
    model = create(include_top=False, placement=placement)
    assert [layer.expand.units for layer in se_layers(model)] == channels
    assert [layer.reduce.units for layer in se_layers(model)] == [max(1, c // 16) for c in channels]


# --- the whole network in NumPy ------------------------------------------------------------------


class Reference:
    """The network on one image (H, W, 3), from the weights by name (arXiv 1707.01083, Fig. 2)."""

    def __init__(self, model):
        self.weights = {
            layer.name: [array(weight).astype("float64") for weight in layer.weights]
            for layer in model.layers
        }

    def norm(self, x, name):
        gamma, beta, mean, variance = self.weights[name]
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def grouped_1x1(self, x, name, groups):
        kernel = self.weights[name][0][0, 0]
        halves = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
        return np.concatenate([a @ b for a, b in halves], -1)

    def depthwise(self, x, name, stride):
        kernel = self.weights[name][0][..., 0]
        return sum(kernel[i, j] * tap for (i, j), tap in taps(x, stride))

    def stem(self, image):
        kernel = self.weights["stem_conv"][0]
        x = sum(tap @ kernel[i, j] for (i, j), tap in taps(image, 2))
        x = np.maximum(self.norm(x, "stem_norm"), 0)
        return np.max([tap for _, tap in taps(x, 2)], axis=0)

    def branch(self, x, name, stride, groups):
        x = self.grouped_1x1(x, f"{name}_conv1", groups)
        x = np.maximum(self.norm(x, f"{name}_norm1"), 0)
        shuffled = [x[..., i :: x.shape[-1] // 3] for i in range(x.shape[-1] // 3)]
        x = np.concatenate(shuffled, -1)  # the i-th channel of each group, for each i
        x = self.norm(self.depthwise(x, f"{name}_depthwise_conv", stride), f"{name}_depthwise_norm")
        x = self.norm(self.grouped_1x1(x, f"{name}_conv2", 3), f"{name}_norm2")
        return reference_se(x[None], self.weights[f"{name}_se"])[0][0]

    def maps(self, image):
        x = self.stem(image)
        for stage, (_, depth, _) in enumerate(STAGES, start=2):
            for block in range(1, depth + 1):
                name = f"stage{stage}_block{block}"
                first = block == 1
                y = self.branch(x, name, 2 if first else 1, 1 if stage == 2 and first else 3)
                if first:
                    pooled = sum(tap for _, tap in taps(x, 2)) / 9
                    x = np.maximum(np.concatenate([pooled, y], -1), 0)
                else:
                    x = np.maximum(x + y, 0)
            yield x

    def logits(self, image):
        *_, x = self.maps(image)
        kernel, bias = self.weights["predictions"]
        return x.mean((0, 1)) @ kernel + bias


def taps(x, stride):
    """The nine shifted views of a map that a 3x3 window with a pixel of padding sees."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    height, width = x.shape[:2]
    for i in range(3):
        for j in range(3):
            yield (i, j), padded[i : i + height : stride, j : j + width : stride]


@pytest.fixture(scope="module")
def model():
    """The network for unknown sizes; tests leave its weights as they are."""
    keras.utils.set_random_seed(0)
    network = create(input_shape=(None, None, 3), classifier_activation=None)
    set_weights(network)
    return network


def test_the_network_is_that_of_the_figure(model):
    x = uniform((2, 65, 98, 3)) * np.float32([1, 5]).reshape(2, 1, 1, 1)
    reference = Reference(model)
    expected = np.array([reference.logits(image) for image in x])
    logits = model.predict(x, verbose=0)
    assert np.abs(expected[0] - expected[1]).max() > 0.05 * np.abs(expected).max()
    assert np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()


def test_features_are_the_stages_outputs(model):
    features = create(input_shape=(65, 98, 3), features_only=True)
    assert features.output_names == ["stage2_stride8", "stage3_stride16", "stage4_stride32"]
    by_path = {weight.path: weight for weight in model.weights}
    for weight in features.weights:
        weight.assign(by_path[weight.path])
    x = uniform((1, 65, 98, 3))
    maps = list(Reference(model).maps(x[0]))
    for got, expected in zip(features.predict(x, verbose=0), maps, strict=True):
        assert got[0].shape == expected.shape
        assert np.abs(got[0] - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_zero_gate_in_any_se_layer_changes_the_output():
    model = small(input_shape=(64, 64, 3), include_top=False)
    set_weights(model)
    x = uniform((1, 64, 64, 3))
    before = model.predict(x, verbose=0)
    assert len(se_layers(model)) == 4
    for layer in se_layers(model):
        bias = array(layer.expand.bias)
        layer.expand.bias.assign(bias - 200.0)
        changed = model.predict(x, verbose=0)
        layer.expand.bias.assign(bias)
        assert np.abs(changed - before).max() > 1e-2 * np.abs(before).max(), layer.name


# --- options -------------------------------------------------------------------------------------


def test_a_dilated_network_gives_the_same_pixels_and_those_between():
    options = {"se": False, "ratio": None, "include_top": False, "input_shape": (96, 65, 3)}
    strided, dilated = small(**options), small(**options, output_stride=16)
    assert (strided.output_shape[1:3], dilated.output_shape[1:3]) == ((3, 3), (6, 5))
    set_weights(strided)
    dilated.set_weights(strided.get_weights())
    x = uniform((1, 96, 65, 3))
    expected = strided.predict(x, verbose=0)
    got = dilated.predict(x, verbose=0)[:, ::2, ::2]
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.usefixtures("shapes_only")
def test_stochastic_depth_grows_over_the_units():
    model = small(include_top=False, drop_path_rate=0.3)
    rates = [layer.rate for layer in model.layers if layer.name.endswith("drop_path")]
    assert rates == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.usefixtures("shapes_only")
def test_the_named_stages_alone_carry_se():
    names = {layer.name[:6] for layer in se_layers(small(include_top=False, se_stages=(2, 4)))}
    assert names == {"stage2", "stage4"}


# --- what a user does with it --------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_model():
    keras.utils.set_random_seed(0)
    network = small(input_shape=(None, None, 3), classes=7)
    set_weights(network)
    return network


@pytest.mark.slow
def test_it_learns_and_every_weight_is_reached():
    model = small(classes=3, input_shape=(64, 64, 1), ratio=1)
    before = {weight.path: array(weight) for weight in model.trainable_weights}
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(uniform((4, 64, 64, 1)), np.array([0, 1, 2, 0]), batch_size=4, verbose=0)
    after = {weight.path: array(weight) for weight in model.trainable_weights}
    assert [path for path, old in before.items() if (after[path] == old).all()] == []


def test_a_saved_network_is_the_same(small_model, tmp_path):
    small_model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = uniform((1, 40, 71, 3))
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), small_model.predict(x, verbose=0))


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel of TensorFlow")
def test_an_export_for_unknown_sizes_serves_the_same(small_model, tmp_path):
    small_model.export(tmp_path / "exported", verbose=False)
    x = uniform((2, 40, 71, 3))
    served = keras.layers.TFSMLayer(tmp_path / "exported", call_endpoint="serve")(x)
    np.testing.assert_allclose(served, small_model.predict(x, verbose=0), rtol=1e-4, atol=1e-6)


CHANNELS_FIRST = """
from test_models_shufflenet import *
last = small(input_shape=(40, 33, 3), classes=7)
first = small(input_shape=(3, 40, 33), classes=7, data_format="channels_first")
set_weights(last)
first.set_weights(last.get_weights())
x = uniform((2, 40, 33, 3))
expected = last.predict(x, verbose=0)
assert np.abs(expected[0] - expected[1]).max() > 1e-3
np.testing.assert_allclose(first.predict(x.transpose(0, 3, 1, 2), verbose=0), expected,
                           rtol=1e-3, atol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_channels_first_computes_the_same_with_the_same_weights(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    run_python(CHANNELS_FIRST, backend=backend)


# --- the channel shuffle -------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_the_shuffle_takes_a_channel_of_each_group_in_turn(groups):
    x = uniform((2, 3, 5, 6))
    per_group = 6 // groups
    order = [group * per_group + i for i in range(per_group) for group in range(groups)]
    last = ChannelShuffle(groups, data_format="channels_last")
    np.testing.assert_array_equal(array(last(x)), x[..., order])
    first = ChannelShuffle(groups, data_format="channels_first")
    x = uniform((2, 6, 3, 5))
    np.testing.assert_array_equal(array(first(x)), x[:, order])


def test_the_shuffle_takes_unknown_sizes_and_is_restored_from_its_config():
    x = keras.Input((None, None, 12))
    layer = ChannelShuffle(3, data_format="channels_last", name="shuffle")
    model = keras.Model(x, layer(x))
    assert model.output_shape == (None, None, None, 12)
    again = keras.Model.from_config(model.get_config())
    assert again.get_layer("shuffle").get_config() == layer.get_config()
    values = uniform((1, 4, 3, 12))
    np.testing.assert_array_equal(again.predict(values, verbose=0), array(layer(values)))


@pytest.mark.parametrize("groups", [0, -1, 2.0, "3", None, True])
def test_a_bad_number_of_groups_is_refused(groups):
    with pytest.raises(ValueError, match="`groups` must be a positive integer, got"):
        ChannelShuffle(groups)


@pytest.mark.parametrize("shape", [(4, 4, 10), (4, 4, None)])
def test_channels_that_the_groups_do_not_divide_are_refused(shape):
    with pytest.raises(ValueError, match="`groups=3` must divide the number of channels"):
        ChannelShuffle(3, data_format="channels_last")(keras.Input(shape))
