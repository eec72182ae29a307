"""Bad input ends a command with one line; a bug, a bare ValueError from within, does not."""

import json
import shutil

import keras
import numpy as np
import pytest
from checks import exit_code
from PIL import Image

import se_keras
from se_keras.cli import main
from se_keras.commands.predict import predict

L = keras.layers


@keras.saving.register_keras_serializable("tests")
class Called(keras.Model):
    """Not functional: its layers are called in Python code."""

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
    """A classifier of raw pixels, whose convolution needs 5 x 5 of them."""
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
    """Models, and files that are none; not to be changed."""
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
    ("count open.keras --input-shape 0,8,3", "must be the one of 'open'"),
    ("count open.keras --input-shape 8,8", "must be the one of 'open'"),
    ("count open.keras --input-shape wide", "input-shape"),
    ("count two_inputs.keras --input-shape 8,8,3", "must be the one of"),
    ("count subclassed.keras", "must be a functional model"),
    ("count cut.keras", "is not a whole .keras file"),
    ("count text.keras", "is not a whole .keras file"),
    ("count missing.keras", "missing.keras"),
    ("insert open.keras -o OUT.keras --where [", "is no regular expression"),
    ("insert open.keras -o OUT.keras --where rel", "Did you mean 'relu'?"),
    ("insert open.keras -o OUT.keras --where flatten", "has no site for"),
    ("insert open.keras -o OUT.keras --ratio 0", "must be a positive integer, got 0"),
    ("insert open.keras -o OUT.keras --stages 9", "must be some of"),
    ("insert open.keras -o OUT.keras --placement pre", "is for residual units"),
    ("insert se.keras -o OUT.keras", "already"),
    ("insert subclassed.keras -o OUT.keras", "must be a functional model"),
    ("insert flat.keras -o OUT.keras", "has no site for"),
    ("export subclassed.keras -o OUT", "must be a functional model"),
    ("export text.keras -o OUT", "is not a whole .keras file"),
    ("export open.keras -f onx", "onnx"),
    ("export open.keras -f onnx -p int4", "int4"),
    ("explain square.keras --data digits --out OUT", "takes"),
    ("explain flat.keras --data digits --out OUT", "must take images"),
    ("explain run --out OUT", "settings.json"),
    ("predict flat.keras image.png", "must take images"),
    ("predict two_inputs.keras image.png", "must take images"),
    ("predict subclassed.keras image.png", "must take images"),
    ("explain subclassed.keras --data digits --out OUT", "must take images"),
    ("predict wide.keras image.png", "must take images"),
    ("predict five.keras image.png", "must take images"),
    ("predict map.keras image.png", "not the probabilities of classes"),
    ("predict two_outputs.keras image.png", "must have one output, it has 2"),
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
