"""Find images that are in two parts of a data set, which makes test results too good.

Images are compared by small copies. Two copies show the same picture if nearly all of their 64
comparisons of neighbors (brighter to the right or not) agree, and their colors hardly differ. This
finds other sizes, formats and compressions of a picture, but no rotated, mirrored or cropped ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from se_keras.train.splits import PARTS

# Size of a small copy; each row has eight steps.
HEIGHT, WIDTH = 8, 9
COPY_SIZE = HEIGHT * WIDTH  # for each channel
# The number of the 64 steps that may differ. One of four groups of 16 steps is then the same.
MOST_STEPS = 3
# The largest mean difference of the copies' pixels, relative to their contrast.
MOST_DIFFERENCE = 0.1
# In larger groups, which share something such as a white margin, only equal copies count.
CROWD = 500


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A held-out image, and an image of another part that looks the same."""

    file: str
    part: str
    twin: str
    twin_part: str

    def __str__(self) -> str:
        """Return the pair in words.

        Example:

        >>> print(Twin(file="a.png", part="test", twin="b.jpg", twin_part="train"))
        a.png (test) and b.jpg (train)
        """
        return f"{self.file} ({self.part}) and {self.twin} ({self.twin_part})"


def small_copy(image: np.ndarray) -> np.ndarray:
    """Return the mean colors of 8 x 9 fields of an image, as a flat uint8 array.

    Example:

    >>> small_copy(np.full((20, 30, 3), 7, "uint8")).shape
    (216,)
    """
    rows, columns = (
        np.linspace(0, size, fields + 1).astype(int)
        for size, fields in zip(image.shape[:2], (HEIGHT, WIDTH), strict=True)
    )
    bands = np.stack([image[a:b].sum(axis=0, dtype="uint32") for a, b in pairwise(rows)])
    totals = np.stack([bands[:, a:b].sum(axis=1) for a, b in pairwise(columns)], axis=1)
    areas = np.diff(rows)[:, None] * np.diff(columns)
    return np.round(totals / np.maximum(areas, 1)[..., None]).astype("uint8").ravel()


def find_twins(copies: np.ndarray, parts: np.ndarray, names: np.ndarray) -> list[Twin]:
    """Find held-out images that are in another part too.

    Args:
        copies: small copies of the images, (N, 216).
        parts: part of each image, (N,).
        names: name of each image, (N,).

    Returns:
        At most one pair for each image outside of "train".

    Example:

    >>> copies = np.random.default_rng(0).integers(0, 250, (3, 216)).astype("uint8")
    >>> copies[2] = copies[0] + 1
    >>> find_twins(copies, np.array(["train", "train", "test"]), np.array(["a", "b", "c"]))
    [Twin(file='c', part='test', twin='a', twin_part='train')]
    """
    found = _find_equal(copies, parts)
    steps = _steps(copies)
    for group in _groups(steps):
        for one in group[parts[group] != "train"]:
            if one not in found:
                others = group[_precede(parts[group], parts[one])]
                for same in _first_same(copies, steps, one, others):
                    found[one] = same
    return [
        Twin(
            file=str(names[one]),
            part=str(parts[one]),
            twin=str(names[other]),
            twin_part=str(parts[other]),
        )
        for one, other in sorted(found.items())
    ]


def _find_equal(copies: np.ndarray, parts: np.ndarray) -> dict[int, int]:
    """Map each image with an equal copy in an earlier part to the first such image."""
    found: dict[int, int] = {}
    whole = np.ascontiguousarray(copies).view(f"V{copies[0].nbytes}")[:, 0]
    for group in _equal(np.unique(whole, return_inverse=True)[1].ravel()):
        members = {part: group[parts[group] == part] for part in PARTS}
        for part in PARTS[1:]:
            before = np.concatenate([members[each] for each in PARTS[: PARTS.index(part)]])
            if len(before):
                found |= dict.fromkeys(members[part].tolist(), int(before[0]))
    return found


def _steps(copies: np.ndarray) -> np.ndarray:
    """Return whether each image gets brighter to the right, at 64 places, (N, 64)."""
    gray = copies.reshape(len(copies), HEIGHT, WIDTH, -1).mean(axis=-1)
    return (gray[:, :, 1:] > gray[:, :, :-1]).reshape(len(copies), -1)


def _precede(parts: np.ndarray, part: str) -> np.ndarray:
    """Return whether each image is in a part before `part`, which must not repeat it."""
    return np.isin(parts, PARTS[: PARTS.index(part)])


def _first_same(copies: np.ndarray, steps: np.ndarray, one: int, others: np.ndarray) -> np.ndarray:
    """Return the first of the others that shows the same picture, if there is one."""
    near = others[(steps[others] != steps[one]).sum(axis=1) <= MOST_STEPS]
    difference = np.abs(copies[near].astype(int) - copies[one]).mean(axis=1)
    return near[difference <= MOST_DIFFERENCE * copies[one].std()][:1]


def _groups(steps: np.ndarray) -> Iterator[np.ndarray]:
    """Yield groups of images that may show the same picture."""
    quarters = np.packbits(steps, axis=1).view(">u2")
    for quarter in range(quarters.shape[1]):
        yield from (group for group in _equal(quarters[:, quarter]) if len(group) <= CROWD)


def _equal(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the positions of each key that occurs more than once."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order])) + 1
    yield from (group for group in np.split(order, starts) if len(group) > 1)
