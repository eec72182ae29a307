"""Open untrusted HDF5 files, and find the variables that Keras 3 wrote to them.

HDF5 trusts its files: a harmful file can make it read other files, take endless memory or loop
forever. So the whole structure of a file is checked before any value is read.
"""

import math
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from se_keras.support.errors import damage_named
from se_keras.weights.readers.hdf5_lists import (
    FRACTAL_HEAP,
    GLOBAL_HEAP,
    refuse_endless_lists,
    refuse_long_texts,
)
from se_keras.weights.readers.tensors import Tensor, as_bfloat16

KIND = "is not a whole HDF5 file"
MAX_ITEMS = 100_000  # SENet-154 of classification_models has 45,000 groups and datasets
MAX_DEPTH = 32
MAX_NAME = 1000  # bytes
MAX_TEXTS = 2**20  # bytes of one attribute
# A dataset may unpack to FREE_BYTES, or to a limited multiple of its stored size.
FREE_BYTES = 2**20
MAX_EXPANSION = 100
MAX_FREE_CHUNK = 2**16  # allowed bytes of a chunk that is larger than its dataset
FILTERS = (b"shuffle", b"deflate", b"fletcher32")  # in the order in which h5py applies them
# This runs in a process of its own, and follows no links to other files.
LOOK = """
import sys, h5py
with h5py.File(sys.argv[1]) as file:
    file.visititems(lambda place, item: [len(item), list(item.attrs)] and None)
"""
LONGEST_LOOK = 60  # seconds

# Groups and datasets of h5py by their places; the file itself is at "".
Items = Mapping[str, Any]


@contextmanager
def open_h5_tensors(file: Path | IO[bytes], path: Path) -> Iterator[dict[str, Tensor]]:
    with open_h5(file, path) as items:
        with damage_named(f"{path} {KIND}"):
            tensors = tensors_of(items)
        yield tensors


@contextmanager
def open_h5(file: Path | IO[bytes], path: Path) -> Iterator[Items]:
    """Open a file that holds nothing but groups and stored datasets of numbers.

    Args:
        file: path of the file, or an open file within an archive.
        path: path that errors name.

    Raises:
        InputError: if the file is damaged or holds anything else.
    """
    import h5py

    with ExitStack() as stack:
        with damage_named(f"{path} {KIND}"):
            content = stack.enter_context(file.open("rb")) if isinstance(file, Path) else file
            heaps = refuse_endless_lists(content)
            if heaps[FRACTAL_HEAP]:
                _try_in_another_process(content)
            content.seek(0)
            opened = stack.enter_context(h5py.File(file, "r"))
            items = {"": opened, **dict(_walk(opened.id, "", set()))}
            datasets = {place: item for place, item in items.items() if hasattr(item, "dtype")}
            ids = [item.id for item in datasets.values()]
            _refuse_more_than_stored(ids, opened.id.get_filesize())
            values = [(i.get_offset(), i.get_storage_size()) for i in ids if i.get_offset()]
            refuse_long_texts(content, heaps[GLOBAL_HEAP], values, MAX_TEXTS)
            for place, dataset in datasets.items():
                _refuse_other_types(dataset, place)
        yield items


def _try_in_another_process(content: IO[bytes]) -> None:
    """Refuse a file whose groups crash HDF5, which would end this process."""
    content.seek(0)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.h5")
        with copy.open("wb") as opened:
            shutil.copyfileobj(content, opened)
        command = [sys.executable, "-c", LOOK, str(copy)]
        done = subprocess.run(command, capture_output=True, timeout=LONGEST_LOOK, check=False)
    if done.returncode not in (0, 1):  # 1 is an error of Python, which will be raised here too
        raise ValueError("HDF5 crashes when it reads its groups")


# --- groups and datasets -------------------------------------------------------------------------


def _walk(group: Any, place: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield all items in a group and below in the order of their names, as visititems does."""
    import h5py

    for name in _links(group, place, seen):
        item = h5py.h5o.open(group, name)
        below = f"{place}/{name.decode()}".removeprefix("/")
        if isinstance(item, h5py.h5g.GroupID):
            yield below, h5py.Group(item)
            yield from _walk(item, below, seen)
        elif isinstance(item, h5py.h5d.DatasetID):
            _refuse_other_storage(item, below)
            yield below, h5py.Dataset(item)
        else:
            raise ValueError(f"{below} is neither a group nor a dataset")


def _links(group: Any, place: str, seen: set[int]) -> list[bytes]:
    """Return the names in a group, and refuse a second name of the same object."""
    import h5py

    if place.count("/") >= MAX_DEPTH:
        raise ValueError(f"its groups are nested deeper than {MAX_DEPTH}")
    names: list[bytes] = []

    def add(name: bytes, link: Any) -> None:
        if len(name) > MAX_NAME or not name.decode().isprintable():
            raise ValueError(
                f"a name in {place or '/'} is not printable text of at most {MAX_NAME} bytes"
            )
        if link.type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{place}/{name.decode()} is a link to another place")
        if link.u in seen:
            raise ValueError(f"{place}/{name.decode()} has a second name")
        if len(seen) >= MAX_ITEMS:
            raise ValueError(f"it has more than {MAX_ITEMS:,} groups and datasets")
        seen.add(link.u)
        names.append(name)

    group.links.iterate(add, info=True)
    return names


def _refuse_other_storage(dataset: Any, place: str) -> None:
    """Refuse values that are in another file or dataset, or that are missing."""
    import h5py

    made = dataset.get_create_plist()
    layout = made.get_layout()
    if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        raise ValueError(f"{place} is assembled from other datasets")
    if made.get_external_count():
        raise ValueError(f"{place} is stored in another file")
    size = math.prod(dataset.shape) * dataset.get_type().get_size()
    if layout == h5py.h5d.CHUNKED:
        _refuse_unusual_chunks(dataset, made, size, place)
    elif dataset.get_storage_size() != size:
        raise ValueError(f"{place} has {dataset.get_storage_size():,} of its {size:,} bytes")


def _refuse_unusual_chunks(dataset: Any, made: Any, size: int, place: str) -> None:
    chunk = made.get_chunk()
    length = math.prod(chunk) * dataset.get_type().get_size()
    if length > max(size, MAX_FREE_CHUNK):
        raise ValueError(f"{place} of {size:,} bytes is in chunks of {length:,}")
    count = math.prod(-(-n // part) for n, part in zip(dataset.shape, chunk, strict=True))
    if dataset.get_num_chunks() != count:
        raise ValueError(f"{place} has {dataset.get_num_chunks():,} of its {count:,} chunks")
    if size > max(FREE_BYTES, MAX_EXPANSION * dataset.get_storage_size()):
        stored = dataset.get_storage_size()
        raise ValueError(f"{place} stores {stored:,} bytes, and would unpack to {size:,}")
    filters = [made.get_filter(number)[3] for number in range(made.get_nfilters())]
    if filters != [name for name in FILTERS if name in filters]:
        raise ValueError(f"{place} is compressed by {b', '.join(filters)!r}")
    if filters:
        _refuse_swelling_chunks(dataset, count, length, place)


def _refuse_swelling_chunks(dataset: Any, count: int, length: int, place: str) -> None:
    """Refuse chunks that unpack to more than their size: HDF5 unpacks each chunk completely."""
    for number in range(count):
        info = dataset.get_chunk_info(number)
        if info.size > 1.01 * length + 100:
            raise ValueError(f"{place} has a chunk of {info.size:,} bytes in place of {length:,}")
        _, packed = dataset.read_direct_chunk(info.chunk_offset)
        if len(zlib.decompressobj().decompress(packed, length + 1)) > length:
            raise ValueError(f"{place} has a chunk that unpacks to more than its {length:,} bytes")


def _refuse_other_types(dataset: Any, place: str) -> None:
    """Refuse all but plain numbers; bfloat16, which HDF5 lacks, is two bytes with a mark."""
    dtype = dataset.dtype
    marked = _is_marked(dataset)
    if marked != (dtype.str == "|V2") or (dtype.kind not in "biuf" and not marked):
        mark = ", and is marked as bfloat16" if marked else ""
        raise ValueError(f"{place} has the type {dtype}{mark}")


def _is_marked(dataset: Any) -> bool:
    return texts_of(dataset, "dtype") == ["bfloat16"]


def _refuse_more_than_stored(datasets: Sequence[Any], size: int) -> None:
    """Refuse datasets that share their bytes or lie beyond the end of the file."""
    stored = sum(dataset.get_storage_size() for dataset in datasets)
    if stored > size:
        raise ValueError(f"its datasets would have {stored:,} bytes, and it has {size:,}")


# --- texts ---------------------------------------------------------------------------------------


def texts_of(item: Any, name: str) -> list[str] | None:
    """Return the texts of an attribute; `None` if there is no such attribute.

    Raises:
        ValueError: if the attribute is neither a text nor a list of texts.
    """
    import h5py

    key = name.encode()
    if not h5py.h5a.exists(item.id, key):
        return None
    attribute = h5py.h5a.open(item.id, key)
    if 0 in attribute.shape:  # Keras 2 stores an empty list as a list of numbers
        return []
    is_text = isinstance(attribute.get_type(), h5py.h5t.TypeStringID)
    if not is_text or len(attribute.shape) > 1 or attribute.get_storage_size() > MAX_TEXTS:
        raise ValueError(f"{name} of {item.name} must be text of at most {MAX_TEXTS:,} bytes")
    values = np.ravel(item.attrs[name]).tolist()
    texts = [value.decode() if isinstance(value, bytes) else value for value in values]
    if not all(len(text.encode()) <= MAX_NAME and text.isprintable() for text in texts):
        raise ValueError(f"{name} of {item.name} must be printable, of at most {MAX_NAME} bytes")
    return texts


def is_dataset(item: Any) -> bool:
    return hasattr(item, "dtype")


# --- the variables of Keras 3 --------------------------------------------------------------------


def tensors_of(items: Items) -> dict[str, Tensor]:
    """Return the tensors at paths such as `layers/conv2d_1/vars/0`, named by their layers."""
    names = {
        place: texts_of(item, "name") for place, item in items.items() if place.endswith("/vars")
    }
    tensors: dict[str, Tensor] = {}
    for place, item in items.items():
        if is_dataset(item):
            name = _own_name(names, place)
            tensors[place if name in tensors else name] = tensor_of(item)
    return tensors


def _own_name(named: Mapping[str, list[str] | None], place: str) -> str:
    """Return the name of a layer, which Keras stores with the variables (paths hold numbers)."""
    if "/vars/" not in place or place.startswith("optimizer/"):
        return place
    *layers, _, number = place.split("/")
    names: list[str] = []
    for depth, part in enumerate(layers, start=1):
        (name,) = named.get("/".join([*layers[:depth], "vars"])) or [part]
        # Names of variables do not contain the names of nested models.
        names = [] if part == "layers" else [*names, name]
    return "/".join([*names, number])


def tensor_of(item: Any) -> Tensor:
    bfloat16 = _is_marked(item)
    return Tensor(
        shape=item.shape,
        dtype="bfloat16" if bfloat16 else str(item.dtype),
        read=partial(_values, item, bfloat16),
    )


def _values(item: Any, bfloat16: bool) -> np.ndarray:
    values = item[()]
    return as_bfloat16(values) if bfloat16 else values
