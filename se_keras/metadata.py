"""The metadata of an exported file: its classes and its input, where its format stores metadata.

- SavedModel: `assets.extra/se_keras.json` (TensorFlow ignores this folder) and `labels.txt`.
- ONNX: `metadata_props`, with our keys and ONNX's keys for images.
- OpenVINO: `rt_info`, in `model_info`, with our keys and the keys that its Model API reads.
- LiteRT: associated files in a zip at the end of the file: `labels.txt` and `se_keras.json`.

Our keys are `class_names`, `pixels` (the fields of `Pixels`), `inputs` and `precision`, each as
JSON. Unknown facts have no key.
"""

import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.support.arguments import one_of
from se_keras.support.errors import InputError, damage_named, extra, in_one_line
from se_keras.support.files import digest_of, read_json, refuse_pipes, write_json
from se_keras.support.schema import Fields, characters, mapping, row, whole
from se_keras.support.tables import visible
from se_keras.weights.preprocessing import Pixels

if TYPE_CHECKING:
    import keras

# A file that marks the folder of a format, and the suffixes of the other formats.
MARKERS = {"tf_saved_model": "saved_model.pb", "openvino": "model.xml"}
SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
SAVED, LABELS = Path("assets.extra") / "se_keras.json", "labels.txt"
# The key of the checksum of a SavedModel's graph.
DIGEST = "sha256"
PRECISIONS = ("float32", "bfloat16", "int8")
# Types of an input that NumPy arrays can have.
TYPES = ("float32", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
KEYS = ("class_names", "pixels", "inputs", "precision")
# The section of OpenVINO's `rt_info` that its Model API reads.
MODEL_INFO = "model_info"
# Ranges that have a name in ONNX.
RANGES = {
    (0.0, 255.0): "NominalRange_0_255",
    (0.0, 1.0): "Normalized_0_1",
    (-1.0, 1.0): "Normalized_1_1",
}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The metadata of an exported file.

    Attributes:
        class_names: names of the classes by number; empty if they are unknown.
        pixels: pixels of the image input; may be unknown.
        inputs: name, shape and type of each input; for an image also its layout.
        precision: precision of the export.
    """

    class_names: tuple[str, ...] = ()
    pixels: Pixels
    inputs: tuple[dict[str, Any], ...] = ()
    precision: str = PRECISIONS[0]

    def as_json(self) -> dict[str, Any]:
        """Return the known facts as values for JSON."""
        fields = asdict(self.pixels)
        del fields["second"]
        content = {
            "class_names": list(self.class_names),
            "pixels": {} if self.pixels.unknown else _in_lists(fields),
            "inputs": list(self.inputs),
            "precision": self.precision,
        }
        return {key: value for key, value in content.items() if value}

    @property
    def takes(self) -> str:
        """Return a description of the model's inputs in words."""
        words = [
            f"{x['type']} ({', '.join(str(side or 'N') for side in x['shape'])})"
            + (f" in {x['layout']}" if "layout" in x else "")
            for x in self.inputs
        ]
        pixels = self.pixels
        if pixels.range is None:
            return f"{' and '.join(words)}; pixels unknown"
        colors = "RGB" if pixels.channels == 3 else "gray"
        return "{}, {} from {:.4g} to {:.4g}".format(words[0], colors, *pixels.range)


def _in_lists(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(x) if isinstance(x, tuple) else x for key, x in fields.items()}


def describe(
    model: "keras.Model", class_names: Sequence[str] = (), precision: str = PRECISIONS[0]
) -> Metadata:
    """Return the metadata for an exported file of a model.

    Example:

    >>> import se_keras
    >>> from se_keras.metadata import describe
    >>> model = se_keras.create("seresnet20", input_shape=(32, 32, 3), include_preprocessing=True)
    >>> describe(model, ["cat", "dog"]).takes
    'uint8 (N, 32, 32, 3) in NHWC, RGB from 0 to 255'
    """
    from se_keras.pixels import is_channels_first, pixels_of

    pixels = pixels_of(model)
    inputs: list[dict[str, Any]] = [
        {"name": tensor.name, "shape": list(tensor.shape), "type": input_type(tensor)}
        for tensor in model.inputs
    ]
    if not pixels.unknown:
        first = is_channels_first(model.inputs[0].shape)
        inputs[0]["layout"] = "NCHW" if first else "NHWC"
    return Metadata(
        class_names=tuple(class_names), pixels=pixels, inputs=tuple(inputs), precision=precision
    )


def input_type(tensor: "keras.KerasTensor") -> str:
    """Return the type of an input in exported files: float inputs are float32 at any precision."""
    return "float32" if "float" in tensor.dtype else tensor.dtype


def format_of(path: Path) -> str | None:
    """Return the format of an exported file or folder; `None` for anything else.

    Example:

    >>> from pathlib import Path
    >>> from se_keras.metadata import format_of
    >>> format_of(Path("model.keras")) is None
    True
    """
    for name, marker in MARKERS.items():
        if (path / marker).is_file():
            return name
    endings = (name for name, suffix in SUFFIXES.items() if path.suffix.lower() == suffix)
    return next(endings, None) if path.is_file() else None


def write_metadata(path: Path, metadata: Metadata) -> None:
    """Write metadata into an exported file or folder.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import se_keras
    >>> from se_keras.metadata import Metadata, read_metadata, write_metadata
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "saved_model.pb").touch()
    >>> pixels = se_keras.Pixels(size=32, raw=True)
    >>> write_metadata(folder, Metadata(class_names=("cat", "dog"), pixels=pixels))
    >>> (folder / "labels.txt").read_text()
    'cat\\ndog\\n'
    >>> read_metadata(folder).pixels == pixels
    True
    """
    _PLACES[_format_for(path)][0](path, metadata)


def read_metadata(path: Path) -> Metadata:
    """Read the metadata that `write_metadata` wrote; all facts are unknown if there is none.

    Raises:
        InputError: if the file is damaged.
        MissingExtraError: if the package that opens it is not installed.
    """
    name = _format_for(path)
    where = f"{path / SAVED}" if name == "tf_saved_model" else f"the metadata of {path}"
    with damage_named(f"can't read {where}"):
        refuse_pipes(path)
        content = _PLACES[name][1](path)
    fields = Fields(content, f"can't read {where}")
    class_names = fields.take("class_names", partial(row, read=characters), "a list of texts")
    inputs = fields.take("inputs", partial(row, read=_input), "objects with name, type and shape")
    precision = partial(one_of, "precision", choices=PRECISIONS)
    nothing = f"it has no {SAVED}" if name == "tf_saved_model" else "it has no metadata on them"
    return Metadata(
        class_names=class_names or (),
        pixels=_pixels(fields) or Pixels(origin=nothing),
        inputs=inputs or (),
        precision=fields.take("precision", precision, f"one of {', '.join(PRECISIONS)}")
        or PRECISIONS[0],
    )


def _pixels(fields: Fields) -> Pixels | None:
    content = fields.take("pixels", mapping, "an object")
    try:
        return None if content is None else Pixels(**content)
    except (TypeError, ValueError) as error:
        raise InputError(f"{fields.head}: {in_one_line(error)}") from error


def _input(value: Any) -> dict[str, Any]:
    """Check the name, type, shape and layout of an input."""
    one = mapping(value)
    row(one.get("shape"), lambda side: side if side is None else whole(side, 1, 2**31))
    characters(one.get("name"))
    one_of("type", one.get("type"), choices=TYPES)
    return one


def _format_for(path: Path) -> str:
    name = format_of(path)
    if name is None:
        raise InputError(f"{path} must be a SavedModel, or an ONNX, OpenVINO or LiteRT file.")
    return name


def _labels(metadata: Metadata) -> str:
    """Return one class name a line, with line breaks escaped."""
    return "".join(f"{visible(name)}\n" for name in metadata.class_names)


def _texts(metadata: Metadata) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in metadata.as_json().items()}


# --- SavedModel ----------------------------------------------------------------------------------


def _write_saved_model(path: Path, metadata: Metadata) -> None:
    (path / SAVED).parent.mkdir(exist_ok=True)
    # TensorFlow has a checksum for each variable, and none for the graph.
    content = metadata.as_json() | {DIGEST: digest_of(path / MARKERS["tf_saved_model"])}
    write_json(path / SAVED, content, sealed=True)
    if metadata.class_names:
        (path / LABELS).write_text(_labels(metadata), "utf-8")


def _read_saved_model(path: Path) -> dict[str, Any]:
    content = read_json(path / SAVED) if os.path.lexists(path / SAVED) else {}
    graph = path / MARKERS["tf_saved_model"]
    if DIGEST in content and content.pop(DIGEST) != digest_of(graph):
        raise InputError(f"can't read {graph}: it was changed after it was written.")
    return content


# --- ONNX ----------------------------------------------------------------------------------------


def _write_onnx(path: Path, metadata: Metadata) -> None:
    import onnx

    proto = onnx.load(path)
    for key, value in (_texts(metadata) | _onnx_keys(metadata.pixels)).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(proto, path)


def _onnx_keys(pixels: Pixels) -> dict[str, str]:
    """Return values for ONNX's keys: https://onnx.ai/onnx/repo-docs/MetadataProps.html."""
    if pixels.range is None:
        return {}
    keys = {
        "Image.BitmapPixelFormat": "Rgb8" if pixels.channels == 3 else "Gray8",
        "Image.ColorSpaceGamma": "SRGB",
    }
    # A range has a name only if it is the range of every channel.
    means, stds = set(pixels.mean or ()), set(pixels.std or ())
    known = RANGES.get(pixels.range) if len(means) <= 1 and len(stds) <= 1 else None
    return keys | ({"Image.NominalPixelRange": known} if known else {})


def _read_onnx(path: Path) -> dict[str, Any]:
    with extra("onnx"):
        import onnx

    # Leave out the external weights, which are not needed here.
    entries = onnx.load(path, load_external_data=False).metadata_props
    return {entry.key: json.loads(entry.value) for entry in entries if entry.key in KEYS}


# --- OpenVINO ------------------------------------------------------------------------------------


def _write_openvino(path: Path, metadata: Metadata) -> None:
    import openvino

    core = openvino.Core()
    # Otherwise OpenVINO would read the weights from the file that it is overwriting.
    core.set_property({"ENABLE_MMAP": False})
    file = path / MARKERS["openvino"]
    model = core.read_model(file)
    for key, value in (_texts(metadata) | _openvino_keys(metadata)).items():
        model.set_rt_info(value, [MODEL_INFO, key])
    openvino.save_model(model, file, compress_to_fp16=False)


def _openvino_keys(metadata: Metadata) -> dict[str, str]:
    """Return values for the keys of Model API, which separates names and numbers by spaces."""
    keys, pixels = {}, metadata.pixels
    if metadata.class_names:
        names = ("_".join(name.split()) or "_" for name in metadata.class_names)
        keys = {"model_type": "Classification", "labels": " ".join(names)}
    if pixels.crop == 1 and not pixels.unknown:
        keys["resize_type"] = "crop"
    for key, numbers in (("mean_values", pixels.mean), ("scale_values", pixels.std)):
        if numbers:
            keys[key] = " ".join(f"{255 * number:.6g}" for number in numbers)
    return keys


def _read_openvino(path: Path) -> dict[str, Any]:
    with extra("openvino"):
        import openvino

    try:
        model = openvino.Core().read_model(path / MARKERS["openvino"])
    except RuntimeError as error:  # its first line is a place in OpenVINO's source code
        raise ValueError(in_one_line(error)) from error
    there = [key for key in KEYS if model.has_rt_info([MODEL_INFO, key])]
    return {key: json.loads(model.get_rt_info([MODEL_INFO, key]).astype(str)) for key in there}


# --- LiteRT --------------------------------------------------------------------------------------


def _write_litert(path: Path, metadata: Metadata) -> None:
    with zipfile.ZipFile(path, "a") as associated:
        # `ZipInfo` stores a fixed date, so that the same model gives the same file.
        content = json.dumps(metadata.as_json(), ensure_ascii=False)
        associated.writestr(zipfile.ZipInfo(SAVED.name), content)
        if metadata.class_names:
            associated.writestr(zipfile.ZipInfo(LABELS), _labels(metadata))


def _read_litert(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as associated:
        if SAVED.name not in associated.namelist():
            return {}
        content = json.loads(associated.read(SAVED.name))
    if not isinstance(content, dict):
        raise TypeError(f"its {SAVED.name} must hold a JSON object")
    return content


_Write = Callable[[Path, Metadata], None]
_Read = Callable[[Path], dict[str, Any]]
_PLACES: dict[str, tuple[_Write, _Read]] = {
    "tf_saved_model": (_write_saved_model, _read_saved_model),
    "onnx": (_write_onnx, _read_onnx),
    "openvino": (_write_openvino, _read_openvino),
    "litert": (_write_litert, _read_litert),
}
