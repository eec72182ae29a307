"""Read h5 files of Keras 2: the weights alone, or a whole model."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from se_keras.weights.readers.hdf5 import Items, texts_of
from se_keras.weights.readers.tensors import Tensor

# Names of variables -> datasets of h5py.
Variables = Mapping[str, Any]

ROOT = "model_weights"  # the group of the weights in the file of a whole model


def weights_within(items: Items) -> Items:
    """Return the part of a file that holds weights: all of it, or a group of a whole model."""
    if ROOT not in items:
        return items
    below = {place: item for place, item in items.items() if place.startswith(f"{ROOT}/")}
    return {place.removeprefix(f"{ROOT}/"): item for place, item in below.items()} | {
        "": items[ROOT]
    }


def tensors_of_keras2(weights: Items) -> dict[str, Tensor]:
    """Return the tensors in the order in which Keras wrote the layers.

    Raises:
        ValueError: if the file has another layout, or its lists do not match its datasets.
    """
    return {name: _join_parts(datasets) for name, datasets in _parts_of_tensors(weights).items()}


def _join_parts(datasets: list[Any]) -> Tensor:
    *others, channels = datasets[0].shape or (1,)
    return Tensor(
        shape=(*others, channels * len(datasets)),
        dtype=str(datasets[0].dtype),
        read=partial(_concatenate, datasets),
    )


def _concatenate(datasets: list[Any]) -> np.ndarray:
    return np.concatenate([np.atleast_1d(dataset[()]) for dataset in datasets], axis=-1)


def _parts_of_tensors(items: Items) -> dict[str, list[Any]]:
    """Find the datasets of each tensor, in the order in which Keras wrote the layers.

    Returns:
        `layer/variable` -> one dataset. classification_models has one layer for each group of a
        grouped convolution: `first layer ... last layer/kernel` -> their datasets, to concatenate.

    Raises:
        ValueError: if the file has another layout, or its lists do not match its datasets.
    """
    groups = itertools.groupby(_layers(items).items(), _group_key)
    return dict(itertools.chain.from_iterable(_merge_groups(dict(group)) for _, group in groups))


def _layers(items: Items) -> dict[str, Variables]:
    """Return the layers that have weights."""
    names = list_of_texts(items[""], "layer_names")
    lost = [name for name in names if name not in items]
    if lost:
        raise ValueError(f"it has no layer {', '.join(lost)}")
    variables = {name: list_of_texts(items[name], "weight_names") for name in names}
    listed = Counter(f"{name}/{variable}" for name in names for variable in variables[name])
    held = Counter(place for place, item in items.items() if hasattr(item, "dtype"))
    different = (listed - held) + (held - listed)
    if different:
        raise ValueError(f"it does not list each of its tensors once: {', '.join(different)}")
    return {
        name: _shorten_names(
            {variable: items[f"{name}/{variable}"] for variable in variables[name]}
        )
        for name in names
        if variables[name]
    }


def list_of_texts(group: Any, attribute: str) -> list[str]:
    """Return a list of names; Keras 2 splits lists over 64 KB into `names0`, `names1`, ..."""
    whole = texts_of(group, attribute)
    if whole is not None:
        return whole
    numbered = (texts_of(group, f"{attribute}{number}") for number in itertools.count())
    split = list(itertools.takewhile(lambda texts: texts is not None, numbered))
    if not split:
        raise ValueError(f"{group.name} has no {attribute}")
    return [text for texts in split for text in texts or ()]


def _shorten_names(datasets: Variables) -> Variables:
    """Shorten `conv2d_1/kernel:0` to `kernel`, unless that is ambiguous."""
    short = {name.rpartition("/")[2].partition(":")[0]: item for name, item in datasets.items()}
    return short if len(short) == len(datasets) else datasets


def _group_key(layer: tuple[str, Variables]) -> Any:
    """Return a key that consecutive groups of one convolution share."""
    name, variables = layer
    if set(variables) != {"kernel"}:
        return name
    return variables["kernel"].shape, variables["kernel"].dtype


def _merge_groups(layers: Mapping[str, Variables]) -> Iterator[tuple[str, list[Any]]]:
    first, *others = layers
    name = f"{first} ... {others[-1]}" if others else first
    for variable in layers[first]:
        yield f"{name}/{variable}", [variables[variable] for variables in layers.values()]
