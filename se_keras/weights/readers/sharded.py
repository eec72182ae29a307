"""Read weights that are split over several files, by the index that lists them."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import Any

from se_keras.support.errors import InputError, damage_named
from se_keras.weights.readers.hdf5 import Items, is_dataset, open_h5, tensors_of, texts_of
from se_keras.weights.readers.pytorch import open_torch
from se_keras.weights.readers.safetensors import open_safetensors
from se_keras.weights.readers.tensors import Contents, Tensor

MAX_INDEX = 2**26  # bytes
MAX_SHARDS = 1000
SHARDS: Mapping[str, Callable] = {".safetensors": open_safetensors, ".bin": open_torch}


@contextmanager
def open_index(path: Path) -> Iterator[Contents]:
    """Open the files that a `model.safetensors.index.json` lists.

    Raises:
        InputError: if one is not there or not whole, or has other tensors than are listed.
    """
    listed: dict[str, set[str]] = {}
    for name, shard in read_index(path).items():
        listed.setdefault(shard, set()).add(name)
    places = {shard: shard_beside(path, shard) for shard in listed}
    tensors: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for shard, names in listed.items():
            reader = SHARDS[PurePath(shard).suffix]
            contents = stack.enter_context(reader(places[shard]))
            different = sorted(names ^ contents.tensors.keys())
            if different:
                raise InputError(
                    f"{path} does not list each tensor of {shard} once: {', '.join(different[:3])}."
                )
            tensors |= contents.tensors
        yield Contents(tensors=tensors, notes=(f"{len(listed)} files, listed in {path.name}",))


@contextmanager
def open_keras_shards(path: Path) -> Iterator[Contents]:
    """Open the files that a `.weights.json` of Keras lists.

    Raises:
        InputError: if one is not there or not whole, or has other variables than are listed.
    """
    listed = {
        (place.strip("/"), shard)
        for place, shards in read_weight_map(path).items()
        for shard in (shards if isinstance(shards, list) else [shards])
        if check_shard(path, shard, (".weights.h5",))
    }
    places = {shard: shard_beside(path, shard) for shard in sorted({shard for _, shard in listed})}
    held: set[tuple[str, str]] = set()
    merged: dict[str, Any] = {}
    with ExitStack() as stack:
        for shard, place in places.items():
            items = stack.enter_context(open_h5(place, place))
            with damage_named(f"{path} does not fit {shard}"):
                held |= {(_parent(name), shard) for name, item in items.items() if is_dataset(item)}
                _merge(merged, items)
        if held != listed:
            other = min(held ^ listed)
            raise InputError(f"{path} does not list {other[0]} of {other[1]} as it is.")
        with damage_named(f"{path} does not fit its files"):
            tensors = tensors_of(merged)
        note = f"{len(places)} files, listed in {path.name}"
        yield Contents(tensors=tensors, of_keras=True, notes=(note,))


def _parent(place: str) -> str:
    return place.rpartition("/")[0]


def _merge(merged: dict[str, Any], items: Items) -> None:
    """Add the parts of a file to the others' parts, which may be in the same groups."""
    for place, item in items.items():
        if is_dataset(item) and place in merged:
            raise ValueError(f"{place} is in another file too")
        # The first of the files that a layer's variables are in has the layer's name.
        if place not in merged or (place.endswith("/vars") and texts_of(item, "name")):
            merged[place] = item


def shard_beside(path: Path, shard: str) -> Path:
    """Return the path of a file that an index lists.

    Raises:
        InputError: if it does not lie beside the index.
    """
    found = path.with_name(shard)
    if not found.is_file():
        raise InputError(f"{path} lists {shard}, which does not lie beside it.")
    return found


def read_index(path: Path) -> dict[str, str]:
    """Return the file of each tensor that an index lists: a name, without a folder.

    Raises:
        InputError: if it is damaged, or lists anything but such files beside it.
    """
    weight_map = read_weight_map(path)
    for shard in weight_map.values():
        check_shard(path, shard, tuple(SHARDS))
    return weight_map


def read_weight_map(path: Path) -> dict[str, Any]:
    """Return what an index lists, unchecked.

    Raises:
        InputError: if it lists nothing, or far too much.
    """
    if path.stat().st_size > MAX_INDEX:
        raise InputError(f"{path} is no index of weights: it has more than {MAX_INDEX:,} bytes.")
    try:
        weight_map = json.loads(path.read_bytes())["weight_map"]
    # Not JSON, not UTF-8, nested without end, of another kind.
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a whole index of weights, with a weight_map.") from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{path} is not a whole index of weights: its weight_map lists nothing.")
    if len({str(shard) for shard in weight_map.values()}) > MAX_SHARDS:
        raise InputError(f"{path} lists more than {MAX_SHARDS:,} files.")
    return weight_map


def check_shard(path: Path, shard: Any, suffixes: tuple[str, ...]) -> bool:
    """Return True, or refuse what is no name of a file of weights beside the index.

    Raises:
        InputError: naming the index and what it lists.
    """
    plain = isinstance(shard, str) and shard.isprintable() and not set(shard) & set("/\\:")
    if not plain or not shard.endswith(suffixes) or shard in suffixes:
        raise InputError(
            f"{path} lists {str(shard)[:200]!r}: it must be the name of a file beside it that ends "
            f"with {' or '.join(suffixes)}."
        )
    return True
