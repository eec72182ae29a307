"""Find the images of a folder, with their classes and parts (train, val, test).

- A file is an image if its suffix is one of `SUFFIXES`, in upper or lower case. Its content is
  checked when it is read (`se_keras.images`).
- Names that begin with "." and `__MACOSX` are left out, at every depth.
- Each folder on the first level is a class; its images may be at any depth. A class folder may be
  a link. Links to folders below it are not followed, because they could form a circle.
- If the first level has `train` and also `val` (`valid`, `validation`) or `test`, these folders are
  the parts of the data, and the classes are one level below.
"""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from se_keras.images import line_of, name_of
from se_keras.support.arguments import did_you_mean
from se_keras.support.errors import InputError
from se_keras.support.files import neighbors

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif"),
    *(".tif", ".tiff"),
)
# Names of the parts, in upper or lower case.
PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# The number of files, classes or kinds that a message names; it only counts the others.
NAMED = 10
# Images that a thread reads between two reports: a report costs as much as a small image.
CHUNK = 16


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The files of a folder that are left out: their number and the first one, by reason."""

    first: dict[str, str] = field(default_factory=dict)
    count: Counter = field(default_factory=Counter)

    def add(self, reason: str, path: str) -> None:
        self.first.setdefault(reason, line_of(path))
        self.count[reason] += 1

    def __bool__(self) -> bool:
        return bool(self.count)

    @property
    def in_words(self) -> str:
        """Return the reasons, each with the number of files and the first file."""
        return ", ".join(
            f"{self.count[reason]:,} {reason} ({first}{', ...' if self.count[reason] > 1 else ''})"
            for reason, first in self.first.items()
        )

    def __str__(self) -> str:
        """Return one line; an empty one if nothing was left out.

        Example:

        >>> left_out = LeftOut()
        >>> left_out.add("hidden", "cat/.DS_Store")
        >>> print(left_out)
        Left out: 1 hidden (cat/.DS_Store).
        """
        return f"Left out: {self.in_words}." if self else ""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassFolder:
    """The images of a folder, with their classes.

    Attributes:
        folder: path of the folder.
        class_names: names of the classes, by number.
        files: paths of the images relative to the folder, class by class within each part.
        labels: class number of each image.
        parts: part of each image ("train", "val" or "test"); empty if the folder is not divided.
        left_out: files that are not images.
    """

    folder: Path
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    labels: np.ndarray
    parts: np.ndarray
    left_out: LeftOut

    @property
    def paths(self) -> list[str]:
        return [os.path.join(self.folder, file) for file in self.files]


def list_images(folder: str | os.PathLike) -> tuple[list[str], LeftOut]:
    """Find the images of a folder at any depth.

    Returns:
        The sorted paths, and the files that were left out.

    Raises:
        InputError: if a folder can't be read.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from se_keras.folders import list_images
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("a.PNG", "b.txt", "._a.png"):
    ...     (root / name).touch()
    >>> paths, left_out = list_images(root)
    >>> [Path(path).name for path in paths], str(left_out)
    (['a.PNG'], 'Left out: 1 hidden (._a.png), 1 without a suffix of an image (b.txt).')
    """
    left_out = LeftOut()
    files = _find_images(os.fspath(folder), "", left_out)
    return [os.path.join(folder, file) for file in files], left_out


def find_images(sources: Iterable[str | os.PathLike]) -> tuple[list[str], LeftOut]:
    """Find the images that a user names: files, folders at any depth, and patterns.

    Args:
        sources: paths, or patterns of paths with `*`, `?`, `[...]` and `**`. A file that is named
            directly may have any suffix; a file that a pattern finds must have the suffix of an
            image. Missing files are returned too: reading them raises the error.

    Returns:
        The paths, each once, and the files that were left out.

    Raises:
        InputError: if a folder can't be read.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from se_keras.folders import find_images
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("a.png", "b.txt"):
    ...     (root / name).touch()
    >>> [Path(path).name for path in find_images([root / "*", root / "c.png"])[0]]
    ['a.png', 'c.png']
    """
    left_out = LeftOut()
    found: dict[str, None] = {}
    for source in (os.fspath(each) for each in sources):
        matches = [] if os.path.lexists(source) else sorted(glob.glob(source, recursive=True))
        for path in matches or [source]:
            if os.path.isdir(path):
                inside = _find_images(path, "", left_out)
                found |= dict.fromkeys(os.path.join(path, file) for file in inside)
            elif matches and not _has_suffix(path):
                left_out.add("without a suffix of an image", path)
            else:
                found[path] = None
    return list(found), left_out


def list_classes(folder: str | os.PathLike) -> ClassFolder:
    """Find the images of a folder that has a folder for each class.

    Raises:
        InputError: if there are fewer than two classes, a class has no images, the folder mixes
            parts with classes, or its parts do not have the same classes.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from se_keras.folders import list_classes
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("cat/1.png", "dog/old/2.jpeg", "dog/3.webp"):
    ...     (root / name).parent.mkdir(parents=True, exist_ok=True)
    ...     (root / name).touch()
    >>> found = list_classes(root)
    >>> found.class_names, found.labels.tolist()
    (('cat', 'dog'), [0, 1, 1])
    """
    root = os.fspath(folder)
    if not os.path.isdir(root):
        hint = did_you_mean(root, neighbors(root))
        raise InputError(f"there is no folder {line_of(root)}.{hint}")
    left_out = LeftOut()
    folders = _find_folders(root, "", left_out)
    parts = _find_parts(root, folders)
    if not parts:
        names, files, labels = _find_classes(root, "", folders, left_out)
        divided = np.array([], str)
    else:
        found = {
            part: _find_classes(root, top, _find_folders(root, top, left_out), left_out)
            for part, top in parts.items()
        }
        names = _check_same_classes(root, parts, {part: x[0] for part, x in found.items()})
        files = [file for _, of_part, _ in found.values() for file in of_part]
        labels = [label for _, _, of_part in found.values() for label in of_part]
        divided = np.repeat(list(found), [len(of_part) for _, of_part, _ in found.values()])
    return ClassFolder(
        folder=Path(root),
        class_names=tuple(map(name_of, names)),
        files=tuple(files),
        labels=np.array(labels, int),
        parts=divided,
        left_out=left_out,
    )


def for_each_image(
    read: Callable[[int], None], count: int, progress: Callable[[int], None] | None = None
) -> None:
    """Read image files in several threads, and collect the errors of unreadable files.

    Args:
        read: function that reads an image, given its number; it raises `InputError` if the file
            can't be read.
        count: number of images.
        progress: function that regularly gets the number of finished images.

    Raises:
        InputError: if any file can't be read; the message names the first ones and their number.

    Example:

    >>> from se_keras.folders import for_each_image
    >>> seen = set()
    >>> for_each_image(seen.add, 3)
    >>> seen
    {0, 1, 2}
    """

    def errors_of(start: int) -> list[str]:
        return list(
            filter(None, (_attempt(read, n) for n in range(start, min(start + CHUNK, count))))
        )

    errors: list[str] = []
    starts = range(0, count, CHUNK)
    with ThreadPoolExecutor(_threads()) as pool:
        try:
            for start, found in zip(starts, pool.map(errors_of, starts), strict=True):
                errors += found
                if progress:
                    progress(min(start + CHUNK, count))
        except BaseException:  # finish the images that are being read, and start no others
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if errors:
        raise InputError(_describe_errors(errors, count))


def _attempt(read: Callable[[int], None], number: int) -> str | None:
    try:
        read(number)
    except InputError as error:
        return str(error)
    return None


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _describe_errors(errors: list[str], count: int) -> str:
    if len(errors) == 1:
        return errors[0]
    reasons = "; ".join(
        error.removeprefix("can't read the image ").rstrip(".") for error in errors[:NAMED]
    )
    more = f"; and {len(errors) - NAMED:,} more" if len(errors) > NAMED else ""
    return f"can't read {len(errors):,} of {count:,} images: {reasons}{more}."


# --- scanning ------------------------------------------------------------------------------------


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _has_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _find_images(root: str, top: str, left_out: LeftOut) -> list[str]:
    """Find the images below `root/top`, relative to `root`, folder by folder, sorted by name."""
    images = []
    for where, folders, names in sorted(_walk(os.path.join(root, top))):
        inside = where[len(os.path.join(root, "")) :]
        hidden = any(map(_is_hidden, inside.split(os.sep)))
        for name in sorted(names):
            path = os.path.join(inside, name)
            if hidden or _is_hidden(name):
                left_out.add("hidden", path)
            elif not _has_suffix(name):
                left_out.add("without a suffix of an image", path)
            else:
                images.append(path)
        for name in folders:
            if os.path.islink(os.path.join(where, name)):
                left_out.add("a link to a folder", os.path.join(inside, name))
    return images


def _walk(top: str, refuse: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder with the names of the folders and files in it.

    `os.walk` does this too, but it calls itself for each level, and fails in very deep folders.
    """
    waiting = [top]
    while waiting:
        where = waiting.pop()
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(where) as entries:
                for entry in entries:
                    (folders if os.path.isdir(entry.path) else files).append(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError as error:
            if refuse:
                _refuse(error)
        yield where, folders, files


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"can't read the folder {line_of(Path(error.filename))}: {error.strerror}.")


def _find_folders(root: str, top: str, left_out: LeftOut) -> list[str]:
    """Find the visible folders of `root/top`, relative to `root`; count the rest as left out."""
    folders = []
    try:
        entries = sorted(os.listdir(os.path.join(root, top)))
    except OSError as error:
        _refuse(error)
    for name in entries:
        path, inside = os.path.join(root, top, name), os.path.join(top, name)
        if _is_hidden(name):
            _count_hidden(root, inside, left_out)
        elif os.path.isdir(path):
            if _holds_root(path, root):
                left_out.add("a link in a circle", inside)
            else:
                folders.append(inside)
        elif _has_suffix(name):
            left_out.add("outside of the class folders", inside)
        else:
            left_out.add("without a suffix of an image", inside)
    return folders


def _count_hidden(root: str, path: str, left_out: LeftOut) -> None:
    inside = [
        os.path.relpath(os.path.join(where, name), root)
        for where, _, names in _walk(os.path.join(root, path), refuse=False)
        for name in names
    ]
    for hidden in inside or [path]:
        left_out.add("hidden", hidden)


def _holds_root(path: str, root: str) -> bool:
    """Return whether a folder is the root or contains it."""
    real, root = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, root]) == real


def _find_parts(root: str, folders: list[str]) -> dict[str, str]:
    """Find the folder of each part; return an empty dict if the folders are classes."""
    named = {
        part: [folder for folder in folders if folder.lower() in names]
        for part, names in PART_NAMES.items()
    }
    parts = {part: found[0] for part, found in named.items() if found}
    classes = [folder for folder in folders if not any(folder in x for x in named.values())]
    if not parts:
        return {}
    where, has = line_of(root), f"has the parts {_join_names(parts.values())}"
    if classes:
        raise InputError(
            f"{where} {has} and also the class folders {_join_names(classes)}: move the classes "
            "into each part, or rename the parts if they are classes too."
        )
    for found in named.values():
        if len(found) > 1:
            raise InputError(
                f"{where} has {' and '.join(found)}, which name the same part: keep only one."
            )
    if "train" not in parts or len(parts) == 1:
        only = next(iter(parts.values()))
        raise InputError(
            f"{where} {has} only, but must have train and val or test. To divide the images of "
            f"{only}, give the folder {line_of(os.path.join(root, only))}."
        )
    return parts


def _check_same_classes(root: str, parts: dict[str, str], names: dict[str, list[str]]) -> list[str]:
    """Return the classes; refuse a part that lacks one."""
    every = sorted(set().union(*names.values()))
    for part, top in parts.items():
        missing = [name for name in every if name not in names[part]]
        if missing:
            where = line_of(os.path.join(root, top))
            raise InputError(
                f"{where} must have the classes {_join_names(missing)}, like the other parts."
            )
    return every


def _find_classes(
    root: str, top: str, folders: list[str], left_out: LeftOut
) -> tuple[list[str], list[str], list[int]]:
    """Return the names of the classes, the files, and the class number of each file."""
    names = [os.path.basename(folder) for folder in folders]
    if len(folders) < 2:
        raise InputError(
            f"{line_of(os.path.join(root, top))} must have a folder of images for each of at least "
            f"two classes, got {_join_names(names) or 'none'}."
        )
    files = [_find_images(root, folder, left_out) for folder in folders]
    empty = [folder for folder, images in zip(folders, files, strict=True) if not images]
    if empty:
        where = _join_names([os.path.join(root, folder) for folder in empty])
        s = "s" if len(empty) > 1 else ""
        raise InputError(
            f"the class folder{s} {where} {'have' if s else 'has'} no images "
            f"({', '.join(SUFFIXES)})."
        )
    labels = [label for label, images in enumerate(files) for _ in images]
    return names, [file for images in files for file in images], labels


def _join_names(names: Iterable[str]) -> str:
    names = [line_of(name) for name in names]
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
