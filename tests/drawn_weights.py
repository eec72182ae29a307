"""Draw weights from name and shape alone, so that networks of all libraries get equal weights.

Needs NumPy alone: the scripts in `golden/` run where there is no Keras 3, or no PyTorch.
"""

import zlib

import numpy as np


def draw(name, shape, kind, variance):
    """Draw float32 weights with which the values of a deep network keep their size.

    `kind` is "variance" or "factor" for those of a normalization, "shift" for any other vector,
    and "kernel", whose numbers have this variance.
    """
    rng = np.random.default_rng([0, zlib.crc32(name.encode())])
    if kind == "variance":
        values = rng.uniform(0.5, 1.5, shape)
    elif kind == "factor":
        values = rng.uniform(0.5, 1.0, shape)
    else:
        spread = {"shift": 0.1, "kernel": np.sqrt(variance)}[kind]
        values = rng.standard_normal(shape) * spread
    return values.astype("float32")


def image(size):
    """One image, (1, size, size, 3) float32."""
    return np.random.default_rng(size).standard_normal((1, size, size, 3)).astype("float32")
