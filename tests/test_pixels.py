"""From an image to a network and from its answer to names, against timm and keras.applications."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from checks import GOLDEN, run_python, uniform
from PIL import Image

import se_keras
from se_keras import Pixels, pixels_of
from se_keras.cli import main
from se_keras.commands.predict import predict
from se_keras.deploy.tf_function import with_policy
from se_keras.deploy.to_saved_model import write_saved_model
from se_keras.metadata import describe, write_metadata
from se_keras.support.errors import InputError
from se_keras.weights import hub, presets
from se_keras.weights.presets import IMAGENET_MEAN, IMAGENET_STD
from se_keras.weights.source import split_name

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
# timm's transform of the two photos (golden/make_preprocessing.py).
with np.load(GOLDEN / "preprocessing.npz") as file:
    TIMM = dict(file)
# timm's name of the weights -> ours.
SOURCES = {
    "seresnet50.a1_in1k": "hf://timm/seresnet50.a1_in1k",
    "seresnet50.a3_in1k": "hf://timm/seresnet50.a3_in1k",
    "seresnet50.ra2_in1k": "seresnet50.ra2_in1k",
    "seresnet152d.ra2_in1k": "seresnet152d",
    "legacy_seresnet50.in1k": "legacy_seresnet50",
}
CASES = [(name, photo) for name in SOURCES for photo in ("china.jpg", "flower.jpg")]
SMALL = {"input_shape": (32, 32, 3), "classes": 5}


def pixels(shape=(2, 4, 5, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


def normalized(images):
    """(pixel / 255 - mean) / std in float64."""
    return (np.asarray(images, "float64") / 255 - IMAGENET_MEAN) / IMAGENET_STD


# --- the evaluation transform, against timm ------------------------------------------------------


@pytest.mark.parametrize(("name", "photo"), CASES)
def test_a_photo_is_resized_and_cropped_as_by_timm(name, photo):
    image = se_keras.load_image(PHOTOS / photo, SOURCES[name])
    assert image.dtype == np.uint8
    expected = TIMM[f"{name}/{photo}/pixels"].astype(int)
    # Equal with one Pillow; decoders of JPEG differ by one level.
    assert np.abs(image[::7, ::7] - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "photo"), [case for case in CASES if "/".join((*case, "test")) in TIMM]
)
def test_a_photo_at_the_second_size_is_as_by_timm(name, photo):
    image = se_keras.load_image(PHOTOS / photo, SOURCES[name], size="test")
    expected = TIMM[f"{name}/{photo}/test"].astype(int)
    assert np.abs(image[::16, ::16] - expected).max() <= 1


@pytest.mark.parametrize(("name", "photo"), CASES)
def test_a_photo_reaches_the_network_as_by_timm(name, photo):
    image = se_keras.load_image(PHOTOS / photo, SOURCES[name])
    values = se_keras.preprocess_input(image, SOURCES[name])[::28, ::28]
    level = 1 / (255 * min(IMAGENET_STD))
    np.testing.assert_allclose(values, TIMM[f"{name}/{photo}/normalized"], atol=level + 1e-5)


def test_a_normalized_photo_differs_from_timms_by_rounding_only():
    name, photo = CASES[0]
    image = TIMM[f"{name}/{photo}/pixels"][::4, ::4]
    values = se_keras.preprocess_input(image, SOURCES[name])
    np.testing.assert_allclose(values, TIMM[f"{name}/{photo}/normalized"], atol=1e-6)


@pytest.mark.parametrize("size", [(300, 500), (500, 300), (224, 224), (225, 1000), (10, 7)])
def test_the_central_square_of_any_image(size):
    # A pattern that shows where the crop lies: each column and each row has its own gray.
    height, width = size
    ramp = np.linspace(0, 255, height)[:, None] * 0.5 + np.linspace(0, 255, width)[None] * 0.5
    image = np.repeat(ramp.astype("uint8")[..., None], 3, axis=-1)
    cropped = se_keras.load_image(image, "seresnet50.ra2_in1k")
    assert cropped.shape == (224, 224, 3)
    assert abs(float(cropped[111:113, 111:113].mean()) - 127.5) < 3


def test_path_array_and_image_are_the_same():
    path = PHOTOS / "china.jpg"
    with Image.open(path) as opened:
        decoded = opened.convert("RGB")
    images = [path, str(path), decoded, np.asarray(decoded)]
    first, *others = [se_keras.load_image(image, "seresnet50.ra2_in1k") for image in images]
    assert all((first == other).all() for other in others)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_colors_become_red_green_and_blue(mode, tmp_path):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(pixels((30, 40, 3))).convert(mode).save(path)
    assert se_keras.load_image(path, "seresnet50.ra2_in1k").shape == (224, 224, 3)


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "cut.jpg").write_bytes((PHOTOS / "china.jpg").read_bytes()[:5000])
    for name in ("a.png", "cut.jpg", "missing.png"):
        with pytest.raises(InputError, match=f"can't read the image .*{name}"):
            se_keras.load_image(tmp_path / name, "seresnet50.ra2_in1k")


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9, 3)), pixels((9,)), pixels((9, 9, 2)), pixels((1, 9, 9, 3))]
)
def test_an_array_that_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match="`image` must be uint8 of"):
        se_keras.load_image(image, "seresnet50.ra2_in1k")


# --- mean and standard deviation -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
def test_arrays_are_normalized_and_stay_as_they_are(dtype):
    images = pixels().astype(dtype)
    before = images.copy()
    values = se_keras.preprocess_input(images, "seresnet50")
    np.testing.assert_allclose(values, normalized(images), atol=1e-5)
    assert (type(values), values.dtype) == (np.ndarray, np.float32)
    assert (images == before).all()
    assert images.dtype == before.dtype


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16"])
def test_arrays_are_normalized_in_float32_under_any_policy(policy):
    keras.config.set_dtype_policy(policy)
    values = se_keras.preprocess_input(pixels(), "seresnet50")
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, normalized(pixels()), atol=1e-5)


def test_as_keras_applications_with_the_same_numbers():
    images = pixels().astype("float32")
    expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), mode="torch")
    ours = se_keras.preprocess_input(images, "legacy_seresnet50")
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_a_tensor_stays_a_tensor():
    values = se_keras.preprocess_input(keras.ops.convert_to_tensor(pixels()), "seresnet50")
    assert keras.ops.is_tensor(values)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(values), normalized(pixels()), atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 5, 3), (2, 4, 5, 3)])
def test_colors_are_normalized_where_channels_first_has_them(shape):
    images = np.moveaxis(pixels(shape), -1, -3)
    expected = np.moveaxis(normalized(pixels(shape)), -1, -3)
    values = se_keras.preprocess_input(images, "seresnet50", data_format="channels_first")
    np.testing.assert_allclose(values, expected, atol=1e-5)
    keras.config.set_image_data_format("channels_first")
    values = se_keras.preprocess_input(images, "seresnet50")
    np.testing.assert_allclose(values, expected, atol=1e-5)
    values = se_keras.preprocess_input(pixels(), "seresnet50", data_format="channels_last")
    np.testing.assert_allclose(values, normalized(pixels()), atol=1e-5)


IN_TF_DATA = """
import numpy as np, tensorflow as tf
import se_keras
images = np.arange(2 * 4 * 5 * 3, dtype="uint8").reshape(2, 4, 5, 3)
data = tf.data.Dataset.from_tensor_slices(images)
data = data.map(lambda image: se_keras.preprocess_input(image, "seresnet50"))
inside = np.stack(list(data.as_numpy_iterator()))
assert abs(inside - se_keras.preprocess_input(images, "seresnet50")).max() < 1e-6
mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
assert abs(inside - (images / 255 - mean) / std).max() < 1e-5
"""


def test_tf_data_gets_the_same_pixels():
    exec(IN_TF_DATA, {})


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_tf_data_gets_the_same_pixels_on_other_backends(backend):
    pytest.importorskip(backend)
    run_python(IN_TF_DATA, backend=backend)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (3, 4, 5), (1, 2, 4, 5, 3)])
def test_images_without_three_colors_are_refused(shape):
    with pytest.raises(ValueError, match=r"`images` must have 3 channels, channels_last, got"):
        se_keras.preprocess_input(np.zeros(shape), "seresnet50")


# --- how images are prepared for what ------------------------------------------------------------


FLOWERS = {
    "architecture": "seresnet20",
    "num_classes": 3,
    "label_names": ["rose", "tulip", "daisy"],
    "label_descriptions": {"rose": "a red rose"},
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


@pytest.fixture
def flowers(monkeypatch):
    """A repository of the hub with this config; test_hub.py has the way there."""
    config = dict(FLOWERS)
    monkeypatch.setattr(hub, "fetch_config", lambda source: config)
    return config


def test_a_repository_says_itself_how_images_are_prepared(flowers):
    values = se_keras.preprocess_input(pixels(), "hf://me/flowers")
    np.testing.assert_allclose(values, pixels() / 127.5 - 1, atol=1e-6)
    assert se_keras.load_image(pixels((50, 40, 3)), "hf://me/flowers").shape == (32, 32, 3)


def test_the_second_size_is_said_and_is_not_that_of_another_model():
    pixels = pixels_of("seresnet50.ra2_in1k")
    line = next(line for line in str(pixels).splitlines() if line.startswith("test size"))
    assert line == "test size    288x288, 0.95 of the shorter side, top-1 81.29 %"
    assert "test size" not in str(pixels.at_second_size)
    photo = np.zeros((300, 300, 3), "uint8")
    with pytest.raises(InputError, match=r"must be 'own' for seresnext50_32x4d.gl.*no second size"):
        se_keras.load_image(photo, "seresnext50_32x4d.gluon_in1k", size="test")
    with pytest.raises(InputError, match=r"`size` must be one of \('own', 'test'\)"):
        se_keras.load_image(photo, "seresnet50.ra2_in1k", size="large")


def test_a_repository_without_a_config_is_refused(monkeypatch):
    monkeypatch.setattr(hub, "fetch_config", lambda source: None)
    with pytest.raises(InputError, match=r"hf://me/flowers has no config\.json"):
        se_keras.preprocess_input(pixels(), "hf://me/flowers")


def test_published_weights_need_no_connection(monkeypatch):
    monkeypatch.delattr(hub, "fetch_config")
    assert pixels_of("hf://timm/seresnet50.a1_in1k").crop == 0.95


# --- what a model says of its pixels -------------------------------------------------------------

TINY = Pixels(
    size=48,
    crop=0.75,
    interpolation="bicubic",
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.2, 0.25),
    labels="imagenet",
    origin="weights seresnet20.test_in1k",
)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A set of weights for a small network among the published ones; its source."""
    file = tmp_path / "published.weights.h5"
    se_keras.create("seresnet20", classes=1000, input_shape=(48, 48, 3)).save_weights(file)
    source = "hf://timm/seresnet20.test_in1k"
    row = presets.Preset(
        recipe="seresnet20",
        tag="test_in1k",
        source=source,
        pixels=TINY,
        top1=0.0,
        origin="this test",
        best=True,
    )
    monkeypatch.setattr(presets, "PRESETS", (*presets.PRESETS, row))
    monkeypatch.setattr(hub, "fetch", lambda source: hub.Fetched(path=file))
    return source


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def nested(model, folder, front=()):
    image = keras.Input((48, 48, 3))
    x = image
    for layer in front:
        x = layer(x)
    return keras.Model(image, keras.layers.Dense(3)(model(x)))


def pruned(model, folder):
    stats = se_keras.record_excitations(model, uniform((4, 48, 48, 3)))
    return se_keras.prune_se(model, stats, keep=0.5)


def weights_of_its_file(model, folder):
    model.save(folder / "model.keras")
    return se_keras.create("seresnet20", weights=folder / "model.keras", input_shape=(48, 48, 3))


def with_a_new_end(model, folder):
    features = model.get_layer("predictions").input
    return keras.Model(model.input, keras.layers.Dense(3)(features), name=model.name)


AUGMENTATION = (keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1))
WAYS = {
    "as it is": lambda model, folder: model,
    "saved and loaded": saved_and_loaded,
    "cloned": lambda model, folder: keras.models.clone_model(model),
    "insert_se": lambda model, folder: se_keras.insert_se(se_keras.remove_se(model)),
    "remove_se": lambda model, folder: se_keras.remove_se(model),
    "optimize": lambda model, folder: se_keras.optimize(model, verbose=False),
    "prune_se": pruned,
    "in another precision": lambda model, folder: with_policy(model, "bfloat16"),
    "in another model": nested,
    "in a chain": lambda model, folder: keras.Sequential([model, keras.layers.Dense(3)]),
    "augmented": lambda model, folder: nested(model, folder, AUGMENTATION),
    "nested, optimized and saved": lambda model, folder: saved_and_loaded(
        se_keras.optimize(nested(model, folder, AUGMENTATION), verbose=False), folder
    ),
    "weights of its file": weights_of_its_file,
    "with a new end and its name": with_a_new_end,
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_model_takes_goes_with_it(way, tiny, tmp_path):
    model = se_keras.create("seresnet20", weights=tiny, input_shape=(48, 48, 3))
    assert model.name == "seresnet20.test_in1k"
    assert pixels_of(WAYS[way](model, tmp_path)) == TINY


@pytest.mark.parametrize("side", [48, 64, None])
def test_an_image_at_the_second_size_is_for_a_model_that_takes_it(side, tiny, monkeypatch):
    second = presets.SecondSize(size=64, crop=1.0)
    row = replace(presets.PRESETS[-1], pixels=replace(TINY, second=second))
    monkeypatch.setattr(presets, "PRESETS", (*presets.PRESETS[:-1], row))
    model = se_keras.create("seresnet20", weights=tiny, input_shape=(side, side, 3))
    photo = pixels((100, 80, 3))
    if side == 48:
        with pytest.raises(InputError, match=r"takes 48x48: build it with `input_shape=\(64, 64"):
            se_keras.load_image(photo, model, size="test")
    else:
        image = se_keras.load_image(photo, model, size="test")
        expected = se_keras.load_image(photo, replace(TINY, size=64, crop=1))
        np.testing.assert_array_equal(image, expected)


def test_a_converted_file_says_what_it_takes(tiny, tmp_path, capsys):
    out = str(tmp_path / "out.keras")
    assert main(["convert", tiny, out, "--model", "seresnet20"]) == 0, capsys.readouterr().err
    found = pixels_of(keras.models.load_model(out))
    assert found == TINY


@pytest.mark.parametrize(
    "options",
    [
        {"include_top": False, "pooling": "avg"},
        {"features_only": True},
        {"fresh_classifier": True, "classes": 5},
        {"weights": "imagenet"},
        {"input_shape": (64, 96, 3)},
    ],
    ids=str,
)
def test_any_network_with_published_weights_says_what_it_takes(options, tiny):
    model = se_keras.create("seresnet20", **{"weights": tiny} | options)
    shape = model.input_shape[1:3]
    size = {(None, None): 48, (48, 48): 48, (64, 96): (64, 96)}[shape]
    assert pixels_of(model) == replace(TINY, size=size)


def test_weights_that_are_loaded_later_bring_their_pixels_and_take_them_away(tiny, tmp_path):
    model = se_keras.create("seresnet20", classes=1000)
    assert pixels_of(model).unknown
    se_keras.load_weights(model, "imagenet")
    assert pixels_of(model).mean == TINY.mean
    model.save_weights(tmp_path / "tuned.weights.h5")
    se_keras.load_weights(model, tmp_path / "tuned.weights.h5")
    assert pixels_of(model).unknown
    named = se_keras.create("seresnet20", classes=1000, name="mine")
    se_keras.load_weights(named, tiny)
    assert named.name == "mine"


def test_every_name_of_published_weights_is_known():
    assert len({preset.name for preset in presets.PRESETS}) == len(presets.PRESETS)
    for preset in presets.PRESETS:
        assert pixels_of(preset.name) is pixels_of(preset.source) is preset.pixels
        assert str(split_name(preset.name)[1].published) == preset.source


def test_a_model_of_a_repository_knows_its_pixels_and_classes(flowers, monkeypatch, tmp_path):
    donor = se_keras.create("seresnet20", input_shape=(32, 32, 3), classes=3)
    donor.save_weights(tmp_path / "a.weights.h5")
    fetched = hub.Fetched(path=tmp_path / "a.weights.h5", config=flowers)
    monkeypatch.setattr(hub, "fetch", lambda source: fetched)
    model = se_keras.create("seresnet20", weights="hf://me/flowers@v2/a.weights.h5")
    model = saved_and_loaded(nested_classifier(model), tmp_path)
    asked = []
    monkeypatch.setattr(hub, "cached_config", lambda source: asked.append(str(source)) or flowers)
    monkeypatch.delattr(hub, "fetch_config")  # a name leads to no download
    assert pixels_of(model).mean == (0.5, 0.5, 0.5)
    assert set(asked) == {"hf://me/flowers@v2"}
    decoded = se_keras.decode_predictions(np.array([[0.7, 0.1, 0.2]]), model, top=1)
    assert decoded == [[("rose", "a red rose", 0.7)]]
    monkeypatch.setattr(hub, "cached_config", lambda source: None)
    with pytest.raises(InputError, match=r"come from hf://me/flowers@v2; pass that"):
        se_keras.load_image(pixels((40, 40, 3)), model)


def nested_classifier(model):
    image = keras.Input(model.input_shape[1:])
    return keras.Model(image, model(image))


def functional(*front, shape=(24, 24, 3), dtype=None):
    """A network whose first layers or functions are these."""
    image = x = keras.Input(shape, dtype=dtype)
    for layer in front:
        x = layer(x)
    return keras.Model(image, keras.layers.Conv2D(2, 3)(x))


def adapted(mean, std):
    return keras.layers.Normalization(mean=[mean] * 3, variance=[std**2] * 3)


RAW = {
    "as se-keras train does": lambda: functional(keras.layers.Rescaling(1 / 127.5, -1.0)),
    "Rescaling": lambda: functional(keras.layers.Rescaling(1 / 255)),
    "Rescaling nested": lambda: functional(functional(keras.layers.Rescaling(1 / 255))),
    "augmented": lambda: functional(*AUGMENTATION, keras.layers.Rescaling(1 / 255)),
    "Normalization": lambda: functional(adapted(120.0, 60.0)),
    "division": lambda: functional(lambda x: x / 255.0),
    "multiplication": lambda: functional(lambda x: 1 / 255 * x),
    "subtraction": lambda: functional(lambda x: x - np.float32([124, 117, 104])),
    "integers": lambda: functional(lambda x: keras.ops.cast(x, "float32"), dtype="uint8"),
    "include_preprocessing": lambda: se_keras.create("seresnet20", include_preprocessing=True),
    "gray": lambda: functional(keras.layers.Rescaling(1 / 255), shape=(24, 24, 1)),
}


@pytest.mark.parametrize("kind", RAW)
def test_a_model_that_normalizes_pixels_takes_raw_ones(kind):
    model = RAW[kind]()
    size, channels = model.input_shape[1], model.input_shape[-1]
    found = pixels_of(model)
    assert (found.raw, found.size, found.channels) == (True, size, channels)
    assert found.range == (0, 255)
    images = pixels((2, size, size, channels))
    assert se_keras.preprocess_input(images, model) is images
    photo = pixels((100, 80, 3))
    image = se_keras.load_image(photo, model)
    assert image.shape == (size, size, channels)
    # All of the middle, as Pillow resizes it.
    middle = Image.fromarray(photo[10:90]).convert("L" if channels == 1 else "RGB")
    resized = middle.resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(image.squeeze(), np.array(resized))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="seresnet50.a1_in1k")
        self.conv = keras.layers.Conv2D(2, 3)

    def call(self, x):
        return self.conv(x)


def of_two_inputs():
    images = [keras.Input((8, 8, 3)) for _ in range(2)]
    return keras.Model(images, keras.layers.add(images))


UNKNOWN = {
    "a catalog name": lambda: se_keras.create("seresnet50"),
    "a catalog name, nested": lambda: nested_classifier(se_keras.create("seresnet20")),
    "keras.applications": lambda: keras.applications.MobileNet(weights=None),
    "a convolution first": lambda: functional(),
    "a convolution first, called as published": lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)], name="seresnet50.a1_in1k"
    ),
    "numbers made larger": lambda: functional(keras.layers.Rescaling(2.0, -1.0)),
    "numbers hardly made smaller": lambda: functional(keras.layers.Rescaling(0.5)),
    "a constant less numbers": lambda: functional(lambda x: 255.0 - x),
    "Normalization of nothing": lambda: functional(adapted(0.0, 1.0)),
    "two layers": lambda: functional(lambda x: x / 255.0 + keras.layers.Conv2D(3, 1)(x)),
    "Python code": Subclassed,
    "two inputs": of_two_inputs,
    "a vector": lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]),
    "four channels": lambda: functional(keras.layers.Rescaling(1 / 255), shape=(8, 8, 4)),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_nothing_says_is_not_guessed(kind):
    model = UNKNOWN[kind]()
    found = pixels_of(model)
    assert found.unknown
    assert found.range is None
    assert str(found) == f"pixels unknown: {found.origin}"
    for call in (se_keras.preprocess_input, se_keras.load_image):
        with pytest.raises(
            InputError, match=r"are unknown: .* Give .*se_keras\.Pixels\(mean"
        ) as caught:
            call(pixels((24, 24, 3)), model)
        assert found.origin in str(caught.value)


def test_the_weights_to_choose_from_are_named():
    with pytest.raises(InputError, match=r"'seresnet50\.a1_in1k', .*'seresnet50\.ra2_in1k'"):
        se_keras.preprocess_input(pixels(), se_keras.create("seresnet50"))


def test_statistics_of_0_to_1_say_that_the_model_takes_them():
    found = pixels_of(functional(adapted(0.45, 0.22)))
    assert (found.mean, found.std, found.range) == ((0, 0, 0), (1, 1, 1), (0, 1))


def test_a_model_with_the_normalization_of_weights_takes_their_images(tiny):
    model = se_keras.create("seresnet20", weights=tiny, include_preprocessing=True)
    assert pixels_of(model) == replace(
        TINY, mean=None, std=None, raw=True, origin=pixels_of(model).origin
    )


def test_channels_first_is_seen_by_the_shape():
    image = keras.Input((3, 24, 20))
    x = keras.layers.Permute((2, 3, 1))(keras.layers.Rescaling(1 / 255)(image))
    assert pixels_of(keras.Model(image, x)).size == (24, 20)


@pytest.mark.parametrize("name", ["seresnet50", "senet154"])
def test_a_row_whose_weights_take_different_images_asks_which(name):
    assert pixels_of(name).mean == IMAGENET_MEAN
    with pytest.raises(
        InputError, match=rf"of {name} take different images: give one of '{name}\."
    ):
        se_keras.load_image(pixels((9, 9, 3)), name)


@pytest.mark.parametrize("unknown", ["seresnet51", "weights.safetensors", 3, None])
def test_what_is_no_source_is_refused(unknown):
    with pytest.raises(InputError, match=r"`model_or_source`(: there is no file| must be a model)"):
        pixels_of(unknown)


def test_a_file_of_weights_does_not_say_what_it_takes(tmp_path):
    path = tmp_path / "a.weights.h5"
    network = se_keras.create("seresnet20", classes=4)
    network.save_weights(path)
    assert pixels_of(path).unknown
    model = se_keras.create("seresnet20", weights=path)
    assert pixels_of(model).unknown
    with pytest.raises(
        InputError, match=r"`include_preprocessing=True`: the pixels .*a\.weights\.h5"
    ):
        se_keras.create("seresnet20", weights=path, include_preprocessing=True)
    for numbers in ("cm_seresnet18", Pixels(mean=(0, 0, 0), std=(1 / 255,) * 3)):
        inside = se_keras.create("seresnet20", weights=path, include_preprocessing=numbers)
        assert pixels_of(inside).raw
        images = pixels((2, 32, 32, 3))
        expected = model.predict(images.astype("float32"), verbose=0)
        np.testing.assert_allclose(inside.predict(images, verbose=0), expected, rtol=1e-4)
    with pytest.raises(InputError, match="with `mean` and `std`"):
        se_keras.create("seresnet20", include_preprocessing=Pixels(raw=True))


def test_numbers_can_be_given():
    mine = Pixels(size=(20, 30), mean=[0.5], std=[0.25], channels=1)
    image = se_keras.load_image(pixels((50, 50, 3)), mine)
    assert image.shape == (20, 30, 1)
    values = se_keras.preprocess_input(image, mine)
    np.testing.assert_allclose(values, (image / 255 - 0.5) / 0.25, atol=1e-5)
    with pytest.raises(InputError, match="any size"):
        se_keras.load_image(image, replace(mine, size=None))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "`size`"),
        ({"size": (1, 2, 3)}, "`size`"),
        ({"crop": 0}, "`crop`"),
        ({"crop": 1.5}, "`crop`"),
        ({"interpolation": "nearest"}, "`interpolation`"),
        ({"channels": 4}, "`channels`"),
        ({"mean": (0.5,), "std": (0.5,)}, "`mean` must be 3 numbers"),
        ({"mean": 0.5, "std": 0.5}, "`mean` must be 3 numbers"),
        ({"mean": (0.5,) * 3, "std": (0.5, 0, 0.5)}, "`std`"),
        ({"mean": (0.5,) * 3}, "must be given together"),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3, "raw": True}, "without `raw=True`"),
    ],
    ids=str,
)
def test_numbers_that_prepare_no_image_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Pixels(**wrong)


# --- images that are decoded in tf.data ----------------------------------------------------------

DECODERS = {
    "decode_png": tf.io.decode_png,
    "decode_image": tf.io.decode_image,
    "decode_image, no animations": lambda file: tf.io.decode_image(file, expand_animations=False),
}


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_images_of_unknown_shape_are_normalized(decode, data_format):
    photo = pixels((6, 5, 3))
    first = data_format == "channels_first"

    def prepared(file):
        image = decode(file)
        image = tf.transpose(image, (2, 0, 1)) if first else image
        return se_keras.preprocess_input(image, "seresnet50", data_format=data_format)

    def read(image):
        files = tf.data.Dataset.from_tensors(tf.io.encode_png(image))
        return next(files.map(prepared).as_numpy_iterator())

    expected = normalized(photo)
    np.testing.assert_allclose(
        read(photo), np.moveaxis(expected, -1, 0) if first else expected, atol=1e-5
    )
    for channels in (1, 4):
        message = f"must have 3 channels, {data_format}; decode them with channels=3"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            read(pixels((6, 5, channels)))


# --- within the model ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_preprocessing():
    keras.utils.set_random_seed(0)
    return se_keras.create("seresnet20", include_preprocessing=True, **SMALL)


def without(model):
    """The same network without its preprocessing."""
    plain = se_keras.create("seresnet20", **SMALL)
    plain.set_weights(model.get_weights())
    return plain


def test_a_model_takes_raw_pixels(with_preprocessing):
    images = pixels((3, 32, 32, 3))
    assert with_preprocessing.inputs[0].dtype == "uint8"
    expected = without(with_preprocessing).predict(
        se_keras.preprocess_input(images, "seresnet50"), verbose=0
    )
    np.testing.assert_allclose(
        with_preprocessing.predict(images, verbose=0), expected, atol=1e-6, rtol=1e-5
    )


def test_preprocessing_happens_once(with_preprocessing):
    images = pixels((3, 32, 32, 3))
    assert se_keras.preprocess_input(images, with_preprocessing) is images


def test_preprocessing_adds_no_weights(with_preprocessing):
    plain = without(with_preprocessing)
    assert [w.path for w in plain.weights] == [w.path for w in with_preprocessing.weights]


def test_a_saved_model_takes_raw_pixels(with_preprocessing, tmp_path):
    images = pixels((2, 32, 32, 3))
    expected = with_preprocessing.predict(images, verbose=0)
    with_preprocessing.export(tmp_path / "saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved_model")
    np.testing.assert_allclose(loaded.serve(images), expected, atol=1e-6)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A network that takes normalized pixels, as a file and as a SavedModel; and an image."""
    folder = tmp_path_factory.mktemp("served")
    model = se_keras.create("seresnet20", name="seresnet50.a1_in1k", **SMALL)
    model.save(folder / "model.keras")
    write_saved_model(model, folder / "saved_model")
    write_metadata(folder / "saved_model", describe(model))
    Image.fromarray(pixels((40, 50, 3))).save(folder / "image.png")
    return folder


def test_a_saved_model_says_what_it_takes(served, tmp_path):
    image = served / "image.png"
    expected = predict(served / "model.keras", [image])
    alone = shutil.copytree(served / "saved_model", tmp_path / "alone")
    for found, row in zip(predict(alone, [image])[0], expected[0], strict=True):
        assert found == (row[0], pytest.approx(row[1], rel=1e-4))
    assert predict(alone, [image], pixels="raw") != predict(alone, [image])


def test_a_saved_model_that_does_not_say_what_it_takes_is_refused(served, tmp_path, capsys):
    image = served / "image.png"
    alone = shutil.copytree(served / "saved_model", tmp_path / "alone")
    said = predict(alone, [image])
    about = alone / "assets.extra" / "se_keras.json"
    about.write_text('{"pixels": {"mean": [1]}}')
    with pytest.raises(InputError, match=r"can't read .*se_keras\.json: `mean` must be 3 numbers"):
        predict(alone, [image])
    about.unlink()
    assert main(["predict", str(alone), str(image)]) == 2
    assert re.search(r"unknown: it has no .*se_keras\.json.*--pixels", capsys.readouterr().err)
    assert main(["predict", str(alone), str(image), "--pixels", "seresnet50.a1_in1k"]) == 0
    assert predict(alone, [image], pixels="seresnet50.a1_in1k") == said


def test_a_saved_file_does_not_depend_on_the_global_data_format(with_preprocessing, tmp_path):
    images = pixels((2, 32, 32, 3))
    expected = with_preprocessing.predict(images, verbose=0)
    with_preprocessing.save(tmp_path / "a.keras")
    keras.config.set_image_data_format("channels_first")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16", "mixed_float16"])
def test_pixels_are_normalized_in_float32(dtype):
    model = se_keras.create("seresnet20", include_preprocessing=True, dtype=dtype, **SMALL)
    layer = model.get_layer("preprocessing")
    values = keras.ops.convert_to_numpy(layer(pixels()))
    np.testing.assert_allclose(values, normalized(pixels()), atol=1e-5)


def test_weights_of_a_repository_bring_their_mean(flowers, tmp_path, monkeypatch):
    donor = se_keras.create("seresnet20", input_shape=(32, 32, 3), classes=3)
    donor.save_weights(tmp_path / "a.weights.h5")
    fetched = hub.Fetched(path=tmp_path / "a.weights.h5", config=flowers)
    monkeypatch.setattr(hub, "fetch", lambda source: fetched)
    model = se_keras.create(
        "seresnet20",
        weights="hf://me/flowers@main/a.weights.h5",
        include_preprocessing=True,
        input_shape=(32, 32, 3),
        classes=3,
    )
    images = pixels((2, 32, 32, 3))
    expected = donor.predict(images / np.float32(127.5) - 1, verbose=0)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)


def test_an_input_of_floats_can_be_given():
    image = keras.Input((32, 32, 3))
    model = se_keras.create("seresnet20", include_preprocessing=True, input_tensor=image)
    assert model.inputs[0].dtype == "float32"
    assert model.get_layer("preprocessing").input is image


def test_a_builder_has_the_option():
    model = se_keras.SEResNet20(include_preprocessing=True, **SMALL)
    assert pixels_of(model).raw


def test_gray_images_are_refused():
    with pytest.raises(
        ValueError, match="`include_preprocessing=True` needs an input of 3 channels"
    ):
        se_keras.create("seresnet20", include_preprocessing=True, input_shape=(32, 32, 1))


# --- names of classes ----------------------------------------------------------------------------


def test_a_model_names_the_classes_that_it_was_trained_with(tiny):
    model = se_keras.create("seresnet20", weights=tiny)
    scores = np.eye(1000)[[1]]
    assert se_keras.decode_predictions(scores, model, 1) == [[("n01443537", "goldfish", 1.0)]]
    assert se_keras.decode_predictions(scores, 1) == [[("n01443537", "goldfish", 1.0)]]
    with pytest.raises(InputError, match=r"must have the shape \(N, 1000\)"):
        se_keras.decode_predictions(np.ones((1, 5)), model)
    with pytest.raises(InputError, match="the class names of seresnet20 are unknown"):
        se_keras.decode_predictions(scores, se_keras.create("seresnet20"))
