"""`SqueezeExcite` and masks: the positions that count, also in a rewritten model."""

import keras
import numpy as np
import pytest
from checks import array, reference_se, set_random_weights, to_channels_first, uniform
from keras import layers

import se_keras
from se_keras import SqueezeExcite
from se_keras.graph import trace
from se_keras.rewrite.optimize import report_optimization

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")

WORDS = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 0, 0], [0, 0, 0, 0, 0, 0]])
SHAPES = [(3, 6, 8), (3, 4, 5, 8), (3, 2, 3, 4, 8)]


def made(**options):
    layer = SqueezeExcite(2, **options)
    layer.build((None, *(8 for _ in range(3))))
    set_random_weights(layer)
    return layer


def some_positions(shape):
    """Make a mask of the positions of a map; in the last sample no position counts."""
    mask = np.random.default_rng(3).random(shape[:-1]) < 0.6
    mask[-1] = False
    return mask


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("shape", SHAPES)
def test_only_positions_that_count_decide_the_gate(shape, data_format, pool):
    layer = made(pool=pool, data_format=data_format)
    mask, x = some_positions(shape), uniform(shape)
    x[~mask] = np.inf
    x = to_channels_first(x) if data_format == "channels_first" else x
    weights = [array(weight) for weight in layer.weights]
    with np.errstate(invalid="ignore"):
        expected, gates = reference_se(x, weights, data_format, mask, pool=pool)
    np.testing.assert_allclose(array(layer.gate(x, mask)).reshape(3, 8), gates, rtol=1e-5)
    np.testing.assert_allclose(array(layer(x, mask=mask)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_a_mask_may_lack_the_last_axes(shape):
    layer, x, mask = made(), uniform(shape), some_positions((*shape[:2], 8))
    full = np.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - 3)), shape[:-1])
    np.testing.assert_allclose(array(layer.gate(x, mask)), array(layer.gate(x, full)), rtol=1e-6)


def test_float16_sums_do_not_overflow():
    layer = made(dtype="mixed_float16")
    x = np.full((2, 100, 8), 6e4, "float16")
    mask = np.zeros((2, 100), bool)
    mask[0, :50] = True
    z = se_keras.ops.squeeze(x, mask=mask, data_format="channels_last")
    np.testing.assert_array_equal(array(z), [[float(np.float16(6e4))] * 8, [0] * 8])
    assert np.isfinite(array(layer(x, mask=mask))).all()


@pytest.mark.parametrize("shape", [(3, 5), (2, 6), (3, 6, 1), ()])
def test_a_mask_of_another_shape_is_refused(shape):
    with pytest.raises(se_keras.InputError, match=r"`mask` must have the shape \(3, 6\) .*, got"):
        made().gate(uniform((3, 6, 8)), np.ones(shape, bool))


def nested(body, shape=(6, 8)):
    x = keras.Input(shape)
    return keras.Model(x, body(x))


def with_words(body):
    words = keras.Input((6,), dtype="int32")
    return keras.Model(words, body(layers.Embedding(10, 8, mask_zero=True)(words)))


def with_mask(body):
    """The mask is given in the call of a layer."""
    x, mask = keras.Input((6, 8)), keras.Input((6,), dtype="bool")
    return keras.Model([x, mask], body(x, mask))


def se(x, **call):
    return SqueezeExcite(2, name="se")(x, **call)


def mean_of_convolution(x, **call):
    """Its mean moves before it where no mask is."""
    x = layers.Conv1D(16, 1)(x)
    return layers.Dense(4)(layers.GlobalAveragePooling1D(name="mean")(x, **call))


def block(x):
    return layers.LSTM(3)(se(layers.Dropout(0.5)(layers.BatchNormalization()(layers.Dense(8)(x)))))


MODELS = {
    "lstm": lambda: with_words(block),
    "bidirectional": lambda: with_words(lambda x: layers.Bidirectional(layers.GRU(3))(se(x))),
    "masking": lambda: nested(lambda x: layers.GlobalAveragePooling1D()(se(layers.Masking()(x)))),
    "image": lambda: nested(lambda x: layers.Flatten()(se(layers.Masking()(x))), (4, 5, 8)),
    "distributed": lambda: nested(
        lambda x: layers.TimeDistributed(SqueezeExcite(2))(layers.Masking()(x)), (4, 5, 8)
    ),
    "nested": lambda: with_words(lambda x: nested(block)(x)),
    "twice_nested": lambda: with_words(lambda x: nested(lambda x: nested(block)(x))(x)),
    "given": lambda: with_mask(lambda x, mask: layers.LSTM(3)(se(x, mask=mask))),
    "given_to_a_model": lambda: with_mask(lambda x, mask: nested(block)(x, mask=mask)),
    "mean": lambda: with_words(mean_of_convolution),
    "mean_of_folded": lambda: with_words(
        lambda x: mean_of_convolution(layers.BatchNormalization()(layers.Dense(8)(x)))
    ),
    "mean_nested": lambda: with_words(lambda x: nested(mean_of_convolution)(x)),
    "mean_given": lambda: with_mask(lambda x, mask: mean_of_convolution(x, mask=mask)),
    "reshaped": lambda: with_mask(
        lambda x, mask: layers.Reshape((1, 8))(layers.GlobalAveragePooling1D()(x, mask=mask))
    ),
    "none": lambda: nested(block),
}


def inputs_of(model):
    if len(model.inputs) == 2:
        mask = np.arange(6) < np.array([[3], [4], [1]])
        return [uniform((3, 6, 8)), mask]
    if model.inputs[0].dtype == "int32":
        return WORDS
    x = uniform((3, *model.input_shape[1:]))
    x[0, 2:] = x[2] = 0
    return x


@pytest.mark.parametrize("name", MODELS)
def test_an_optimized_model_sees_the_same_masks(name):
    model = MODELS[name]()
    set_random_weights(model)
    x = inputs_of(model)
    expected = array(model(x))
    report = report_optimization(model)
    for new in (se_keras.optimize(model, verbose=False), trace(model).build()):
        np.testing.assert_allclose(array(new(x)), expected, rtol=1e-5, atol=1e-5)
    reasons = {(step.layer.split("/")[-1], step.done) for step in report.steps}
    assert (("se", True) in reasons) == (name == "none")
    assert ("mean", True) not in reasons


@pytest.mark.parametrize("name", ["lstm", "nested", "given_to_a_model"])
def test_excitations_are_those_of_the_positions_that_count(name):
    model = MODELS[name]()
    set_random_weights(model)
    x = inputs_of(model)
    (layer,) = (part for part in model._flatten_layers() if isinstance(part, SqueezeExcite))
    called = []
    gate = layer.gate
    layer.gate = lambda *args: called.append(gate(*args)) or called[-1]
    model(x)
    layer.gate = gate
    expected = array(called[0]).reshape(3, 8)
    data = [(tuple(x) if isinstance(x, list) else x, np.array([0, 1, 2]))]
    stats = se_keras.record_excitations(model, data, verbose=False)
    np.testing.assert_allclose(stats.layers[0].mean, expected, rtol=1e-5)


def test_surgery_keeps_masks():
    model = with_words(block)
    set_random_weights(model)
    plain = se_keras.remove_se(model)
    inserted = se_keras.insert_se(plain, where=["dropout"], warm_start=True)
    np.testing.assert_allclose(array(inserted(WORDS)), array(plain(WORDS)), rtol=1e-6, atol=1e-7)
    (node,) = (node for _, _, node in trace(inserted).calls(SqueezeExcite))
    assert node.kwargs["mask"] is not None
