"""Read weights that are split over several files, which an index lists."""

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
        InputError: if a file is missing or damaged, or its tensors differ from the list.
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
                    f"{path} must list each tensor of {shard} once, but differs in "
                    f"{', '.join(different[:3])}."
                )
            tensors |= contents.tensors
        yield Contents(tensors=tensors, notes=(f"{len(listed)} files, listed in {path.name}",))


@contextmanager
def open_keras_shards(path: Path) -> Iterator[Contents]:
    """Open the files that a `.weights.json` of Keras lists.

    Raises:
        InputError: if a file is missing or damaged, or its variables differ from the list.
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
            raise InputError(f"{path} and its files differ in {other[0]} of {other[1]}.")
        with damage_named(f"{path} does not fit its files"):
            tensors = tensors_of(merged)
        note = f"{len(places)} files, listed in {path.name}"
        yield Contents(tensors=tensors, of_keras=True, notes=(note,))


def _parent(place: str) -> str:
    return place.rpartition("/")[0]


def _merge(merged: dict[str, Any], items: Items) -> None:
    """Merge the items of one file into the items of the others; they may share groups."""
    for place, item in items.items():
        if is_dataset(item) and place in merged:
            raise ValueError(f"{place} is in several files")
        # Only the first file with variables of a layer has the layer's name.
        if place not in merged or (place.endswith("/vars") and texts_of(item, "name")):
            merged[place] = item


def shard_beside(path: Path, shard: str) -> Path:
    """Return the path of a file that an index lists.

    Raises:
        InputError: if the file is not in the folder of the index.
    """
    found = path.with_name(shard)
    if not found.is_file():
        raise InputError(f"{path} lists {shard}, which is not in the same folder.")
    return found


def read_index(path: Path) -> dict[str, str]:
    """Return the file name of each tensor that an index lists.

    Raises:
        InputError: if the index is damaged, or lists anything but names of files in its folder.
    """
    weight_map = read_weight_map(path)
    for shard in weight_map.values():
        check_shard(path, shard, tuple(SHARDS))
    return weight_map


def read_weight_map(path: Path) -> dict[str, Any]:
    """Return the list of an index, without checking its entries.

    Raises:
        InputError: if the list is empty or far too long.
    """
    if path.stat().st_size > MAX_INDEX:
        raise InputError(f"{path} must be an index of weights of at most {MAX_INDEX:,} bytes.")
    try:
        weight_map = json.loads(path.read_bytes())["weight_map"]
    # The file is not JSON, not UTF-8, nested too deeply, or of another kind.
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a whole index of weights: it must be JSON with a weight_map."
        ) from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(
            f"{path} is not a whole index of weights: its weight_map lists no tensors."
        )
    if len({str(shard) for shard in weight_map.values()}) > MAX_SHARDS:
        raise InputError(f"{path} must list at most {MAX_SHARDS:,} files.")
    return weight_map


def check_shard(path: Path, shard: Any, suffixes: tuple[str, ...]) -> bool:
    """Return True, or refuse anything but the name of a file of weights.

    Raises:
        InputError: if it is anything else; the message names the index and the entry.
    """
    plain = isinstance(shard, str) and shard.isprintable() and not set(shard) & set("/\\:")
    if not plain or not shard.endswith(suffixes) or shard in suffixes:
        raise InputError(
            f"{path}: each entry must be the name of a file in the same folder that ends with "
            f"{' or '.join(suffixes)}, got {str(shard)[:200]!r}."
        )
    return True
