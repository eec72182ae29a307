"""Read files of Keras 3: `.weights.h5`, and the weights within `.keras`; open whole models."""

import json
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import keras

from se_keras.support.errors import damage_named
from se_keras.weights.identify import Traits, traits_of_layers
from se_keras.weights.readers.hdf5 import open_h5_tensors
from se_keras.weights.readers.tensors import Contents, Tensor

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
KIND = "is not a whole .keras file"
MAX_CONFIG = 2**24  # bytes; that of SENet-154 has 2 MB
MAX_MEMBERS = 10_000
# A member may unpack to this much, or to so many times what is stored of it.
FREE_BYTES = 2**20
MAX_EXPANSION = 100


@contextmanager
def open_keras_archive(path: Path) -> Iterator[Contents]:
    with _open_archive(path) as archive:
        with damage_named(f"{path} {KIND}"):
            traits = traits_of_config(_read_config(archive))
        with _open_weights(archive, path) as tensors:
            yield Contents(tensors=tensors, traits=traits, of_keras=True)


def name_in_archive(path: Path) -> str | None:
    """Return the name of the model in a `.keras` file; `None` if it has none.

    Raises:
        InputError: if the file is damaged.
    """
    with _open_archive(path) as archive, damage_named(f"{path} {KIND}"):
        name = _read_config(archive)["config"].get("name")
    return name if isinstance(name, str) else None


def load_archive(path: Path) -> keras.Model:
    """Load the model in a `.keras` file, without what it was compiled with.

    Nothing in the file decides which code runs: Keras refuses the layers that would.

    Raises:
        InputError: if the file is damaged, or it holds what can't be loaded so.
    """
    with open_keras_archive(path):
        pass  # Keras trusts HDF5 and the archive: all of it is looked at before
    with damage_named(f"can't read {path}"):
        return keras.saving.load_model(path, compile=False, safe_mode=True)


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with damage_named(f"{path} {KIND}"):
        archive = zipfile.ZipFile(path)
    with archive:
        with damage_named(f"{path} {KIND}"):
            _refuse_unusual_members(archive, path.stat().st_size)
        yield archive


def _refuse_unusual_members(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS or sum(member.compress_size for member in members) > size:
        raise ValueError(f"it has more than {MAX_MEMBERS:,} members, or they share their bytes")
    names = Counter(member.filename for member in members)
    for member in members:
        name = member.filename
        place = PurePosixPath(name.replace("\\", "/"))
        if names[name] > 1 or place.is_absolute() or ".." in place.parts or not name.isprintable():
            raise ValueError(f"its member {name} is there twice, or leads out of it")
        if member.flag_bits & 1:
            raise ValueError(f"its member {name} is encrypted")
        if member.file_size > max(FREE_BYTES, MAX_EXPANSION * member.compress_size):
            raise ValueError(
                f"its member {name} stores {member.compress_size:,} bytes, and would take "
                f"{member.file_size:,}"
            )


def _read_config(archive: zipfile.ZipFile) -> dict[str, Any]:
    size = archive.getinfo(CONFIG).file_size
    if size > MAX_CONFIG:
        raise ValueError(f"its {CONFIG} has {size:,} bytes, more than {MAX_CONFIG:,}")
    return json.loads(archive.read(CONFIG))


@contextmanager
def _open_weights(archive: zipfile.ZipFile, path: Path) -> Iterator[dict[str, Tensor]]:
    with ExitStack() as opened:
        with damage_named(f"{path} {KIND}"):
            weights: IO[bytes] = opened.enter_context(archive.open(WEIGHTS))
            if archive.getinfo(WEIGHTS).compress_type != zipfile.ZIP_STORED:
                # Each step back would unpack all that is before it again.
                unpacked = opened.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(weights, unpacked)
                weights = unpacked
        yield opened.enter_context(open_h5_tensors(weights, path))


def traits_of_config(config: dict[str, Any]) -> Traits:
    layers = _layers_of_config(config["config"])
    return traits_of_layers({layer.get("name", ""): layer for layer in layers})


def _layers_of_config(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configurations of all layers, those in models within the model too."""
    inner = [config["layer"]] if isinstance(config.get("layer"), dict) else []
    for layer in [*config.get("layers", ()), *inner]:
        yield layer["config"]
        yield from _layers_of_config(layer["config"])
