"""Bad input ends a command with one line; an internal error keeps its traceback."""

import functools
import json
import shutil

import keras
import numpy as np
import pytest
from checks import exit_code
from PIL import Image

import se_keras
import se_keras.train
from se_keras.cli import main
from se_keras.commands.predict import predict
from se_keras.weights.preprocessing import SecondSize

L = keras.layers


@keras.saving.register_keras_serializable("tests")
class Called(keras.Model):
    """A model that is not functional: its layers are called in Python code."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = L.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def subclassed():
    model = Called()
    model(np.zeros((1, 4), "float32"))
    return model


def of_images(height, width, channels=3, name=None):
    """A classifier of raw pixels, whose convolution needs at least 5 x 5 pixels."""
    image = keras.Input((height, width, channels))
    x = L.Rescaling(1 / 255, name="scale")(image)
    x = L.ReLU(name="relu")(L.Conv2D(4, 5, name="conv")(x))
    x = L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name=name)


def two_outputs():
    x = keras.Input((8, 8, 3))
    pooled = L.GlobalAveragePooling2D()(x)
    return keras.Model(x, [L.Dense(2)(pooled), L.Dense(3)(pooled)])


def two_inputs():
    x, y = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([x, y], L.Dense(2)(L.Flatten()(L.Add()([x, y]))))


MODELS = {
    "open": lambda: of_images(None, None, name="open"),
    "wide": lambda: of_images(8, 16),
    "five": lambda: of_images(8, 8, 5),
    "square": lambda: of_images(8, 8),
    "flat": lambda: keras.Sequential([keras.Input((4,)), L.Dense(2, activation="softmax")]),
    "map": lambda: keras.Sequential([keras.Input((8, 8, 3)), L.Rescaling(1 / 255), L.Conv2D(2, 3)]),
    "unknown": lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), L.Flatten(), L.Dense(2, activation="softmax")]
    ),
    "two_outputs": two_outputs,
    "two_inputs": two_inputs,
    "subclassed": subclassed,
    "se": lambda: se_keras.insert_se(of_images(8, 8), where="conv"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Provide models and other files; tests must not change them."""
    folder = tmp_path_factory.mktemp("files")
    for name, make in MODELS.items():
        make().save(folder / f"{name}.keras")
    whole = (folder / "open.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    for name in ("text.keras", "text.safetensors", "text.pth", "text.h5", "text.png"):
        (folder / name).write_text("a text")
    keras.Sequential([keras.Input((2,)), L.Dense(2)]).save_weights(folder / "other.weights.h5")
    Image.fromarray(np.full((8, 8, 3), 100, "uint8")).save(folder / "image.png")
    (folder / "run").mkdir()
    shutil.copy(folder / "square.keras", folder / "run" / "model.keras")
    for name in ("settings", "report"):
        (folder / "run" / f"{name}.json").write_text("{")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "settings.json").write_text("{}")
    (folder / "other").mkdir()
    shutil.copy(folder / "square.keras", folder / "other" / "model.keras")
    (folder / "other" / "report.json").write_text(json.dumps({"title": "another report"}))
    (folder / "more").mkdir()
    shutil.copy(folder / "square.keras", folder / "more" / "model.keras")
    (folder / "more" / "report.json").write_text(json.dumps({"class_names": ["a", "b"]}))
    return folder


REFUSED = [
    ("count open.keras", "input-shape must be given"),
    ("count open.keras --input-shape 4,8,3", "'conv' can't take an input of shape (None, 4, 8, 3)"),
    ("count open.keras --input-shape 0,8,3", "must fit 'open'"),
    ("count open.keras --input-shape 8,8", "must fit 'open'"),
    ("count open.keras --input-shape wide", "input-shape"),
    ("count two_inputs.keras --input-shape 8,8,3", "must fit"),
    ("count subclassed.keras", "must be a functional model"),
    ("count cut.keras", "is not a whole .keras file"),
    ("count text.keras", "is not a whole .keras file"),
    ("count missing.keras", "missing.keras"),
    ("insert open.keras -o OUT.keras --where [", "must be a regular expression"),
    ("insert open.keras -o OUT.keras --where rel", "Did you mean 'relu'?"),
    ("insert open.keras -o OUT.keras --where flatten", "has no site for"),
    ("insert open.keras -o OUT.keras --ratio 0", "must be a positive integer, got 0"),
    ("insert open.keras -o OUT.keras --stages 9", "must be some of"),
    ("insert open.keras -o OUT.keras --placement pre", "needs residual units"),
    ("insert se.keras -o OUT.keras", "already"),
    ("insert subclassed.keras -o OUT.keras", "must be a functional model"),
    ("insert flat.keras -o OUT.keras", "has no site for"),
    ("export subclassed.keras -o OUT", "must be a functional model"),
    ("export text.keras -o OUT", "is not a whole .keras file"),
    ("export open.keras -f onx", "onnx"),
    ("export open.keras -f onnx -p int4", "int4"),
    ("explain se.keras --data digits --out OUT", "must take images of"),
    ("explain flat.keras --data digits --out OUT", "must take images"),
    ("explain run --out OUT", "settings.json"),
    ("predict flat.keras image.png", "must take images"),
    ("predict two_inputs.keras image.png", "must take images"),
    ("predict subclassed.keras image.png", "must take images"),
    ("explain subclassed.keras --data digits --out OUT", "must take images"),
    ("predict wide.keras image.png", "must take images"),
    ("predict five.keras image.png", "must take images"),
    ("predict map.keras image.png", "must return probabilities"),
    ("predict two_outputs.keras image.png", "must have one output, got 2"),
    ("predict unknown.keras image.png", "--pixels"),
    ("predict unknown.keras image.png --pixels rwa", "rwa"),
    ("predict square.keras text.png", "text.png"),
    ("predict square.keras missing.png", "missing.png"),
    ("predict square.keras image.png --top 0", "top"),
    ("predict run image.png", "report.json"),
    ("predict unfinished image.png", "is not finished"),
    ("predict text.h5 image.png", "text.h5"),
    ("predict --weights text.pth --model seresnet20 image.png", "text.pth"),
    ("predict --weights text.pth --model seresnet21 image.png", "Did you mean"),
    ("convert text.safetensors OUT.keras --model seresnet20", "text.safetensors"),
    ("convert text.pth OUT.keras --model seresnet20", "text.pth"),
    ("convert text.h5 OUT.keras --model seresnet20", "text.h5"),
    ("convert cut.keras OUT.keras --model seresnet20", "cut.keras"),
    ("convert open.keras OUT.keras --model seresnet20 --classes 0", "must be a positive integer"),
    ("convert open.keras OUT.safetensors --to timm", "timm has no network like"),
    ("convert cut.keras OUT.safetensors --to timm", "is not a whole .keras file"),
    ("train --data digit --out OUT", "Did you mean 'digits'?"),
    ("train --data digits --model seresnet21 --out OUT", "Did you mean"),
    ("train --data digits --model seinception_v3 --out OUT", "at least 75 pixels"),
    ("train --epochs 0 --out OUT", "must be a positive integer, got 0"),
    ("train --lr nan --out OUT", "must be a positive number, got nan"),
    ("train --batch-size 100000 --out OUT", "must be at most"),
    ("train --devices 0 --out OUT", "must be a positive integer, got 0"),
    ("train --coordinator host --process 0 --processes 2 --out OUT", "must be HOST:PORT"),
]


def run(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    return exit_code(main, command.split())


@pytest.mark.parametrize(("command", "message"), REFUSED, ids=[command for command, _ in REFUSED])
def test_bad_input_is_one_line(command, message, files, tmp_path, monkeypatch, capsys):
    if command.startswith("convert text.pth"):
        pytest.importorskip("torch")
    before = sorted(files.rglob("*"))
    code = run(command.replace("OUT", str(tmp_path / "out")), files, monkeypatch)
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1), error
    assert error.startswith(f"se-keras {command.split()[0]}: ")
    assert message in error
    assert list(tmp_path.iterdir()) == []
    assert sorted(files.rglob("*")) == before


@pytest.mark.parametrize("source", ["other.weights.h5", "open.keras"])
def test_weights_of_another_network_are_a_table(source, files, tmp_path, monkeypatch, capsys):
    command = f"convert {source} {tmp_path / 'out.keras'} --model seresnet20"
    assert run(command, files, monkeypatch) == 2
    assert (
        f"{source} (Keras 3) does not fit seresnet20; nothing was loaded."
        in (capsys.readouterr().err.splitlines()[0])
    )
    assert list(tmp_path.iterdir()) == []


def test_the_user_says_what_pixels_an_unknown_model_takes(files, monkeypatch):
    monkeypatch.chdir(files)
    model = keras.saving.load_model("unknown.keras")
    white = np.full((1, 8, 8, 3), 100, "float32")
    for pixels, x in (
        ("raw", white),
        ("seresnet50.a1_in1k", se_keras.preprocess_input(white, "seresnet50.a1_in1k")),
    ):
        ((answer,),) = (predict("unknown.keras", ["image.png"], pixels=pixels, top=1),)
        expected = model.predict(x, verbose=0)[0]
        assert answer[0] == (f"class {expected.argmax()}", pytest.approx(expected.max()))


@pytest.mark.parametrize("folder", ["other", "more"])
def test_a_report_of_something_else_names_no_classes(folder, files, monkeypatch, capsys):
    assert run(f"predict {folder} image.png", files, monkeypatch) == 0
    assert "class 0" in capsys.readouterr().out


def broken(*args, **options):
    """A bug: NumPy's own ValueError."""
    return np.ones(3) + np.ones(2)


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("count se.keras", "se_keras.graph.Graph.shapes"),
        ("insert open.keras -o OUT.keras", "se_keras.graph.Graph.build"),
        ("export se.keras -f onnx -o OUT.onnx", "se_keras.graph.Graph.build"),
        ("explain se.keras --data digits --out OUT", "se_keras.train.data.open_data"),
        ("predict square.keras image.png", "keras.ops.convert_to_numpy"),
        ("convert open.keras OUT.keras --model seresnet20", "se_keras.catalog.parse_source"),
        ("train --out OUT", "se_keras.train.data.open_data"),
        ("train --out OUT", "se_keras.catalog.build_network"),
    ],
)
def test_a_bug_is_no_error_of_the_user(command, place, files, tmp_path, monkeypatch):
    monkeypatch.setattr(place, broken)
    with pytest.raises(ValueError, match="could not be broadcast together") as caught:
        run(command.replace("OUT", str(tmp_path / "out")), files, monkeypatch)
    assert type(caught.value) is ValueError
    assert not (tmp_path / "out").exists()


# --- arguments -----------------------------------------------------------------------------------

NO_FLAGS = (
    None,
    "False",
    "",
    1j,
    float("nan"),
    1.0,
    2,
    -1,
    np.int64(2),
    b"True",
    (1, 2),
    [],
    {},
    object(),
)
NO_NUMBERS = (None, "False", "", 1j, float("nan"), True, np.array([1, 2]), b"1", (1, 2), [], {})
NO_FUNCTIONS = (None, "max", 1.5, True, np.array([1, 2]), b"max", [], {}, object())
NO_PATHS = ("", 1j, 0, True, np.array([1, 2]), b"x", (1, 2), [], {}, object())
NO_TEXTS = (None, "", 1j, 0, 1.5, True, np.array([1, 2]), b"x", (1, 2), [], {}, object())
NO_ROWS = ("", "2", 1j, 2, True, np.int64(3), b"x", {}, (1.5,), (True,), ["2"], object())
NO_TENSORS = (None, "max", 1j, 1.5, True, np.int64(3), np.array([1, 2]), b"x", [], {}, object())
NO_OBJECTS = (None, "max", 1j, 0, True, np.array([1, 2]), b"x", (1, 2), [], {}, object())
MAP, VECTOR = np.ones((1, 2, 2, 4), "float32"), np.ones((1, 4), "float32")


def same(x):
    return x


@functools.cache
def convolution():
    return of_images(8, 8)


@functools.cache
def statistics():
    images = np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    return se_keras.record_excitations(with_se(), images, verbose=False)


@functools.cache
def with_se():
    return se_keras.insert_se(convolution(), where="conv")


def network(**options):
    return se_keras.create("seresnet20", **{"input_shape": (8, 8, 3), **options})


def layer(**options):
    return se_keras.SqueezeExcite(**options)(MAP)


def ignoring(function, **right):
    return lambda **options: function(**{**right, **options})


# A function with right arguments; by the names of others what they can't be.
DOORS = {
    "layer": (
        layer,
        {
            **dict.fromkeys(("use_bias", "trainable", "autocast"), NO_FLAGS),
            **dict.fromkeys(("ratio", "gate_scale"), (*NO_NUMBERS, 0)),
            "name": (*NO_TEXTS[1:], "a/b"),
            **dict.fromkeys(("dtype", "activity_regularizer"), NO_TEXTS[1:]),
            "kernel_initializer": (np.array([1, 2]), np.float32(0.5), *NO_TEXTS[2:5]),
        },
    ),
    "extent": (se_keras.GatherExcite, {"extent": (*NO_NUMBERS, False)}),
    "create": (
        network,
        {
            **dict.fromkeys(("se", "include_top", "fresh_classifier", "adapt_input"), NO_FLAGS),
            "features_only": NO_FLAGS,
            "name": NO_TEXTS[1:],
            "se_stages": NO_ROWS,
            "include_preprocessing": (*NO_OBJECTS[:4], *NO_OBJECTS[5:]),
        },
    ),
    "builder": (lambda model: se_keras.create(model), {"model": NO_TEXTS}),
    "insert_se": (
        lambda **options: se_keras.insert_se(convolution(), **options),
        {
            **dict.fromkeys(("warm_start", "force", "skip_last_stage", "use_bias"), NO_FLAGS),
            "stages": NO_ROWS,
            "where": (1j, 0, True, np.array([1, 2]), b"x", (1, 2), [], {}, object()),
        },
    ),
    "apply": (
        lambda **options: se_keras.find_sites(convolution()).apply(convolution(), **options),
        {"warm_start": NO_FLAGS, "force": NO_FLAGS},
    ),
    "optimize": (
        lambda **options: se_keras.optimize(convolution(), **options),
        {"verbose": NO_FLAGS},
    ),
    "export": (
        lambda **options: se_keras.export(**{"model": convolution(), "path": "x", **options}),
        {"path": (None, *NO_PATHS), "format": NO_TEXTS, "precision": NO_TEXTS},
    ),
    "record": (
        lambda **options: se_keras.record_excitations(with_se(), MAP, **options),
        {"verbose": NO_FLAGS, "class_names": ("", "ab", 1j, 0, True, b"x", (1, 2), [], {})},
    ),
    "plot": (
        lambda **options: se_keras.plot_excitations(**{"stats": statistics(), **options}),
        {"stats": NO_OBJECTS, "classes": NO_ROWS, "path": NO_PATHS},
    ),
    "prune": (
        lambda **options: se_keras.prune_se(with_se(), **{"stats": statistics(), **options}),
        {"stats": NO_OBJECTS, "keep": (*NO_NUMBERS[:-2], {}, b"se")},
    ),
    "load_weights": (
        lambda **options: se_keras.load_weights(**{"model": with_se(), "source": "x", **options}),
        {"model": NO_OBJECTS, "fresh_classifier": NO_FLAGS, "adapt_input": NO_FLAGS},
    ),
    "save_timm": (
        lambda **options: se_keras.save_timm(**{"model": with_se(), "path": "x", **options}),
        {"model": NO_OBJECTS, "path": (None, "x", *NO_PATHS)},
    ),
    "list_models": (se_keras.list_models, {"pattern": NO_TEXTS}),
    "pixels": (
        ignoring(se_keras.Pixels, raw=True),
        {
            "labels": (*NO_TEXTS[1:], "x", "imagnet", "hf://me", "a b"),
            "origin": NO_TEXTS,
            "size": (*NO_NUMBERS[1:6], b"1", [], {}, (0, 8), (8, 8, 8)),
            "second": NO_OBJECTS[1:],
        },
    ),
    "second size": (
        ignoring(SecondSize, size=288, crop=0.9),
        {"size": NO_NUMBERS, "crop": (*NO_NUMBERS, 0, 1.1), "top1": (*NO_NUMBERS[1:], -1, 101)},
    ),
    "config": (
        se_keras.train.TrainConfig,
        {
            "placement": (*NO_TEXTS[1:], "before"),
            "pixels": (*NO_TEXTS[1:], "rwa", "seresnet5O", "hf://me"),
            **dict.fromkeys(("no_se", "sync_batch_norm"), NO_FLAGS),
        },
    ),
    "decode": (
        ignoring(se_keras.decode_predictions, predictions=np.eye(1000)[:1]),
        {"top": (*NO_NUMBERS, 0), "model_or_source": (True, np.array([1, 2]), 0, -1, b"x", [])},
    ),
    "squeeze": (ignoring(se_keras.ops.squeeze, u=MAP), {"u": NO_TENSORS, "mask": NO_TENSORS[1:]}),
    "excite": (
        ignoring(se_keras.ops.excite, z=VECTOR, reduce=same, expand=same),
        {
            "z": NO_TENSORS,
            "gate_scale": (*NO_NUMBERS, 0),
            **dict.fromkeys(("reduce", "expand", "activation", "gate_activation"), NO_FUNCTIONS),
        },
    ),
    "gather": (
        ignoring(se_keras.ops.gather, u=MAP, extent=2),
        {"u": NO_TENSORS, "extent": (*NO_NUMBERS, 1.5)},
    ),
    "fuse": (
        ignoring(se_keras.ops.fuse, u=MAP, s=MAP, q=MAP),
        dict.fromkeys(("u", "s", "q"), NO_TENSORS),
    ),
    "interpolate": (
        ignoring(se_keras.ops.interpolate, v=MAP, sizes=(4, 4)),
        {"v": NO_TENSORS, "sizes": (*NO_ROWS, None, (4,), (4, 0))},
    ),
    "recalibrate": (
        ignoring(se_keras.ops.recalibrate, u=MAP, gate=VECTOR),
        dict.fromkeys(("u", "gate"), NO_TENSORS),
    ),
    "train": (
        ignoring(se_keras.train.train, config=se_keras.train.TrainConfig()),
        {
            **dict.fromkeys(("resume", "overwrite", "tensorboard"), NO_FLAGS),
            **dict.fromkeys(("cluster", "model"), NO_OBJECTS[1:]),
            "config": NO_OBJECTS,
            "network": NO_FUNCTIONS[1:],
            "out": NO_PATHS,
        },
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_an_error_names_the_argument_and_nothing_senseless_is_taken(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, arguments = DOORS[door]
    for argument, values in arguments.items():
        for value in values:
            with pytest.raises(se_keras.InputError) as caught:
                function(**{argument: value})
            assert f"`{argument}" in str(caught.value), (door, argument, value)
    assert list(tmp_path.iterdir()) == []


def test_flags_may_be_0_and_1_as_keras_users_write_them():
    for flag in (0, 1, np.int64(0), np.True_):
        assert layer(use_bias=flag).shape == MAP.shape
        assert se_keras.SqueezeExcite(use_bias=flag).use_bias is bool(flag)
        assert se_keras.SqueezeExcite(trainable=flag).trainable is bool(flag)
    se_keras.optimize(convolution(), verbose=0)
    statistics_of_0 = se_keras.record_excitations(with_se(), np.ones((1, 8, 8, 3)), verbose=0)
    assert statistics_of_0.layers


@pytest.mark.parametrize(
    "kind",
    [
        "EffectiveSqueezeExcite",
        "EfficientChannelAttention",
        "GatherExcite",
        "SpatialChannelSqueezeExcite",
    ],
)
def test_the_kin_of_se_check_their_arguments_too(kind):
    _, wrong = DOORS["layer"]
    for argument, values in wrong.items():
        for value in () if argument == "ratio" else values:
            with pytest.raises(se_keras.InputError, match=f"`{argument}`"):
                getattr(se_keras, kind)(**{argument: value})


def test_the_words_of_training_are_those_of_the_networks():
    assert tuple(se_keras.blocks.PLACEMENTS) == se_keras.train.config.PLACEMENTS
    assert tuple(se_keras.pixels.WORDS) == se_keras.train.config.PIXEL_WORDS


def test_numbers_of_numpy_are_numbers():
    layer(ratio=np.int64(2), gate_scale=np.float32(0.5), use_bias=np.bool_(False))
    network(se_stages=np.array([2, 3]), ratio=np.int32(4), dropout=np.float32(0.5), se=np.True_)
    se_keras.insert_se(convolution(), "conv", np.int64(2), np.True_, stages=np.array([0]))
    assert se_keras.ops.gather(MAP, np.int64(2)).shape == (1, 1, 1, 4)
