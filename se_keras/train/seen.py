"""Find out which images a run has used before, and in which part."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from se_keras.folders import for_each_image
from se_keras.images import line_of
from se_keras.support.errors import InputError
from se_keras.support.files import read_csv
from se_keras.train.config import DEFAULTS
from se_keras.train.run_files import SPLIT_COLUMNS, check_written, read_settings_file
from se_keras.train.splits import PARTS


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The number of images that a run has used, in each part.

    Attributes:
        images: number of compared images.
        train, validation, test: number of them in these parts of the run.
        by: "content", or "name" if the run's own images are missing.
    """

    images: int
    train: int = 0
    validation: int = 0
    test: int = 0
    by: str = "content"

    def __str__(self) -> str:
        """Return a warning in words; empty if the run was not trained or chosen on the images.

        Example:

        >>> print(Seen(images=40, train=12))
        The model was trained on 12 of these 40 images: its results would be worse on new images.
        """
        counts = {"trained on": self.train, "chosen by": self.validation}
        used = " and ".join(f"{text} {count:,}" for text, count in counts.items() if count)
        how = "" if self.by == "content" else " (judging by their names)"
        return used and (
            f"The model was {used} of these {self.images:,} images{how}: its results would be "
            "worse on new images."
        )


def run_of(path: Path) -> Path | None:
    """Return the folder of a model's run: the path itself, or the folder that contains it."""
    # Also links to nothing and folders with these names: the reader refuses them.
    names = ("split.csv", "settings.json")
    folders = (path, path.parent)
    return next((x for x in folders if all(os.path.lexists(x / name) for name in names)), None)


def find_seen(run: Path, paths: Sequence[str], names: Sequence[str]) -> Seen | None:
    """Compare image files with the images of a run, byte for byte.

    Args:
        run: the folder of a run.
        paths: paths of the images.
        names: paths of the images relative to the folder with the class folders.

    Returns:
        The number of images in each part; `None` if the run was not trained on a folder.

    Raises:
        InputError: if the files of the run are damaged, or an image can't be read.
    """
    root = read_settings_file(run).get("data", "")
    if root in DEFAULTS:
        return None
    check_written(run, ["split.csv"])
    parts = {row["file"]: row["part"] for row in read_csv(run / "split.csv", SPLIT_COLUMNS)}
    if os.path.isdir(root):
        found, by = _parts_by_content(root, parts, paths), "content"
    else:
        found, by = [parts[name] for name in names if name in parts], "name"
    train, validation, test = (found.count(part) for part in PARTS)
    return Seen(images=len(paths), train=train, validation=validation, test=test, by=by)


def _parts_by_content(root: str, parts: dict[str, str], paths: Sequence[str]) -> list[str]:
    """Return the part of each image that has the same bytes as an image of the run."""
    by_size = defaultdict(list)
    for file in parts:
        own = os.path.join(root, file)
        if os.path.isfile(own):
            by_size[os.path.getsize(own)].append(file)
    # Read only files of the same length.
    pairs = [(path, by_size[os.path.getsize(path)]) for path in paths if os.path.isfile(path)]
    wanted = {os.path.join(root, file): file for _, files in pairs for file in files}
    digests = _digest([*wanted, *(path for path, files in pairs if files)])
    # If a picture is in two parts, the training part counts.
    owns = sorted(wanted, key=lambda own: parts[wanted[own]] == "train")
    part_of = {digests[own]: parts[wanted[own]] for own in owns}
    found = (part_of.get(digests[path]) for path, files in pairs if files)
    return [part for part in found if part]


def _digest(paths: Sequence[str]) -> dict[str, bytes]:
    digests: dict[str, bytes] = {}

    def read(number: int) -> None:
        path = paths[number]
        try:
            with open(path, "rb") as file:
                digests[path] = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise InputError(f"can't read the image {line_of(path)}: {error.strerror}.") from error

    for_each_image(read, len(paths))
    return digests
