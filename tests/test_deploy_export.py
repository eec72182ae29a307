"""Exports: each file is run by its engine alone, with the outputs of the Keras model."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from checks import REPO, run_python
from keras import layers
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

import se_keras
from se_keras.cli import main
from se_keras.commands.predict import predict
from se_keras.deploy import export as export_module
from se_keras.deploy.calibration import open_samples
from se_keras.deploy.engines import ENGINES, Engine, find_engine
from se_keras.deploy.targets import TARGETS, Target
from se_keras.deploy.to_saved_model import write_saved_model
from se_keras.metadata import Metadata, describe, read_metadata, write_metadata
from se_keras.models.parts import ChannelPadding
from se_keras.support.errors import InputError, MissingExtraError, WrongResultError
from se_keras.support.files import read_json

EXTRAS = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
# (format, precision, whether there is a calibration set)
CASES = [(row.format, row.precision, False) for row in TARGETS] + [
    (row.format, row.precision, True) for row in TARGETS if row.precision == "int8"
]
# Names that files, folders and formats do not expect.
NAMES = [
    "zero",
    "un, deux",
    "dos  tres",
    "三",
    "vi\u0301er",
    '"5"',
    "<6&>",
    "7\n8",
    "\u202e8",
    "9'",
]
# The names of the files in docs/export.md.
DOCS_FILES = {
    "tf_saved_model": "photos-saved_model",
    "onnx": "photos.onnx",
    "openvino": "photos-openvino",
    "litert": "photos.tflite",
}
# Mean difference of a probability, and the largest. One image between two classes may change in
# int8; what that costs in accuracy is tested too.
TOLERANCE = {"float32": (1e-6, 1e-5), "bfloat16": (2e-3, 0.1), "int8": (1e-2, 1)}

# How a user without this package runs the files: names and order are read off the files.
RUN_ALONE = """
import json, os, sys, warnings
sys.modules["se_keras"] = sys.modules["keras"] = None
import numpy as np

def tf_saved_model(path):
    import tensorflow as tf
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    return lambda **arrays: {
        name: tensor.numpy()
        for name, tensor in signature(**{n: tf.constant(a) for n, a in arrays.items()}).items()
    }

def onnx(path):
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda **arrays: dict(zip(names, session.run(None, arrays)))

def openvino(path):
    import openvino
    # As the reports say: without it a CPU that can computes in bfloat16.
    hint = {"INFERENCE_PRECISION_HINT": "f32" if "float32" in path else "bf16"}
    compiled = openvino.Core().compile_model(path + "/model.xml", "CPU", hint)
    return lambda **arrays: {
        output.any_name: array for output, array in compiled(arrays).items()
    }

def litert(path):
    from ai_edge_litert.interpreter import Interpreter
    return Interpreter(path).get_signature_runner("serving_default")

cases, examples, photos, folder = json.loads(sys.argv[1])
os.chdir(folder)
for name, path in cases:
    run = globals()[name](path)
    arrays = dict(np.load(path + ".input.npz"))
    for batch in (1, 5, None):
        given = {key: array[:batch] for key, array in arrays.items()}
        np.savez(f"{path}.{batch}.npz", **run(**given))

# The examples of the docs print a name each.
for photo in photos:
    with open("photo.png", "wb") as file:
        file.write(open(photo, "rb").read())
    for example in examples:
        exec(example, {})
"""


def run_alone(cases, examples, photos, folder):
    """Runs `{key: (format, path, inputs)}` in one process without Keras, by 1, by 5, all.

    Returns {key: {batch: {output: array}}}, and what examples print about photos: a line for each
    example, photo by photo.
    """
    for _, path, inputs in cases.values():
        np.savez(f"{path}.input.npz", **inputs)
    files = [(name, str(path)) for name, path, _ in cases.values()]
    arguments = [files, examples, list(map(str, photos)), str(folder)]
    printed = run_python(RUN_ALONE, json.dumps(arguments))
    outputs = {
        key: {batch: dict(np.load(f"{path}.{batch}.npz")) for batch in (1, 5, None)}
        for key, (_, path, _) in cases.items()
    }
    return outputs, printed


def se_network():
    """A stem and two bottleneck units with SE and grouped convolutions, on raw pixels."""
    x = image = keras.Input((16, 16, 1), name="pixels")
    x = layers.Rescaling(1 / 127.5, -1)(x)
    for filters in (16, 32):
        x = activated(x, filters, 3, strides=2)
        y = activated(x, filters // 2, 1)
        y = activated(y, filters // 2, 3, groups=2)
        y = normalized(layers.Conv2D(filters, 1, use_bias=False)(y))
        x = layers.ReLU()(layers.Add()([x, se_keras.se_block(y, ratio=4)]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="digit")(x))


def activated(x, filters, kernel, **options):
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, **options)(x)
    return layers.ReLU()(normalized(x))


def normalized(x):
    return layers.BatchNormalization(momentum=0.8)(x)  # 90 steps, not a hundred thousand


@pytest.fixture(scope="module")
def digits():
    """(images, labels) to train and to test: 16 pixels, 0..255."""
    data = load_digits()
    images = np.kron(data.images * (255 / 16), np.ones((2, 2)))[..., np.newaxis].astype("float32")
    return (images[:1440], data.target[:1440]), (images[1440:], data.target[1440:])


@pytest.fixture(scope="module")
def model(digits):
    keras.utils.set_random_seed(0)
    network = se_network()
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    network.optimizer.learning_rate = 0.02
    network.fit(*digits[0], batch_size=96, epochs=8, verbose=0)
    return network


@pytest.fixture(scope="module")
def expected(model, digits):
    return model.predict(digits[1][0], verbose=0)


@pytest.fixture(scope="module")
def exports(model, digits, tmp_path_factory):
    """Every row of the table, exported: {(format, precision, calibrated): report}."""
    folder = tmp_path_factory.mktemp("exports")
    reports = {}
    for name, precision, calibrated in CASES:
        path = folder / f"{precision}-{calibrated}{find_engine(name).suffix}"
        calibration = digits[0][0][::6] if calibrated else None
        reports[name, precision, calibrated] = se_keras.export(
            model, path, name, precision, calibration, class_names=NAMES
        )
    return reports


@pytest.fixture(scope="module")
def digit_files(digits, tmp_path_factory):
    """Four digits as files."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{number}.png" for number in range(4)]
    for path, image in zip(paths, digits[1][0], strict=False):
        Image.fromarray(image[..., 0].astype("uint8")).resize((40, 40)).save(path)
    return paths


@pytest.fixture(scope="module")
def alone(exports, forked_exports, digits, two_inputs, digit_files, tmp_path_factory):
    """Return the outputs of each file in a process without Keras, and of the docs' examples."""
    folder = tmp_path_factory.mktemp("docs")
    for name, path in DOCS_FILES.items():
        (folder / path).symlink_to(exports[name, "float32", False].path)
    text = (REPO / "docs" / "export.md").read_text().split("\n## Using the files elsewhere")[1]
    # The first makes the files.
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1:]
    assert [name in source for name, source in zip(DOCS_FILES.values(), examples, strict=True)]
    cases = {key: (key[0], exports[key].path, {"pixels": digits[1][0]}) for key in exports}
    for name, report in forked_exports.items():
        # TensorFlow makes Python names of the inputs' names.
        names = ("z_image", "a") if name == "tf_saved_model" else ("z-image", "a")
        cases[name] = (name, report.path, dict(zip(names, two_inputs, strict=True)))
    return run_alone(cases, examples, digit_files, folder)


@pytest.fixture(scope="module")
def served(alone):
    return alone[0]


# --- what files say of themselves ----------------------------------------------------------------


def labels_of_onnx(path):
    import onnx

    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert found["Image.BitmapPixelFormat"] == "Gray8"
    assert found["Image.NominalPixelRange"] == "NominalRange_0_255"
    return {key: json.loads(value) for key, value in found.items() if "." not in key}


def labels_of_openvino(path):
    import openvino

    model = openvino.Core().read_model(Path(path) / "model.xml")
    found = {key: any.astype(str) for key, any in model.get_rt_info()["model_info"].items()}
    assert found["model_type"] == "Classification"
    assert found["labels"].split(" ")[:3] == ["zero", "un,_deux", "dos_tres"]
    assert len(found["labels"].split(" ")) == 10
    keys = ("class_names", "inputs", "pixels", "precision")
    return {key: json.loads(found[key]) for key in keys}


def labels_of_litert(path):
    with zipfile.ZipFile(path) as associated:
        check_labels(associated.read("labels.txt").decode())
        return json.loads(associated.read("se_keras.json"))


def labels_of_tf_saved_model(path):
    check_labels((Path(path) / "labels.txt").read_text("utf-8"))
    said = json.loads((Path(path) / "assets.extra" / "se_keras.json").read_text("utf-8"))
    graph = (Path(path) / "saved_model.pb").read_bytes()
    assert said.pop("sha256") == hashlib.sha256(graph).hexdigest()
    assert said.pop("checksum")
    return said


def check_labels(text):
    """One line a class, whatever its name is."""
    lines = text.splitlines()
    assert len(lines) == 10
    assert lines[:7] == NAMES[:7]
    assert lines[7:] == ["7\\n8", "\\u202e8", "9'"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_file_says_what_it_is_in_its_own_format(case, exports):
    name, precision, _ = case
    said = globals()[f"labels_of_{name}"](exports[case].path)
    assert said["class_names"] == NAMES
    assert said["precision"] == precision
    (taken,) = said["inputs"]
    assert taken == {
        "name": "pixels",
        "shape": [None, 16, 16, 1],
        "type": "float32",
        "layout": "NHWC",
    }
    assert said["pixels"]["raw"]
    assert (said["pixels"]["size"], said["pixels"]["channels"]) == (16, 1)
    assert exports[case].metadata == said
    assert "float32 (N, 16, 16, 1) in NHWC, gray from 0 to 255" in str(exports[case])
    assert "zero, un, deux, dos  tres, 三, vi\u0301er, ... (10)" in str(exports[case])
    assert se_keras.decode_predictions(np.eye(10)[[7]], exports[case].path, top=1) == [
        [("7\n8", "7\n8", 1.0)]
    ]


@pytest.mark.parametrize("name", DOCS_FILES)
def test_predict_reads_what_a_file_says(name, exports, model, digit_files):
    path = Path(exports[name, "float32", False].path)
    pixels = np.stack([se_keras.load_image(photo, model) for photo in digit_files])
    expected = model.predict(pixels, verbose=0)
    answers = predict(path / "model.xml" if name == "openvino" else path, digit_files, top=10)
    for answer, row in zip(answers, expected, strict=True):
        assert [found for found, _ in answer] == [NAMES[n] for n in (-row).argsort(kind="stable")]
        np.testing.assert_allclose([share for _, share in answer], -np.sort(-row), atol=1e-5)


def test_the_docs_go_from_an_image_to_its_class_without_this_package(alone, model, digit_files):
    pixels = np.stack([se_keras.load_image(photo, model) for photo in digit_files])
    expected = [NAMES[n] for n in model.predict(pixels, verbose=0).argmax(axis=1)]
    assert len(set(expected)) > 1
    assert alone[1] == "".join(f"{name}\n" for name in expected for _ in DOCS_FILES)


def test_a_file_says_nothing_that_is_not_known():
    image = keras.Input((8, 8, 3))
    unknown = keras.Model(image, layers.Conv2D(2, 3)(image))
    said = describe(unknown).as_json()
    assert set(said) == {"inputs", "precision"}
    assert said["inputs"] == [{"name": image.name, "shape": [None, 8, 8, 3], "type": "float32"}]
    assert describe(unknown).takes == "float32 (N, 8, 8, 3); pixels unknown"
    first = keras.Input((3, 8, 8))
    scaled = keras.Model(first, layers.Rescaling(1 / 255)(first))
    assert describe(scaled).inputs[0]["layout"] == "NCHW"


def test_ranges_of_onnx_are_those_of_the_pixels(tmp_path):
    import onnx

    for mean, std, expected in (
        ((0.5,) * 3, (0.5,) * 3, "Normalized_1_1"),
        ((0.0,) * 3, (1.0,) * 3, "Normalized_0_1"),
        ((0.5, 0.5, 0.4), (0.5,) * 3, None),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), None),
    ):
        onnx.save(onnx.ModelProto(), tmp_path / "a.onnx")
        pixels = se_keras.Pixels(size=8, mean=mean, std=std)
        write_metadata(tmp_path / "a.onnx", Metadata(pixels=pixels))
        entries = onnx.load(tmp_path / "a.onnx").metadata_props
        found = {entry.key: entry.value for entry in entries}
        assert found.get("Image.NominalPixelRange") == expected
        assert found["Image.BitmapPixelFormat"] == "Rgb8"
        assert read_metadata(tmp_path / "a.onnx").pixels == pixels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"class_names": "cat"}', "`class_names` must be a list of texts, got 'cat'"),
        ('{"class_names": [1]}', "`class_names` must be a list of texts"),
        ('{"inputs": [{"name": "a", "type": "float32"}]}', "`inputs` must be objects with name"),
        ('{"inputs": [{"name": "a", "type": "float32", "shape": ["N"]}]}', "`inputs` must be"),
        ('{"inputs": [{"name": "a", "type": "O", "shape": [1]}]}', "`inputs` must be objects"),
        ('{"precision": "int4"}', "`precision` must be one of"),
        ('{"pixels": {"size": -1}}', "`size` must be"),
        ('{"pixels": {"sze": 1}}', "sze"),
        ('{"pixels": 1}', "`pixels` must be an object"),
        ("[]", "must hold a JSON object"),
        ("{", "Expecting property name"),
    ],
)
def test_what_a_damaged_file_says_is_refused(content, message, tmp_path):
    path = tmp_path / "a.tflite"
    with zipfile.ZipFile(path, "w") as associated:
        associated.writestr("se_keras.json", content)
    with pytest.raises(
        InputError, match=rf"(?s)can't read the metadata .*a\.tflite.*{re.escape(message)}"
    ):
        read_metadata(path)


@pytest.mark.parametrize("names", [["a"], "abc", [1, 2, 3]])
def test_wrong_class_names_are_refused(names, tmp_path):
    network = se_keras.create("seresnet20", input_shape=(8, 8, 3), classes=3)
    with pytest.raises(InputError, match="`class_names` must be 3 texts"):
        se_keras.export(network, tmp_path / "a", class_names=names)
    image = keras.Input((8, 8, 3))
    maps = keras.Model(image, layers.Conv2D(3, 3)(image))
    with pytest.raises(InputError, match="`class_names` must be None for a model with the outputs"):
        se_keras.export(maps, tmp_path / "a", class_names=["a", "b", "c"])


# --- labels --------------------------------------------------------------------------------------


def test_the_accuracy_is_that_of_labels_beside_the_samples(model, digits, expected):
    images, labels = digits[1]
    batches = [(images[n : n + 20], labels[n : n + 20]) for n in range(0, 60, 20)]
    one_hot = [(x, keras.utils.to_categorical(y, 10)) for x, y in batches]
    for data in (batches, one_hot, [(x, y[:, np.newaxis]) for x, y in batches]):
        samples = open_samples(model, data)
        np.testing.assert_array_equal(samples.labels, labels[4:60:5])
    wrong = replace(samples, labels=(samples.labels + 1) % 10)
    measured = export_module._compare(model, lambda x: [model.predict_on_batch(x[0])], samples)
    share = np.mean(expected[4:60:5].argmax(axis=1) == labels[4:60:5])
    assert measured["accuracy"] == measured["keras_accuracy"] == share
    measured = export_module._compare(model, lambda x: [np.eye(10)[[0] * len(x[0])]], wrong)
    assert measured["accuracy"] == np.mean(wrong.labels == 0)
    assert open_samples(model, [(x, x) for x, _ in batches]).labels is None
    assert open_samples(model, [(x, y + 0.5) for x, y in batches]).labels is None
    assert open_samples(model, [(x, y + 9) for x, y in batches]).labels is None
    assert open_samples(model, images).labels is None


def test_one_sigmoid_tells_two_classes_apart():
    scores = np.array([[0.2], [0.9], [0.6]])
    assert export_module._accuracy([scores], np.array([0, 1, 0])) == pytest.approx(2 / 3)


# --- every row -----------------------------------------------------------------------------------


def test_the_network_has_learnt_digits(expected, digits):
    assert np.mean(expected.argmax(axis=1) == digits[1][1]) > 0.9


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_process_without_keras_gets_the_outputs_of_the_model(case, served, expected, digits):
    precision = case[1]
    for batch, outputs in served[case].items():
        assert list(outputs) == ["digit"]
        assert outputs["digit"].dtype == np.float32
        difference = np.abs(outputs["digit"] - expected[:batch])
        assert difference.mean() < TOLERANCE[precision][0]
        assert difference.max() <= TOLERANCE[precision][1]
    labels = digits[1][1]
    accuracy, ours = (
        np.mean(scores.argmax(axis=1) == labels)
        for scores in (served[case][None]["digit"], expected)
    )
    assert accuracy > ours - 0.015  # five of 357 images
    # It is not the float32 file under another name.
    if precision != "float32":
        assert not np.allclose(served[case][None]["digit"], expected, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_report_is_what_a_comparison_by_hand_gives(case, exports, model, digits):
    report = exports[case]
    name, precision, calibrated = case
    if calibrated:
        images = digits[0][0][::6][4::5]
        assert "48 of the 240 samples of ndarray" in report.compared_on
        assert "192 calibration samples" in report.method
    else:
        images = photos()
        assert "20 pieces" in report.compared_on
        assert "calibration" not in report.method
    engine = find_engine(name).load(report.path, precision)
    ours = by_eight(model.predict_on_batch, images)
    theirs = by_eight(lambda batch: engine([batch])[0], images)
    assert report.samples == len(images)
    assert report.max_difference == pytest.approx(np.abs(ours - theirs).max() / ours.max(), 0.01)
    assert report.top1_agreement == np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1))
    assert report.latency > 0
    assert report.keras_latency > 0
    assert read_json(Path(f"{report.path}.report.json")) == vars(report)
    assert f"{report.latency_ratio:.2f} of Keras' predict" in str(report)


def by_eight(run, images):
    """Call `run` in the batch size of the comparison: engines choose kernels and scales by it."""
    starts = range(0, len(images), 8)
    batches = [images[np.arange(start, start + 8) % len(images)] for start in starts]
    return np.concatenate([run(batch) for batch in batches])[: len(images)]


def photos():
    """The photos as the model takes them, by Pillow directly."""
    pieces = []
    for array in load_sample_images().images:
        photo = Image.fromarray(array)
        pieces.append(photo)
        width, height = photo.size
        for left in (0, width // 4, 2 * width // 4):
            for top in (0, height // 4, 2 * height // 4):
                box = (left, top, left + width // 2, top + height // 2)
                pieces.append(photo.crop(box))
    return np.stack([squared(piece, 16) for piece in pieces])[..., np.newaxis].astype("float32")


def squared(image, size):
    image = image.convert("L")
    left, top = ((side - min(image.size)) // 2 for side in image.size)
    square = image.crop((left, top, left + min(image.size), top + min(image.size)))
    return np.array(square.resize((size, size), Image.Resampling.BILINEAR))


def test_the_sizes_of_the_files_follow_their_precision(tmp_path):
    image = keras.Input((8, 8, 64))
    x = layers.Conv2D(128, 3)(layers.Conv2D(128, 3)(image))
    wide = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    weights = sum(4 * int(np.prod(v.shape)) for v in wide.variables)
    share = {"float32": 1, "bfloat16": 1 / 2, "int8": 1 / 4}
    for row in TARGETS:
        path = tmp_path / f"{row.precision}{find_engine(row.format).suffix}"
        report = se_keras.export(wide, path, row.format, row.precision)
        assert report.keras_size == weights
        assert report.size / weights == pytest.approx(share[row.precision], rel=0.1)


def test_a_saved_model_serves_the_structure_of_the_model(exports, digits, expected):
    path = exports["tf_saved_model", "float32", False].path
    got = tf.saved_model.load(path).serve(digits[1][0][:5])
    np.testing.assert_allclose(got, expected[:5], atol=1e-5)


def test_a_bfloat16_saved_model_convolves_in_bfloat16(exports):
    loaded = tf.saved_model.load(exports["tf_saved_model", "bfloat16", False].path)
    functions = loaded.signatures["serve"].graph.as_graph_def().library.function
    types = {
        (node.op, tf.as_dtype(node.attr["T"].type))
        for function in functions
        for node in function.node_def
        if node.op in ("Conv2D", "Softmax")
    }
    assert types == {("Conv2D", tf.bfloat16), ("Softmax", tf.float32)}


def test_the_onnx_graph_changes_its_layout_at_the_input_only(exports):
    import onnx

    for precision in ("float32", "int8"):
        graph = onnx.load(exports["onnx", precision, False].path).graph
        kinds = [node.op_type for node in graph.node]
        # Of one channel the transpose is a reshape.
        assert kinds.count("Transpose") + kinds.count("Reshape") == 1
        assert "BatchNormalization" not in kinds
        groups = [a.i for n in graph.node for a in n.attribute if a.name == "group"]
        assert groups.count(2) == 2
        for value in (*graph.input, *graph.output):
            assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_scalar_that_is_added_leaves_no_transposes(tmp_path):
    # Hard sigmoid of MobileNetV3; without a bias before it tf2onnx's pass breaks at the scalar.
    import onnx

    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, use_bias=False)(image)
    x = layers.ReLU(6.0)(x + 3.0) * (1 / 6)
    network = keras.Model(image, layers.Conv2D(4, 3, use_bias=False)(x))
    report = se_keras.export(network, tmp_path / "gate.onnx", "onnx")
    assert report.max_difference < 1e-5
    graph = onnx.load(tmp_path / "gate.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Transpose") == 2  # of the images and of the maps that it gives


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("onnx", "tf2onnx.convert.from_function"),
        ("openvino", "openvino.convert_model"),
        ("tf_saved_model", "tensorflow.saved_model.save"),
    ],
)
def test_converters_get_a_graph_without_the_weights(name, function, tmp_path, monkeypatch):
    # They copy it many times: SENet-154 took 14 GB.
    owner, _, attribute = function.rpartition(".")
    convert = getattr(importlib.import_module(owner), attribute)
    sizes = []

    def spy(source, *arguments, **options):
        if name == "tf_saved_model":
            graph = source.serve.get_concrete_function().graph
            sizes.append(graph.as_graph_def().ByteSize())
        elif name == "onnx":
            graph = source.get_concrete_function(*options["input_signature"]).graph
            sizes.append(graph.as_graph_def().ByteSize())
        else:
            sizes.append((Path(source) / "saved_model.pb").stat().st_size)
        return convert(source, *arguments, **options)

    monkeypatch.setattr(function, spy)
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, layers.Conv2D(64, 3)(layers.Conv2D(256, 3)(image)))
    se_keras.export(network, tmp_path / f"model{find_engine(name).suffix}", name)
    (size,) = sizes
    assert size < 0.1 * sum(array.nbytes for array in network.get_weights())


def test_an_export_to_openvino_sends_nothing(tmp_path, monkeypatch):
    """OpenVINO takes the process for an automated one, of which it sends nothing."""
    import openvino

    seen = []
    convert = openvino.convert_model
    spy = lambda *arguments: (seen.append(os.environ.get("CI")), convert(*arguments))[1]  # noqa: E731
    monkeypatch.setattr(openvino, "convert_model", spy)
    monkeypatch.delenv("CI", raising=False)
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, layers.Conv2D(2, 3)(image))
    se_keras.export(network, tmp_path / "model", "openvino")
    assert seen == ["true"]
    assert "CI" not in os.environ


# --- inputs and outputs --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forked():
    """A model of two inputs and eleven outputs, whose names sort into another order."""
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3), name="z-image")
    vector = keras.Input((4,), name="a")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(image))
    x = layers.Concatenate()([x, vector])
    return keras.Model([image, vector], [layers.Dense(n + 1, name=f"o{n}")(x) for n in range(11)])


@pytest.fixture(scope="module")
def two_inputs():
    rng = np.random.default_rng(0)
    return [rng.random((5, 8, 8, 3), "float32"), rng.random((5, 4), "float32")]


@pytest.fixture(scope="module")
def forked_exports(forked, tmp_path_factory):
    """The report of its float32 file in each format."""
    folder = tmp_path_factory.mktemp("forked")
    return {
        engine.format: se_keras.export(forked, folder / f"float32{engine.suffix}", engine.format)
        for engine in ENGINES
    }


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.format)
def test_several_inputs_and_outputs_keep_names_and_order(
    engine, forked, forked_exports, two_inputs, served
):
    report = forked_exports[engine.format]
    assert "noise" in report.compared_on
    ours = forked.predict(two_inputs, verbose=0)
    run = engine.load(Path(report.path), "float32", threads=1 if engine.extra else None)
    theirs = run(two_inputs)
    assert [output.shape for output in theirs] == [(5, n + 1) for n in range(11)]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    alone = served[engine.format][None]
    for n in range(11):
        np.testing.assert_allclose(alone[f"o{n}"], ours[n], atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.format)
def test_integers_a_fixed_batch_and_statistics_of_pixels_are_kept(engine, tmp_path):
    # Keras keeps statistics that it has adapted as tensors: tf2onnx took them for inputs.
    normalization = layers.Normalization()
    normalization.adapt(255 * np.random.default_rng(0).random((20, 8, 8, 3), "float32"))
    image = keras.Input((8, 8, 3), batch_size=4, dtype="uint8", name="image")
    x = normalization(image)
    network = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x)))
    path = tmp_path / f"fixed{engine.suffix}"
    se_keras.export(network, path, engine.format)
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")
    (got,) = engine.load(path, "float32")([x])
    np.testing.assert_allclose(got, network(x), atol=1e-5)


# glu halves the channels, and threshold needs further arguments.
ACTIVATIONS = sorted(
    name
    for name, made in vars(keras.activations).items()
    if isinstance(made, types.FunctionType)
    and name not in ("get", "serialize", "deserialize", "glu", "threshold")
)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.format)
def test_every_activation_of_keras_can_be_exported(engine, tmp_path):
    """TensorFlow writes GELU and CELU with operators that tf2onnx does not know."""
    assert {"gelu", "celu", "silu", "hard_sigmoid"} <= set(ACTIVATIONS)
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    # OpenVINO's log-softmax is wrong on maps, and right on vectors.
    ends = {
        name: layers.Activation(name)(layers.Flatten()(x) if name == "log_softmax" else x)
        for name in ACTIVATIONS
    }
    network = keras.Model(image, ends)
    path = tmp_path / f"all{engine.suffix}"
    se_keras.export(network, path, engine.format)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    outputs, expected = engine.load(path, "float32")([x]), network(x)
    for name, got in zip(ACTIVATIONS, outputs, strict=True):
        np.testing.assert_allclose(got, expected[name], atol=1e-5, err_msg=name)


def test_outputs_in_a_dict_and_a_mixed_policy(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(image)
    network = keras.Model(image, {"b": layers.Flatten()(x), "a": layers.ReLU()(x)})
    se_keras.export(network, tmp_path / "served")
    x = np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    outputs = tf.saved_model.load(tmp_path / "served").signatures["serving_default"](tf.constant(x))
    kernel, bias = (weight.numpy() for weight in network.layers[1].weights)
    exact = tf.nn.conv2d(x, kernel, 1, "VALID").numpy() + bias
    np.testing.assert_allclose(outputs["b"], exact.reshape(2, -1), atol=1e-5)
    np.testing.assert_allclose(outputs["a"], np.maximum(exact, 0), atol=1e-5)


def test_an_output_that_onnx_reshapes_to_its_own_shape_keeps_its_name(tmp_path):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(image)
    network = keras.Model(image, layers.Reshape((6, 6, 4), name="same")(x))
    report = se_keras.export(network, tmp_path / "out.onnx", "onnx")
    assert report.max_difference < 1e-5


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")
def test_a_quantized_layer_stays_so_in_bfloat16(tmp_path):
    vector = keras.Input((8,))
    network = keras.Model(vector, layers.Dense(4)(layers.Dense(8)(vector)))
    network.quantize("int8")
    x = np.random.default_rng(0).random((5, 8), "float32")
    se_keras.export(network, tmp_path / "served", precision="bfloat16")
    (got,) = find_engine("tf_saved_model").load(tmp_path / "served", "bfloat16")([x])
    np.testing.assert_allclose(got, network(x), atol=1e-5)


@pytest.mark.parametrize("row", TARGETS, ids=lambda row: f"{row.format}-{row.precision}")
def test_padded_channels_pass_into_every_format(row, tmp_path):
    """`optimize` writes the padding as an operation of `keras.ops`, which is no layer."""
    image = keras.Input((8, 8, 3))
    padded = ChannelPadding((2, 2), name="padding")(layers.Conv2D(4, 3, name="conv")(image))
    network = keras.Model(image, layers.GlobalAveragePooling2D(name="mean")(padded))
    path = tmp_path / f"m{find_engine(row.format).suffix}"
    report = se_keras.export(network, path, row.format, row.precision)
    assert report.max_difference < {"float32": 1e-5, "bfloat16": 2e-2, "int8": 0.1}[row.precision]


@pytest.mark.parametrize("row", TARGETS, ids=lambda row: f"{row.format}-{row.precision}")
@pytest.mark.parametrize("chain", [[], [ChannelPadding((2, 2))]], ids=["chain", "rewritten"])
def test_a_sequential_model_that_was_never_called(row, chain, tmp_path):
    """It has no `input`, `output` and `output_names`, and stays Sequential if nothing changes."""
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="photo"),
            layers.Conv2D(4, 3),
            *chain,
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Conv2D(4, 1, activation=keras.activations.sigmoid),
            layers.Flatten(name="scores"),
        ]
    )
    x = np.random.default_rng(0).random((5, 8, 8, 3), "float32")
    calibration = x if row.calibrate else None
    path = tmp_path / f"m{find_engine(row.format).suffix}"
    report = se_keras.export(network, path, row.format, row.precision, calibration)
    assert report.max_difference < {"float32": 1e-5, "bfloat16": 2e-2, "int8": 0.1}[row.precision]
    if row.format == "tf_saved_model":
        serve = tf.saved_model.load(path).signatures["serving_default"]
        np.testing.assert_allclose(serve(photo=x)["scores"], network(x), atol=2e-2)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_small_probabilities_are_kept_in_int8(engine, tmp_path):
    """An integer softmax has steps of 1/256, but most of 1,000 classes are less probable."""
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3, activation="relu")(image))
    network = keras.Model(image, layers.Dense(1000, activation="softmax")(x))
    path = tmp_path / f"m{find_engine(engine).suffix}"
    images = np.random.default_rng(0).random((60, 8, 8, 3), "float32")
    se_keras.export(network, path, engine, "int8", images)
    (got,) = find_engine(engine).load(path, "int8")([images])
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(got, network(images), rtol=0.05)


@pytest.mark.slow
def test_a_tensor_has_two_names_in_openvino(tmp_path):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(image)
    network = keras.Model(image, {"b": x, "a": x})
    report = se_keras.export(network, tmp_path / "served", "openvino")
    assert report.max_difference < 1e-5


# --- what is refused, and what is left then ------------------------------------------------------


def writes(monkeypatch, precision, write):
    """Lets a format be written by a function of the test."""
    target = Target(format="tf_saved_model", precision=precision, write=write)
    monkeypatch.setattr("se_keras.deploy.export.find_target", lambda *_: target)


@pytest.mark.parametrize(
    ("precision", "factor", "kept"),
    [
        ("int8", 1.2, True),
        ("int8", 1.4, False),
        ("int8", 0, False),
        ("bfloat16", 1.4, False),
        ("bfloat16", np.nan, False),
    ],
)
def test_a_file_in_fewer_bits_must_compute_what_the_model_does(
    precision, factor, kept, tmp_path, monkeypatch
):
    vector = keras.Input((4,))
    network = keras.Model(vector, layers.Dense(3)(vector))
    other = keras.models.clone_model(network)
    other.set_weights([factor * weight for weight in network.get_weights()])
    writes(monkeypatch, precision, lambda _, path: write_saved_model(other, path))
    if kept:
        report = se_keras.export(network, tmp_path / "served", precision=precision)
        assert report.rms_difference == pytest.approx(factor - 1, 1e-3)
        return
    with pytest.raises(WrongResultError, match=r"of a typical output, more than 0\.25"):
        se_keras.export(network, tmp_path / "served", precision=precision)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")
def test_what_a_converter_raises_is_one_line(tmp_path, monkeypatch):
    def fail(model, path):
        raise KeyError("float8\nis lost")

    writes(monkeypatch, "float32", fail)
    vector = keras.Input((4,))
    network = keras.Model(vector, layers.Dense(3)(vector), name="net")
    words = "`model`: 'net' can't be exported to tf_saved_model in float32.{} The converter says: "
    with pytest.raises(InputError, match=words.format("")):
        se_keras.export(network, tmp_path / "served")
    network.quantize("int8")
    with pytest.raises(InputError, match=words.format(" It is quantized: .* before `quantize`.")):
        se_keras.export(network, tmp_path / "served")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "precision"),
    [("tf_saved_model", "int8"), ("onnx", "bfloat16"), ("litert", "bfloat16"), ("tflite", "int8")],
)
def test_what_a_format_lacks_is_refused_with_all_that_there_is(name, precision, model, tmp_path):
    with pytest.raises(InputError, match=f"got {name} in {precision}") as error:
        se_keras.export(model, tmp_path / "out", name, precision)
    for row in TARGETS:
        assert row.format in str(error.value)


@pytest.mark.parametrize(("name", "module"), EXTRAS.items())
def test_a_missing_package_is_named_with_its_extra(name, module, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"out{find_engine(name).suffix}"
    with pytest.raises(MissingExtraError, match=rf"'{module}' is missing.*se_keras\[{name}\]"):
        se_keras.export(model, path, name)
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_exported_is_refused(model, tmp_path, monkeypatch):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    (tmp_path / "mine.onnx").mkdir()
    for network, path, name, message in (
        (Subclassed(), "out", "tf_saved_model", "functional"),
        (model, "out", "onnx", ".onnx file"),
        (model, "mine.onnx", "onnx", "folder"),
        (model, "mine", "openvino", "is not an export"),
        (model, "mine/thesis.txt", "tf_saved_model", "is not an export"),
    ):
        with pytest.raises(ValueError, match=message):
            se_keras.export(network, tmp_path / path, name)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(InputError, match="TensorFlow backend"):
        se_keras.export(model, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.onnx"]
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "words"


@pytest.mark.parametrize("name", ["tf_saved_model", "onnx"])
@pytest.mark.parametrize("wrong", [np.nan, 0.002])
def test_a_file_that_computes_something_else_is_not_left(
    name, wrong, model, tmp_path, monkeypatch, capsys
):
    path = tmp_path / f"out{find_engine(name).suffix}"
    se_keras.export(model, path, name)
    before = contents(tmp_path)
    load = Engine.load

    def spoiled(self, *arguments):
        run = load(self, *arguments)
        return lambda arrays: [output + wrong for output in run(arrays)]

    monkeypatch.setattr(Engine, "load", spoiled)
    with pytest.raises(RuntimeError, match=f"{name} file in float32 does not compute"):
        se_keras.export(model, path, name)
    assert contents(tmp_path) == before
    model.save(tmp_path / "model.keras")
    capsys.readouterr()
    assert main(["export", str(tmp_path / "model.keras"), "-f", name, "-o", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not compute the same as the model" in line


def test_a_broken_off_export_leaves_what_was_there(model, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "_compare", stopped)
    for name in ("tf_saved_model", "litert"):
        with pytest.raises(KeyboardInterrupt):
            se_keras.export(model, tmp_path / f"out{find_engine(name).suffix}", name)
    assert contents(tmp_path) == {}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- samples -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw():
    image = keras.Input((16, 12, 3), name="image")
    return keras.Model(image, layers.Flatten()(layers.Rescaling(1 / 255)(image)))


def batches_of(images):
    class Batches(keras.utils.PyDataset):
        num_batches = len(images) // 8

        def __getitem__(self, index):
            return images[8 * index : 8 * index + 8], np.zeros(8)

    return Batches()


def test_all_kinds_of_calibration_sets_give_the_same_samples(raw):
    images = np.random.default_rng(0).integers(0, 256, (96, 16, 12, 3)).astype("uint8")
    labels = np.zeros(len(images))
    pairs = tf.data.Dataset.from_tensor_slices((images, labels))
    for calibration in (
        images,
        {"image": images},
        {"image": images.tolist()},
        pairs.batch(8),
        pairs.repeat().batch(32).take(3),
        batches_of(images),
        (images[start : start + 32] for start in (0, 32, 64)),
        [{"image": images[:50]}, {"image": images[50:]}],
    ):
        samples = open_samples(raw, calibration)
        (kept,), (held_out,) = samples.calibration, samples.comparison
        assert kept.dtype == held_out.dtype == np.float32
        np.testing.assert_array_equal(held_out, images[4::5])
        np.testing.assert_array_equal(kept, np.delete(images, np.s_[4::5], axis=0))


def test_at_most_300_samples_are_taken_from_all_over(raw):
    images = np.broadcast_to(np.arange(900.0)[:, None, None, None], (900, 16, 12, 3))
    samples = open_samples(raw, images)
    taken = np.concatenate([samples.calibration[0], samples.comparison[0]])[:, 0, 0, 0]
    assert sorted(taken) == [3.0 * n for n in range(300)]
    endless = tf.data.Dataset.from_tensors(images[0]).repeat().batch(7)
    assert len(open_samples(raw, endless).calibration[0]) == 240
    few = open_samples(raw, images[:49])
    assert few.calibration[0] is few.comparison[0]


def test_a_folder_of_images_is_cropped_and_resized(raw, tmp_path):
    photo = Image.fromarray(load_sample_images().images[1])
    (tmp_path / "a").mkdir()
    photo.save(tmp_path / "a" / "wide.png")
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "tall.png")
    (samples,) = open_samples(raw, tmp_path).calibration
    # 12 to 16 pixels, so of 640 x 427 the middle 320 columns.
    assert samples.shape == (2, 16, 12, 3)
    middle = photo.crop((160, 0, 480, 427))
    expected = np.array(middle.resize((12, 16), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(samples[1] - expected).max() <= 1


def test_the_folder_has_the_pixels_that_the_model_takes(tmp_path):
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "red.png")
    shape = (32, 32, 3)
    named = se_keras.create("seresnet20", input_shape=shape, name="seresnet50.a1_in1k")
    inside = se_keras.create("seresnet20", include_preprocessing=True, input_shape=shape)
    image = keras.Input(shape)
    gray = keras.Input((None, None, 1))
    nested = keras.Model(image, inside(keras.ops.cast(image, "uint8")))
    open_size = keras.Model(gray, layers.Conv2D(1, 1)(layers.Rescaling(1 / 255)(gray)))
    normalized = se_keras.preprocess_input(np.array([[[255, 0, 0]]], "uint8"), named)
    # 76: red's part of a gray value (ITU-R 601-2), as Pillow has it.
    for network, pixel in (
        (named, normalized[0, 0]),
        (inside, [255, 0, 0]),
        (nested, [255, 0, 0]),
        (open_size, [76]),
    ):
        ((sample,),) = open_samples(network, tmp_path).calibration
        np.testing.assert_allclose(sample, np.broadcast_to(pixel, sample.shape), atol=1e-6)
    assert sample.shape == (224, 224, 1)


def test_without_a_set_the_photos_are_as_the_model_takes_them():
    shape = (32, 32, 3)
    named = se_keras.create("seresnet20", input_shape=shape, name="seresnet50.a1_in1k")
    samples = open_samples(named, None)
    assert samples.text == "20 pieces of scikit-learn's two photos"
    assert samples.comparison[0].min() < -2
    samples = open_samples(se_keras.create("seresnet20", input_shape=shape), None)
    assert samples.text.endswith("in -1..1, because the model's pixels are unknown")
    (photos,) = samples.comparison
    assert -1 <= photos.min() < photos.max() <= 1


def test_bad_calibration_sets_are_refused(raw, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "torn.png").write_bytes(b"not an image")
    (tmp_path / "good").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "good" / "a.png")
    image = keras.Input((8, 8, 3))
    unknown = keras.Model(image, layers.Conv2D(2, 3)(image))
    vector = keras.Input((8,))
    for network, calibration, message in (
        (raw, tmp_path / "missing", "must be a folder"),
        (raw, tmp_path / "empty", "has no images"),
        (raw, tmp_path / "bad", r"torn\.png"),
        (
            unknown,
            tmp_path / "good",
            "pixels are known, but the pixels of .* are unknown: its first",
        ),
        (se_keras.create("seresnet20"), tmp_path / "good", "nor its name show them. Give arrays"),
        (keras.Model(vector, layers.Dense(2)(vector)), tmp_path / "good", "Give arrays"),
        (raw, np.zeros((4, 16, 16, 3)), r"samples of \[\(None, 16, 12, 3\)\]"),
        (raw, np.zeros((0, 16, 12, 3)), "samples of"),
        (raw, [], "at least one sample"),
        (raw, {"pixels": np.zeros((4, 16, 12, 3))}, "inputs"),
        (raw, 7, "got int"),
    ):
        with pytest.raises(InputError, match=message):
            open_samples(network, calibration)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run_folder(model, digits, tmp_path):
    """A run's folder, and some of its images."""
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "model.keras")
    (tmp_path / "images").mkdir()
    for number, image in enumerate(digits[1][0][:60]):
        Image.fromarray(image[..., 0].astype("uint8")).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


def test_the_command_prints_the_report_and_says_where(run_folder, expected, digits, capsys):
    command = ["export", str(run_folder / "run")]
    calibrated = ["-p", "int8", "--calibration", str(run_folder / "images")]
    assert main([*command, "-f", "onnx", *calibrated]) == 0
    printed = capsys.readouterr().out
    path = run_folder / "run" / "model-int8.onnx"
    assert f"12 of the 60 samples of {run_folder / 'images'}" in printed
    assert str(path) in printed
    (got,) = find_engine("onnx").load(path, "int8")([digits[1][0]])
    assert np.mean(got.argmax(axis=1) == expected.argmax(axis=1)) > 0.98
    assert main([f"{command[0]}", f"{command[1]}/model.keras", "-o", str(run_folder / "out")]) == 0
    assert (run_folder / "out" / "saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("run -f tflite", "--format must be one of"),
        ("run -p int8", "got tf_saved_model in int8"),
        ("run -f onnx -o images", ".onnx"),
        ("run -o images", "images exists"),
        ("run -f litert -p int8 --calibration run", "run has no images"),
        ("nowhere -f onnx", "nowhere"),
        ("images", "images"),
        ("subclassed.keras", "functional"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, named, run_folder, capsys, monkeypatch):
    monkeypatch.chdir(run_folder)
    network = Squared()
    network(np.zeros((1, 2)))
    network.save("subclassed.keras")
    before = contents(run_folder)
    assert main(["export", *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert contents(run_folder) == before


@keras.saving.register_keras_serializable("test_deploy_export")
class Squared(keras.Model):
    def call(self, x):
        return x * x


def test_where_a_nan_goes_in_nan_comes_out():
    """Even if an engine's ReLU turns NaN into a number. Other examples and integers stay."""

    def load(path, precision, threads):
        return lambda arrays: [np.nan_to_num(arrays[0]), np.ones((3, 2), "float32"), np.arange(3)]

    run = Engine(format="x", package="x", suffix="", loader=load).load("x", "float32")
    images = np.ones((3, 2, 2, 1), "float32")
    images[1, 0, 1, 0] = np.nan
    first, second, numbers = run([images, np.full((3, 1), np.inf)])
    assert np.isnan(first).all((1, 2, 3)).tolist() == [False, True, False]
    assert (first[[0, 2]] == 1).all()
    np.testing.assert_array_equal(second, [[1, 1], [np.nan, np.nan], [1, 1]])
    assert second.dtype == "float32"
    assert numbers.tolist() == [0, 1, 2]


def test_onnx_runtime_sends_nothing_and_leaves_the_home_folder_alone(tmp_path):
    """In a process that imports it first; there a test would switch it off."""
    # As the command, which does not load Keras at once.
    code = "import sys; sys.argv[0] = 'se-keras'\n"
    code += "from se_keras.deploy.engines import import_onnxruntime; import_onnxruntime()"
    off = ("CI", "ORT_DISABLE_TELEMETRY")
    environment = {name: x for name, x in os.environ.items() if name not in off}
    environment |= {"HOME": str(tmp_path), "KERAS_HOME": str(tmp_path / "keras")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert {path.name for path in tmp_path.iterdir()} <= {"keras"}


def test_litert_does_not_say_what_it_computes_with(tmp_path, capfd):
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image)))
    se_keras.export(network, tmp_path / "a.tflite", "litert")
    run = find_engine("litert").load(tmp_path / "a.tflite", "float32")
    x = np.ones((2, 8, 8, 3), "float32")
    np.testing.assert_allclose(run([x])[0], network(x), atol=1e-5)
    assert "XNNPACK" not in capfd.readouterr().err
