"""Compare counting.py with published figures, Keras' own count, and derivations by hand."""

import keras
import numpy as np
import pytest

import se_keras
from se_keras import SqueezeExcite, count
from se_keras.support.errors import InputError


def counted(layer, *shape, **inputs):
    """Return the only row of a model of one layer."""
    x = keras.Input(shape, **inputs)
    (row,) = count(keras.Model(x, layer(x))).rows
    return row


# --- layers, by hand ------------------------------------------------------------------------------

L = keras.layers
LAYERS = [
    # (layer, input, positions x kernel x input channels a group x filters, its outputs)
    ("conv", L.Conv2D(16, 3), (9, 7, 4), 7 * 5 * 9 * 4 * 16, 7 * 5 * 16),
    ("same", L.Conv2D(16, (3, 1), padding="same"), (9, 7, 4), 9 * 7 * 3 * 4 * 16, 9 * 7 * 16),
    ("strided", L.Conv2D(16, 3, strides=2, padding="same"), (9, 7, 4), 20 * 9 * 64, 20 * 16),
    ("dilated", L.Conv2D(16, 3, dilation_rate=2), (9, 7, 4), 5 * 3 * 9 * 4 * 16, 5 * 3 * 16),
    ("grouped", L.Conv2D(16, 3, groups=4), (9, 7, 8), 7 * 5 * 9 * 2 * 16, 7 * 5 * 16),
    ("1-D", L.Conv1D(6, 5, padding="causal"), (11, 3), 11 * 5 * 3 * 6, 11 * 6),
    ("3-D", L.Conv3D(2, 2), (4, 5, 6, 3), 3 * 4 * 5 * 8 * 3 * 2, 3 * 4 * 5 * 2),
    ("depthwise", L.DepthwiseConv2D(3, depth_multiplier=2), (9, 7, 4), 35 * 9 * 8, 35 * 8),
    ("depthwise 1-D", L.DepthwiseConv1D(3, strides=2), (9, 4), 4 * 3 * 4, 4 * 4),
    (
        "separable",
        L.SeparableConv2D(16, 3, depth_multiplier=2),
        (9, 7, 4),
        35 * 9 * 8 + 35 * 8 * 16,
        35 * 8 + 35 * 16,
    ),
    ("separable 1-D", L.SeparableConv1D(5, 3), (9, 4), 7 * 3 * 4 + 7 * 4 * 5, 7 * 4 + 7 * 5),
    # Each of the 5 x 3 input positions meets the whole kernel.
    ("transposed", L.Conv2DTranspose(6, 2, strides=2), (5, 3, 4), 15 * 4 * 4 * 6, 10 * 6 * 6),
    ("transposed 1-D", L.Conv1DTranspose(6, 3), (5, 4), 5 * 3 * 4 * 6, 7 * 6),
    ("dense", L.Dense(10), (7,), 70, 10),
    ("dense on a sequence", L.Dense(10), (3, 7), 3 * 70, 30),
    ("einsum", L.EinsumDense("abc,cde->abde", (None, 2, 5)), (3, 7), 3 * 7 * 10, 30),
    ("einsum of two", L.EinsumDense("abcd,cde->abe", (None, 5)), (3, 2, 7), 3 * 14 * 5, 15),
    ("einsum with dots", L.EinsumDense("...x,xy->...y", 5), (3, 7), 3 * 7 * 5, 15),
    # Two matrices, 16 x 4, whatever the size of the map; the gate and what is between count once.
    ("se", SqueezeExcite(4), (9, 7, 16), 2 * 16 * 4, 16 + 4),
]


@pytest.mark.parametrize("case", LAYERS, ids=[case[0] for case in LAYERS])
def test_each_kind_of_layer_is_counted_by_its_formula(case):
    _, layer, shape, macs, activations = case
    row = counted(layer, *shape)
    assert (row.macs, row.activations) == (macs, activations)
    assert row.params == layer.count_params()


@pytest.mark.parametrize(
    "layer",
    [L.Conv2D(16, 3, groups=2, data_format="channels_first"), SqueezeExcite(4)],
    ids=["conv", "se"],
)
def test_channels_are_found_where_channels_first_has_them(layer):
    # Only shapes are asked for, which TensorFlow has for this data format on a CPU, too.
    layer.data_format = "channels_first"
    macs = {"Conv2D": 7 * 5 * 9 * 8 * 16, "SqueezeExcite": 2 * 16 * 4}
    assert counted(layer, 16, 9, 7).macs == macs[type(layer).__name__]


FREE = [
    L.BatchNormalization(),
    L.LayerNormalization(),
    L.PReLU(),
    L.ReLU(),
    L.Dropout(0.5),
    L.AveragePooling2D(2),
    L.GlobalMaxPooling2D(),
    L.ZeroPadding2D(),
    L.UpSampling2D(),
    L.Rescaling(2.0),
    L.Flatten(),
]


@pytest.mark.parametrize("layer", FREE, ids=lambda layer: layer.name)
def test_elementwise_layers_count_nothing(layer):
    row = counted(layer, 8, 8, 4)
    assert (row.macs, row.activations) == (0, 0)
    assert row.params == layer.count_params()


class WithWeights(keras.layers.Layer):
    def build(self, input_shape):
        self.w = self.add_weight(shape=(3, 3))

    def call(self, x):
        return x


class WithoutWeights(keras.layers.Layer):
    def call(self, x):
        return x + 1


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (WithWeights(), (4,)),
        (L.LSTM(3), (5, 4)),
        (L.TimeDistributed(L.Dense(3)), (5, 4)),
        (L.Lambda(lambda x: x @ keras.ops.transpose(x)), (4,)),
    ],
    ids=["own", "recurrent", "wrapper", "lambda"],
)
def test_what_it_does_not_know_is_marked(layer, shape):
    x = keras.Input(shape)
    result = count(keras.Model(x, layer(x)))
    assert result.rows[0].macs is None
    assert result.uncounted == (layer.name,)
    assert result.params == layer.count_params()
    assert "not counted" in str(result)


def test_an_own_layer_without_weights_counts_nothing():
    assert counted(WithoutWeights(), 4).macs == 0


SUMMING = {
    "matmul": lambda x: keras.ops.matmul(x, x),
    "operator": lambda x: x @ x,
    "einsum": lambda x: keras.ops.einsum("abc,acd->abd", x, x),
    "tensordot": lambda x: keras.ops.tensordot(x, np.ones((4, 2), "float32"), 1),
    "conv": lambda x: keras.ops.conv(x, np.ones((3, 4, 2), "float32")),
    "attention layer": lambda x: L.Attention()([x, x]),
    "dot layer": lambda x: L.Dot(axes=1)([x, x]),
}


@pytest.mark.parametrize("name", SUMMING)
def test_operations_that_sum_products_are_marked(name):
    x = keras.Input((4, 4))
    assert len(count(keras.Model(x, SUMMING[name](x))).uncounted) == 1


def test_elementwise_operations_count_nothing():
    x = keras.Input((4, 4))
    result = count(keras.Model(x, keras.ops.mean(x * 2 + x, axis=1)))
    assert (result.macs, result.uncounted, len(result.rows)) == (0, (), 3)


# --- graphs ---------------------------------------------------------------------------------------


def test_a_shared_layer_has_its_parameters_once_and_its_work_each_time():
    dense = L.Dense(4, name="dense")
    x = keras.Input((4,))
    result = count(keras.Model(x, dense(dense(x))))
    assert [(row.name, row.params, row.macs) for row in result.rows] == [
        ("dense", 20, 16),
        ("dense#2", 0, 16),
    ]
    assert (result.params, result.macs) == (20, 32)


def test_a_nested_model_is_walked_at_the_size_it_is_called_with():
    inside = keras.Input((None, None, 3))
    backbone = keras.Model(inside, L.Conv2D(8, 1, name="conv")(inside), name="backbone")
    large, small = keras.Input((6, 6, 3)), keras.Input((2, 2, 3))
    pool = L.GlobalAveragePooling2D(name="pool")
    model = keras.Model([large, small], [pool(backbone(large)), pool(backbone(small))])
    rows = {row.name: row for row in count(model).rows}
    assert rows["backbone/conv"].macs + rows["backbone#2/conv"].macs == (36 + 4) * 3 * 8
    assert {rows[name].output_shape for name in ("backbone/conv", "backbone#2/conv")} == {
        (None, 6, 6, 8),
        (None, 2, 2, 8),
    }
    assert count(model).params == 3 * 8 + 8


def test_trainable_are_those_that_training_changes():
    x = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, name="a"), L.Dense(4, name="b")])
    y = L.BatchNormalization(name="norm")(inner(x))
    model = keras.Model(x, L.Dense(2, name="c")(y))
    inner.layers[0].trainable = False
    result = count(model)
    # a: frozen; b: 4 * 4 + 4; norm: gamma and beta of four weights; c: 4 * 2 + 2
    assert [row.trainable for row in result.rows] == [0, 20, 8, 10]
    assert [row.params for row in result.rows] == [20, 20, 16, 10]
    model.trainable = False
    model.get_layer("c").trainable = True  # a frozen model trains nothing, whatever its layers say
    assert (count(model).trainable, count(model).params) == (0, 66)


def test_the_table_has_a_line_a_call_and_a_total():
    lines = str(count(se_keras.create("seresnet20"))).splitlines()
    assert lines[0].split() == [
        *("layer", "kind", "output", "parameters", "trainable", "multiply-adds", "activations")
    ]
    assert lines[-1].split() == ["total", "273,471", "272,095", "40,553,056", "188,783"]
    assert len({len(line) for line in lines}) == 1


# --- sizes ----------------------------------------------------------------------------------------


def test_sizes_that_the_model_leaves_open_are_asked_for():
    x = keras.Input((None, None, 3))
    model = keras.Model(x, L.Conv2D(8, 3, name="conv")(x), name="open")
    with pytest.raises(
        ValueError, match=r"`input_shape` must be given.* 'conv' takes \(None, None, None, 3\)"
    ):
        count(model)
    assert count(model, (10, 8, 3)).macs == 8 * 6 * 27 * 8
    assert count(model, input_shape=[(10, 8, 3)]).macs == 8 * 6 * 27 * 8


@pytest.mark.parametrize(
    "shape",
    [
        *((10, 8, 4), (10, 8), (1, 10, 8, 3), [(10, 8, 3), (10, 8, 3)], ()),
        *((0, 8, 3), (-1, 8, 3), ("10", 8, 3), "abc", 10, [(10, 8, 3), 3]),
    ],
    ids=str,
)
def test_an_input_shape_that_is_not_the_models(shape):
    x = keras.Input((None, 8, 3))
    model = keras.Model(x, L.Conv2D(8, 3)(x), name="open")
    with pytest.raises(ValueError, match=r"`input_shape` must fit 'open'.*\(None, 8, 3\)"):
        count(model, shape)


def test_sizes_that_a_layer_cannot_take_are_the_users_error():
    x = keras.Input((None, None, 3))
    model = keras.Model(x, L.Conv2D(8, 5, name="conv")(x))
    with pytest.raises(InputError, match=r"'conv' can't take an input of shape \(None, 4, 8, 3\)"):
        count(model, (4, 8, 3))


def test_several_inputs_take_a_shape_each():
    a, b = keras.Input((None, 2)), keras.Input((None, 3))
    model = keras.Model([a, b], [L.Conv1D(4, 1)(a), L.Conv1D(4, 1)(b)])
    assert count(model, [(5, 2), (7, 3)]).macs == 5 * 2 * 4 + 7 * 3 * 4


def test_a_model_without_open_sizes_where_it_matters():
    x = keras.Input((None, None, 8))
    model = keras.Model(x, L.GlobalAveragePooling2D()(SqueezeExcite(4)(x)))
    assert count(model).macs == 2 * 8 * 2  # SE's work is the same for every size


def test_a_subclassed_model_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="`model` must be a functional model"):
        count(Subclassed())


# --- networks, against published figures ----------------------------------------------------------

PUBLISHED = [
    # MobileNet, arXiv 1704.04861, Table 4: 569 M multiply-adds; 568,740,352 in TF-slim's README.
    pytest.param("MobileNet", 568_740_352, 0, id="MobileNet"),
    # He et al. 2015, Table 1: 3.8 G, and 3.86 G in the SENet paper, Table 2.
    pytest.param("ResNet50", 3.86e9, 0.002, id="ResNet50"),
    # SENet paper, Table 2: 15.47 G.
    pytest.param("VGG16", 15.47e9, 0.001, id="VGG16"),
    # Sandler et al. 2018 (arXiv 1801.04381), Table 4: 300 M.
    pytest.param("MobileNetV2", 300e6, 0.01, id="MobileNetV2"),
    # Tan and Le 2019 (arXiv 1905.11946), Table 2: 0.39 B, with SE.
    pytest.param("EfficientNetB0", 0.39e9, 0.015, id="EfficientNetB0"),
    # timm's table, as below: 2.87 G.
    pytest.param("DenseNet121", 2.87e9, 0.015, id="DenseNet121"),
]


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(("name", "macs", "tolerance"), PUBLISHED)
def test_networks_of_keras_applications_have_the_published_multiply_adds(name, macs, tolerance):
    model = getattr(keras.applications, name)(weights=None)
    result = count(model)
    assert result.macs == pytest.approx(macs, rel=tolerance)
    assert result.params == model.count_params()
    assert result.trainable == sum(np.prod(w.shape) for w in model.trainable_weights)
    assert result.uncounted == ()


# timm's results/benchmark-infer-amp-nchw-pt113-cu117-rtx3090.csv, column infer_macts.
ACTIVATIONS = {
    "seresnet50": 11.13,
    "legacy_seresnet34": 3.74,
    "legacy_seresnet50": 10.6,
    "legacy_seresnext26_32x4d": 9.39,
    "seresnext26d_32x4d": 10.19,
    "seresnext26t_32x4d": 10.09,
    "seresnext50_32x4d": 14.42,
}


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(("name", "millions"), ACTIVATIONS.items())
def test_activations_are_timms(name, millions):
    assert round(count(se_keras.create(name)).activations / 1e6, 2) == millions
