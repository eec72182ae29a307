"""One table of everything public, and the checks that cut across it.

Each row says how its names make a small model, and which checks that model takes. A new public
name needs a row; `test_backends.py` reads the same table.
"""

import fnmatch
import functools
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from checks import (
    array,
    run_python,
    serve_without_the_package,
    set_random_weights,
    to_channels_first,
    uniform,
)

import se_keras
from se_keras.models.assembly import NetworkOptions, build_network
from se_keras.models.recipes import find_recipe

# save: files read in fresh processes, SavedModel, training further, clones. nest: inside a user's
# model, or as a SavedModel in it. dtype: all policies. backend: see test_backends.py. data_format:
# channels_first gives the transposed output, or, for networks on a TensorFlow CPU, is refused.
CHECKS = ("save", "nest", "dtype", "backend", "data_format")
COMPUTE = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Public names that one model stands for.

    Attributes:
        names: a pattern; a public name belongs to the first row that matches it.
        make: `make(dtype=..., data_format=...)` gives a small model.
        shape: (H, W, C) of its input.
        checks: those that it takes.
        because: why it does not take all of them.
        slow: its model is large.
        slow_save: the check "save" is slow: SEResNet20 and SEShuffleNet have its kinds of layers.
        network: it has convolutions, which a TensorFlow CPU has in channels_last only.
    """

    names: str
    make: Callable[..., keras.Model] | None = None
    shape: tuple[int, ...] = (32, 32, 3)
    checks: tuple[str, ...] = CHECKS
    because: str = ""
    slow: bool = False
    slow_save: bool = False
    network: bool = True

    def input(self, batch=2, seed=1):
        return uniform((batch, *self.shape), seed)


def se_layer(data_format="channels_last", dtype="float32"):
    shape = (8, 5, 6) if data_format == "channels_first" else (5, 6, 8)
    inputs = keras.Input(shape, dtype=keras.dtype_policies.get(dtype).variable_dtype)
    options = {"pool": "max", "activation": "silu", "gate_scale": 1.5, "divisor": 2}
    layer = se_keras.SqueezeExcite(4, data_format=data_format, dtype=dtype, name="se", **options)
    return keras.Model(inputs, layer(inputs))


def gate(kind, **options):
    def make(data_format="channels_last", dtype="float32"):
        shape = (8, 5, 6) if data_format == "channels_first" else (5, 6, 8)
        inputs = keras.Input(shape, dtype=keras.dtype_policies.get(dtype).variable_dtype)
        layer = getattr(se_keras, kind)(data_format=data_format, dtype=dtype, **options)
        return keras.Model(inputs, layer(inputs))

    return {"names": kind, "make": make, "shape": (5, 6, 8), "network": False}


def se_block(data_format="channels_last", dtype="float32"):
    shape = (8, 5, 6) if data_format == "channels_first" else (5, 6, 8)
    inputs = keras.Input(shape, dtype=keras.dtype_policies.get(dtype).variable_dtype)
    return keras.Model(
        inputs, se_keras.se_block(inputs, 4, "se", data_format=data_format, dtype=dtype)
    )


def inserted(data_format="channels_last", dtype="float32"):
    """SE in the residual branch of a network that is not ours."""
    own = {"padding": "same", "data_format": data_format, "dtype": dtype}
    shape = (3, 8, 8) if data_format == "channels_first" else (8, 8, 3)
    image = keras.Input(shape, dtype=keras.dtype_policies.get(dtype).variable_dtype)
    x = keras.layers.Conv2D(8, 3, **own, name="stem")(image)
    y = keras.layers.ReLU(dtype=dtype, name="relu")(x)
    y = keras.layers.Conv2D(8, 3, **own, name="branch")(y)
    x = keras.layers.Add(dtype=dtype, name="add")([x, y])
    return se_keras.insert_se(keras.Model(image, x), ratio=2)


def optimized(**options):
    model = inserted(**options)
    set_random_weights(model)  # or the gates are constant, and nothing of them is left
    return se_keras.optimize(model, verbose=False)


def equations(data_format="channels_last"):
    shape = (8, 5, 6) if data_format == "channels_first" else (5, 6, 8)
    u = keras.Input(shape)
    s = se_keras.ops.excite(
        se_keras.ops.squeeze(u, "avg", data_format),
        keras.layers.Dense(2, name="reduce"),
        keras.layers.Dense(8, name="expand"),
    )
    return keras.Model(u, se_keras.ops.recalibrate(u, s, data_format))


def network(name, smaller=None, shape=(32, 32, 3), **fixed):
    """Makes a row of the catalog, with fewer layers and channels where `smaller` says so."""

    def make(data_format="channels_last", **options):
        recipe = replace(find_recipe(name), **(smaller or {}))
        # No dropout: each backend has its own random numbers. Logits: a softmax hides differences.
        given = {"classes": 5, "classifier_activation": None, "dropout": 0.0} | fixed | options
        h, w, c = shape
        given["input_shape"] = (c, h, w) if data_format == "channels_first" else shape
        return build_network(recipe, NetworkOptions(data_format=data_format, **given))

    return make


NARROW = {"depths": (1, 2), "widths": (8, 16), "stem_widths": (8,)}
NARROW_GROUPS = {**NARROW, "groups": 2, "width_per_group": 32}
NARROW_DEEP = {"stem_widths": (4, 4, 8)}
NARROW_SMALL = {"depths": (1, 1), "widths": (16, 32)}
NARROW_VGG = {"depths": (1, 2), "widths": (8, 16)}
NARROW_SHUFFLE = {"depths": (2, 2), "widths": (48, 96)}
NO_TOP = {"include_top": False, "pooling": "avg"}

# Checks are left out if they take long and can fail only together with another check.
NO_NEST = {
    "checks": ("save", "dtype", "backend", "data_format"),
    "because": "SEResNet20 is nested, and to the outer model a network is one layer",
}
NO_SAVE = {
    "checks": ("dtype", "backend", "data_format"),
    "because": "stock Keras layers, which SEResNet50 saves too",
}
NO_FORMAT = {
    "checks": ("save", "nest", "dtype", "backend"),
    "because": "TensorFlow runs the user's convolutions, or refuses them itself",
}
NO_FILE = {
    "checks": ("dtype", "backend", "data_format"),
    "because": "test_layers_kin.py saves it, and GatherExcite has its kinds of layers",
}
NO_PROCESS = {
    "checks": ("dtype", "data_format"),
    "because": "the layers of SEResNet50 in another order",
}

ROWS = (
    Row(names="SqueezeExcite", make=se_layer, shape=(5, 6, 8), network=False),
    Row(**gate("GatherExcite", extent=2, extra_params=True, use_mlp=True, ratio=2)),
    Row(**gate("SpatialChannelSqueezeExcite", fusion="max"), **NO_FILE),
    Row(**gate("EfficientChannelAttention", pool="max"), **NO_FILE),
    Row(**gate("EffectiveSqueezeExcite"), **NO_FILE),
    Row(names="se_block", make=se_block, shape=(5, 6, 8), network=False),
    Row(
        names="ops",
        make=equations,
        shape=(5, 6, 8),
        checks=("save", "nest", "backend", "data_format"),
        because="functions have no dtype policy",
        network=False,
    ),
    Row(names="InputError", checks=(), because="an error, not a model; test_support.py"),
    Row(names="create", checks=(), because="every builder goes through it"),
    Row(names="list_models", checks=(), because="it gives rows, not a model"),
    Row(names="count", checks=(), because="it gives numbers, not a model"),
    Row(names="*_weights", checks=(), because="it fills a model that is there"),
    Row(names="save_timm", checks=(), because="it writes a file, no model"),
    Row(names="export", checks=(), because="it writes a file; test_deploy_export.py"),
    Row(names="find_sites", checks=(), because="it gives a plan, not a model"),
    Row(names="preprocess_input", checks=(), because="it gives pixels; test_pixels.py"),
    Row(names="[Pp]ixels*", checks=(), because="they say what pixels; test_pixels.py"),
    Row(names="decode_predictions", checks=(), because="it gives names, not a model"),
    Row(names="load_image", checks=(), because="it gives pixels, not a model"),
    Row(names="insert_se", make=inserted, shape=(8, 8, 3), **NO_FORMAT),
    Row(names="optimize", make=optimized, shape=(8, 8, 3), **NO_FORMAT),
    Row(names="remove_se", checks=(), because="it leaves what was there before"),
    Row(names="record_excitations", checks=(), because="it gives statistics, not a model"),
    Row(names="plot_excitations", checks=(), because="it gives pictures, not a model"),
    Row(names="prune_se", checks=(), because="it leaves layers that were there before, scaled"),
    Row(names="SEResNet20", make=network("seresnet20", NARROW_SMALL)),
    Row(names="SEResNet50", make=network("seresnet50", NARROW), slow_save=True, **NO_NEST),
    Row(
        names="SEResNeXt50_32x4d",
        make=network("seresnext50_32x4d", NARROW_GROUPS),
        slow_save=True,
        **NO_NEST,
    ),
    Row(names="SEResNet152D", make=network("seresnet152d", NARROW | NARROW_DEEP), **NO_SAVE),
    Row(names="SEResNetAA50D", make=network("seresnetaa50d", NARROW | NARROW_DEEP), **NO_SAVE),
    Row(names="ResNetRS50", make=network("resnetrs50", NARROW | NARROW_DEEP), **NO_PROCESS),
    Row(
        names="LegacySENet154",
        make=network("legacy_senet154", NARROW_GROUPS | NARROW_DEEP),
        **NO_SAVE,
    ),
    Row(names="LegacySEResNet18", make=network("legacy_seresnet18", NARROW), **NO_PROCESS),
    Row(names="SEResNet164", make=network("seresnet164", NARROW_SMALL), **NO_PROCESS),
    Row(names="SEWRN16_8", make=network("sewrn16_8", NARROW_SMALL), **NO_PROCESS),
    Row(
        names="SEMobileNet",
        make=network("semobilenet", {"alpha": 0.25}),
        slow_save=True,
        **NO_NEST,
    ),
    Row(names="SEVGG16BN", make=network("sevgg16_bn", NARROW_VGG, **NO_TOP), **NO_PROCESS),
    Row(names="SEShuffleNet", make=network("seshufflenet", NARROW_SHUFFLE), **NO_NEST),
    Row(names="SEBNInception", make=network("sebn_inception"), slow=True, **NO_NEST),
    Row(
        names="SEInception*",
        checks=(),
        because="the modules of SEBNInception; test_models_inception.py saves them",
    ),
    Row(names="ResNetRS*", checks=(), because="other depths of ResNetRS50"),
    Row(names="*SERes*", checks=(), because="other sizes of the residual networks above"),
    Row(names="ECAResNetLight", make=network("ecaresnetlight", NARROW), **NO_PROCESS),
    Row(names="ECAResNet*", checks=(), because="ECA in SEResNet152D's blocks"),
    Row(names="SENet154", checks=(), because="LegacySENet154 with other paddings"),
    Row(names="SEVGG16", checks=(), because="SEVGG16BN without normalization"),
)
NO_ROW = Row(names="", checks=())


def row_of(name):
    return next((row for row in ROWS if fnmatch.fnmatchcase(name, row.names)), NO_ROW)


def names_with(check):
    return [name for name in se_keras.__all__ if check in row_of(name).checks]


def cases(check):
    """Return the names with this check as parameters of a test."""
    return [
        pytest.param(name, marks=pytest.mark.slow if is_slow(name, check) else ())
        for name in names_with(check)
    ]


def is_slow(name, check):
    return row_of(name).slow or (check == "save" and row_of(name).slow_save)


def assert_close(got, expected, tolerance, what=""):
    """Equal within a part of the largest expected number."""
    atol = tolerance * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=what)


def made(name, **options):
    model = row_of(name).make(**options)
    set_random_weights(model)
    return model


# --- the table itself ----------------------------------------------------------------------------


def test_every_public_name_has_a_row():
    missing = [name for name in se_keras.__all__ if row_of(name) is NO_ROW]
    assert missing == []


def test_every_row_is_the_first_for_a_public_name():
    used = {row_of(name) for name in se_keras.__all__}
    assert [row.names for row in ROWS if row not in used] == []


def test_a_row_that_leaves_out_a_check_says_why():
    assert [row.names for row in ROWS if set(row.checks) - set(CHECKS)] == []
    assert [
        row.names for row in ROWS if (set(row.checks) != set(CHECKS)) != bool(row.because)
    ] == []


def test_public_names_exist_and_are_documented():
    for name in se_keras.__all__:
        assert getattr(se_keras, name).__doc__, name
    assert sorted(set(se_keras.__all__)) == sorted(se_keras.__all__)


# --- save ----------------------------------------------------------------------------------------


def write(name, folder):
    """Write the files for a fresh process, and the results that it should compute from them."""
    model, row = made(name), row_of(name)
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    model.export(folder / "saved_model", verbose=False)
    np.save(folder / "x.npy", row.input(batch=2))
    np.save(folder / "expected.npy", array(model(row.input(batch=2))))
    np.save(folder / "expected_batch_of_3.npy", array(model(row.input(batch=3))))


def read(folder):
    """In a fresh process: the outputs from both files, and a model that was trained further."""
    x = np.load(folder / "x.npy")
    model = keras.models.load_model(folder / "model.keras")
    np.save(folder / "keras.npy", array(model(x)))
    rebuilt = row_of(folder.name).make()
    rebuilt.load_weights(folder / "model.weights.h5")
    np.save(folder / "weights.npy", array(rebuilt(x)))
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    model.fit(x, np.zeros_like(np.load(folder / "expected.npy")), verbose=0)
    np.save(folder / "expected_tuned.npy", array(model(x)))
    model.export(folder / "tuned", verbose=False)


def read_all(folder):
    """Call `read` for each model; the traceback of a failure replaces the outputs."""
    for each in sorted(Path(folder).iterdir()):
        try:
            read(each)
        except Exception:
            (each / "error.txt").write_text(traceback.format_exc())


# What it makes is stock Keras layers: a process without the package reads its .keras file too.
STOCK = {"optimize"}


def written_and_read(names, folder):
    for name in names:
        write(name, folder / name)
    run_python("import sys, test_public; test_public.read_all(sys.argv[1])", folder)
    serve_without_the_package(
        {folder / name / "saved_model": row_of(name).input(batch=3) for name in names}
        | {
            folder / name / "tuned": row_of(name).input(batch=2)
            for name in names
            if not (folder / name / "error.txt").exists()
        }
        | {folder / name / "model.keras": row_of(name).input(batch=2) for name in {*names} & STOCK}
    )
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All models of usual size, written here, read in two fresh processes."""
    quick = [name for name in names_with("save") if not is_slow(name, "save")]
    return written_and_read(quick, tmp_path_factory.mktemp("files"))


@pytest.fixture
def folder(name, files, tmp_path):
    return (written_and_read([name], tmp_path) if is_slow(name, "save") else files) / name


@pytest.mark.parametrize("name", cases("save"))
def test_fresh_processes_read_what_was_written(name, folder):
    error = folder / "error.txt"
    assert not error.exists(), error.read_text()
    for got, expected in (
        ("keras.npy", "expected.npy"),
        ("weights.npy", "expected.npy"),
        ("saved_model.served.npy", "expected_batch_of_3.npy"),
        ("tuned.served.npy", "expected_tuned.npy"),
    ):
        assert_close(np.load(folder / got), np.load(folder / expected), 1e-5, got)


@pytest.mark.parametrize("name", sorted(STOCK))
def test_a_file_of_stock_layers_needs_keras_alone(name, files):
    folder = files / name
    assert_close(np.load(folder / "model.keras.served.npy"), np.load(folder / "expected.npy"), 1e-5)


@pytest.mark.parametrize("name", cases("nest"))
def test_a_saved_model_is_a_layer_again(name, folder):
    layer = keras.layers.TFSMLayer(folder / "saved_model", call_endpoint="serve")
    inputs = keras.Input(row_of(name).shape)
    model = keras.Model(inputs, layer(inputs))
    y = model.predict(row_of(name).input(batch=3), verbose=0)
    assert_close(y, np.load(folder / "expected_batch_of_3.npy"), 1e-5)


@pytest.mark.parametrize("name", cases("save"))
def test_a_clone_is_the_same_network(name):
    model, x = made(name), row_of(name).input()
    clone = keras.models.clone_model(model)
    assert not {id(weight) for weight in clone.weights} & {id(weight) for weight in model.weights}
    clone.set_weights(model.get_weights())
    assert_close(array(clone(x)), array(model(x)), 1e-6)


@keras.saving.register_keras_serializable(package="tests")
class Doubled(keras.Model):
    """A user's own subclassed model around one of ours."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return 2 * self.inner(x)

    def get_config(self):
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner, **config)


def doubled_functional(inner):
    x = keras.Input(inner.input_shape[1:])
    return keras.Model(x, keras.layers.Rescaling(2.0)(inner(x)))


@pytest.mark.parametrize("name", cases("nest"))
@pytest.mark.parametrize("outer", [doubled_functional, Doubled])
def test_a_model_inside_a_users_model(name, outer, tmp_path):
    inner, x = made(name), row_of(name).input()
    expected = 2 * array(inner(x))
    model = outer(inner)
    assert_close(array(model(x)), expected, 1e-5)
    model.save(tmp_path / "outer.keras")
    again = keras.models.load_model(tmp_path / "outer.keras")
    assert_close(array(again(x)), expected, 1e-5)


# --- dtype ---------------------------------------------------------------------------------------

# Relative to the largest output of the float64 model, after
# some 20 roundings in a row. (All other tests compute in float32.)
TOLERANCE = {"mixed_float16": 0.02, "mixed_bfloat16": 0.1, "bfloat16": 0.2}


@functools.cache
def exact(name):
    """The float64 model's weights and output."""
    model = made(name, dtype="float64")
    assert {weight.dtype for weight in floats(model)} == {"float64"}
    return model.get_weights(), array(model(row_of(name).input()))


def floats(model):
    return [weight for weight in model.weights if "int" not in weight.dtype]


def dtype_cases():
    """Every name under one policy, small models under all; the rest is slow."""
    for name in names_with("dtype"):
        small = not row_of(name).network or name in ("insert_se", "optimize", "SEResNet20")
        for policy in TOLERANCE:
            quick = not row_of(name).slow and (small or policy == "mixed_bfloat16")
            yield pytest.param(name, policy, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("name", "policy"), [*dtype_cases()])
def test_a_policy_reaches_every_layer(name, policy):
    weights, expected = exact(name)
    model = row_of(name).make(dtype=policy)
    model.set_weights(weights)
    variable = keras.dtype_policies.get(policy).variable_dtype
    compute = COMPUTE.get(policy, policy)
    assert {weight.dtype for weight in floats(model)} == {variable}
    y = model(row_of(name).input())
    # The classifier of a mixed network is float32, as Keras' guide to mixed precision advises.
    assert keras.backend.standardize_dtype(y.dtype) in {compute, variable}
    inputs = [layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer)]
    computing = {layer.compute_dtype for layer in model.layers if layer not in inputs}
    assert compute in computing
    assert computing <= {compute, variable}
    assert_close(array(y), expected, TOLERANCE[policy])


# --- data format ---------------------------------------------------------------------------------


def tensorflow_without_gpu():
    gpus = keras.distribution.list_devices("gpu")
    return keras.backend.backend() == "tensorflow" and not gpus


@pytest.mark.parametrize("name", cases("data_format"))
def test_channels_first_is_the_transposed_network(name):
    row, last = row_of(name), made(name)
    if row.network and tensorflow_without_gpu():
        with pytest.raises(ValueError, match="`data_format` must be 'channels_last' here"):
            row.make(data_format="channels_first")
        return
    first = row.make(data_format="channels_first")
    first.set_weights(last.get_weights())
    x = row.input()
    assert_close(array(first(to_channels_first(x))), to_channels_first(array(last(x))), 1e-5)
