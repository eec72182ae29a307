"""Find the images that a run was trained on, when its model is tested or exported."""

import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import asdict

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import se_keras
from se_keras.cli import main
from se_keras.support.files import read_json, write_json
from se_keras.train import TrainConfig
from se_keras.train.data import open_data
from se_keras.train.seen import Seen, find_seen, run_of
from se_keras.train.splits import write_parts

# Images of each class in each part.
COUNTS = {"train": 4, "validation": 2, "test": 3}
PARTS = [part for part, count in COUNTS.items() for _ in range(count)]


def brightest(classes, size, channels=3):
    """A model of raw pixels whose classes are its first channels."""
    pixels = keras.Input((size, size, channels))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 25)(pixels))
    kernel = np.eye(channels, classes)
    dense = layers.Dense(classes, activation="softmax")
    model = keras.Model(pixels, dense(x))
    dense.set_weights([kernel, np.zeros(classes)])
    return model


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of `se-keras train` on a folder of two classes; one image of each has a wrong class."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = []
    for number, name in enumerate(("crimson", "green")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n, part in enumerate(PARTS):
            image = rng.integers(0, 100, (20, 20, 3)).astype("uint8")
            # The last, a test image, looks like the other class.
            image[..., number if n < len(PARTS) - 1 else 1 - number] += 100
            Image.fromarray(image).save(tmp_path / "photos" / name / f"{n}.png")
            rows.append((f"{name}/{n}.png", name, part))
    return left_by_run(tmp_path / "run", brightest(2, 8), "photos", rows, ["crimson", "green"], 8)


def left_by_run(folder, model, data, rows, names, size):
    folder.mkdir()
    model.save(folder / "model.keras")
    where = data if data == "digits" else str(folder.parent / data)
    config = asdict(TrainConfig(data=where, image_size=size).completed())
    write_json(folder / "settings.json", config | {"files": "0"})
    write_json(folder / "report.json", {"class_names": names})
    write_parts(folder / "split.csv", rows)
    return folder


def names_of(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def seen_in(run, folder):
    paths = sorted(folder.rglob("*.png"))
    return find_seen(run, list(map(str, paths)), names_of(paths, folder))


def test_the_same_bytes_are_found_under_any_name(run, tmp_path):
    photos, new = tmp_path / "photos", tmp_path / "new" / "crimson"
    assert seen_in(run, photos) == Seen(images=18, train=8, validation=4, test=6)
    new.mkdir(parents=True)
    for name, original in (
        ("a", "crimson/0"),
        ("b", "green/4"),
        ("c", "green/8"),
        ("d", "crimson/1"),
    ):
        shutil.copy(photos / f"{original}.png", new / f"{name}.png")
    # Another image with the name of one that was trained on, and one of its length.
    Image.new("RGB", (20, 20)).save(new / "0.png")
    (new / "e.png").write_bytes((photos / "crimson" / "0.png").read_bytes()[::-1])
    assert seen_in(run, tmp_path / "new") == Seen(images=6, train=2, validation=1, test=1)


def test_a_picture_in_two_parts_was_trained_on(run, tmp_path):
    shutil.copy(
        tmp_path / "photos" / "crimson" / "0.png", tmp_path / "photos" / "crimson" / "8.png"
    )
    assert seen_in(run, tmp_path / "photos") == Seen(images=18, train=9, validation=4, test=5)


def test_names_decide_where_the_images_are_gone(run, tmp_path):
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    (tmp_path / "moved" / "crimson" / "0.png").rename(tmp_path / "moved" / "crimson" / "other.png")
    seen = seen_in(run, tmp_path / "moved")
    assert seen == Seen(images=18, train=7, validation=4, test=6, by="name")
    assert str(seen).startswith(
        "The model was trained on 7 and chosen by 4 of these 18 images (judging by their names):"
    )


def test_nothing_is_said_of_new_images():
    assert str(Seen(images=3, test=3)) == ""


def test_the_run_of_a_model_is_the_folder_that_it_is_in(run, tmp_path):
    assert run_of(run) == run_of(run / "model.keras") == run_of(run / "saved_model") == run
    assert run_of(tmp_path / "photos" / "crimson") is None


def test_evaluate_warns_of_images_that_were_trained_on(run, tmp_path, capsys):
    assert main(["evaluate", "run", "--data", "photos", "--out", "out"]) == 0
    assert "The model was trained on 8 and chosen by 4 of these 18 images:" in (
        capsys.readouterr().out
    )
    found = read_json(tmp_path / "out" / "evaluation.json")["images_of_the_run"]
    assert found == {"images": 18, "train": 8, "validation": 4, "test": 6, "by": "content"}
    for path in (tmp_path / "photos").rglob("*.png"):
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    shutil.copytree("photos", "new")
    shutil.rmtree("photos")
    (tmp_path / "photos").mkdir()
    assert main(["evaluate", "run/model.keras", "--data", "new"]) == 0
    assert "trained on" not in capsys.readouterr().out


def test_an_export_is_compared_on_the_test_images_of_its_run(run, tmp_path, capsys):
    assert main(["export", "run", "-o", "served"]) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "served.report.json").read_text("utf-8"))
    # Two of the six test images look like the other class.
    assert report["accuracy"] == report["keras_accuracy"] == pytest.approx(4 / 6)
    assert (report["samples"], report["trained_on"]) == (6, 0)
    assert report["metadata"]["class_names"] == ["crimson", "green"]
    for line in (
        r"class names +crimson, green",
        r"compared on +6 test images of the run",
        r"trained on +0 of the 6",
        r"accuracy +66.7% \(Keras model: 66.7%\)",
    ):
        assert matches(line, printed), line
    assert main(["export", "run", "-o", "served", "--calibration", "photos"]) == 0
    report = json.loads((tmp_path / "served.report.json").read_text("utf-8"))
    assert (report["samples"], report["trained_on"]) == (18, 8)
    assert report["accuracy"] == pytest.approx(16 / 18)
    shutil.rmtree(tmp_path / "photos")
    capsys.readouterr()
    assert main(["export", "run", "-o", "served"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"The run's images in {tmp_path / 'photos'} are missing")
    assert matches(r"trained on +unknown", printed)
    assert matches(r"accuracy +unknown, because the classes are unknown", printed)


def matches(pattern, text):
    return re.search(f"^{pattern}$", text, re.MULTILINE) is not None


def test_every_fifth_of_the_calibration_images_is_looked_up(run, tmp_path):
    for name in ("crimson", "green"):
        for n in range(9, 31):
            Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / "photos" / name / f"{n}.png")
    assert main(["export", "run", "-o", "served", "--calibration", "photos"]) == 0
    report = json.loads((tmp_path / "served.report.json").read_text("utf-8"))
    with open(run / "split.csv", newline="", encoding="utf-8") as file:
        parts = {row["file"]: row["part"] for row in csv.DictReader(file)}
    files = names_of(sorted((tmp_path / "photos").rglob("*.png"), key=str), tmp_path / "photos")
    compared = files[4::5]
    assert report["samples"] == len(compared) == 12
    assert report["trained_on"] == Counter(map(parts.get, compared))["train"] > 0


def test_a_run_without_files_is_compared_on_its_test_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = open_data(TrainConfig(data="digits").completed())
    rows = [
        (name, data.class_names[label], part)
        for part, split in data.parts.items()
        for name, label in zip(split.names, split.labels, strict=True)
    ]
    model = brightest(10, 8, channels=1)
    run = left_by_run(tmp_path / "run", model, "digits", rows, list("0123456789"), 8)
    assert find_seen(run, [], []) is None
    assert main(["export", "run", "-o", "served"]) == 0
    report = json.loads((tmp_path / "served.report.json").read_text("utf-8"))
    assert (report["samples"], report["trained_on"]) == (300, 0)
    # It takes all digits for a zero.
    chosen = np.floor(np.arange(300) * len(data.test) / 300).astype(int)
    assert report["accuracy"] == pytest.approx(np.mean(data.test.labels[chosen] == 0))
    assert se_keras.decode_predictions(np.eye(10)[[3]], tmp_path / "served", 1)[0][0][1] == "3"
