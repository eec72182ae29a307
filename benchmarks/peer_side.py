"""Make or run the network of another library in that library's interpreter, for `peers.py`.

python -P peer_side.py export MAKER NETWORK SIZE PATH    writes a file for an engine
python -P peer_side.py run MAKER SPECIFICATION           takes turns, like worker.py

NETWORK is `se` for an SE-ResNet-50 or `plain` for a ResNet-50. All weights are new.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path


def import_timm():
    """Import timm, also beside a torchvision of another build, whose operators are then missing."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for operator in ("nms", "qnms"):  # all that timm's imports ask for
            STUBS.append(torch.library.Library("torchvision", "FRAGMENT"))
            STUBS[-1].define(f"{operator}(Tensor boxes, Tensor s, float t) -> Tensor")
    import timm

    return timm


STUBS: list = []  # an operator is there as long as its library


def _torch_network(network: str):
    return import_timm().create_model({"se": "seresnet50", "plain": "resnet50"}[network]).eval()


# --- networks that run here ----------------------------------------------------------------------


def timm_eager(given: dict):
    import torch

    torch.set_num_threads(given["threads"])
    torch.set_num_interop_threads(1)
    return _torch_run(_torch_network(given["network"]))


def timm_compiled(given: dict):
    import torch

    torch.set_num_threads(given["threads"])
    torch.set_num_interop_threads(1)
    return _torch_run(torch.compile(_torch_network(given["network"])))


def timm_frozen(given: dict):
    # Fold batch normalization and pack the weights first, as PyTorch advises for CPUs.
    os.environ["TORCHINDUCTOR_FREEZING"] = "1"
    return timm_compiled(given)


def _torch_run(model):
    import torch

    def run(arrays):
        with torch.no_grad():
            return model(torch.from_numpy(arrays[0])).numpy()

    return run


# --- networks that are exported ------------------------------------------------------------------


def timm_onnx(network: str, size: int, path: Path) -> None:
    import torch

    images = torch.zeros(2, 3, size, size)
    torch.onnx.export(
        _torch_network(network),
        (images,),
        str(path),
        dynamo=True,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )


def classification_models_saved_model(network: str, size: int, path: Path) -> None:
    os.environ["SM_FRAMEWORK"] = "tf.keras"
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    if network == "se":
        from classification_models.tfkeras import Classifiers

        builder, _ = Classifiers.get("seresnet50")
        builder((size, size, 3), weights=None).export(str(path))
    else:
        # Its own resnet50 is a network with pre-activation (ResNet v2).
        import tf_keras

        builder = tf_keras.applications.ResNet50
        builder(weights=None, input_shape=(size, size, 3)).export(str(path))


def zeromodels_saved_model(network: str, size: int, path: Path) -> None:
    from zeromodels.models.senet import SENetConfig, SENetImageClassify

    config = SENetConfig(depths=(3, 4, 6, 3), senet=network == "se", image_size=size)
    _export(SENetImageClassify(config), "tf_saved_model", path)


def stock_saved_model(network: str, size: int, path: Path) -> None:
    _export(_stock(network, size), "tf_saved_model", path)


def stock_onnx(network: str, size: int, path: Path) -> None:
    _export(_stock(network, size), "onnx", path)


def stock_openvino(network: str, size: int, path: Path) -> None:
    path.mkdir()
    _export(_stock(network, size), "openvino", path / "model.xml")


def stock_litert(network: str, size: int, path: Path) -> None:
    _export(_stock(network, size), "litert", path)


def _export(model, format: str, path: Path) -> None:
    import numpy as np

    model(
        np.zeros((1, *model.input_shape[1:]), "float32")
    )  # Keras' ONNX export needs a model that was called
    model.export(str(path), format=format, verbose=False)


def _stock(network: str, size: int):
    """Build keras.applications.ResNet50 with SE in the usual four layers."""
    import keras
    from keras import layers

    def squeeze_excite(x):
        channels = x.shape[-1]
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        gate = layers.Dense(channels // 16, activation="relu")(gate)
        gate = layers.Dense(channels, activation="sigmoid")(gate)
        return layers.Multiply()([x, gate])

    def call(layer, *arguments, **options):
        y = layer(*arguments, **options)
        return squeeze_excite(y) if layer.name.endswith("_3_bn") else y

    model = keras.applications.ResNet50(weights=None, input_shape=(size, size, 3))
    if network == "plain":
        return model
    return keras.models.clone_model(model, clone_function=_same, call_function=call)


def _same(layer):
    return type(layer).from_config(layer.get_config())


def _own(network: str, size: int):
    import se_keras

    # Without a softmax, as timm's: probabilities of an untrained network round to 0 in int8.
    return se_keras.create(
        "seresnet50", se=network == "se", input_shape=(size, size, 3), classifier_activation=None
    )


def _inserted(network: str, size: int):
    import keras

    import se_keras

    model = keras.applications.ResNet50(weights=None, input_shape=(size, size, 3))
    # With a warm start the gates are constants, which the export would fold away.
    return se_keras.insert_se(model, warm_start=False) if network == "se" else model


def se_keras_export(format: str, precision: str, build=_own):
    """Return a function that exports one of our networks."""

    def export(network: str, size: int, path: Path) -> None:
        import se_keras
        from se_keras.deploy.calibration import open_samples

        model = build(network, size)
        photos = open_samples(model, None).comparison[0] if precision == "int8" else None
        se_keras.export(model, path, format, precision, photos)

    return export


FORMATS = ("tf_saved_model", "onnx", "openvino", "litert")
RUNS = {make.__name__: make for make in (timm_eager, timm_compiled, timm_frozen)}
EXPORTS = (
    {
        make.__name__: make
        for make in (
            timm_onnx,
            classification_models_saved_model,
            zeromodels_saved_model,
            stock_saved_model,
            stock_onnx,
            stock_openvino,
            stock_litert,
        )
    }
    | {
        f"se_keras_{format}_{precision}": se_keras_export(format, precision)
        for format in FORMATS
        for precision in ("float32", "bfloat16", "int8")
    }
    | {
        f"se_keras_{format}_inserted": se_keras_export(format, "float32", _inserted)
        for format in FORMATS
    }
)


def _worker():
    """Load the worker module, which only needs NumPy, without the package."""
    path = Path(__file__).with_name("worker.py")
    spec = importlib.util.spec_from_file_location("worker", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    command, maker, *rest = sys.argv[1:]
    if command == "export":
        network, size, path = rest
        EXPORTS[maker](network, int(size), Path(path))
        return
    worker = _worker()
    answers = worker.claim_output()
    given = json.loads(rest[0])
    run = RUNS[maker](given)
    images = worker.noise((given["batch"], 3, given["size"], given["size"]), "float32")
    worker.serve_turns(run, [images], given["clock"], answers)


if __name__ == "__main__":
    main()
