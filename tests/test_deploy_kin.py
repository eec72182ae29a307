"""Exports of networks with the kin of squeeze-and-excitation, in every format."""

from dataclasses import replace

import pytest
from checks import set_random_weights, uniform

import se_keras
from se_keras.models.recipes import find_recipe

KIN = {
    "eca": ("eca", {}),
    "ese": ("ese", {}),
    "scse": ("scse", {}),
    "scse_max": ("scse", {"fusion": "max"}),
    "ge": ("ge", {}),
    "ge_plus": ("ge", {"extent": 4, "extra_params": True, "use_mlp": True}),
}


def network(case):
    kind, options = KIN[case]
    row = replace(find_recipe("seresnet50"), depths=(1, 1, 1, 1))
    model = se_keras.create(
        row, input_shape=(64, 64, 3), classes=10, attention=kind, se_options=options
    )
    set_random_weights(model)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("case", KIN)
@pytest.mark.parametrize(
    ("format", "name"),
    [("onnx", "a.onnx"), ("tf_saved_model", "a"), ("openvino", "a"), ("litert", "a.tflite")],
)
def test_files_compute_what_the_model_does(case, format, name, tmp_path):
    samples = uniform((8, 64, 64, 3))
    report = se_keras.export(network(case), tmp_path / name, format, calibration=samples)
    assert report.max_difference < 1e-5
    if format == "onnx":
        import onnx

        # No operator beyond ONNX's own.
        assert {node.domain for node in onnx.load(tmp_path / name).graph.node} == {""}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["eca", "scse_max", "ge_plus"])
def test_int8_is_near(case, tmp_path):
    samples = uniform((60, 64, 64, 3))
    path = tmp_path / "a.onnx"
    report = se_keras.export(network(case), path, "onnx", "int8", calibration=samples)
    assert report.rms_difference < 0.1
