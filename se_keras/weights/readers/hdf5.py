"""Open HDF5 files, and find the variables that Keras 3 put into them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from se_keras.support.errors import InputError
from se_keras.weights.readers.tensors import Tensor, as_bfloat16


@contextmanager
def open_h5_tensors(file: Path | IO[bytes], path: Path) -> Iterator[dict[str, Tensor]]:
    with open_h5(file, path) as opened:
        tensors: dict[str, Tensor] = {}
        opened.visititems(partial(_add_h5, tensors))
        yield tensors


def open_h5(file: Path | IO[bytes], path: Path) -> Any:
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
    return as_bfloat16(values) if bfloat16 else values
