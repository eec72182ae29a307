"""Export to OpenVINO; NNCF quantizes to int8."""

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from se_keras.deploy.calibration import Arrays, describe_count, split_batches
from se_keras.deploy.engines import OPENVINO_FILE
from se_keras.deploy.tf_function import Served, serve
from se_keras.deploy.to_saved_model import save_open

# OpenVINO can't store this hint in the file.
HINT = "compile with INFERENCE_PRECISION_HINT {}"
REST_HINT = HINT.format("bf16") + " for the rest"

# With these variables OpenVINO and NNCF take a run for an automated one, and send no statistics.
AUTOMATED = {"CI": "true", "NNCF_CI": "1"}


@contextmanager
def _without_statistics() -> Iterator[None]:
    """Keep OpenVINO and NNCF from sending statistics and from writing to the home folder."""
    before = {name: os.environ.get(name) for name in AUTOMATED}
    os.environ.update(AUTOMATED)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


@_without_statistics()
def write_openvino(model: keras.Model, path: Path) -> str:
    _save(_convert(model), path)
    return f"float32 weights; {HINT.format('f32')}"


@_without_statistics()
def write_openvino_bfloat16(model: keras.Model, path: Path) -> str:
    _save(_convert(model), path, compress_to_fp16=True)
    return f"float16 weights; {HINT.format('bf16')}"


@_without_statistics()
def quantize_openvino(model: keras.Model, path: Path, calibration: Arrays) -> str:
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    batches = [list(batch) for batch in split_batches(calibration, model.inputs[0].shape[0] or 1)]
    # NNCF's defaults clip each range at the mean of the images' maxima, and correct biases by a
    # rounded mean. Both change the answers of small networks far too often.
    parameters = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        disable_bias_correction=True,
    )
    with _quiet_nncf():
        quantized = nncf.quantize(
            _convert(model),
            nncf.Dataset(batches),
            subset_size=len(batches),
            advanced_parameters=parameters,
        )
    _save(quantized, path)
    return f"weights and activations in int8 by NNCF, {describe_count(calibration)}; {REST_HINT}"


@_without_statistics()
def compress_openvino(model: keras.Model, path: Path) -> str:
    import nncf

    mode = nncf.CompressWeightsMode.INT8_SYM
    with _quiet_nncf():
        _save(nncf.compress_weights(_convert(model), mode=mode), path)
    return f"int8 weights per channel by NNCF; {REST_HINT}"


@contextmanager
def _quiet_nncf() -> Iterator[None]:
    """Hide NNCF's notes, and in a notebook its advice to install ipywidgets."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", 'install "ipywidgets"')
        yield


def _convert(model: keras.Model) -> Any:
    import openvino
    from openvino.passes import ConstantFolding, Manager

    served = serve(model)
    with tempfile.TemporaryDirectory() as folder:
        save_open(served, folder)
        converted = openvino.convert_model(folder)
    _set_constants(converted, served)
    # The converter loses the order of outputs, and merges the names of one tensor.
    ordered = openvino.Model(
        [_result(converted.output(name).get_node(), name) for name in served.output_names],
        [converted.input(name).get_node() for name in served.input_names],
        model.name,
    )
    manager = Manager()
    manager.register_pass(ConstantFolding())  # folds transposes of kernels
    manager.run_passes(ordered)
    return ordered


def _result(of: Any, name: str) -> Any:
    from openvino import opset13

    return opset13.result(of.input_value(0), name=name)


def _set_constants(converted: Any, served: Served) -> None:
    from openvino import opset13

    for parameter in converted.get_parameters():
        own = parameter.output(0)
        name = next(iter(own.get_names() & served.weights.keys()), None)
        if name is None:
            continue
        constant = opset13.constant(served.weights[name], name=name)
        for consumer in own.get_target_inputs():
            consumer.replace_source_output(constant.output(0))
        converted.remove_parameter(parameter)


def _save(converted: Any, path: Path, compress_to_fp16: bool = False) -> None:
    import openvino

    path.mkdir()
    openvino.save_model(converted, path / OPENVINO_FILE, compress_to_fp16)
