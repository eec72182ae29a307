"""Read safetensors files."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from se_keras.support.errors import InputError
from se_keras.weights.readers.tensors import Contents, Tensor

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
def open_safetensors(path: Path) -> Iterator[Contents]:
    from safetensors import SafetensorError

    try:
        mapped = _MappedFile(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}") from error
    try:
        yield Contents(tensors={name: mapped.tensor(name) for name in mapped.names()})
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
