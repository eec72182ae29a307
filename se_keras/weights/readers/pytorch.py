"""Read files of PyTorch: nothing but tensors, no code."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from se_keras.support.errors import InputError, extra, lines_of
from se_keras.weights.readers.tensors import Contents, Tensor, as_bfloat16


@contextmanager
def open_torch(path: Path, key: str | None = None) -> Iterator[Contents]:
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
    if key is not None:
        state = _picked(path, state, key)
    elif isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise InputError(f"{path} must hold a state_dict, tensors by their names.")
    yield Contents(tensors={name: _torch_tensor(tensor) for name, tensor in state.items()})


def _picked(path: Path, state: Any, key: str) -> dict[Any, Any]:
    sets = {name: held for name, held in dict(state).items() if isinstance(held, dict)}
    if key not in sets:
        raise InputError(f"{path} has no weights {key!r}: it has {', '.join(map(repr, sets))}.")
    return sets[key]


def _torch_tensor(tensor: Any) -> Tensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Tensor(shape=tuple(tensor.shape), dtype=dtype, read=partial(_torch_values, tensor))


def _torch_values(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    if str(tensor.dtype) != "torch.bfloat16":
        return tensor.numpy()
    import torch

    return as_bfloat16(tensor.view(torch.uint16).numpy())
