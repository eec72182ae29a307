"""TensorFlow, JAX and PyTorch compute the same: eagerly, compiled, and in a training step.

Keras has one backend in a process, so each other backend runs `record` in a process of its own. The
cases are the layers in `LAYERS` below, and every public model with the check "backend" in the table
of `test_public.py`.

To compare a GPU with the processor here, record there, without TensorFlow, and compare here:

    KERAS_BACKEND=jax python tests/record_backend.py FOLDER/jax
    pytest tests/test_backends.py --recorded FOLDER
"""

import functools
import importlib.util
import traceback
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import test_graph
import test_without_tensorflow
from checks import array, reference_se, run_python, set_random_weights, to_channels_first, uniform
from test_public import assert_close, names_with, row_of

from se_keras import SqueezeExcite

FIRST = "channels_first"
# Name: input shape, arguments of the layer. The reference is NumPy's in float64.
LAYERS = {
    "plain": ((3, 5, 6, 16), {"ratio": 4}),
    "one_pixel": ((2, 1, 1, 16), {"ratio": 4}),
    "one_hidden": ((2, 4, 4, 3), {"ratio": 16}),
    "not_divisible": ((2, 4, 4, 21), {"ratio": 4, "divisor": 2}),
    "empty_batch": ((0, 5, 6, 8), {"ratio": 4, "pool": "max"}),
    "sequence": ((2, 9, 8), {"ratio": 2, "use_bias": False}),
    "volume": ((2, 3, 4, 5, 8), {"ratio": 2, "pool": "max"}),
    "first": ((2, 8, 5, 6), {"ratio": 2, "data_format": FIRST}),
    "sequence_first": ((2, 8, 9), {"ratio": 2, "data_format": FIRST}),
    "volume_first": ((2, 8, 3, 4, 5), {"ratio": 2, "pool": "max", "data_format": FIRST}),
    "other_gates": (
        (2, 5, 6, 8),
        {"activation": "silu", "gate_activation": "hard_sigmoid", "gate_scale": 2.0},
    ),
    "mixed_float16": ((2, 5, 6, 16), {"ratio": 4, "dtype": "mixed_float16"}),
    "mixed_bfloat16": ((2, 5, 6, 16), {"ratio": 4, "dtype": "mixed_bfloat16"}),
    "bfloat16": ((2, 5, 6, 16), {"ratio": 4, "dtype": "bfloat16"}),
    "float64": ((2, 5, 6, 16), {"ratio": 4, "dtype": "float64"}),
    "masked": ((3, 3, 4, 8), {"ratio": 2}),
    "masked_max": ((3, 6, 8), {"ratio": 2, "pool": "max"}),
}
# Relative to the largest output; for the short types see test_layers.py.
TOLERANCE = {"float64": 1e-12, "mixed_float16": 2**-9, "mixed_bfloat16": 2**-6, "bfloat16": 2**-4}
MODEL_MODES = [
    ("tensorflow", "eager"),
    ("tensorflow", "graph"),
    ("jax", "jit"),
    ("torch", "eager"),
]
OTHERS = [("jax",), ("torch",)]
# These take too long of whole networks.
LAYER_MODES = [*MODEL_MODES, ("tensorflow", "xla"), ("jax", "eager")]


def layer_model(name):
    shape, options = LAYERS[name]
    dtype = keras.dtype_policies.get(options.get("dtype", "float32")).variable_dtype
    inputs = keras.Input(shape[1:], dtype=dtype)
    x = keras.layers.Masking()(inputs) if name.startswith("masked") else inputs
    return keras.Model(inputs, SqueezeExcite(**options)(x)), layer_input(name)


def layer_input(name):
    x = uniform(LAYERS[name][0], 1)
    if name.startswith("masked"):  # some positions of the first sample, and all of the last
        x[0, 1:3] = x[-1] = 0
    return x


def public_model(name):
    return row_of(name).make(), row_of(name).input(batch=4)


PUBLIC = [name for name in names_with("backend") if not row_of(name).slow]
# An empty batch has no gradient; in bfloat16 a weight's last place is larger than the step.
TRAINED = [name for name in [*LAYERS, *PUBLIC] if name not in ("empty_batch", "bfloat16")]
GRAPH = "graph"  # tests of test_graph.py, in the same processes
WITHOUT = "without_tensorflow"  # and that of test_without_tensorflow.py
CASES = dict.fromkeys(LAYERS, layer_model) | dict.fromkeys(PUBLIC, public_model)
CASES |= dict.fromkeys([GRAPH, WITHOUT])


# --- in the backend's own process ----------------------------------------------------------------


def predictors(model):
    """Return the model as a function, for each mode of this backend."""
    if keras.backend.backend() == "torch":
        return {"eager": model}
    if keras.backend.backend() == "jax":
        return {"eager": model, "jit": jitted(model)}
    import tensorflow as tf

    return {
        "eager": model,
        "graph": tf.function(model),
        "xla": tf.function(model, jit_compile=True),
    }


def jitted(model):
    import jax

    variables = (model.trainable_variables, model.non_trainable_variables)
    state = [[variable.value for variable in part] for part in variables]
    return lambda x: jax.jit(model.stateless_call)(*state, x)[0]


def record(folder, *names):
    """Write the results of each case."""
    warnings.filterwarnings("error", module="se_keras")
    for name in names:
        results = results_of(name) if CASES[name] else {"error": error_of(name, Path(folder))}
        np.savez(Path(folder) / name, **results)


def results_of(name):
    """Return the outputs of every mode, and the changes by one step of SGD."""
    backend = keras.backend.backend()
    model, x = CASES[name](name)
    set_random_weights(model)
    results = {f"weight{i}": array(weight) for i, weight in enumerate(model.weights)}
    for mode, predict in predictors(model).items():
        if (backend, mode) in (LAYER_MODES if name in LAYERS else MODEL_MODES):
            results[mode] = array(predict(keras.ops.convert_to_tensor(x, model.input.dtype)))
    if name in PUBLIC and backend != "tensorflow":
        first = row_of(name).make(data_format=FIRST)
        first.set_weights(model.get_weights())
        predict = jitted(first) if backend == "jax" else first
        results[FIRST] = array(predict(to_channels_first(x)))
    return results | (trained(model, x) if name in TRAINED else {})


def error_of(case, folder):
    """What tests of another file fail with, if they do."""
    try:
        if case == WITHOUT:
            test_without_tensorflow.everything(folder)
            return ""
        for build in (test_graph.nested, test_graph.custom_layers, test_graph.operations):
            test_graph.test_rebuilt_it_is_the_same_model_with_weights_of_its_own(build, False)
        test_graph.test_training_the_new_model_leaves_the_original()
        test_graph.test_insert_inside_a_nested_model_serves_all_its_calls()
    except Exception:
        return traceback.format_exc()
    return ""


def trained(model, x):
    compiled = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=compiled)
    target = uniform((len(x), *model.output_shape[1:]), 2)
    before = [array(weight).copy() for weight in model.trainable_weights]
    model.train_on_batch(x, target)
    steps = [array(w) - b for w, b in zip(model.trainable_weights, before, strict=True)]
    paths = [weight.path for weight in model.trainable_weights]
    return {"paths": paths} | {f"step{i}": step for i, step in enumerate(steps)}


# No other backend finds TensorFlow.
RECORD = f"{test_without_tensorflow.WITHOUT}import test_backends as b; b.record(*sys.argv[1:])"

# --- in the test's process -----------------------------------------------------------------------


# Every kind of layer that the networks have; all other tests run them on TensorFlow. JAX compiles
# every operation of a network while it is built: some 20 s each.
QUICK = {
    "tensorflow": ("SEResNet20", "optimize"),
    "torch": ("SEResNet20", "optimize"),
    "jax": ("SEResNet20",),
}


def is_slow(backend, name):
    return name in PUBLIC and row_of(name).network and name not in QUICK[backend]


def cases(*sets, names):
    """`(*set, name)` for each set, which begins with a backend, and each name."""
    return [
        pytest.param(*each, name, marks=pytest.mark.slow if is_slow(each[0], name) else ())
        for each in sets
        for name in names
    ]


@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    """`results(backend, case)`: what `record` wrote; a backend runs once for all quick cases."""
    given = request.config.getoption("--recorded")

    @functools.cache
    def recorded(backend, slow):
        names = [name for name in CASES if is_slow(backend, name) == slow]
        if given and (Path(given) / backend).is_dir():
            return read_results(Path(given) / backend, names)
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"the {backend} package is not installed")
        folder = tmp_path_factory.mktemp(backend)
        if backend == keras.backend.backend():
            names = [name for name in names if name != WITHOUT]
            record(folder, *names)
        else:
            run_python(RECORD, folder, *names, backend=backend)
        return read_results(folder, names)

    return lambda backend, name: recorded(backend, is_slow(backend, name))[name]


def read_results(folder, names):
    return {name: dict(np.load(folder / f"{name}.npz")) for name in names}


def numbered(result, kind):
    return [result[f"{kind}{i}"] for i in range(sum(key.startswith(kind) for key in result))]


@pytest.mark.parametrize(("backend", "mode", "name"), cases(*LAYER_MODES, names=LAYERS))
def test_the_layer_equals_the_reference(backend, mode, name, results):
    result, (shape, options) = results(backend, name), LAYERS[name]
    options = {"scale" if k == "gate_scale" else k: v for k, v in options.items()}
    dtype = options.pop("dtype", "float32")
    shaping = {k: v for k, v in options.items() if k not in ("ratio", "divisor", "use_bias")}
    x = layer_input(name)
    shaping["mask"] = x.any(axis=-1) if name.startswith("masked") else None
    expected, _ = reference_se(x, numbered(result, "weight"), **shaping)
    if backend != "tensorflow" and dtype == "float64":
        dtype = "float32"  # as in a training step
    assert result[mode].shape == shape
    assert_close(result[mode], expected, TOLERANCE.get(dtype, 1e-5))


@pytest.mark.parametrize(("backend", "mode", "name"), cases(*MODEL_MODES, names=PUBLIC))
def test_a_model_equals_tensorflows(backend, mode, name, results):
    assert_close(results(backend, name)[mode], results("tensorflow", name)["eager"], 1e-4)


@pytest.mark.parametrize(("backend", "name"), cases(*OTHERS, names=PUBLIC))
def test_channels_first_is_the_transposed_model(backend, name, results):
    result = results(backend, name)
    last = result["jit" if backend == "jax" else "eager"]
    assert_close(result[FIRST], to_channels_first(last), 1e-4)


@pytest.mark.parametrize(("backend", "name"), cases(("tensorflow",), names=PUBLIC))
def test_a_training_step_moves_every_weight(backend, name, results):
    result = results(backend, name)
    steps = zip(result["paths"], numbered(result, "step"), strict=True)
    # The next normalization takes away what a beta adds, where no activation is between them.
    assert [path for path, step in steps if not step.any() and not path.endswith("beta")] == []


@pytest.mark.parametrize(("backend", "name"), cases(*OTHERS, names=TRAINED))
def test_a_training_step_equals_tensorflows(backend, name, results):
    expected = numbered(results("tensorflow", name), "step")
    largest = max(np.abs(step).max() for step in expected)
    dtype = LAYERS.get(name, ((), {}))[1].get("dtype")
    # Keras' sums and products of float64 are float32 on other backends, and a step is a small
    # difference of weights.
    tolerance = (TOLERANCE | {"float64": 1e-4}).get(dtype, 1e-3)
    for step, wanted in zip(numbered(results(backend, name), "step"), expected, strict=True):
        atol = tolerance * np.abs(wanted).max() + 1e-5 * largest
        np.testing.assert_allclose(step, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("backend", [backend for (backend,) in OTHERS])
def test_graphs_are_rebuilt_trained_and_inserted_into(backend, results):
    assert str(results(backend, GRAPH)["error"]) == ""


@pytest.mark.parametrize("backend", [backend for (backend,) in OTHERS])
def test_everything_but_training_on_folders_works_without_tensorflow(backend, results):
    assert str(results(backend, WITHOUT)["error"]) == ""
