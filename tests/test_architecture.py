"""Test which module imports which, by reading the source."""

import ast
import re
import sys
from pathlib import Path

import pytest
from checks import run_python

import se_keras

PACKAGE = Path(se_keras.__file__).parent

# A module imports only from lines above its own, and from its own line.
ORDER = (
    "support",
    "graph",
    "ops",
    "layers",
    "blocks",
    "models.recipes",
    "models.parts",
    "models",
    "weights",
    "images",
    "folders",
    "pixels",
    "metadata",
    "class_names",
    "catalog",
    "rewrite",
    "counting",
    "surgery",
    "deploy",
    "explain",
    "train",
    "commands",
    "cli",
    "__main__",
)
# These stand side by side: none imports another.
SIDE_BY_SIDE = {"weights", "surgery", "deploy", "counting", "explain"}
USES_TENSORFLOW = ("pixels", "deploy", "train", "commands")
WITHOUT_KERAS = (
    "support.archives",
    "support.arguments",
    "support.errors",
    "support.files",
    "support.schema",
    "support.signals",
    "support.progress",
    "support.tables",
    "support.timing",
    "models.recipes",
    "weights.class_lists",
    "weights.hub_config",
    "weights.preprocessing",
    "weights.presets",
    "train.config",
    "train.run_files",
)


def modules():
    """Dotted name below the package -> path, without the package's own `__init__`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if parts:
            yield ".".join(parts), path


MODULES = dict(modules())


def imports(source):
    """Every module that the source imports, `from a import b` as both `a` and `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def line_of(module):
    """The line of `ORDER` that a module belongs to: the longest that is a part of its name."""
    fits = [line for line in ORDER if module == line or module.startswith(line + ".")]
    return max(fits, key=len, default=None)


def within(module, packages):
    return any(module == name or module.startswith(name + ".") for name in packages)


def free_of_keras(name):
    top, _, rest = name.partition(".")
    return top in sys.stdlib_module_names or (top == "se_keras" and within(rest, WITHOUT_KERAS))


def violations(module, source):
    """What a module's imports break, as sentences."""
    here = line_of(module)
    for name in imports(source):
        if within(name, ["keras.src"]) or name.startswith("keras._"):
            yield f"{module} imports Keras' internals: {name}"
        if within(name, ["tensorflow", "tf_keras"]) and not within(module, USES_TENSORFLOW):
            yield f"{module} imports {name}"
        if within(module, WITHOUT_KERAS) and not free_of_keras(name):
            yield f"{module} must do without keras, and imports {name}"
        there = line_of(name.removeprefix("se_keras.")) if within(name, ["se_keras"]) else None
        if there is None or there == here:
            continue
        if ORDER.index(there) > ORDER.index(here):
            yield f"{module} imports {name}, which stands below it"
        if {here, there} <= SIDE_BY_SIDE:
            yield f"{module} imports {name}, which stands beside it"


def test_every_module_has_its_line():
    assert [module for module in MODULES if line_of(module) is None] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_it_may(module):
    assert list(violations(module, MODULES[module].read_text())) == []


@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("ops", "from se_keras.layers import SqueezeExcite", "stands below it"),
        ("ops", "from se_keras import layers", "stands below it"),
        ("ops", "import se_keras.layers", "stands below it"),
        ("models.recipes", "from se_keras.models.parts import conv", "do without keras"),
        ("models.parts", "def f():\n    from se_keras.models import resnet", "stands below it"),
        ("models.recipes", "import keras", "do without keras"),
        ("weights.convert", "from se_keras.counting import count", "stands below it"),
        ("surgery", "from se_keras.counting import count", "stands beside it"),
        ("deploy.export", "from se_keras import weights", "stands beside it"),
        ("layers", "from keras.src import ops", "internals"),
        ("layers", "from keras import src", "internals"),
        ("layers", "def f():\n    import tensorflow as tf", "imports tensorflow"),
        ("graph", "from tensorflow import nn", "imports tensorflow.nn"),
    ],
)
def test_a_wrong_import_is_seen(module, source, broken):
    assert broken in " ".join(violations(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("layers", "import keras\nfrom se_keras import ops"),
        ("models.resnet", "from se_keras.models.parts import Parts"),
        ("models.recipes", "import difflib\nfrom se_keras.support.arguments import one_of"),
        ("deploy.export", "import tensorflow as tf\nfrom se_keras.rewrite import optimize"),
        ("cli", "from se_keras.train import run"),
    ],
)
def test_a_right_import_is_let_through(module, source):
    assert list(violations(module, source)) == []


# What a `weights=` string means is asked of the object that `weights.source` makes of it.
TAKES_A_SOURCE_APART = re.compile(
    r"\b(preset_of|find_preset|split_key|parse_address|open_file|model_name_of_file|"
    r"hub\.(fetch|fetch_config|cached_config)|hf://[^\w]*\"\)|startswith\([^)]*://)"
)
KNOWS_SOURCES = ("weights.source", "weights.presets", "weights.hub", "weights.readers")


@pytest.mark.parametrize("module", [name for name in MODULES if not within(name, KNOWS_SOURCES)])
def test_one_module_knows_what_a_source_of_weights_means(module):
    assert TAKES_A_SOURCE_APART.findall(MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "presets.preset_of(weights)",
        "find_preset(name).source",
        "hub.fetch_config(weights)",
        'weights.startswith("hf://")',
        'weights.startswith(("hf://", "https://"))',
        'weights.removeprefix("hf://")',
    ],
)
def test_a_source_that_is_taken_apart_is_seen(source):
    assert TAKES_A_SOURCE_APART.search(source)


def private_attributes(source):
    """Attributes `_x` of anything but `self`, a class, or a module of the standard library."""
    own = {"self", "cls"} | sys.stdlib_module_names
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr):
            owner = node.value.id if isinstance(node.value, ast.Name) else None
            if owner not in own:
                yield f"line {node.lineno}: .{node.attr}"


@pytest.mark.parametrize("module", [module for module in MODULES if module != "graph"])
def test_no_private_attribute_of_another_object_is_used(module):
    assert list(private_attributes(MODULES[module].read_text())) == []


def test_a_private_attribute_is_seen():
    source = (
        "def f(self, model):\n    return self._x, model._nested, model.layers[0]._inbound_nodes"
    )
    assert list(private_attributes(source)) == ["line 2: ._nested", "line 2: ._inbound_nodes"]


# Keras itself imports matplotlib, scikit-learn and Pillow where they are installed, so that only
# who asks for a module tells ours from Keras' imports.
ASKED_FOR = """
import builtins
import keras
original = builtins.__import__
def watched(name, globals=None, *rest, **more):
    if (globals or {}).get("__name__", "").partition(".")[0] == "se_keras":
        print(name.partition(".")[0])
    return original(name, globals, *rest, **more)
builtins.__import__ = watched
import se_keras
"""


def test_importing_the_package_brings_nothing_but_keras():
    # No second spent on a plotting, imaging or learning library that a command may need later.
    asked_for = set(run_python(ASKED_FOR).split())
    assert "keras" in asked_for
    assert asked_for - {"se_keras", "keras", "numpy"} - sys.stdlib_module_names == set()
