"""Test damaged files of a run: they are read correctly, or an error of one line names the file."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile

import damage
import pytest
from checks import run_python

from se_keras import Pixels
from se_keras.class_names import labels_of_run
from se_keras.commands.explain import _data_config
from se_keras.metadata import Metadata, read_metadata, write_metadata
from se_keras.support.errors import InputError
from se_keras.support.files import claimed, digest_of, read_json, write_csv, write_json
from se_keras.train import TrainConfig, train
from se_keras.train.checkpoints import CHECKPOINT, NOTES, restore
from se_keras.train.comparison import read_run
from se_keras.train.run_files import (
    COLUMNS,
    TABLES,
    check_written,
    go_on,
    read_history,
    read_settings_file,
)
from se_keras.train.run_folder import is_finished, save_epoch
from se_keras.train.saved_model import EXPORT
from se_keras.train.seen import find_seen, run_of

SETTINGS = dataclasses.asdict(TrainConfig(epochs=3).completed()) | {"files": "a1b2"}
HISTORY = [dict.fromkeys(COLUMNS, 0.5) | {"epoch": epoch + 1} for epoch in range(3)]
FIGURES = {"accuracy": 0.5, "balanced_accuracy": 0.5, "macro_f1": 0.25}
REPORT = {
    "class_names": ["cat", "dog"],
    "intervals": "95 %",
    "settings": {"epochs": 3},
    "training_seconds": 2.5,
    "parameters": {"all": 10},
    "epochs": {"trained": 3, "chosen": 1},
    "test": FIGURES | {"images": 2} | {f"{name}_interval": [0.25, 0.75] for name in FIGURES},
}
ANSWERS = [["cat/1.png", "cat", "dog", "0.9", "test"], ["dog/1.png", "dog", "dog", "0.8", "test"]]


@pytest.fixture
def run(tmp_path):
    """The files of a finished run without its models and pictures."""
    write_json(tmp_path / "settings.json", SETTINGS)
    write_json(tmp_path / "report.json", REPORT)
    write_csv(tmp_path / "history.csv", COLUMNS, [list(row.values()) for row in HISTORY])
    header = ["file", "true", "predicted", "probability", "part"]
    write_csv(tmp_path / "predictions.csv", header, ANSWERS)
    for epoch in (1, 2, 3):
        content = b"weights %d" % epoch
        (tmp_path / CHECKPOINT.format(epoch)).write_bytes(content)
        notes = {"sha256": hashlib.sha256(content).hexdigest(), "history": HISTORY[:epoch]}
        write_json(tmp_path / NOTES.format(epoch), notes)
    return tmp_path


READERS = {
    "settings.json": lambda folder: (
        read_settings_file(folder),
        is_finished(folder, dict(SETTINGS)),
    ),
    "report.json": lambda folder: (read_run(folder), labels_of_run(folder)),
    "history.csv": lambda folder: (read_history(folder), read_run(folder)),
    "predictions.csv": read_run,
    NOTES.format(3): restore,
}


NAMED = re.compile(r"^can't read .*(json|csv): .*\.$|has \d+ rows, but|was begun |have changed ")


def outcome(read, folder):
    """Return the line of an error; None without an error."""
    try:
        read(folder)
    except InputError as error:
        return str(error)
    except Exception as error:
        return f"a traceback: {error!r}"
    return None


def changed(name, content):
    yield from damage.cuts(content)
    yield from damage.other_bytes(content)
    if name.endswith(".json"):
        yield from damage.swapped(json.loads(content))
    else:
        yield from damage.other_tables(content)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_one_line_or_read_right(name, run):
    whole = READERS[name](run)
    content = (run / name).read_bytes()
    refused = 0
    for how, new in changed(name, content):  # some 50 to 300 for each file
        (run / name).write_bytes(new)
        line = outcome(READERS[name], run)
        assert line is None or NAMED.search(line), f"{name}, {how}: {line}"
        refused += line is not None
    (run / name).write_bytes(content)
    assert str(READERS[name](run)) == str(whole)
    assert refused > 15 or name == NOTES.format(3)  # `restore` goes back instead


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_named_and_not_waited_for(name, kind, run):
    (run / name).unlink()
    kind(run / name)
    if name == NOTES.format(3):
        assert restore(run)[0] == HISTORY[:2]
    else:
        with pytest.raises(
            InputError, match=r"it is (a folder|not a regular file)|not the folder of"
        ):
            READERS[name](run)


@pytest.mark.parametrize("empty", ["{}", "", "[]", '{"class_names": ["cat", "dog"]}'])
def test_an_empty_report_is_no_finished_run(empty, run, capsys):
    for name in ("split.csv", "model.keras", "saved_model", "curves.png", "confusion.png"):
        write_csv(run / name, ("file", "class", "part"), [])
    for name in ("mistakes.png", "report.html"):
        (run / name).touch()
    assert is_finished(run, dict(SETTINGS))
    (run / "report.json").write_text(empty)
    assert not is_finished(run, dict(SETTINGS))
    assert "report.json: " in capsys.readouterr().out


def test_a_history_that_was_edited_is_not_the_runs(run, capsys):
    for name in ("split.csv", "model.keras", "saved_model", "curves.png", "confusion.png"):
        write_csv(run / name, ("file", "class", "part"), [])
    for name in ("mistakes.png", "report.html"):
        (run / name).touch()
    path = run / "history.csv"
    path.write_text(path.read_text().replace("0.5", "0.75", 1))
    assert not is_finished(run, dict(SETTINGS))
    assert (
        "history.csv was changed after it was written. It is recreated." in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("damaged", "best", "left"),
    [
        ([], 1, 3),
        ([3], 1, 2),
        ([3, 2], 1, 1),
        ([2], 1, 3),
        ([1], 1, 0),  # the best is needed at the end
        ([3], 3, 2),
        ([2], 3, 3),
        ([1, 2, 3], 1, 0),
    ],
)
@pytest.mark.parametrize("part", [CHECKPOINT, NOTES])
def test_the_last_epoch_that_is_whole_is_gone_on_from(part, damaged, best, left, run):
    for epoch in (1, 2, 3):
        path = run / NOTES.format(epoch)
        content = read_json(path)
        for row in content["history"]:
            row["val_accuracy"] = 0.9 if row["epoch"] == best else 0.5
        write_json(path, content)
    for epoch in damaged:
        path = run / part.format(epoch)
        path.write_bytes(path.read_bytes()[:-2])
    history, lines = restore(run)
    assert len(history) == left
    assert [name for name in damaged for line in lines if part.format(name) in line] == damaged


@pytest.mark.parametrize("name", ["history.csv", "predictions.csv", "split.csv"])
def test_a_table_that_was_edited_is_refused(name, run):
    write_csv(run / "split.csv", ("file", "class", "part"), [["cat/1.png", "cat", "test"]])
    digests = {table: digest_of(run / table) for table in TABLES}
    write_json(run / "report.json", REPORT | {"files": digests}, sealed=True)
    write_json(run / "settings.json", SETTINGS | {"data": "photos"})
    readers = {"split.csv": lambda folder: find_seen(folder, [], [])}
    read = readers.get(name, read_run)
    assert outcome(read, run) is None
    path = run / name
    path.write_text(path.read_text().replace("cat/1", "cat/2").replace("0.5", "0.25", 1))
    line = f"can't read {path}: it was changed after it was written. {go_on(run)} recreates it."
    assert outcome(read, run) == line
    with pytest.raises(InputError, match="changed after it was written"):
        check_written(run)


def test_a_setting_that_was_edited_is_refused(run):
    write_json(run / "settings.json", SETTINGS, sealed=True)
    path = run / "settings.json"
    path.write_text(path.read_text().replace('"epochs": 3', '"epochs": 4'))
    assert "it was changed after it was written" in outcome(read_settings_file, run)


def test_a_history_beside_a_checkpoint_that_was_edited_is_not_used(run):
    notes = {**read_json(run / NOTES.format(3)), "history": HISTORY}
    write_json(run / NOTES.format(3), notes, sealed=True)
    assert restore(run) == (HISTORY, [])
    path = run / NOTES.format(3)
    path.write_text(path.read_text().replace('"val_accuracy": 0.5', '"val_accuracy": 0.9', 1))
    history, damage = restore(run)
    assert history == HISTORY[:2]
    assert "checkpoint-0003.json: it was changed after it was written" in damage[0]


def test_a_run_whose_folder_has_gone_does_not_make_it_again(tmp_path):
    with pytest.raises(InputError, match="gone was removed meanwhile: the run can't go on"):
        save_epoch(tmp_path / "gone", None, HISTORY)
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_that_another_command_is_writing_is_not_trained_into(tmp_path):
    code = """
import sys
sys.argv[0] = "se-keras"  # which does not load Keras
from pathlib import Path
from se_keras.support.errors import InputError
from se_keras.train.run_folder import locked
try:
    with locked(Path(sys.argv[1])):
        print("locked")
except InputError as error:
    print(error)
"""
    target = tmp_path / "run"
    with claimed(target):
        assert "another process is writing" in run_python(code, target)
        assert not target.exists()
    assert run_python(code, target) == "locked\n"
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_is_not_written_on_after_the_process_that_asked_for_it():
    command = [sys.executable, "-c", EXPORT, "a.keras", "a"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


def test_temporary_files_of_a_training_lie_in_its_folder(tmp_path):
    used = []

    def build(input_tensor, **_):
        used.append(tempfile.gettempdir())
        raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        train(TrainConfig(), tmp_path / "run", network=build)
    assert used == [str(tmp_path / "run" / ".partial-temporary")]
    assert tempfile.gettempdir() != used[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["settings.json", "split.csv"])
@pytest.mark.parametrize("kind", ["loop", "folder"])
def test_a_run_with_a_loop_or_a_folder_for_a_file_is_no_other_model(kind, name, run):
    write_json(run / "settings.json", SETTINGS | {"data": "photos"})
    (run / "split.csv").write_text("file,class,part\n")
    (run / name).unlink()
    (run / name).mkdir() if kind == "folder" else (run / name).symlink_to(name)
    assert run_of(run / "model.keras") == run
    assert f"can't read {run / name}: " in outcome(lambda folder: find_seen(folder, [], []), run)


def test_the_graph_of_a_saved_model_that_was_changed_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    write_metadata(tmp_path, Metadata(class_names=("cat", "dog"), pixels=Pixels(size=8, raw=True)))
    assert read_metadata(tmp_path).class_names == ("cat", "dog")
    (tmp_path / "saved_model.pb").write_bytes(b"graqh")
    with pytest.raises(InputError, match=r"saved_model\.pb: it was changed after it was written\."):
        read_metadata(tmp_path)


@pytest.mark.parametrize(("split", "own"), [(None, False), ("elsewhere.csv", True)])
def test_explain_sees_the_parts_of_the_run(split, own, run):
    write_json(run / "settings.json", SETTINGS | {"split": split, "data": "digits"})
    found = _data_config(run / "model.keras", None)
    assert found.split == (str(run / "split.csv") if own else None)
    assert _data_config(run / "model.keras", "digits").split is None
