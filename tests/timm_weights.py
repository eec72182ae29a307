"""Weights that timm and Keras can both be given, drawn by timm's tensor names.

Needs neither timm nor torch: `golden/make_timm.py` runs timm with these weights and keeps what
comes out, the tests run Keras with them.
"""

import re
import zlib

import numpy as np

SIZES = (224, 225)
# Our names, as patterns, and timm's. `stage2` is timm's `layer1`, block 1 its block 0.
BLOCK = r"stage(?P<stage>\d)_block(?P<block>\d+)_"
DEEP_STEM = {
    "stem_conv1": "conv1.0",
    "stem_norm1": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_norm2": "conv1.4",
    "stem_conv3": "conv1.6",
    "stem_norm3": "bn1",
}
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


def timm_name(path, legacy, pool_shortcut):
    """timm's name of the tensor that a Keras variable path stands for."""
    layer, *inner, variable = path.split("/")
    return f"{_timm_layer(layer, inner, legacy, pool_shortcut)}.{VARIABLES[variable]}"


def _timm_layer(layer, inner, legacy, pool_shortcut):
    if layer == "predictions":
        return "last_linear" if legacy else "fc"
    if layer.startswith("stem"):
        part = layer.removeprefix("stem_").replace("norm", "bn")
        part = part if part[-1].isdigit() else f"{part}1"
        return f"layer0.{part}" if legacy else DEEP_STEM.get(layer, part)
    place = re.match(BLOCK, layer)
    part = layer[place.end() :]
    if inner:
        part = f"{'se_module' if legacy else 'se'}.{ {'reduce': 'fc1', 'expand': 'fc2'}[inner[0]] }"
    elif part.startswith("shortcut"):
        first = 1 if pool_shortcut else 0
        part = f"downsample.{first + (part == 'shortcut_norm')}"
    else:
        part = part.replace("norm", "bn")
    return f"layer{int(place['stage']) - 1}.{int(place['block']) - 1}.{part}"


def assign(model, legacy, pool_shortcut):
    """Gives a Keras network the weights that `draw` gives timm's."""
    for weight in model.weights:
        name = timm_name(weight.path, legacy, pool_shortcut)
        shape = tuple(weight.shape)
        if len(shape) == 4:  # timm: (out, in, height, width)
            weight.assign(draw(name, (shape[3], shape[2], *shape[:2])).transpose(2, 3, 1, 0))
        elif len(shape) == 2:  # SE in timm is two 1x1 convolutions
            tail = (1, 1) if ".fc" in name else ()
            weight.assign(draw(name, (*shape[::-1], *tail)).reshape(shape[::-1]).T)
        else:
            weight.assign(draw(name, shape))
