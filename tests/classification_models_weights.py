"""Draw weights for classification_models and Keras 3 from the names in the file.

Needs no Keras: `golden/make_classification_models.py` runs classification_models with these weights
and keeps what comes out and how its h5 file is laid out; the tests write such a file without it.
"""

import drawn_weights
import h5py
import numpy as np

SIZES = (64, 97)
# What our rows are there.
NAMES = {
    "seresnet18": "cm_seresnet18",
    "seresnet34": "cm_seresnet34",
    "seresnet50": "cm_seresnet50",
    "seresnet101": "cm_seresnet101",
    "seresnet152": "cm_seresnet152",
    "seresnext50": "seresnext50_32x4d",
    "seresnext101": "seresnext101_32x4d",
    "senet154": "senet154",
}


def draw(name, shape):
    """The array for a variable such as `conv2d_1/kernel:0`: float32, by name and shape only."""
    of_norm = {"moving_variance:0": "variance", "gamma:0": "factor"}
    other = "shift" if len(shape) == 1 else "kernel"
    kind = of_norm.get(name.rpartition("/")[2], other)
    return drawn_weights.draw(name, shape, kind, 1.0 / np.prod(shape[:-1]))


def layers_of(file):
    """(layer, ((name of the variable, shape), ...)) for each layer of a h5 file, in its order."""
    group, layers = file.get("model_weights", file), []
    for layer in texts(group, "layer_names"):
        names = texts(group[layer], "weight_names")
        layers.append((layer, tuple((name, group[layer][name].shape) for name in names)))
    return layers


def texts(group, attribute):
    split = sorted(
        (key for key in group.attrs if key.removeprefix(attribute).isdecimal()),
        key=lambda key: int(key.removeprefix(attribute)),
    )
    parts = [group.attrs[key] for key in ([attribute] if attribute in group.attrs else split)]
    return [text.decode() if isinstance(text, bytes) else text for part in parts for text in part]


def write_h5(path, layers, draw=draw, root=None):
    """A file as Keras 2 writes it; `root="model_weights"` as a part of a whole model.

    Without `draw` the file has room for the values, a hole that takes none of the disk.
    """
    hole = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    hole.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    hole.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        group = file if root is None else file.create_group(root)
        write_texts(group, "layer_names", [layer for layer, _ in layers])
        for layer, variables in layers:
            own = group.create_group(layer)
            write_texts(own, "weight_names", [name for name, _ in variables])
            for name, shape in variables:
                if draw is None:
                    own.create_dataset(name, shape, "float32", dcpl=hole)
                else:
                    own.create_dataset(name, shape, "float32", draw(name, shape))
    return path


def write_texts(group, attribute, texts, most=64_000):
    """In pieces where they are too long for HDF5's header, as Keras 2 has it."""
    array = np.array([text.encode() for text in texts])
    pieces = np.array_split(array, -(-array.nbytes // most) or 1)
    for number, piece in enumerate(pieces):
        group.attrs[attribute if len(pieces) == 1 else f"{attribute}{number}"] = piece


def to_text(layers):
    """One line a layer: its name, then name and shape of each variable."""
    shapes = ([f"{name} {'x'.join(map(str, s))}" for name, s in own] for _, own in layers)
    return "\n".join(
        " ".join([layer, *own]) for (layer, _), own in zip(layers, shapes, strict=True)
    )


def from_text(text):
    layers = []
    for line in text.splitlines():
        layer, *words = line.split()
        shapes = (tuple(map(int, shape.split("x"))) for shape in words[1::2])
        layers.append((layer, tuple(zip(words[::2], shapes, strict=True))))
    return layers
