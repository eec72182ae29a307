"""Write files so that they are complete or absent: to a temporary path, then rename.

Locks keep two processes from writing the same path.
"""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from se_keras.support.errors import InputError, in_one_line
from se_keras.support.signals import signals_wait

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial-"
# The number of neighboring paths that are compared with a missing one for a suggestion.
MOST_NEIGHBORS = 1000
# The old version has this name until the new version is in its place.
OLD = ".old"
# Linux' numbers, for `renameat2`.
AT_FDCWD, RENAME_EXCHANGE = -100, 2
MAX_JSON = 2**27  # bytes
# The field of a JSON file that has the checksum of the other fields.
SEAL = "checksum"
ZIP_YEARS = range(1980, 2108)
# The disk is full, or a quota or a limit is reached.
NO_ROOM = ("ENOSPC", "EDQUOT", "EFBIG")


# --- writing -------------------------------------------------------------------------------------


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Provide a temporary path to write to, and rename it to `path` at the end.

    After an error `path` is unchanged and the temporary path is deleted. Both files and folders
    can be written, and replaced; but a file only replaces a folder that is empty.

    Raises:
        InputError: if another process is writing `path` or has made a folder there meanwhile, the
            disk is full, or a file would replace a folder that holds files.

    Example:

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with written_beside(target) as partial:
    ...     _ = partial.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    with claimed(path) as folder:
        # Keep the name, because Keras derives the format from its suffix.
        partial = folder / path.name
        remove(partial)
        was_folder = path.is_dir()
        with _lack_named(path, folder):
            yield partial
        if _is_gone(folder):
            raise _gone(path)
        with _kept_from_others(path, was_folder):
            if not partial.is_dir() and _holds_files(path):
                raise InputError(f"can't write {path}: it is a folder that holds files.")
            _put_in_place(partial, path)


def _put_in_place(partial: Path, path: Path) -> None:
    if path.is_dir() or (partial.is_dir() and os.path.lexists(path)):
        if _exchange(partial, path):
            return
        os.replace(path, partial.with_name(OLD))
    os.replace(partial, path)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step, so that a kill can't leave one of them empty.

    Returns:
        Whether it was done: only Linux can, on most file systems.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    a, b = (ctypes.c_char_p(os.fsencode(path)) for path in (first, second))
    return rename is not None and rename(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0


@contextmanager
def _kept_from_others(path: Path, was_folder: bool) -> Iterator[None]:
    """Refuse to replace a folder that another process has made meanwhile, or trains into."""
    if not path.is_dir():
        yield
        return
    taken = f"can't write {path}: another process has made a folder there meanwhile."
    if not was_folder:
        raise InputError(taken)
    lock = lock_folder(path, f"can't write {path}: another process is using it.")
    try:
        yield
    finally:
        unlock(lock)


def _holds_files(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


@contextmanager
def _lack_named(path: Path, folder: Path) -> Iterator[None]:
    """Name a full disk, a folder that is gone, a wrong clock: libraries' errors rarely do."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if lacks_room(error):
            raise _unwritable(path, error) from error
        if _is_gone(folder):
            raise _gone(path) from error
        year = time.localtime().tm_year
        if path.suffix == ".keras" and year not in ZIP_YEARS:
            raise InputError(
                f"can't write {path}: the clock says {year}, a year that zip files do not have."
            ) from error
        raise


def _is_gone(folder: Path) -> bool:
    return not _is_locked_by(_CLAIMED.get(os.path.abspath(folder)), folder)


def _gone(path: Path) -> InputError:
    return InputError(f"can't write {path}: its folder was removed meanwhile.")


def lacks_room(error: Exception) -> bool:
    """Return whether an error means a full disk, or a reached quota or limit of file size.

    Example:

    >>> from se_keras.support.files import lacks_room
    >>> lacks_room(OSError(28, "No space left on device"))
    True
    >>> lacks_room(RuntimeError("variables.index: No space left on device"))
    True
    """
    return _room_lacking(error) is not None


def _room_lacking(error: Exception) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    for name in NO_ROOM:
        ours = getattr(errno, name, None)
        # TensorFlow and HDF5 only quote the system's message.
        if ours and (ours == number or os.strerror(ours) in str(error)):
            return os.strerror(ours)
    return None


def _unwritable(path: Path, error: Exception) -> InputError:
    number = error.errno if isinstance(error, OSError) else None
    reason = _room_lacking(error) or (os.strerror(number) if number else in_one_line(error))
    return InputError(f"can't write {path}: {reason}.")


@contextmanager
def claimed(path: Path) -> Iterator[Path]:
    """Keep other processes from writing `path` during a long command.

    Returns:
        A folder next to `path` for incomplete files. It is deleted at the end; a folder of a
        killed process is reused.

    Raises:
        InputError: if another process is about to write `path`, or it is a link to nothing.

    Example:

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with claimed(target):  # and inside, at last:
    ...     write_json(target, {})
    >>> [path.name for path in target.parent.iterdir()]
    ['a.txt']
    """
    folder = path.with_name(PARTIAL + path.name)
    key = os.path.abspath(folder)
    if key in _CLAIMED:  # the command that this call is a part of has claimed it
        yield folder
        return
    if path.is_symlink() and not path.exists():
        raise InputError(f"can't write {path}: it is a link to nothing.")
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        _begin_claim(folder, path)
        yield folder
    finally:
        with signals_wait():
            _end_claim(folder, path)
            remove_empty(missing)


def _begin_claim(folder: Path, path: Path) -> None:
    taken = f"another process is writing {path}: wait until it has finished."
    try:
        with signals_wait():
            _CLAIMED[os.path.abspath(folder)] = _lock_new(folder, taken)
            _put_back(folder, path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _end_claim(folder: Path, path: Path) -> None:
    lock = _CLAIMED.pop(os.path.abspath(folder), None)
    if lock is not None and _is_locked_by(lock, folder):
        _put_back(folder, path)
        remove(folder)
    else:
        with suppress(OSError):  # the path may be one that can't exist
            _remove_unless_locked(folder)
    if lock is not None:
        unlock(lock)


def _put_back(folder: Path, path: Path) -> None:
    """Put the old output back, or delete it, after its replacement was interrupted."""
    if os.path.lexists(folder / OLD) and not os.path.lexists(path):
        os.replace(folder / OLD, path)
    remove(folder / OLD)


@contextmanager
def temporary_files_beside(path: Path) -> Iterator[None]:
    """Let libraries put temporary files next to `path`, where the next command deletes them.

    A killed process would leave them in the folder of all temporary files.

    Raises:
        InputError: if another process is about to write `path`.

    Example:

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with temporary_files_beside(target):
    ...     Path(tempfile.mkdtemp()).parent.name
    '.partial-a.txt'
    """
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with claimed(path) as folder:
        if is_utf8(os.path.abspath(folder)):  # TensorFlow reads no other names
            tempfile.tempdir = os.environ["TMPDIR"] = os.path.abspath(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            os.environ.pop("TMPDIR", None)
            os.environ.update({"TMPDIR": variable} if variable else {})


def is_utf8(path: str | os.PathLike) -> bool:
    """Return whether a path, or a text with it, is valid UTF-8, which most libraries in C++ need.

    Example:

    >>> from se_keras.support.files import is_utf8
    >>> is_utf8("\u00e9"), is_utf8(os.fsdecode(b"\\xe9"))
    (True, False)
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


# The lock of each folder that this process has claimed.
_CLAIMED: dict[str, int] = {}


def _is_locked_by(lock: int | None, folder: Path) -> bool:
    """Return whether a folder is still the one that was locked."""
    if fcntl is None or lock is None:
        return folder.is_dir()
    return folder.is_dir() and os.path.samestat(os.fstat(lock), folder.stat())


def _lock_new(folder: Path, taken: str) -> int:
    """Make a folder and lock it; the lock also ends when the process is killed."""
    while True:
        if not folder.is_dir():
            remove(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has just removed it
            lock = lock_folder(folder, taken)
            if folder.is_dir() and os.path.samestat(os.fstat(lock), folder.stat()):
                return lock
            unlock(lock)


def remove_left(folder: Path) -> None:
    """Delete what killed processes left in a folder; leave what others are writing.

    Example:

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / ".partial-a.json").mkdir()
    >>> with claimed(folder / "b.json"):
    ...     remove_left(folder)
    ...     [path.name for path in folder.iterdir()]
    ['.partial-b.json']
    """
    for partial in folder.glob(PARTIAL + "*"):
        _remove_unless_locked(partial)


def _remove_unless_locked(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        remove(path)
        return
    with suppress(InputError, FileNotFoundError):
        lock = lock_folder(path, "")
        try:
            remove(path)
        finally:
            unlock(lock)


def lock_folder(folder: Path, taken: str) -> int:
    """Lock a folder until `unlock`, or until the process ends.

    Args:
        folder: an existing folder.
        taken: the error message if another process has the lock.

    Returns:
        A descriptor, for `unlock`.

    Raises:
        InputError: if another process has the lock.

    Example:

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> lock = lock_folder(folder, "taken")
    >>> lock_folder(folder, "taken")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: taken
    >>> unlock(lock)
    """
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY)
    # A lock file would remain if the process was killed.
    lock = os.open(folder, os.O_RDONLY)
    _LOCKS.add(lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        unlock(lock)
        raise InputError(taken) from None
    except OSError:  # some network file systems have no locks
        pass
    return lock


def unlock(lock: int) -> None:
    """End a lock of `lock_folder`."""
    _LOCKS.discard(lock)
    os.close(lock)


# The descriptors of all locks of this process.
_LOCKS: set[int] = set()


def _leave_locks() -> None:
    """Close what a forked process inherits: it would keep the locks after this one is killed."""
    while _LOCKS:
        os.close(_LOCKS.pop())


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_locks)


def remove(path: Path) -> None:
    """Delete a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def neighbors(path: str | os.PathLike) -> list[str]:
    """Return the paths in the folder of a path that may be missing, for a suggestion.

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


def remove_empty(folders: Iterable[Path]) -> None:
    """Delete those folders that are empty, inner folders before outer folders."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def write_json(path: Path, content: dict[str, Any], *, sealed: bool = False) -> None:
    """Write an object to a JSON file.

    Args:
        path: path of the file.
        content: the object.
        sealed: whether to add a checksum, so that `read_json` refuses the file after a change.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> write_json(path, {"a": 1}, sealed=True)
    >>> read_json(path)
    {'a': 1}
    """
    if sealed:
        content = {**content, SEAL: _seal(content)}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # Escapes can also hold the name of a file that is not valid UTF-8.
    text = text if is_utf8(text) else json.dumps(content, indent=2)
    with written_beside(path) as partial:
        partial.write_text(text + "\n", "utf-8")


def _seal(content: dict[str, Any]) -> str:
    # Seal the content as it is read back: tuples become lists, numbers as keys become texts.
    read_back = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows under a header to a CSV file."""
    with written_beside(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


# --- reading -------------------------------------------------------------------------------------


def open_regular(path: str | os.PathLike) -> io.BufferedReader:
    """Open a regular file for reading; refuse folders, pipes and devices.

    A pipe could block the reader, and a device could provide endless bytes.

    Raises:
        ValueError: if the path is not a regular file; the message says what it is.

    Example:

    >>> import os
    >>> from se_keras.support.files import open_regular
    >>> open_regular(os.devnull)
    Traceback (most recent call last):
    ...
    ValueError: it is not a regular file
    """
    _refuse_irregular(os.stat(path))
    # A pipe may have taken the file's place since the check.
    number = os.open(path, os.O_RDONLY | _NO_WAITING)
    try:
        _refuse_irregular(os.fstat(number))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def refuse_pipes(path: Path) -> None:
    """Refuse a file that is a pipe or a device, or a folder that holds one.

    Libraries that open files by name would wait for a pipe forever.

    Raises:
        ValueError: if there is one; the message names it.

    Example:

    >>> from se_keras.support.files import refuse_pipes
    >>> refuse_pipes(Path(os.devnull))
    Traceback (most recent call last):
    ...
    ValueError: /dev/null is not a regular file
    """
    for each in path.rglob("*") if path.is_dir() else [path]:
        if each.exists() and not (each.is_file() or each.is_dir()):
            raise ValueError(f"{each} is not a regular file")


_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _refuse_irregular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        is_folder = stat.S_ISDIR(status.st_mode)
        raise ValueError("it is a folder" if is_folder else "it is not a regular file")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, without its checksum.

    Raises:
        InputError: if the file is damaged, too large, or holds anything else.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> _ = path.write_text('{"a": 1, "a": 2}')
    >>> read_json(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: can't read ...a.json: it has 'a' twice.
    """
    with _damage_of(path):
        with open_regular(path) as file:
            text = file.read(MAX_JSON + 1)
        if len(text) > MAX_JSON:
            raise ValueError(f"it has more than {MAX_JSON:,} bytes")
        try:
            content = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
            is_sealed = isinstance(content, dict) and SEAL in content
            changed = is_sealed and content.pop(SEAL) != _seal(content)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"it is not valid JSON ({in_one_line(error)})") from error
        if changed:
            raise ValueError(
                f"it was changed after it was written; without its `{SEAL}` it is read as it is"
            )
        if not isinstance(content, dict):
            raise ValueError("it must hold a JSON object")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(x for x in names if names.count(x) > 1)!r} twice")
    return content


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file under its header.

    Args:
        path: path of the file.
        columns: required columns.

    Raises:
        InputError: if the file is damaged, or lacks a column.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> write_csv(path, ["epoch", "loss"], [[1, 0.5]])
    >>> read_csv(path, ["loss"])
    [{'epoch': '1', 'loss': '0.5'}]
    """
    with _damage_of(path):
        with open_regular(path) as file:
            text = file.read().decode("utf-8-sig")
        try:
            lines = csv.reader(io.StringIO(text, newline=""), strict=True)
            header, *rows = list(filter(None, lines)) or [[]]
        except csv.Error as error:
            raise ValueError(f"it is not valid CSV ({in_one_line(error)})") from error
        if missing := [name for name in columns if header.count(name) != 1]:
            raise ValueError(f"it must have exactly one column {missing[0]!r}")
        if any(len(row) != len(header) for row in rows):
            raise ValueError("its rows differ in length")
    return [dict(zip(header, row, strict=True)) for row in rows]


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or in_one_line(error)}.") from error
    except ValueError as error:
        raise InputError(f"can't read {path}: {in_one_line(error)[:300]}.") from error
