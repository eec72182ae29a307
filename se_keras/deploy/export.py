"""Export a model to a file of an engine, and compare the file with the model."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np

from se_keras.class_names import labels_of
from se_keras.deploy.calibration import Arrays, Samples, open_samples, split_batches
from se_keras.deploy.engines import Engine, Run, find_engine
from se_keras.deploy.targets import Target, find_target
from se_keras.deploy.tf_function import with_policy
from se_keras.graph import ends_of, innermost_layers, is_quantized
from se_keras.images import line_of
from se_keras.metadata import describe, write_metadata
from se_keras.support import arguments
from se_keras.support.errors import MAX_TEXT, InputError, WrongResultError, in_one_line
from se_keras.support.files import is_utf8, lacks_room, remove, write_json, written_beside
from se_keras.support.tables import format_table, visible
from se_keras.support.timing import seconds_in_turn

# Largest allowed difference of a float32 export, relative to the largest output. Only the order of
# sums may differ. (A model with layers in 16 bits differs in the third digit anyway.)
TOLERANCE = 1e-3
TOLERANCE_16_BITS = 5e-2
# Root mean square of the differences of an export in fewer bits, relative to the outputs. Good int8
# files have up to 0.025, and a file in which a converter had lost a scale had 1. The largest
# difference is no measure: the class of a single image may change.
TOLERANCE_FEWER_BITS = 0.25
BATCH = 8
ROUNDS = 15
REPORT_SUFFIX = ".report.json"
# The number of classes that the table names; it only counts the others.
NAMED = 5


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The result of `export`: the file, compared with the Keras model; prints as a table.

    Attributes:
        path: the file or folder.
        format, precision: format and precision of the export.
        method: how the precision was reached.
        engine: package and version that ran the file.
        metadata: metadata in the file, as far as it is known: `class_names`; `inputs` with names,
            shapes, types and layout; `pixels`, the fields of `se_keras.Pixels`.
        takes: description of the model's inputs in words.
        samples: number of compared samples.
        compared_on: description of the compared samples in words.
        trained_on: number of compared samples that the model was trained on; `None` if it is
            unknown.
        accuracy, keras_accuracy: accuracy of the file and of the Keras model on these samples;
            `None` if the classes are unknown.
        max_difference: largest difference of an output, relative to its largest value.
        rms_difference: root mean square of the differences, relative to the output's root mean
            square.
        top1_agreement: share of samples with the same top class; `None` if no output is
            (N, classes).
        size: bytes on disk.
        keras_size: bytes of the Keras model's weights.
        latency: seconds for one sample in the engine, the median of `ROUNDS`.
        keras_latency: seconds for one sample in `model.predict_on_batch`, measured in turn.
    """

    path: str
    format: str
    precision: str
    method: str
    engine: str
    metadata: dict[str, Any]
    takes: str
    samples: int
    compared_on: str
    trained_on: int | None
    accuracy: float | None
    keras_accuracy: float | None
    max_difference: float
    rms_difference: float
    top1_agreement: float | None
    size: int
    keras_size: int
    latency: float
    keras_latency: float

    @property
    def latency_ratio(self) -> float:
        """The engine's latency divided by Keras' latency."""
        return self.latency / self.keras_latency

    def __str__(self) -> str:
        agreement = self.top1_agreement
        rows = [
            ("file", self.path),
            ("format", f"{self.format}, {self.precision}"),
            ("method", self.method),
            ("engine", self.engine),
            ("takes", self.takes),
            ("class names", _list_names(self.metadata.get("class_names", []))),
            ("compared on", self.compared_on),
            ("trained on", self._trained_on),
            ("accuracy", self._accuracy),
            ("largest difference", f"{self.max_difference:.1e} of the largest output"),
            ("typical difference", f"{self.rms_difference:.1e} of a typical output"),
            ("same top-1 class", "no classes" if agreement is None else f"{agreement:.1%}"),
            ("size", f"{self.size / 1e6:.2f} MB, {self.size / self.keras_size:.2f} of the weights"),
            (
                "one sample",
                f"{self.latency * 1e3:.2f} ms, {self.latency_ratio:.2f} of Keras' predict",
            ),
        ]
        return format_table(("export", ""), rows)

    @property
    def _trained_on(self) -> str:
        return "unknown" if self.trained_on is None else f"{self.trained_on} of the {self.samples}"

    @property
    def _accuracy(self) -> str:
        if self.accuracy is None or self.keras_accuracy is None:
            return "unknown, because the classes are unknown"
        return f"{self.accuracy:.1%} (Keras model: {self.keras_accuracy:.1%})"


def _list_names(names: Sequence[str]) -> str:
    more = f", ... ({len(names):,})" if len(names) > NAMED else ""
    return ", ".join(map(visible, names[:NAMED])) + more or "unknown"


def export(
    model: keras.Model,
    path: str | os.PathLike,
    format: str = "tf_saved_model",
    precision: str = "float32",
    calibration: Any = None,
    *,
    class_names: Sequence[str] | None = None,
) -> ExportReport:
    """Optimize a model, write it for an engine, and compare the file with the model.

    The file has the same inputs and outputs as the model: (N, H, W, C) with any batch size, floats
    as float32, with the same names and order. It is loaded into its engine and compared with the
    model, and the result is saved as `<path>.report.json`. Only a complete and checked export
    replaces `path`.

    - `tf_saved_model`: a folder; float32, bfloat16
    - `onnx`: a `.onnx` file; float32, int8
    - `openvino`: a folder with `model.xml`; float32, bfloat16, int8
    - `litert`: a `.tflite` file; float32, int8

    The file has metadata on its classes and inputs, as far as they are known: in ONNX's
    `metadata_props`, in OpenVINO's `rt_info`, in files appended to LiteRT's file, and in
    `labels.txt` and `assets.extra/se_keras.json` of a SavedModel.

    Args:
        model: a functional or Sequential model, which is not changed.
        path: file or folder to write; an earlier export is replaced.
        format: one of these formats. All but `tf_saved_model` need the extra of the same name.
        precision: a precision of the format. Without `calibration`, int8 quantizes the weights, and
            the report says how activations are computed.
        calibration: samples on which int8 measures the ranges of activations, and on which every
            precision is compared; at most 300 are used. Give an array; a dict of arrays by the
            inputs' names; a dataset or batches as for `model.predict`; or a folder of images,
            which are prepared as the model needs them. Of 50 or more samples every fifth is used
            only for the comparison. The report has the accuracy if a folder has a folder for each
            class, or if batches have labels.
        class_names: names of the classes, by number; `None` for the names of published weights, if
            the model has the same number of classes.

    Returns:
        The report.

    Raises:
        InputError: if the format or precision does not exist (the message lists all), the model is
            not functional, `path` is something other than an export, the samples do not fit, or
            the format's converter or engine can't take the model.
        MissingExtraError: if the format's packages are not installed.
        WrongResultError: if the file computes something else than the model: NaN; in float32 a
            largest difference above 1e-3; in fewer bits a root mean square of the differences
            above a quarter of the outputs' root mean square. The file is deleted then.

    Example:

    >>> import tempfile
    >>> import se_keras
    >>> model = se_keras.create("seresnet20", input_shape=(16, 16, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = se_keras.export(model, f"{folder}/served")
    >>> report.engine.split()[0], report.max_difference < 1e-5
    ('tensorflow', True)
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError("`export` needs the TensorFlow backend: set KERAS_BACKEND=tensorflow.")
    path = arguments.path("path", path)
    target, engine = find_target(format, precision), find_engine(format)
    engine.require()
    _check_path(path, engine)
    fast = target.optimize(model)
    if _has_16_bits(fast):
        fast = with_policy(fast, "float32")
    metadata = describe(model, _names_of(model, class_names), precision)
    samples = open_samples(model, calibration, metadata.class_names)
    report_file = path.with_name(path.name + REPORT_SUFFIX)
    with written_beside(path) as partial:
        with _translated_errors(model, target):
            method = target.write_file(fast, partial, samples.calibration)
            write_metadata(partial, metadata)
            run = engine.load(partial, precision)
            measured = _compare(model, run, samples)
        _check_difference(model, target, measured)
        size = _size(partial)
        # A kill leaves no file beside the report of another.
        remove(report_file)
    report = ExportReport(
        path=str(path),
        format=format,
        precision=precision,
        method=method,
        engine=engine.description,
        metadata=metadata.as_json(),
        takes=metadata.takes,
        samples=len(samples.comparison[0]),
        compared_on=samples.text,
        trained_on=samples.trained_on,
        size=size,
        keras_size=sum(_bytes(variable) for variable in model.variables),
        **measured,
    )
    write_json(report_file, dataclasses.asdict(report))
    return report


@contextmanager
def _translated_errors(model: keras.Model, target: Target) -> Iterator[None]:
    """Turn any error of a converter or engine into one line."""
    try:
        yield
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:
        if lacks_room(error):
            raise
        changed = is_quantized(model)
        remedy = " It is quantized: export the model before `quantize`." if changed else ""
        raise InputError(
            f"`model`: {model.name!r} can't be exported to {target.format} in {target.precision}."
            f"{remedy} The converter says: {in_one_line(error)[:MAX_TEXT].rstrip('.')}."
        ) from error


def _names_of(model: keras.Model, class_names: Sequence[str] | None) -> list[str]:
    """Return the class names to write; empty if they are unknown.

    Raises:
        InputError: if the names are not texts, one for each class of the model.
    """
    shapes = [tensor.shape for tensor in model.outputs]
    is_classifier = len(shapes) == 1 and len(shapes[0]) == 2
    # One sigmoid distinguishes two classes.
    classes = max(shapes[0][1], 2) if is_classifier else None
    if class_names is None:
        labels = labels_of(model) or ()
        return [name for _, name in labels] if len(labels) == classes else []
    if classes is None:
        raise InputError(f"`class_names` must be None for a model with the outputs {shapes}.")
    wanted = f"{classes} texts, one for each class"
    names = arguments.texts("class_names", class_names, wanted)
    if len(names) != classes:
        raise InputError(f"`class_names` must be {wanted}, got {repr(class_names)[:MAX_TEXT]}.")
    return list(names)


def _check_path(path: Path, engine: Engine) -> None:
    named = line_of(path)
    if not is_utf8(path):
        raise InputError(f"`path` must be valid UTF-8, which the engines need, got {named}.")
    if engine.marker is None:
        if path.suffix != engine.suffix:
            raise InputError(f"`path` must be a {engine.suffix} file, got {named}.")
        if os.path.isdir(path):
            raise InputError(f"`path` must be a {engine.suffix} file, got the folder {named}.")
    elif os.path.exists(path) and not (path / engine.marker).is_file():
        raise InputError(
            f"`path`: {named} exists and is not an export in {engine.format}: choose another path."
        )


def _bytes(variable: keras.Variable) -> int:
    return int(np.prod(variable.shape)) * keras.ops.convert_to_numpy(variable).itemsize


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


# --- the comparison ------------------------------------------------------------------------------


def _compare(model: keras.Model, run: Run, samples: Samples) -> dict[str, Any]:
    """Return the differences of all outputs on all samples, and the time for one sample."""
    arrays, batch = samples.comparison, model.inputs[0].shape[0] or BATCH

    def keras_run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        structured = keras.tree.pack_sequence_as(ends_of(model)[0], list(inputs))
        outputs = keras.tree.flatten(model.predict_on_batch(structured))
        return [keras.ops.convert_to_numpy(output) for output in outputs]

    ours, theirs = (_run_all(function, arrays, batch) for function in (keras_run, run))
    return {
        "max_difference": max(map(_difference, ours, theirs)),
        "rms_difference": max(map(_rms_difference, ours, theirs)),
        "top1_agreement": _agreement(ours, theirs),
        "accuracy": _accuracy(theirs, samples.labels),
        "keras_accuracy": _accuracy(ours, samples.labels),
        **_latencies(keras_run, run, next(split_batches(arrays, model.inputs[0].shape[0] or 1))),
    }


def _run_all(run: Run, arrays: Arrays, batch: int) -> list[np.ndarray]:
    """Return one float64 array for each output, for all samples."""
    parts = [run(inputs) for inputs in split_batches(arrays, batch)]
    outputs = (np.concatenate(part) for part in zip(*parts, strict=True))
    # Leave out the padding of the last batch.
    return [output[: len(arrays[0])].astype("float64") for output in outputs]


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    largest = np.abs(ours).max(initial=0) or 1.0
    return float(np.abs(ours - theirs).max(initial=0) / largest)


def _rms_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    typical = np.sqrt(np.mean(ours**2)) if ours.size else 0.0
    return float(np.sqrt(np.mean((ours - theirs) ** 2)) / (typical or 1.0)) if ours.size else 0.0


def _agreement(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float | None:
    shares = [
        np.mean(a.argmax(axis=1) == b.argmax(axis=1))
        for a, b in zip(ours, theirs, strict=True)
        if a.ndim == 2 and a.shape[1] > 1
    ]
    return float(np.mean(shares)) if shares else None


def _accuracy(outputs: Sequence[np.ndarray], labels: np.ndarray | None) -> float | None:
    if labels is None:
        return None
    (scores,) = outputs
    found = scores.argmax(axis=1) if scores.shape[1] > 1 else scores[:, 0] > 0.5
    return float(np.mean(found == labels))


def _latencies(keras_run: Run, run: Run, inputs: Arrays) -> dict[str, float]:
    seconds = seconds_in_turn([lambda: keras_run(inputs), lambda: run(inputs)], ROUNDS)
    return dict(zip(("keras_latency", "latency"), map(median, seconds), strict=True))


def _check_difference(model: keras.Model, target: Target, measured: Mapping[str, Any]) -> None:
    if target.precision == "float32":
        difference, of = measured["max_difference"], "the largest"
        limit = TOLERANCE_16_BITS if _has_16_bits(model) else TOLERANCE
    else:
        difference, of = measured["rms_difference"], "a typical output"
        limit = TOLERANCE_FEWER_BITS
    if not difference <= limit:  # true for NaN too
        raise WrongResultError(
            f"the {target.format} file in {target.precision} does not compute the same as the "
            f"model: outputs differ by {difference:.1e} of {of}, more than {limit:g}. The file "
            "was deleted."
        )


def _has_16_bits(model: keras.Model) -> bool:
    return any("16" in layer.compute_dtype for layer in innermost_layers(model))
