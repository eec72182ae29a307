"""Read files of Keras 3: `.weights.h5`, and the weights within `.keras`; open whole models."""

import json
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import keras

from se_keras.support.errors import damage_named, shown
from se_keras.weights.identify import Traits, traits_of_layers
from se_keras.weights.readers.archives import refuse_unusual_members
from se_keras.weights.readers.hdf5 import open_h5_tensors
from se_keras.weights.readers.tensors import Contents, Tensor

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
KIND = "is not a whole .keras file"
# Arguments of layers that set the sizes of variables, and the largest size without a variable.
SIZES = (
    *("units", "filters", "input_dim", "output_dim", "key_dim", "value_dim", "num_heads"),
    *("kernel_size", "depth_multiplier", "reduced_channels", "divisor", "lora_rank", "extent"),
)
FREE_SIZE = 4096
# Numbers that a model may take at once: 10,000 x 10,000 pixels.
MAX_INPUT = 3 * 10**8
MAX_CONFIG = 2**24  # bytes; SENet-154 has 2 MB


@contextmanager
def open_keras_archive(path: Path) -> Iterator[Contents]:
    with _open_archive(path) as archive:
        with damage_named(f"{path} {KIND}"):
            traits = traits_of_config(_read_config(archive))
        with _open_weights(archive, path) as tensors:
            yield Contents(tensors=tensors, traits=traits, of_keras=True)


def name_in_archive(path: Path) -> str | None:
    """Return the name of the model in a `.keras` file; `None` if it has no name.

    Raises:
        InputError: if the file is damaged.
    """
    with _open_archive(path) as archive, damage_named(f"{path} {KIND}"):
        name = _read_config(archive)["config"].get("name")
    return name if isinstance(name, str) else None


def load_archive(path: Path) -> keras.Model:
    """Load the model in a `.keras` file, without its compilation.

    The file can't run code of its own: Keras refuses the layers that could.

    Raises:
        InputError: if the file is damaged, or Keras refuses one of its layers.
    """
    # Keras trusts HDF5 and the archive, so check both first.
    with (
        _open_archive(path) as archive,
        _open_weights(archive, path) as tensors,
        damage_named(f"{path} {KIND}"),
    ):
        _refuse_sizes_without_weights(_read_config(archive), tensors)
    with damage_named(f"can't read {path}"), tempfile.TemporaryDirectory() as folder:
        if path.suffix != ".keras":  # such as .KERAS: Keras only takes .keras
            path = Path(shutil.copy(path, Path(folder) / "model.keras"))
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def _refuse_sizes_without_weights(config: Any, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a layer whose variables would be larger than any that the file has values for."""
    axes = {length for tensor in tensors.values() for length in tensor.shape}
    parts = [config]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += part.values()
            _refuse_sizes(part, axes)


def _refuse_sizes(config: dict[str, Any], axes: set[int]) -> None:
    for name in SIZES:
        for size in _numbers(config.get(name)):
            if size > FREE_SIZE and size not in axes:
                raise ValueError(f"a layer has {size:,} {name}, but no weights of that size")
    shape = _numbers(config.get("batch_shape"))
    if math.prod(map(abs, shape)) > MAX_INPUT:
        raise ValueError(f"its input has the shape {shown(shape)}, which no machine has")


def _numbers(value: Any) -> list[int | float]:
    """Return a number, or the numbers in a list."""
    return [
        each
        for each in (value if isinstance(value, list) else [value])
        if isinstance(each, int | float)
    ]


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with damage_named(f"{path} {KIND}"):
        archive = zipfile.ZipFile(path)
    with archive:
        with damage_named(f"{path} {KIND}"):
            refuse_unusual_members(archive, path.stat().st_size)
        yield archive


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
                # Each step back in the packed file would unpack it again from the start.
                unpacked = opened.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(weights, unpacked)
                weights = unpacked
        yield opened.enter_context(open_h5_tensors(weights, path))


def traits_of_config(config: dict[str, Any]) -> Traits:
    layers = _layers_of_config(config["config"])
    return traits_of_layers({layer.get("name", ""): layer for layer in layers})


def _layers_of_config(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configurations of all layers, including layers of nested models."""
    inner = [config["layer"]] if isinstance(config.get("layer"), dict) else []
    for layer in [*config.get("layers", ()), *inner]:
        yield layer["config"]
        yield from _layers_of_config(layer["config"])
