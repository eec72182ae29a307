"""The engines that run exported files: one row for each format.

The packages of an engine are imported only when it loads a file.
"""

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from se_keras.metadata import MARKERS, SUFFIXES
from se_keras.support.arguments import one_of
from se_keras.support.errors import extra
from se_keras.support.files import refuse_pipes
from se_keras.support.streams import standard_error_held_back

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

OPENVINO_FILE = MARKERS["openvino"]
# Always stated, because OpenVINO would otherwise compute float32 models in bfloat16 on some CPUs.
# The rest of an int8 model is bfloat16: the products with gates are limited by memory.
OPENVINO_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "int8": "bf16"}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine.

    Attributes:
        format: name of the format in `export`.
        package: the distribution that runs the format.
        extra: the extra of se_keras that installs it; `None` if no extra is needed.
        modules: modules of the extra's packages that the format needs.
        marker: the file that marks a folder of the format; `None` if the format is one file.
        suffix: suffix of its files, or of the default name of its folders.
        loader: function that `load` calls.
    """

    format: str
    package: str
    extra: str | None = None
    modules: tuple[str, ...] = ()
    marker: str | None = None
    suffix: str
    loader: Callable[[Path, str, int | None], Run]

    def require(self) -> None:
        """Raise `MissingExtraError` if a package is not installed, without importing any."""
        if self.extra is None:
            return
        with extra(self.extra):
            for module in self.modules:
                if find_spec(module) is None:
                    raise ModuleNotFoundError(name=module)

    def load(self, path: str | os.PathLike, precision: str, threads: int | None = None) -> Run:
        """Load a file of this format.

        Args:
            path: the file or folder that `export` wrote.
            precision: precision of the export.
            threads: number of threads for one batch; `None` for all cores. TensorFlow has one
                number for the whole process, which must be set before it computes anything.

        Returns:
            A function that takes one array (N, H, W, C) for each input and returns one array for
            each output, in the order of the Keras model. Several threads may call it at the same
            time. If an example has a NaN, its outputs are NaN.

        Raises:
            MissingExtraError: if a package is not installed.
            ValueError: if `path` is a pipe or a device, or holds one.
        """
        self.require()
        refuse_pipes(Path(path))
        run = self.loader(Path(path), precision, threads)

        def run_any(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            if all(map(len, arrays)):
                return _with_nans(run(arrays), arrays)
            # Some engines refuse an empty batch.
            ones = [np.zeros((1, *array.shape[1:]), array.dtype) for array in arrays]
            return [output[:0] for output in run(ones)]

        return run_any

    @property
    def description(self) -> str:
        """The package and its version."""
        return f"{self.package} {version(self.package)}"


def _with_nans(outputs: list[np.ndarray], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs, with NaN for examples with NaN, which a ReLU may have hidden."""
    if not any(
        np.isnan(np.min(array, initial=0)) for array in arrays
    ):  # without an array of the same size
        return outputs
    lost = np.any([np.isnan(array).reshape(len(array), -1).any(1) for array in arrays], 0)
    floats = [np.issubdtype(output.dtype, np.floating) for output in outputs]
    shapes = [(-1, *[1] * (output.ndim - 1)) for output in outputs]
    return [
        np.where(lost.reshape(shape), output.dtype.type(np.nan), output) if is_float else output
        for output, shape, is_float in zip(outputs, shapes, floats, strict=True)
    ]


def _load_tensorflow(path: Path, precision: str, threads: int | None) -> Run:
    import tensorflow as tf

    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(str(path))

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = loaded.serve(*(tf.constant(array) for array in arrays))
        return [output.numpy() for output in tf.nest.flatten(outputs)]

    return run


def import_onnxruntime() -> Any:
    """Import ONNX Runtime, which would send usage statistics and write to the home folder."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _load_onnxruntime(path: Path, precision: str, threads: int | None) -> Run:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: one thread per core
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def _load_openvino(path: Path, precision: str, threads: int | None) -> Run:
    import openvino

    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": OPENVINO_PRECISIONS[precision]}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(path / OPENVINO_FILE, "CPU", options)
    own = threading.local()

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        if not hasattr(own, "request"):  # threads must not share a request
            own.request = compiled.create_infer_request()
        return list(own.request.infer(list(arrays)).values())

    return run


def _is_no_note_of_litert(line: bytes) -> bool:
    # It is written when the tensors of a model are first allocated.
    return b"XNNPACK delegate" not in line


def _load_litert(path: Path, precision: str, threads: int | None) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    # The default is one core.
    interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    shapes: list[tuple[int, ...]] = []
    one_at_a_time = threading.Lock()

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with one_at_a_time:
            return run_alone(arrays)

    def run_alone(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        if shapes != [array.shape for array in arrays]:
            for detail, array in zip(inputs, arrays, strict=True):
                interpreter.resize_tensor_input(detail["index"], array.shape)
            with nullcontext() if shapes else standard_error_held_back(_is_no_note_of_litert):
                interpreter.allocate_tensors()
            shapes[:] = [array.shape for array in arrays]
        for detail, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in outputs]

    return run


ENGINES = (
    Engine(
        format="tf_saved_model",
        package="tensorflow",
        marker=MARKERS["tf_saved_model"],
        suffix="-saved_model",
        loader=_load_tensorflow,
    ),
    Engine(
        format="onnx",
        package="onnxruntime",
        extra="onnx",
        modules=("onnx", "onnxruntime", "tf2onnx"),
        suffix=SUFFIXES["onnx"],
        loader=_load_onnxruntime,
    ),
    Engine(
        format="openvino",
        package="openvino",
        extra="openvino",
        modules=("nncf", "openvino"),
        marker=OPENVINO_FILE,
        suffix="-openvino",
        loader=_load_openvino,
    ),
    Engine(
        format="litert",
        package="ai-edge-litert",
        extra="litert",
        modules=("ai_edge_litert",),
        suffix=SUFFIXES["litert"],
        loader=_load_litert,
    ),
)


def find_engine(format: str) -> Engine:
    """Return the engine of a format.

    Raises:
        InputError: if there is no such format.

    Example:

    >>> from se_keras.deploy.engines import find_engine
    >>> find_engine("litert").suffix
    '.tflite'
    """
    rows = {engine.format: engine for engine in ENGINES}
    return rows[one_of("format", format, rows)]
