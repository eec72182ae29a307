"""Read safetensors files."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from se_keras.support.errors import damage_named
from se_keras.weights.readers.tensors import Contents, Tensor

# Types in a safetensors header -> NumPy's or ml_dtypes' names.
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
# Maximum bytes of the header; 1,000 tensors need 100 kB.
MAX_HEADER = 2**24


@contextmanager
def open_safetensors(path: Path) -> Iterator[Contents]:
    head = f"{path} is not a whole safetensors file"
    with damage_named(head):
        _refuse_long_header(path)
        mapped = _MappedFile(path)
    try:
        with damage_named(head):
            tensors = {name: mapped.tensor(name) for name in mapped.names()}
        yield Contents(tensors=tensors)
    finally:
        del mapped.file  # unmaps it


def _refuse_long_header(path: Path) -> None:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    if length > MAX_HEADER:
        raise ValueError(
            f"its header has a stated length of {length:,} bytes, more than {MAX_HEADER:,}"
        )


class _MappedFile:
    """A safetensors file, mapped into memory.

    Pages that were read stay in memory until the file is unmapped, so it is remapped regularly.
    """

    LEAST = 16 * 2**20  # bytes that are read before the file is remapped

    def __init__(self, path: Path):
        self.path = path
        self._map()

    def _map(self) -> None:
        from safetensors import safe_open

        self.file = safe_open(self.path, framework="numpy")
        self._read_bytes = 0

    def names(self) -> list[str]:
        return list(self.file.keys())

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
