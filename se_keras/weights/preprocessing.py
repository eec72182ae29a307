"""Describe the pixels that weights were trained on. Imports no keras."""

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from se_keras.support.arguments import (
    Check,
    boolean,
    check_fields,
    finite_number,
    instance_of,
    items_of,
    number_between,
    one_of,
    positive_integer,
    positive_number,
    share,
    text,
    with_suggestions,
)
from se_keras.support.errors import InputError, shown
from se_keras.support.tables import format_table
from se_keras.weights.class_lists import LISTS

# The largest height or width of images that a model may take, in pixels.
MAX_SIDE = 4096
INTERPOLATIONS = ("bilinear", "bicubic")
# A source of weights has an address, or a dot: before the name of a training, or a suffix.
SOURCE = re.compile(r"hf://[\w.-]+/[\w.-]+(@[^@/]+)?(/[^@]+)?|(?!hf:).*[^.]\.[^.].*", re.DOTALL)
# The one value of `labels` that is not a source of weights.
IMAGENET = "imagenet"


@dataclass(frozen=True, kw_only=True)
class SecondSize:
    """A second image size at which weights were measured, like timm's `test_input_size`.

    Attributes:
        size: height and width.
        crop: side of the central crop, as a share of the resized image's shorter side.
        top1: accuracy in percent at this size; `None` if it was not published.

    Raises:
        InputError: for numbers that no size has.

    Example:

    >>> import se_keras
    >>> print(se_keras.pixels_of("seresnet50.ra2_in1k").second)
    288x288, 0.95 of the shorter side, top-1 81.29 %
    """

    size: int
    crop: float
    top1: float | None = None

    def __post_init__(self):
        percent = partial(number_between, least=0, most=100)
        check_fields(self, {"size": positive_integer, "crop": _share, "top1": percent})

    def __str__(self) -> str:
        accuracy = "" if self.top1 is None else f", top-1 {self.top1:.2f} %"
        return f"{self.size}x{self.size}, {self.crop:g} of the shorter side{accuracy}"


@with_suggestions
@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The pixels that a model takes, and how `load_image` makes them; prints as a table.

    With `mean` and `std` the model takes (pixel / 255 - mean) / std. With `raw=True` it takes
    pixels in 0..255 and normalizes them itself. With neither, its pixels are unknown.

    Attributes:
        size: height and width of the model's input, or a pair if they differ; `None` if the model
            takes any size, or if the size is unknown.
        crop: side of the central crop, as a share of the resized image's shorter side; `None` if
            it is unknown.
        interpolation: kind of resize, `"bilinear"` or `"bicubic"`; `None` if it is unknown.
        second: the second size at which published weights were measured; `None` if there is none.
        mean, std: one number for each channel, on a scale where white is 1.
        raw: whether the model normalizes pixels itself.
        channels: 3 for red, green and blue; 1 for gray.
        labels: where the names of the classes are: a list such as `"imagenet"`, or a source of
            weights; `None` if they are unknown.
        origin: where these facts come from, or why the pixels are unknown.

    Raises:
        InputError: if an attribute is not valid.

    Example:

    >>> import se_keras
    >>> half = (0.5, 0.5, 0.5)
    >>> print(se_keras.Pixels(size=32, mean=half, std=half, origin="my training"))
    pixels
    size         32x32, 3 channels
    values       (pixel / 255 - mean) / std, from -1 to 1
    mean         0.5, 0.5, 0.5
    std          0.5, 0.5, 0.5
    crop         1 of the shorter side, bilinear
    class names  unknown
    known from   my training
    """

    size: int | tuple[int, int] | None = None
    crop: float | None = 1.0
    interpolation: str | None = "bilinear"
    second: SecondSize | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    raw: bool = False
    channels: int = 3
    labels: str | None = None
    origin: str = "the caller"

    def __post_init__(self):
        checks: dict[str, Check] = {
            "size": _size,
            "crop": _crop,
            "interpolation": partial(one_of, choices=(None, *INTERPOLATIONS)),
            "channels": partial(one_of, choices=(1, 3)),
            "raw": boolean,
            "second": _second,
            "mean": self._one_a_channel(finite_number),
            "std": self._one_a_channel(positive_number),
            "labels": _labels,
            "origin": text,
        }
        check_fields(self, checks)
        if (self.mean is None) != (self.std is None) or (self.raw and self.mean is not None):
            raise InputError("`mean` and `std` must be given together, and without `raw=True`.")

    def _one_a_channel(self, check: Check) -> Check:
        def checked(argument: str, values: Any) -> tuple[float, ...]:
            row = items_of(values)
            if row is None or len(row) != self.channels:
                raise InputError(
                    f"`{argument}` must be {self.channels} numbers, got {shown(values)}."
                )
            return tuple(check(argument, value) for value in row)

        return checked

    @property
    def unknown(self) -> bool:
        """Return whether the model's pixels are unknown."""
        return self.mean is None and not self.raw

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """Return the size as a pair; `None` if there is no single size."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def at_second_size(self) -> "Pixels | None":
        """Return a copy with the second size and its crop; `None` if there is no second size."""
        if self.second is None:
            return None
        return replace(self, size=self.second.size, crop=self.second.crop, second=None)

    @property
    def range(self) -> tuple[float, float] | None:
        """Return the smallest and largest input value of the model; `None` if unknown."""
        if self.raw:
            return 0.0, 255.0
        if self.mean is None or self.std is None:
            return None
        pairs = list(zip(self.mean, self.std, strict=True))
        return min((0 - mean) / std for mean, std in pairs), max(
            (1 - mean) / std for mean, std in pairs
        )

    def __str__(self) -> str:
        if self.range is None:
            return f"pixels unknown: {self.origin}"
        sides = self.height_and_width
        size = "any or unknown" if sides is None else "{}x{}".format(*sides)
        crop = "unknown" if self.crop is None else f"{self.crop:g} of the shorter side"
        formula = "raw pixels" if self.raw else "(pixel / 255 - mean) / std"
        rows = [
            ("size", f"{size}, {self.channels} channel{'s' * (self.channels > 1)}"),
            ("values", "{}, from {:.4g} to {:.4g}".format(formula, *self.range)),
            *((name, _text(getattr(self, name))) for name in ("mean", "std") if not self.raw),
            ("crop", f"{crop}, {self.interpolation or 'resize unknown'}"),
            *([("test size", self.second)] if self.second else []),
            ("class names", self.labels or "unknown"),
            ("known from", self.origin),
        ]
        return format_table(("pixels", ""), rows)


def _size(argument: str, value: Any) -> int | tuple[int, int]:
    sides = items_of(value)
    if sides is None:
        return positive_integer(argument, value)
    if len(value) != 2:
        raise InputError(
            f"`{argument}` must be an integer or a pair (height, width), got {shown(value)}."
        )
    height, width = (positive_integer(argument, side) for side in value)
    return height if height == width else (height, width)


def _share(argument: str, value: Any) -> float:
    wanted = "a number above 0 and at most 1"
    found = share(argument, value, wanted)
    if not found:
        raise InputError(f"`{argument}` must be {wanted}, got {shown(value)}.")
    return found


def _crop(argument: str, value: Any) -> float | None:
    return None if value is None else _share(argument, value)


def _labels(argument: str, value: Any) -> str:
    """Check the form of a source of class names; it is read only when the names are needed."""
    name = text(argument, value)
    if name not in LISTS and not SOURCE.fullmatch(name):
        raise InputError(
            f"`{argument}` must be one of {LISTS}, the name of published weights such as "
            "'seresnet50.a1_in1k', 'hf://owner/repo', or the path of a file of weights, got "
            f"{shown(value)}."
        )
    return name


def _second(argument: str, value: Any) -> SecondSize | None:
    return value if value is None else instance_of(argument, value, SecondSize, "a SecondSize")


def _text(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)
