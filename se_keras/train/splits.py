"""Divide a data set into training, validation and test images.

Parts that the data already have are used. A missing part is drawn from the training images: a share
of each class, by a seed.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from se_keras.support.errors import InputError
from se_keras.support.files import read_csv, write_csv
from se_keras.support.tables import visible
from se_keras.train.run_files import SPLIT_COLUMNS

PARTS = ("train", "validation", "test")
# The default shares of each class that are held out. The test part is drawn first.
SHARES = {"test": 0.2, "validation": 0.15}
# Classes with fewer images cause a warning.
FEW = 10
# The number of names, files or classes that a message lists; it counts the others.
NAMED = 5


def draw_parts(labels: np.ndarray, shares: dict[str, float], seed: int) -> np.ndarray:
    """Hold out random shares of each class, at least one image of each class.

    Args:
        labels: class numbers, (N,).
        shares: share of each held-out part.
        seed: seed of the draw.

    Returns:
        The part of each image, (N,): "train" if it is not held out.

    Example:

    >>> draw_parts(np.array([0] * 4 + [1] * 4), {"test": 0.25}, seed=0).tolist()
    ['train', 'train', 'test', 'train', 'train', 'train', 'train', 'test']
    """
    generator = np.random.default_rng(seed)
    parts = np.full(len(labels), "train", "<U10")
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        start = 0
        for part, share in shares.items():
            end = start + max(1, round(share * len(members)))
            parts[members[start:end]] = part
            start = end
    return parts


def divide(own: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Complete the parts that the data have, or draw all of them.

    Args:
        own: part of each image, (N,); empty if the data are not divided.
        labels: class numbers, (N,).
        seed: seed of the draw.

    Returns:
        The part of each image, (N,), and a description in words.

    Example:

    >>> parts, text = divide(np.array(["train"] * 9 + ["test"] * 3), np.array([0, 1, 2] * 4), 0)
    >>> [int((parts == part).sum()) for part in PARTS], text
    ([6, 3, 3], 'its own train and test; drawn from train by seed 0: 15% for validation')
    """
    there = [part for part in PARTS if part in own]
    drawn = {part: share for part, share in SHARES.items() if part not in there}
    parts = own.astype("<U10") if there else np.full(len(labels), "train", "<U10")
    inside = np.flatnonzero(parts == "train")
    parts[inside] = draw_parts(labels[inside], drawn, seed)
    texts = [f"its own {' and '.join([', '.join(there[:-1]), there[-1]])}"] if there else []
    if drawn:
        held_out = ", ".join(f"{share:.0%} for {part}" for part, share in drawn.items())
        source = "train" if there else "each class"
        texts.append(f"drawn from {source} by seed {seed}: {held_out}")
    return parts, "; ".join(texts)


def count_parts(parts: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count the images of each class (row) in each part (column), (classes, 3).

    Example:

    >>> count_parts(np.array(["train", "test", "train"]), np.array([0, 0, 1]), 2).tolist()
    [[1, 0, 1], [1, 0, 0]]
    """
    columns = [np.bincount(labels[parts == part], minlength=classes) for part in PARTS]
    return np.stack(columns, axis=1)


def check_counts(counts: np.ndarray, class_names: Sequence[str], where: str) -> None:
    """Refuse a class that has no image in a part.

    Raises:
        InputError: if there is such a class; the message names the first one and their number.
    """
    lacking = np.flatnonzero((counts == 0).any(axis=1))
    if not len(lacking):
        return
    first = lacking[0]
    train, validation, test = counts[first]
    total = counts[first].sum()
    s = "" if total == 1 else "s"
    more = f" So do {len(lacking) - 1} more classes." if len(lacking) > 1 else ""
    raise InputError(
        f"the class {class_names[first]} of {where} must have an image to train, to validate and "
        f"to test, got {total} image{s}: {train}, {validation} and {test}.{more}"
    )


def describe_small(counts: np.ndarray, class_names: Sequence[str]) -> str:
    """Return a warning about classes with few images; an empty text if there are none.

    Example:

    >>> describe_small(np.array([[20, 3, 4], [3, 1, 1]]), ["cat", "dog"])
    'Fewer than 10 images: dog (5). Results for such a class are uncertain.'
    """
    totals = counts.sum(axis=1)
    small = [
        f"{visible(class_names[n])} ({total})" for n, total in enumerate(totals) if total < FEW
    ]
    if not small:
        return ""
    more = f" and {len(small) - NAMED} more classes" if len(small) > NAMED else ""
    return (
        f"Fewer than {FEW} images: {', '.join(small[:NAMED])}{more}. Results for such a class are "
        "uncertain."
    )


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return class weights with which all classes count alike; the mean over images is 1.

    Example:

    >>> balanced_weights(np.array([0, 0, 0, 1]), 2).round(3).tolist()
    [0.667, 2.0]
    """
    return len(labels) / (classes * np.bincount(labels, minlength=classes))


# --- split.csv -----------------------------------------------------------------------------------


def write_parts(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write a row of file, class and part for each image."""
    write_csv(path, SPLIT_COLUMNS, rows)


def read_parts(path: Path, files: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Read the part of each image.

    Args:
        path: path of a file from `write_parts`.
        files: image files of the data, relative to their folder.
        classes: class of each image.

    Returns:
        The part of each image, (N,).

    Raises:
        InputError: if the file is damaged, or does not fit these images.
    """
    rows = read_csv(path, SPLIT_COLUMNS)
    found = {row["file"]: (row["class"], row["part"]) for row in rows}
    times = Counter(row["file"] for row in rows)
    known = dict(zip(files, classes, strict=True))
    _refuse(path, "names twice", [name for name, count in times.items() if count > 1])
    _refuse(path, "names what the data lack:", [name for name in found if name not in known])
    _refuse(path, "lacks", [name for name in files if name not in found])
    wrong = [name for name in files if found[name][0] != known[name]]
    _refuse(path, "has another class for", wrong)
    odd = [f"{name} ({found[name][1]})" for name in files if found[name][1] not in PARTS]
    _refuse(path, f"has a part other than {', '.join(PARTS)} for", odd)
    return np.array([found[name][1] for name in files])


def _refuse(path: Path, what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        raise InputError(f"the split {path} {what} {', '.join(names[:NAMED])}{more}.")
