"""Without TensorFlow, JAX and PyTorch run everything but what says that it needs TensorFlow.

`everything` runs in the processes of test_backends.py, which can't import TensorFlow; that the
layers and networks compute the same there is tested by that file.
"""

import contextlib
import importlib.util
import io
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from checks import array, run_python, set_random_weights, shapes_of_row, uniform

import se_keras
from se_keras import cli, train
from se_keras.models.recipes import RECIPES, find_recipe
from se_keras.support.errors import InputError, MissingExtraError

WITHOUT = "import without_tensorflow, sys; "
INSTALL = "The package 'tensorflow' is missing: pip install tensorflow"
# JAX has compiled what draws most of these weights for SEResNet20 in test_backends.py.
TINY = replace(find_recipe("seresnet18"), depths=(1,), widths=(16,), stem_widths=(16,))


# --- in a process without TensorFlow --------------------------------------------------------------


def tiny(**options):
    given = {"input_shape": (16, 16, 3), "classes": 2, "classifier_activation": None}
    return se_keras.create(TINY, **given | options)


def everything(folder):
    model = tiny()
    set_random_weights(model)
    x = uniform((4, 16, 16, 3), 1)
    logits = array(model(x))
    it_is_read_from_files(model, folder)
    it_is_rewritten(model, x, logits)
    pixels_are_read()
    arrays_are_fitted(model, x, folder, "float32")
    the_rest_asks_for_tensorflow(model, folder)
    assert "tensorflow" not in sys.modules


def it_is_read_from_files(model, folder):
    model.save_weights(folder / "a.weights.h5")
    se_keras.save_timm(model, folder / "a.safetensors")
    files = ["a.weights.h5", "a.safetensors"]
    if keras.backend.backend() == "torch":  # JAX need not import it
        import torch
        from safetensors.torch import load_file

        torch.save(load_file(folder / "a.safetensors"), folder / "a.pth")
        files.append("a.pth")
    fresh = tiny()
    for file in files:
        set_random_weights(fresh, 2)
        se_keras.load_weights(fresh, folder / file)
        for got, expected in zip(fresh.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(got, expected)


def it_is_rewritten(model, x, logits):
    largest = np.abs(logits).max()
    fast = se_keras.optimize(model, verbose=False)
    assert not any(isinstance(layer, se_keras.SqueezeExcite) for layer in fast.layers)
    np.testing.assert_allclose(array(fast(x)), logits, atol=1e-5 * largest)
    plain = se_keras.remove_se(model)
    again = se_keras.insert_se(plain, ratio=2, warm_start=True)
    assert len(se_keras.find_sites(plain).sites) == sum(TINY.depths)
    np.testing.assert_allclose(array(again(x)), array(plain(x)), atol=1e-5 * largest)
    assert se_keras.count(model).params == model.count_params()
    stats = se_keras.record_excitations(model, (x, np.array([0, 1, 0, 1])), verbose=False)
    assert len(stats.layers) == sum(TINY.depths)


def pixels_are_read():
    photo = np.arange(40 * 50 * 3, dtype="uint8").reshape(40, 50, 3)
    size = se_keras.pixels_of("seresnet50.a1_in1k").size
    assert se_keras.load_image(photo, "seresnet50.a1_in1k").shape == (size, size, 3)
    white = np.full((1, 2, 2, 3), 255, "uint8")
    expected = (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    pixels = se_keras.preprocess_input(white, "seresnet50.a1_in1k")
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), rtol=1e-5)


def arrays_are_fitted(model, x, folder, dtype):
    """The loss falls, and the saved model equals the trained one."""
    trained = tiny(dtype=dtype)
    trained.set_weights(model.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    y = np.array([0, 1, 0, 1])
    history = trained.fit(x, y, batch_size=2, epochs=5, shuffle=False, verbose=0)
    first, *_, last = history.history["loss"]
    assert last < first / 2, history.history
    assert {weight.dtype for weight in trained.trainable_weights} == {"float32"}
    trained.save(folder / "trained.keras")
    loaded = keras.saving.load_model(folder / "trained.keras")
    np.testing.assert_array_equal(array(loaded(x)), array(trained(x)))


def the_rest_asks_for_tensorflow(model, folder):
    with pytest.raises(MissingExtraError, match=INSTALL):
        _ = train.train
    with pytest.raises(InputError, match="set KERAS_BACKEND=tensorflow"):
        se_keras.export(model, folder / "a")
    model.save(folder / "a.keras")
    for command in ("train --out", f"explain {folder}/a.keras --data digits --out"):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            assert cli.main([*command.split(), str(folder / "out")]) == 2
        (name, *_) = command.split()
        assert errors.getvalue() == f"se-keras {name}: {INSTALL}.\n"


def build_every_network():
    for recipe in RECIPES:
        with keras.StatelessScope(initialize_variables=False):
            weights = se_keras.create(recipe).weights
        assert {w.path: tuple(w.shape) for w in weights} == shapes_of_row(recipe.name), recipe.name


def fit_in_bfloat16(folder):
    model = tiny()
    set_random_weights(model)
    arrays_are_fitted(model, uniform((4, 16, 16, 3), 1), Path(folder), "mixed_bfloat16")


# --- in the test's process ------------------------------------------------------------------------


def test_the_backend_that_is_missing_is_named():
    told = f"{INSTALL}, or name in KERAS_BACKEND a backend that is installed."
    code = f"{WITHOUT}\ntry: import se_keras\nexcept ImportError as error: print(error)"
    assert run_python(code) == f"{told}\n"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize(
    "call", ["build_every_network()", "fit_in_bfloat16(sys.argv[1])"], ids=["networks", "bfloat16"]
)
def test_every_network_is_built_and_bfloat16_fitted(backend, call, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the {backend} package is not installed")
    run_python(f"{WITHOUT}import test_without_tensorflow as t; t.{call}", tmp_path, backend=backend)
