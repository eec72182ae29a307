"""Read and check the `config.json` of a repository on the hub.

The fields are timm's (timm, models/_hub.py). Imports no keras.
"""

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from se_keras.support.errors import InputError
from se_keras.support.schema import Fields, line, mapping, number, row, whole
from se_keras.weights.class_lists import Labels
from se_keras.weights.preprocessing import INTERPOLATIONS, MAX_SIDE, Pixels, SecondSize

# The largest set that timm names has 115,217 classes (Bamboo). A far larger number costs memory
# and time, and is a mistake or an attack.
MAX_CLASSES = 200_000
MAX_BYTES = 1 << 24
# timm has crops of up to 1.15 times the image, which `load_image` does not support.
MIN_CROP, MAX_CROP = 0.1, 2
MIN_STD, MAX_NUMBER = 1e-3, 1e3
NUMBER_AS_TEXT = re.compile("0|[1-9][0-9]{0,8}")

_SIZE = f"[channels, height, width], whole numbers from 1 to {MAX_SIDE:,}"
_CROP = f"a number from {MIN_CROP} to {MAX_CROP}"


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """The description of its weights in a repository.

    Attributes:
        architecture: name of the network; `None` if it is not given.
        num_classes: number of classes; `None` if it is not given.
        labels: identifier and name of each class; `None` if they are not given.
        pixels: the pixels that the weights take; unknown if they are not given, or if
            `load_image` does not support them.
    """

    architecture: str | None
    num_classes: int | None
    labels: Labels | None
    pixels: Pixels


def read_json_object(path: Path, source: str) -> dict[str, Any]:
    """Return the JSON object in a `config.json`.

    Args:
        path: path of the file.
        source: the repository, which errors name.

    Raises:
        InputError: if the file is too large, too deeply nested, or not an object.
        ValueError: if the file is not JSON.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(
            f"{source}: its config.json must have at most {MAX_BYTES:,} bytes, got {size:,}."
        )
    try:
        content = json.loads(path.read_text("utf-8"))
    except RecursionError as error:
        raise InputError(f"{source}: its config.json is nested too deeply.") from error
    if not isinstance(content, dict):
        raise InputError(f"{source}: its config.json must be a JSON object.")
    return content


def read_config(content: dict[str, Any], source: str) -> HubConfig:
    """Check the content of a `config.json`.

    Args:
        content: the object in the file.
        source: the repository, which errors name.

    Raises:
        InputError: if a field has a value that it may not have.

    Example:

    >>> from se_keras.weights.hub_config import read_config
    >>> config = {"architecture": "seresnet50", "num_classes": 2, "label_names": ["rose", "daisy"]}
    >>> read_config(config, "hf://me/flowers").labels
    (('rose', 'rose'), ('daisy', 'daisy'))
    >>> read_config({"num_classes": -1}, "hf://me/flowers")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: hf://me/flowers: `num_classes` of its config.json must be \
a whole number from 0 to 200,000, got -1.
    """
    fields = Fields(content, source, " of its config.json")
    count = partial(whole, least=0, most=MAX_CLASSES)
    wanted = f"a whole number from 0 to {MAX_CLASSES:,}"
    if "num_classes" in content:
        num_classes = fields.check("num_classes", content["num_classes"], count, wanted)
    else:
        num_classes = None
    labels = _labels(fields, num_classes)
    return HubConfig(
        architecture=fields.take("architecture", line, "the name of a network"),
        num_classes=num_classes,
        labels=labels,
        pixels=_pixels(fields, labels is not None),
    )


# --- names of classes ----------------------------------------------------------------------------


def _labels(fields: Fields, count: int | None) -> Labels | None:
    told = fields.content.get("label_names") not in ([], {})  # empty means no names, as in timm
    read = partial(_names, count=count)
    names = fields.take("label_names", read, _wanted_names(count)) if told else None
    descriptions = fields.take(
        "label_descriptions",
        lambda value: {name: line(text) for name, text in mapping(value).items()},
        "an object with a text for each name",
    )
    if names is None:
        return None
    return tuple((name, (descriptions or {}).get(name, name)) for name in names)


def _wanted_names(count: int | None) -> str:
    if count is None:
        return "a list of names, each one line of text (names by number need `num_classes`)"
    return (
        f"{count:,} names (`num_classes`), each one line of text, or an object with names for some "
        f"of the numbers from 0 to {count - 1:,}"
    )


def _names(value: Any, count: int | None) -> tuple[str, ...]:
    if isinstance(value, list):
        return row(value, line, count)
    if count is None:
        raise ValueError
    names = {_number_of(key, count): line(name) for key, name in mapping(value).items()}
    return tuple(names.get(number, f"class {number}") for number in range(count))


def _number_of(key: str, count: int) -> int:
    if not NUMBER_AS_TEXT.fullmatch(key):
        raise ValueError
    return whole(int(key), 0, count - 1)


# --- images --------------------------------------------------------------------------------------


def _pixels(fields: Fields, has_labels: bool) -> Pixels:
    source = fields.head
    # Older files of timm have these fields at the top level, without `pretrained_cfg`.
    image = fields.inside("pretrained_cfg") if "pretrained_cfg" in fields.content else fields
    size = image.take("input_size", _size, _SIZE)
    crop = image.take("crop_pct", _crop, _CROP)
    interpolation = image.take("interpolation", line, "the name of a resize")
    mode = image.take("crop_mode", line, "the name of a crop")
    channels = 3 if size is None else size[0]
    mean, std = (_numbers(image, name, channels) for name in ("mean", "std"))
    second = _second(image, crop)
    said = {"input_size": size, "crop_pct": crop, "interpolation": interpolation}
    missing = [name for name, value in (said | {"mean": mean, "std": std}).items() if value is None]
    if missing:
        return Pixels(
            origin=f"{source}: its config.json does not say how to prepare images: it lacks "
            f"{', '.join(missing)}"
        )
    usual = mode in (None, "center") and interpolation in INTERPOLATIONS
    if not (usual and _is_usual(size, crop)):
        return Pixels(
            origin=f"{source}: its config.json asks for images that `load_image` does not make: it "
            f"resizes ({' or '.join(INTERPOLATIONS)}) and takes a central square crop of three "
            f"colors. The file has input_size {list(size)}, crop_pct {crop:g}, interpolation "
            f"{interpolation!r}, crop_mode {mode or 'center'!r}"
        )
    return Pixels(
        size=size[1],
        crop=crop,
        interpolation=interpolation,
        second=second,
        mean=mean,
        std=std,
        labels=source if has_labels else None,
        origin=source,
    )


def _numbers(fields: Fields, name: str, channels: int) -> tuple[float, ...] | None:
    least = MIN_STD if name == "std" else -MAX_NUMBER
    one = partial(number, least=least, most=MAX_NUMBER)
    read = partial(row, read=one, length=channels)
    return fields.take(name, read, f"{channels} numbers from {least:g} to {MAX_NUMBER:g}")


def _size(value: Any) -> tuple[int, ...]:
    return row(value, partial(whole, least=1, most=MAX_SIDE), 3)


def _crop(value: Any) -> float:
    return number(value, least=MIN_CROP, most=MAX_CROP)


def _is_usual(size: tuple[int, ...], crop: float) -> bool:
    channels, height, width = size
    return channels == 3 and height == width and crop <= 1


def _second(fields: Fields, crop: float | None) -> SecondSize | None:
    """Read timm's test size; `None` if there is none, or none that `load_image` supports."""
    size = fields.take("test_input_size", _size, _SIZE)
    crop = fields.take("test_crop_pct", _crop, _CROP) or crop
    return SecondSize(size=size[1], crop=crop) if size and crop and _is_usual(size, crop) else None
