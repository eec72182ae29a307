"""Opens files of weights: names, shapes and types at once, values when they are asked for."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from se_keras.support.errors import InputError, extra, lines_of
from se_keras.weights import hub, keras2
from se_keras.weights.identify import Shape, Traits, traits_of_layers
from se_keras.weights.presets import find_preset, recipe_of_name, source_of_name

KERAS_SUFFIXES = (".weights.h5", ".keras")


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of a file.

    Attributes:
        shape: its shape.
        dtype: NumPy's or ml_dtypes' name of its type.
        read: gives its values.
    """

    shape: Shape
    dtype: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An open file of weights.

    Attributes:
        source: what the user called it.
        tensors: its tensors by their names.
        architecture: name of the network, where `config.json` of the hub gives one.
        of_keras: whether Keras 3 wrote it.
        traits: of the network, where the file tells.
        origin: the published source that the tensors are of; `None` for those of a file that does
            not say it.
    """

    source: str
    tensors: Mapping[str, Tensor]
    of_keras: bool = False
    architecture: str | None = None
    traits: Traits = field(default_factory=dict)
    origin: str | None = None


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
    with _reader(name, fetched.path)(fetched.path) as (tensors, traits):
        yield Checkpoint(
            source=name,
            tensors=tensors,
            of_keras=name.endswith(KERAS_SUFFIXES),
            architecture=(fetched.config or {}).get("architecture"),
            traits=traits,
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


# --- kinds of files ------------------------------------------------------------------------------

Contents = tuple[Mapping[str, Tensor], Traits]
# Of safetensors' header.
DTYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@contextmanager
def _safetensors(path: Path) -> Iterator[Contents]:
    from safetensors import SafetensorError

    try:
        mapped = _MappedFile(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}") from error
    try:
        yield {name: mapped.tensor(name) for name in mapped.file.keys()}, {}  # noqa: SIM118
    finally:
        del mapped.file  # unmaps it


class _MappedFile:
    """A safetensors file, mapped into memory.

    Pages that were read stay there until the file is unmapped: it is mapped anew now and then.
    """

    LEAST = 16 * 2**20  # bytes that are read between two maps

    def __init__(self, path: Path):
        self.path = path
        self._map()

    def _map(self) -> None:
        from safetensors import safe_open

        self.file = safe_open(self.path, framework="numpy")
        self._read_bytes = 0

    def tensor(self, name: str) -> Tensor:
        part = self.file.get_slice(name)
        dtype = part.get_dtype()
        return Tensor(
            shape=tuple(part.get_shape()),
            dtype=DTYPES.get(dtype, dtype),
            read=partial(self.read, name),
        )

    def read(self, name: str) -> np.ndarray:
        if self._read_bytes > self.LEAST:
            self._map()
        values = self.file.get_tensor(name)  # a copy
        self._read_bytes += values.nbytes
        return values


@contextmanager
def _torch(path: Path) -> Iterator[Contents]:
    with extra("torch"):
        import torch
    try:
        # The format before PyTorch 1.6 is no zip file, and can't be mapped into memory.
        state = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    # PyTorch's unpickler takes a damaged file for commands: anything may come of it.
    except Exception as error:
        raise InputError(
            f"{path} is not a whole PyTorch file of nothing but tensors (others are not opened: "
            f"they can run code): {lines_of(error)[0]}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise InputError(f"{path} must hold a state_dict, tensors by their names.")
    yield {name: _torch_tensor(tensor) for name, tensor in state.items()}, {}


def _torch_tensor(tensor: Any) -> Tensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Tensor(shape=tuple(tensor.shape), dtype=dtype, read=partial(_torch_values, tensor))


def _torch_values(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    if str(tensor.dtype) != "torch.bfloat16":
        return tensor.numpy()
    import torch

    return _as_bfloat16(tensor.view(torch.uint16).numpy())


def _as_bfloat16(bits: np.ndarray) -> np.ndarray:
    import ml_dtypes  # NumPy has no such type; Keras depends on this package

    return bits.view(ml_dtypes.bfloat16)


@contextmanager
def _keras_weights(path: Path) -> Iterator[Contents]:
    with _open_h5(path, path) as tensors:
        yield tensors, {}


@contextmanager
def _keras_archive(path: Path) -> Iterator[Contents]:
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
        with weights, _open_h5(weights, path) as tensors:
            yield tensors, traits


def _traits_of_config(config: dict[str, Any]) -> Traits:
    layers = [layer["config"] for layer in config["config"].get("layers", ())]
    return traits_of_layers({layer.get("name"): layer for layer in layers})


@contextmanager
def _open_h5(file: Path | IO[bytes], path: Path) -> Iterator[dict[str, Tensor]]:
    with _h5_file(file, path) as opened:
        tensors: dict[str, Tensor] = {}
        opened.visititems(partial(_add_h5, tensors))
        yield tensors


def _h5_file(file: Path | IO[bytes], path: Path) -> Any:
    import h5py

    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{path} is not a whole HDF5 file: {error}") from error


def _add_h5(tensors: dict[str, Tensor], place: str, item: Any) -> None:
    """Adds the tensor at a place such as `layers/conv2d_1/vars/0`, by the layer's own name."""
    import h5py

    if not isinstance(item, h5py.Dataset):
        return
    bfloat16 = item.attrs.get("dtype") == "bfloat16"
    name = _own_name(item.file, place)
    tensors[place if name in tensors else name] = Tensor(
        shape=item.shape,
        dtype="bfloat16" if bfloat16 else str(item.dtype),
        read=partial(_h5_values, item, bfloat16),
    )


def _own_name(file: Any, place: str) -> str:
    """Keras numbers the layers of a class; what they are called is kept with their variables."""
    if "/vars/" not in place or place.startswith("optimizer/"):
        return place
    *layers, _, number = place.split("/")
    names: list[str] = []
    for depth, part in enumerate(layers, start=1):
        group = file.get("/".join([*layers[:depth], "vars"]))
        name = part if group is None else group.attrs.get("name", part)
        # A model within the model is no part of the names of its layers' variables.
        names = [] if part == "layers" else [*names, name]
    return "/".join([*names, number])


def _h5_values(item: Any, bfloat16: bool) -> np.ndarray:
    values = item[()]
    return _as_bfloat16(values) if bfloat16 else values


@contextmanager
def _keras2(path: Path) -> Iterator[Contents]:
    with _h5_file(path, path) as file:
        parts = keras2.parts_of_tensors(file, path)
        yield {name: _join_parts(datasets) for name, datasets in parts.items()}, {}


def _join_parts(datasets: list[Any]) -> Tensor:
    *others, channels = datasets[0].shape or (1,)
    return Tensor(
        shape=(*others, channels * len(datasets)),
        dtype=str(datasets[0].dtype),
        read=partial(_concatenate, datasets),
    )


def _concatenate(datasets: list[Any]) -> np.ndarray:
    return np.concatenate([np.atleast_1d(dataset[()]) for dataset in datasets], axis=-1)


READERS = {
    ".safetensors": _safetensors,
    ".pth": _torch,
    ".pt": _torch,
    ".bin": _torch,
    ".weights.h5": _keras_weights,
    ".keras": _keras_archive,
    ".h5": _keras2,  # behind .weights.h5, which ends so too
}
