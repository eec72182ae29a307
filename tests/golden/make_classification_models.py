"""Run classification_models' SE networks with drawn weights, and store their outputs.

Needs image-classifiers 1.0.0 with tf_keras, not Keras 3:

    TF_USE_LEGACY_KERAS=1 python tests/golden/make_classification_models.py [NAME...] [--h5 FOLDER]

Each file holds, for each size in `SIZES`, `logits_64` (1000,), and `layers`: the layers of the h5
file in its order, with names and shapes of their variables. `--h5` keeps the files themselves too,
with and without the classifier, and what the networks give, logits and map, at `SIZES` and 224.
"""

import argparse
import pathlib
import sys
import tempfile

import h5py
import numpy as np
import tf_keras

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from classification_models.models import resnet, senet  # noqa: E402
from classification_models_weights import (  # noqa: E402
    NAMES,
    SIZES,
    draw,
    layers_of,
    to_text,
)
from drawn_weights import image  # noqa: E402

BUILDERS = {
    "seresnet18": resnet.SEResNet18,
    "seresnet34": resnet.SEResNet34,
    "seresnet50": senet.SEResNet50,
    "seresnet101": senet.SEResNet101,
    "seresnet152": senet.SEResNet152,
    "seresnext50": senet.SEResNeXt50,
    "seresnext101": senet.SEResNeXt101,
    "senet154": senet.SENet154,
}
MODULES = {
    "backend": tf_keras.backend,
    "layers": tf_keras.layers,
    "models": tf_keras.models,
    "utils": tf_keras.utils,
}


def built(name, include_top=True):
    tf_keras.backend.clear_session()  # numbers the layers from the beginning
    model = BUILDERS[name](input_shape=(None, None, 3), include_top=include_top, **MODULES)
    for variable in model.weights:
        variable.assign(draw(variable.name, variable.shape.as_list()))
    return model


def outputs(model, sizes):
    """Return the output of the last layer with weights, or the last map."""
    end = model.layers[-2] if model.layers[-1].output.shape.rank == 2 else model.layers[-1]
    probe = tf_keras.Model(model.input, end.output)
    return {size: probe(image(size)).numpy()[0] for size in sizes}


def reference(name, path):
    model = built(name)
    model.save_weights(path)
    with h5py.File(path) as file:
        text = to_text(layers_of(file))
    return {
        "layers": np.array(text.encode()),
        **{f"logits_{size}": value for size, value in outputs(model, SIZES).items()},
    }


def keep_files(name, folder):
    for end, include_top in (("", True), ("_no_top", False)):
        model = built(name, include_top)
        model.save_weights(folder / f"{name}{end}.h5")
        given = outputs(model, (*SIZES, 224))
        np.savez(folder / f"{name}{end}.npz", **{str(size): y for size, y in given.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--h5", type=pathlib.Path)
    options = parser.parse_args()
    for name in options.names:
        if options.h5:
            keep_files(name, options.h5)
            continue
        with tempfile.TemporaryDirectory() as folder:
            arrays = reference(name, pathlib.Path(folder) / "weights.h5")
        path = HERE / f"classification_models_{name}.npz"
        np.savez_compressed(path, **arrays)
        print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
