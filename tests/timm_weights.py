"""Weights that timm and Keras can both be given, drawn by timm's tensor names.

Needs neither timm nor torch: `golden/make_timm.py` runs timm with these weights and keeps what
comes out, the tests run Keras with them.
"""

import hashlib
import zlib

import numpy as np
from safetensors.numpy import save_file

SIZES = (224, 225)
VARIABLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def draw(name, shape):
    """The array for one of timm's tensors: float32, by its name and shape only."""
    rng = np.random.default_rng([0, zlib.crc32(name.encode())])
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, "int64")
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 1 and name.endswith("weight"):
        values = rng.uniform(0.5, 1.0, shape)
    elif len(shape) == 1:
        values = 0.1 * rng.standard_normal(shape)
    else:
        values = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    return values.astype("float32")


def image(size):
    """One image, (1, size, size, 3) float32."""
    return np.random.default_rng(size).standard_normal((1, size, size, 3)).astype("float32")


def digest(shapes):
    """Of names and shapes, in any order."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def with_counters(shapes):
    """Adds what PyTorch's normalisations have and Keras' have not."""
    norms = [name.removesuffix("running_mean") for name in shapes if name.endswith("running_mean")]
    return {**shapes, **{f"{norm}num_batches_tracked": () for norm in norms}}


def write_drawn(path, shapes):
    """A safetensors file of drawn weights: of names and shapes, and the counters that they miss."""
    tensors = {name: draw(name, shape) for name, shape in with_counters(shapes).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return path
