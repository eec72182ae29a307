"""`SqueezeExcite` after `quantize` and `enable_lora`: saved, copied and rewritten unchanged."""

import copy
import json

import keras
import numpy as np
import pytest
from checks import array, run_python, set_random_weights, uniform

import se_keras
from se_keras import SqueezeExcite
from se_keras.graph import trace

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize:UserWarning")

MODES = ("int8", "int4", "float8")
SHAPE = (4, 4, 16)


def se():
    return SqueezeExcite(4, name="se")


@keras.saving.register_keras_serializable(package="quantized")
class Own(keras.layers.Layer):
    """A layer whose config does not hold the SE layer in it."""

    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner or se()

    def build(self, shape):
        if not self.inner.built:
            self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


@keras.saving.register_keras_serializable(package="quantized")
class Wrapped(Own):
    """A layer whose config holds it."""

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config["inner"])
        return cls(**{**config, "inner": inner})


@keras.saving.register_keras_serializable(package="quantized")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = se()

    def call(self, x):
        return self.inner(x)


def functional(layer):
    image = keras.Input(SHAPE)
    return keras.Model(image, layer(image))


def sequential():
    return keras.Sequential([keras.Input(SHAPE), se()])


def distributed():
    images = keras.Input((3, *SHAPE))
    return keras.Model(images, keras.layers.TimeDistributed(se())(images))


CONTAINERS = {
    "functional": lambda: functional(se()),
    "sequential": sequential,
    "nested": lambda: functional(sequential()),
    "time_distributed": distributed,
    "own": lambda: functional(Own()),
    "wrapped": lambda: functional(Wrapped()),
    "subclassed": Subclassed,
    "mixed": lambda: functional(SqueezeExcite(4, name="se", dtype="mixed_bfloat16")),
}
# A container that holds the config of the layer can be cloned.
CLONED = sorted(set(CONTAINERS) - {"own", "subclassed"})


def quantized(container, mode):
    """A model, an input and its output."""
    model = CONTAINERS[container]()
    x = uniform((2, 3, *SHAPE) if container == "time_distributed" else (2, *SHAPE), seed=1)
    model(x)
    set_random_weights(model)
    model.quantize(mode)
    return model, x, array(model(x))


def parts_of(model):
    (layer,) = (part for part in model._flatten_layers() if isinstance(part, SqueezeExcite))
    return layer.reduce, layer.expand


def assert_same(model, x, expected, mode):
    assert {part.quantization_mode for part in parts_of(model)} == {mode}
    np.testing.assert_allclose(array(model(x)), expected, rtol=1e-6, atol=1e-6)


def saved_and_loaded(model, path):
    model.save(path)
    return keras.models.load_model(path)


def cases(containers, quick):
    """Return all containers in all modes; those that are not in `quick` are marked slow."""
    return [
        pytest.param(container, mode, marks=() if (container, mode) in quick else pytest.mark.slow)
        for container in containers
        for mode in MODES
    ]


@pytest.mark.parametrize(
    ("container", "mode"),
    cases(
        CONTAINERS,
        {
            ("functional", "float8"),
            ("time_distributed", "int8"),
            ("own", "int8"),
        },
    ),
)
def test_a_quantized_layer_is_saved_twice(container, mode, tmp_path):
    model, x, expected = quantized(container, mode)
    for number in range(2):
        model = saved_and_loaded(model, tmp_path / f"{number}.keras")
        assert_same(model, x, expected, mode)


@pytest.mark.parametrize(("container", "mode"), cases(CLONED, {("wrapped", "int4")}))
def test_a_quantized_model_is_cloned(container, mode):
    model, x, expected = quantized(container, mode)
    clone = keras.models.clone_model(model)
    assert {part.quantization_mode for part in parts_of(clone)} == {mode}
    if mode != "float8":  # of which Keras gives a clone the weights in another order
        clone.set_weights(model.get_weights())
        assert_same(clone, x, expected, mode)


def test_a_quantized_model_is_copied():
    model, x, expected = quantized("sequential", "float8")
    assert_same(copy.deepcopy(model), x, expected, "float8")


def test_int8_weights_change_a_model_a_little():
    model = functional(se())
    set_random_weights(model)
    x = uniform((4, *SHAPE), seed=1) + np.float32(0.5)
    before = array(model(x))
    model.quantize("int8")
    assert {part.kernel.dtype for part in parts_of(model)} == {"int8"}
    # A sigmoid's slope is 1/4 at most, an int8 weight is off by 1/254 of its column's largest.
    np.testing.assert_allclose(array(model(x)), before, rtol=0, atol=0.01)
    assert (array(model(x)) != before).any()


def test_a_part_keeps_what_it_was_quantized_by(tmp_path):
    model = functional(se())
    set_random_weights(model)
    model.quantize(config=keras.quantizers.Int4QuantizationConfig(block_size=8), filters="reduce")
    x = uniform((2, *SHAPE))
    expected = array(model(x))
    loaded = saved_and_loaded(model, tmp_path / "int4.keras")
    reduce, expand = parts_of(loaded)
    assert (reduce.quantization_config.block_size, expand.quantization_mode) == (8, None)
    np.testing.assert_allclose(array(loaded(x)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", ["se", "sequential/se"])
def test_a_file_of_an_earlier_version_is_read(path):
    """It has the policies of the parts in a map, by their paths at the time."""
    int8 = {
        "module": "keras.dtype_policies",
        "class_name": "QuantizedDTypePolicy",
        "config": {"mode": "int8", "source_name": "float32"},
    }
    float32 = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}
    policies = {"default_policy": float32, "policy_map": {f"{path}/reduce": int8}}
    dtype = {"module": "keras.dtype_policies", "class_name": "DTypePolicyMap", "config": policies}
    layer = SqueezeExcite.from_config({**se().get_config(), "dtype": dtype})
    layer.build((None, *SHAPE))
    assert (layer.reduce.quantization_mode, layer.expand.quantization_mode) == ("int8", None)
    assert list(layer.get_config()["parts"]) == ["reduce"]
    assert layer.dtype_policy.name == "float32"


def test_a_map_of_policies_is_asked_for_each_part():
    policies = keras.dtype_policies.DTypePolicyMap("mixed_float16")
    policies["se/expand"] = keras.dtype_policies.get("bfloat16")
    policies["other/reduce"] = keras.dtype_policies.get("float64")
    layer = SqueezeExcite(4, name="se", dtype=policies)
    layer.build((None, *SHAPE))
    # `reduce` is in float32 as in each mixed policy: float16 would overflow.
    assert (layer.reduce.compute_dtype, layer.expand.compute_dtype) == ("float32", "bfloat16")
    again = SqueezeExcite.from_config(json.loads(json.dumps(layer.get_config())))
    again.build((None, *SHAPE))
    assert (again.reduce.compute_dtype, again.expand.compute_dtype) == ("float32", "bfloat16")


def changed_network(change):
    """A model with SE between layers that `optimize` folds, its input and its output."""
    image = keras.Input(SHAPE)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(16, 1, name="conv")(image))
    x = keras.layers.GlobalAveragePooling2D()(se()(keras.layers.ReLU()(x)))
    model = keras.Model(image, keras.layers.Dense(3, name="head")(x))
    set_random_weights(model)
    change(model)
    x = uniform((2, *SHAPE), seed=1)
    return model, x, array(model(x))


def enable_lora(model):
    for layer in (*parts_of(model), model.get_layer("head")):
        layer.enable_lora(2, lora_alpha=5)
        layer.lora_kernel_b.assign(uniform(layer.lora_kernel_b.shape))


CHANGES = {"lora": enable_lora} | {
    mode: lambda model, mode=mode: model.quantize(mode) for mode in MODES
}


@pytest.mark.parametrize("change", ["lora", "float8"])
def test_a_changed_model_is_rewritten(change):
    model, x, expected = changed_network(CHANGES[change])
    inserted = se_keras.insert_se(model, where=["conv"])
    for new in (se_keras.optimize(model, verbose=False), inserted):
        np.testing.assert_allclose(array(new(x)), expected, rtol=1e-5, atol=1e-5)
    assert parts_of(model)[0].lora_enabled == (change == "lora")


def test_a_layer_with_lora_is_saved(tmp_path):
    model, x, expected = changed_network(enable_lora)
    loaded = saved_and_loaded(model, tmp_path / "lora.keras")
    assert {part.lora_rank for part in parts_of(loaded)} == {2}
    np.testing.assert_allclose(array(loaded(x)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["lora", "float8"])
def test_a_layer_in_one_that_does_not_say_so_is_rewritten(change):
    image = keras.Input(SHAPE)
    model = keras.Model(image, Own()(keras.layers.Dense(16, name="head")(image)))
    CHANGES[change](model)
    x = uniform((2, *SHAPE), seed=1)
    expected = array(model(x))
    new = trace(model).build()
    np.testing.assert_allclose(array(new(x)), expected, rtol=1e-6, atol=1e-6)


@keras.saving.register_keras_serializable(package="quantized")
class OwnDense(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dense(16, name="hidden")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_what_no_config_says_is_refused_with_the_remedy():
    image = keras.Input(SHAPE)
    model = keras.Model(image, OwnDense(name="own")(image))
    model.quantize("int8")
    words = "'own' .* can't be recreated: 'hidden' was quantized .* on the new model"
    with pytest.raises(se_keras.InputError, match=words):
        se_keras.optimize(model, verbose=False)


LOAD = """
import sys
import keras, numpy as np
import test_layers_quantized as tests

for path in sys.argv[1:]:
    model = keras.models.load_model(f"{path}.keras")
    saved = np.load(f"{path}.npz")
    tests.assert_same(model, saved["x"], saved["expected"], str(saved["mode"]))
    model.export(path, verbose=False)
"""


@pytest.mark.slow
def test_a_quantized_model_is_read_and_exported_by_another_process(tmp_path):
    paths = []
    for container in CONTAINERS:
        for mode in MODES:
            model, x, expected = quantized(container, mode)
            path = tmp_path / f"{container}-{mode}"
            model.save(f"{path}.keras")
            np.savez(path, x=x, expected=expected, mode=mode)
            paths.append(str(path))
    run_python(LOAD, *paths)
