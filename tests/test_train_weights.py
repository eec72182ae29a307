"""Test training from weights: trained layers, stages and pixels."""

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
from se_keras.train import InputError, TrainConfig, checkpoints, data, run, run_folder, train
from se_keras.train.choosing import is_over
from se_keras.train.depth import stages_from_end
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
    """A small backbone, whose normalization has statistics."""
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
    """Return the weights of each layer by its name, without random states."""
    layers_ = {
        layer.name: [v.numpy() for v in layer.variables if "seed" not in v.path]
        for layer in innermost_layers(model)
    }
    return {name: values for name, values in layers_.items() if values}


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


CONV = functools.partial(layers.Conv2D, 4, 1)


def head_of_its_own(x):
    """A nested model, such as the head of KerasHub's VGG."""
    inside = [
        layers.Flatten(),
        layers.Dense(5, activation="relu", name="before"),
        DENSE(name="old"),
    ]
    return keras.Sequential([keras.Input(x.shape[1:]), *inside])(x)


# A head, the layer whose output a new classifier takes, and what is said of it.
OTHER_HEADS = {
    "MobileNet": (
        [POOL(keepdims=True, name="before"), CONV(name="old"), layers.Reshape((4,))],
        "replaces 'old'",
    ),
    "MobileNetV3": (
        [
            POOL(keepdims=True),
            CONV(activation="hard_silu", name="before"),
            layers.Dropout(0.2, name="drop"),
            CONV(name="old"),
            layers.Flatten(),
            layers.Activation("softmax"),
        ],
        "replaces 'old'",
    ),
    "VGG": (
        [
            layers.Flatten(),
            DENSE(activation="relu", name="before"),
            DENSE(activation="softmax", name="old"),
        ],
        "replaces 'old'",
    ),
    "nested": ([head_of_its_own], "replaces 'old'"),
    "flat": (
        [layers.Flatten(name="before"), layers.Dropout(0.5, name="drop")],
        "follows its features",
    ),
}


@pytest.mark.parametrize("name", OTHER_HEADS)
def test_what_stands_before_the_last_classifier_stays(name, folder):
    head, said = OTHER_HEADS[name]
    old = classifier(*head)
    settings = config(data=folder)
    assert f"A new classifier {said}." in start_of(settings, old).describe(settings.completed())
    model, _ = built(settings, old)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    maps = keras.Model(old.input, old.get_layer("last").output)(images / 127.5 - 1)
    kept = {layer.name: layer for layer in innermost_layers(old)}
    if name == "flat":
        x = maps
    elif name == "nested":
        x = kept["before"](np.reshape(maps, (2, -1)))
    else:  # layers of the classifier one after the other, up to the one that goes
        x = keras.Model(old.get_layer("last").output, kept["before"].output)(maps)
    dense = model.get_layer("classes")
    logits = np.reshape(x, (2, -1)) @ dense.kernel.numpy() + dense.bias.numpy()
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(model(images), expected, rtol=1e-4)
    assert "old" not in {layer.name for layer in innermost_layers(model)}


class Coded(keras.Model):
    def call(self, x):
        return x


UNFIT = {
    "can't be found": [
        lambda: classifier(POOL(), DENSE(activation="relu")),
        lambda: classifier(POOL(), DENSE(), layers.ReLU()),
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
        ({"pixels": None}, backbone, r"`pixels`: .*Give raw, imagenet, tf, or"),
        ({"pixels": "seresnet32"}, backbone, "the pixels that seresnet32 takes are unknown"),
        ({"image_size": 9}, backbone, "`image_size` must be 8, .* got 9"),
        ({"image_size": None}, lambda: backbone((None, None, 3)), None),
        ({"no_se": True}, backbone, "`no_se` and `precision` need a network by its name"),
        ({"precision": "mixed_float16"}, backbone, "`precision` need a network by its name"),
        ({"model": "seresnet20"}, backbone, "replaces the model of the settings, seresnet20"),
        ({"weights": "imagenet"}, backbone, "`weights` need a network by its name"),
        ({"model": "gone.keras"}, None, "`model`: there is no gone.keras"),
        ({"weights": "gone.safetensors"}, None, "there is no file 'gone.safetensors'"),
        ({"weights": "imagenet"}, None, "name the network"),
        ({"freeze": 2, "pixels": None}, None, "`freeze` needs `weights`"),
        ({}, None, "`pixels` needs `weights`"),
        ({"unfreeze": 1, "pixels": None}, None, "`unfreeze` needs `weights`"),
        ({"layer_decay": 0.5, "pixels": None}, None, "`layer_decay` needs `weights`"),
        ({"tuning_rate": 0.5, "pixels": None}, None, "`tuning_rate` needs `weights`"),
        ({}, lambda: backbone((8, 12, 1)), "must take square images, got 8x12"),
    ],
)
def test_what_a_run_cannot_begin_with_is_named(settings, model, message):
    begin = functools.partial(start_of, config(**settings), model and model())
    if message is None:
        assert begin().config.image_size == 8  # that of the digits
        return
    with pytest.raises(InputError, match=message):
        begin()


def test_the_folder_of_a_run_stands_for_its_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/first").mkdir(parents=True)
    (tmp_path / "runs/first/settings.json").write_text("{}")
    with pytest.raises(InputError, match="runs/first is a run that is not finished"):
        config(model="runs/first")
    with pytest.raises(InputError, match="runs is not the folder of a run"):
        config(model="runs")
    with pytest.raises(InputError, match=r"there is no runs/frist. Did you mean 'runs/first'\?"):
        config(model="runs/frist")
    backbone().save(tmp_path / "runs/first/model.keras")
    (tmp_path / "seresnet20").mkdir()
    assert config(model="seresnet20").model == "seresnet20"
    settings = config(model="runs/first")
    assert settings.model == str(Path("runs/first/model.keras"))
    assert run_folder.default_folder(settings) == Path("runs/digits-first")
    assert start_of(settings).config.image_size == 8


def test_weights_whose_pixels_nobody_knows_are_refused(weights, folder):
    with pytest.raises(InputError, match=r"the pixels that .*some.keras takes are unknown.*raw"):
        start_of(TrainConfig(data=folder, model="seresnet20", weights=weights))


def test_sizes_and_channels_that_do_not_fit_are_named(folder):
    with pytest.raises(InputError, match=r"`image_size` must be given, because .* any size"):
        start_of(config(data=folder), backbone((None, None, 3)))
    with pytest.raises(
        InputError, match=r"must have 3 channels for .*small, but the images of digits have 1"
    ):
        built(config(), backbone((8, 8, 3)))
    with pytest.raises(
        InputError, match=r"must have 1 channel for .*small, but the images of .* have 3"
    ):
        built(config(data=folder), backbone())


def test_a_network_of_a_function_begins_with_no_weights(tmp_path):
    for settings in ({"weights": "imagenet"}, {"unfreeze": 1}, {"model": "a.keras"}):
        with pytest.raises(InputError, match=f"`{next(iter(settings))}` and `network` exclude"):
            train(TrainConfig(**settings), tmp_path / "run", network=backbone)


# --- stages --------------------------------------------------------------------------------------


def fitted(out, **settings):
    """The model of a run of two stages, whose folder gets its checkpoints, and what it began with.

    What `train` writes besides costs more than the training.
    """
    more = {"ema": 0.9, "tuning_rate": 0.1, "layer_decay": 0.5, "mixup": 0.2}
    staged = config(**{"epochs": 4, "freeze": 2, "batch_size": 512, **more, **settings})
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
    """A run without a stop, which keeps the checkpoint of its first epoch, and its folder."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "best_epoch", lambda history: 1)
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
    monkeypatch.setattr(checkpoints, "best_epoch", lambda history: 1)
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


# Of the images 8 x 8: convolutions without padding make maps of 6 and 4.
STAGES = {"classes": 0, "last": 1, "norm": 2, "conv": 2}


def test_the_last_stages_are_trained_and_the_others_stay_bit_for_bit(tmp_path):
    model, before, _ = fitted(tmp_path, epochs=2, freeze=1, unfreeze=1, choose="last")
    after = weights_of(model)
    changed = {name for name, values in before.items() if not is_equal(values, after[name])}
    assert changed == {name for name, stage in STAGES.items() if stage <= 1}
    assert all(layer.trainable for layer in innermost_layers(model))
    with pytest.raises(InputError, match="`unfreeze` must be at most 2, the stages of small_tuned"):
        fitted(tmp_path, unfreeze=3)


@pytest.mark.slow
def test_a_run_of_the_last_stages_goes_on_as_if_never_stopped(tmp_path, monkeypatch):
    model, _, history = fitted(tmp_path / "one", freeze=1, epochs=3, unfreeze=1)
    begin = run._Epochs.on_epoch_begin

    def stop(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(run._Epochs, "on_epoch_begin", stop)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "two", freeze=1, epochs=3, unfreeze=1)
    again, _, same = fitted(tmp_path / "two", freeze=1, epochs=3, unfreeze=1)
    assert [row["loss"] for row in same] == [row["loss"] for row in history]
    assert is_equal(again.get_weights(), model.get_weights())


@pytest.mark.parametrize("more", [{}, {"clip_norm": 2.0}, {"accumulate": 2}])
def test_each_stage_has_its_own_part_of_the_learning_rate(more):
    """Measured by an update with gradients of ones, kernels decaying at the same part."""
    rates = {"lr": 8.0, "tuning_rate": 0.3, "layer_decay": 0.5, "weight_decay": 0.1}
    tuned = config(epochs=9, freeze=0, **rates, **more)
    model, _ = built(tuned, backbone())
    owners = {v.path: x.name for x in innermost_layers(model) for v in x.trainable_variables}
    variables, parts = model.trainable_variables, more.get("accumulate", 1)
    ones = [np.ones(v.shape, "float32") for v in variables]
    size = np.sqrt(sum(one.size for one in ones))
    gradient = min(1.0, more.get("clip_norm", size) / size)
    for _ in range(parts):  # the first update warms up, at a rate of zero
        model.optimizer.apply(ones, variables)
    before, rate = [v.numpy() for v in variables], float(model.optimizer.learning_rate)
    assert rate == pytest.approx(0.3 * 8.0 / (0.05 * 9 * 292), rel=0.01)
    for _ in range(parts):
        model.optimizer.apply(ones, variables)
    for variable, value in zip(variables, before, strict=True):
        own = rate * 0.5 ** STAGES[owners[variable.path]]
        kept = 1 - 0.1 * own * (variable.ndim > 1)
        # Nesterov: the momentum of 0.9 looks one step ahead.
        expected = value.astype("float64") * kept - 1.9 * own * gradient
        np.testing.assert_allclose(variable.numpy() - value, expected - value, rtol=1e-4)


def gated(x, width):
    """Squeeze-and-excitation in stock layers: small maps between large ones."""
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(width, 1, activation="sigmoid", name="gate")(gate)
    return layers.Multiply()([x, gate])


def test_stages_are_told_by_the_maps_and_not_by_names():
    inner = keras.Input((None, None, 4))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stage1")(inner)
    nested = keras.Model(inner, layers.Conv2D(8, 3, padding="same", name="block")(x), name="body")
    image = keras.Input((18, 18, 3))
    x = gated(layers.Conv2D(4, 3, name="end")(image), 4)  # 16
    x = layers.Conv2D(4, 3, name="close")(x)  # 14
    x = nested(x)  # 7
    x = layers.Reshape((7, 7, 4, 2))(x)  # as channels are shuffled
    x = layers.Reshape((7, 7, 8))(layers.Permute((1, 2, 4, 3))(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="begin")(x)  # 4
    x = layers.Reshape((8, 1))(layers.GlobalAveragePooling2D()(x))  # long, but no maps
    x = layers.Flatten()(layers.Conv1D(1, 3, padding="same", name="line")(x))
    model = keras.Model(image, layers.Dense(2, name="top")(x))
    found = named(stages_from_end(model))
    ends = {"top": 0, "line": 1, "begin": 2, "block": 3, "stage1": 3}
    assert found == {**ends, "close": 4, "gate": 4, "end": 4}
    # The paper's Table 1: maps of 112, 56, 28, 14 and 7.
    recipe = se_keras.create("seresnet18", input_shape=(64, 64, 3), classes=3)
    stages = {name.split("_")[0]: stage for name, stage in named(stages_from_end(recipe)).items()}
    names = ("stem", "stage2", "stage3", "stage4", "stage5", "predictions")
    assert stages == dict(zip(names, (5, 4, 3, 2, 1, 0), strict=True))


def named(found):
    return {layer.name: stage for layer, stage in found.items()}


def test_the_stages_are_announced():
    tuned = config(freeze=2, epochs=9, tuning_rate=0.2, layer_decay=0.5, unfreeze=1)
    text = start_of(tuned, backbone()).describe(tuned.completed())
    assert text.endswith(
        "Trained: the classifier alone for 2 epochs, then the last stage and the classifier for 7 "
        "epochs at 0.2 of the learning rate, times 0.5 for each stage before the classifier.\n"
    )


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
    assert (", then all layers for 1 epoch.\n" in text) == (epochs == "2")
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
