"""The `config.json` of a `.keras` file with other values in it: a model, or one line."""

import json
import zipfile

import keras
import numpy as np
import pytest
from forks import SEED
from hostile_hub import drawn, mutated
from PIL import Image

import se_keras
from se_keras.cli import main
from se_keras.weights.readers.keras3 import load_archive


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A small classifier with each kind of gate, and an image."""
    folder = tmp_path_factory.mktemp("configs")
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(pixels))
    for kind in ("SqueezeExcite", "GatherExcite", "EfficientChannelAttention"):
        x = getattr(se_keras, kind)()(x)
    x = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(pixels, x).save(folder / "model.keras")
    Image.new("RGB", (9, 9)).save(folder / "a.png")
    return folder / "model.keras"


def with_config(file, change, target):
    """A copy of the archive with another `config.json`."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name == "config.json" else content)


def attack(file, change, folder, capsys):
    with_config(file, change, folder / "model.keras")
    for command in (["count"], ["predict"]):
        images = [str(file.with_name("a.png"))] if command == ["predict"] else []
        capsys.readouterr()
        code = main([*command, str(folder / "model.keras"), *images])
        error = capsys.readouterr().err
        assert code in (0, 2), error
        assert not code or len(error.splitlines()) == 1, error
        assert not code or len(error) < 2000
    assert [path.name for path in folder.iterdir()] == ["model.keras"]


@pytest.mark.reliability
@pytest.mark.parametrize("turn", range(100))
@pytest.mark.filterwarnings("ignore")  # of Keras and NumPy, about what the file says
def test_a_config_of_others_is_a_model_or_a_line(turn, file, tmp_path, capsys):
    generator = drawn(SEED, turn)
    attack(file, lambda content: mutated(json.loads(content), generator), tmp_path, capsys)


LARGE = {
    "filters": 2**40,
    "kernel_size": [10**5, 10**5],
    "batch_shape": [None, 10**9, 10**9, 3],
    "reduced_channels": 10**9,
    "divisor": 10**9,
    "units": float("inf"),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_size_that_no_machine_has_is_one_line(name, file, tmp_path):
    def change(content):
        config = json.loads(content)
        layers = [layer["config"] for layer in config["config"]["layers"]]
        next(layer for layer in layers if name in layer)[name] = LARGE[name]
        return json.dumps(config).encode()

    with_config(file, change, tmp_path / "model.keras")
    with pytest.raises(se_keras.InputError, match=r"is not a whole \.keras file: ") as caught:
        load_archive(tmp_path / "model.keras")
    assert "\n" not in str(caught.value)


def test_the_unchanged_config_is_the_model(file, tmp_path):
    with_config(file, lambda content: content, tmp_path / "model.keras")
    image = np.ones((1, 8, 8, 3), "float32")
    np.testing.assert_array_equal(
        load_archive(tmp_path / "model.keras")(image), load_archive(file)(image)
    )
