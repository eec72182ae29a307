"""Images that are in two parts of a data set: what was learned is then asked again.

Each image is known by a small copy. Two copies are of the same picture where nearly all of their 64
steps from left to right, brighter or not, are the same, and their colors hardly differ. That finds
other sizes, formats and compressions of a picture, not turned, mirrored or cropped ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Of a small copy; each row is eight steps.
HEIGHT, WIDTH = 8, 9
COPY_SIZE = HEIGHT * WIDTH  # for each channel
# Steps of the 64 that may differ. Of four groups of 16 steps at least one is then the same.
MOST_STEPS = 3
# Mean difference of the copies' pixels, to their contrast.
MOST_DIFFERENCE = 0.1
# Groups of more images share something common, such as a white margin: only equal copies count.
CROWD = 50


@dataclass(frozen=True, kw_only=True)
class Twin:
    """An image that is held out, and one of another part that looks the same."""

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
    """Return the mean colors of 8 x 9 fields of an image (H, W, C), flat.

    Example:

    >>> small_copy(np.full((20, 30, 3), 7, "uint8")).shape
    (216,)
    """
    rows, columns = (
        np.linspace(0, size, fields + 1).astype(int)
        for size, fields in zip(image.shape[:2], (HEIGHT, WIDTH), strict=True)
    )
    # From the first to the last field: at each place the sum of all above and left of it.
    sums = np.zeros((image.shape[0] + 1, image.shape[1] + 1, image.shape[2]))
    sums[1:, 1:] = image.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    at = sums[rows][:, columns]
    totals = at[1:, 1:] - at[:-1, 1:] - at[1:, :-1] + at[:-1, :-1]
    areas = np.diff(rows)[:, None] * np.diff(columns)
    return (totals / np.maximum(areas, 1)[..., None]).astype("float32").ravel()


def find_twins(copies: np.ndarray, parts: np.ndarray, names: np.ndarray) -> list[Twin]:
    """Find held-out images that are in another part too.

    Args:
        copies: of the images, (N, 216), as `small_copy` gives them.
        parts: the name of each image's part, (N,).
        names: the name of each image, (N,).

    Returns:
        At most one pair for each image that is not of "train", which is the first one found.

    Example:

    >>> copies = np.random.default_rng(0).uniform(0, 255, (3, 216)).astype("float32")
    >>> copies[2] = copies[0] + 1
    >>> find_twins(copies, np.array(["train", "train", "test"]), np.array(["a", "b", "c"]))
    [Twin(file='c', part='test', twin='a', twin_part='train')]
    """
    steps = _steps(copies)
    found: dict[int, int] = {}
    for group in _groups(copies, steps):
        for one in group[parts[group] != "train"]:
            others = group[_precede(parts[group], parts[one])]
            if one in found or not len(others):
                continue
            same = others[_are_same(copies, steps, one, others)]
            if len(same):
                found[one] = same[0]
    return [
        Twin(
            file=str(names[one]),
            part=str(parts[one]),
            twin=str(names[other]),
            twin_part=str(parts[other]),
        )
        for one, other in sorted(found.items())
    ]


def _steps(copies: np.ndarray) -> np.ndarray:
    """Return for each image 64 times whether it gets brighter to the right, (N, 64)."""
    gray = copies.reshape(len(copies), HEIGHT, WIDTH, -1).mean(axis=-1)
    return (gray[:, :, 1:] > gray[:, :, :-1]).reshape(len(copies), -1)


def _precede(parts: np.ndarray, part: str) -> np.ndarray:
    """Whether each is of a part that another one must not repeat."""
    return parts == "train" if part == "validation" else parts != part


def _are_same(copies: np.ndarray, steps: np.ndarray, one: int, others: np.ndarray) -> np.ndarray:
    differing = (steps[others] != steps[one]).sum(axis=1)
    difference = np.abs(copies[others] - copies[one]).mean(axis=1)
    contrast = MOST_DIFFERENCE * copies[one].std()
    return (differing <= MOST_STEPS) & (difference <= contrast)


def _groups(copies: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
    """Give images that may be the same, in groups of which those of one picture share one."""
    quarters = np.packbits(steps, axis=1).view(">u2")
    for quarter in range(quarters.shape[1]):
        yield from (group for group in _equal(quarters[:, quarter]) if len(group) <= CROWD)
    whole = np.ascontiguousarray(copies).view(f"V{copies[0].nbytes}")[:, 0]
    yield from _equal(np.unique(whole, return_inverse=True)[1].ravel())


def _equal(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Give the places of each key that occurs more than once."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order])) + 1
    yield from (group for group in np.split(order, starts) if len(group) > 1)
