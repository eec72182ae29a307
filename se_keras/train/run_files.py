"""Read the files of a run, and check each, because anything may have changed them.

Damaged files are refused in one line, which says how to recreate them if that is possible. Imports
no keras.
"""

import dataclasses
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from se_keras.support.errors import InputError
from se_keras.support.files import digest_of, read_csv, read_json
from se_keras.support.schema import Fields, characters, mapping, number, row, whole
from se_keras.train.config import CHECKS, TrainConfig

SETTINGS, SPLIT, HISTORY = "settings.json", "split.csv", "history.csv"
PREDICTIONS, REPORT = "predictions.csv", "report.json"
# The tables of a finished run; `report.json` has their checksums.
TABLES = (SPLIT, HISTORY, PREDICTIONS)
# Upper bounds for the counts and for the other numbers that a run writes.
MOST = 2**53
LARGEST = 1e300
# One row of `history.csv` for each epoch.
History = list[dict[str, float]]
COLUMNS = ("epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
SPLIT_COLUMNS = ("file", "class", "part")
HELD_OUT = ("validation", "test")
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1")
SHARE = "a number from 0 to 1"
COUNT = "a whole number"


def go_on(folder: Path, *options: str) -> str:
    """Return the command that continues a run.

    Example:

    >>> from pathlib import Path
    >>> from se_keras.train.run_files import go_on
    >>> go_on(Path("my runs/a"))
    "se-keras train --out 'my runs/a' --resume"
    """
    return " ".join(["se-keras train --out", shlex.quote(str(folder)), "--resume", *options])


@contextmanager
def _remedy(text: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{error} {text}") from error


# --- settings.json -------------------------------------------------------------------------------


def read_settings_file(folder: Path) -> dict[str, Any]:
    """Return the content of `settings.json`; an empty dict if there is none.

    Raises:
        InputError: if it is damaged.
    """
    path = folder / SETTINGS
    if not os.path.lexists(path):
        return {}
    with _remedy("It can't be recreated: start again with `overwrite`."):
        content = read_json(path)
        fields = Fields(content, f"can't read {path}")
        fields.take("files", characters, "a text")
        fields.take("model", characters, "a text")
        for setting in dataclasses.fields(TrainConfig):
            if setting.name != "model" and setting.name in content:
                _check_setting(path, setting, content[setting.name])
    return content


def _check_setting(path: Path, setting: dataclasses.Field, value: Any) -> None:
    if value is None and setting.default is None:
        return
    try:
        if type(value) is int and value >= MOST:
            raise InputError(f"`{setting.name}` must be below {MOST:,}.")
        if setting.name in CHECKS:
            CHECKS[setting.name](setting.name, value)
    except InputError as error:
        raise InputError(f"can't read {path}: {error}") from error


# --- history.csv ---------------------------------------------------------------------------------


def read_history(folder: Path) -> History:
    """Return the rows of `history.csv`.

    Raises:
        InputError: if it is damaged.
    """
    path = folder / HISTORY
    with _remedy(f"{go_on(folder)} recreates it."):
        rows = read_csv(path, COLUMNS)
        try:
            return check_history(
                [{name: float(text) for name, text in row.items()} for row in rows]
            )
        except ValueError as error:
            raise InputError(f"can't read {path}: each value must be a number.") from error


def check_history(rows: Any) -> History:
    """Check rows of `history.csv`, and return them with the numbers of the epochs as ints.

    Raises:
        ValueError: if a row has invalid values.
        TypeError: if the rows have another type.

    Example:

    >>> from se_keras.train.run_files import COLUMNS, check_history
    >>> check_history([dict.fromkeys(COLUMNS, 1.0)])[0]["epoch"]
    1
    """
    history = [{name: _figure(name, x) for name, x in each.items()} for each in row(rows, mapping)]
    epochs = [each["epoch"] for each in history if each.keys() >= set(COLUMNS)]
    if epochs != list(range(1, len(history) + 1)):
        raise ValueError
    return [each | {"epoch": epoch} for epoch, each in enumerate(history, start=1)]


def _figure(name: str, value: Any) -> float:
    if name == "val_loss" and isinstance(value, float):  # any loss is possible, even infinity
        return value
    return number(value, -LARGEST, LARGEST)


# --- report.json and predictions.csv -------------------------------------------------------------


def read_report(folder: Path) -> dict[str, Any]:
    """Return the content of a finished run's `report.json`.

    Raises:
        InputError: if the report is missing, damaged or from an earlier version.
    """
    path = folder / REPORT
    if not path.is_file():
        raise InputError(f"{folder} is not the folder of a finished run of `se-keras train`.")
    with _remedy(f"{go_on(folder)} recreates it."):
        content = read_json(path)
        fields = Fields(content, f"can't read {path}")
        count = partial(whole, least=0, most=MOST)
        fields.need("class_names", partial(row, read=characters), "a list of texts")
        fields.need("intervals", characters, "a text")
        fields.need("settings", mapping, "an object")
        fields.need("training_seconds", partial(number, least=0, most=MOST), "a number")
        fields.inside("parameters").need("all", count, COUNT)
        epochs = fields.inside("epochs")
        trained = epochs.need("trained", count, COUNT)
        kept = partial(whole, least=1, most=trained)
        epochs.need("chosen", kept, f"a whole number from 1 to {trained}")
        test = fields.inside("test")
        test.need("images", count, COUNT)
        _check_figures(test)
    return content


def _check_figures(fields: Fields) -> None:
    part = partial(number, least=0, most=1)
    for name in FIGURES:
        fields.need(name, part, SHARE)
        fields.need(
            f"{name}_interval", partial(row, read=part, length=2), "two numbers from 0 to 1"
        )


def read_answers(folder: Path) -> list[dict[str, str]]:
    """Return the rows of `predictions.csv` for the test images.

    Raises:
        InputError: if it is damaged.
    """
    path = folder / PREDICTIONS
    with _remedy(f"{go_on(folder)} recreates it."):
        rows = read_csv(path, ("file", "true", "predicted", "part"))
        if odd := [row["part"] for row in rows if row["part"] not in HELD_OUT]:
            raise InputError(
                f"can't read {path}: a part must be {' or '.join(HELD_OUT)}, got {odd[0]!r}."
            )
    return [row for row in rows if row["part"] == "test"]


def check_written(folder: Path, names: Iterable[str] = TABLES) -> None:
    """Refuse tables of a finished run that are not as it wrote them.

    Raises:
        InputError: naming the first such file.
    """
    if not os.path.lexists(folder / REPORT):
        return
    with _remedy(f"{go_on(folder)} recreates it."):
        fields = Fields(read_json(folder / REPORT), f"can't read {folder / REPORT}")
        digests = fields.take("files", mapping, "an object") or {}
        for path in [folder / name for name in names if name in digests]:
            if not path.is_file() or digest_of(path) != digests[path.name]:
                raise InputError(f"can't read {path}: it was changed after it was written.")


def read_results(folder: Path) -> tuple[dict[str, Any], History, list[dict[str, str]]]:
    """Return the results of a finished run: report, history, and answers on the test images.

    Raises:
        InputError: if one of them is damaged, or they do not belong together.
    """
    report, history, answers = read_report(folder), read_history(folder), read_answers(folder)
    _check_count(folder / HISTORY, len(history), report["epochs"]["trained"])
    _check_count(folder / PREDICTIONS, len(answers), report["test"]["images"])
    check_written(folder, (HISTORY, PREDICTIONS))
    return report, history, answers


def _check_count(file: Path, rows: int, wanted: int) -> None:
    with _remedy(f"{go_on(file.parent)} recreates it."):
        if rows != wanted:
            raise InputError(f"{file} has {rows:,} rows, but {REPORT} says {wanted:,}.")
