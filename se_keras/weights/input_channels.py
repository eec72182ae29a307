"""Adapt the first kernel of weights for three colors to images with other channels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import keras
import numpy as np

from se_keras.weights.file_names import FileNames
from se_keras.weights.identify import Shape
from se_keras.weights.key_maps import Layout

COLORS = 3
INPUT_AXIS = 2  # of a kernel, (height, width, input channels, filters)


@dataclass(frozen=True, kw_only=True)
class AdaptedInput(Layout):
    """The layout of a kernel for three colors that is adapted to other channels.

    Attributes:
        channels: number of input channels of the variable.
    """

    channels: int

    def source_shape(self, shape: Shape) -> Shape:
        """Return the shape of the file's tensor for a variable of this shape."""
        return super().source_shape(_with_channels(shape, COLORS))

    def target_shape(self, shape: Shape) -> Shape:
        """Return the shape of the variable for a tensor of this shape."""
        return _with_channels(super().target_shape(shape), self.channels)

    def to_keras(self, array: np.ndarray) -> np.ndarray:
        """Return a new array."""
        return adapt_kernel(super().to_keras(array), self.channels)


def adapt_kernel(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapt a kernel for three colors to other channels, as timm's `adapt_input_conv` does.

    For one channel the kernels of the three colors are added, so a gray image gives the same
    output as three equal channels did. Otherwise they are repeated and scaled by 3 / channels.

    Args:
        kernel: array of shape (height, width, 3, filters).
        channels: number of channels of the images.

    Example:

    >>> import numpy as np
    >>> from se_keras.weights.input_channels import adapt_kernel
    >>> adapt_kernel(np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1), 1).ravel()
    array([6.])
    >>> adapt_kernel(np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1), 4).ravel()
    array([0.75, 1.5 , 2.25, 0.75])
    """
    kernel = kernel.astype(
        np.result_type(kernel.dtype, np.float32)
    )  # sums in half precision are too coarse
    if channels == 1:
        return kernel.sum(INPUT_AXIS, keepdims=True)
    repeated = np.concatenate([kernel] * math.ceil(channels / COLORS), axis=INPUT_AXIS)
    return repeated[:, :, :channels] * np.asarray(COLORS / channels, kernel.dtype)


def with_adapted_input(
    names: FileNames, model: keras.Model, tensors: Mapping[str, Shape]
) -> FileNames:
    """Return the names of a file, with an adapted first kernel where the model needs one.

    Args:
        names: names of the file's tensors.
        model: the model that takes them.
        tensors: names and shapes of the tensors.
    """
    path = kernel_to_adapt(names, model, tensors)
    if path is None:
        return names
    kernel = next(variable for variable in model.weights if variable.path == path)
    channels = kernel.shape[INPUT_AXIS]
    plain = names.layout(path, len(kernel.shape))
    how = "added" if channels == 1 else f"repeated, times 3/{channels}"
    adapted = AdaptedInput(
        name=f"{plain.name}, {COLORS} channels {how}".removeprefix(", "),
        axes=plain.axes,
        ones=plain.ones,
        channels=channels,
    )
    return replace(names, adapted={path: adapted})


def kernel_to_adapt(
    names: FileNames, model: keras.Model, tensors: Mapping[str, Shape]
) -> str | None:
    """Return the path of the first kernel if it needs an adaptation; else `None`."""
    kernel = next((variable for variable in model.weights if len(variable.shape) == 4), None)
    if kernel is None or kernel.shape[INPUT_AXIS] == COLORS:
        return None
    wanted = _with_channels(tuple(kernel.shape), COLORS)
    found = tensors.get(names.names(model).get(kernel.path) or "")
    fits = found == names.layout(kernel.path, len(wanted)).source_shape(wanted)
    return kernel.path if fits else None


def _with_channels(shape: Shape, channels: int) -> Shape:
    return (*shape[:INPUT_AXIS], channels, *shape[INPUT_AXIS + 1 :])
