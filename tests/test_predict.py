"""`se-keras predict` on many images: the files that it finds and leaves out, its answers."""

import csv
import json
import os
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from se_keras.cli import main
from se_keras.commands.classifiers import BATCH, Classifier, classify, load_classifier
from se_keras.support.errors import InputError

COLORS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
# The images of the folder, in order, with their classes.
FOUND = {
    "photos/a/[1]*.png": "red",
    "photos/a/red.png": "red",
    "photos/a/deep/blau ä.webp": "blue",
    "photos/a/deep/gr,een.JPG": "green",
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model of raw pixels that predicts the brightest color of an image."""
    folder = tmp_path_factory.mktemp("model")
    keras.Model(*brightest()).save(folder / "model.keras")
    (folder / "report.json").write_text(json.dumps({"class_names": list(COLORS)}))
    return folder / "model.keras"


def brightest(batch=None):
    pixels = keras.Input((8, 8, 3), batch_size=batch)
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 25)(pixels))
    return pixels, layers.Softmax()(x)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A messy folder, in the one that the command is called from."""
    monkeypatch.chdir(tmp_path)
    for name, color in {**FOUND, "photos/no_suffix": "green"}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ending = path.suffix.lower()
        kind = {".jpg": "jpeg", "": "png"}.get(ending, ending[1:])
        Image.new("RGB", (20, 30), COLORS[color]).save(path, kind)
    (tmp_path / "photos" / "a" / ".hidden.png").write_bytes(b"hidden")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / "empty").mkdir()
    return tmp_path


def answered(printed):
    """Return the most probable class of each image in the output of the command."""
    blocks = printed.replace("\n  ", "\t").splitlines()
    return {block.split("\t")[0]: block.split("\t")[1].split()[0] for block in blocks}


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["photos"], FOUND),
        (["photos/"], FOUND),
        (["photos/a/deep"], [name for name in FOUND if "deep" in name]),
        (["photos/**/*.png"], [name for name in FOUND if ".png" in name]),
        (["photos/*"], FOUND),
        # A name with the characters of a pattern is a name where it is there.
        (["photos/a/[1]*.png"], ["photos/a/[1]*.png"]),
        (["photos/no_suffix", "photos/a", "photos/a/red.png"], ["photos/no_suffix", *FOUND]),
    ],
)
def test_files_folders_and_patterns_are_found(sources, expected, folder, model_file, capsys):
    assert main(["predict", str(model_file), *sources]) == 0
    found = answered(capsys.readouterr().out)
    assert {os.path.normpath(name) for name in found} == set(expected)
    assert list(found.values()) == [FOUND.get(os.path.normpath(name), "green") for name in found]


def test_the_answers_go_into_a_csv_file(folder, model_file, capsys):
    command = ["predict", str(model_file), "photos", "--csv", "new/answers.csv", "--top", "2"]
    assert main(command) == 0
    assert capsys.readouterr().out == "4 images in new/answers.csv\n"
    with open("new/answers.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "class", "probability", "class_2", "probability_2"]
    assert {row[0]: row[1] for row in rows} == FOUND
    for row in rows:
        first, second = float(row[2]), float(row[4])
        # exp(8) / (exp(8) + 2), of (200, 0, 0) / 25.
        assert (first, second) == pytest.approx((0.99933, 0.00034), abs=1e-3)
    assert os.listdir("new") == ["answers.csv"]


def test_what_can_not_be_read_has_a_line_and_stops_nothing(folder, model_file, capsys):
    (folder / "photos" / "a" / "torn.png").write_bytes(b"no image")
    command = ["predict", str(model_file), "photos", "missing.png", "no/*.png", "--csv", "a.csv"]
    assert main(command) == 2
    out, err = capsys.readouterr()
    left_out, *lines, last = err.splitlines()
    assert left_out.startswith("Left out: ")
    assert ["torn.png" in lines[0], "missing.png" in lines[1], "no/*.png" in lines[2]] == [True] * 3
    assert last == "se-keras predict: 3 of 7 images can't be read; the others are classified."
    assert out == "4 images in a.csv\n"
    with open("a.csv", newline="", encoding="utf-8") as file:
        assert {row["file"]: row["class"] for row in csv.DictReader(file)} == FOUND
    assert main(command[:3]) == 2
    assert answered(capsys.readouterr().out) == FOUND


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("photos/empty", "photos/empty has no images (.png"),
        ("photos/notes.txt", "can't read the image photos/notes.txt"),
        ("no/*.png", "There is no image file no/*.png"),
        ("missing.png no", "There is no image file missing.png, no."),
        ("photos/*.txt", "has no images (.png"),
        ("photos --csv photos/a/red.png", "must be a .csv file, got 'photos/a/red.png'"),
        ("photos/notes.txt --csv a.csv", "can't read the image photos/notes.txt"),
    ],
)
def test_no_image_is_one_line(sources, message, folder, model_file, capsys):
    try:
        code = main(["predict", str(model_file), *sources.split()])
    except SystemExit as error:
        code = error.code
    assert code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert not (folder / "a.csv").exists()


def test_a_stop_leaves_the_csv_file_as_it_was(folder, model_file, monkeypatch, capsys):
    (folder / "a.csv").write_text("mine")

    def stop(self, pixels):
        raise KeyboardInterrupt

    monkeypatch.setattr(Classifier, "answer", stop)
    assert main(["predict", str(model_file), "photos", "--csv", "a.csv"]) == 130
    assert (folder / "a.csv").read_text() == "mine"
    assert sorted(os.listdir(folder)) == ["a.csv", "photos"]


def test_many_images_show_a_bar_and_stay_in_memory_by_the_batch(folder, model_file, capsys):
    many = folder / "many"
    many.mkdir()
    for number in range(2 * BATCH + 3):
        Image.new("RGB", (8, 8), (200, 0, 0)).save(many / f"{number:03}.png")
    assert main(["predict", str(model_file), "many", "--csv", "a.csv"]) == 0
    out, err = capsys.readouterr()
    assert out == "67 images in a.csv\n"
    assert "67/67" in err
    held, most = set(), []

    def read(image):
        held.add(image)
        return np.zeros((8, 8, 3), "float32")

    def probabilities(pixels):
        most.append((len(held), len(pixels)))
        held.clear()
        return np.full((len(pixels), 2), 0.5)

    classifier = Classifier(probabilities=probabilities, read=read, class_names=())
    answers = list(classify(classifier, sorted(map(str, many.iterdir())), top=1))
    assert most == [(BATCH, BATCH), (BATCH, BATCH), (3, 3)]
    assert [answer for _, answer in answers] == [[("class 0", 0.5)]] * 67


def test_a_model_of_a_fixed_batch_takes_any_number(tmp_path, model_file):
    keras.Model(*brightest(batch=4)).save(tmp_path / "fixed.keras")
    pixels = [np.full((8, 8, 3), color, "float32") for color in COLORS.values()] * 2
    fixed, free = load_classifier(tmp_path / "fixed.keras"), load_classifier(model_file)
    given, call = [], fixed.probabilities
    fixed = replace(fixed, probabilities=lambda batch: given.append(len(batch)) or call(batch))
    np.testing.assert_allclose(fixed.answer(pixels), free.answer(pixels), atol=1e-6)
    assert given == [4, 4]


def test_images_of_several_sizes_are_answered_in_order():
    def probabilities(pixels):
        return np.stack([pixels.mean(axis=(1, 2, 3)), 1 - pixels.mean(axis=(1, 2, 3))], axis=1)

    classifier = Classifier(probabilities=probabilities, read=np.asarray, class_names=())
    shares = [0.1, 0.9, 0.5, 0.3]
    sizes = [4, 8, 4, 6]
    pixels = [np.full((size, size, 3), x) for size, x in zip(sizes, shares, strict=True)]
    np.testing.assert_allclose(classifier.answer(pixels)[:, 0], shares)


def test_one_sigmoid_is_the_probability_of_the_second_class():
    def classifier(*answers):
        return Classifier(
            probabilities=lambda pixels: np.array(answers),
            read=lambda image: np.zeros((4, 4, 3)),
            class_names=("cat", "dog"),
        )

    ((_, answer),) = classify(classifier([0.75]), ["a.png"], top=2)
    assert answer == [("dog", 0.75), ("cat", 0.25)]
    for wrong in ([1.5], [0.2, 0.2], [0.9, 0.9, 0.9], [np.nan, 0.5]):
        with pytest.raises(InputError, match="must return probabilities"):
            list(classify(classifier(wrong), ["a.png"], top=2))


def test_names_that_break_a_line_are_escaped(folder, model_file, tmp_path, capsys):
    path = tmp_path / "run" / "model.keras"
    path.parent.mkdir()
    path.write_bytes(model_file.read_bytes())
    names = ["one\ntwo", "\u202egreen", "b"]
    (path.parent / "report.json").write_text(json.dumps({"class_names": names}))
    Image.new("RGB", (8, 8)).save(tmp_path / "new\nline.png")
    assert main(["predict", str(path), "new\nline.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "new\\nline.png"
    assert [line.split()[0] for line in lines[1:]] == ["one\\ntwo", "\\u202egreen", "b"]
