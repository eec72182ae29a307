"""The equations of squeeze-and-excitation and related gates, as pure functions of tensors.

Hu et al., "Squeeze-and-Excitation Networks" (arXiv 1709.01507), section 3:

    z = squeeze(u)             eq. 2:  z_c = 1 / (H W) * sum_ij u_c(i, j)
    s = excite(z, W1, W2)      eq. 3:  s = sigmoid(W2 relu(W1 z))
    x = recalibrate(u, s)      eq. 4:  x_c = s_c * u_c

Wang et al., "ECA-Net" (arXiv 1910.03151); Lee and Park, "CenterMask" (arXiv 1911.06667), on
VoVNetV2's eSE; Roy et al. (arXiv 1803.02579), with the maximum from the authors' code; Hu et al.,
"Gather-Excite" (arXiv 1810.12348):

    s = excite_neighbors(z, w)     ECA:   s = sigmoid(conv_k(z)), over the channels
    s = excite_once(z, W)          eSE:   s = hard_sigmoid(W z)
    q = excite_once(u, w)          sSE:   q_ij = sigmoid(w u(i, j))
    g = fuse(u, s, q)              scSE:  u g = u s + u q, or max(u s, u q)
    v = gather(u, e)               GE:    v = mean of u over windows of size 2 e - 1 with stride e
    g = interpolate(v, sizes)      GE:    g_ij = v at floor(i h / H), floor(j w / W)

A map `u` has one batch axis, one channel axis and one to three spatial axes between or after
them: (N, L, C), (N, H, W, C), (N, D, H, W, C), or with the channels second.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from se_keras.support.arguments import (
    function,
    items_of,
    nonzero_number,
    one_of,
    plain,
    positive_integer,
)
from se_keras.support.errors import InputError, shown

Tensor = Any
POOLS = ("avg", "max")
FUSIONS = ("sum", "max")


def squeeze(
    u: Tensor, pool: str = "avg", data_format: str | None = None, mask: Tensor | None = None
) -> Tensor:
    """Describe each channel by its mean or maximum over all unmasked positions.

    The mean is accumulated and returned in float32 or float64, because a sum in float16 would
    overflow at 65504.

    Args:
        u: feature map, (N, *spatial, C) or (N, C, *spatial).
        pool: `"avg"` (eq. 2) or `"max"` (paper, Table 11).
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras' global setting.
        mask: true at the positions to use, (N, *spatial); the last axes may be missing. The
            descriptor of a sample without any such position is 0.

    Returns:
        The descriptor z, (N, C), in float64 if `u` is float64, else in float32.

    Raises:
        InputError: if `pool`, `data_format` or the shape of the mask is invalid.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> u = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> z = se_keras.ops.squeeze(u, data_format="channels_last")
    >>> [float(value) for value in z[0]]
    [3.0, 4.0]
    """
    pool = one_of("pool", pool, POOLS)
    u = feature_map("u", u)
    axes = _spatial_axes(len(u.shape), data_format)
    dtype = _dtype_of_sums(u)
    # Keras can't compute the maximum of an empty batch; the mean has the same (empty) shape.
    largest = pool == "max" and u.shape[0] != 0
    if mask is not None:
        counts = _expand_mask(mask, u.shape, axes)
        return _squeeze_counted(keras.ops.cast(u, dtype), counts, largest, axes)
    if largest:
        return keras.ops.cast(keras.ops.max(u, axis=axes), dtype)
    return _mean(keras.ops.cast(u, dtype), axes)


def _dtype_of_sums(u: Tensor) -> str:
    return "float64" if keras.backend.standardize_dtype(u.dtype) == "float64" else "float32"


def _mean(u: Tensor, axes: tuple[int, ...]) -> Tensor:
    if keras.backend.backend() != "tensorflow":
        return keras.ops.mean(u, axis=axes)
    # TensorFlow vectorizes one axis at a time better, the innermost first, and short sums have
    # smaller rounding errors. XLA and PyTorch would write and read the means in between.
    for axis in reversed(axes):
        u = keras.ops.mean(u, axis=axis)
    return u


def _squeeze_counted(u: Tensor, counts: Tensor, largest: bool, axes: tuple[int, ...]) -> Tensor:
    share = _mean(keras.ops.cast(counts, u.dtype), axes)
    if largest:
        z = keras.ops.max(keras.ops.where(counts, u, float("-inf")), axis=axes)
        return keras.ops.where(share > 0, z, 0.0)
    z = _mean(keras.ops.where(counts, u, 0.0), axes)
    return z / keras.ops.where(share > 0, share, 1.0)


def _expand_mask(mask: Tensor, shape: tuple[int | None, ...], axes: tuple[int, ...]) -> Tensor:
    """Expand a mask of positions to the rank of the map, with size 1 for missing axes."""
    mask = keras.ops.cast(checked_tensor("mask", mask), "bool")
    rank = len(mask.shape)
    positions = (shape[0], *(shape[axis] for axis in axes))
    alike = zip(mask.shape, positions, strict=False)
    if not 1 <= rank <= len(positions) or any(
        None not in (size, wanted) and size != wanted for size, wanted in alike
    ):
        raise InputError(
            f"`mask` must have the shape {positions} of the positions, or the first axes of it, "
            f"got {tuple(mask.shape)}."
        )
    channels = 1 if axes[0] == 2 else axes[-1] + 1
    return keras.ops.expand_dims(mask, sorted((channels, *axes[rank - 1 :])))


def excite(
    z: Tensor,
    reduce: Callable[[Tensor], Tensor],
    expand: Callable[[Tensor], Tensor],
    activation: Callable[[Tensor], Tensor] = keras.ops.relu,
    gate_activation: Callable[[Tensor], Tensor] = keras.ops.sigmoid,
    gate_scale: float = 1.0,
) -> Tensor:
    """Turn the descriptor into one gate for each channel (eq. 3).

    Args:
        z: descriptor, (N, C).
        reduce: the map W1, (N, C) -> (N, hidden): a `Dense` layer, or any function.
        expand: the map W2, (N, hidden) -> (N, C).
        activation: activation after W1.
        gate_activation: activation after W2 (paper, Table 12).
        gate_scale: a factor for the gate, other than 0.

    Returns:
        The gate s, (N, C).

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> w1, w2 = np.ones((4, 1), "float32"), np.zeros((1, 4), "float32")
    >>> s = se_keras.ops.excite(np.ones((1, 4), "float32"), lambda z: z @ w1, lambda h: h @ w2)
    >>> [float(value) for value in s[0]]
    [0.5, 0.5, 0.5, 0.5]
    """
    steps = {"reduce": reduce, "activation": activation, "expand": expand}
    gate = _descriptor("z", z)
    for name, step in {**steps, "gate_activation": gate_activation}.items():
        gate = function(name, step)(gate)
    gate_scale = nonzero_number("gate_scale", gate_scale)
    return gate if gate_scale == 1.0 else gate * gate_scale


def excite_once(
    z: Tensor,
    weigh: Callable[[Tensor], Tensor],
    gate_activation: Callable[[Tensor], Tensor] = keras.ops.hard_sigmoid,
) -> Tensor:
    """Turn the descriptor into a gate by one map: C -> C in eSE, C -> 1 per position in sSE.

    Args:
        z: descriptor, (N, C); or a feature map with the channels last.
        weigh: the map W of the last axis: a `Dense` layer, or any function.
        gate_activation: activation after W.

    Returns:
        The gate, with the shape of the output of `weigh`.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> s = se_keras.ops.excite_once(np.ones((1, 2), "float32"), lambda z: 6 * z - 6)
    >>> [float(value) for value in s[0]]
    [0.5, 0.5]
    """
    gate = function("weigh", weigh)(_descriptor("z", z))
    return function("gate_activation", gate_activation)(gate)


def excite_neighbors(
    z: Tensor,
    convolve: Callable[[Tensor], Tensor],
    gate_activation: Callable[[Tensor], Tensor] = keras.ops.sigmoid,
) -> Tensor:
    """Turn the descriptor into a gate by a convolution over the channels, as ECA does.

    Args:
        z: descriptor, (N, C).
        convolve: (N, C, 1) -> (N, C, 1): a `Conv1D` layer with one filter, or any function.
        gate_activation: activation after the convolution.

    Returns:
        The gate s, (N, C).

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> s = se_keras.ops.excite_neighbors(np.ones((1, 2), "float32"), lambda z: z - 1)
    >>> [float(value) for value in s[0]]
    [0.5, 0.5]
    """
    function("convolve", convolve)
    return excite_once(
        keras.ops.expand_dims(_descriptor("z", z), -1),
        lambda z: keras.ops.squeeze(convolve(z), -1),
        gate_activation,
    )


def fuse(u: Tensor, s: Tensor, q: Tensor, fusion: str = "sum") -> Tensor:
    """Join scSE's gate for the channels and its gate for the positions into one gate.

    Args:
        u: the feature map that the gates multiply.
        s, q: gates of the same rank as `u`, with size 1 for axes along which they are constant.
        fusion: `"sum"` for `u s + u q`, or `"max"` for the larger of the two products.

    Returns:
        The joint gate, with the shape of `u`.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> u = np.array([[[-1.0, 1.0]]])
    >>> g = se_keras.ops.fuse(u, np.full((1, 1, 2), 0.25), np.full((1, 1, 1), 0.5), "max")
    >>> [float(value) for value in g[0, 0]]
    [0.25, 0.5]
    """
    u = feature_map("u", u)
    s, q = (_of_rank(name, gate, len(u.shape)) for name, gate in {"s": s, "q": q}.items())
    if one_of("fusion", fusion, FUSIONS) == "sum":
        return keras.ops.add(s, q)
    # For a negative number, the smaller gate gives the larger product.
    larger, smaller = keras.ops.maximum(s, q), keras.ops.minimum(s, q)
    return keras.ops.where(u < 0, smaller, larger)


def gather(u: Tensor, extent: int, pool: str = "avg", mask: Tensor | None = None) -> Tensor:
    """Describe windows of each channel by their means or maxima, as GE without parameters does.

    Args:
        u: feature map, (N, *spatial, C).
        extent: the extent e; windows have size 2 e - 1 and stride e. Positions outside of the map
            are ignored.
        pool: `"avg"` or `"max"`.
        mask: as in `squeeze`.

    Returns:
        The descriptors (N, ..., C), with ceil(size / e) windows on each axis, in float64 if `u` is
        float64, else in float32.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> v = se_keras.ops.gather(np.arange(4.0).reshape(1, 4, 1), 2)
    >>> [float(value) for value in v[0, :, 0]]
    [0.5, 2.0]
    """
    pool = one_of("pool", pool, POOLS)
    extent, u = positive_integer("extent", extent, 2**16), feature_map("u", u)
    axes = _spatial_axes(len(u.shape), "channels_last")
    u = keras.ops.cast(u, _dtype_of_sums(u))
    counts = keras.ops.ones_like(u[..., :1], "bool")
    if mask is not None:
        counts = keras.ops.logical_and(counts, _expand_mask(mask, u.shape, axes))
    share = _pool_windows(keras.ops.cast(counts, u.dtype), extent, axes)
    if pool == "max":
        v = _pool_windows(keras.ops.where(counts, u, float("-inf")), extent, axes, float("-inf"))
        return keras.ops.where(share > 0, v, 0.0)
    v = _pool_windows(keras.ops.where(counts, u, 0.0), extent, axes)
    return v / keras.ops.where(share > 0, share, 1.0)


def _pool_windows(x: Tensor, extent: int, axes: tuple[int, ...], outside: float = 0.0) -> Tensor:
    """Pool axis by axis: maxima if `outside` is -inf, else means."""
    # A window over all axes at once would read far more numbers, and TensorFlow can't pool float64
    # volumes on a CPU.
    pool = keras.ops.max_pool if outside else keras.ops.average_pool
    for axis in axes:
        shape = keras.ops.shape(x)
        x = keras.ops.reshape(
            x, (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
        )
        margins = [(0, 0), (extent - 1, extent - 1), (0, 0)]
        x = keras.ops.pad(x, margins, constant_values=outside)
        x = pool(x, 2 * extent - 1, extent, "valid", "channels_last")
        x = keras.ops.reshape(x, (*shape[:axis], keras.ops.shape(x)[1], *shape[axis + 1 :]))
    return x


def interpolate(v: Tensor, sizes: Sequence[int]) -> Tensor:
    """Resize a map to other spatial sizes by the nearest neighbor, as GE does.

    Args:
        v: feature map, (N, *spatial, C).
        sizes: the new spatial sizes.

    Returns:
        The map (N, *sizes, C); an axis of length 1 keeps its length, because it broadcasts.

    Raises:
        InputError: if `sizes` does not have one size for each spatial axis.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> g = se_keras.ops.interpolate(np.arange(2.0).reshape(1, 2, 1), (5,))
    >>> [int(value) for value in g[0, :, 0]]
    [0, 0, 0, 1, 1]
    """
    v = _descriptor("v", v)
    wanted = len(v.shape) - 2
    row = items_of(sizes)
    if row is None or len(row) != wanted:
        raise InputError(
            f"`sizes` must be one size for each spatial axis, {wanted}, got {shown(sizes)}."
        )
    for axis, size in enumerate(row, start=1):
        # In a traced function a size may be known only at run time.
        size = size if keras.ops.is_tensor(size) else positive_integer("sizes", size)
        if v.shape[axis] != 1:
            nearest = keras.ops.arange(size) * keras.ops.shape(v)[axis] // size
            v = keras.ops.take(v, nearest, axis=axis)
    return v


def without_masked(u: Tensor, mask: Tensor | None) -> Tensor:
    """Set masked positions to zero.

    Args:
        u: feature map, (N, *spatial, C).
        mask: as in `squeeze`; `None` returns the map unchanged.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> u = se_keras.ops.without_masked(np.ones((1, 2, 1)), np.array([[True, False]]))
    >>> [float(value) for value in u[0, :, 0]]
    [1.0, 0.0]
    """
    u = feature_map("u", u)
    if mask is None:
        return u
    counts = _expand_mask(mask, u.shape, _spatial_axes(len(u.shape), "channels_last"))
    return keras.ops.where(counts, u, 0)


def recalibrate(u: Tensor, gate: Tensor, data_format: str | None = None) -> Tensor:
    """Multiply each channel of the map by its gate (eq. 4).

    Args:
        u: feature map, (N, *spatial, C) or (N, C, *spatial).
        gate: (N, C), or a gate with the rank of `u` and spatial axes of size 1.
        data_format: as in `squeeze`.

    Returns:
        The recalibrated map, with the shape of `u`.

    Raises:
        InputError: if the gate does not fit the map, or `data_format` is invalid.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> x = se_keras.ops.recalibrate(np.ones((1, 2, 2, 1)), np.full((1, 1), 0.5), "channels_last")
    >>> float(x[0, 0, 0, 0])
    0.5
    """
    u = feature_map("u", u)
    expanded = expand_gate(gate, len(u.shape), data_format)
    alike = zip(expanded.shape, u.shape, strict=True)
    if any(None not in (one, of_map) and one not in (1, of_map) for one, of_map in alike):
        raise InputError(
            f"`gate` must fit the map of the shape {tuple(u.shape)}, got the shape "
            f"{tuple(gate.shape)}."
        )
    return keras.ops.multiply(u, expanded)


def expand_gate(gate: Tensor, rank: int, data_format: str | None = None) -> Tensor:
    """Expand a gate (N, C) to the rank of the map that it multiplies.

    Args:
        gate: (N, C), or a gate that already has this rank.
        rank: rank of the map.
        data_format: as in `squeeze`.

    Returns:
        (N, 1, ..., C), or (N, C, 1, ...) with `"channels_first"`.

    Raises:
        InputError: if `rank` is not 3, 4 or 5, or `data_format` is invalid.

    Example:

    >>> import numpy as np
    >>> import se_keras
    >>> tuple(se_keras.ops.expand_gate(np.ones((2, 8)), 4, "channels_first").shape)
    (2, 8, 1, 1)
    """
    rank = positive_integer("rank", rank)
    axes = _spatial_axes(rank, data_format)
    gate = checked_tensor("gate", gate)
    if len(gate.shape) == rank:
        return gate
    return keras.ops.expand_dims(_of_rank("gate", gate, 2, rank), axes)


# --- arguments -----------------------------------------------------------------------------------


def checked_tensor(argument: str, value: Any) -> Tensor:
    """Convert a value to a tensor of real numbers, or refuse it.

    Raises:
        InputError: if `value` is anything else.

    Example:

    >>> from se_keras.ops import checked_tensor
    >>> tuple(checked_tensor("inputs", [[1.0, 2.0]]).shape)
    (1, 2)
    """
    if isinstance(value, keras.KerasTensor):
        return value
    try:
        # TensorFlow may crash on a number of another class.
        given = plain(value) if isinstance(value, int | float) else value
        tensor = keras.ops.convert_to_tensor(given)
        kind = keras.backend.standardize_dtype(tensor.dtype)
    except Exception as error:  # an object of any class may raise any error
        raise InputError(_no_tensor(argument, value)) from error
    if kind.startswith(("string", "complex")):
        raise InputError(_no_tensor(argument, value))
    return tensor


def _no_tensor(argument: str, value: Any) -> str:
    return f"`{argument}` must be a tensor or an array of numbers, got {shown(value)}."


def _of_rank(argument: str, value: Any, *ranks: int) -> Tensor:
    tensor = checked_tensor(argument, value)
    if len(tensor.shape) not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise InputError(
            f"`{argument}` must have rank {wanted}, got the shape {tuple(tensor.shape)}."
        )
    return tensor


def feature_map(argument: str, value: Any) -> Tensor:
    """Convert a value to a feature map, or refuse it.

    Raises:
        InputError: if `value` is not a tensor of rank 3, 4 or 5.

    Example:

    >>> from se_keras.ops import feature_map
    >>> tuple(feature_map("inputs", [[[1.0, 2.0]]]).shape)
    (1, 1, 2)
    """
    tensor = checked_tensor(argument, value)
    if len(tensor.shape) not in (3, 4, 5):
        raise InputError(
            f"`{argument}` must be a feature map of rank 3, 4 or 5, (N, *spatial, C) or "
            f"(N, C, *spatial), got the shape {tuple(tensor.shape)}."
        )
    return tensor


def _descriptor(argument: str, value: Any) -> Tensor:
    return _of_rank(argument, value, 2, 3, 4, 5)


def _spatial_axes(rank: int, data_format: str | None) -> tuple[int, ...]:
    if rank not in (3, 4, 5):
        raise InputError(
            "`rank` must be the rank of a feature map, 3, 4 or 5: "
            f"(N, *spatial, C) or (N, C, *spatial), got {rank}."
        )
    first = 2 if standardize_data_format(data_format) == "channels_first" else 1
    return tuple(range(first, first + rank - 2))


def standardize_data_format(data_format: str | None) -> str:
    """Return the given format, or Keras' global format for `None`.

    Raises:
        InputError: if `data_format` is not `None`, `"channels_last"` or `"channels_first"`.

    Example:

    >>> from se_keras.ops import standardize_data_format
    >>> standardize_data_format("channels_first")
    'channels_first'
    """
    data_format = keras.config.image_data_format() if data_format is None else data_format
    return one_of("data_format", data_format, ("channels_last", "channels_first"))
