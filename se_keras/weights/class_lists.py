"""Names of the classes of data sets that published weights were trained on. Imports no keras."""

import functools
import importlib.resources

# Identifier and name of each class.
Labels = tuple[tuple[str, str], ...]
# What `Pixels.labels` may name besides a source of weights: lists in `data/NAME_classes.txt`.
LISTS = ("imagenet", "cifar10", "cifar100", "svhn")


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
    return tuple((identifier, name or identifier) for identifier, _, name in parts)
