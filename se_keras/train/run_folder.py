"""The folder of a run, which records its progress.

`settings.json` and `split.csv` are written first. Each epoch then adds a row to `history.csv` and a
checkpoint with the number of the epoch in its name; an epoch is finished when its checkpoint is
renamed. Three checkpoints stay: the last two and the best. A run can continue from them if the last
is damaged, and with more epochs after its end. `report.json` is written last.
"""

import dataclasses
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.support.errors import InputError, shown
from se_keras.support.files import (
    PARTIAL,
    claimed,
    is_utf8,
    lock_folder,
    read_csv,
    remove,
    remove_empty,
    unlock,
    write_csv,
    write_json,
)
from se_keras.support.signals import signals_wait
from se_keras.train.checkpoints import (
    check_against_notes,
    find_checkpoints,
    remove_checkpoints,
    restore,
    save,
)
from se_keras.train.config import DEFAULT_MODEL, DEFAULTS, TrainConfig, is_model_file
from se_keras.train.run_files import (
    HISTORY,
    PREDICTIONS,
    REPORT,
    SETTINGS,
    SPLIT,
    SPLIT_COLUMNS,
    History,
    check_written,
    read_results,
    read_settings_file,
)

if TYPE_CHECKING:
    import keras

    from se_keras.train.cluster import Team

RUN_FILES = (
    SETTINGS,
    SPLIT,
    HISTORY,
    "model.keras",
    "saved_model",
    PREDICTIONS,
    "curves.png",
    "confusion.png",
    "mistakes.png",
    "report.html",
    REPORT,
)
TENSORBOARD = "tensorboard"
# Settings that only determine when a run ends, and which epoch it keeps.
CHANGEABLE = ("epochs", "patience", "choose")


def default_folder(config: TrainConfig, model: str = "") -> Path:
    """Return the default folder of a run.

    Args:
        config: the settings.
        model: name of the trained model, instead of `config.model`.

    Example:

    >>> from se_keras.train import TrainConfig
    >>> from se_keras.train.run_folder import default_folder
    >>> default_folder(TrainConfig()).as_posix()
    'runs/digits-seresnet20'
    >>> default_folder(TrainConfig(no_se=True)).as_posix()
    'runs/digits-seresnet20-no-se'
    >>> default_folder(TrainConfig(attention="eca")).as_posix()
    'runs/digits-seresnet20-eca'
    >>> default_folder(TrainConfig(weights="seresnet50.a1_in1k")).as_posix()
    'runs/digits-seresnet50.a1_in1k'
    """
    asked = [f"ratio{config.ratio}" if config.ratio else "", config.placement, config.attention]
    words = [model or _called(config), *asked, "no-se" if config.no_se else ""]
    return Path("runs") / "-".join([Path(config.data).resolve().name, *filter(None, words)])


def _called(config: TrainConfig) -> str:
    """Return a name of the trained model that is valid in a folder's name."""
    weights = (config.weights or "").rstrip("/").rpartition("/")[2]
    model = config.model or ("" if weights else DEFAULT_MODEL)
    model = _stem(Path(model)) if is_model_file(model) else model
    return "-".join(filter(None, [model, re.sub(r"[^\w.-]+", "-", weights)]))


def _stem(file: Path) -> str:
    """Return the name of a model's file without its suffix, or the name of its run."""
    is_of_run = file.name == "model.keras" and (file.parent / "settings.json").is_file()
    return file.resolve().parent.name if is_of_run else file.stem


def check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder with other files, or with a run that is neither resumed nor overwritten.

    Raises:
        InputError: if the folder is refused.
    """
    if resume and overwrite:
        raise InputError("`resume` and `overwrite` exclude each other.")
    if not is_utf8(folder):
        raise InputError(
            f"`out` must be valid UTF-8, as TensorFlow needs, got {shown(str(folder))}."
        )
    if os.path.lexists(folder) and not folder.is_dir():
        is_what = "a file" if folder.exists() else "a link to nothing"
        raise InputError(f"`out` must be a folder, {folder} is {is_what}.")
    if not folder.exists() or all(path.name.startswith(PARTIAL) for path in folder.iterdir()):
        return
    if not (folder / SETTINGS).exists():
        raise InputError(f"{folder} is not the folder of a run: choose another `out`.")
    if not (resume or overwrite):
        raise InputError(
            f"{folder} has a run already: choose `resume`, `overwrite` or another `out`."
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands from training in a folder, which is made if needed.

    Raises:
        InputError: if another command is training in it, or it can't be written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = None
    try:
        with signals_wait():
            lock = _lock(folder)
            _check_writable(folder)
        yield
    finally:
        with signals_wait():
            if lock is not None:
                unlock(lock)
            remove_empty(made)


def _lock(folder: Path) -> int:
    taken = f"another process is training into {folder}: wait for it, or choose another `out`."
    try:
        # Another command may be about to write to a new folder of this name.
        with nullcontext() if folder.exists() else claimed(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return lock_folder(folder, taken)
    except OSError as error:
        raise InputError(f"can't write {folder}: {error.strerror}.") from error


def _check_writable(folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"can't write {folder}: {error.strerror}.") from error


def is_finished(folder: Path, settings: dict[str, Any]) -> bool:
    """Return whether the run has finished; refuse settings with which it can't continue."""
    if not (folder / SETTINGS).exists():
        return False
    old = read_settings_file(folder)
    _check_settings(old, settings, folder)
    if not (folder / REPORT).exists():
        return False
    if all(old[name] == settings[name] for name in CHANGEABLE):
        return _has_results(folder)
    if not find_checkpoints(folder):
        raise InputError(f"{folder} is finished, and its checkpoints are gone: it can't go on.")
    return False


def _has_results(folder: Path) -> bool:
    """Return whether all files of a finished run exist and can be read."""
    try:
        if missing := [name for name in RUN_FILES if not (folder / name).exists()]:
            raise InputError(f"{folder / missing[0]} is missing.")
        _, history, _ = read_results(folder)
        check_against_notes(history, folder / HISTORY)
        read_csv(folder / SPLIT, SPLIT_COLUMNS)
        check_written(folder)
    except InputError as error:
        print(f"{error.__cause__ or error} It is recreated.")
        return False
    return True


def _check_settings(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    if "choose" not in old:
        raise InputError(
            f"{folder} was begun by an earlier version, whose runs have no images for validation, "
            "and can't go on: choose `overwrite` or another `out`."
        )
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for name, value in new.items():
        if name not in old and value != defaults.get(name):
            raise InputError(f"can't read {folder / SETTINGS}: `{name}` is missing.")
        before = old.setdefault(name, value)
        if before != value and not _may_change(name, old, new):
            raise InputError(
                f"{folder} was begun with `{name}` {before}, it can't go on with {value}."
            )
    if old["files"] != new["files"]:
        raise InputError(f"the images of {new['data']} have changed since {folder} began.")


def _may_change(name: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    if name == "epochs":
        return old[name] is not None and new[name] >= old[name]
    if name == "data":
        # The path of the data does not matter, nor does the path of the split.
        return not {old[name], new[name]} & set(DEFAULTS)
    return name in (*CHANGEABLE, "split", "files")


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a folder's run for `TrainConfig`; an empty dict without a run.

    Raises:
        InputError: if `settings.json` is damaged.
    """
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    found = {name: x for name, x in read_settings_file(folder).items() if name in known}
    # The user's split file may be missing now; the run has a copy.
    return found | ({"split": str(folder / SPLIT)} if found.get("split") else {})


def epochs_done(folder: Path) -> int:
    """Return the number of saved epochs of a run."""
    return max(find_checkpoints(folder), default=0)


def begin(folder: Path, settings: dict[str, Any], keep: bool) -> None:
    """Make the folder ready; clear away an earlier run unless it is to be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with signals_wait():
        # In this order, a kill leaves no run that looks finished, or further than it is.
        remove(folder / REPORT)
        if not (keep and (folder / SETTINGS).exists()):
            remove_checkpoints(folder)
            for name in {*RUN_FILES, TENSORBOARD} - {SETTINGS}:
                remove(folder / name)
        write_json(folder / SETTINGS, settings, sealed=True)


def restore_history(folder: Path, team: "Team") -> History:
    """Return the rows of the epochs after which the run continues.

    These are fewer than were trained if a checkpoint is damaged. Other processes get bare rows.
    """
    history, damage = restore(folder) if team.leads else ([], [])
    done = int(team.from_first(b"%d" % len(history)))
    if not team.leads:
        return [{"epoch": epoch + 1} for epoch in range(done)]
    for line in damage:
        print(f"{line} The run {f'goes on after epoch {done}' if done else 'starts again'}.")
    if done:
        write_history(folder, history)
    return history


def save_epoch(folder: Path, model: "keras.Model", history: History) -> None:
    """Save an epoch that has just been finished; its row is the last of `history`.

    Raises:
        InputError: if the folder is gone.
    """
    check_there(folder)
    # A stop between the two leaves a row too many, which `restore_history` drops.
    write_history(folder, history)
    save(folder, model, history)


def check_there(folder: Path) -> None:
    """Refuse to go on with a run whose folder has been removed.

    Raises:
        InputError: if it has.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} was removed meanwhile: the run can't go on.")


def write_history(folder: Path, history: History) -> None:
    """Write `history.csv`."""
    rows = (list(row.values()) for row in history)
    write_csv(folder / HISTORY, list(history[0]), rows)
