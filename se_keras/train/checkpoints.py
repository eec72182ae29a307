"""The checkpoints of a run: the weights and the state of the optimizer after an epoch.

Each has a small file of notes with its SHA-256 and the rows of the history up to its epoch. The
notes are written first: an epoch is finished when its checkpoint is renamed.
"""

import hashlib
import io
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.support.errors import InputError, damage_named
from se_keras.support.files import digest_of, read_json, remove, write_json, written_beside
from se_keras.train.choosing import best_epoch
from se_keras.train.run_files import History, check_history

if TYPE_CHECKING:
    import keras

    from se_keras.train.cluster import Team

CHECKPOINT, NOTES = "checkpoint-{:04d}.weights.h5", "checkpoint-{:04d}.json"


class _Memory(io.BytesIO):
    """A file in memory with a name that Keras accepts for weights."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def save(folder: Path, model: "keras.Model", history: History) -> None:
    """Save the checkpoint of the last epoch; keep the one before it, and the best one."""
    # HDF5 would crash the process on a full disk.
    content = _Memory()
    model.save_weights(content)
    with content.getbuffer() as view:
        notes = {"sha256": hashlib.sha256(view).hexdigest(), "history": history}
        write_json(folder / NOTES.format(len(history)), notes, sealed=True)
        with written_beside(folder / CHECKPOINT.format(len(history))) as partial:
            partial.write_bytes(view)
    remove_checkpoints(folder, keep={best_epoch(history), len(history), len(history) - 1})


def load(model: "keras.Model", folder: Path, epoch: int, team: "Team") -> None:
    """Load the checkpoint of an epoch.

    Raises:
        InputError: if it is damaged.
    """
    path = folder / CHECKPOINT.format(epoch)
    with (
        _share_file(path if team.leads else None, team) as shared,
        damage_named(f"can't read {path}"),
    ):
        model.load_weights(shared)


@contextmanager
def _share_file(path: Path | None, team: "Team") -> Iterator[Path]:
    """Send the first process' file to every process, which may run on other machines."""
    if path is not None and team.share.processes == 1:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.weights.h5"
        copy.write_bytes(team.from_first(b"" if path is None else path.read_bytes()))
        yield copy


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by their epochs, in order."""
    named = ((re.fullmatch(r"checkpoint-(\d+)\.weights\.h5", p.name), p) for p in folder.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in named if match))


def restore(folder: Path) -> tuple[History, list[str]]:
    """Find the last epoch from which a run can continue.

    Returns:
        The rows of the epochs up to it, and a line for each damaged checkpoint. The best of these
        epochs also has an undamaged checkpoint.
    """
    histories: dict[int, History] = {}
    damage = []
    for epoch, path in find_checkpoints(folder).items():
        try:
            histories[epoch] = _check(folder, epoch, path)
        except InputError as error:
            damage.append(str(error))
    for epoch in sorted(histories, reverse=True):
        if best_epoch(histories[epoch]) in histories:
            return histories[epoch], damage
    return [], damage


def _check(folder: Path, epoch: int, path: Path) -> History:
    """Return the history up to a checkpoint; refuse a damaged one."""
    content, history = _read_notes(folder, epoch)
    try:
        if digest_of(path) != content.get("sha256"):
            raise ValueError("it was changed after it was written")
    except (OSError, ValueError) as error:
        raise InputError(f"can't read {path}: {error}.") from error
    return history


def _read_notes(folder: Path, epoch: int) -> tuple[dict[str, Any], History]:
    """Return the notes of a checkpoint, and the history in them."""
    notes = folder / NOTES.format(epoch)
    content = read_json(notes)
    try:
        history = check_history(content.get("history"))
    except (TypeError, ValueError) as error:
        raise InputError(f"can't read {notes}: it has no history.") from error
    if len(history) != epoch:
        raise InputError(f"can't read {notes}: it must have {epoch} epochs, got {len(history)}.")
    return content, history


def check_against_notes(history: History, file: Path) -> None:
    """Refuse a history (read from `file`) that differs from the notes of the last checkpoint.

    Raises:
        InputError: if they differ, or the notes are damaged.
    """
    if (file.parent / NOTES.format(len(history))).exists():
        _, written = _read_notes(file.parent, len(history))
        if str(written) != str(history):  # NaN is not equal to itself
            raise InputError(f"{file} was changed after it was written.")


def remove_checkpoints(folder: Path, keep: Collection[int] = ()) -> None:
    """Delete all checkpoints except for some epochs."""
    kept = {name.format(epoch) for name in (CHECKPOINT, NOTES) for epoch in keep}
    for path in folder.glob("checkpoint-*"):
        if path.name not in kept and re.fullmatch(r"checkpoint-\d+\.(weights\.h5|json)", path.name):
            remove(path)
