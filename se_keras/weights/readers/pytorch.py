"""Read tensors from PyTorch files, without running code."""

import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from se_keras.support.errors import InputError, damage_named, extra, lines_of
from se_keras.weights.readers.archives import refuse_unusual_members
from se_keras.weights.readers.tensors import Contents, Tensor, as_bfloat16

# Keys under which training programs store weights, in the order in which timm tries them.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net")
# The deepest nesting of dictionaries that is searched.
DEPTH = 4

# The keys that lead to a set of weights, from the outermost dictionary on.
Place = tuple[str, ...]
StateDict = Mapping[str, Any]


@contextmanager
def open_torch(path: Path, key: str | None = None) -> Iterator[Contents]:
    """Open the weights in a file.

    Args:
        path: path of the file.
        key: the set of weights to read: a key such as `state_dict`, keys of nested dictionaries
            such as `model.state_dict`, or the beginning of names in a set; by default the set
            that timm takes.

    Raises:
        InputError: if the file is damaged, holds anything but weights and plain values, has no set
            with this key, or has several sets and none that timm would take.
        MissingExtraError: without PyTorch.
    """
    sets = dict(_find_sets(_load(path)))
    if not sets:
        raise InputError(f"{path} must hold a state_dict: tensors by their names.")
    place, state = _usual(sets, path) if key is None else _named(sets, key, path)
    with damage_named(f"{path} is not a whole PyTorch file"):
        tensors = {name: _torch_tensor(tensor) for name, tensor in state.items()}
    yield Contents(tensors=tensors, notes=_notes(key or _address(place), sets, path))


def _load(path: Path) -> Any:
    with extra("torch"):
        import torch
    # timm's training stores its arguments with the weights: a class that only holds values.
    allowed = torch.serialization.get_safe_globals()
    namespace = torch.serialization.safe_globals([] if Namespace in allowed else [Namespace])
    _refuse_tar(path)
    with damage_named(f"{path} is not a whole PyTorch file"):
        # The format before PyTorch 1.6 is not a zip file, and can't be mapped into memory.
        mapped = zipfile.is_zipfile(path)
        if mapped:
            with zipfile.ZipFile(path) as archive:
                refuse_unusual_members(archive, path.stat().st_size)
    try:
        with namespace, warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # PyTorch's unpickler runs a damaged file as commands, which can raise any error.
    except Exception as error:
        raise InputError(
            f"{path} is not a whole PyTorch file of tensors alone (other PyTorch files are not "
            f"opened, because they can run code): {_reason(error)}."
        ) from error


def _refuse_tar(path: Path) -> None:
    """Refuse a real tar archive: a `.pth.tar` of PyTorch is an archive in name only."""
    with path.open("rb") as file:
        start = file.read(262)
    if start.endswith(b"ustar") or start.startswith(b"\x1f\x8b"):
        raise InputError(f"{path} is an archive: unpack it and give the file of weights in it.")


def _reason(error: Exception) -> str:
    """Return PyTorch's complaint without its advice to open the file nevertheless."""
    text = " ".join(lines_of(error))
    unknown = re.search(r"GLOBAL (\S+)", text)
    if unknown:
        return (
            f"it holds {_printable(unknown[1])}; torch.save(model.state_dict(), ...) writes "
            "tensors alone"
        )
    # From the second sentence on, PyTorch gives this advice.
    text = text.rpartition("WeightsUnpickler error: ")[2]
    return _printable(re.split(r"\.(?=\s|$)| Check the documentation", text)[0])


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]


# --- which of the weights in a file --------------------------------------------------------------


def _find_sets(content: Any, place: Place = ()) -> Iterator[tuple[Place, StateDict]]:
    """Yield each dictionary of tensors alone, with its place."""
    import torch

    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        return
    if content and all(isinstance(part, torch.Tensor) for part in content.values()):
        yield place, content
    elif len(place) < DEPTH:
        for name, part in content.items():
            yield from _find_sets(part, (*place, name))


def _usual(sets: Mapping[Place, StateDict], path: Path) -> tuple[Place, StateDict]:
    """Return the set that timm takes, or the only set if there is just one."""
    first = min(map(_rank, sets))
    places = [place for place in sets if _rank(place) == first]
    if len(places) > 1:
        raise InputError(
            f"{path} holds several sets of weights, {_list(places)}: name one of them, as in "
            f"'{path}::{_address(places[0])}'."
        )
    return places[0], sets[places[0]]


def _rank(place: Place) -> list[int]:
    """Return the rank of a place in timm's order, key by key, up to the first unknown key."""
    ranks = []
    for name in place:
        ranks.append(WRAPPERS.index(name) if name in WRAPPERS else len(WRAPPERS))
        if name not in WRAPPERS:
            break
    return ranks


def _named(sets: Mapping[Place, StateDict], key: str, path: Path) -> tuple[Place, StateDict]:
    """Return the set with this key, or the tensors of a set whose names begin with the key."""
    for place in sorted(sets, key=len, reverse=True):
        address = _address(place)
        if key == address:
            return place, sets[place]
        if not place or key.startswith(f"{address}."):
            found = _beginning_with(key.removeprefix(f"{address}."), sets[place])
            if found:
                return place, found
    usual = min(sets, key=_rank)
    found = _beginning_with(key, sets[usual])
    if found:
        return usual, found
    choices = _list(filter(None, sets)) or "one set, without a key"
    raise InputError(f"{path} has no weights {key!r}: it has {choices}.")


def _beginning_with(start: str, state: StateDict) -> StateDict:
    return {name: part for name, part in state.items() if name.startswith(f"{start}.")}


def _notes(key: str, sets: Mapping[Place, StateDict], path: Path) -> tuple[str, ...]:
    if not key:
        return ()
    others = [place for place in sets if place and _address(place) != key]
    if not others:
        return (f"weights: {key!r} in the file",)
    example = f"'{path.name}::{_address(others[0])}'"
    return (f"weights: {key!r} in the file, which also has {_list(others)}: {example}",)


def _list(places: Iterable[Place]) -> str:
    return ", ".join(repr(_address(place)) for place in places)


def _address(place: Place) -> str:
    return _printable(".".join(place))


# --- values --------------------------------------------------------------------------------------


def _torch_tensor(tensor: Any) -> Tensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    stored = not tensor.is_meta and str(tensor.layout) == "torch.strided"
    # A harmful file can state a size that its storage does not have.
    if not stored or tensor.untyped_storage().nbytes() < tensor.nbytes:
        dtype = "not stored as an array"
    return Tensor(shape=tuple(tensor.shape), dtype=dtype, read=partial(_torch_values, tensor))


def _torch_values(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    if str(tensor.dtype) != "torch.bfloat16":
        return tensor.numpy()
    import torch

    return as_bfloat16(tensor.view(torch.uint16).numpy())
