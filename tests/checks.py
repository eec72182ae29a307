"""Share paths, the float64 reference of SE and fresh processes between test modules."""

import ast
import contextlib
import functools
import inspect
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from se_keras import SqueezeExcite
from se_keras.models.recipes import RECIPES, find_recipe

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
REPO = TESTS.parent
README = REPO / "README.md"
PAGES = (README, *sorted((REPO / "docs").glob("*.md")))
MANIFESTS = GOLDEN / "manifests"
LARGE = 40_000_000  # parameters, from which on a test is slow
POLICIES = ("float32", "bfloat16", "mixed_bfloat16", "mixed_float16", "float64")
ACTIVATIONS = {
    "relu": lambda v: np.where(v > 0, v, 0.0),
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "hard_sigmoid": lambda v: np.clip(v + 3, 0, 6) / 6,
    "tanh": np.tanh,
    "silu": lambda v: v / (1 + np.exp(-v)),
    "linear": lambda v: v,
}


def reference_gate(u, weights, pool="avg", activation="relu", gate_activation="sigmoid", scale=1.0):
    """Return the gate of one sample by the equations of arXiv 1709.01507, section 3, in float64.

    `u` is one map (*spatial, C); `weights` are [W1, b1, W2, b2], or [W1, W2] without biases.
    """
    pixels = np.asarray(u, "float64").reshape(-1, u.shape[-1])
    z = pixels.max(axis=0) if pool == "max" else pixels.sum(axis=0) / len(pixels)
    w1, w2 = np.asarray(weights[0], "float64"), np.asarray(weights[-2 if len(weights) == 4 else -1])
    b1, b2 = weights[1::2] if len(weights) == 4 else (0.0, 0.0)
    hidden = ACTIVATIONS[activation](w1.T @ z + np.asarray(b1, "float64"))
    return scale * ACTIVATIONS[gate_activation](w2.astype("float64").T @ hidden + b2)


def reference_se(x, weights, data_format="channels_last", mask=None, **options):
    """Return (output, gates (N, C)) of the layer on a batch, sample by sample, in float64.

    Only positions with a true `mask` count; a sample without any is a map of zeros.
    """
    x = np.asarray(x, "float64")
    last = np.moveaxis(x, 1, -1) if data_format == "channels_first" else x
    none = np.zeros((1, last.shape[-1]))
    counted = last
    if mask is not None:
        counted = [u[m] if m.any() else none for u, m in zip(last, mask, strict=True)]
    gates = np.array([reference_gate(u, weights, **options) for u in counted])
    gates = gates.reshape(len(x), last.shape[-1])
    y = np.array([u * g for u, g in zip(last, gates, strict=True)]).reshape(last.shape)
    return (np.moveaxis(y, -1, 1) if data_format == "channels_first" else y), gates


def array(tensor):
    """Return a tensor of any backend as a NumPy array, bfloat16 as float32."""
    numpy = keras.ops.convert_to_numpy(tensor)
    return numpy.astype("float32") if numpy.dtype.name == "bfloat16" else numpy


def to_channels_first(x):
    """Move channels: (N, H, W, C) -> (N, C, H, W); a vector (N, C) is unchanged."""
    return np.moveaxis(x, -1, 1)


def uniform(shape, seed=0, dtype="float32"):
    """Return numbers in [-1, 1), the same on every backend."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def set_random_weights(layer, seed=0):
    """Set random weights in a layer or model, including biases.

    They are scaled by the fan-in, so that a deep network stays finite; variances are positive.
    """
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        values = rng.uniform(-1, 1, weight.shape) / np.sqrt(max(1, np.prod(weight.shape[:-1])))
        # SE's hidden units stay above zero too, where a gradient passes the ReLU.
        if weight.name in ("gamma", "moving_variance") or weight.path.endswith("reduce/bias"):
            values = rng.uniform(0.5, 1.5, weight.shape)
        if "int" not in weight.dtype:
            weight.assign(values)


def trainable(model):
    """Return the number of trainable parameters."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def se_layers(model):
    """Return the SE layers of a model and of its nested models."""
    found = []
    for layer in model.layers:
        if isinstance(layer, SqueezeExcite):
            found.append(layer)
        elif isinstance(layer, keras.Model):
            found += se_layers(layer)
    return found


def kind_of(recipe):
    """Return a recipe without its depth, which is equal for networks that differ only in depth."""
    same = {"name": "", "builder": "", "parameters": 0, "multiply_adds": 0, "input_size": 0}
    return replace(recipe, **same, **({"depths": ()} if hasattr(recipe, "depths") else {}))


def by_size(names):
    """Return names of the catalog as parameters of a test.

    Large networks are marked slow, and so are networks that differ from an earlier one only in
    depth or stem.
    """
    parameters, seen = [], set()
    for name in names:
        recipe = find_recipe(name)
        kind = kind_of(recipe)
        kind = replace(kind, stem_widths=()) if hasattr(kind, "stem_widths") else kind
        slow = kind in seen or recipe.parameters > LARGE
        seen.add(kind)
        parameters.append(pytest.param(name, marks=pytest.mark.slow if slow else ()))
    return parameters


@functools.cache
def shapes_of_row(name):
    """Return paths and shapes of a row's variables, without building the network.

    Of rows that differ in depth alone one may have the manifest for all: from the second on the
    units of a stage are alike.
    """
    recipe = find_recipe(name)
    rows = (row for row in RECIPES if kind_of(row) == kind_of(recipe))
    manifests = {row: MANIFESTS / f"{row.name}.txt" for row in (recipe, *rows)}
    row = next(row for row, path in manifests.items() if path.exists())
    lines = [line.split() for line in manifests[row].read_text().splitlines()]
    shapes = {path: tuple(map(int, shape.split("x"))) for path, shape in lines}
    return shapes if row is recipe else deepened(shapes, recipe.depths)


def deepened(shapes, depths):
    """Return the variables of a residual network with other numbers of units in its stages."""
    units = {}  # stage -> unit -> its variables
    for path, shape in shapes.items():
        stage, block, rest = UNIT.fullmatch(path).groups() if UNIT.match(path) else (path, 1, None)
        units.setdefault(stage, {}).setdefault(int(block), {})[rest] = shape
    deep = {}
    for stage, blocks in units.items():
        if None in blocks[1]:  # no unit
            deep[stage] = blocks[1][None]
            continue
        for block in range(1, depths[int(stage) - 2] + 1):
            for rest, shape in blocks[min(block, 2)].items():
                deep[f"stage{stage}_block{block}_{rest}"] = shape
    return deep


UNIT = re.compile(r"stage(\d+)_block(\d+)_(.+)")
MISSING = object()


def wrong_calls(source):
    """Find names that a program uses but se_keras does not have, and unknown keyword arguments.

    The program is read, not run, but for its imports of se_keras; raises `SyntaxError` if it is no
    Python.
    """
    tree, names, wrong = ast.parse(source), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and "se_keras" in ast.unparse(node):
            try:
                exec(ast.unparse(node), names)
            except ImportError as error:
                wrong.append(str(error))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _looked_up(node, names) is MISSING:
            wrong.append(ast.unparse(node))
        if isinstance(node, ast.Call):
            unknown = _unknown_keywords(node, _looked_up(node.func, names))
            wrong += [f"{ast.unparse(node.func)}({keyword}=...)" for keyword in unknown]
    return wrong


def _looked_up(node, names):
    """Return the object of an imported name, or of a name in an imported module; else None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = _looked_up(node.value, names)
    return getattr(owner, node.attr, MISSING) if inspect.ismodule(owner) else None


def _unknown_keywords(call, function):
    if not callable(function):
        return []
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    return [given.arg for given in call.keywords if given.arg and given.arg not in parameters]


def run_python(code, *arguments, backend="tensorflow"):
    """Run `code` in a fresh interpreter that can import the tests; fail with its stderr.

    Returns its standard output.
    """
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    environment["JAX_ENABLE_X64"] = "1"  # without it JAX computes float64 in float32
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


# A None in sys.modules makes `import se_keras` fail, as where it is not installed.
SERVE = """
import sys
sys.modules["se_keras"] = None
import numpy as np, tensorflow as tf
for path in sys.argv[1:]:
    if path.endswith(".keras"):
        import keras
        loaded = keras.models.load_model(path)
        predict = loaded
    else:
        loaded = tf.saved_model.load(path)  # kept: a function alone does not keep its variables
        predict = loaded.serve
    np.save(path + ".served.npy", predict(np.load(path + ".input.npy")))
"""


def serve_without_the_package(cases):
    """Predict with SavedModels and .keras files in one process without se_keras.

    `cases` maps each path to its input; returns the outputs, in the same order.
    """
    for path, x in cases.items():
        np.save(f"{path}.input.npy", x)
    run_python(SERVE, *cases)
    return [np.load(f"{path}.served.npy") for path in cases]


def exit_code(main, arguments):
    """Run a command line; return its exit code, even if argparse ends the process."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code


def refused(main, arguments, capsys):
    """Run a command line that must end with exit code 2; return its one line on stderr."""
    assert exit_code(main, arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@contextlib.contextmanager
def real_browser():
    """Provide a headless Chromium; skip the test if there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()
