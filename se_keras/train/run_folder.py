"""The folder of a run, which tells how far the run is.

`settings.json` comes first, then for each finished epoch a row of `history.csv` and a checkpoint,
whose name carries the epoch; its renaming is what finishes the epoch. `report.json` comes last, and
the checkpoint goes.
"""

import csv
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.support.errors import InputError, in_one_line
from se_keras.support.files import PARTIAL, read_json, remove, write_csv, write_json, written_beside

if TYPE_CHECKING:
    import keras

    from se_keras.train.cluster import Team

RUN_FILES = (
    "settings.json",
    "history.csv",
    "model.keras",
    "saved_model",
    "curves.png",
    "confusion.png",
    "report.json",
)
CHECKPOINT = "checkpoint-{:04d}.weights.h5"
TENSORBOARD = "tensorboard"

# A row of `history.csv` an epoch.
History = list[dict[str, float]]


def default_folder(data: str, model: str) -> Path:
    """Return the folder of a run that is told none.

    Example:

    >>> from se_keras.train.run_folder import default_folder
    >>> default_folder("digits", "seresnet20").as_posix()
    'runs/digits-seresnet20'
    """
    return Path("runs") / f"{Path(data).resolve().name}-{model}"


def check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that has something else, or a run that is neither to go on nor to go away.

    Raises:
        InputError: for such a folder.
    """
    if resume and overwrite:
        raise InputError("`resume` and `overwrite` exclude each other.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`out` must be a folder, {folder} is a file.")
    if not folder.exists() or all(path.name.startswith(PARTIAL) for path in folder.iterdir()):
        return
    if not (folder / "settings.json").exists():
        raise InputError(f"{folder} is not the folder of a run: choose another `out`.")
    if not (resume or overwrite):
        raise InputError(
            f"{folder} has a run already: choose `resume`, `overwrite` or another `out`."
        )


def is_finished(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the run is at its end; checks that these are its settings, if it has begun."""
    if not (folder / "settings.json").exists():
        return False
    _check_same_settings(read_json(folder / "settings.json"), settings, folder)
    if (folder / "report.json").exists():
        print(f"{folder} is finished: nothing to resume")
        return True
    return False


def _check_same_settings(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    for name, value in new.items():
        if old.get(name) == value:
            continue
        if name == "files":
            raise InputError(f"the images of {new['data']} have changed since {folder} began")
        raise InputError(
            f"{folder} was begun with {name} {old.get(name)}, it can't go on with {value}"
        )


def begin(folder: Path, settings: dict[str, Any], keep: bool) -> None:
    """Makes the folder ready; clears away an earlier run unless it is to be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.glob(PARTIAL + "*"):
        remove(partial)
    if keep and (folder / "settings.json").exists():
        return
    # In an order in which a stop leaves no run that looks finished, or further than it is.
    remove(folder / "report.json")
    remove_checkpoints(folder)
    for name in {*RUN_FILES, TENSORBOARD} - {"settings.json"}:
        remove(folder / name)
    write_json(folder / "settings.json", settings)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    named = ((re.fullmatch(r"checkpoint-(\d+)\.weights\.h5", p.name), p) for p in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match)


def restore(model: "keras.Model", folder: Path, team: "Team") -> tuple[int, History]:
    """Loads the last checkpoint, if there is one: the weights and the state of the optimizer."""
    checkpoints = _checkpoints(folder) if team.leads else []
    done, path = checkpoints[-1] if checkpoints else (0, None)
    done = int(team.from_first(b"%d" % done))
    if not done:
        return 0, []
    with _share_file(path, team) as path:
        try:
            model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"can't read {path}: {error}") from error
    if not team.leads:
        return done, [{"epoch": epoch + 1} for epoch in range(done)]
    history = _read_history(folder)[:done]
    if len(history) != done:
        raise InputError(f"{folder / 'history.csv'} has {len(history)} rows, the run {done} epochs")
    return done, history


@contextmanager
def _share_file(path: Path | None, team: "Team") -> Iterator[Path]:
    """The first process' file in every process: other machines need not see its folder."""
    if path is not None and team.share.processes == 1:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.weights.h5"
        copy.write_bytes(team.from_first(b"" if path is None else path.read_bytes()))
        yield copy


def save_epoch(folder: Path, model: "keras.Model", history: History) -> None:
    """Puts an epoch on the disk that has just been finished; its row is the last of `history`."""
    # A stop between the two leaves a row too many, which `restore` drops.
    rows = (list(row.values()) for row in history)
    write_csv(folder / "history.csv", list(history[0]), rows)
    with written_beside(folder / CHECKPOINT.format(len(history))) as partial:
        model.save_weights(partial)
    remove_checkpoints(folder, keep=1)


def remove_checkpoints(folder: Path, keep: int = 0) -> None:
    """All but the latest ones."""
    found = _checkpoints(folder)
    for _, path in found[: len(found) - keep]:
        remove(path)


def _read_history(folder: Path) -> History:
    path = folder / "history.csv"
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        numbers = [{name: float(value) for name, value in row.items()} for row in rows]
        return [row | {"epoch": int(row["epoch"])} for row in numbers]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"can't read {path}: {in_one_line(error)}") from error
