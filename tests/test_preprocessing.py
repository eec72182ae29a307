"""From an image to a network and from its answer to names, against timm and keras.applications."""

from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from checks import GOLDEN, run_python
from PIL import Image

import se_keras
from se_keras import preprocessing
from se_keras.preprocessing import imagenet_labels, labels_of, preprocessing_of
from se_keras.support.errors import InputError
from se_keras.weights import hub
from se_keras.weights.presets import IMAGENET_MEAN, IMAGENET_STD

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
# timm's transform of the two photos (golden/make_preprocessing.py).
with np.load(GOLDEN / "preprocessing.npz") as file:
    TIMM = dict(file)
# timm's name of the weights -> ours.
SOURCES = {
    "seresnet50.a1_in1k": "hf://timm/seresnet50.a1_in1k",
    "seresnet50.a3_in1k": "hf://timm/seresnet50.a3_in1k",
    "seresnet50.ra2_in1k": "seresnet50",
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
    cropped = se_keras.load_image(image, "seresnet50")
    assert cropped.shape == (224, 224, 3)
    assert abs(float(cropped[111:113, 111:113].mean()) - 127.5) < 3


def test_path_array_and_image_are_the_same():
    path = PHOTOS / "china.jpg"
    with Image.open(path) as opened:
        decoded = opened.convert("RGB")
    images = [path, str(path), decoded, np.asarray(decoded)]
    first, *others = [se_keras.load_image(image, "seresnet50") for image in images]
    assert all((first == other).all() for other in others)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_colors_become_red_green_and_blue(mode, tmp_path):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(pixels((30, 40, 3))).convert(mode).save(path)
    assert se_keras.load_image(path, "seresnet50").shape == (224, 224, 3)


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "cut.jpg").write_bytes((PHOTOS / "china.jpg").read_bytes()[:5000])
    for name in ("a.png", "cut.jpg", "missing.png"):
        with pytest.raises(InputError, match=f"can't read the image .*{name}"):
            se_keras.load_image(tmp_path / name, "seresnet50")


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9, 3)), pixels((9, 9)), pixels((9, 9, 4)), pixels((1, 9, 9, 3))]
)
def test_an_array_that_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match="`image` must be uint8 of"):
        se_keras.load_image(image, "seresnet50")


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


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.slow)])
def test_tf_data_gets_the_same_pixels_on_other_backends(backend):
    pytest.importorskip(backend)
    run_python(IN_TF_DATA, backend=backend)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (3, 4, 5), (1, 2, 4, 5, 3)])
def test_images_without_three_colors_are_refused(shape):
    with pytest.raises(ValueError, match=r"`images` must have three colors, channels_last, got"):
        se_keras.preprocess_input(np.zeros(shape), "seresnet50")


# --- how images are prepared for what ------------------------------------------------------------


def test_a_model_is_known_by_its_name():
    model = keras.Sequential([keras.Input((4, 5, 3))], name="seresnet152d")
    assert preprocessing_of(model) == preprocessing_of("seresnet152d")
    assert preprocessing_of(model).size == 256


@pytest.mark.parametrize("unknown", ["seresnet51", "weights.safetensors", 3, None])
def test_what_is_not_known_is_refused(unknown):
    with pytest.raises(InputError, match="`model_or_source` must be the name of a row"):
        preprocessing_of(unknown)


def test_a_model_of_another_name_is_refused():
    model = keras.Sequential([keras.Input((4, 5, 3))], name="mine")
    with pytest.raises(InputError, match="a model called 'mine'"):
        se_keras.preprocess_input(pixels(), model)


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


def test_a_repository_without_a_config_is_refused(monkeypatch):
    monkeypatch.setattr(hub, "fetch_config", lambda source: None)
    with pytest.raises(InputError, match=r"hf://me/flowers has no config\.json"):
        se_keras.preprocess_input(pixels(), "hf://me/flowers")


def test_published_weights_need_no_connection(monkeypatch):
    monkeypatch.delattr(hub, "fetch_config")
    assert preprocessing_of("hf://timm/seresnet50.a1_in1k").crop == 0.95


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
        se_keras.preprocess_input(images, "seresnet20"), verbose=0
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
    assert preprocessing.has_preprocessing(model)


def test_gray_images_are_refused():
    with pytest.raises(ValueError, match="`include_preprocessing=True` needs three colors"):
        se_keras.create("seresnet20", include_preprocessing=True, input_shape=(32, 32, 1))


# --- names of classes ----------------------------------------------------------------------------


def test_the_names_of_imagenet():
    labels = imagenet_labels()
    assert len(labels) == len({number for number, _ in labels}) == 1000
    # The order is that of the numbers (ILSVRC 2012), and some that everybody knows.
    assert [number for number, _ in labels] == sorted(number for number, _ in labels)
    assert labels[0] == ("n01440764", "tench")
    assert labels[207] == ("n02099601", "golden retriever")
    assert labels[281] == ("n02123045", "tabby")
    assert labels[954] == ("n07753592", "banana")
    assert labels[999] == ("n15075141", "toilet tissue")


def test_the_likeliest_come_first():
    scores = np.zeros((2, 1000), "float32")
    scores[0, [207, 1, 999]] = 0.5, 0.3, 0.2
    scores[1, 954] = 1
    first, second = se_keras.decode_predictions(keras.ops.convert_to_tensor(scores), top=3)
    assert [name for _, name, _ in first] == ["golden retriever", "goldfish", "toilet tissue"]
    assert [score for *_, score in first] == pytest.approx([0.5, 0.3, 0.2])
    assert second[0] == ("n07753592", "banana", 1.0)
    assert len(se_keras.decode_predictions(scores)[0]) == 5


def test_as_keras_applications_decodes(monkeypatch):
    # Its own list is a download: here it is ours, in its form.
    index = {str(i): [number, name] for i, (number, name) in enumerate(imagenet_labels())}
    decode = keras.applications.imagenet_utils.decode_predictions
    monkeypatch.setitem(decode.__globals__, "CLASS_INDEX", index)
    scores = np.random.default_rng(0).uniform(size=(3, 1000))
    expected = decode(scores, top=4)
    assert se_keras.decode_predictions(scores, top=4) == expected


def test_a_repository_names_its_classes(flowers):
    decoded = se_keras.decode_predictions(np.array([[0.7, 0.1, 0.2]]), source="hf://me/flowers")
    assert decoded == [
        [("rose", "a red rose", 0.7), ("daisy", "daisy", 0.2), ("tulip", "tulip", 0.1)]
    ]
    flowers["label_names"] = {"0": "rose", "2": "daisy"}
    assert labels_of("hf://me/flowers") == (
        ("rose", "a red rose"),
        ("class 1", "class 1"),
        ("daisy", "daisy"),
    )


def test_published_weights_have_the_names_of_imagenet():
    assert labels_of("hf://timm/seresnet50.a1_in1k") is imagenet_labels()


def test_names_that_nobody_gave_are_refused(flowers):
    del flowers["label_names"]
    with pytest.raises(InputError, match="hf://me/flowers has no names"):
        se_keras.decode_predictions(np.ones((1, 3)), source="hf://me/flowers")


@pytest.mark.parametrize("shape", [(1000,), (1, 999), (1, 1, 1000)])
def test_predictions_of_another_number_of_classes_are_refused(shape):
    with pytest.raises(ValueError, match=r"`predictions` must be \(N, 1000\)"):
        se_keras.decode_predictions(np.zeros(shape))


@pytest.mark.parametrize("top", [0, -1, 1.5, True, "5"])
def test_top_is_a_positive_number(top):
    with pytest.raises(ValueError, match="`top` must be a positive integer"):
        se_keras.decode_predictions(np.zeros((1, 1000)), top=top)
