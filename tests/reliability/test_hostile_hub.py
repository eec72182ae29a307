"""A hub that a seed makes hostile: the right model or one line, and nothing else touched."""

import json

import keras
import numpy as np
import pytest
from forks import SEED
from hostile_hub import REPOSITORY, drawn, hub
from huggingface_hub import constants
from PIL import Image
from work import photos

import se_keras
from se_keras.cli import main

SOURCE = f"hf://{REPOSITORY}/best.weights.h5"
CONFIG = {
    "architecture": "seresnet20",
    "num_classes": 2,
    "label_names": ["daisy", "rose"],
    "label_descriptions": {"rose": "a rose"},
    "pretrained_cfg": {
        "input_size": [3, 8, 8],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "test_input_size": [3, 16, 16],
        "test_crop_pct": 1.0,
    },
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A small network, and the files of its repository."""
    keras.utils.set_random_seed(0)
    model = se_keras.create("seresnet20", input_shape=(8, 8, 3), classes=2)
    path = tmp_path_factory.mktemp("published") / "best.weights.h5"
    model.save_weights(path)
    files = {"config.json": json.dumps(CONFIG).encode(), "best.weights.h5": path.read_bytes()}
    return model, files


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's folder, with what no hub may touch; an empty cache beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("three years of work")
    Image.new("RGB", (9, 9)).save(tmp_path / "home" / "a.png")
    photos(tmp_path / "home" / "photos", images=8)
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def server(published, home, tmp_path, monkeypatch):
    with hub(published[1], home / "thesis.txt") as server:
        template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in {
            "ENDPOINT": server.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_ETAG_TIMEOUT": 2,
            "HF_HUB_DOWNLOAD_TIMEOUT": 2,
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
        yield server


def values(model):
    return [weight.numpy() for weight in model.weights]


def created():
    return values(se_keras.create("seresnet20", weights=SOURCE, input_shape=(8, 8, 3)))


def loaded():
    model = se_keras.create("seresnet20", input_shape=(8, 8, 3), classes=2)
    before = values(model)
    try:
        se_keras.load_weights(model, SOURCE)
    except BaseException:
        assert same(values(model), before)  # all or nothing
        raise
    return values(model)


def pixels():
    return se_keras.pixels_of(f"hf://{REPOSITORY}")


def named():
    return se_keras.decode_predictions(np.eye(2)[:1], f"hf://{REPOSITORY}")


def command(*words):
    def run():
        return main([*words, "--weights", SOURCE]) if words[0] != "convert" else main(list(words))

    return run


def same(one, other):
    pairs = zip(one, other, strict=True)
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in pairs)


TRAIN = ("train", "--data", "photos", "--epochs", "1", "--patience", "0", "--image-size", "8")
CALLS = {"create": created, "load_weights": loaded, "pixels_of": pixels, "decode": named}
COMMANDS = {
    "predict": command("predict", "a.png"),
    "convert": command("convert", SOURCE, "new.keras", "--model", "seresnet20"),
    "train": command(*TRAIN, "--model", "seresnet20", "--out", "run"),
}


def everything(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outcome(name, capsys):
    """What a call gives, or the error of the user's, which is one line or a table of tensors."""
    capsys.readouterr()
    if name in CALLS:
        try:
            return CALLS[name]()
        except se_keras.InputError as error:
            message = str(error)
            code = 2
    else:
        code, message = COMMANDS[name](), capsys.readouterr().err
    assert code in (0, 2), message
    if code:
        lines = message.strip().splitlines()
        assert len(lines) == 1 or "nothing was loaded" in lines[0], message
        assert len(lines[0]) < 2000
        assert "\x1b" not in message
        return None
    return "done"


def attack(turn, name, server, published, home, capsys):
    """One hostile answer, then a good one."""
    before = everything(home)
    harm = server.turn_hostile(drawn(SEED, turn, name))
    result = outcome(name, capsys)
    of_file = {"sent", "published", "config", "config again"} & {*harm}
    if name in ("create", "load_weights") and result is not None and not of_file:
        assert same(result, values(published[0])), harm
    # In the order of files by which they are few: `convert` and `train` write what they are asked.
    made = {str(home / "new.keras")}
    after = {
        path: content
        for path, content in everything(home).items()
        if path not in made and not path.startswith(str(home / "run"))
    }
    assert after == before, harm
    assert {path.name for path in home.parent.iterdir()} <= {"home", "cache"}, harm
    server.turn_good()
    assert same(created(), values(published[0])), harm
    assert pixels().mean == (0.5, 0.5, 0.5), harm
    assert named()[0][0][:2] == ("daisy", "daisy"), harm


@pytest.mark.reliability
@pytest.mark.parametrize("turn", range(30))
@pytest.mark.parametrize("name", [*CALLS, "predict", "convert"])
def test_a_hostile_hub_harms_nothing(name, turn, server, published, home, capsys):
    attack(turn, name, server, published, home, capsys)


@pytest.mark.reliability
@pytest.mark.parametrize("turn", range(5))
def test_a_hostile_hub_ends_no_training_in_a_traceback(turn, server, published, home, capsys):
    attack(turn, "train", server, published, home, capsys)


@pytest.mark.parametrize("name", ["create", "pixels_of", "decode"])
def test_a_hostile_hub_once(name, server, published, home, capsys):
    """The slice of the default run."""
    attack(0, name, server, published, home, capsys)


def test_what_another_hub_gave_under_the_same_commit_is_not_taken(server, published):
    """Formerly, a file from a false hub was taken for the good file forever."""
    server.sent["best.weights.h5"] = b"no weights"
    server.harm["headers"] = {"X-Linked-Etag": '"abc"', "X-Linked-Size": "10"}
    with pytest.raises(se_keras.InputError):
        created()
    server.turn_good()
    assert same(created(), values(published[0]))
