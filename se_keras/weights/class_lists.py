"""The class names of the data sets that published weights were trained on. Imports no keras."""

import functools
import importlib.resources

# The identifier and name of each class.
Labels = tuple[tuple[str, str], ...]
# `Pixels.labels` names one of these lists (`data/NAME_classes.txt`) or a source of weights.
LISTS = ("imagenet", "cifar10", "cifar100", "svhn")


@functools.cache
def labels_of_list(name: str) -> Labels:
    """Return the identifier and name of each class in a list.

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
    return tuple((identifier, name or identifier) for identifier, _, name in parts)
