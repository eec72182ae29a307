"""The command line in processes of its own: what it prints, how it fails, and that it survives."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import se_keras
from se_keras.cli import main

# Warnings are errors here too, but for the one of Keras that `conftest.py` tells of.
KERAS_WARNING = "ignore:__array__ implementation doesn't accept:DeprecationWarning"
COMMAND = (sys.executable, "-W", "error", "-W", KERAS_WARNING, "-m", "se_keras")
# Small enough to train in a few seconds, long enough to be stopped in between.
RUN = ("train", "--epochs", "4", "--batch-size", "200", "--seed", "1")
DEADLINE = 600  # seconds, for a machine with much else to do


def started(*arguments, folder):
    # A shell lets its background jobs ignore Ctrl-C, and they hand that on; a handler they don't.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*arguments, folder):
    process = started(*arguments, folder=folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def history(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def wait_for_epoch(process, path):
    until = time.monotonic() + DEADLINE
    while not history(path):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "no epoch was finished"
        time.sleep(0.02)


def digit_images(folder):
    digits = load_digits()
    paths = [folder / f"digit{n}.png" for n in range(3)]
    for path, image in zip(paths, digits.images, strict=False):
        Image.fromarray((image * 255 / 16).round().astype("uint8")).save(path)
    return paths


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(signal.SIGKILL, id="kill -9"),
        pytest.param(signal.SIGINT, id="Ctrl-C", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on(stop, tmp_path, capsys):
    out = tmp_path / "runs" / "digits-seresnet20"
    process = started(*RUN, folder=tmp_path)
    wait_for_epoch(process, out / "history.csv")
    process.send_signal(stop)
    _, err = process.communicate()
    assert process.returncode == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[stop]
    assert "Traceback" not in err
    finished = history(out / "history.csv")
    assert 1 <= len(finished) < 4
    assert not (out / "report.json").exists()

    assert "agrees with the model on 359 of 359" in ended(*RUN, "--resume", folder=tmp_path)
    rows = history(out / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    # A kill between a row and its checkpoint repeats that epoch, and its time differs.
    assert rows[: len(finished) - 1] == finished[:-1]
    assert sorted(path.name for path in out.iterdir()) == [
        "confusion.png",
        "curves.png",
        "history.csv",
        "model.keras",
        "report.json",
        "saved_model",
        "settings.json",
    ]
    probabilities = keras.models.load_model(out / "model.keras")(np.zeros((1, 8, 8, 1)))
    np.testing.assert_allclose(np.sum(probabilities), 1, atol=1e-5)
    check_predict(out, digit_images(tmp_path), capsys)


def check_predict(out, images, capsys):
    printed = set()
    for path in (out, out / "model.keras", out / "saved_model"):
        assert main(["predict", str(path), *map(str, images), "--top", "4"]) == 0
        printed.add(capsys.readouterr().out)
    assert len(printed) == 1
    lines = printed.pop().splitlines()
    assert [lines[0], lines[5], lines[10]] == list(map(str, images))
    for line in lines[1:5]:
        name, share, *_ = line.split()
        assert name in "0123456789"
        assert line.count("█") == round(float(share) / 100 * 30)


@pytest.mark.slow
def test_the_default_reaches_97_percent(tmp_path):
    ended("train", folder=tmp_path)
    report = json.loads((tmp_path / "runs" / "digits-seresnet20" / "report.json").read_text())
    assert report["test"]["accuracy"] >= 0.97


def test_list_is_a_table_of_the_catalog(capsys):
    assert main(["list", "*resnet20"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "pixels", "parameters", "multiply-adds", "builder"]
    name, pixels, parameters, multiply_adds, builder = row.split()
    assert (name, pixels, builder) == ("seresnet20", "32", "SEResNet20")
    model = se_keras.SEResNet20(classes=10)
    weights = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert int(parameters.replace(",", "")) == weights
    # 20 layers as in He et al. 2015, sec. 4.2: 40.5 million without SE.
    assert 40e6 < int(multiply_adds.replace(",", "")) < 41.5e6
    assert main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(se_keras.list_models())


def test_count_is_a_table_of_a_saved_model(tmp_path, capsys):
    path = tmp_path / "model.keras"
    se_keras.create("seresnet20", input_shape=(None, None, 3)).save(path)
    assert main(["count", str(path), "--input-shape", "32,32,3"]) == 0
    total = capsys.readouterr().out.splitlines()[-1].split()
    (row,) = se_keras.list_models("seresnet20")
    assert total[0] == "total"
    assert total[2:4] == [f"{row.parameters:,}", f"{row.multiply_adds:,}"]
    assert main(["count", str(path)]) == 2
    assert "se-keras count: `input_shape` must be given" in capsys.readouterr().err


def test_version_and_help(capsys):
    for arguments, expected in (
        (["--version"], f"se-keras {se_keras.__version__}"),
        (["--help"], "train a model on images"),
        (["train", "--help"], "--label-smoothing"),
        (["predict", "--help"], "SavedModel"),
        (["list", "--help"], "multiply-adds"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert expected in capsys.readouterr().out


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what bad input needs."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n in range(3):
            Image.new("RGB", (40, 40), (n, 90, 200)).save(tmp_path / "photos" / name / f"{n}.png")
    (tmp_path / "photos" / "b" / "1.png").write_bytes(b"not an image")
    (tmp_path / "single" / "a").mkdir(parents=True)
    (tmp_path / "empty" / "a").mkdir(parents=True)
    (tmp_path / "empty" / "b").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    (tmp_path / "bad.keras").write_bytes(b"not a model")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    (tmp_path / "good.png").write_bytes((tmp_path / "photos" / "a" / "0.png").read_bytes())
    x = keras.Input((8, 8, 3))
    y = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(x, y).save(tmp_path / "good.keras")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "COMMAND"),
        ("fly", "fly"),
        ("train --epochs 0", "epochs"),
        ("train --epochs few", "few"),
        ("train --color red", "--color"),
        ("train --lr -1", "lr"),
        ("train --label-smoothing 1", "label_smoothing"),
        ("train --precision float8", "mixed_bfloat16"),
        ("train --model seresnet21", "seresnet20"),
        ("train --model seinception_v3", "75"),
        ("train --data imagenet", "imagenet"),
        ("train --data photos", "1.png"),
        ("train --data single", "single"),
        ("train --data empty", "empty"),
        ("train --out mine", "mine"),
        ("train --out mine --overwrite", "mine"),
        ("train --out bad.png", "bad.png"),
        ("train --out bad.png/deeper", "bad.png"),
        ("train --resume --overwrite", "--overwrite"),
        ("predict nowhere good.png", "nowhere"),
        ("predict mine good.png", "mine"),
        ("predict bad.keras good.png", "bad.keras"),
        ("predict good.keras bad.png", "bad.png"),
        ("predict good.keras missing.png", "missing.png"),
        ("predict good.keras good.png --top 0", "top"),
        ("predict good.keras", "IMAGE"),
        ("list nothing", "nothing"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, named, workplace, capsys):
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    try:
        code = main(arguments.split())
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("se-keras")
    assert named in line
    assert not {"Iterator", "[Op"} & set(re.findall(r"\[?\w+", line))  # of TensorFlow
    assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*")} == before


def test_nothing_of_the_extra_is_imported_with_the_package():
    code = (
        "import sys, keras; before = set(sys.modules); import se_keras; "
        "print({name.split('.')[0] for name in set(sys.modules) - before})"
    )
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert not {"matplotlib", "sklearn", "PIL"} & eval(out)


def test_what_loading_says_is_held_back_from_the_command_alone():
    code = """
import os, sys

sys.argv = ["se-keras"]
from se_keras.support.startup import quiet_command

with quiet_command():
    os.write(2, b"held back")
os.write(2, b"shown, ")
try:
    with quiet_command():
        os.write(2, b"shown where it fails, ")
        raise OSError
except OSError:
    pass
sys.argv = ["script.py"]
with quiet_command():
    os.write(2, b"a script's")
"""
    environment = {name: v for name, v in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == "shown, shown where it fails, a script's"
