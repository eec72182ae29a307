"""Weights for three colors in networks for images of other channels."""

import dataclasses
import importlib.util

import keras
import numpy as np
import pytest
from golden.make_timm import load_timm

import se_keras
from se_keras import cli
from se_keras.catalog import create_with_plan
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError
from se_keras.weights import hub, presets
from se_keras.weights.input_channels import adapt_kernel
from se_keras.weights.preprocessing import Pixels

SMALL = {"depths": (1, 1), "widths": (8, 8)}
ROWS = {
    "one kernel": dataclasses.replace(find_recipe("seresnet18"), **SMALL, stem_widths=(8,)),
    "deep stem": dataclasses.replace(find_recipe("seresnet152d"), **SMALL, stem_widths=(8, 8, 8)),
}
FIRST = {"one kernel": "stem_conv/kernel", "deep stem": "stem_conv1/kernel"}


@pytest.fixture(scope="module", params=ROWS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def donor(kind):
    keras.utils.set_random_seed(0)
    return se_keras.create(ROWS[kind], classes=5, input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def file(kind, donor, tmp_path_factory):
    """Of timm's names for the one network, of Keras' for the other."""
    folder = tmp_path_factory.mktemp("weights")
    if kind == "deep stem":
        donor.save_weights(folder / "a.weights.h5")
        return folder / "a.weights.h5"
    se_keras.save_timm(donor, folder / "a.safetensors")
    return folder / "a.safetensors"


def values(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def expected_kernel(kernel, channels):
    """In float64, by the words of timm's `adapt_input_conv`."""
    kernel = kernel.astype("float64")
    if channels == 1:
        return kernel[:, :, :1] + kernel[:, :, 1:2] + kernel[:, :, 2:]
    taken = [number % 3 for number in range(channels)]
    return kernel[:, :, taken] * 3 / channels


@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_kernel_alone_is_adapted(kind, donor, file, channels):
    model, plan = create_with_plan(
        ROWS[kind], file, adapt_input=True, input_shape=(32, 32, channels)
    )
    before, after = values(donor), values(model)
    assert before.keys() == after.keys()
    first = FIRST[kind]
    np.testing.assert_allclose(
        after.pop(first), expected_kernel(before.pop(first), channels), rtol=1e-6, atol=1e-7
    )
    for path, value in after.items():
        np.testing.assert_array_equal(value, before[path])
    how = "added" if channels == 1 else f"repeated, times 3/{channels}"
    (note,) = plan.notes
    assert note.startswith(f"adapted: {first} (")
    assert note.endswith(f"3 channels {how})")
    assert f"\n{note}\n" in str(plan)


def test_gray_images_get_the_answer_that_three_equal_channels_get(kind, donor, file):
    model = se_keras.create(ROWS[kind], weights=file, adapt_input=True, input_shape=(32, 32, 1))
    gray = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(gray)),
        keras.ops.convert_to_numpy(donor(gray.repeat(3, axis=3))),
        rtol=1e-4,
        atol=1e-6,
    )


def test_three_colors_stay_as_they_are(kind, donor, file):
    model, plan = create_with_plan(ROWS[kind], file, adapt_input=True, input_shape=(32, 32, 3))
    assert plan.notes == ()
    for ours, theirs in zip(values(model).values(), values(donor).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_the_flag_it_is_an_error_that_names_it(kind, file):
    model = se_keras.create(ROWS[kind], classes=5, input_shape=(32, 32, 1))
    before = values(model)
    with pytest.raises(InputError, match=r"three colors; `adapt_input=True` adapts its first"):
        se_keras.load_weights(model, file)
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, before[path])
    plan = se_keras.load_weights(model, file, adapt_input=True)
    assert len(plan.assignments) == len(model.weights)


def test_a_file_of_other_channels_is_not_adapted(kind, tmp_path):
    gray = se_keras.create(ROWS[kind], classes=5, input_shape=(32, 32, 1))
    se_keras.save_timm(gray, tmp_path / "gray.safetensors")
    model = se_keras.create(ROWS[kind], classes=5, input_shape=(32, 32, 4))
    with pytest.raises(InputError, match="other shape") as caught:
        se_keras.load_weights(model, tmp_path / "gray.safetensors", adapt_input=True)
    assert "adapt_input" not in str(caught.value)


def test_the_flag_goes_with_weights_and_is_a_boolean(file, kind):
    with pytest.raises(InputError, match="`adapt_input=True` adapts the first kernel of `weights`"):
        se_keras.create("seresnet20", adapt_input=True)
    with pytest.raises(InputError, match="`adapt_input` must be"):
        se_keras.create(ROWS[kind], weights=file, adapt_input="yes", input_shape=(32, 32, 1))


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 8])
def test_kernels_are_repeated_and_scaled(channels):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype("float32")
    ours = adapt_kernel(kernel, channels)
    assert ours.dtype == "float32"
    np.testing.assert_allclose(ours, expected_kernel(kernel, channels), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("timm", "torchvision")),
    reason="needs timm",
)
def test_kernels_are_those_of_timm():
    torch, _ = load_timm()
    from timm.models._manipulate import adapt_input_conv

    kernel = np.random.default_rng(0).normal(size=(7, 7, 3, 16)).astype("float32")
    # timm rounds to the type of the file.
    for dtype, tolerance in (("float32", 1e-6), ("float16", 2e-3)):
        for channels in (1, 2, 4, 6, 8):
            given = kernel.astype(dtype)
            theirs = adapt_input_conv(channels, torch.tensor(given.transpose(3, 2, 0, 1)))
            np.testing.assert_allclose(
                adapt_kernel(given, channels),
                theirs.numpy().transpose(2, 3, 1, 0),
                rtol=tolerance,
                atol=tolerance,
            )


# --- what pixels such a model takes --------------------------------------------------------------


@pytest.fixture(scope="module")
def of_seresnet20(tmp_path_factory):
    path = tmp_path_factory.mktemp("seresnet20") / "a.weights.h5"
    se_keras.create("seresnet20", input_shape=(32, 32, 3)).save_weights(path)
    return path


@pytest.fixture
def published(of_seresnet20, monkeypatch):
    """A set of weights for a small network among the published ones; its name."""
    row = presets.Preset(
        recipe="seresnet20",
        tag="test",
        source="hf://timm/seresnet20.test",
        pixels=Pixels(**presets.USUAL | {"size": 32}, origin="weights seresnet20.test"),
        top1=0.0,
        classes=10,
        origin="this test",
    )
    monkeypatch.setattr(presets, "PRESETS", (row,))
    fetched = hub.Fetched(path=of_seresnet20)
    monkeypatch.setattr(hub, "fetch", lambda file: fetched)
    return row.name


def test_gray_images_are_normalized_by_the_average(published):
    model = se_keras.create(
        "seresnet20", weights=published, adapt_input=True, input_shape=(32, 32, 1)
    )
    assert model.name == "seresnet20.test"
    pixels = se_keras.pixels_of(model)
    # timm, data/loader.py: adapt_to_chs averages for other numbers of channels.
    assert pixels.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert pixels.std == pytest.approx([(0.229 + 0.224 + 0.225) / 3])
    assert (pixels.channels, pixels.crop, pixels.interpolation) == (1, 0.875, "bicubic")
    assert pixels.origin == "weights seresnet20.test: the average of three colors, for gray images"
    image = se_keras.load_image(np.full((50, 40), 255, "uint8"), model)
    assert image.shape == (32, 32, 1)
    white = se_keras.preprocess_input(image, model)
    np.testing.assert_allclose(white, (1 - 0.449) / 0.226, rtol=1e-6)


def test_images_of_more_channels_stay_unknown(published):
    model = se_keras.create(
        "seresnet20", weights=published, adapt_input=True, input_shape=(32, 32, 4)
    )
    assert se_keras.pixels_of(model).unknown
    with pytest.raises(InputError, match="it takes 4 channels"):
        se_keras.preprocess_input(np.zeros((32, 32, 4), "uint8"), model)


# --- command line --------------------------------------------------------------------------------


def test_convert_adapts(published, tmp_path, capsys):
    out = str(tmp_path / "gray.keras")
    convert = ["convert", published, out, "--model", "seresnet20", "--adapt-input", "1"]
    assert cli.main([*convert, "--dry-run"]) == 0
    assert "adapted: stem_conv/kernel (3 channels added)" in capsys.readouterr().out
    assert cli.main(convert) == 0
    model = keras.models.load_model(out)
    assert model.input_shape == (None, 32, 32, 1)
    assert se_keras.pixels_of(model).mean == pytest.approx([0.449])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("seresnet20.test OUT.keras --model seresnet20 --adapt-input 0", "--adapt-input must be"),
        ("OUT.keras OUT.safetensors --to timm --adapt-input 1", "need --model"),
    ],
)
def test_convert_refuses_other_channels(arguments, words, published, tmp_path, capsys):
    assert cli.main(["convert", *arguments.replace("OUT", str(tmp_path / "a")).split()]) == 2
    assert words in capsys.readouterr().err
