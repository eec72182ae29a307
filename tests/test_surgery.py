"""surgery: find the sites of networks drawn by hand; compare models before and after insertion."""

import copy
import pickle
import re

import keras
import numpy as np
import pytest
from checks import array, se_layers, set_random_weights, uniform
from keras import layers

import se_keras
from se_keras import SqueezeExcite, create, find_sites, insert_se, remove_se
from se_keras.cli import main
from se_keras.graph import trace


@keras.saving.register_keras_serializable(package="test_surgery")
class DropPath(layers.Layer):
    """Stochastic depth as users write it; it never drops here."""

    def call(self, x):
        return x * 1.0


@keras.saving.register_keras_serializable(package="test_surgery")
class LayerScale(layers.Layer):
    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")

    def call(self, x):
        return x * self.gamma


@keras.saving.register_keras_serializable(package="test_surgery")
class ConvBlock(layers.Layer):
    """A custom layer with a block inside, which the graph does not show."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv")
        self.filters = filters

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, x):
        return self.conv(x)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="test_surgery")
class InvertedUnit(layers.Layer):
    """MobileNet's unit with its addition in one layer, as in KerasHub."""

    def __init__(self, filters, squeezed=0, strides_inside=1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.squeezed, self.strides_inside = filters, squeezed, strides_inside
        self.expand = layers.Conv2D(2 * filters, 1)
        self.depthwise = layers.DepthwiseConv2D(3, strides=strides_inside, padding="same")
        if squeezed:
            self.reduce = layers.Conv2D(squeezed, 1, activation="relu")
            self.excite = layers.Conv2D(2 * filters, 1, activation="sigmoid")
        self.project = layers.Conv2D(filters, 1)

    def call(self, x):
        y = keras.ops.relu(self.depthwise(self.expand(x)))
        if self.squeezed:
            y = y * self.excite(self.reduce(keras.ops.mean(y, axis=(1, 2), keepdims=True)))
        y = self.project(y)
        return x + y if x.shape == y.shape else y

    def get_config(self):
        own = {name: getattr(self, name) for name in ("filters", "squeezed", "strides_inside")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="test_surgery")
class Encoder(layers.Layer):
    """Two convolutions with one output each, as in KerasHub's HGNetV2."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Conv2D(8, 3), layers.Conv2D(8, 3)

    def call(self, x):
        x = self.first(x)
        return x, self.second(x)


@keras.saving.register_keras_serializable(package="test_surgery")
class Subclassed(keras.Model):
    def call(self, x):
        return x


# --- networks as users write them ----------------------------------------------------------------


def conv(x, filters, kernel=3, name=None, **options):
    return layers.Conv2D(filters, kernel, padding="same", name=name, **options)(x)


def relu(x, name=None):
    return layers.ReLU(name=name)(x)


def classified(inputs, x):
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x), name="network")


def two_units():
    """Two units after a stem: one with a projection and a stride, one with the identity."""
    image = keras.Input((16, 16, 3), name="image")
    x = relu(conv(image, 8, name="stem"), "stem_relu")
    y = relu(conv(x, 16, name="a1", strides=2), "a1_relu")
    y = layers.BatchNormalization(name="a2_bn")(conv(y, 16, name="a2"))
    shortcut = conv(x, 16, 1, name="a_shortcut", strides=2)
    x = relu(layers.Add(name="a_add")([shortcut, y]), "a_out")
    y = relu(conv(x, 16, name="b1"), "b1_relu")
    y = layers.BatchNormalization(name="b2_bn")(conv(y, 16, name="b2"))
    y = DropPath(name="b_drop")(LayerScale(name="b_scale")(y))
    return classified(image, relu(layers.Add(name="b_add")([y, x]), "b_out"))


def inception():
    """A module with a fork inside, as in the last one of Inception-v3; then a reduction."""
    image = keras.Input((16, 16, 3), name="image")
    x = relu(conv(image, 8, name="stem"))
    fork = conv(x, 8, 1, name="fork")
    inner = [conv(fork, 4, (1, 3)), conv(fork, 4, (3, 1))]
    inner = layers.Concatenate(name="inner")(inner)
    pooled = conv(layers.AveragePooling2D(3, 1, "same")(x), 4, 1)
    x = layers.Concatenate(name="mixed1")([conv(x, 8, 1), inner, pooled])
    reduced = [conv(x, 8, strides=2), conv(conv(x, 8), 8, strides=2), layers.MaxPooling2D(2)(x)]
    return classified(image, layers.Concatenate(name="mixed2")(reduced))


def flat_inception():
    """The first module again, with all branches of its fork in one concatenation."""
    image = keras.Input((16, 16, 3), name="image")
    x = relu(conv(image, 8, name="stem"))
    fork = relu(conv(x, 8, 1, name="fork"))
    pooled = conv(layers.AveragePooling2D(3, 1, "same")(x), 4, 1)
    branches = [conv(x, 8, 1), conv(fork, 4, (1, 3)), conv(fork, 4, (3, 1)), pooled]
    return classified(image, layers.Concatenate(name="mixed")(branches))


def inception_resnet():
    image = keras.Input((8, 8, 8), name="image")
    x = image
    for number in (1, 2):
        mixed = layers.Concatenate(name=f"mixed{number}")([conv(x, 4, 1), conv(conv(x, 4, 1), 4)])
        up = layers.Rescaling(0.2, name=f"scale{number}")(conv(mixed, 8, 1, name=f"up{number}"))
        x = relu(x + up)
    return classified(image, x)


def densenet():
    """Two blocks of two layers, as `keras.applications` writes them."""
    image = keras.Input((16, 16, 3), name="image")
    x = conv(image, 8, name="stem")
    for block in (1, 2):
        for layer in (1, 2):
            new = conv(relu(conv(relu(x), 8, 1)), 4)
            x = layers.Concatenate(name=f"concat{block}{layer}")([x, new])
        if block == 1:
            x = layers.AveragePooling2D(2, name="transition")(conv(relu(x), 8, 1))
    return classified(image, x)


def densenet_of_lists():
    """The same, but each layer takes the list of all maps before it."""
    image = keras.Input((16, 16, 3), name="image")
    x = conv(image, 8, name="stem")
    for block in (1, 2):
        maps = [x]
        for layer in (1, 2):
            x = maps[0] if layer == 1 else layers.Concatenate(name=f"concat{block}1")(maps)
            maps.append(conv(relu(x), 4))
        x = layers.Concatenate(name=f"concat{block}2")(maps)
        if block == 1:
            x = layers.AveragePooling2D(2, name="transition")(conv(relu(x), 8, 1))
    return classified(image, x)


def cross_stage():
    """CSPNet: half of the channels pass residual units."""
    image = keras.Input((8, 8, 3), name="image")
    kept, x = keras.ops.split(conv(image, 16, name="stem"), 2, axis=-1)
    for number in (1, 2):
        x = x + conv(relu(conv(x, 4, 1)), 8, name=f"unit{number}")
    x = layers.Concatenate(name="stage")([kept, conv(x, 8, 1)])
    return classified(image, x)


def long_skip():
    """EDSR: units between the ends of a skip, no activation after the additions."""
    image = keras.Input((8, 8, 3), name="image")
    head = x = conv(image, 8, name="head")
    for number in (1, 2):
        x = layers.Add()([x, conv(relu(conv(x, 8)), 8, name=f"unit{number}")])
    x = layers.Add(name="long")([head, conv(x, 8, name="body")])
    return keras.Model(image, conv(x, 3, name="image_out"))


def u_net():
    image = keras.Input((16, 16, 1), name="image")
    skip1 = conv(image, 4, name="down1", activation="relu")
    skip2 = conv(layers.MaxPooling2D(2)(skip1), 8, name="down2", activation="relu")
    x = conv(layers.MaxPooling2D(2)(skip2), 8, name="middle", activation="relu")
    x = layers.Conv2DTranspose(8, 2, strides=2, name="up2")(x)
    x = conv(layers.concatenate([x, skip2]), 8, name="merge2", activation="relu")
    x = layers.UpSampling2D()(x)
    x = conv(layers.concatenate([x, skip1]), 4, name="merge1", activation="relu")
    return keras.Model(image, conv(x, 1, 1, name="mask", activation="sigmoid"))


def attention_u_net():
    """A skip times a gate from a lower resolution (arXiv 1804.03999, Fig. 2), which is no map."""
    image = keras.Input((16, 16, 1), name="image")
    skip = conv(image, 4, name="down", activation="relu")
    below = conv(layers.MaxPooling2D(2)(skip), 8, name="middle", activation="relu")
    up = conv(layers.UpSampling2D()(below), 4, name="up", activation="relu")
    gate = relu(layers.Add()([conv(skip, 2, 1), conv(up, 2, 1)]))
    skip = layers.Multiply()([skip, conv(gate, 1, 1, name="gate", activation="sigmoid")])
    x = conv(layers.Concatenate()([skip, up]), 4, name="merge", activation="relu")
    return keras.Model(image, conv(x, 2, 1, name="mask", activation="softmax"))


def link_net():
    """A U-Net that adds its skip: no residual unit, though both sides start together."""
    image = keras.Input((16, 16, 3), name="image")
    x = relu(conv(image, 8, name="down"), "down_relu")
    y = relu(conv(x, 8, name="middle", strides=2), "middle_relu")
    y = layers.Conv2DTranspose(8, 2, strides=2, activation="relu", name="up")(y)
    return classified(image, layers.Add(name="add")([x, y]))


def cells():
    """NASNet: a cell adds up pairs of branches from two maps; 1x1 alone adjust what came before."""
    image = keras.Input((16, 16, 3), name="image")
    before = relu(conv(image, 8, name="stem", strides=2))
    pools = [layers.AveragePooling2D(1, 2)(image), layers.MaxPooling2D(2)(image)]
    adjusted = layers.Concatenate(name="adjust")([conv(pool, 4, 1) for pool in pools])
    adjusted = layers.BatchNormalization()(adjusted)
    pairs = [
        layers.Add()([conv(before, 8), conv(adjusted, 8, 5)]),
        layers.Add()([layers.AveragePooling2D(3, 1, "same")(before), adjusted]),
        layers.Add()([conv(before, 8), before]),
    ]
    return classified(image, layers.Concatenate(name="cell")([adjusted, *pairs]))


def feature_pyramid():
    """Lateral and top-down maps are added; that is no residual unit."""
    image = keras.Input((16, 16, 3), name="image")
    c2 = relu(conv(image, 8, name="c2"), "c2_relu")
    c3 = relu(conv(c2, 16, name="c3", strides=2), "c3_relu")
    p3 = conv(c3, 8, 1, name="p3")
    p2 = layers.Add()([layers.UpSampling2D()(p3), conv(c2, 8, 1, name="lateral")])
    return keras.Model(image, [conv(p2, 8, name="p2_out"), conv(p3, 8, name="p3_out")])


def audio():
    return keras.Sequential(
        [
            keras.Input((64, 2), name="wave"),
            layers.Conv1D(8, 5, strides=2, activation="relu", name="conv1"),
            layers.Conv1D(16, 3, name="conv2"),
            layers.BatchNormalization(name="norm2"),
            layers.LeakyReLU(name="act2"),
            layers.Dropout(0.2, name="drop"),
            layers.GlobalAveragePooling1D(name="pool"),
            layers.Dense(3, name="logits"),
        ],
        name="audio",
    )


def pooled_first():
    """A pool between a convolution and its ReLU, which is cheaper there and computes the same."""
    x = image = keras.Input((16, 16, 3), name="image")
    for number in (1, 2):
        x = layers.BatchNormalization()(conv(x, 8, name=f"conv{number}"))
        x = relu(layers.MaxPooling2D(2)(x), f"relu{number}")
    return keras.Model(image, layers.Dense(3, name="logits")(layers.Flatten()(x)))


def volume():
    x = voxels = keras.Input((8, 8, 8, 1), name="voxels")
    for number in (1, 2):
        x = layers.Conv3D(4 * number, 3, padding="same", name=f"conv{number}")(x)
        x = keras.activations.silu(x)
    return keras.Model(voxels, layers.GlobalMaxPooling3D()(x))


def separable():
    x = image = keras.Input((16, 16, 3), name="image")
    x = relu(conv(x, 8, name="stem"))
    x = relu(layers.DepthwiseConv2D(3, padding="same", name="dw")(x), "dw_relu")
    x = relu(layers.BatchNormalization()(conv(x, 16, 1, name="pw")), "pw_relu")
    x = layers.BatchNormalization(name="linear_bn")(layers.SeparableConv2D(8, 3)(x))
    return classified(image, x)


def two_inputs():
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 1), name="b")
    maps = [conv(a, 8, name="conv_a", activation="relu"), conv(b, 8, name="conv_b")]
    x = layers.Concatenate(name="joined")([maps[0], relu(maps[1], "relu_b")])
    return keras.Model([a, b], conv(x, 4, name="conv_ab", activation="relu"))


def shared_backbone():
    left, right = keras.Input((16, 16, 3), name="left"), keras.Input((16, 16, 3), name="right")
    backbone = two_units()
    return keras.Model([left, right], layers.Subtract()([backbone(left), backbone(right)]))


def shared_layers():
    """One convolution for two inputs, each with its activation; and one ReLU for different maps."""
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    shared, act = layers.Conv2D(8, 3, name="shared"), layers.ReLU(name="act")
    x = layers.Subtract()([relu(shared(a), "relu_a"), relu(shared(b), "relu_b")])
    x = act(conv(act(conv(x, 12, name="c")), 12, name="d"))
    return keras.Model([a, b], x)


def mixed_precision():
    policy = "mixed_float16"
    image = keras.Input((8, 8, 3), name="image")
    x = conv(image, 8, name="conv", dtype=policy)
    x = layers.ReLU(name="relu", dtype=policy)(layers.BatchNormalization(dtype=policy)(x))
    x = layers.GlobalAveragePooling2D(dtype=policy)(x)
    return keras.Model(image, layers.Dense(3, dtype="float32")(x))


def with_own_layers():
    return keras.Sequential(
        [keras.Input((8, 8, 3)), ConvBlock(8, name="block1"), ConvBlock(8, name="block2")]
    )


def hidden_units():
    """MobileNet with a custom layer for each unit; stem and head are stock layers."""
    image = keras.Input((16, 16, 3), name="image")
    x = relu(conv(image, 8, name="stem"))
    x = InvertedUnit(8, name="unit1")(x)
    x = InvertedUnit(16, name="unit2", strides_inside=2)(x)
    x = ConvBlock(16, name="unit3")(x)
    return classified(image, relu(conv(x, 32, 1, name="head")))


def chain_with_attention():
    """A single custom layer with several convolutions does not hide the units of a network."""
    x = image = keras.Input((8, 8, 3), name="image")
    for number in (1, 2, 3, 4):
        x = conv(x, 8, name=f"conv{number}", activation="relu")
    return classified(image, InvertedUnit(8, name="attention")(x))


def several_maps():
    x = image = keras.Input((8, 8, 3), name="image")
    x = conv(x, 8, name="stem", activation="relu")
    small, smaller = Encoder(name="encoder")(x)
    outputs = {"small": small, "smaller": relu(conv(smaller, 8, name="last"), "last_relu")}
    return keras.Model(image, outputs)


def nested_units():
    """The branch of a unit is a model."""
    image = keras.Input((8, 8, 8), name="image")
    chain = [keras.Input((8, 8, 8)), layers.Conv2D(8, 3, padding="same"), layers.ReLU()]
    branch = keras.Sequential([*chain, layers.Conv2D(8, 1)], name="branch")
    return classified(image, layers.Add(name="add")([branch(image), image]))


def shuffle():
    """ShuffleNet: a share of the channels passes, or is pooled, beside the branch."""
    image = keras.Input((16, 16, 8), name="image")
    kept, x = image[..., :4], image[..., 4:]
    x = layers.Concatenate()([kept, relu(conv(conv(x, 4, 1), 4, name="c1"), "branch1")])
    down = conv(conv(x, 8, 1), 8, name="branch2", strides=2)
    return classified(image, layers.Concatenate()([layers.AveragePooling2D(2)(x), down]))


# name of the network -> where SE goes in it, as its paper (or its scheme above) says
SITES = {
    two_units: ["a2_bn", "b2_bn"],
    inception: ["mixed1", "mixed2"],
    flat_inception: ["mixed"],
    inception_resnet: ["up1", "up2"],
    densenet: ["concat12", "transition", "concat22"],
    densenet_of_lists: ["concat12", "transition", "concat22"],
    cross_stage: ["unit1", "unit2"],
    long_skip: ["unit1", "unit2"],
    u_net: ["down1", "down2", "middle", "merge2", "merge1"],
    attention_u_net: ["down", "middle", "up", "merge"],
    link_net: ["down_relu", "middle_relu", "up"],
    cells: ["cell"],
    feature_pyramid: ["c2_relu", "c3_relu"],
    audio: ["conv1", "act2"],
    pooled_first: ["relu1", "relu2"],
    volume: ["silu", "silu_1"],
    separable: ["pw_relu", "linear_bn"],
    two_inputs: ["conv_a", "relu_b", "conv_ab"],
    shared_backbone: ["network/a2_bn", "network/b2_bn"],
    shared_layers: ["relu_a", "relu_b", "act", "act#2"],
    mixed_precision: ["relu"],
    with_own_layers: ["block1", "block2"],
    hidden_units: ["unit1", "unit2", "unit3"],
    chain_with_attention: ["conv1", "conv2", "conv3", "conv4", "attention"],
    several_maps: ["stem", "last_relu"],
    nested_units: ["branch"],
    shuffle: ["branch1", "branch2"],
}
by_name = pytest.mark.parametrize("network", SITES, ids=lambda network: network.__name__)


def inputs_of(model, seed=1):
    given = [uniform((2, *tensor.shape[1:]), seed + n) for n, tensor in enumerate(model.inputs)]
    return given if len(given) > 1 else given[0]


def outputs(model, x):
    return [array(tensor) for tensor in keras.tree.flatten(model(x))]


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def after(plan):
    return [site.after for site in plan.sites]


def se_by_name(model):
    """Return the SE layers of a model and of its nested models, by name."""
    return {layer.name: layer for layer in se_layers(model)}


# --- where ---------------------------------------------------------------------------------------


@by_name
def test_auto_finds_what_the_structure_says(network):
    assert after(find_sites(network())) == SITES[network]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("residual", ["a2_bn", "b2_bn"]),
        ("conv", ["stem_relu", "a1_relu", "b1_relu"]),
        (r"[ab]1_relu", ["a1_relu", "b1_relu"]),
        (["b_out", "stem"], ["stem", "b_out"]),
        (lambda layer: isinstance(layer, layers.ReLU) and layer.name.endswith("out"), None),
    ],
)
def test_where_chooses_the_sites(where, expected):
    assert after(find_sites(two_units(), where)) == (expected or ["a_out", "b_out"])


def test_names_reach_into_nested_models():
    model = shared_backbone()
    for where in (["network/a_out"], ["a_out"], "network/a_o.*", "a_out"):
        assert after(find_sites(model, where)) == ["network/a_out"]


def fed_by(model, name):
    """Return the layers whose outputs a layer takes."""
    graph = se_keras.graph.trace(model)
    return [graph.producer(tensor).name for tensor in graph.find(name).inputs]


@pytest.mark.parametrize(
    ("placement", "edges"),
    [
        ("standard", {"a_add": ["a_shortcut", "a2_bn_se"], "b_scale": ["b2_bn_se"]}),
        (
            "pre",
            {"a1": ["stem_relu_se"], "a_shortcut": ["stem_relu"], "b_add": ["b_drop", "a_out"]},
        ),
        ("post", {"b1": ["a_out_se"], "b_add": ["b_drop", "a_out_se"], "pool": ["b_out_se"]}),
        (
            "identity",
            {"a_add": ["a_shortcut_se", "a2_bn"], "b_add": ["b_drop", "a_out_se"], "b1": ["a_out"]},
        ),
    ],
)
def test_placements_put_se_where_fig_5_has_it(placement, edges):
    model = insert_se(two_units(), placement=placement)
    assert {name: fed_by(model, name) for name in edges} == edges
    assert len(se_by_name(model)) == 2


def test_stages_are_powers_of_the_stride():
    plan = find_sites(keras.applications.VGG16(weights=None, include_top=False))
    assert [site.stage for site in plan.sites] == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    # A nested model counts on, and an upsampling counts back.
    assert {s.stage for s in find_sites(u_net()).sites} == {0, 1, 2}
    image = keras.Input((32, 32, 3))
    outer = keras.Model(image, two_units()(conv(image, 3, strides=2)[:, :, :, :]))
    assert [site.stage for site in find_sites(outer).sites] == [2, 2]
    inner = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(3, 3, strides=2)])
    behind = keras.Model(image, conv(inner(image), 4, name="behind", activation="relu"))
    assert [site.stage for site in find_sites(behind).sites] == [1]
    # The sizes tell the stride that a layer of the user's keeps to itself.
    assert [site.stage for site in find_sites(hidden_units()).sites] == [0, 1, 1]


def test_sites_of_some_stages_only():
    model = u_net()
    assert after(find_sites(model, stages=[0])) == ["down1", "merge1"]
    assert after(find_sites(model, skip_last_stage=True)) == ["down1", "down2", "merge2", "merge1"]
    assert after(find_sites(model, stages=[1, 2], skip_last_stage=True)) == ["down2", "merge2"]
    assert list(se_by_name(insert_se(model, stages=[2]))) == ["middle_se"]


def test_the_plan_is_a_table():
    table = str(find_sites(two_units(), ratio=4)).splitlines()
    assert table[0].split() == ["after", "channels", "SE", "width", "parameters", "stage", "why"]
    assert table[1].split()[:5] == ["a2_bn", "16", "4", "148", "1"]  # 2 * 16 * 4 + 16 + 4
    assert table[-1].split() == ["total", "296", "2", "sites"]


def test_the_plan_says_what_is_inserted():
    for options in ({}, {"ratio": 2, "use_bias": False}, {"reduced_channels": 3}, {"divisor": 8}):
        model = two_units()
        plan, new = find_sites(model, **options), insert_se(model, **options)
        assert new.count_params() - model.count_params() == plan.parameters
        widths = [layer.reduce.units for layer in se_by_name(new).values()]
        assert widths == [site.reduced_channels for site in plan.sites]


# --- what is there already -----------------------------------------------------------------------


def hand_written_se(x, name):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(2, 1, activation="relu")(gate)
    gate = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)
    return layers.Multiply(name=name)([x, gate])


@keras.saving.register_keras_serializable(package="test_surgery")
class OwnSE(layers.Layer):
    def build(self, input_shape):
        channels = input_shape[-1]
        self.w1 = self.add_weight(shape=(channels, 2), name="w1")
        self.w2 = self.add_weight(shape=(2, channels), name="w2")

    def call(self, x):
        z = keras.ops.mean(x, axis=(1, 2), keepdims=True)
        return x * keras.ops.sigmoid(keras.ops.relu(z @ self.w1) @ self.w2)


EXISTING = {
    "ours": lambda x: SqueezeExcite(4)(x),
    "hand-written": lambda x: hand_written_se(x, "se_multiply"),
    "a layer": lambda x: OwnSE()(x),
}


@pytest.mark.parametrize("existing", EXISTING.values(), ids=EXISTING)
@pytest.mark.parametrize("place", ["residual", "conv"])
def test_existing_se_is_seen_and_refused(existing, place):
    image = keras.Input((8, 8, 8), name="image")
    x = existing(relu(conv(image, 8, name="conv"), "relu"))
    x = layers.Add(name="add")([x, image]) if place == "residual" else x
    model = classified(image, x)
    plan = find_sites(model)
    assert [site.has_se for site in plan.sites] == [True]
    assert "has SE already" in str(plan)
    with pytest.raises(ValueError, match="has squeeze-and-excitation at 1 of 1 sites already"):
        insert_se(model)
    x = inputs_of(model)
    assert_same(outputs(insert_se(model, force=True), x), outputs(model, x))


def test_existing_se_inside_units_is_seen():
    """In a layer that hides the unit, and in a nested branch; but not in the next unit."""
    image = keras.Input((8, 8, 8), name="image")
    x = relu(conv(image, 8, name="stem"), "stem_relu")
    x = InvertedUnit(8, name="plain")(x)
    model = classified(image, InvertedUnit(8, squeezed=4, name="squeezed")(x))
    seen = {site.after: site.has_se for site in find_sites(model).sites}
    assert seen == {"plain": False, "squeezed": True}
    branch = keras.Sequential([keras.Input((8, 8, 8)), layers.Conv2D(8, 3, padding="same")])
    for option, expected in (([SqueezeExcite(4)], True), ([], False)):
        inside = keras.Sequential([*branch.layers, *option, layers.Conv2D(8, 1)], name="branch")
        model = classified(image, layers.Add()([inside(image), image]))
        assert [site.has_se for site in find_sites(model).sites] == [expected]


@keras.saving.register_keras_serializable(package="test_surgery")
class ConvolvedSE(OwnSE):
    """SE of 1x1 convolutions in a custom layer."""

    def build(self, input_shape):
        channels = input_shape[-1]
        self.w1 = self.add_weight(shape=(1, 1, channels, 2), name="w1")
        self.w2 = self.add_weight(shape=(1, 1, 2, channels), name="w2")

    def call(self, x):
        z = keras.ops.mean(x, axis=(1, 2), keepdims=True)
        z = keras.ops.relu(keras.ops.conv(z, self.w1))
        return x * keras.ops.sigmoid(keras.ops.conv(z, self.w2))


def test_existing_se_is_no_convolution_of_its_own():
    image = keras.Input((8, 8, 8), name="image")
    x = ConvolvedSE(name="se")(relu(conv(image, 8, name="conv"), "relu"))
    sites = find_sites(classified(image, x), "conv").sites
    assert [(site.after, site.has_se) for site in sites] == [("relu", True)]


def test_a_second_insertion_is_refused():
    for placement in ("standard", "pre", "post", "identity"):
        once = insert_se(two_units(), placement=placement)
        for again in ("standard", placement):
            with pytest.raises(ValueError, match="already"):
                insert_se(once, placement=again)


def test_other_products_are_no_se():
    """A swish in single operations, and a spatial attention."""
    image = keras.Input((8, 8, 8), name="image")
    x = conv(image, 8, name="conv")
    x = layers.Multiply(name="swish")([x, layers.Activation("sigmoid")(x)])
    x = conv(x, 8, name="conv2")
    attended = x * conv(x, 1, 7, activation="sigmoid")
    model = classified(image, layers.Add(name="add")([attended, image]))
    plan = find_sites(model, "conv")
    assert [(site.after, site.has_se) for site in plan.sites] == [("swish", False)]
    assert [site.has_se for site in find_sites(model).sites] == [False]


# --- the new model -------------------------------------------------------------------------------


@by_name
def test_a_warm_start_changes_no_bit_and_learns(network):
    model = network()
    set_random_weights(model)
    x = inputs_of(model)
    expected, weights = outputs(model, x), model.get_weights()
    config = model.get_config() if network is not volume else None  # operations have none
    new = insert_se(model, ratio=2)
    assert_same(outputs(new, x), expected)
    # The original is what it was.
    assert_same(model.get_weights(), weights)
    assert_same(outputs(model, x), expected)
    assert config is None or model.get_config() == config
    assert not {id(w) for w in model.weights} & {id(w) for w in new.weights}
    # All that it had is in the new one; the gates are open; a step of training moves them.
    assert all(np.all(array(se.expand.kernel) == 0) for se in se_by_name(new).values())
    targets = [np.ones_like(y) for y in expected]
    new.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    new.train_on_batch(x, targets if len(targets) > 1 else targets[0])
    for se in se_by_name(new).values():
        assert np.any(array(se.expand.bias) != 0), se.name


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
def test_a_warm_start_with_other_gates(gate):
    model = two_units()
    x = inputs_of(model)
    new = insert_se(model, gate_activation=gate, use_bias=False, pool="max")
    assert_same(outputs(new, x), outputs(model, x))
    assert {se.gate_scale for se in se_by_name(new).values()} == {2.0}
    new.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    new.train_on_batch(x, np.ones((2, 3)))
    for se in se_by_name(new).values():
        assert np.any(array(se.expand.kernel) != 0), se.name


def test_a_cold_start_is_the_papers_initialization():
    new = insert_se(two_units(), warm_start=False, gate_activation="tanh")
    for se in se_by_name(new).values():
        assert se.gate_scale == 1.0
        assert np.any(array(se.expand.kernel) != 0)


def test_everything_else_is_carried_over():
    model = shared_backbone()
    backbone = model.get_layer("network")
    backbone.get_layer("a1").trainable = False
    new = insert_se(model)
    copy = new.get_layer("network")
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    names = [layer.name for layer in copy.layers if not isinstance(layer, SqueezeExcite)]
    assert set(names) == {layer.name for layer in backbone.layers}
    assert not copy.get_layer("a1").trainable
    assert list(se_by_name(new)) == ["a2_bn_se", "b2_bn_se"]
    assert all(se.trainable for se in se_by_name(new).values())
    assert fed_by(new, "subtract") == ["network", "network#2"]


def test_a_sequential_model_stays_one():
    new = insert_se(audio())
    assert type(new) is keras.Sequential
    names = [layer.name for layer in new.layers]
    assert names[:2] == ["conv1", "conv1_se"]
    assert names[4:7] == ["act2", "act2_se", "drop"]


def with_preprocessing():
    """A model that begins with preprocessing steps, some of them for training only."""
    image = keras.Input((16, 16, 3), name="image")
    x = layers.RandomFlip("horizontal", name="flip")(image)
    x = layers.Normalization(name="normalization")(x)
    x = layers.Resizing(8, 8, name="smaller")(layers.Rescaling(0.5, name="scale")(x))
    x = relu(conv(x, 8, name="conv"), "relu")
    model = classified(image, layers.Dropout(0.5, name="drop")(x))
    model.get_layer("normalization").adapt(uniform((8, 16, 16, 3)))
    return model


@pytest.mark.parametrize(
    "network",
    [
        audio,
        two_inputs,
        shared_backbone,
        shared_layers,
        mixed_precision,
        with_own_layers,
        with_preprocessing,
    ],
)
def test_removing_gives_the_model_back(network):
    model = network()
    if network is not with_preprocessing:  # its statistics are what they are
        set_random_weights(model)
    x = inputs_of(model)
    new = insert_se(model, ratio=2)
    assert_same(outputs(new, x), outputs(model, x))
    back = remove_se(new)
    assert back.get_config() == model.get_config()
    assert [weight.path for weight in back.weights] == [weight.path for weight in model.weights]
    assert_same(back.get_weights(), model.get_weights())
    assert_same(outputs(back, x), outputs(model, x))


def test_what_is_shared_shares_its_se():
    model = shared_layers()
    plan, new = find_sites(model), insert_se(model)
    assert list(se_by_name(new)) == ["relu_a_se", "act_se", "act_se2"]
    calls = [fed_by(new, name) for name in ("relu_a_se", "relu_a_se#2", "act_se", "act_se2")]
    assert calls == [["relu_a"], ["relu_b"], ["act"], ["act#2"]]
    assert [site.parameters == 0 for site in plan.sites] == [False, True, False, False]
    assert new.count_params() - model.count_params() == plan.parameters


def test_policies_follow_the_map():
    (se,) = se_by_name(insert_se(mixed_precision())).values()
    assert se.dtype_policy.name == "mixed_float16"
    assert se.expand.kernel.dtype == "float32"
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu", dtype="float64")]
    )
    (se,) = se_by_name(insert_se(model)).values()
    assert se.compute_dtype == "float64"


def test_data_format_follows_the_map():
    image = keras.Input((4, 8, 6), name="image")  # 4 channels, and 6 columns
    x = layers.ReLU(name="relu")(layers.Conv2D(12, 1, data_format="channels_first")(image))
    model = keras.Model(image, x)
    assert [site.channels for site in find_sites(model).sites] == [12]
    (se,) = se_by_name(insert_se(model)).values()
    assert se.data_format == "channels_first"


def test_se_goes_into_models_of_open_sizes():
    image = keras.Input((None, None, 3), name="image")
    model = keras.Model(image, relu(conv(image, 8, strides=2), "relu"))
    x = uniform((1, 9, 7, 3))
    assert_same(outputs(insert_se(model), x), outputs(model, x))
    assert find_sites(model).sites[0].stage == 1


# --- against our own builders --------------------------------------------------------------------

SMALL = {"input_shape": (32, 32, 3), "classes": 3}


def assert_same_network(twin, built, **options):
    """Check that the twin with inserted SE equals the SE network of the builder, bit for bit."""
    set_random_weights(built)
    kept = remove_se(built)
    twin.set_weights(kept.get_weights())
    assert [layer.name for layer in kept.layers] == [layer.name for layer in twin.layers]
    assert kept.get_config() == twin.get_config()
    inserted = insert_se(twin, warm_start=False, **options)
    ours, theirs = se_by_name(inserted), se_by_name(built)
    for mine, other in zip(ours.values(), theirs.values(), strict=True):
        mine.set_weights(other.get_weights())
    x = inputs_of(built)
    assert_same(outputs(inserted, x), outputs(built, x))
    back = remove_se(inserted)
    assert back.get_config() == twin.get_config()
    assert_same(back.get_weights(), twin.get_weights())


@pytest.mark.parametrize("placement", ["standard", "pre", "post", "identity"])
def test_seresnet20_from_its_twin(placement):
    built = create("seresnet20", placement=placement, **SMALL)
    assert_same_network(create("seresnet20", se=False, **SMALL), built, placement=placement)


@pytest.mark.slow
def test_legacy_seresnet50_from_its_twin():
    twin = create("legacy_seresnet50", se=False, **SMALL)
    assert find_sites(twin).parameters == 2_530_992  # published: 28,088,024 - 25,557,032
    assert find_sites(twin, use_bias=False).parameters == 2_514_944  # paper, sec. 4
    assert_same_network(twin, create("legacy_seresnet50", **SMALL))


@pytest.mark.parametrize("stages", [[2], [3, 4], [5]])
def test_the_papers_stages(stages):
    """Table 14: 24,576, 131,072 and 786,432 weights for stages 2 to 4, the rest for stage 5."""
    added = {2: 24_576, 3: 131_072, 4: 786_432, 5: 2_514_944 - 942_080}
    twin = create("legacy_seresnet50", se=False, **SMALL)
    plan = find_sites(twin, use_bias=False, stages=stages)
    assert plan.parameters == sum(added[stage] for stage in stages)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("semobilenet", 32),
        pytest.param("sevgg16_bn", 32, marks=pytest.mark.slow),
        pytest.param("seshufflenet", 32, marks=pytest.mark.slow),
        pytest.param("sebn_inception", 64, marks=pytest.mark.slow),
        pytest.param("seinception_v3", 96, marks=pytest.mark.slow),
        pytest.param("seresnet164", 32, marks=pytest.mark.slow),
    ],
)
def test_other_families_from_their_twins(name, size):
    options = {"input_shape": (size, size, 3), "classes": 3}
    if name == "sevgg16_bn":
        options = {"input_shape": (size, size, 3), "include_top": False, "pooling": "avg"}
    assert_same_network(create(name, se=False, **options), create(name, **options))


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [
        u_net,
        audio,
        two_inputs,
        shared_backbone,
        shared_layers,
        mixed_precision,
        with_own_layers,
        nested_units,
    ],
)
def test_files_keep_what_networks_have(network, tmp_path):
    """Nesting, sharing, several inputs, policies, custom layers."""
    import tensorflow as tf

    model = insert_se(network(), ratio=2)
    set_random_weights(model)
    x = inputs_of(model)
    expected = outputs(model, x)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(outputs(loaded, x), expected)
    assert list(se_by_name(loaded)) == list(se_by_name(model))
    model.export(tmp_path / "saved_model", verbose=False)
    kept = tf.saved_model.load(tmp_path / "saved_model")
    tolerance = 1e-3 if network is mixed_precision else 1e-6
    for a, b in zip(keras.tree.flatten(kept.serve(x)), expected, strict=True):
        np.testing.assert_allclose(array(a), b, rtol=0, atol=tolerance)


def test_compiled_outputs_are_within_rounding():
    model = two_units()
    set_random_weights(model)
    x = inputs_of(model)
    new = insert_se(model)
    np.testing.assert_allclose(
        new.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6, atol=1e-6
    )


# --- refusals ------------------------------------------------------------------------------------


def unknown_channels():
    x = keras.Input((8, 8, None), name="maps")
    return keras.Model(x, relu(x, "relu"))


def dense_only():
    return keras.Sequential([keras.Input((4,)), layers.Dense(4, activation="relu", name="dense")])


REFUSED = [
    (Subclassed, {}, "`model` must be a functional model .* got Subclassed"),
    (dense_only, {}, "`where`: .* has no site for 'auto'"),
    (two_units, {"where": "concat"}, "'network' has no site for 'concat'"),
    (unknown_channels, {"where": ["relu"]}, "number of channels after 'relu' must be known"),
    (two_units, {"where": ["a1_rel"]}, r"no layer 'a1_rel'. Did you mean 'a1_relu' or"),
    (two_units, {"where": ["logits"]}, r"'logits' must output a feature map .* got \(None, 3\)"),
    (two_units, {"where": "("}, "must be a regular expression, got '\\('"),
    (two_units, {"where": []}, "`where` must be 'auto', one of .* got \\[\\]"),
    (two_units, {"where": 3}, "`where` must be 'auto', one of .* got"),
    (two_units, {"where": [3]}, "`where` must be 'auto', one of .* got"),
    (two_units, {"placement": "conv3x3"}, "`placement` must be one of .* got 'conv3x3'"),
    (u_net, {"placement": "pre"}, "`placement='pre'` needs residual units"),
    (two_units, {"where": ["a1"], "placement": "pre"}, "`placement='pre'` needs residual units"),
    (
        two_units,
        {"stages": [2]},
        r"`stages` must be some of \[1\], the stages with sites, got \[2\]",
    ),
    (two_units, {"stages": 1}, r"`stages` must be numbers of stages, as in \[2, 3\], got 1"),
    (two_units, {"skip_last_stage": True}, r"the stages with sites are \[1\]"),
    (two_units, {"ratio": 0}, "`ratio` must be a positive integer, got 0"),
    (two_units, {"gate_scale": 3.0}, "`gate_scale` is what warm_start=True sets"),
    (two_units, {"gate_activation": "tanh"}, "`gate_activation` must have one value .* got "),
    (two_units, {"gate_activation": "softmax"}, "0.5 for two channels and 0.333333 for three"),
]


@pytest.mark.parametrize(("network", "options", "message"), REFUSED)
def test_refusals_are_one_line(network, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        insert_se(network(), **options)
    assert "\n" not in str(raised.value)


def test_an_unknown_option_is_refused():
    for option in ("width", "data_format", "name"):
        with pytest.raises(TypeError, match=f"find_sites has no option '{option}'"):
            find_sites(two_units(), **{option: 1})


def test_remove_se_refuses_a_model_without():
    with pytest.raises(ValueError, match="'network' has no SqueezeExcite layer to remove"):
        remove_se(two_units())


def test_a_plan_is_applied_and_stays_as_it_is():
    """A plan can be applied many times, with the options that it was made with."""
    for make, choice in ((audio, {"ratio": 4, "pool": "max"}), (two_units, {"placement": "pre"})):
        model = make()
        plan = find_sites(model, **choice)
        text = str(plan)
        for _ in range(2):
            new, expected = insert_se(model, plan), insert_se(model, **choice)
            assert [layer.get_config() for layer in se_by_name(new).values()] == [
                layer.get_config() for layer in se_by_name(expected).values()
            ]
            assert str(trace(new)) == str(trace(expected))
        assert str(plan) == text


def test_a_plan_decides_alone():
    model = audio()
    plan = find_sites(model, ratio=4)
    for option in ({"ratio": 8}, {"stages": [1]}, {"pool": "max"}):
        with pytest.raises(
            se_keras.InputError, match=f"`{next(iter(option))}` is part of the plan"
        ):
            insert_se(model, plan, **option)


@pytest.mark.parametrize(
    "network",
    [two_units, inception_resnet, two_inputs, shared_backbone, shared_layers, with_own_layers],
)
def test_a_plan_is_names_and_numbers(network, tmp_path):
    """It works in another process, on the model loaded from a file, and on a clone."""
    model = network()
    set_random_weights(model)
    plan = find_sites(model, ratio=2)
    assert pickle.loads(pickle.dumps(plan)) == plan == copy.deepcopy(plan)
    x, expected = inputs_of(model), str(trace(plan.apply(model)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for other in (keras.models.clone_model(model), loaded):
        other.set_weights(model.get_weights())
        new = plan.apply(other)
        assert str(trace(new)) == expected
        assert_same(outputs(new, x), outputs(model, x))


def one_convolution(filters=8):
    image = keras.Input((8, 8, 4), name="image")
    return classified(image, relu(conv(image, filters), "relu"))


def residual_unit(between=False):
    image = keras.Input((8, 8, 8), name="image")
    y = conv(image, 8, name="conv")
    y = layers.BatchNormalization(name="bn")(y) if between else y
    return classified(image, layers.Add(name="add")([y, image]))


@pytest.mark.parametrize(
    ("planned", "given", "message"),
    [
        (two_units, audio, "it has no layer 'a2_bn', and 1 more"),
        (one_convolution, lambda: one_convolution(12), "'relu' has 12 channels, not 8"),
        (residual_unit, lambda: residual_unit(True), "'add' does not take the output of 'conv'"),
        (shared_backbone, two_units, "it has no layer 'network/a2_bn', and 1 more"),
    ],
)
def test_a_plan_of_another_model_is_refused(planned, given, message):
    model, other = planned(), given()
    plan = find_sites(model)
    start = f"`model`: {other.name!r} does not fit the plan, which was made for {model.name!r}: "
    with pytest.raises(se_keras.InputError, match=re.escape(f"{start}{message}.")):
        insert_se(other, plan)


@pytest.mark.parametrize("placement", ["standard", "pre", "post", "identity"])
def test_a_plan_is_not_applied_twice_to_one_model(placement):
    plan = find_sites(two_units(), placement=placement)
    with pytest.raises(se_keras.InputError, match="at 2 of 2 sites already"):
        plan.apply(plan.apply(two_units()))


def test_a_start_is_chosen_where_a_plan_is_applied():
    model = audio()
    plan = find_sites(model, gate_activation="tanh")
    with pytest.raises(se_keras.InputError, match="`gate_activation` must have one value"):
        plan.apply(model)
    for se in se_by_name(plan.apply(model, warm_start=False)).values():
        assert np.any(array(se.expand.kernel) != 0)
    taken = find_sites(insert_se(audio()))
    with pytest.raises(se_keras.InputError, match="already"):
        taken.apply(insert_se(audio()))
    assert len(se_by_name(taken.apply(insert_se(audio()), force=True))) == 4


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.keras"
    audio().save(path)
    return path


def test_the_command_writes_the_model(saved, capsys):
    out = saved.with_name("se.keras")
    options = ["--where", "act.", "--ratio", "4"]
    assert main(["insert", str(saved), "-o", str(out), *options]) == 0
    assert capsys.readouterr().out == f"{out}: SE at 1 sites, 148 more parameters\n"
    model, new = keras.saving.load_model(saved), keras.saving.load_model(out)
    assert list(se_by_name(new)) == ["act2_se"]
    x = inputs_of(model)
    assert_same(outputs(new, x), outputs(model, x))


def test_the_command_passes_its_options_on(saved, capsys):
    out = saved.with_name("se.keras")
    arguments = ["insert", str(saved), "-o", str(out)]
    assert main([*arguments, "--skip-last-stage", "--no-warm-start"]) == 2
    assert "leave no site" in capsys.readouterr().err
    assert main([*arguments, "--stages", "1", "--no-warm-start"]) == 0
    (first, second) = se_by_name(keras.saving.load_model(out)).values()
    assert first.gate_scale == second.gate_scale == 1.0
    assert main(["insert", str(out), "--dry-run", "--placement", "pre"]) == 2
    assert "--placement pre needs residual units" in capsys.readouterr().err
    again = ["insert", str(out), "-o", str(out)]
    assert main(again) == 2
    assert "at 2 of 2 sites already" in capsys.readouterr().err
    assert main([*again, "--force"]) == 0
    assert len(se_by_name(keras.saving.load_model(out))) == 4


def test_a_dry_run_writes_nothing(saved, capsys):
    out = saved.with_name("se.keras")
    assert main(["insert", str(saved), "-o", str(out), "--dry-run"]) == 0
    assert capsys.readouterr().out == f"{find_sites(keras.saving.load_model(saved))}\n"
    assert sorted(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "nothing", "-o", "OUT"], "--where: 'audio' has no"),
        ([], "Give --out OUT, the file to write, or --dry-run"),
        (["-o", "MODEL/deeper.keras"], "can't write .*Not a directory"),
        (["-o", "OUT", "--stages", "7"], "--stages must be some of"),
        (["-o", "OUT", "--ratio", "0"], "--ratio must be a positive integer"),
    ],
)
def test_the_command_refuses_in_one_line(saved, capsys, arguments, message):
    out = saved.with_name("se.keras")
    given = [a.replace("OUT", str(out)).replace("MODEL", str(saved)) for a in arguments]
    assert main(["insert", str(saved), *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("se-keras insert: ")
    assert error.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)
    assert sorted(saved.parent.iterdir()) == [saved]


def test_the_command_refuses_a_subclassed_model(tmp_path, capsys):
    model = Subclassed()
    model(uniform((1, 4)))
    model.save(tmp_path / "model.keras")
    assert main(["insert", str(tmp_path / "model.keras"), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "must be a functional model" in error
    assert error.count("\n") == 1
