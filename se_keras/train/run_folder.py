"""The folder of a run, which tells how far the run is.

`settings.json` and `split.csv` come first, then for each finished epoch a row of `history.csv` and
a checkpoint, whose name carries the epoch; its renaming is what finishes the epoch. Two checkpoints
stay, the last and the best, from which a run goes on even after its end, with more epochs.
`report.json` comes last.
"""

import csv
import dataclasses
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.support.errors import InputError, in_one_line
from se_keras.support.files import PARTIAL, read_json, remove, write_csv, write_json, written_beside
from se_keras.train.choosing import best_epoch
from se_keras.train.config import DEFAULT_MODEL, DEFAULTS, TrainConfig, is_model_file

if TYPE_CHECKING:
    import keras

    from se_keras.train.cluster import Team

RUN_FILES = (
    "settings.json",
    "split.csv",
    "history.csv",
    "model.keras",
    "saved_model",
    "predictions.csv",
    "curves.png",
    "confusion.png",
    "mistakes.png",
    "report.html",
    "report.json",
)
CHECKPOINT = "checkpoint-{:04d}.weights.h5"
TENSORBOARD = "tensorboard"
# Settings that only say when a run ends, and with which of its epochs.
CHANGEABLE = ("epochs", "patience", "choose")

# A row of `history.csv` an epoch.
History = list[dict[str, float]]


def default_folder(config: TrainConfig, model: str = "") -> Path:
    """Return the folder of a run that is told none.

    Args:
        config: the settings.
        model: the name of what is trained in place of `config.model`.

    Example:

    >>> from se_keras.train import TrainConfig
    >>> from se_keras.train.run_folder import default_folder
    >>> default_folder(TrainConfig()).as_posix()
    'runs/digits-seresnet20'
    >>> default_folder(TrainConfig(no_se=True)).as_posix()
    'runs/digits-seresnet20-no-se'
    >>> default_folder(TrainConfig(weights="seresnet50.a1_in1k")).as_posix()
    'runs/digits-seresnet50.a1_in1k'
    """
    asked = [f"ratio{config.ratio}" if config.ratio else "", config.placement or ""]
    words = [model or _called(config), *asked, "no-se" if config.no_se else ""]
    return Path("runs") / "-".join([Path(config.data).resolve().name, *filter(None, words)])


def _called(config: TrainConfig) -> str:
    """Return what is trained, in words that a folder's name can hold."""
    weights = (config.weights or "").rstrip("/").rpartition("/")[2]
    model = config.model or ("" if weights else DEFAULT_MODEL)
    model = Path(model).stem if is_model_file(model) else model
    return "-".join(filter(None, [model, re.sub(r"[^\w.-]+", "-", weights)]))


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
    """Return whether the run is at its end; checks that it can go on with these settings."""
    if not (folder / "settings.json").exists():
        return False
    old = read_json(folder / "settings.json")
    _check_settings(old, settings, folder)
    if not (folder / "report.json").exists():
        return False
    if all(old[name] == settings[name] for name in CHANGEABLE):
        print(f"{folder} is finished: nothing to resume")
        return True
    if not _checkpoints(folder):
        raise InputError(f"{folder} is finished, and its checkpoints are gone: it can't go on.")
    return False


def _check_settings(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    if "choose" not in old:
        raise InputError(
            f"{folder} was begun by an earlier version, whose runs have no images for validation, "
            "and can't go on: choose `overwrite` or another `out`."
        )
    for name, value in new.items():
        if old.get(name) != value and not _may_change(name, old, new):
            raise InputError(
                f"{folder} was begun with `{name}` {old.get(name)}, it can't go on with {value}."
            )
    if old["files"] != new["files"]:
        raise InputError(f"the images of {new['data']} have changed since {folder} began.")


def _may_change(name: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    if name == "epochs":
        return new[name] >= old[name]
    if name == "data":
        # Where a folder is does not matter, nor does the file that tells of its parts.
        return not {old[name], new[name]} & set(DEFAULTS)
    return name in (*CHANGEABLE, "split", "files")


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of the run in a folder, those of `TrainConfig`; none where there is none.

    Raises:
        InputError: if `settings.json` is damaged.
    """
    if not (folder / "settings.json").is_file():
        return {}
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    found = {name: x for name, x in read_json(folder / "settings.json").items() if name in known}
    # The file that it was told of may have gone; the run has its own.
    return found | ({"split": str(folder / "split.csv")} if found.get("split") else {})


def epochs_done(folder: Path) -> int:
    """Return how many epochs of a run are on the disk."""
    return max((epoch for epoch, _ in _checkpoints(folder)), default=0)


def begin(folder: Path, settings: dict[str, Any], keep: bool) -> None:
    """Makes the folder ready; clears away an earlier run unless it is to be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.glob(PARTIAL + "*"):
        remove(partial)
    if keep and (folder / "settings.json").exists():
        # Where it is finished, it is no more: it goes on with more epochs.
        remove(folder / "report.json")
        write_json(folder / "settings.json", settings)
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


def restore_history(folder: Path, team: "Team") -> History:
    """Return the rows of the epochs that have a checkpoint; those of other processes are bare."""
    done = int(team.from_first(b"%d" % (epochs_done(folder) if team.leads else 0)))
    if not team.leads:
        return [{"epoch": epoch + 1} for epoch in range(done)]
    history = read_history(folder)[:done] if done else []
    if len(history) != done:
        raise InputError(f"{folder / 'history.csv'} has {len(history)} rows, the run {done} epochs")
    return history


def load_epoch(model: "keras.Model", folder: Path, epoch: int, team: "Team") -> None:
    """Loads the checkpoint of an epoch: the weights and the state of the optimizer."""
    path = folder / CHECKPOINT.format(epoch)
    with _share_file(path if team.leads else None, team) as shared:
        try:
            model.load_weights(shared)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"can't read {path}: {error}") from error


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
    # A stop between the two leaves a row too many, which `restore_history` drops.
    rows = (list(row.values()) for row in history)
    write_csv(folder / "history.csv", list(history[0]), rows)
    with written_beside(folder / CHECKPOINT.format(len(history))) as partial:
        model.save_weights(partial)
    remove_checkpoints(folder, keep={best_epoch(history), len(history)})


def remove_checkpoints(folder: Path, keep: Collection[int] = ()) -> None:
    """All but those of some epochs."""
    for epoch, path in _checkpoints(folder):
        if epoch not in keep:
            remove(path)


def read_history(folder: Path) -> History:
    """Return the rows of `history.csv`.

    Raises:
        InputError: if it is damaged.
    """
    path = folder / "history.csv"
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        numbers = [{name: float(value) for name, value in row.items()} for row in rows]
        return [row | {"epoch": int(row["epoch"])} for row in numbers]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"can't read {path}: {in_one_line(error)}") from error
