"""Read HDF5 files of Keras 2 and 3 by their contents: their file names do not differ."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from se_keras.support.errors import damage_named
from se_keras.weights.identify import Traits
from se_keras.weights.readers.hdf5 import (
    Items,
    is_dataset,
    open_h5,
    tensor_of,
    tensors_of,
    texts_of,
)
from se_keras.weights.readers.keras2 import list_of_texts, tensors_of_keras2, weights_within
from se_keras.weights.readers.keras3 import MAX_CONFIG, traits_of_config
from se_keras.weights.readers.tensors import Contents, Tensor

KIND = "is not a whole file of Keras' weights"


@contextmanager
def open_keras_h5(path: Path) -> Iterator[Contents]:
    """Open weights, or a whole model, that Keras 3 or 2 wrote to HDF5."""
    with open_h5(path, path) as items:
        with damage_named(f"{path} {KIND}"):
            contents = _contents(items)
        yield contents


def _contents(items: Items) -> Contents:
    weights = weights_within(items)
    if not any(texts_of(weights[""], f"layer_names{n}") is not None for n in ("", "0")):
        return Contents(tensors=tensors_of(items), of_keras=True)
    version = texts_of(weights[""], "keras_version") or ["2"]
    if int(version[0].partition(".")[0]) < 3:
        return Contents(tensors=tensors_of_keras2(weights))
    return Contents(tensors=_tensors_of_layers(weights), traits=_traits(items), of_keras=True)


def _tensors_of_layers(weights: Items) -> dict[str, Tensor]:
    """Return the tensors of a whole model, named by layer and number as in other Keras 3 files."""
    tensors: dict[str, Tensor] = {}
    for layer in list_of_texts(weights[""], "layer_names"):
        seen: dict[str, int] = {}
        for variable in list_of_texts(weights[layer], "weight_names"):
            own = variable.rpartition("/")[0]
            seen[own] = number = seen.get(own, -1) + 1
            name = f"{own}/{number}"
            if name in tensors:  # a layer of another nested model has this name
                name = f"layers/{layer}/{own}/vars/{number}"
            tensors[name] = tensor_of(weights[f"{layer}/{variable}"])
    held = sum(map(is_dataset, weights.values()))
    if held != len(tensors):
        raise ValueError(f"it lists {len(tensors):,} of its {held:,} tensors")
    return tensors


def _traits(items: Items) -> Traits:
    config = items[""].attrs.get("model_config", "{}")
    if len(config) > MAX_CONFIG:
        raise ValueError(f"its model_config has more than {MAX_CONFIG:,} characters")
    parsed = json.loads(config)
    return traits_of_config(parsed) if parsed else {}
