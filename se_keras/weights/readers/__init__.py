"""Open files of weights: names, shapes and types at once, values when they are asked for."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from se_keras.support.errors import InputError
from se_keras.weights import hub
from se_keras.weights.presets import find_preset, recipe_of_name, source_of_name
from se_keras.weights.readers.keras2 import open_keras2
from se_keras.weights.readers.keras3 import open_keras_archive, open_keras_weights
from se_keras.weights.readers.pytorch import open_torch
from se_keras.weights.readers.safetensors import open_safetensors
from se_keras.weights.readers.tensors import Checkpoint, Tensor

__all__ = ["Checkpoint", "Tensor", "open_checkpoint", "origin_of_file"]


@contextmanager
def open_checkpoint(source: str | os.PathLike, model_name: str) -> Iterator[Checkpoint]:
    """Opens weights; closes the file at the end.

    Args:
        source: `"imagenet"`, `"hf://owner/repo[@revision]"`, or the path of a `.safetensors`,
            `.pth`, `.pt`, `.bin`, `.weights.h5`, `.keras` or `.h5` (of Keras 2) file.
        model_name: of the model that they are for; `"imagenet"` stands for what is published for
            its recipe.

    Raises:
        InputError: if there is no such file, or it is not whole or not of its kind.
        MissingExtraError: for a PyTorch file without PyTorch.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(_describe_choices(source))
    name = os.fspath(source)
    is_best = name == "imagenet"
    published = find_preset(recipe_of_name(model_name)).source if is_best else name
    fetched = _fetch(published)
    with _reader(name, fetched.path)(fetched.path) as contents:
        yield Checkpoint(
            source=name,
            tensors=contents.tensors,
            of_keras=contents.of_keras,
            architecture=(fetched.config or {}).get("architecture"),
            traits=contents.traits,
            notes=contents.notes,
            origin=published if hub.is_published(published) else origin_of_file(fetched.path),
        )


def _fetch(source: str) -> hub.Fetched:
    if hub.is_published(source):
        return hub.fetch(source)
    if not os.path.isfile(source):
        raise InputError(f"`weights`: there is no file {source!r}.")
    return hub.Fetched(path=Path(source))


def origin_of_file(path: Path) -> str | None:
    """Return the published source that the name of the model in a `.keras` file speaks of.

    `None` for other files, and where the name speaks of none.
    """
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        name = json.loads(archive.read("config.json"))["config"].get("name")
    return source_of_name(name) if isinstance(name, str) else None


def _reader(source: str, path: Path) -> Callable:
    for suffix, reader in READERS.items():
        if path.name.endswith(suffix):
            return reader
    raise InputError(_describe_choices(source))


def _describe_choices(source: Any) -> str:
    return (
        "`weights` must be None, 'imagenet', 'hf://owner/repo' or the path of a file "
        f"({', '.join(READERS)}), got {source!r}."
    )


READERS = {
    ".safetensors": open_safetensors,
    ".pth": open_torch,
    ".pt": open_torch,
    ".bin": open_torch,
    ".weights.h5": open_keras_weights,
    ".keras": open_keras_archive,
    ".h5": open_keras2,  # after .weights.h5, which ends so too
}
