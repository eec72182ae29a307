"""Open files of weights: read names, shapes and types at once, and values when needed."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from se_keras.support.errors import InputError, damage_named
from se_keras.weights.readers.keras3 import (
    name_in_archive,
    open_keras_archive,
)
from se_keras.weights.readers.keras_h5 import open_keras_h5
from se_keras.weights.readers.pytorch import open_torch
from se_keras.weights.readers.safetensors import open_safetensors
from se_keras.weights.readers.sharded import open_index, open_keras_shards
from se_keras.weights.readers.tensors import Checkpoint, Contents, Tensor
from se_keras.weights.readers.zipped import open_zipped_torch

__all__ = ["READERS", "Checkpoint", "Tensor", "model_name_of_file", "open_file"]

MAX_TENSORS = 100_000
MAX_NAME = 1000


@contextmanager
def open_file(
    path: Path, *, called: str, key: str | None = None, architecture: str | None = None
) -> Iterator[Checkpoint]:
    """Open a file of weights, and close it at the end.

    Args:
        path: a file whose name ends like one of `READERS`.
        called: the user's name for the file, which messages show.
        key: the set of weights within a PyTorch file; or, if a file holds several networks, the
            prefix of one network's tensors.
        architecture: name of the network, if it is known from elsewhere than the file.

    Raises:
        InputError: if the file is damaged or of another kind.
        MissingExtraError: for a PyTorch file without PyTorch.
    """
    with _reader(path, called, key)(path) as contents:
        _refuse_unusual_names(contents, path)
        yield Checkpoint(
            source=called,
            tensors=contents.tensors,
            of_keras=contents.of_keras,
            architecture=architecture,
            traits=contents.traits,
            notes=contents.notes,
        )


def _refuse_unusual_names(contents: Contents, path: Path) -> None:
    """Refuse unprintable or very long names, and more tensors than any network has."""
    if len(contents.tensors) > MAX_TENSORS:
        raise InputError(
            f"{path} must have at most {MAX_TENSORS:,} tensors, got {len(contents.tensors):,}."
        )
    for name in contents.tensors:
        if not name.isprintable() or len(name) > MAX_NAME:
            raise InputError(
                f"{path}: tensor names must be printable, with at most {MAX_NAME} characters, got "
                f"{name[:80]!a}."
            )


def model_name_of_file(path: Path) -> str | None:
    """Return the name of the model in a `.keras` file; `None` for any other file."""
    with damage_named(f"{path} is not a whole .keras file"):
        if path.suffix.lower() != ".keras" or not zipfile.is_zipfile(path):
            return None
    return name_in_archive(path)


def _reader(path: Path, called: str, key: str | None) -> Callable:
    reader = next(
        (READERS[suffix] for suffix in READERS if path.name.lower().endswith(suffix)), None
    )
    if reader is None:
        raise InputError(f"the file of weights must end with {', '.join(READERS)}, got {called!r}.")
    if key is None:
        return reader
    with_sets = reader in (open_torch, open_zipped_torch)
    return partial(reader if with_sets else partial(_open_part, reader), key=key)


@contextmanager
def _open_part(reader: Callable, path: Path, key: str) -> Iterator[Contents]:
    """Open the tensors of a file whose names begin with the key."""
    with reader(path) as contents:
        found = {k: tensor for k, tensor in contents.tensors.items() if k.startswith(f"{key}.")}
        if not found:
            raise InputError(f"{path} has no weights {key!r}: no name of a tensor begins with it.")
        note = f"weights: {key!r} in the file"
        yield replace(contents, tensors=found, notes=(*contents.notes, note))


READERS: dict[str, Callable] = {
    ".safetensors": open_safetensors,
    ".index.json": open_index,
    ".pth": open_torch,
    ".pth.zip": open_zipped_torch,
    ".pt": open_torch,
    ".bin": open_torch,
    ".ckpt": open_torch,
    ".tar": open_torch,  # .pth.tar, as timm's training writes it
    ".h5": open_keras_h5,
    ".weights.json": open_keras_shards,
    ".keras": open_keras_archive,
}
