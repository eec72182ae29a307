"""The command line in processes of its own: what it prints, and how it fails."""

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from checks import REPO, refused
from PIL import Image
from sklearn.datasets import load_digits

import se_keras
from se_keras.cli import build_parser, main
from se_keras.commands.options import given_fields
from se_keras.train import Cluster, TrainConfig, run_folder
from se_keras.train import run as train_run
from se_keras.train.run_folder import RUN_FILES
from se_keras.weights.presets import PRESETS

# Warnings are errors here too, but for the one of Keras that `conftest.py` tells of.
KERAS_WARNING = "ignore:__array__ implementation doesn't accept:DeprecationWarning"
COMMAND = (sys.executable, "-W", "error", "-W", KERAS_WARNING, "-m", "se_keras")
# Small enough to train in a few seconds, long enough to be stopped in between.
RUN = ("train", "--epochs", "4", "--batch-size", "200", "--seed", "1")
DEADLINE = 600  # seconds, for a machine with much else to do


def started(*arguments, folder):
    # Background jobs of a shell ignore Ctrl-C, and so do their children, unless they set a handler.
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


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
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

    if stop == signal.SIGINT:
        assert f"To continue: se-keras train --out {out.relative_to(tmp_path)} --resume" in err
    # The settings are those of the run.
    out_again = ended("train", "--out", out, "--resume", folder=tmp_path)
    assert "agrees with the model on 359 of 359" in out_again
    rows = history(out / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    # A kill between a row and its checkpoint repeats that epoch, and its time differs.
    assert rows[: len(finished) - 1] == finished[:-1]
    names = {path.name for path in out.iterdir() if not path.name.startswith("checkpoint-")}
    assert names == set(RUN_FILES)
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
    assert "se-keras count: --input-shape must be given" in capsys.readouterr().err


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
    for name in ("a", "b"):
        (tmp_path / "named" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), (9, 90, 200)).save(tmp_path / "named" / name / "0.png")
    (tmp_path / "single" / "a").mkdir(parents=True)
    (tmp_path / "empty" / "a").mkdir(parents=True)
    (tmp_path / "empty" / "b").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    (tmp_path / "begun").mkdir()
    begun = asdict(TrainConfig(lr=0.1, model="seresnet32", batch_size=64).completed())
    (tmp_path / "begun" / "settings.json").write_text(json.dumps(begun | {"files": "other"}))
    (tmp_path / "bad.keras").write_bytes(b"not a model")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    (tmp_path / "good.png").write_bytes((tmp_path / "photos" / "a" / "0.png").read_bytes())
    x = keras.Input((8, 8, 3))
    y = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(x))
    y = keras.layers.Softmax()(y)
    keras.Model(x, y).save(tmp_path / "good.keras")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "COMMAND"),
        ("fly", "fly"),
        ("train --epochs 0", "epochs"),
        ("train --epochs few", "few"),
        ("train --epochs 1.5", "argument --epochs: must be a whole number, got '1.5'"),
        ("train --lr much", "argument --lr: must be a number, got 'much'"),
        (
            "train --no-se --ratio 4",
            "--ratio, --placement and --attention need SE blocks, but --no-se",
        ),
        ("train --data digts", "Did you mean 'digits'?"),
        ("train --data photo", "Did you mean 'photos'?"),
        ("train --color red", "--color"),
        ("train --lr -1", "lr"),
        ("train --label-smoothing 1", "--label-smoothing must be"),
        ("trian", "Did you mean 'train'?"),
        ("train --epcohs 3", "Did you mean '--epochs'"),
        ("train --model seresnet2O", "--model must be a model of the catalog"),
        (
            "train --coordinator here:1",
            "--coordinator, --process and --processes must be given together",
        ),
        ("train --precision float8", "mixed_bfloat16"),
        ("train --model seresnet21", "seresnet20"),
        ("train --model seinception_v3", "--image-size: height and width must be at least 75"),
        ("train --data imagenet", "--data must be one of digits, fashion_mnist"),
        ("train --data photos", "1.png"),
        ("train --data single", "single"),
        ("train --data empty", "empty"),
        ("train --out mine", "mine"),
        ("train --out mine --overwrite", "mine"),
        ("train --out bad.png", "bad.png"),
        ("train --out bad.png/deeper", "bad.png"),
        ("train --out \udce9", r"--out must be valid UTF-8, as TensorFlow needs, got '\udce9'"),
        ("export good.keras -o \udce9", r"--out must be valid UTF-8, which the engines need"),
        ("train --resume --overwrite", "--overwrite"),
        ("train --placement sideways", "--placement must be one of ('standard', 'pre'"),
        ("train --model sevgg16_bn --image-size 32 --placement pre", "placement"),
        ("train --split nowhere.csv", "nowhere.csv"),
        ("train --out begun --resume --lr 0.3", "with --lr 0.1, it can't go on with 0.3"),
        ("compare begun", "RUN"),
        ("compare begun mine", "begun is not the folder of a finished run"),
        ("compare begun mine -o picture.jpg", "--out must be a .png file, got picture.jpg"),
        ("evaluate good.keras", "--data"),
        ("evaluate good.keras --data nowhere", "nowhere"),
        ("evaluate nowhere.keras --data named", "nowhere.keras"),
        ("evaluate good.keras --data named --pixels raw", "of 2 classes"),
        ("evaluate good.keras --data photos --pixels raw", "1.png"),
        (
            "evaluate good.keras --data named --out mine",
            "mine exists already: choose",
        ),
        ("predict nowhere good.png", "nowhere"),
        ("predict mine good.png", "got mine"),
        ("predict good.png good.png", "got good.png"),
        ("count good.keras --input-shape 8,x", "'8,x'"),
        ("count bad.keras", "bad.keras"),
        ("insert good.keras -o good.h5", "must be a .keras file, got 'good.h5'"),
        ("predict bad.keras good.png", "bad.keras"),
        ("predict good.keras bad.png", "bad.png"),
        ("predict good.keras missing.png", "missing.png"),
        ("predict good.keras good.png --top 0", "--top must be"),
        ("predict good.keras", "IMAGE"),
        (
            "predict good.keras good.png --pixels imgenet",
            "--pixels: there is no file 'imgenet'. Did you",
        ),
        ("count god.keras", "Did you mean 'good.keras'"),
        ("list nothing", "nothing"),
        ("list seresnt50", "Did you mean 'seresnet50'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, named, workplace, capsys):
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    line = refused(main, arguments.split(), capsys)
    assert line.startswith("se-keras")
    assert named in line
    assert not {"Iterator", "[Op"} & set(re.findall(r"\[?\w+", line))  # of TensorFlow
    assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*")} == before


def test_a_current_folder_that_was_removed_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    arguments = ["insert", str(tmp_path / "a.keras"), "-o", "b.keras"]
    assert refused(main, arguments, capsys) == (
        "se-keras insert: The current folder was removed: change to another one."
    )


def test_a_file_that_a_library_does_not_find_is_not_the_current_folder(monkeypatch, capsys):
    def fail(parsed):
        raise FileNotFoundError("no file a.bin")  # without the attributes of one by the system

    monkeypatch.setattr("se_keras.commands.list_models.run", fail)
    assert refused(main, ["list"], capsys) == "se-keras list: no file a.bin"


def test_the_traceback_is_shown_where_it_is_asked_for(capsys):
    assert main(["--traceback", "train", "--epochs", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert error.endswith("InputError: `epochs` must be a positive integer, got 0.\n")


# --- settings ------------------------------------------------------------------------------------


GIVEN = {
    "data": "cifar100",
    "model": "seresnet32",
    "weights": "my.safetensors",
    "pixels": "tf",
    "freeze": "2",
    "tuning_rate": "0.1",
    "layer_decay": "0.7",
    "unfreeze": "3",
    "mixup": "0.2",
    "cutmix": "0.5",
    "rand_augment": "0.6",
    "attention": "scse",
    "ratio": "8",
    "placement": "pre",
    "image_size": "40",
    "split": "split.csv",
    "epochs": "3",
    "patience": "4",
    "choose": "last",
    "class_weights": "balanced",
    "batch_size": "6",
    "lr": "0.2",
    "weight_decay": "0.3",
    "label_smoothing": "0.4",
    "seed": "5",
    "precision": "mixed_float16",
    "accumulate": "2",
    "clip_norm": "1.5",
    "ema": "0.9",
}


def without_training(monkeypatch):
    """Let `se-keras train` call a function that records its arguments."""
    calls = []
    monkeypatch.setattr(train_run, "train", lambda *args, **options: calls.append((args, options)))
    return calls


def test_the_command_has_every_setting(tmp_path, monkeypatch, capsys):
    calls = without_training(monkeypatch)
    monkeypatch.chdir(tmp_path)
    options = [(f"--{name.replace('_', '-')}", text) for name, text in GIVEN.items()]
    arguments = [word for pair in options for word in pair]
    places = ["--devices", "2", "--coordinator", "a:1", "--process", "1", "--processes", "3"]
    flags = ["--sync-batch-norm"]
    assert main(["train", *arguments, *flags, *places, "--resume"]) == 0
    assert main(["train"]) == 0
    assert main(["train", "--no-se"]) == 0
    ((config, _), full), ((default, folder), _), ((plain, _), _) = calls
    assert {field.name for field in fields(TrainConfig)} == {*GIVEN, "sync_batch_norm", "no_se"}
    assert {name: str(getattr(config, name)) for name in GIVEN} == GIVEN
    assert (config.sync_batch_norm, config.no_se, plain.no_se) == (True, False, True)
    assert full["cluster"] == Cluster(devices=2, coordinator="a:1", process=1, processes=3)
    assert (full["resume"], full["overwrite"], full["tensorboard"]) == (True, False, False)
    assert default == TrainConfig().completed()
    assert folder == Path("runs/digits-seresnet20")


def test_a_run_goes_on_with_its_own_settings(workplace, monkeypatch):
    calls = without_training(monkeypatch)
    assert main(["train", "--out", "begun", "--resume"]) == 0
    assert main(["train", "--out", "begun", "--resume", "--epochs", "90", "--choose", "last"]) == 0
    ((again, folder), _), ((longer, _), _) = calls
    assert (again.model, again.lr, again.epochs, again.choose) == ("seresnet32", 0.1, 20, "best")
    assert (longer.model, longer.epochs, longer.choose) == ("seresnet32", 90, "last")
    assert folder == Path("begun")


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_a_stopped_run_says_how_it_goes_on(epochs, workplace, monkeypatch, capsys):
    def stop(config, folder, **options):
        for epoch in range(epochs):
            (folder / f"checkpoint-{epoch + 1:04d}.weights.h5").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(train_run, "train", stop)
    shutil.copytree("begun", "a b")
    assert main(["train", "--out", "a b", "--resume"]) == 130
    kept = {0: "No epoch is finished", 1: "1 epoch is saved", 3: "3 epochs are saved"}[epochs]
    line = f"{kept}. To continue: se-keras train --out 'a b' --resume"
    assert line in capsys.readouterr().err.splitlines()


def test_a_signal_that_tensorflow_turns_into_its_own_error(workplace, monkeypatch, capsys):
    def stop(*arguments, **options):
        tf.py_function(lambda: signal.raise_signal(signal.SIGTERM), [], [])

    monkeypatch.setattr(train_run, "train", stop)
    assert main(["train", "--out", "begun", "--resume", "--epochs", "90"]) == 143
    assert list(filter(None, capsys.readouterr().err.splitlines())) == [
        "No epoch is finished. To continue: se-keras train --out begun --resume --epochs 90",
        "se-keras: stopped",
    ]


ENDING = """
import atexit, os, sys
sys.argv[0] = "se-keras"  # which does not load Keras
from se_keras import cli
class Crash:
    def __del__(self):  # as compiled code does while Python ends
        os._exit(139)
crash = Crash()
atexit.register(print, "cleaned", flush=True)
cli.main = lambda: 143
cli.command()
"""


def test_compiled_code_can_not_crash_a_stopped_command_at_its_end():
    ended = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "cleaned\n", "")


@pytest.mark.parametrize("begins", [False, True])
def test_a_stopped_run_that_replaces_another(begins, workplace, monkeypatch, capsys):
    """Its folder has the settings of the other run until it begins."""

    def stop(config, folder, **options):
        if begins:
            run_folder.begin(folder, asdict(config), keep=False)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_run, "train", stop)
    shutil.copytree("begun", "new")
    assert main(["train", "--out", "new", "--overwrite"]) == 130
    line = "No epoch is finished. To continue:" if begins else "The run has not started yet."
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("settings", [TrainConfig, Cluster])
def test_the_help_is_that_of_the_fields(settings, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    help_text = "".join(capsys.readouterr().out.split())
    for field in fields(settings):
        text = field.metadata["help"]
        assert "".join(text.split()) in help_text
        assert "".join(text.split()) in "".join(settings.__doc__.split())
        assert field.default in (None, False) or f"default: {field.default}" in text
        assert "(default: " in text or field.name in ("process", "processes")


def test_the_help_tells_the_defaults_of_each_data_set(monkeypatch):
    assert "128 for fashion_mnist, cifar10, cifar100; 32 for a folder" in TrainConfig.__doc__


# --- help ----------------------------------------------------------------------------------------


def test_the_examples_in_the_help_are_taken():
    parser, commands = build_parser()
    for name, command in {"": parser, **commands}.items():
        examples = re.findall("^  (se-keras .*)$", command.format_help(), re.MULTILINE)
        assert examples, name
        for example in examples:
            assert len(example) < 79, example
            words = shlex.split(example)
            assert name in ("", words[1])
            parsed = parser.parse_args(words[1:])
            if parsed.command == "train":
                TrainConfig(**given_fields(parsed, TrainConfig))
            weights = [word for word in words if word.endswith("_in1k")]
            assert set(weights) <= {preset.name for preset in PRESETS}, example


def blocks_of(command):
    """The text of each option in the help, by its first word."""
    blocks = re.findall(r"^  (\S+)(.*(?:\n {3,}.*)*)", command.format_help(), re.MULTILINE)
    return {name.rstrip(","): " ".join(text.split()) for name, text in blocks}


def test_the_help_says_each_default_in_one_form():
    _, commands = build_parser()
    for name, command in commands.items():
        assert not re.search(r"default(?!: )", " ".join(command.format_help().split())), name
        blocks = blocks_of(command)
        for action in command._actions:
            if action.default not in (None, argparse.SUPPRESS, False, True):
                block = blocks[(action.option_strings or [action.metavar])[0]]
                assert block.endswith(")"), (name, action.dest)
                assert block.count("(default: ") == 1, (name, action.dest)
    assert "(default: comparison.png)" in blocks_of(commands["compare"])["-o"]
    assert "(default: 16; 2 for scse)" in blocks_of(commands["insert"])["--ratio"]


def test_the_help_groups_the_options():
    _, commands = build_parser()
    for name, command in commands.items():
        (loose,) = re.findall(r"^options:\n((?:  .*\n)+)", command.format_help(), re.MULTILINE)
        assert len(re.findall("^  -", loose, re.MULTILINE)) < 6, name
    titles = re.findall(r"^(\w.*):$", commands["train"].format_help(), re.MULTILINE)
    assert titles[:2] == ["options", "data"]
    assert titles[-4:] == ["augmentation", "devices", "output", "examples"]


def test_the_help_is_not_wrapped_within_names(monkeypatch):
    for columns in ("60", "80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        for command in build_parser()[1].values():
            assert not re.search(r"\w-$", command.format_help(), re.MULTILINE)


def test_the_errors_of_the_parser_are_sentences(capsys):
    for arguments, expected in (
        ("fly", "got 'fly'. See se-keras --help."),
        ("train --epochs x", "got 'x'. See se-keras train --help."),
        ("predict", "required: IMAGE. See se-keras predict --help."),
        ("list --wieghts", "Did you mean '--weights'? See se-keras list --help."),
    ):
        with pytest.raises(SystemExit):
            main(arguments.split())
        assert capsys.readouterr().err.endswith(f"{expected}\n")


# --- the start -----------------------------------------------------------------------------------

# What pip makes of the entry point.
SCRIPT = "import sys; from se_keras.cli import main; sys.exit(main())"
NAMES = (
    "list",
    "train",
    "evaluate",
    "predict",
    "compare",
    "explain",
    "export",
    "insert",
    "count",
    "convert",
)
LIGHT = (
    "--help",
    "--version",
    "list",
    "list nothing",
    *(f"{name} --help" for name in NAMES),
    "fly",
    "train --color red",
    "train --epochs 0",
    "train --model seresnet21",
    "train --data nowhere",
    "train --out taken",
    "predict nowhere.keras nowhere.png",
    "predict --weights imagenet --model seresnet21 taken/words.txt",
    "count nowhere.keras",
    "convert imagenet out.keras --model seresnet21",
    "insert nowhere.keras -o out.keras",
    "explain nowhere.keras --out out",
    "export nowhere.keras",
)


@pytest.fixture
def command(tmp_path):
    """The two ways to start the command."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "se-keras"
    script.write_text(SCRIPT)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "words.txt").write_text("words")
    return {"script": [script], "module": ["-m", "se_keras"]}


@pytest.mark.skipif(os.name != "posix", reason="shells of Windows don't close streams")
def test_a_closed_stream_is_no_error(tmp_path):
    for command, code in {"list >&-": 0, "list >&- 2>&- <&-": 0, "count none.keras >&-": 2}.items():
        words = f"{shlex.quote(sys.executable)} -m se_keras {command}"
        done = subprocess.run(words, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.count("\n") == (1 if code else 0), done.stderr


def test_a_lack_of_memory_is_one_line(monkeypatch, capsys):
    def lacking(parsed):
        np.zeros((2**20,) * 2, "float64")

    monkeypatch.setattr("se_keras.commands.list_models.run", lacking)
    assert main(["list"]) == 2
    line = r"se-keras list: There is not enough memory: Unable to allocate 8.00 TiB .*\.\n"
    assert re.fullmatch(line, capsys.readouterr().err)


def test_another_backend_is_named(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "caffe"}
    (tmp_path / "a.keras").touch()
    command = [*COMMAND, "count", str(tmp_path / "a.keras")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    end = "Unable to import backend : caffe. Set KERAS_BACKEND to tensorflow, jax or torch.\n"
    assert done.stderr == f"se-keras count: Keras can't start: {end}"


@pytest.mark.parametrize("start", ["script", pytest.param("module", marks=pytest.mark.slow)])
def test_what_needs_no_model_does_not_load_keras(start, command, tmp_path):
    for arguments in LIGHT:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *command[start], *arguments.split()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        imported = re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE)
        assert "se_keras.cli" in imported
        assert not {"keras", "tensorflow"} & set(imported), arguments
        error = re.sub("^import time:.*\n", "", done.stderr, flags=re.MULTILINE)
        fine = re.search("help|version|^list$", arguments)
        assert done.returncode == (0 if fine else 2)
        assert error.count("\n") == (0 if fine else 1), error


def test_the_command_opens_a_model_and_says_nothing_else(command, tmp_path):
    """The process has not imported the public API, but a model of this package needs it."""
    se_keras.create("seshufflenet", input_shape=(32, 32, 3), classes=2).save(tmp_path / "a.keras")
    environment = {name: v for name, v in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, *command["script"], "count", tmp_path / "a.keras"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("total")


def test_every_other_process_has_the_whole_package(tmp_path):
    """Also `python -m` of a package that imports it, and whose argument is `se_keras`."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "__main__.py").touch()
    (tmp_path / "other" / "__init__.py").write_text("""
import os
os.dup2 = None  # a descriptor is redirected for the command alone
import se_keras, sys
for name in ("keras", "se_keras.layers", "se_keras.catalog", "se_keras.deploy.export"):
    assert name in sys.modules, name
assert "se_keras.train" not in sys.modules
assert se_keras.train.TrainConfig(epochs=3).epochs == 3
assert se_keras.train.train.__module__ == "se_keras.train.run"
from se_keras import *
assert SEResNet20 and ops.squeeze
assert set(se_keras.__all__) <= set(dir(se_keras))
import keras
assert keras.models.load_model(sys.argv[2]).loss == "mse"
""")
    # A channel shuffle and SE, compiled as the model of a run is.
    model = se_keras.create("seshufflenet", input_shape=(32, 32, 3), classes=2)
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.keras")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    }
    command = [sys.executable, "-m", "other", "se_keras", tmp_path / "model.keras"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=REPO
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("level", "loads", "shown"),
    [(None, True, ""), ("0", True, "notes"), (None, False, "notes")],
    ids=["held back", "asked for", "loading fails"],
)
def test_what_tensorflow_says_while_it_is_loaded(level, loads, shown, tmp_path):
    (tmp_path / "keras.py").write_text(f"import os; os.write(2, b'notes'); assert {loads}")
    code = """
import os, sys

sys.argv = ["se-keras"]
from se_keras.support.startup import load_keras

try:
    load_keras()
except AssertionError:
    pass
os.write(2, b", and after it")
"""
    environment = {name: v for name, v in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": level} if level else {}
    path = os.pathsep.join([str(tmp_path), str(REPO), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == f"{shown}, and after it"


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    with started("list", folder=tmp_path) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
