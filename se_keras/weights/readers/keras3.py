"""Read files of Keras 3: `.weights.h5`, and the weights within `.keras`."""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from se_keras.support.errors import InputError
from se_keras.weights.identify import Traits, traits_of_layers
from se_keras.weights.readers.hdf5 import open_h5_tensors
from se_keras.weights.readers.tensors import Contents


@contextmanager
def open_keras_weights(path: Path) -> Iterator[Contents]:
    with open_h5_tensors(path, path) as tensors:
        yield Contents(tensors=tensors, of_keras=True)


@contextmanager
def open_keras_archive(path: Path) -> Iterator[Contents]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is not a whole .keras file: {error}") from error
    with archive:
        try:
            traits = _traits_of_config(json.loads(archive.read("config.json")))
            weights = archive.open("model.weights.h5")
        except (KeyError, ValueError) as error:
            raise InputError(f"{path} is not a .keras file: {error}") from error
        with weights, open_h5_tensors(weights, path) as tensors:
            yield Contents(tensors=tensors, traits=traits, of_keras=True)


def _traits_of_config(config: dict[str, Any]) -> Traits:
    layers = [layer["config"] for layer in config["config"].get("layers", ())]
    return traits_of_layers({layer.get("name"): layer for layer in layers})
