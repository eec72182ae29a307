"""Test the types that type checkers and editors see."""

import ast
import re
from pathlib import Path

import make_stub
import pytest
from mypy import api

import se_keras

PACKAGE = Path(se_keras.__file__).parent
STUB = PACKAGE / "__init__.pyi"

GOOD = """
import keras
import se_keras
from se_keras import SEResNet50, SqueezeExcite

model = SEResNet50(True, "imagenet", classes=10, placement="pre", ratio=8)
model = SEResNet50(include_top=False, pooling="avg", se_options={"pool": "max"})
model = se_keras.SEMobileNet((128, 128, 3), 0.5, depth_multiplier=1)
model = se_keras.create("seresnet50", weights="hf://timm/seresnet50.a1_in1k", classes=None)
model = se_keras.create(se_keras.list_models("semobilenet")[0], alpha=0.5, dtype="float16")
layer: SqueezeExcite = SqueezeExcite(ratio=16, pool="max", name="se", dtype="float32")
y = se_keras.se_block(keras.Input((8, 8, 16)), 4, "se", gate_scale=2.0, trainable=False)
new = se_keras.insert_se(model, where=["conv1"], ratio=4, pool="max")
sites: int = len(se_keras.find_sites(model, divisor=8).sites)
z = se_keras.ops.squeeze(keras.Input((8, 8, 16)), pool="max")
counted: int = se_keras.count(model).params
config = se_keras.train.TrainConfig(model="seresnet20")
metrics = se_keras.train.train(config, "out", resume=True)
version: str = se_keras.__version__
"""
BAD = {
    "SEResNet50(clases=10)": 'Unexpected keyword argument "clases" for "SEResNet50"',
    "SEResNet50(classes='10')": 'Argument "classes" to "SEResNet50" has incompatible type "str"',
    "SEResNet50(alpha=0.5)": 'Unexpected keyword argument "alpha"',
    "SEResNet50((224, 224, 3))": 'Argument 1 to "SEResNet50" has incompatible type',
    "se_keras.SEMobileNet(False)": 'Argument 1 to "SEMobileNet" has incompatible type "bool"',
    "se_keras.SEResnet50()": 'Module has no attribute "SEResnet50"',
    "se_keras.optimise": 'Module has no attribute "optimise"',
    "se_keras.create('seresnet50', clases=10)": 'Unexpected keyword argument "clases"',
    "se_keras.create(model='seresnet50')": 'Unexpected keyword argument "model"',
    "SqueezeExcite(rato=16)": 'Unexpected keyword argument "rato" for "SqueezeExcite"',
    "SqueezeExcite(ratio='16')": 'Argument "ratio" to "SqueezeExcite" has incompatible type "str"',
    "SqueezeExcite(16, 'max')": 'Argument 2 to "SqueezeExcite"',
    "se_keras.se_block(y, rato=4)": 'Unexpected keyword argument "rato"',
    "se_keras.insert_se(model, rato=4)": 'Unexpected keyword argument "rato"',
    "se_keras.insert_se(model, data_format='channels_last')": "Unexpected keyword argument",
    "se_keras.find_sites(model, divisor='8')": 'Argument "divisor" to "find_sites"',
    "se_keras.ops.squeeze(z, pol='max')": 'Unexpected keyword argument "pol" for "squeeze"',
    "se_keras.train.train('seresnet20')": 'Argument 1 to "train" has incompatible type "str"',
}


def test_the_stub_is_what_the_code_says():
    """`python tests/make_stub.py` writes it anew."""
    assert STUB.read_text("utf-8") == make_stub.make_stub()


def test_the_stub_has_every_public_name():
    tree = ast.parse(STUB.read_text("utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):  # `import a as a` is what a stub exports
            defined |= {alias.asname for alias in node.names}
    assert set(se_keras.__all__) - defined == set()


def test_the_package_says_that_it_has_types():
    assert (PACKAGE / "py.typed").is_file()


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Return mypy's errors for the lines of a user's module."""
    path = tmp_path_factory.mktemp("user") / "user.py"
    path.write_text(GOOD + "\n".join(BAD) + "\n")
    settings = Path(__file__).parent.parent / "pyproject.toml"
    printed, failure, _ = api.run([f"--config-file={settings}", str(path)])
    assert not failure, failure
    # By its name alone: mypy repeats what it said of the same text in an earlier run's folder.
    of_user = re.compile(rf"^.*\b{re.escape(path.name)}:(\d+): error: (.*)$", re.MULTILINE)
    return {int(line): message for line, message in of_user.findall(printed)}


def test_right_calls_pass(errors):
    first_bad = GOOD.count("\n") + 1
    assert {line: error for line, error in errors.items() if line < first_bad} == {}


@pytest.mark.parametrize("call", BAD)
def test_wrong_calls_are_seen(call, errors):
    line = GOOD.count("\n") + 1 + list(BAD).index(call)
    assert BAD[call] in errors.get(line, "")
