"""A model as the file of an engine, read back and compared before it is left there."""

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
from se_keras.graph import innermost_layers, is_quantized
from se_keras.metadata import describe, write_metadata
from se_keras.rewrite.optimize import optimize
from se_keras.support import arguments
from se_keras.support.errors import MAX_TEXT, InputError, WrongResultError, in_one_line
from se_keras.support.files import lacks_room, write_json, written_beside
from se_keras.support.tables import format_table, visible
from se_keras.support.timing import seconds_in_turn

# Largest difference of a float32 export, relative to the largest output: another order of the same
# sums. A model with layers in 16 bits differs in the third digit, however it is exported.
TOLERANCE = 1e-3
TOLERANCE_16_BITS = 5e-2
# Root mean square of the differences of an export in fewer bits, relative to the outputs' own.
# Measured in int8: up to 0.025, on networks that have learnt digits and on others; a file in which
# a converter had lost a scale had 1. A single image between two classes may change altogether.
TOLERANCE_FEWER_BITS = 0.25
BATCH = 8
ROUNDS = 15
REPORT_SUFFIX = ".report.json"
# Classes that the table names before it only counts.
NAMED = 5


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The result of `export`: the file, compared with the Keras model; prints as a table.

    Attributes:
        path: the file or folder.
        format, precision: as asked for.
        method: how the precision was reached.
        engine: package and version that ran the file.
        metadata: what the file says of itself, without what is unknown: `class_names`; `inputs`,
            their names, shapes, types and layout; `pixels`, the fields of `se_keras.Pixels`.
        takes: what the model takes, in words.
        samples: number of samples compared, each once.
        compared_on: what they are.
        trained_on: how many of them the model was trained on; `None` where it is unknown.
        accuracy, keras_accuracy: the share of them whose class the file and the Keras model find;
            `None` where the classes are unknown.
        max_difference: largest difference of an output, relative to the largest number of it.
        rms_difference: root mean square of the differences, relative to the output's own.
        top1_agreement: share of samples with the same largest class; `None` where no output is
            (N, classes).
        size: bytes on disk.
        keras_size: bytes of the Keras model's weights.
        latency: seconds for one sample in the engine, the median of `ROUNDS`.
        keras_latency: seconds of `model.predict_on_batch`, in turn with it.
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
        """Time of the engine as a part of Keras' time."""
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
            return "unknown, as their classes are"
        return f"{self.accuracy:.1%}, the Keras model's {self.keras_accuracy:.1%}"


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
    """Write a model for an engine, optimized, and compare the file with the model.

    The file takes and gives what the model does: (N, H, W, C), floats as float32, in any number at
    once; inputs and outputs have the names and the order of the model's. It is loaded back into
    its engine and run beside the model; what that showed is saved beside it, as
    `<path>.report.json`. `path` holds a whole, checked export, or what it held before.

    - `tf_saved_model`: a folder; float32, bfloat16
    - `onnx`: a `.onnx` file; float32, int8
    - `openvino`: a folder with `model.xml`; float32, bfloat16, int8
    - `litert`: a `.tflite` file; float32, int8

    The file says of itself what its classes are and what it takes, as far as it is known, in its
    format's own place: ONNX's `metadata_props`, OpenVINO's `rt_info`, files appended to LiteRT's,
    and `labels.txt` and `assets.extra/se_keras.json` in a SavedModel.

    Args:
        model: a functional or Sequential model; it stays as it is.
        path: file or folder to write; one that an earlier export wrote is replaced.
        format: one of these. All but `tf_saved_model` need the extra of their name.
        precision: one that the format has. int8 without `calibration` has int8 weights only, and
            the report says what becomes of the activations.
        calibration: samples to measure the ranges of activations on, as the model takes them, of
            which 300 at most are used: an array; several in a dict by the inputs' names; a dataset
            or batches such as `model.predict` takes; or a folder of images, which are cropped to
            the middle, resized, and put into the range of pixels that the model takes. Of 50 and
            more every fifth is kept for the comparison. Other precisions are only compared on
            them. Where a folder has a folder for each class, or batches have labels beside the
            samples, the report has the accuracy too.
        class_names: names of the classes, by number; `None` for those of published weights, where
            the model has as many.

    Returns:
        The report.

    Raises:
        InputError: for a format that there is none of, a precision that the format does not have
            (the message lists those that there are), or a model that is not functional.
        InputError: if `path` is taken by something else, or the samples do not fit.
        MissingExtraError: if the format's packages are not installed.
        InputError: if the format's converter or engine can't take the model; its own error is the
            cause.
        WrongResultError: if the file does not compute what the model does: NaN; in float32 a
            largest difference above 1e-3; in fewer bits a root mean square of the differences
            above a quarter of the outputs' own. Nothing is left then.

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
        raise InputError("Export needs the TensorFlow backend: set KERAS_BACKEND=tensorflow.")
    path = arguments.path("path", path)
    target, engine = find_target(format, precision), find_engine(format)
    engine.require()
    _check_path(path, engine)
    fast = optimize(model, verbose=False)
    if _has_16_bits(fast):
        fast = with_policy(fast, "float32")
    metadata = describe(model, _names_of(model, class_names), precision)
    samples = open_samples(model, calibration, metadata.class_names)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as partial:
        with _translated_errors(model, target):
            method = target.write_file(fast, partial, samples.calibration)
            write_metadata(partial, metadata)
            run = engine.load(partial, precision)
            measured = _compare(model, run, samples)
        _check_difference(model, target, measured)
        size = _size(partial)
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
    write_json(path.with_name(path.name + REPORT_SUFFIX), dataclasses.asdict(report))
    return report


@contextmanager
def _translated_errors(model: keras.Model, target: Target) -> Iterator[None]:
    """Turn what a converter or an engine raises, each another class, into one line."""
    try:
        yield
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:
        if lacks_room(error):
            raise
        changed = is_quantized(model)
        remedy = " It is quantized: export what it was before `quantize`." if changed else ""
        raise InputError(
            f"`model`: {model.name!r} can't be exported to {target.format} in {target.precision}."
            f"{remedy} The converter says: {in_one_line(error)[:MAX_TEXT]}"
        ) from error


def _names_of(model: keras.Model, class_names: Sequence[str] | None) -> list[str]:
    """Return the names to write; empty where there are none.

    Raises:
        InputError: if they are not texts, one for each class that the model gives.
    """
    shapes = [tensor.shape for tensor in model.outputs]
    is_classifier = len(shapes) == 1 and len(shapes[0]) == 2
    # One sigmoid tells two classes apart.
    classes = max(shapes[0][1], 2) if is_classifier else None
    if class_names is None:
        labels = labels_of(model) or ()
        return [name for _, name in labels] if len(labels) == classes else []
    if classes is None:
        raise InputError(f"`class_names` must be None for a model that gives {shapes}.")
    wanted = f"{classes} texts, one for each class"
    names = arguments.texts("class_names", class_names, wanted)
    if len(names) != classes:
        raise InputError(f"`class_names` must be {wanted}, got {repr(class_names)[:MAX_TEXT]}.")
    return list(names)


def _check_path(path: Path, engine: Engine) -> None:
    if engine.marker is None:
        if path.suffix != engine.suffix:
            raise InputError(f"`path` must be a {engine.suffix} file, got {path}.")
        if path.is_dir():
            raise InputError(f"`path` must be a {engine.suffix} file, {path} is a folder.")
    elif path.exists() and not (path / engine.marker).is_file():
        raise InputError(
            f"`path`: {path} is there and is no export of {engine.format}: choose another."
        )


def _bytes(variable: keras.Variable) -> int:
    return int(np.prod(variable.shape)) * keras.ops.convert_to_numpy(variable).itemsize


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


# --- the comparison ------------------------------------------------------------------------------


def _compare(model: keras.Model, run: Run, samples: Samples) -> dict[str, Any]:
    """Return differences of all outputs on all samples, and the time for one sample."""
    arrays, batch = samples.comparison, model.inputs[0].shape[0] or BATCH

    def keras_run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        structured = keras.tree.pack_sequence_as(model.input, list(inputs))
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
    """Return one array for each output, of all samples, in float64."""
    parts = [run(inputs) for inputs in split_batches(arrays, batch)]
    outputs = (np.concatenate(part) for part in zip(*parts, strict=True))
    # Without those that fill the last batch up.
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
    if not difference <= limit:  # NaN too
        raise WrongResultError(
            f"the {target.format} file in {target.precision} does not compute what the model does: "
            f"outputs differ by {difference:.1e} of {of}, more than {limit:g}; it was not kept"
        )


def _has_16_bits(model: keras.Model) -> bool:
    return any("16" in layer.compute_dtype for layer in innermost_layers(model))
