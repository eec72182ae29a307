"""Zip archives of others, unpacked within bounds."""

import shutil
import zipfile
from pathlib import Path

from se_keras.support.errors import InputError, damage_named, in_one_line

# A file may unpack to this many times what is stored of it. Numbers of a training hardly shrink.
MAX_EXPANSION = 100


def unpack_single_file(archive: Path, suffix: str, target: Path, called: str | None = None) -> None:
    """Write the one file that a zip archive holds to `target`.

    Args:
        archive: path of the archive.
        suffix: what the file's name must end with; the name decides nothing else.
        target: where the file goes.
        called: what messages call the archive; `None` for its path.

    Raises:
        InputError: if the archive is damaged, holds anything else, or a file that would take far
            more room than is stored of it.

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
        with zipfile.ZipFile(archive) as opened:
            member = _single_member(opened, suffix, archive.stat().st_size, called)
            with opened.open(member) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
                if unpacked.tell() != member.file_size:
                    raise zipfile.BadZipFile("it ends early")
    except (InputError, OSError, MemoryError):
        raise
    # Damage makes zipfile and the decompressors raise anything.
    except Exception as error:
        raise InputError(f"{called} is not a whole zip file: {in_one_line(error)}.") from error


def check_archive(archive: Path) -> None:
    """Read a zip archive through.

    Raises:
        InputError: if its checksums differ from what it holds.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.keras"
    >>> _ = path.write_bytes(b"no archive")
    >>> check_archive(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: can't read ...a.keras: File is not a zip file
    """
    with damage_named(f"can't read {archive}"), zipfile.ZipFile(archive) as opened:
        if damaged := opened.testzip():
            raise ValueError(f"its {damaged} is damaged.")


def _single_member(opened: zipfile.ZipFile, suffix: str, size: int, called: str) -> zipfile.ZipInfo:
    members = opened.infolist()
    if len(members) != 1 or not members[0].filename.lower().endswith(suffix):
        raise InputError(f"{called} must hold one file, {suffix}, and nothing else.")
    member = members[0]
    stored = min(member.compress_size, size)
    if member.file_size > MAX_EXPANSION * stored:
        raise InputError(
            f"{called} stores {stored:,} bytes of a file that would take {member.file_size:,}."
        )
    return member
