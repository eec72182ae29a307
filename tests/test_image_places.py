"""Every public place that takes an image or a folder of images sees the same pixels.

`PLACES` lists them. Each is a function from the files of a folder to the pixels that the model is
given, and runs the same cases: `KINDS` and `BROKEN` of `image_files`.
"""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from image_files import BROKEN, KINDS, saved
from keras import layers
from PIL import Image

import se_keras
from se_keras.commands import explain as explain_command
from se_keras.commands.classifiers import load_classifier
from se_keras.deploy import calibration as deploy_calibration
from se_keras.images import read_image
from se_keras.metadata import describe, write_metadata
from se_keras.support.errors import InputError
from se_keras.train import data as sources
from se_keras.train.config import TrainConfig

SIZE = 16
PLAIN = {name: saved(Image.fromarray(kind.pixels), "png") for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small model of raw pixels as a run leaves it, in both formats."""
    folder = tmp_path_factory.mktemp("model")
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(pixels))
    x = se_keras.SqueezeExcite(1)(layers.Reshape((1, 1, 3))(x))
    model = keras.Model(pixels, layers.Softmax()(layers.Flatten()(x)))
    model.save(folder / "model.keras")
    model.export(folder / "saved_model", verbose=False)
    write_metadata(folder / "saved_model", describe(model))
    return folder


def load_image(paths, files):
    model = keras.models.load_model(files / "model.keras")
    return [se_keras.load_image(path, model) for path in paths]


def load_image_as_timm(paths, files):
    return [se_keras.load_image(path, "seresnet50.a1_in1k") for path in paths]


def predict_run(paths, files):
    return list(map(load_classifier(files).read, paths))


def predict_keras(paths, files):
    return list(map(load_classifier(files / "model.keras").read, paths))


def predict_saved_model(paths, files):
    return list(map(load_classifier(files / "saved_model").read, paths))


def in_order(paths, items, images):
    found = dict(zip(map(str, items), images, strict=True))
    return [found[str(path)] for path in paths]


def opened(paths, part):
    """The data of a run one part of which has all images of the folder; and their paths."""
    config = TrainConfig(data=str(paths[0].parent.parent), image_size=SIZE).completed()
    found = sources.open_data(config)
    items = np.concatenate([part.items for part in found.parts.values()])
    every = sources.Split(items=items, labels=np.zeros(len(items), int), names=items)
    none = every.part(np.array([], int))
    empty = dict.fromkeys(found.parts, none)
    return dataclasses.replace(found, **{**empty, part: every}), items


def train_tests(paths, files, *, in_memory=True):
    found, items = opened(paths, "test")
    if in_memory:
        found = sources.prepare(found)
    batches = [images for images, _ in sources.test_batches(found, 8)]
    return in_order(paths, items, np.concatenate(batches))


def train_tests_streamed(paths, files):
    return train_tests(paths, files, in_memory=False)


def train(paths, files, *, in_memory=True):
    """Training without shuffling and augmentation: parts that are the whole."""
    found, items = opened(paths, "train")
    if in_memory:
        found = sources.prepare(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "random_part", lambda square, zoom, seed: square)
        patch.setattr(sources, "augmentation", lambda defaults: lambda image, seed: image)
        shuffle = tf.random.experimental
        patch.setattr(shuffle, "stateless_shuffle", lambda numbers, seed: numbers)
        batches, _ = sources.training_batches(found, len(items), 0, range(1))
        ((images, _),) = batches
    return in_order(paths, items, images.numpy())


def train_streamed(paths, files):
    return train(paths, files, in_memory=False)


def calibration(paths, files):
    model = keras.models.load_model(files / "model.keras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deploy_calibration, "HOLD_OUT_MINIMUM", 1000)
        (samples,) = deploy_calibration.open_samples(model, paths[0].parent).calibration
    return in_order(paths, sorted(paths), samples)


def explain(paths, files):
    model = keras.models.load_model(files / "model.keras")
    config = TrainConfig(data=str(paths[0].parent.parent))
    found = explain_command._images(model, files / "model.keras", config)
    names = sources.open_data(dataclasses.replace(config, image_size=SIZE).completed())
    images = [image for part in found.parts for image, _ in sources.part_batches(found, part, 1)]
    items = np.concatenate([part.items for part in names.parts.values()])
    return in_order(paths, items, np.concatenate(images))


SQUARE_PLACES = [
    *(load_image, predict_run, predict_keras, predict_saved_model),
    *(train, train_streamed, train_tests, train_tests_streamed, calibration, explain),
]
PLACES = [load_image_as_timm, *SQUARE_PLACES]


def put(folder, contents):
    """Files of these contents in one class, and a second class of three files."""
    (folder / "images").mkdir(parents=True)
    (folder / "other").mkdir()
    for number in range(3):
        (folder / "other" / f"{number}.png").write_bytes(KINDS["png"].content)
    paths = []
    for number, (suffix, content) in enumerate(contents):
        paths.append(folder / "images" / f"{number:03}.{suffix}")
        paths[-1].write_bytes(content)
    return paths


@pytest.mark.parametrize("place", PLACES)
def test_a_place_sees_what_every_kind_of_file_was_written_from(place, files, tmp_path):
    given = put(tmp_path / "given", [(kind.suffix, kind.content) for kind in KINDS.values()])
    plain = put(tmp_path / "plain", [("png", content) for content in PLAIN.values()])
    seen, expected = place(given, files), place(plain, files)
    for (name, kind), ours, theirs in zip(KINDS.items(), seen, expected, strict=True):
        off = np.abs(np.asarray(ours, "float32") - theirs).max()
        assert off <= kind.tolerance + 1, f"{name}: {off} levels"


@pytest.mark.parametrize("place", SQUARE_PLACES)
def test_a_place_sees_what_a_user_of_pillow_sees(place, files, tmp_path):
    given = put(tmp_path, [(kind.suffix, kind.content) for kind in KINDS.values()])
    for kind, ours in zip(KINDS.values(), place(given, files), strict=True):
        upright = Image.fromarray(read_image(kind.content))
        margin = (upright.width - upright.height) // 2
        middle = upright.crop((margin, 0, margin + upright.height, upright.height))
        square = np.asarray(middle.resize((SIZE, SIZE), Image.Resampling.BILINEAR), "float32")
        assert np.abs(np.asarray(ours) - square).max() <= 1


@pytest.mark.parametrize("place", [load_image, predict_keras, train, calibration, explain])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_by_every_place(name, place, files, tmp_path):
    content, _ = BROKEN[name]
    paths = put(tmp_path, [("png", content), *[("png", KINDS["png"].content)] * 2])
    with pytest.raises(InputError, match=r"can't read the image .*000\.png: ") as error:
        place(paths, files)
    assert "\n" not in str(error.value)


def textures(folder, seed):
    """Two classes that differ in the width of their lines only, at 20 times the model's size."""
    generator = np.random.default_rng(seed)
    for name, width in (("thin", 1), ("wide", 11)):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            start = generator.integers(0, 2 * width)
            lines = ((np.arange(300) + start) // width % 2 * 255).astype("uint8")
            image = np.broadcast_to(lines[None, :, None], (280, 300, 3)).copy()
            Image.fromarray(image).save(folder / name / f"{number}.png")


def test_textures_are_seen_as_who_serves_the_model_sees_them(tmp_path):
    textures(tmp_path, 0)
    config = TrainConfig(data=str(tmp_path), image_size=SIZE).completed()
    found = sources.prepare(sources.open_data(config))
    seen = sources.test_batches(dataclasses.replace(found, test=found.train), len(found.train))
    ((pixels, targets),) = ((x.numpy(), y.numpy()) for x, y in seen)
    labels = targets.argmax(axis=1)
    spread = pixels.std(axis=(1, 2, 3))
    border = (spread[labels == 0].max() + spread[labels == 1].min()) / 2
    for path in sorted(tmp_path.rglob("*.png")):
        with Image.open(path) as image:
            square = image.convert("RGB").crop((10, 0, 290, 280)).resize((SIZE, SIZE), 2)
        is_wide = np.asarray(square, "float32").std() > border
        assert is_wide == (path.parent.name == "wide"), path
