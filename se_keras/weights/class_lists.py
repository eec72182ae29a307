"""Names of the classes of data sets that published weights were trained on. Imports no keras."""

import functools
import importlib.resources
from typing import Any

# Identifier and name of each class.
Labels = tuple[tuple[str, str], ...]
# What `Pixels.labels` may name besides a source of weights: lists in `data/NAME_classes.txt`.
LISTS = ("imagenet",)


@functools.cache
def labels_of_list(name: str) -> Labels:
    """Return identifier and name of each class of a list.

    Args:
        name: one of `LISTS`.

    Example:

    >>> from se_keras.weights.class_lists import labels_of_list
    >>> labels_of_list("imagenet")[1]
    ('n01443537', 'goldfish')
    """
    file = importlib.resources.files("se_keras") / "data" / f"{name}_classes.txt"
    lines = file.read_text("utf-8").splitlines()
    parts = (line.partition(" ") for line in lines if not line.startswith("#"))
    return tuple((number, name) for number, _, name in parts)


def labels_of_config(config: dict[str, Any]) -> Labels | None:
    """Return the classes that the `config.json` of a repository names; `None` if it names none."""
    names = config.get("label_names")
    if isinstance(names, dict):  # timm: number -> name, where numbers are left out
        count = config.get("num_classes", 0)
        names = [names.get(str(number), f"class {number}") for number in range(count)]
    if not names:
        return None
    descriptions = config.get("label_descriptions") or {}
    return tuple((str(name), str(descriptions.get(name, name))) for name in names)
