"""Test data, runs, resuming and results of runs with a model of 1462 parameters."""

import contextlib
import csv
import dataclasses
import functools
import os
import re
import shutil
import socket
import struct
import sys
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score, recall_score
from sklearn.utils.class_weight import compute_class_weight

import se_keras
from se_keras.cli import main
from se_keras.commands.predict import predict
from se_keras.images import read_image
from se_keras.support import files
from se_keras.support.errors import MissingExtraError
from se_keras.train import (
    InputError,
    TrainConfig,
    choosing,
    data,
    report,
    run,
    run_folder,
    saved_model,
    splits,
    train,
)

COLORS = {"blue": (40, 60, 200), "green": (30, 180, 60), "red": (220, 50, 40)}


def write_image(path, color, size=(20, 24), seed=0):
    noise = np.random.default_rng(seed).integers(-30, 30, (*size, 3))
    Image.fromarray((np.array(color) + noise).clip(0, 255).astype("uint8")).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three classes of ten images, PNG and JPEG, of several sizes."""
    root = tmp_path / "images"
    for name, color in COLORS.items():
        (root / name).mkdir(parents=True)
        for i in range(10):
            size = (20 + i, 24) if i % 2 else (24, 20 + i)
            write_image(root / name / f"{i}.{'png' if i % 3 else 'jpg'}", color, size, seed=i)
    return root


def small_classifier(*, input_tensor, classes, dtype):
    """A network to train: one SE block, and dropout, which has a random state."""
    x = keras.layers.Conv2D(8, 3, padding="same", dtype=dtype)(input_tensor)
    x = keras.layers.BatchNormalization(momentum=0.9, dtype=dtype)(x)
    x = se_keras.se_block(keras.layers.ReLU(dtype=dtype)(x), 2, dtype=dtype)
    x = keras.layers.Flatten(dtype=dtype)(keras.layers.MaxPooling2D(2, dtype=dtype)(x))
    x = keras.layers.Dropout(0.2, dtype=dtype)(x)
    x = keras.layers.Dense(classes, activation="softmax", dtype="float32")(x)
    return keras.Model(keras.utils.get_source_inputs(x)[0], x)


train_small = functools.partial(train, network=small_classifier)
build_small = functools.partial(run.build_model, network=small_classifier)


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def config(**settings):
    return TrainConfig(**{"data": "digits", "epochs": 2, "seed": 3, **settings})


def rows(folder):
    with open(folder / "history.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


TIMES = {"seconds", "images_per_second", "waiting_for_input"}


def without_time(history):
    return [{name: row[name] for name in row if name not in TIMES} for row in history]


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a positive integer, got 0"),
        ({"epochs": 1.5}, "`epochs` must be a positive integer, got 1.5"),
        ({"batch_size": -1}, "`batch_size` must be a positive integer, got -1"),
        ({"image_size": True}, "`image_size` must be a positive integer, got True"),
        ({"image_size": 10**8}, "`image_size` must be an integer from 1 to 4,096, got 100000000"),
        ({"lr": 0.0}, "`lr` must be a positive number, got 0.0"),
        ({"lr": float("nan")}, "`lr` must be a positive number, got nan"),
        ({"weight_decay": -1e-4}, "`weight_decay` must be a number of at least 0, got -0.0001"),
        ({"label_smoothing": 1.0}, "`label_smoothing` must be a number in"),
        ({"accumulate": 0}, "`accumulate` must be a positive integer, got 0"),
        ({"clip_norm": 0}, "`clip_norm` must be a positive number, got 0"),
        ({"ema": 1.0}, "`ema` must be a number in"),
        ({"seed": -1}, "`seed` must be an integer from 0 to 2147483647, got -1"),
        ({"patience": -1}, "`patience` must be an integer from 0"),
        ({"choose": "first"}, "`choose` must be one of .*got 'first'"),
        ({"class_weights": True}, "`class_weights` must be one of .*got True"),
        ({"split": ""}, "`split` must be a path or a non-empty string"),
        ({"precision": "float8"}, "`precision` must be one of .*got 'float8'"),
        ({"model": "seresnet21"}, "seresnet20"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)


def test_defaults_fit_the_data(tmp_path):
    assert TrainConfig(data="cifar10").completed().epochs == 100
    assert TrainConfig(data="cifar10", epochs=3).completed().epochs == 3
    assert TrainConfig(data=str(tmp_path)).completed().image_size == 64
    assert TrainConfig(data=str(tmp_path), model="seresnet50").completed().image_size == 224


# --- data ----------------------------------------------------------------------------------------


@given(st.lists(st.integers(3, 40), min_size=2, max_size=6), st.integers(0, 100))
def test_each_part_takes_its_share_of_each_class(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    parts, text = splits.divide(np.array([], str), labels, seed)
    for count, row in zip(counts, splits.count_parts(parts, labels, len(counts)), strict=True):
        train, validation, test = map(int, row)
        assert train + validation + test == count
        assert train >= 1
        assert test == 1 if count < 5 else abs(test - 0.2 * count) <= 0.5
        assert validation == 1 if count < 7 else abs(validation - 0.15 * count) <= 0.5
    np.testing.assert_array_equal(parts, splits.divide(np.array([], str), labels, seed)[0])
    assert text == f"drawn from each class by seed {seed}: 20% for test, 15% for validation"


def test_digits_are_those_of_scikit_learn():
    found = data.open_data(config().completed())
    # Its pixels are 0..16; the brightest must be 255 for a model on 0..255.
    original = [
        (image * 255 / 16).round().astype("uint8").tobytes() for image in load_digits().images
    ]
    images = np.concatenate([part.items for part in found.parts.values()])
    assert sorted(i.tobytes() for i in images) == sorted(original)
    assert images.max() == 255
    names = np.concatenate([part.names for part in found.parts.values()])
    assert sorted(map(int, names)) == list(range(1797))
    first = original[int(found.validation.names[0])]
    assert found.validation.items[0].tobytes() == first


def test_another_seed_is_another_split():
    first, second = (data.open_data(config(seed=seed).completed()) for seed in (0, 1))
    assert not np.array_equal(first.test.items, second.test.items)


@pytest.mark.parametrize(("name", "channels"), [("fashion_mnist", 1), ("cifar100", 3)])
def test_the_data_sets_of_keras(name, channels, monkeypatch):
    shape = (32, 32, 3) if channels == 3 else (28, 28)
    classes = {"fashion_mnist": 10, "cifar100": 100}[name]
    labels = np.arange(classes, dtype="uint8").repeat(4)
    arrays = [(np.full((len(labels), *shape), n, "uint8"), labels[:, None]) for n in (1, 2)]
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: tuple(arrays))
    found = data.open_data(config(data=name).completed())
    assert found.image_shape == (*shape[:2], channels)
    assert len(found.class_names) == classes
    assert [len(part) for part in found.parts.values()] == [3 * classes, classes, 4 * classes]
    assert (found.train.items.max(), found.validation.items.max()) == (1, 1)
    images, targets = next(iter(data.test_batches(found, 8)))
    assert (images.shape, float(images[0, 0, 0, 0])) == ((8, *shape[:2], channels), 2.0)
    np.testing.assert_array_equal(np.argmax(targets, 1), [0] * 4 + [1] * 4)


def test_a_data_set_that_cannot_be_had_names_the_remedy(monkeypatch):
    def load_data():
        raise Exception("URL fetch failure on https://example.com: None -- no network")

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    with pytest.raises(InputError, match=r"no network.*keras\.datasets\.cifar10\.load_data\(\)"):
        data.open_data(config(data="cifar10").completed())


def test_a_folder_gives_its_classes(folder):
    (folder / ".cache").mkdir()
    found = data.open_data(config(data=str(folder)).completed())
    assert found.class_names == ("blue", "green", "red")
    assert [len(part) for part in found.parts.values()] == [18, 6, 6]
    for part in found.parts.values():
        for path, label, name in zip(part.items, part.labels, part.names, strict=True):
            assert name.startswith(f"{found.class_names[label]}/")
            assert path == str(folder / name)


def all_images(found):
    batches = [images for images, _ in data.test_batches(found, 4)]
    return np.concatenate(batches).astype("uint8")


@pytest.mark.parametrize("size", [16, 33])
def test_images_are_those_of_the_one_reader(folder, size):
    found = data.open_data(config(data=str(folder), image_size=size).completed())
    expected = np.stack([read_image(path, size) for path in found.test.items])
    for each in (found, data.prepare(found)):
        np.testing.assert_array_equal(all_images(each), expected)


@pytest.mark.parametrize("size", [5, 12])
def test_arrays_are_resized_by_the_one_reader(size, monkeypatch):
    found = data.open_data(config(image_size=size).completed())
    few = dataclasses.replace(found, test=found.test.part(np.arange(6)))
    expected = np.stack([read_image(image, size, 1) for image in few.test.items])
    for limit in (2**30, 0):
        monkeypatch.setattr(data, "CACHE_BYTES", limit)
        np.testing.assert_array_equal(all_images(data.prepare(few)), expected)


def test_hidden_copies_are_no_data_and_are_counted(folder):
    before = data.open_data(config(data=str(folder)).completed())
    shutil.copytree(folder / "red", folder / "red" / ".ipynb_checkpoints")
    (folder / "red" / "._0.png").write_bytes(b"")
    shutil.copytree(folder / "red", folder / "__MACOSX" / "red")
    found = data.open_data(config(data=str(folder)).completed())
    assert data.fingerprint(found) == data.fingerprint(before)
    assert found.class_names == before.class_names
    assert found.left_out.startswith("Left out: 32 hidden (")


@pytest.mark.parametrize(
    ("parts", "sizes", "text"),
    [
        (("train", "val", "test"), [30, 30, 30], "its own train, validation and test"),
        (
            ("train", "Val"),
            [24, 30, 6],
            "its own train and validation; drawn from train by seed 3: 20%",
        ),
        (
            ("train", "test"),
            [24, 6, 30],
            "its own train and test; drawn from train by seed 3: 15%",
        ),
    ],
    ids=["all", "no test", "no validation"],
)
def test_a_folder_that_is_divided_keeps_its_parts(folder, tmp_path, parts, sizes, text):
    """Parts have their names; missing parts are drawn from train."""
    for part in parts:
        shutil.copytree(folder, tmp_path / "divided" / part)
    found = data.open_data(config(data=str(tmp_path / "divided")).completed())
    assert found.class_names == ("blue", "green", "red")
    assert [len(part) for part in found.parts.values()] == sizes
    for name, part in found.parts.items():
        own = [p for p in parts if p.lower() == name[: len(p)]] or ["train"]
        assert all(path.startswith(f"{own[0]}/") for path in part.names)
    assert found.split.startswith(text)


def split_of(found):
    return [
        (name, found.class_names[label], part)
        for part, split in found.parts.items()
        for name, label in zip(split.names, split.labels, strict=True)
    ]


def test_the_parts_of_another_run_are_taken(folder, tmp_path):
    path = tmp_path / "split.csv"
    found = data.open_data(config(data=str(folder)).completed())
    splits.write_parts(path, split_of(found)[::-1])
    again = data.open_data(config(data=str(folder), seed=4, split=str(path)).completed())
    assert split_of(again) == split_of(found)
    assert data.fingerprint(again) == data.fingerprint(found)
    assert again.split == f"as in {path}"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[1:], "lacks blue/"),
        (lambda rows: [*rows, rows[0]], "names twice blue/"),
        (lambda rows: [*rows, ("blue/9.gif", "blue", "test")], "the data lack: blue/9.gif"),
        (lambda rows: [(rows[0][0], "red", "train"), *rows[1:]], "another class for blue/"),
        (lambda rows: [(*rows[0][:2], "val"), *rows[1:]], r"other than train.* \(val\)"),
        (lambda rows: [], "lacks blue/"),
        (lambda rows: [(*row[:2], "train") for row in rows], "must have an image to train"),
    ],
)
def test_a_split_that_does_not_fit_is_named(spoil, message, folder, tmp_path):
    path = tmp_path / "split.csv"
    rows = split_of(data.open_data(config(data=str(folder)).completed()))
    splits.write_parts(path, spoil(rows))
    with pytest.raises(InputError, match=message):
        data.open_data(config(data=str(folder), split=str(path)).completed())


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.minimum(np.random.default_rng(0).integers(0, 9, 200), 4)
    expected = compute_class_weight("balanced", classes=np.arange(5), y=labels)
    np.testing.assert_allclose(splits.balanced_weights(labels, 5), expected)


def photo(seed):
    """A picture with shapes, as photos have."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype("uint8")
    return Image.fromarray(small).resize((96, 80), Image.Resampling.BICUBIC)


def test_a_picture_in_two_parts_is_told(tmp_path, capsys):
    """Also in another format, size or brightness, or with another class; not mirrored."""
    root = tmp_path / "images"
    for part in ("train", "val", "test"):
        for number, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for copy in range(4):
                seed = f"{part}{name}{copy}".encode()
                photo(list(seed)).save(root / part / name / f"{copy}.png")
            Image.new("RGB", (96, 80), (9, 9, 9 + 90 * number)).save(
                root / part / name / "flat.png"
            )
    picture = photo([1])
    picture.save(root / "train" / "cat" / "a.png")
    picture.save(root / "test" / "dog" / "b.jpg", quality=70)
    picture.resize((60, 50)).save(root / "val" / "cat" / "c.webp")
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "test" / "cat" / "flipped.png")
    # The same grays in other colors.
    Image.merge("RGB", picture.split()[::-1]).save(root / "val" / "dog" / "swapped.png")
    settings = config(data=str(root), image_size=40).completed()
    found = data.prepare(data.open_data(settings))
    told = {str(twin) for twin in found.twins}
    assert "val/cat/c.webp (validation) and train/cat/a.png (train)" in told
    twins = {twin.file: twin.twin for twin in found.twins}
    assert twins.pop("test/dog/b.jpg") in {"train/cat/a.png", "val/cat/c.webp"}
    assert twins.pop("val/cat/c.webp") == "train/cat/a.png"
    flat = {file: twin for file, twin in twins.items() if "flat" in file}
    assert set(flat) == {f"{part}/{c}/flat.png" for part in ("val", "test") for c in ("cat", "dog")}
    assert all(file.split("/")[1] == twin.split("/")[1] for file, twin in flat.items())
    assert len(twins) == len(flat)
    assert "6 held-out images look like an image of another part" in report.describe_twins(
        found.twins
    )


def test_names_of_any_bytes_are_read(folder, monkeypatch):
    name = os.fsdecode(b"caf\xe9")
    (folder / "red").rename(folder / name)
    (folder / name / "1.png").rename(folder / name / f"{name}.png")
    opened = data.open_data(config(data=str(folder), image_size=16).completed())
    assert opened.class_names == ("blue", "caf\\xe9", "green")
    monkeypatch.setattr(data, "CACHE_BYTES", 0)
    np.testing.assert_array_equal(
        all_images(data.prepare(opened)), np.stack([read_image(p, 16) for p in opened.test.items])
    )


@pytest.mark.parametrize("room", [0, 30_000])
def test_a_folder_too_large_for_memory_gives_the_same_batches(room, folder, monkeypatch, capsys):
    opened = data.open_data(config(data=str(folder), image_size=16).completed())
    kept = data.prepare(opened)
    assert "stay in memory" not in capsys.readouterr().out
    monkeypatch.setattr(data, "CACHE_BYTES", room)
    streamed = data.prepare(opened)
    in_memory = [
        item
        for part in streamed.parts.values()
        for item in part.items
        if isinstance(item, np.ndarray)
    ]
    assert sum(image.nbytes for image in in_memory) <= room
    assert (0 < len(in_memory) < 30) == (room > 0)
    assert f"{len(in_memory)} of them stay in memory" in capsys.readouterr().out
    for batches in (
        lambda found, epochs: data.training_batches(found, 8, 0, epochs)[0],
        lambda found, epochs: data.test_batches(found, 4),
    ):
        for (a, la), (b, lb) in zip(
            batches(kept, range(2)), batches(streamed, range(2)), strict=True
        ):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(la, lb)
    # A run that goes on after the first epoch.
    unbroken, resumed = epochs_of(kept, 0, range(2), 8)[1], epochs_of(streamed, 0, range(1, 2), 8)
    for (a, _), (b, _) in zip(unbroken, resumed[0], strict=True):
        np.testing.assert_array_equal(a, b)


def remove_but(folder, keep):
    for path in sorted(folder.iterdir())[keep:]:
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: [shutil.rmtree(root / name) for name in ("blue", "red")], "got green"),
        (lambda root: shutil.rmtree(root), "a folder, got .*images"),
        (lambda root: remove_but(root / "red", 0), "red has no images"),
        (
            lambda root: remove_but(root / "red", 1),
            "red of .* must have an image to train, .* got 1 image",
        ),
        (
            lambda root: (root / "red" / "3.jpg").write_bytes(b"no image"),
            r"can't read .*red/3\.jpg",
        ),
        (lambda root: (root / "red" / "4.png").write_bytes(b""), r"can't read .*red/4\.png"),
        (
            lambda root: (root / "red" / "0.jpg").write_bytes(
                (root / "red" / "0.jpg").read_bytes()[:300]
            ),
            r"can't read .*red/0\.jpg",
        ),
    ],
    ids=["one class", "no folder", "empty class", "one image", "no image", "no bytes", "cut short"],
)
def test_what_is_wrong_with_a_folder_is_named(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        data.prepare(data.open_data(config(data=str(folder)).completed()))
    assert "\n" not in str(caught.value)


def test_all_that_cannot_be_read_are_named_at_once(folder):
    for name in COLORS:
        for number in range(5):
            (folder / name / f"{number}.{'png' if number % 3 else 'jpg'}").write_bytes(b"no image")
    with pytest.raises(
        InputError, match=r"can't read 15 of 30 images: .*; and 5 more\.$"
    ) as caught:
        data.prepare(data.open_data(config(data=str(folder)).completed()))
    assert str(caught.value).count("it is not a PNG") == 10


def epochs_of(found, seed, epochs, size=32):
    batches, steps = data.training_batches(found, size, seed, epochs)
    images = [(x.numpy(), y.numpy()) for x, y in batches]
    assert len(images) == steps * len(epochs)
    return [images[e * steps : (e + 1) * steps] for e in range(len(epochs))]


def plain(found):
    """The same data without augmentation."""
    return dataclasses.replace(
        found, defaults=dataclasses.replace(found.defaults, shift=0, flip=False, zoom=1.0)
    )


def test_an_epoch_has_each_image_once_with_its_label():
    found = plain(data.open_data(config().completed()))
    known = {i.tobytes(): n for i, n in zip(found.train.items, found.train.labels, strict=True)}
    first, second = (
        [
            (i.astype("uint8").tobytes(), int(t.argmax()))
            for x, y in epoch
            for i, t in zip(x, y, strict=True)
        ]
        for epoch in epochs_of(found, 0, range(2))
    )
    # 1169 images are 36 batches of 32, and 17 images that this epoch goes without.
    assert len(first) == len(set(first)) == 36 * 32
    assert all(known[image] == label for image, label in first + second)
    assert first != second
    assert first != sorted(first)


def test_an_epoch_depends_on_the_seed_and_its_number_only():
    found = data.open_data(config().completed())
    unbroken = epochs_of(found, 0, range(3))
    resumed = epochs_of(found, 0, range(2, 3))
    for (a, _), (b, _) in zip(unbroken[2], resumed[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(epochs_of(found, 1, range(1))[0][0][0], unbroken[0][0][0])


def shifted(image, dy, dx):
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    h, w = image.shape[:2]
    return padded[4 + dy : 4 + dy + h, 4 + dx : 4 + dx + w]


@pytest.mark.parametrize(("name", "flips"), [("digits", False), ("fashion_mnist", True)])
def test_augmentation_is_shifts_and_where_it_fits_flips(name, flips):
    defaults = TrainConfig(data=name).defaults
    augment = data.augmentation(defaults)
    image = np.random.default_rng(0).integers(1, 255, (8, 8, 1)).astype("float32")
    moves = range(-defaults.shift, defaults.shift + 1)
    possible = {
        (dy, dx, flip): shifted(image, dy, dx)[:, :: -1 if flip else 1].tobytes()
        for dy in moves
        for dx in moves
        for flip in {False, flips}
    }
    names = {content: key for key, content in possible.items()}
    seen = {names[augment(image, tf.constant([0, n])).numpy().tobytes()] for n in range(400)}
    assert seen == set(possible)


def part_of(side, number):
    """Return left, top, right and bottom of the part to which the image with this number is cut."""
    places = np.stack(np.mgrid[:side, :side], -1)
    part = data.random_part(places, 0.7, (3, number))
    return (*part[0, 0, ::-1], *(part[-1, -1, ::-1] + 1))


def test_random_parts_are_of_all_sizes_and_places():
    left, top, right, bottom = np.transpose([part_of(200, number) for number in range(500)])
    sides = right - left
    np.testing.assert_array_equal(sides, bottom - top)
    assert 140 <= sides.min() < 143
    assert 197 < sides.max() <= 200
    for start in (left, top):
        assert start.min() == 0
        where = start[sides < 190] / (200 - sides[sides < 190])
        np.testing.assert_allclose(np.histogram(where, 4, (0, 1))[0] / len(where), 0.25, atol=0.08)


def sharp_images(folder, side):
    """Two classes of black and white dots, the finest detail that there is."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            dots = np.random.default_rng((number, ord(name))).integers(0, 2, (side, side + 21, 1))
            image = np.repeat(dots * np.uint8(255), 3, axis=-1).astype("uint8")
            Image.fromarray(image).save(folder / name / f"{number}.png")


# A square of up to 2 * (24 / 0.7) pixels is kept as it is; a larger one is resized before.
@pytest.mark.parametrize(("side", "most", "mean"), [(70, 0, 0), (40, 0, 0), (150, 12, 2.5)])
@pytest.mark.parametrize("room", [2**20, 0], ids=["in memory", "read again"])
def test_a_random_part_is_what_pillow_cuts_out_of_the_file(
    side, most, mean, room, tmp_path, monkeypatch
):
    sharp_images(tmp_path, side)
    monkeypatch.setattr(data, "CACHE_BYTES", room)
    opened = data.open_data(config(data=str(tmp_path), image_size=24).completed())
    unflipped = dataclasses.replace(opened.defaults, flip=False)
    found = data.prepare(dataclasses.replace(opened, defaults=unflipped))
    batches, _ = data.training_batches(found, len(found.train), 3, range(1))
    ((images, _),) = batches
    squares = [Image.open(path).crop((10, 0, 10 + side, side)) for path in opened.train.items]
    kept = min(side, 70)
    for number, square in enumerate(squares):
        box = [float(x) * side / kept for x in part_of(kept, number)]
        part = square.crop([round(x) for x in box]) if side == kept else square
        inside = None if side == kept else box
        expected = np.asarray(part.resize((24, 24), Image.Resampling.BILINEAR, inside), int)
        off = min((np.abs(image - expected) for image in images.numpy()), key=np.max)
        assert off.max() <= most
        assert off.mean() <= mean


# --- the run -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run of two epochs without a stop; tests must not change it."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    train_small(config(), out)
    return out


@pytest.fixture
def finished(unbroken, tmp_path):
    """A copy of this run that tests may change, and its report."""
    out = shutil.copytree(unbroken, tmp_path / "run")
    return out, files.read_json(out / "report.json")


def test_a_run_leaves_what_it_promises(finished):
    out, content = finished
    assert left(out) == sorted(run.RUN_FILES)
    for name in ("curves.png", "confusion.png"):
        pixels = picture(out / name)
        assert min(pixels.shape) > 300
        assert pixels.std() > 5
    assert [row["epoch"] for row in rows(out)] == [1, 2]
    assert content["settings"]["seed"] == 3
    assert content["versions"]["keras"] == keras.__version__
    # Conv 3x3x1x8 + 8, norm 2x8, SE 8x4 + 4 + 4x8 + 8, dense 128x10 + 10.
    assert content["parameters"] == {"trainable": 1462, "all": 1462 + 16}


def test_the_report_is_true_of_the_saved_models(finished):
    out, content = finished
    split = data.open_data(config().completed()).test
    pixels = split.items.astype("float32")
    probabilities = keras.models.load_model(out / "model.keras").predict(pixels, verbose=0)
    right = probabilities.argmax(1) == split.labels
    assert content["test"]["accuracy"] == round(float(right.mean()), 4)
    history = [(row["val_accuracy"], -row["val_loss"]) for row in rows(out)]
    chosen = content["epochs"]["chosen"]
    assert history[chosen - 1] == max(history)
    validated = data.open_data(config().completed()).validation
    answers = keras.models.load_model(out / "model.keras").predict(validated.items * 1.0, verbose=0)
    share = np.mean(answers.argmax(1) == validated.labels)
    assert share == pytest.approx(history[chosen - 1][0], abs=1e-6)
    with open(out / "predictions.csv", newline="") as file:
        told = [row for row in csv.DictReader(file) if row["part"] == "test"]
    assert [row["file"] for row in told] == list(split.names)
    assert [row["true"] == row["predicted"] for row in told] == right.tolist()
    np.testing.assert_allclose(
        [float(row["probability"]) for row in told], probabilities.max(1), atol=1e-4
    )
    sevens = split.labels == 7
    expected = round(float(np.mean(probabilities[sevens].argmax(1) == 7)), 4)
    assert content["test"]["accuracy_by_class"]["7"] == expected
    served = tf.saved_model.load(out / "saved_model").signatures["serving_default"](
        tf.constant(pixels)
    )
    np.testing.assert_allclose(*served.values(), probabilities, atol=1e-5)


def test_the_learning_rate_warms_up_and_falls_as_a_cosine():
    settings = config(lr=0.2, epochs=10, batch_size=100).completed()
    model = build_small(settings, data.open_data(settings))
    schedule = keras.optimizers.schedules.deserialize(model.optimizer.get_config()["learning_rate"])
    # 11 steps an epoch; the first 5 % of 110, in even numbers 6, warm up.
    steps = np.arange(110)
    expected = np.where(steps < 6, 0.2 * steps / 6, 0.1 * (1 + np.cos(np.pi * (steps - 6) / 104)))
    np.testing.assert_allclose([float(schedule(s)) for s in steps], expected, atol=1e-6)


def test_weight_decay_is_for_kernels():
    settings = dataclasses.replace(config(weight_decay=0.5, lr=0.1).completed(), batch_size=64)
    model = build_small(settings, data.open_data(settings))
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    model.optimizer.iterations.assign(10)
    rate = float(model.optimizer.learning_rate)
    assert rate > 0.05
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    model.optimizer.apply_gradients(zip(zeros, model.trainable_variables, strict=True))
    for variable in model.trainable_variables:
        expected = 1 - 0.5 * rate if variable.path.endswith("kernel") else 1.0
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6, err_msg=variable.path)


def test_raw_pixels_are_scaled_inside_the_model():
    settings = dataclasses.replace(config().completed(), batch_size=64)
    model = build_small(settings, data.open_data(settings))
    np.testing.assert_allclose(model.get_layer("scale")(np.array([0.0, 255.0])), [-1, 1])


def test_label_smoothing_reaches_the_loss():
    settings = dataclasses.replace(config(label_smoothing=0.3).completed(), batch_size=64)
    model = build_small(settings, data.open_data(settings))
    truth, guess = np.eye(10, dtype="float32")[:1], np.full((1, 10), 0.05, "float32")
    guess[0, 0] = 0.55
    target = 0.7 * truth + 0.03
    assert float(model.loss(truth, guess)) == pytest.approx(-(target * np.log(guess)).sum(), 1e-5)


@pytest.mark.parametrize(
    "precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"]
)
def test_mixed_precision_trains(precision, tmp_path):
    content = train_small(config(precision=precision, epochs=3), tmp_path / "run")
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert model.get_layer(index=2).compute_dtype == precision.removeprefix("mixed_")
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert content["test"]["accuracy"] > 0.8


def test_float16_scales_its_loss():
    settings = dataclasses.replace(config(precision="mixed_float16").completed(), batch_size=64)
    model = build_small(settings, data.open_data(settings))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.slow
def test_another_image_size_is_resized_to(tmp_path):
    train_small(config(image_size=12, epochs=1), tmp_path / "run")
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert model.input_shape == (None, 12, 12, 1)


def test_a_folder_of_images_trains(folder, tmp_path, capsys):
    content = train_small(config(data=str(folder), image_size=16, epochs=6), tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("Epoch")] == [
        f"Epoch {n} of 6" for n in range(1, 7)
    ]
    assert content == files.read_json(tmp_path / "run" / "report.json")
    assert content["class_names"] == ["blue", "green", "red"]
    assert content["settings"]["batch_size"] == 18
    assert content["data"]["test_images"] == 6


def test_a_saved_model_that_differs_fails_loudly(tmp_path, monkeypatch):
    load = saved_model.load_saved_model

    def spoiled(path):
        probabilities, shape = load(path)
        return lambda pixels: probabilities(pixels) + 0.01, shape

    monkeypatch.setattr(saved_model, "load_saved_model", spoiled)
    with pytest.raises(RuntimeError, match="does not compute the same as the model"):
        train_small(config(epochs=1), tmp_path / "run")
    assert not (tmp_path / "run" / "report.json").exists()


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    with pytest.raises(InputError, match="loss became nan in epoch 1: try a smaller"):
        train_small(config(lr=1e30), tmp_path / "run")


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="`batch_size` must be at most 1169"):
        train_small(config(batch_size=2000), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_too_small_for_a_network_are_refused(tmp_path):
    with pytest.raises(InputError, match="seinception_v3 with images of"):
        train(config(model="seinception_v3"), tmp_path / "run")


def test_a_missing_extra_says_how_to_install_it(tmp_path, monkeypatch):
    for package in ("matplotlib", "sklearn.datasets"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(MissingExtraError, match=r"pip install 'se_keras\[train\]'"):
                train(config(), tmp_path / "run")


# --- stopping and going on -----------------------------------------------------------------------


def stop_once(monkeypatch, owner, name, after=0):
    """Raise the error of Ctrl-C once, instead of one call after a number of calls."""
    original, calls = getattr(owner, name), []

    def stop(*args, **kwargs):
        calls.append(name)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, stop)


STOPS = {
    "before the first epoch": (run._Epochs, "on_epoch_begin", 0),
    "in the second epoch": (run._Epochs, "on_epoch_begin", 1),
    "between history and checkpoint": (keras.Model, "save_weights", 1),
    "in the export": (keras.Model, "export", 0),
    "before the report": (report, "summary", 0),
}


# The others are slow.
QUICK_STOPS = ("between history and checkpoint",)


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(where, id=name, marks=() if name in QUICK_STOPS else pytest.mark.slow)
        for name, where in STOPS.items()
    ],
)
def test_a_run_goes_on_as_if_never_stopped(where, unbroken, tmp_path, monkeypatch):
    stop_once(monkeypatch, *where)
    with pytest.raises(KeyboardInterrupt):
        train_small(config(), tmp_path / "run")
    assert not (tmp_path / "run" / "report.json").exists()
    train_small(config(), tmp_path / "run", resume=True)
    assert_same_run(unbroken, tmp_path / "run")


@pytest.mark.parametrize("after", range(5))
def test_a_stop_while_a_run_is_replaced_leaves_none_that_looks_finished(
    after, tmp_path, monkeypatch
):
    names = {"settings.json", "report.json", "history.csv", "checkpoint-0002.weights.h5"}
    for name in names:
        (tmp_path / name).write_text("{}")
    stop_once(monkeypatch, run_folder, "remove", after)
    with pytest.raises(KeyboardInterrupt):
        run_folder.begin(tmp_path, {"epochs": 2}, keep=False)
    left = {path.name for path in tmp_path.iterdir()}
    assert "report.json" not in left or left == names
    # A checkpoint goes on with its history only.
    assert "checkpoint-0002.weights.h5" not in left or "history.csv" in left


def test_a_finished_run_goes_on_with_more_epochs(finished):
    out, _ = finished
    before = rows(out)
    kept = {path.name for path in out.glob("checkpoint*")}
    best = choosing.best_epoch(before)
    suffixes = ("weights.h5", "json")
    assert kept == {f"checkpoint-{n:04d}.{suffix}" for n in {1, 2, best} for suffix in suffixes}
    content = train_small(config(epochs=3), out, resume=True)
    # The seconds, too.
    assert rows(out)[:2] == before
    assert content["epochs"]["trained"] == len(rows(out)) == 3
    assert files.read_json(out / "settings.json")["epochs"] == 3


def left(out):
    """Return the files of a run without its checkpoints."""
    return sorted(path.name for path in out.iterdir() if not path.name.startswith("checkpoint-"))


def assert_same_run(one, other):
    """Check epochs, numbers and weights; they need equal momentum, schedule and dropout."""
    assert without_time(rows(one)) == without_time(rows(other))
    first, second = (keras.models.load_model(out / "model.keras") for out in (one, other))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert left(other) == sorted(run.RUN_FILES)


def test_resuming_with_other_settings_names_the_setting(finished):
    out, _ = finished
    for change in (
        {"epochs": 1},
        {"seed": 4},
        {"label_smoothing": 0.0},
        {"precision": "mixed_float16"},
    ):
        ((name, value),) = change.items()
        with pytest.raises(InputError, match=f"`{name}` .*can't go on with {value}"):
            train_small(config(**change), out, resume=True)
    with pytest.raises(
        InputError, match="`model` small_classifier, it can't go on with seresnet20"
    ):
        train(config(), out, resume=True)


@pytest.mark.parametrize("made", [None, keras.Sequential([keras.Input((3,))])])
def test_a_network_that_is_no_classifier_of_these_images_is_refused(made):
    settings = config().completed()
    with pytest.raises(InputError, match=r"`network` must return .* \(None, 10\), got "):
        run.build_model(settings, data.open_data(settings), network=lambda **options: made)


def test_resuming_a_finished_run_changes_nothing(finished, capsys):
    out, content = finished
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert train_small(config(), out, resume=True) == content
    assert "nothing to resume" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times


def test_resuming_goes_by_what_the_images_are(folder, tmp_path, capsys):
    """The path of the images, and the way it is written, do not matter."""
    out, moved = tmp_path / "run", tmp_path / "moved"
    train_small(config(data=str(folder), image_size=16, epochs=1), out)
    again = functools.partial(train_small, out=out, resume=True)
    again(config(data=f"{folder}/", image_size=16, epochs=1))
    folder.rename(moved)
    settings = config(data=str(moved), image_size=16, epochs=1)
    again(settings)
    assert capsys.readouterr().out.count("nothing to resume") == 2
    content = (moved / "red" / "7.png").read_bytes()
    (moved / "red" / "7.png").write_bytes((moved / "red" / "8.png").read_bytes())
    with pytest.raises(InputError, match=r"images of .*moved have changed"):
        again(settings)
    (moved / "red" / "7.png").unlink()
    (moved / "red" / "new.png").write_bytes(content)
    with pytest.raises(InputError, match=r"images of .*moved have changed"):
        again(settings)


def test_runs_that_cannot_go_on_are_refused_in_a_line(finished):
    out, _ = finished
    for path in out.glob("checkpoint*"):
        path.unlink()
    with pytest.raises(InputError, match="is finished, and its checkpoints are gone"):
        train_small(config(epochs=3), out, resume=True)
    settings = files.read_json(out / "settings.json")
    del settings["choose"]
    files.write_json(out / "settings.json", settings)
    with pytest.raises(InputError, match="begun by an earlier version"):
        train_small(config(), out, resume=True)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(unbroken, tmp_path, monkeypatch, capsys):
    stop_once(monkeypatch, keras.Model, "export")
    with pytest.raises(KeyboardInterrupt):
        train_small(config(), tmp_path / "run")
    # A file that HDF5 still opens.
    with open(tmp_path / "run" / "checkpoint-0002.weights.h5", "r+b") as file:
        file.seek(-9, 2)
        file.write(b"X")
    train_small(config(), tmp_path / "run", resume=True)
    said = capsys.readouterr().out
    assert (
        "checkpoint-0002.weights.h5: it was changed after it was written. The run goes on after"
        in said
    )
    assert_same_run(unbroken, tmp_path / "run")


def test_what_is_there_is_not_overwritten(finished):
    out, content = finished
    with pytest.raises(InputError, match="has a run already: choose `resume`, `overwrite`"):
        train_small(config(), out)
    assert files.read_json(out / "report.json") == content


def test_overwriting_replaces_the_run_and_nothing_else(finished):
    out, _ = finished
    (out / "notes.txt").write_text("mine")
    assert train_small(config(seed=5), out, overwrite=True)["settings"]["seed"] == 5
    assert (out / "notes.txt").read_text() == "mine"


def test_a_run_that_was_stopped_before_its_settings_goes_on(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{files.PARTIAL}settings.json").write_text("{")
    train_small(config(epochs=1), tmp_path / "run", resume=True)
    assert left(tmp_path / "run") == sorted(run.RUN_FILES)


@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_a_folder_that_is_no_run_is_left_alone(flag, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not the folder of a run"):
        train(config(), tmp_path, **{flag: True})
    with pytest.raises(InputError, match="is a file"):
        train(config(), tmp_path / "thesis.txt", **{flag: True})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_bad_data_leaves_the_old_run_whole(finished, folder):
    out, content = finished
    (folder / "red" / "3.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match="can't read"):
        train_small(config(data=str(folder)), out, overwrite=True)
    assert files.read_json(out / "report.json") == content


# --- new images ----------------------------------------------------------------------------------


def test_a_run_is_tested_on_new_images(finished, tmp_path, monkeypatch, capsys):
    """On images of three of its classes, the results are those of its own answers."""
    out, _ = finished
    monkeypatch.chdir(tmp_path)
    test = data.open_data(config().completed()).test
    few = test.part(np.flatnonzero(np.isin(test.labels, [1, 7, 8]))[:40])
    for part in ("train", "test"):
        for image, label, name in zip(few.items, few.labels, few.names, strict=True):
            Path("new", part, str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(f"new/{part}/{label}/{name}.png")
    model = keras.models.load_model(out / "model.keras")
    answers = model.predict(few.items.astype("float32"), verbose=0)
    right = answers.argmax(1) == few.labels
    assert main(["evaluate", str(out), "--data", "new", "--out", "results/new"]) == 0
    text = capsys.readouterr().out
    figures = files.read_json(Path("results/new/evaluation.json"))
    assert figures["images"] == 40
    assert figures["accuracy"] == round(float(right.mean()), 4)
    for name, score in (("balanced_accuracy", recall_score), ("macro_f1", f1_score)):
        expected = score(few.labels, answers.argmax(1), labels=[1, 7, 8], average="macro")
        assert figures[name] == pytest.approx(expected, abs=1e-4)
    assert f"accuracy {right.mean():.1%}".replace("%", " %") in " ".join(text.split())
    with open("results/new/predictions.csv", newline="") as file:
        told = {row["file"]: row["true"] == row["predicted"] for row in csv.DictReader(file)}
    names = [f"test/{n}/{name}.png" for n, name in zip(few.labels, few.names, strict=True)]
    assert told == dict(zip(names, right.tolist(), strict=True))
    assert {path.name for path in Path("results/new").iterdir()} == {
        *("evaluation.json", "predictions.csv", "confusion.png", "mistakes.png")
    }
    shutil.copytree("new/test/7", "new/test/seven")
    shutil.copytree("new/test/7", "new/train/seven")
    assert main(["evaluate", str(out), "--data", "new"]) == 2
    assert "has the class seven, but the model's classes are" in capsys.readouterr().err


# --- side by side --------------------------------------------------------------------------------


def with_answers(folder, change):
    """Change the rows of the test images in `predictions.csv`."""
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    change([row for row in rows if row["part"] == "test"])
    files.write_csv(folder / "predictions.csv", list(rows[0]), [row.values() for row in rows])


def test_runs_are_laid_side_by_side(finished, tmp_path, monkeypatch, capsys):
    out, content = finished
    other = shutil.copytree(out, tmp_path / "猫 $x$")
    content["settings"]["no_se"] = True
    del content["files"]  # whose checksums would tell
    content["test"] |= {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}
    files.write_json(other / "report.json", content)

    def set_answers(rows):
        for number, row in enumerate(rows):
            row["predicted"] = row["true"] if number % 3 else "no"

    with_answers(other, set_answers)
    right = {}
    for folder in (out, other):
        with open(folder / "predictions.csv", newline="") as file:
            tested = [row for row in csv.DictReader(file) if row["part"] == "test"]
        right[folder] = np.array([row["true"] == row["predicted"] for row in tested])
    alone = [int((right[a] & ~right[b]).sum()) for a, b in ((out, other), (other, out))]
    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(out), str(other), "-o", "both.png"]) == 0
    text = capsys.readouterr().out
    assert f"359 test images, {alone[1]:,} are right only in {other} and {alone[0]:,} only" in text
    chance = binomtest(alone[0], sum(alone)).pvalue
    assert f"difference would be {chance:.2g} " in text
    assert re.search(r"no_se +False +True", text)
    assert "seed" not in text
    assert " 50.0 %    40.0 to 60.0 %" in text
    assert picture("both.png").std() > 5
    with_answers(other, lambda rows: rows[0].update(file="another"))
    assert main(["compare", str(out), str(other), "-o", "both.png"]) == 0
    assert "tested on different images" in capsys.readouterr().out
    (other / "predictions.csv").unlink()
    assert main(["compare", str(out), str(other)]) == 2
    assert "predictions.csv: No such file" in capsys.readouterr().err


# --- predicting ----------------------------------------------------------------------------------


def test_predictions_are_those_of_the_model_on_raw_pixels(finished, tmp_path):
    out, _ = finished
    pixels = data.open_data(config().completed()).test.items[:2]
    paths = [tmp_path / f"{n}.png" for n in range(2)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image[..., 0]).save(path)
    expected = keras.models.load_model(out / "model.keras")(pixels.astype("float32")).numpy()
    alone = shutil.copytree(out / "saved_model", tmp_path / "alone")
    for source in (out, out / "model.keras", out / "saved_model", alone):
        for found, row in zip(predict(source, paths, top=3), expected, strict=True):
            assert [name for name, _ in found] == [str(n) for n in np.argsort(-row)[:3]]
            np.testing.assert_allclose([p for _, p in found], np.sort(row)[::-1][:3], atol=1e-5)
        names = [name for _, name, _ in se_keras.decode_predictions(expected, source)[0]]
        assert names == [str(n) for n in np.argsort(-expected[0])[:5]]


def test_a_model_without_report_numbers_its_classes(finished, tmp_path):
    out, _ = finished
    shutil.move(out / "model.keras", tmp_path / "alone.keras")
    write_image(tmp_path / "image.png", (1, 2, 3))
    ((name, _),) = predict(tmp_path / "alone.keras", [tmp_path / "image.png"], top=1)[0]
    assert name.startswith("class ")


def test_a_model_of_something_else_is_refused(tmp_path):
    write_image(tmp_path / "image.png", (1, 2, 3))
    x = keras.Input((8, 8, 3))
    keras.Model(x, keras.layers.Rescaling(1 / 255)(x)).save(tmp_path / "other.keras")
    with pytest.raises(InputError, match="must return probabilities"):
        predict(tmp_path / "other.keras", [tmp_path / "image.png"])


# --- pictures and files --------------------------------------------------------------------------


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with contextlib.suppress(KeyError), files.written_beside(target) as partial:
        partial.write_text("half")
        raise KeyError
    assert target.read_text() == "old"
    with files.written_beside(target) as partial:
        partial.write_text("new")
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


# --- odd files -----------------------------------------------------------------------------------


def bomb(path):
    """A PNG of 12,000 x 12,000 pixels in a few hundred bytes: only its head."""
    Image.new("1", (8, 8)).save(path, "png")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 12_000, 12_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def listen(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        server.bind(path.name)
        os.chdir(here)


ODD = {
    "a pipe": (os.mkfifo, "not a regular file"),
    "a link to an endless device": (
        lambda path: path.symlink_to("/dev/zero"),
        "not a regular file",
    ),
    "a link to a pipe": (
        lambda path: (os.mkfifo(path.with_suffix("")), path.symlink_to(path.with_suffix(""))),
        "not a regular file",
    ),
    "a link to nothing": (lambda path: path.symlink_to("gone.png"), "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels"),
    "a socket": (listen, "not a regular file"),
    "144 million pixels": (bomb, "above Pillow's limit"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_is_named_and_not_waited_for(kind, folder):
    make, message = ODD[kind]
    make(folder / "red" / "odd.png")
    found = data.open_data(config(data=str(folder)).completed())
    for read in (data.fingerprint, data.prepare):
        if read is data.fingerprint and "pixels" in kind:
            continue  # which does not decode
        with pytest.raises(InputError, match=rf"(?i)can't read .*odd\.png: .*{message}"):
            read(found)


def test_an_odd_folder_is_a_folder(folder):
    (folder / "red" / "odd.jpg").mkdir()
    write_image(folder / "red" / "odd.jpg" / "1.png", (200, 0, 0))
    (folder / "red" / "round").symlink_to(folder)
    found = data.open_data(config(data=str(folder)).completed())
    assert sum("odd.jpg" in name for part in found.parts.values() for name in part.names) == 1
    assert "1 a link to a folder (red/round)" in found.left_out


def test_an_image_that_changes_is_named_and_one_that_is_touched_is_not(folder):
    found = data.open_data(config(data=str(folder)).completed())
    first, second = found.train.items[:2]
    data.fingerprint(found)
    os.utime(first, (1, 1))
    data.read_whole(found, first)
    write_image(Path(second), (9, 9, 9), seed=7)
    with pytest.raises(
        InputError, match=r"can't read the image .*: it has changed since the run started\.$"
    ):
        data.read_whole(found, second)


def test_an_image_that_vanishes_ends_the_run_in_a_line(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE_BYTES", 0)
    original = data.prepare

    def prepare(found):
        prepared = original(found)
        Path(found.train.items[0]).unlink()
        return prepared

    monkeypatch.setattr(run.sources, "prepare", prepare)
    with pytest.raises(InputError, match=r"^can't read the image [^\n]*: No such file[^\n]*\.$"):
        train_small(config(data=str(folder), image_size=16, epochs=1), tmp_path / "run")


def test_a_run_that_another_process_writes_is_refused(finished):
    out, content = finished
    with (
        run_folder.locked(out),
        pytest.raises(InputError, match=r"another process is training into .*run: wait for it"),
    ):
        train_small(config(), out, overwrite=True)
    assert train_small(config(), out, resume=True) == content


def test_what_a_finished_run_lost_is_made_again(unbroken, finished, capsys):
    out, _ = finished
    (out / "report.json").write_text("{}")
    (out / "confusion.png").unlink()
    variables = out / "saved_model" / "variables" / "variables.data-00000-of-00001"
    variables.write_bytes(variables.read_bytes()[:100])
    with pytest.raises(InputError, match=r"can't read .*report\.json: `class_names` is missing"):
        predict(out, [])
    (out / "model.keras").write_bytes((out / "model.keras").read_bytes()[:-100])
    train_small(config(), out, resume=True)
    assert "confusion.png is missing. It is recreated." in capsys.readouterr().out
    assert_same_run(unbroken, out)
