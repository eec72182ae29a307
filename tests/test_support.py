"""The small helpers: errors, checks of arguments, files that are complete or absent, tables."""

import argparse
import csv
import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from checks import run_python
from hypothesis import given
from hypothesis import strategies as st

import se_keras
from se_keras import cli
from se_keras.metadata import read_metadata
from se_keras.support import arguments, errors, files
from se_keras.support.archives import check_archive, unpack_single_file
from se_keras.support.errors import InputError, MissingExtraError, extra, in_one_line, lines_of
from se_keras.support.files import PARTIAL, written_beside
from se_keras.support.tables import format_table

# --- errors --------------------------------------------------------------------------------------


def test_the_users_error_is_public_and_a_value_error():
    assert se_keras.InputError is errors.InputError
    with pytest.raises(ValueError, match="`ratio` must be a positive integer, got 0"):
        se_keras.SqueezeExcite(0)


def test_errors_go_through_a_process_pool():
    error = pickle.loads(pickle.dumps(InputError("`ratio` must be 3.")))
    assert (type(error), str(error)) == (InputError, "`ratio` must be 3.")


def test_a_missing_extra_says_what_to_install():
    with pytest.raises(MissingExtraError) as caught, extra("train"):
        import no_such_package  # noqa: F401
    assert str(caught.value) == (
        "the package 'no_such_package' is missing: pip install 'se_keras[train]'"
    )
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, ImportError)


def test_an_extra_lets_other_errors_through():
    with pytest.raises(KeyError), extra("train"):
        raise KeyError("bug")


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (ValueError("a  b\n\n c\td\n"), ["a b", "c d"]),
        (ValueError(""), ["ValueError"]),
        (ValueError(" \n "), ["ValueError"]),
        (TimeoutError(), ["TimeoutError"]),
        (KeyError("name"), ["'name'"]),
    ],
)
def test_lines_of_an_error(error, lines):
    assert lines_of(error) == lines
    assert in_one_line(error) == " ".join(lines)


class Angry:
    """Raises an error whatever is asked of it."""

    def _raise(self, *_):
        raise RuntimeError("two\nlines")

    __repr__ = __eq__ = __hash__ = __iter__ = __len__ = __bool__ = __fspath__ = _raise
    __getattr__ = _raise


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", r"'a\nb'"),
        ("\udce9", r"'\udce9'"),
        (np.eye(2), "array([[1., 0.], [0., 1.]])"),
        (10**5000, "a value of int that can't be shown"),
        ([[[[[[[[1]]]]]]]], "[[[[[[[...]]]]]]]"),
    ],
    ids=range(5),
)
def test_any_value_is_shown_in_a_line(value, text):
    assert errors.shown(value) == text


def test_what_is_shown_is_short():
    for value in ("x" * 10**6, ["x" * 50] * 50, np.arange(10**6), Angry()):
        assert 0 < len(errors.shown(value)) <= 200


# --- arguments -----------------------------------------------------------------------------------

INTEGERS = st.integers() | st.integers(-(2**31), 2**31 - 1).map(np.int32)
FLOATS = st.floats() | st.floats(width=32).map(np.float32) | st.floats(width=16).map(np.float16)
NUMBERS = INTEGERS | FLOATS | st.fractions()
BOOLEANS = st.booleans() | st.booleans().map(np.bool_)
FLAGS = BOOLEANS | st.integers(0, 1) | st.integers(0, 1).map(np.int64)
NO_NUMBERS = (
    BOOLEANS
    | st.none()
    | st.text()
    | st.complex_numbers()
    | st.lists(st.integers())
    | st.floats().map(lambda number: np.array([number]))
)
CHECKS = {
    arguments.finite_number: lambda number: math.isfinite(number),
    arguments.positive_number: lambda number: 0 < number < math.inf,
    arguments.rate: lambda number: 0 <= number < 1,
    arguments.share: lambda number: 0 <= number <= 1,
    arguments.positive_integer: lambda number: number >= 1,
}
INTEGRAL = {arguments.positive_integer}


def accepted(check, value):
    """Return the result of a check; `None` if it refuses, naming the argument and the value."""
    try:
        return check("size", value)
    except InputError as error:
        message = str(error)
    assert message.startswith("`size` must be ")
    assert message.endswith(f", got {errors.shown(value)}.")
    return None


@pytest.mark.parametrize("check", CHECKS)
@given(value=NUMBERS)
def test_a_number_in_range_is_returned_as_pythons(check, value):
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    kind = int if check in INTEGRAL else float
    # An integer is no float, and 3.0 no integer.
    whole = isinstance(value, int) and kind is int
    fits = 0 < value < 2**31 if whole else CHECKS[check](number)
    fits = fits and not (kind is int and isinstance(value, float | np.floating | Fraction))
    result = accepted(check, value)
    if fits:
        assert type(result) is kind
        assert result == kind(value)
    else:
        assert result is None


@pytest.mark.parametrize("check", CHECKS)
@given(value=NO_NUMBERS)
def test_what_is_no_number_is_refused(check, value):
    assert accepted(check, value) is None


@given(value=INTEGERS, end=st.integers(1, 100))
def test_an_integer_below_an_end(value, end):
    assert accepted(lambda name, v: arguments.integer_below(name, v, end), value) == (
        int(value) if 0 <= value < end else None
    )


@pytest.mark.parametrize("value", [0.49, float("nan"), math.inf, True, "1", None, 10**400])
def test_a_number_below_the_least_is_refused(value):
    assert arguments.number_from("alpha", 0.5, 0.5) == 0.5
    with pytest.raises(InputError, match=r"`alpha` must be a number of at least 0.5, got "):
        arguments.number_from("alpha", value, 0.5)


@given(value=FLAGS)
def test_a_boolean_is_one_and_may_be_0_or_1(value):
    result = arguments.boolean("flag", value)
    assert type(result) is bool
    assert result == value


@pytest.mark.parametrize("value", [2, -1, 1.0, "False", None, np.int64(2), np.array([True])])
def test_what_is_no_boolean_is_refused(value):
    with pytest.raises(InputError, match="`flag` must be True or False, got "):
        arguments.boolean("flag", value)


def test_a_text_is_a_string_and_a_path_may_be_one(tmp_path):
    assert arguments.text("data", "digits") == "digits"
    assert arguments.path("data", tmp_path) == arguments.path("data", str(tmp_path)) == tmp_path
    for value in ("", None, 3, b"digits"):
        with pytest.raises(InputError, match="`data` must be a non-empty string, got "):
            arguments.text("data", value)
        with pytest.raises(InputError, match="`data` must be a path or a non-empty string, got "):
            arguments.path("data", value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [("agv", " Did you mean 'avg'?"), ("AVG", " Did you mean 'avg'?"), ("sum", ""), (None, "")],
)
def test_another_word_gets_the_choices_and_the_nearest(value, hint):
    with pytest.raises(InputError) as caught:
        arguments.one_of("pool", value, ("avg", "max"))
    assert str(caught.value) == f"`pool` must be one of ('avg', 'max'), got {value!r}.{hint}"


def test_a_choice_is_returned_as_it_stands_in_the_list():
    assert type(arguments.one_of("pool", np.str_("avg"), ("avg", "max"))) is str
    assert arguments.one_of("format", "onnx", {"onnx": 1, "litert": 2}) == "onnx"
    assert arguments.one_of("pooling", None, (None, "avg")) is None
    for value in ([], np.array(["avg"]), np.array([1, 2]), {"avg"}):
        with pytest.raises(InputError, match="must be one of"):
            arguments.one_of("pool", value, ("avg", "max"))


@given(word=st.text(), known=st.lists(st.text(min_size=3), max_size=5))
def test_a_suggestion_is_a_known_name_or_nothing(word, known):
    hint = arguments.did_you_mean(word, known)
    assert not hint or any(repr(name) in hint for name in known)
    for name in known:
        assert repr(name) in arguments.did_you_mean(name + "s", [name])
        assert arguments.did_you_mean(name, [name]) == ""


def test_a_shape_is_sizes_and_none():
    assert arguments.shape("input_shape", np.array([8, 8, 3])) == (8, 8, 3)
    for value in (3, "abc", (0, 8, 3), (-8, 8, 3), (8.0, 8, 3), (True, 8, 3), None):
        with pytest.raises(InputError, match="`input_shape` must be a tuple of positive integers"):
            arguments.shape("input_shape", value)


def test_a_suggestion_is_short():
    known = [f"seresnet{number}" for number in range(100)]
    assert arguments.did_you_mean("SEResNet50", known) == " Did you mean 'seresnet50'?"
    assert arguments.did_you_mean("seresnet500", known).count("'seresnet") <= 3
    assert arguments.did_you_mean(3, [3, None]) == ""


@arguments.with_suggestions
@dataclass(frozen=True, kw_only=True)
class Settings:
    epochs: int | None = None
    parts: int = 1

    def __post_init__(self):
        checks = {"epochs": arguments.positive_integer, "parts": arguments.positive_integer}
        arguments.check_fields(self, checks)


def test_fields_are_checked_and_stored_as_pythons():
    settings = Settings(epochs=np.int64(3))
    assert (settings, type(settings.epochs)) == (Settings(epochs=3, parts=1), int)
    assert Settings().epochs is None
    with pytest.raises(InputError, match="`parts` must be a positive integer, got None"):
        Settings(parts=None)


def test_a_misspelled_field_gets_a_suggestion():
    with pytest.raises(TypeError, match=r"^Settings has no option 'part'. Did you mean 'parts'\?$"):
        Settings(part=2)
    with pytest.raises(
        TypeError, match=r"^Settings has no option 'lr'. Its options: epochs, parts.$"
    ):
        Settings(lr=2)


# --- misspelled names in the public calls --------------------------------------------------------


def block(**options):
    return se_keras.se_block(se_keras.SEResNet20(include_top=False).output, **options)


def insert(**options):
    return se_keras.insert_se(se_keras.SEResNet20(se=False), **options)


@pytest.mark.parametrize(
    ("call", "misspelled", "meant"),
    [
        (se_keras.SqueezeExcite, "rato", "ratio"),
        (se_keras.SqueezeExcite, "dtyp", "dtype"),
        (se_keras.SEResNet50, "clases", "classes"),
        (se_keras.SEMobileNet, "alhpa", "alpha"),
        (lambda **options: se_keras.create("seresnet50", **options), "clases", "classes"),
        (lambda **options: se_keras.create("seresnet50", **options), "weigths", "weights"),
        (lambda **options: se_keras.create("seresnet20", se_options=options), "rato", "ratio"),
        (block, "gate_activaton", "gate_activation"),
        (insert, "rato", "ratio"),
        (insert, "skip_last_stages", "skip_last_stage"),
        (insert, "reduced_chanels", "reduced_channels"),
    ],
)
def test_a_misspelled_option_is_named_with_the_nearest(call, misspelled, meant):
    with pytest.raises(TypeError, match=f"no option '{misspelled}'. Did you mean '{meant}'") as e:
        call(**{misspelled: 3})
    assert "\n" not in str(e.value)


def test_a_misspelled_name_of_the_package_is_named_with_the_nearest():
    for given_name, meant in {"SEResnet50": "SEResNet50", "sqeeze_excite": "SqueezeExcite"}.items():
        with pytest.raises(AttributeError, match=f"'{given_name}'. Did you mean '{meant}'"):
            getattr(se_keras, given_name)
    with pytest.raises(AttributeError, match=r"^module 'se_keras' has no attribute 'vit'\.$"):
        se_keras.vit  # noqa: B018


def test_a_misspelled_model_is_named_with_the_nearest():
    with pytest.raises(InputError, match=r"got 'seresnet05'. Did you mean '.*'seresnet50'"):
        se_keras.create("seresnet05")


# --- files ---------------------------------------------------------------------------------------


def write(path, text, folder):
    if folder:
        path.mkdir()
        (path / "inner.txt").write_text(text)
    else:
        path.write_text(text)


def read(path):
    return (path / "inner.txt" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("old", ["nothing", "file", "folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_what_is_written_takes_the_place_of_what_was_there(old, new, tmp_path):
    path = tmp_path / "a.keras"
    if old != "nothing":
        write(path, "old", old == "folder")
    if (old, new) == ("folder", "file"):
        (path / "inner.txt").unlink()  # one that holds files is not replaced by a file
    with written_beside(path) as partial:
        assert partial.suffix == ".keras"
        write(partial, "new", new == "folder")
        is_there = path.is_dir() if (old, new) == ("folder", "file") else path.exists()
        assert is_there == (old != "nothing")
    assert read(path) == "new"
    assert path.is_dir() == (new == "folder")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_does_not_replace_a_folder_that_holds_files(tmp_path):
    path = tmp_path / "a.keras"
    write(path, "mine", folder=True)
    refused = r"can't write .*a\.keras: it is a folder that holds files\."
    with pytest.raises(InputError, match=refused), written_beside(path) as partial:
        partial.write_text("new")
    assert read(path) == "mine"
    assert list(tmp_path.iterdir()) == [path]


def stop_half_way(path, folder, error):
    with written_beside(path) as partial:
        write(partial, "half", folder)
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("folder", [False, True])
def test_an_error_leaves_the_old_and_nothing_beside(error, folder, tmp_path):
    path = tmp_path / "a"
    for before in ([], [path]):
        with pytest.raises(error):
            stop_half_way(path, folder, error)
        assert list(tmp_path.iterdir()) == before
        if not before:
            write(path, "old", folder)
    assert read(path) == "old"


def test_what_an_earlier_stop_left_is_cleared_away(tmp_path):
    write(tmp_path / f"{PARTIAL}a", "half", True)
    with written_beside(tmp_path / "a") as partial:
        assert not partial.exists()
        partial.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("link", ["a", "elsewhere/a"], ids=["loop", "dangling"])
def test_a_link_to_nothing_is_not_replaced(link, tmp_path):
    (tmp_path / "a").symlink_to(link)
    with pytest.raises(InputError, match=r"can't write .*a: it is a link to nothing\."):
        files.write_json(tmp_path / "a", {})
    assert [(path.name, os.readlink(path)) for path in tmp_path.iterdir()] == [("a", link)]


def test_remove_leaves_what_a_link_points_to(tmp_path):
    write(tmp_path / "folder", "kept", True)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    files.remove(tmp_path / "link")
    files.remove(tmp_path / "missing")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    files.remove(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@given(content=st.dictionaries(TEXT, JSON, max_size=3))
def test_json_comes_back(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "a.json"
    files.write_json(path, content)
    assert files.read_json(path) == content


@pytest.mark.parametrize("content", [b"{", b"", b"[1]", b"\xff"])
def test_what_is_no_json_object_is_named(content, tmp_path):
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"can't read .*report.json: it (is not valid JSON|must hold) "
    ):
        files.read_json(path)


# A carriage return ends a row for some readers.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"))


@given(rows=st.lists(st.tuples(CELLS, st.integers(), st.floats(allow_nan=False)), max_size=4))
def test_csv_comes_back(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    files.write_csv(path, ["name", "count", "share"], rows)
    assert b"\r" not in path.read_bytes()
    with open(path, newline="", encoding="utf-8") as file:
        header, *read_rows = csv.reader(file)
    assert header == ["name", "count", "share"]
    assert [(name, int(count), float(part)) for name, count, part in read_rows] == rows


# --- tables --------------------------------------------------------------------------------------


def test_a_table_without_rows_is_its_header():
    assert format_table(["layer", "parameters"], []) == "layer  parameters"


def test_integers_stand_right_with_separators_and_nothing_where_none_is():
    rows = [["a", 1234567, None], ["long name", None, "x"], [None, -5, True]]
    assert format_table(["layer", "n", "why"], rows).splitlines() == [
        "layer              n  why",
        "a          1,234,567",
        "long name             x",
        "                  -5  True",
    ]


def test_a_row_of_another_length_is_a_bug():
    with pytest.raises(ValueError, match="zip"):
        format_table(["a", "b"], [[1]])


HOLDER = """
import sys, time
sys.argv[0] = "se-keras"  # which does not load Keras
from pathlib import Path
from se_keras.support.files import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_two_processes_do_not_write_the_same(tmp_path):
    target = tmp_path / "a.keras"
    command = [sys.executable, "-c", HOLDER, target]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(InputError, match=r"another process is writing .*a\.keras"),
            written_beside(target),
        ):
            pass
        with written_beside(tmp_path / "b.keras") as partial:
            partial.write_text("another file")
        holder.kill()
    with written_beside(target) as partial:
        partial.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]


def test_a_kill_between_the_two_renamings_loses_nothing(tmp_path):
    (tmp_path / f"{PARTIAL}a" / files.OLD).mkdir(parents=True)
    (tmp_path / f"{PARTIAL}a" / files.OLD / "inner.txt").write_text("old")
    with pytest.raises(KeyError), written_beside(tmp_path / "a"):
        raise KeyError
    assert read(tmp_path / "a") == "old"


def test_a_signal_between_the_two_renamings_loses_nothing(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inner.txt").write_text("old")
    replace = os.replace

    def stopped(source, target):
        replace(source, target)
        if Path(target).name == files.OLD:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopped)
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)  # not on Linux
    with pytest.raises(KeyboardInterrupt), written_beside(tmp_path / "a") as partial:
        partial.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "inner.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two paths in one step")
def test_a_folder_is_replaced_in_one_step(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(os, "replace", None)
    with written_beside(tmp_path / "a") as partial:
        partial.mkdir()
        (partial / "new.txt").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "new.txt"]


@pytest.mark.parametrize("change", ["mkdir", "open"])
def test_a_signal_while_a_path_is_being_claimed_leaves_nothing(change, tmp_path, monkeypatch):
    original = getattr(os, change)

    def stopped(path, *arguments):
        result = original(path, *arguments)
        if PARTIAL not in str(path):
            return result
        monkeypatch.undo()
        if change == "open":
            os.close(result)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, change, stopped)
    with pytest.raises(KeyboardInterrupt), written_beside(tmp_path / "b" / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_the_old_folder_is_deleted_leaves_nothing_in_the_way(tmp_path):
    (tmp_path / f"{PARTIAL}a" / files.OLD / "rest").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    with written_beside(tmp_path / "a") as partial:
        partial.mkdir()
        (partial / "new.txt").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "new.txt"]


FORKING = """
import os, sys, time
sys.argv[0] = "se-keras"  # which does not load Keras
from pathlib import Path
from se_keras.support.files import lock_folder
lock_folder(Path(sys.argv[1]), "")
if not os.fork():
    print("forked", flush=True)
time.sleep(600)
"""


def test_a_lock_ends_with_its_process_though_a_fork_goes_on(tmp_path):
    """Libraries fork, such as for sending statistics."""
    command = [sys.executable, "-c", FORKING, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout.readline() == b"forked\n"
            with pytest.raises(InputError, match="taken"):
                files.lock_folder(tmp_path, "taken")
            process.kill()
            process.wait()
            files.unlock(files.lock_folder(tmp_path, "taken"))
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_an_archive_that_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "a.keras")
    with pytest.raises(InputError, match=r"can't read .*a\.keras"):
        check_archive(tmp_path / "a.keras")
    with pytest.raises(InputError, match="regular file"):
        unpack_single_file(tmp_path / "a.keras", ".h5", tmp_path / "b")


def test_a_pipe_among_files_that_a_library_opens_is_named(tmp_path):
    (tmp_path / "served" / "variables").mkdir(parents=True)
    (tmp_path / "served" / "saved_model.pb").touch()
    os.mkfifo(tmp_path / "served" / "variables" / "variables.index")
    with pytest.raises(InputError, match=r"variables\.index is not a regular file"):
        read_metadata(tmp_path / "served")


def test_a_folder_that_another_process_makes_meanwhile_is_not_replaced(tmp_path):
    target = tmp_path / "a"
    with (  # noqa: PT012
        pytest.raises(InputError, match="has made a folder there meanwhile"),
        written_beside(target) as partial,
    ):
        partial.mkdir()
        target.mkdir()
        (target / "theirs.txt").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "theirs.txt"]
    lock = files.lock_folder(target, "")
    with pytest.raises(InputError, match="another process is using it"):
        files.write_json(target, {})
    files.unlock(lock)
    (target / "theirs.txt").unlink()
    files.write_json(target, {})
    assert files.read_json(target) == {}


def test_a_folder_that_goes_meanwhile_is_one_line(tmp_path):
    """Even if a later write creates the folder again."""
    deep = tmp_path / "deep"
    with (  # noqa: PT012
        pytest.raises(InputError, match=r"can't write .*: its folder was removed meanwhile\."),
        written_beside(deep / "a") as partial,
    ):
        partial.mkdir()
        shutil.rmtree(deep)
        files.write_json(partial / "b.json", {})
    assert list(tmp_path.iterdir()) == []
    with (  # noqa: PT012
        pytest.raises(InputError, match=r"can't write .*: its folder was removed meanwhile\."),
        written_beside(deep / "a"),
    ):
        shutil.rmtree(deep)
        raise RuntimeError("an error of a library")


def test_what_another_process_is_writing_is_not_taken_for_left_over(tmp_path):
    (tmp_path / f"{PARTIAL}left").mkdir()
    (tmp_path / f"{PARTIAL}file").touch()
    with files.claimed(tmp_path / "a"):
        files.remove_left(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [f"{PARTIAL}a"]


@pytest.mark.parametrize(
    "content", [{"a": 1}, {"a": [(1, float("nan"))], "b": {"c": "\u00e9"}}, {}]
)
def test_a_sealed_file_is_refused_where_it_was_changed(content, tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, content, sealed=True)
    text = path.read_text()
    assert str(files.read_json(path)) == str(json.loads(json.dumps(content)))
    path.write_text(text.replace("{", '{"more": 0, ', 1))
    with pytest.raises(InputError, match="after it was written; without its `checksum` it is read"):
        files.read_json(path)
    opened = json.loads(text)
    del opened[files.SEAL]
    path.write_text(json.dumps(opened | {"more": 0}))
    assert files.read_json(path)["more"] == 0


def test_temporary_files_of_a_command_go_with_what_a_kill_leaves(tmp_path):
    """The next command that writes the same path deletes them."""
    before = os.environ.get("TMPDIR"), tempfile.gettempdir()
    parsed = argparse.Namespace(command="predict", csv=tmp_path / "a.csv")
    with cli._claimed_output(parsed):
        made = Path(tempfile.mkdtemp())
        assert made.parent == tmp_path / f"{PARTIAL}a.csv"
        assert os.environ["TMPDIR"] == str(made.parent)
    assert (os.environ.get("TMPDIR"), tempfile.gettempdir()) == before
    made.mkdir(parents=True)  # as a kill would have left it
    with cli._claimed_output(parsed):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0, 10**12])
def test_a_wrong_clock_is_named(seconds, tmp_path, monkeypatch):
    """Such as that of a board without a battery, which begins in 1970."""
    monkeypatch.setattr(time, "time", lambda: seconds)
    localtime = time.localtime
    monkeypatch.setattr(time, "localtime", lambda now=seconds: localtime(now))
    with (
        pytest.raises(InputError, match=r"can't write .*a\.keras: the clock says (1970|33658), "),
        written_beside(tmp_path / "a.keras") as partial,
        zipfile.ZipFile(partial, "w") as archive,
    ):
        archive.writestr("config.json", "{}")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_not_utf8(tmp_path):
    path, before = tmp_path / os.fsdecode(b"\xe9.json"), tempfile.gettempdir()
    with files.temporary_files_beside(path):
        assert tempfile.gettempdir() == before  # TensorFlow could not read files there
        files.write_json(path, {"path": str(path)}, sealed=True)
    assert files.read_json(path) == {"path": str(path)}


def test_a_missing_parent_is_made_and_goes_again_with_what_failed(tmp_path):
    with pytest.raises(KeyError), written_beside(tmp_path / "b" / "c" / "a"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    files.write_json(tmp_path / "b" / "c" / "a.json", {})
    assert [path.name for path in tmp_path.rglob("*")] == ["b", "c", "a.json"]
    with pytest.raises(InputError, match=r"can't write .*a\.json/d: Not a directory"):
        files.write_json(tmp_path / "b" / "c" / "a.json" / "d", {})


def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path):
    """A limit of file size gives the same kind of error with another number."""
    code = """
import resource, signal, sys
sys.argv[0] = "se-keras"  # which does not load Keras
from pathlib import Path
from se_keras.support.errors import InputError
from se_keras.support.files import write_json
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_json(Path(sys.argv[1]), {"a": 1})
try:
    write_json(Path(sys.argv[1]), {"a": "x" * 9000})
except InputError as error:
    print(error)
"""
    path = tmp_path / "a.json"
    assert run_python(code, path) == f"can't write {path}: File too large.\n"
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_known_by_its_text_where_a_library_hides_its_number(tmp_path):
    path = tmp_path / "a"
    no_room = r"^can't write .*a: No space left on device\.$"
    with pytest.raises(InputError, match=no_room), written_beside(path):
        raise RuntimeError("x.index; No space left on device [Op:SaveV2]")
    with pytest.raises(RuntimeError, match="another"), written_beside(path):
        raise RuntimeError("another reason")
    with pytest.raises(InputError, match=r"can't write b: No"), written_beside(path):
        raise InputError("can't write b: No space left on device.")
    assert list(tmp_path.iterdir()) == []
