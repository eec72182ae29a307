"""Files that are whole or not there: written beside and renamed."""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from se_keras.support.errors import InputError

PARTIAL = ".partial-"
# Of the paths beside a missing one so many are looked at for a suggestion.
MOST_NEIGHBORS = 1000


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to, and rename it to `path` at the end.

    An error in between leaves `path` as it was and nothing beside it. Works for files and folders,
    in place of either.

    Example:

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with written_beside(target) as partial:
    ...     _ = partial.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    # The suffix stays at the end: Keras picks the format by it.
    partial = path.with_name(PARTIAL + path.name)
    remove(partial)
    try:
        yield partial
    except BaseException:
        remove(partial)
        raise
    if path.is_dir() or partial.is_dir():
        remove(path)
    os.replace(partial, path)


def remove(path: Path) -> None:
    """Delete a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def neighbors(path: str | os.PathLike) -> list[str]:
    """Return the paths in the folder of a path, which need not be there, for a suggestion.

    Example:

    >>> import tempfile
    >>> from se_keras.support.files import neighbors
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "photos").mkdir()
    >>> neighbors(folder / "photso") == [str(folder / "photos")]
    True
    """
    folder = Path(path).parent
    try:
        with os.scandir(folder) as entries:
            return [str(folder / entry.name) for entry in islice(entries, MOST_NEIGHBORS)]
    except OSError:
        return []


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object to a JSON file."""
    with written_beside(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows under a header to a CSV file."""
    with written_beside(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        InputError: if the file is damaged, or holds anything else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:  # of the decoder, and of UTF-8's
        raise InputError(f"can't read {path}: it is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise InputError(f"can't read {path}: it must hold a JSON object.")
    return content
