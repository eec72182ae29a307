"""Training that begins with weights: what is trained, in which stage, on which pixels."""

import functools
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import se_keras
from se_keras.cli import main
from se_keras.graph import innermost_layers
from se_keras.train import InputError, TrainConfig, data, run, run_folder, train
from se_keras.train.choosing import is_over
from se_keras.train.start import start_of

COLORS = {"blue": (40, 60, 200), "red": (220, 50, 40)}
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture
def folder(tmp_path):
    for name, color in COLORS.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for seed in range(8):
            noise = np.random.default_rng(seed).integers(-30, 30, (16, 16, 3))
            pixels = (np.array(color) + noise).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{seed}.png")
    return str(tmp_path / "images")


def backbone(shape=(8, 8, 1)):
    """Maps of a small network; its normalization has seen something."""
    keras.utils.set_random_seed(1)
    image = keras.Input(shape)
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(6, 3, name="conv")(image))
    x = layers.Dropout(0.2)(layers.ReLU()(x))
    model = keras.Model(image, layers.Conv2D(7, 3, name="last")(x), name="small")
    for variable in model.get_layer("norm").variables:
        variable.assign(np.random.default_rng(2).uniform(0.5, 1.5, variable.shape))
    return model


def classifier(*head, shape=(8, 8, 3)):
    body = backbone(shape)
    x = body.output
    for layer in head:
        x = layer(x)
    return keras.Model(body.input, x, name="whole")


def config(**settings):
    return TrainConfig(**{"data": "digits", "batch_size": 4, "seed": 3, "pixels": "tf", **settings})


def built(settings, model=None):
    """The model of a run before its first epoch, and its data."""
    start = start_of(settings, model)
    settled = start.config.completed()
    found = data.open_data(settled)
    return run.build_model(settled, found, start=start), found


def weights_of(model):
    """Of each layer by its name, without random states."""
    return {
        layer.name: [v.numpy() for v in layer.variables if "seed" not in v.path]
        for layer in innermost_layers(model)
    }


def is_equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# --- what a run begins with ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    keras.utils.set_random_seed(4)
    name = "seresnet20.hf--me--flowers"  # such a name says pixels and classes that hold no more
    model = se_keras.create("seresnet20", input_shape=(16, 16, 3), classes=5, name=name)
    path = tmp_path_factory.mktemp("weights") / "some.keras"
    model.save(path)
    return str(path)


@pytest.fixture(scope="module")
def by_hand(weights):
    """The same weights without a classifier, on pixels that the caller prepares."""
    return se_keras.create("seresnet20", include_top=False, pooling="avg", weights=weights)


def features(model, images):
    return keras.Model(model.input, model.get_layer("predictions").input)(images)


def test_the_model_of_a_run_prepares_raw_pixels_itself(weights, by_hand, folder):
    named = {"data": folder, "model": "seresnet20", "weights": weights, "image_size": 16}
    model, _ = built(config(pixels="imagenet", **named))
    assert (model.name, model.output_shape) == ("seresnet20", (None, 2))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    expected = by_hand((images / 255 - MEAN) / STD)
    np.testing.assert_allclose(features(model, images), expected, rtol=1e-4, atol=1e-5)
    known = se_keras.pixels_of(model)
    assert (known.raw, known.size, known.crop, known.labels) == (True, 16, 1.0, None)


def test_gray_images_go_into_a_network_for_color(weights, by_hand):
    model, _ = built(config(model="seresnet20", weights=weights, pixels="imagenet", image_size=16))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1)).astype("float32")
    expected = by_hand(np.repeat((images / 255 - MEAN.mean()) / STD.mean(), 3, axis=-1))
    np.testing.assert_allclose(features(model, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "mean", "std"),
    [("tf", 0.5, 0.5), ("raw", 0, 1 / 255), ("seresnet50.a1_in1k", MEAN, STD)],
)
def test_pixels_are_said_by_a_word_or_by_other_weights(pixels, mean, std, folder):
    start = start_of(config(data=folder, pixels=pixels), backbone((8, 8, 3)))
    image = keras.Input((8, 8, 3))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    got = keras.Model(image, start.prepare(image))(images)
    np.testing.assert_allclose(got, (images / 255 - mean) / std, rtol=1e-4, atol=1e-5)


def test_published_weights_say_the_network_its_size_and_its_numbers(folder):
    start = start_of(TrainConfig(data=folder, weights="seresnet50.a3_in1k"))
    assert (start.config.model, start.config.image_size) == ("seresnet50", 160)
    np.testing.assert_allclose([start.pixels.mean, start.pixels.std], [MEAN, STD])
    best = start_of(TrainConfig(data=folder, model="seresnet50", weights="imagenet", image_size=99))
    assert (best.config.weights, best.config.image_size) == ("imagenet", 99)


POOL, DENSE = layers.GlobalAveragePooling2D, functools.partial(layers.Dense, 4)
HEADS = {
    "none": list,
    "a pool": lambda: [POOL()],
    "a layer": lambda: [POOL(), DENSE(activation="softmax")],
    "several": lambda: [
        POOL(keepdims=True),
        layers.Flatten(),
        layers.Dropout(0.5),
        DENSE(),
        layers.Softmax(),
    ],
}


@pytest.mark.parametrize("head", HEADS)
def test_a_fresh_classifier_takes_the_place_of_the_old_one(head, folder):
    old = classifier(*HEADS[head]())
    model, _ = built(config(data=folder), old)
    assert model.output_shape == (None, 2)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    maps = keras.Model(old.input, old.get_layer("last").output)(images / 127.5 - 1)
    dense = model.get_layer("classes")
    logits = np.array(maps).mean((1, 2)) @ dense.kernel.numpy() + dense.bias.numpy()
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(model(images), expected, rtol=1e-4)
    assert se_keras.pixels_of(model).raw


class Coded(keras.Model):
    def call(self, x):
        return x


UNFIT = {
    "can't be told": [
        lambda: classifier(layers.Flatten(), DENSE()),
        lambda: classifier(POOL(), DENSE(), DENSE()),
        lambda: classifier(POOL(), DENSE(activation="relu")),
        lambda: classifier(
            POOL(), layers.Reshape((1, 1, 7)), layers.Conv2D(4, 1), layers.Flatten()
        ),
    ],
    "must be a functional or Sequential model": [Coded],
    "one input and one output": [
        lambda: keras.Model((x := keras.Input((8, 8, 3))), [x, layers.Conv2D(1, 1)(x)])
    ],
    "must take images": [lambda: keras.Sequential([keras.Input((8,)), DENSE()])],
}


@pytest.mark.parametrize(
    ("make", "message"), [(make, message) for message, all_ in UNFIT.items() for make in all_]
)
def test_a_model_without_one_clear_classifier_is_refused(make, message, folder):
    with pytest.raises(InputError, match=message):
        start_of(config(data=folder), make())


@pytest.mark.parametrize(
    ("settings", "model", "message"),
    [
        ({"pixels": None}, backbone, r"`pixels`: raw, imagenet, tf, or"),
        ({"pixels": "seresnet32"}, backbone, "what pixels seresnet32 takes is unknown"),
        ({"image_size": 9}, backbone, "`image_size` must be 8, .* got 9"),
        ({"image_size": None}, lambda: backbone((None, None, 3)), None),
        ({"no_se": True}, backbone, "`no_se` and `precision` are for a network by its name"),
        ({"precision": "mixed_float16"}, backbone, "`precision` are for a network by its name"),
        ({"model": "seresnet20"}, backbone, "takes the place of that of the settings, seresnet20"),
        ({"weights": "imagenet"}, backbone, "`weights` are for a network by its name"),
        ({"model": "gone.keras"}, None, "`model`: there is no gone.keras"),
        ({"weights": "gone.safetensors"}, None, "there is no file 'gone.safetensors'"),
        ({"weights": "imagenet"}, None, "name the network"),
        ({"freeze": 2, "pixels": None}, None, "`freeze` needs `weights`"),
        ({}, None, "`pixels` needs `weights`"),
        ({}, lambda: backbone((8, 12, 1)), "takes images of 8x12, training has squares only"),
    ],
)
def test_what_a_run_cannot_begin_with_is_named(settings, model, message):
    begin = functools.partial(start_of, config(**settings), model and model())
    if message is None:
        assert begin().config.image_size == 8  # that of the digits
        return
    with pytest.raises(InputError, match=message):
        begin()


def test_weights_whose_pixels_nobody_knows_are_refused(weights, folder):
    with pytest.raises(InputError, match=r"what pixels .*some.keras takes is unknown.*raw"):
        start_of(TrainConfig(data=folder, model="seresnet20", weights=weights))


def test_sizes_and_channels_that_do_not_fit_are_named(folder):
    with pytest.raises(InputError, match="any size: say which by `image_size`"):
        start_of(config(data=folder), backbone((None, None, 3)))
    with pytest.raises(InputError, match="small takes 3 channels, and the images of digits have 1"):
        built(config(), backbone((8, 8, 3)))
    with pytest.raises(InputError, match=r"small takes 1 channel, and the images of .* have 3"):
        built(config(data=folder), backbone())


def test_a_network_of_a_function_begins_with_no_weights(tmp_path):
    for settings in ({"weights": "imagenet"}, {"freeze": 1}, {"model": "a.keras"}):
        with pytest.raises(InputError, match=f"`{next(iter(settings))}` and `network` exclude"):
            train(TrainConfig(**settings), tmp_path / "run", network=backbone)


# --- stages --------------------------------------------------------------------------------------


def fitted(out, **settings):
    """The model of a run of two stages, whose folder gets its checkpoints, and what it began with.

    What `train` writes besides costs more than the training.
    """
    staged = config(**{"epochs": 4, "freeze": 2, "ema": 0.9, "batch_size": 512, **settings})
    given = backbone()
    keras.utils.set_random_seed(3)
    model, found = built(staged, given)
    before = weights_of(model)
    out.mkdir(exist_ok=True)
    settled = start_of(staged, given).config.completed()
    history = run.fit(model, settled, data.prepare(found), out)
    return model, before, history


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Such a run, which keeps the checkpoint of its first epoch, and its folder."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "best_epoch", lambda history: 1)
        patch.setattr(run, "chosen_epoch", lambda history, config: 4)
        return *fitted(out), out


def test_all_layers_are_trained_at_a_smaller_rate_at_last(unbroken):
    model, _, history, _ = unbroken
    assert all(layer.trainable for layer in innermost_layers(model))
    # Two steps an epoch: the first warms up, the others are a cosine over the three that are left.
    rates = [row["learning_rate"] / (0.1 * 512 / 64) for row in history]
    cosine = [(1 + np.cos(np.pi * step / 3)) / 2 for step in (1, 3)]
    np.testing.assert_allclose(rates, [*cosine, *(0.1 * x for x in cosine)], atol=1e-6)


def test_the_frozen_stage_changes_the_classifier_alone(unbroken, tmp_path, monkeypatch):
    """Its epoch can be chosen after the other stage, too."""
    monkeypatch.setattr(run, "chosen_epoch", lambda history, config: 1)
    model, before, _ = fitted(shutil.copytree(unbroken[-1], tmp_path / "run"))
    changed = [
        {name for name, values in before.items() if not is_equal(values, other[name])}
        for other in (weights_of(model), weights_of(unbroken[0]))
    ]
    assert all(layer.trainable for layer in innermost_layers(model))
    assert changed == [{"classes"}, {"conv", "norm", "last", "classes"}]


@pytest.mark.parametrize(
    "epochs",
    [
        pytest.param(1, id="frozen", marks=pytest.mark.slow),
        pytest.param(2, id="between"),
        pytest.param(3, id="unfrozen", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_in_each_stage_as_if_never_stopped(epochs, unbroken, tmp_path, monkeypatch):
    begin, out = run._Epochs.on_epoch_begin, tmp_path / "run"
    monkeypatch.setattr(run, "chosen_epoch", lambda history, config: 4)

    def stop(self, epoch, logs=None):
        if epoch == epochs:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(run._Epochs, "on_epoch_begin", stop)
        with pytest.raises(KeyboardInterrupt):
            fitted(out)
    model, _, history = fitted(out)
    names = ("epoch", "learning_rate", "loss", "val_loss")
    expected, got = ([[row[n] for n in names] for row in h] for h in (unbroken[2], history))
    assert got == expected
    assert is_equal(model.get_weights(), unbroken[0].get_weights())


@pytest.mark.parametrize(
    ("freeze", "over"), [(0, [False, True]), (2, [False, False]), (9, [False, True])]
)
def test_patience_waits_for_the_second_stage(freeze, over):
    settings = config(weights="imagenet", freeze=freeze, epochs=9, patience=2)
    rows = [{"val_accuracy": 0.5, "val_loss": 1.0}] * 3
    assert [is_over(rows[:2], settings), is_over(rows, settings)] == over


# --- the command ---------------------------------------------------------------------------------


def train_file(model, epochs, folder, tmp_path, monkeypatch, capsys):
    """Train on a `.keras` file by the command, go on, and ask the run about an image."""
    monkeypatch.chdir(tmp_path)
    model.save("own.keras")
    content = Path("own.keras").read_bytes()
    options = ["--data", folder, "--pixels", "tf", "--epochs", epochs, "--freeze", "1"]
    assert main(["train", "--model", "own.keras", *options, "--out", "run"]) == 0
    text = capsys.readouterr().out
    assert Path("own.keras").read_bytes() == content
    assert "Trained: the classifier alone for 1 epoch" in text
    assert (", then all layers for 1 epoch at 0.1 of" in text) == (epochs == "2")
    assert main(["train", "--out", "run", "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().out
    assert main(["predict", "run", f"{folder}/red/0.png"]) == 0
    assert main(["predict", "run/saved_model", f"{folder}/red/0.png"]) == 0
    answers = capsys.readouterr().out.split("0.png")[1:]
    assert answers[0].split()[:2] == answers[1].split()[:2]


def test_a_file_with_inserted_blocks_is_trained_by_the_command(
    folder, tmp_path, monkeypatch, capsys
):
    x = image = keras.Input((16, 16, 3))
    for width in (6, 8):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = se_keras.insert_se(keras.Model(image, x))
    assert any(isinstance(layer, se_keras.SqueezeExcite) for layer in model.layers)
    train_file(model, "1", folder, tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_a_network_of_keras_applications_is_trained_by_the_command(
    folder, tmp_path, monkeypatch, capsys
):
    network = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=4)
    train_file(se_keras.insert_se(network), "2", folder, tmp_path, monkeypatch, capsys)
