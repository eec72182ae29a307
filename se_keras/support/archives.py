"""Unpack untrusted zip archives within limits."""

import shutil
import zipfile
from pathlib import Path

from se_keras.support.errors import InputError, damage_named, in_one_line
from se_keras.support.files import open_regular

# A file may unpack to this multiple of its stored size. Trained weights hardly compress.
MAX_EXPANSION = 100


def unpack_single_file(archive: Path, suffix: str, target: Path, called: str | None = None) -> None:
    """Write the only file of a zip archive to `target`.

    Args:
        archive: path of the archive.
        suffix: required ending of the file's name, which is not used otherwise.
        target: path to write to.
        called: name of the archive in messages; `None` for its path.

    Raises:
        InputError: if the archive is damaged, holds anything else, or holds a file that would
            unpack to far more than its stored size.

    Example:

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with zipfile.ZipFile(folder / "a.txt.zip", "w") as writer:
    ...     writer.writestr("a.txt", "whole")
    >>> unpack_single_file(folder / "a.txt.zip", ".txt", folder / "b.txt")
    >>> (folder / "b.txt").read_text()
    'whole'
    """
    called = called or str(archive)
    try:
        with open_regular(archive) as file, zipfile.ZipFile(file) as opened:
            member = _single_member(opened, suffix, archive.stat().st_size, called)
            with opened.open(member) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
                if unpacked.tell() != member.file_size:
                    raise zipfile.BadZipFile("it is truncated")
    except (InputError, OSError, MemoryError):
        raise
    # A damaged file can make zipfile and the decompressors raise any error.
    except Exception as error:
        raise InputError(f"{called} is not a whole zip file: {in_one_line(error)}.") from error


def check_archive(archive: Path) -> None:
    """Read a whole zip archive and verify its checksums.

    Raises:
        InputError: if the archive is damaged.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.keras"
    >>> _ = path.write_bytes(b"no archive")
    >>> check_archive(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: can't read ...a.keras: File is not a zip file.
    """
    with (
        damage_named(f"can't read {archive}"),
        open_regular(archive) as file,
        zipfile.ZipFile(file) as opened,
    ):
        if damaged := opened.testzip():
            raise ValueError(f"its {damaged} is damaged")


def _single_member(opened: zipfile.ZipFile, suffix: str, size: int, called: str) -> zipfile.ZipInfo:
    members = opened.infolist()
    if len(members) != 1 or not members[0].filename.lower().endswith(suffix):
        raise InputError(f"{called} must hold exactly one file, which ends with {suffix}.")
    member = members[0]
    stored = min(member.compress_size, size)
    if member.file_size > MAX_EXPANSION * stored:
        raise InputError(
            f"{called} stores {stored:,} bytes, which would unpack to {member.file_size:,}."
        )
    return member
