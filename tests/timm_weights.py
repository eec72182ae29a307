"""Draw weights for timm and Keras from timm's tensor names.

Needs neither timm nor torch. `golden/make_timm.py` runs timm with these weights and stores the
outputs; the tests run Keras with them.
"""

import hashlib

import drawn_weights
import numpy as np
from safetensors.numpy import save_file

SIZES = (224, 225)
# With drawn weights they are so deep that float32's rounding grows to 10 % and more of the logits:
# they are compared in float64.
DEEP = ("seresnet269d", "ecaresnet269d", "resnetrs270")
# In these even float64's grows to 3e-4: `test_the_deepest_networks_are_timms` has other weights.
DEEPEST = ("resnetrs350", "resnetrs420")
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
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, "int64")
    vectors = {"running_var": "variance", "weight": "factor"}
    kind = vectors.get(leaf, "shift") if len(shape) == 1 else "kernel"
    return drawn_weights.draw(name, shape, kind, 2.0 / np.prod(shape[1:]))


def digest(shapes):
    """Of names and shapes, in any order."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def with_counters(shapes):
    """Add the counters of PyTorch's normalizations, which Keras does not have."""
    norms = [name.removesuffix("running_mean") for name in shapes if name.endswith("running_mean")]
    return {**shapes, **{f"{norm}num_batches_tracked": () for norm in norms}}


def write_drawn(path, shapes):
    """A safetensors file of drawn weights: of names and shapes, and the counters that they miss."""
    tensors = {name: draw(name, shape) for name, shape in with_counters(shapes).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return path
