"""The common properties of all builders: arguments, input, output, names."""

import doctest
import inspect
import re

import keras
import numpy as np
import pytest
from checks import array, se_layers, trainable

import se_keras
from se_keras.models.recipes import RECIPES, find_recipe

SMALL = {"input_shape": (32, 32, 3), "classes": 7}


def image(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def test_builders_take_the_arguments_of_keras_applications_in_their_order():
    pairs = [
        (se_keras.SEResNet50, keras.applications.ResNet50),
        (se_keras.SEMobileNet, keras.applications.MobileNet),
    ]
    for ours, theirs in pairs:
        expected = list(inspect.signature(theirs).parameters)
        positional = [
            name
            for name, parameter in inspect.signature(ours).parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        assert positional == expected
        with pytest.raises(TypeError):
            ours(*range(len(expected) + 1))


def test_every_row_has_its_builder_and_its_own_name():
    assert len({row.name for row in RECIPES}) == len({row.builder for row in RECIPES})
    for row in RECIPES:
        builder = getattr(se_keras, row.builder)
        assert builder.__name__ == row.builder
        assert inspect.signature(builder).parameters["classes"].default == row.classes
    assert [row.name for row in se_keras.list_models()] == [row.name for row in RECIPES]
    assert [row.name for row in se_keras.list_models("*mobile*")] == ["semobilenet"]


def test_the_help_of_a_builder_tells_every_argument_and_its_type():
    for row in RECIPES:
        builder = getattr(se_keras, row.builder)
        parameters = inspect.signature(builder).parameters
        told = re.findall(r"^    (\w+): (?!None)\w*\S", builder.__doc__.split("Returns:")[0], re.M)
        assert told == list(parameters)
        assert f"{row.parameters:,} trainable parameters" in builder.__doc__
        assert all(each.annotation is not each.empty for each in parameters.values())
        assert inspect.signature(builder).return_annotation is keras.Model
    assert inspect.signature(se_keras.SEMobileNet).parameters["alpha"].annotation is float


def test_the_help_of_a_builder_says_which_options_it_does_not_have():
    without = "does not have the option"
    assert without not in se_keras.SEResNet50.__doc__
    assert se_keras.SEMobileNet.__doc__.count(without) == 2
    assert se_keras.SEVGG16.__doc__.count(without) == 3


def test_the_example_of_a_builder_runs():
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    for builder in (se_keras.SEResNet20, se_keras.SEMobileNet):
        runner.run(parser.get_doctest(builder.__doc__, {}, builder.__name__, None, None))
    assert (runner.tries, runner.failures) == (6, 0)


def test_an_unknown_name_is_refused_with_those_near_to_it():
    with pytest.raises(ValueError, match=r"got 'seresnet5O'.*seresnet50"):
        se_keras.create("seresnet5O")
    with pytest.raises(AttributeError, match="SEResNet51"):
        se_keras.SEResNet51  # noqa: B018


@pytest.mark.usefixtures("shapes_only")
def test_defaults_are_those_of_the_row():
    model = se_keras.SEResNet20()
    assert model.name == "seresnet20"
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 10)
    assert se_keras.SEResNet20(include_top=False).input_shape == (None, None, None, 3)


@pytest.mark.parametrize("size", [33, 32])
def test_sizes_may_be_odd_and_unknown(size):
    model = se_keras.SEResNet20(input_shape=(None, None, 3), classes=7)
    assert array(model(image(2, size, size + 4, 3))).shape == (2, 7)


@pytest.mark.parametrize("name", ["seresnet20", "semobilenet"])
def test_pooling_takes_the_place_of_the_top(name):
    x = image(2, 32, 32, 3)
    keras.utils.set_random_seed(0)
    maps = array(se_keras.create(name, include_top=False, input_shape=(32, 32, 3))(x))
    assert maps.ndim == 4
    for pooling, expected in (("avg", maps.mean((1, 2))), ("max", maps.max((1, 2)))):
        keras.utils.set_random_seed(0)
        options = {"include_top": False, "input_shape": (32, 32, 3), "pooling": pooling}
        np.testing.assert_allclose(array(se_keras.create(name, **options)(x)), expected, atol=1e-5)


def test_logits_without_the_activation():
    x = image(2, 32, 32, 3)
    outputs = []
    for activation in ("softmax", None):
        keras.utils.set_random_seed(0)
        outputs.append(array(se_keras.SEResNet20(classifier_activation=activation, **SMALL)(x)))
    exponents = np.exp(outputs[1] - outputs[1].max(axis=1, keepdims=True))
    np.testing.assert_allclose(outputs[0], exponents / exponents.sum(1, keepdims=True), rtol=1e-4)


def test_input_tensor_may_be_the_output_of_other_layers():
    raw = keras.Input((32, 32, 3))
    model = se_keras.SEResNet20(input_tensor=keras.layers.Rescaling(1 / 255)(raw), classes=7)
    assert model.input is raw
    assert array(model(image(1, 32, 32, 3))).shape == (1, 7)


def test_a_network_of_features_is_saved_and_read(tmp_path):
    model = se_keras.create("seresnet20", features_only=True, input_shape=(8, 8, 3))
    model.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras")
    assert again.output_names == model.output_names
    x = image(1, 8, 8, 3)
    for a, b in zip(model(x), again(x), strict=True):
        np.testing.assert_array_equal(array(a), array(b))


def test_features_only_gives_each_stage_with_its_stride_in_its_name():
    model = se_keras.create("legacy_seresnext26_32x4d", features_only=True, input_shape=(64, 64, 1))
    assert model.output_names == [
        "stage2_stride4",
        "stage3_stride8",
        "stage4_stride16",
        "stage5_stride32",
    ]
    maps = model(image(1, 64, 64, 1))
    assert [tuple(m.shape) for m in maps] == [
        (1, 16, 16, 256),
        (1, 8, 8, 512),
        (1, 4, 4, 1024),
        (1, 2, 2, 2048),
    ]


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize(
    "name", ["seresnet18", "seresnext26d_32x4d", "semobilenet", "seshufflenet"]
)
def test_output_stride_dilates_and_keeps_the_weights_shapes(name, stride):
    options = {"features_only": True, "input_shape": (64, 64, 3)}
    plain = se_keras.create(name, **options)
    dilated = se_keras.create(name, output_stride=stride, **options)
    assert [w.shape for w in dilated.weights] == [w.shape for w in plain.weights]
    sides = [tuple(output.shape)[1:3] for output in dilated.outputs]
    assert sides == [(max(64 // stride, s[0]),) * 2 for s in (o.shape[1:3] for o in plain.outputs)]


def test_output_stride_sees_the_same_field():
    """A dilated network gives at every second pixel what the strided one gives (à trous)."""
    x = image(1, 64, 64, 3)
    outputs = []
    for stride in (None, 16):
        keras.utils.set_random_seed(0)
        model = se_keras.create(
            "seresnet18",
            se=False,
            features_only=True,
            input_shape=(64, 64, 3),
            output_stride=stride,
        )
        outputs.append(array(model(x)[-1]))
    strided, dilated = outputs
    np.testing.assert_allclose(dilated[:, ::2, ::2], strided, atol=1e-4)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_dtype_is_that_of_every_layer(policy):
    model = se_keras.SEResNet20(dtype=policy, **SMALL)
    inner = [la for la in model.layers if la.name not in ("image", "predictions")]
    assert {layer.dtype_policy.name for layer in inner} == {policy}
    output = array(model(image(1, 32, 32, 3)))
    assert output.dtype == ("float64" if policy == "float64" else "float32")
    assert output.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("placement", "inside", "`placement` must be one of"),
        ("pooling", "median", "`pooling` must be one of"),
        ("pooling", "avg", "`pooling='avg'` replaces the classifier"),
        ("output_stride", 4, "`output_stride` must be one of"),
        ("output_stride", 8, "`output_stride` must be at most 4"),
        ("classes", 0, "`classes` must be a positive integer, got 0"),
        ("classes", 2.0, "`classes` must be a positive integer, got 2.0"),
        ("dropout", 1.0, r"`dropout` must be a number in \[0, 1\), got 1.0"),
        ("drop_path_rate", -0.1, "`drop_path_rate` must be"),
        ("ratio", 0, "`ratio` must be a positive integer, got 0"),
        ("ratio", 2.5, "`ratio` must be a positive integer, got 2.5"),
        ("se_stages", [2, 7], r"`se_stages` must be among \[2, 3, 4\], got \[7\]"),
        ("se_options", {"ratio": 4}, r"`se_options` must not have \['ratio'\]"),
        ("input_shape", (32, 32), r"`input_shape` must be \(H, W, C\)"),
        ("input_shape", (32, 32, None), r"`input_shape` must be \(H, W, C\) with a known C"),
        ("input_tensor", np.zeros((1, 8, 8, 3)), "`input_tensor` must be a Keras tensor"),
        ("weights", "imagenet", "no ImageNet weights are published for seresnet20"),
        ("weights", 5, "`weights` must be None, 'imagenet', .* got 5"),
        ("weights", "none.weights.h5", "there is no file 'none.weights.h5'"),
        ("data_format", "NCHW", "`data_format` must be"),
        ("se", "no", "`se` must be True or False, got 'no'"),
        ("include_top", 2, "`include_top` must be True or False, got 2"),
        ("input_shape", 32, "`input_shape` must be a tuple of positive integers"),
        ("input_shape", (-8, 8, 3), "`input_shape` must be a tuple of positive integers"),
        ("se_stages", 3, r"`se_stages` must be numbers of stages, as in \[2, 3\], got 3"),
        ("se_options", ["pool"], "`se_options` must be a dict"),
        ("name", 3, "`name` must be a non-empty string, got 3"),
        ("classifier_activation", "sofmax", "`classifier_activation` must be a Keras activation"),
        ("dtype", "floot", "`dtype` must be a Keras dtype policy, .* got 'floot'"),
    ],
)
def test_a_bad_value_is_refused_by_name(option, value, message):
    with pytest.raises(se_keras.InputError, match=message):
        se_keras.SEResNet20(**{option: value})


def test_options_that_would_do_nothing_are_refused():
    for option in ({"ratio": 8}, {"placement": "pre"}, {"se_stages": [2]}, {"se_options": {}}):
        with pytest.raises(ValueError, match="`attention` need `se=True`"):
            se_keras.SEResNet20(se=False, **option)
    with pytest.raises(ValueError, match="semobilenet does not have this option"):
        se_keras.SEMobileNet(placement="pre")
    with pytest.raises(TypeError, match="seresnet20 has no option 'alpha'"):
        se_keras.create("seresnet20", alpha=0.5)


def test_channels_first_on_a_tensorflow_cpu_is_refused_at_once():
    if keras.distribution.list_devices("gpu"):
        pytest.skip("TensorFlow convolves channels_first on a GPU")
    with pytest.raises(ValueError, match="`data_format` must be 'channels_last' here"):
        se_keras.SEResNet20(data_format="channels_first")


@pytest.mark.parametrize(
    ("alpha", "depth_multiplier", "message"),
    [
        (0, 1, "`alpha`"),
        ("1", 1, "`alpha`"),
        (float("nan"), 1, "`alpha`"),
        (1.0, 0, "`depth_multiplier`"),
        (1.0, 1.5, "`depth"),
    ],
)
def test_mobilenets_multipliers_are_checked(alpha, depth_multiplier, message):
    with pytest.raises(ValueError, match=message):
        se_keras.SEMobileNet(alpha=alpha, depth_multiplier=depth_multiplier)


@pytest.mark.parametrize(("alpha", "depth_multiplier"), [(1.0, 1), (0.5, 1), (1.0, 2)])
def test_the_plain_mobilenet_is_keras_applications(alpha, depth_multiplier):
    options = {"alpha": alpha, "depth_multiplier": depth_multiplier, "input_shape": (64, 64, 3)}
    theirs = keras.applications.MobileNet(weights=None, **options)
    ours = se_keras.SEMobileNet(se=False, **options)
    ours.set_weights(
        [v.reshape(w.shape) for v, w in zip(theirs.get_weights(), ours.weights, strict=True)]
    )
    x = image(2, 64, 64, 3)
    np.testing.assert_allclose(array(ours(x)), array(theirs(x)), rtol=1e-5)


@pytest.mark.usefixtures("shapes_only")
def test_semobilenet_has_13_se_layers_and_the_papers_parameters():
    """4.7M in the paper's Table 3; the widths are those of arXiv 1704.04861, Table 1."""
    model = se_keras.SEMobileNet(se_options={"use_bias": False})
    widths = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    assert [(se.expand.units, se.reduce.units) for se in se_layers(model)] == [
        (c, c // 16) for c in widths
    ]
    assert trainable(model) == 4_711_720


@pytest.mark.usefixtures("shapes_only")
def test_every_layer_has_a_name_of_its_place():
    """Building a second time in one process gives the same names."""
    for name in ("seresnet20", "semobilenet"):
        first, second = se_keras.create(name), se_keras.create(name)
        assert [la.name for la in first.layers] == [la.name for la in second.layers]
        assert [w.path for w in first.weights] == [w.path for w in second.weights]


def test_weights_of_a_file(tmp_path):
    model = se_keras.SEResNet20(**SMALL)
    model.save_weights(tmp_path / "a.weights.h5")
    loaded = se_keras.SEResNet20(weights=tmp_path / "a.weights.h5", **SMALL)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_find_recipe_is_what_create_uses():
    assert find_recipe("seresnet20").builder == "SEResNet20"
