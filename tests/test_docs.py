"""Run the examples in docstrings, README and `docs/`, and compare their results."""

import ast
import configparser
import contextlib
import doctest
import functools
import importlib
import io
import re
import shlex

import keras
import numpy as np
import pytest
from checks import PAGES, README, REPO, wrong_calls
from PIL import Image
from sklearn.datasets import load_sample_images
from test_architecture import MODULES

import se_keras
from se_keras.cli import main

FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = re.compile(r"^\s*>>> ", re.MULTILINE)
START = REPO / "docs" / "start.md"


def page_name(page):
    return page.name


of_each_page = pytest.mark.parametrize("page", PAGES, ids=page_name)


@pytest.mark.parametrize(
    "module", [name for name, path in MODULES.items() if EXAMPLES.search(path.read_text())]
)
def test_docstring_examples(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(
        importlib.import_module(f"se_keras.{module}"), optionflags=doctest.ELLIPSIS
    )
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module):
    tree = ast.parse(MODULES[module].read_text())
    assert ast.get_docstring(tree), module


@of_each_page
def test_the_examples_call_what_there_is(page):
    """A quick check of names; `test_the_examples_run` runs the examples."""
    assert wrong_calls("\n".join(FENCE.findall(page.read_text()))) == []


def test_the_tables_of_moving_call_what_there_is():
    rows = (REPO / "docs" / "moving.md").read_text().splitlines()
    cells = [row.split("|")[-2] for row in rows if row.startswith("| ")]
    calls = [code for cell in cells for code in re.findall(r"`(se_keras\.[^`]*)`", cell)]
    assert len(calls) > 12
    assert wrong_calls("\n".join(call.replace("(...)", "()") for call in calls)) == []


@of_each_page
def test_the_commands_are_taken(page):
    """Each option in a page is an option of its command."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    for words in (shlex.split(line, comments=True) for line in lines):
        start = words.index("se-keras") + 1 if "se-keras" in words else len(words)
        for word in words[start:]:
            assert not word.startswith("--") or word in options_of(words[start]), word


@functools.cache
def options_of(command):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        main([command, "--help"])
    return set(re.findall(r"--[a-z0-9-]+", out.getvalue()))


@of_each_page
def test_the_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
    for target in (target for target in targets if not target.startswith("https://")):
        file = page.parent / target.partition("#")[0]
        # The site copies the notebooks into its own folder.
        in_site = REPO / target if target.startswith("notebooks/") else file
        assert file.is_file() or in_site.is_file(), target


def test_the_architecture_names_every_module():
    tree = (REPO / "docs" / "architecture.md").read_text()
    one_kind_per_file = ("commands.", "weights.readers.", "deploy.to_")
    named = [name for name in MODULES if not name.startswith(one_kind_per_file)]
    files = [MODULES[name].name for name in named if MODULES[name].name != "__main__.py"]
    assert [file for file in files if file != "__init__.py" and file not in tree] == []


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 180


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import se_keras\nse_keras.SEResNet51()", "se_keras.SEResNet51"),
        ("from se_keras.train import Cluster\nCluster(device=2)", "Cluster(device=...)"),
        ("from se_keras import cout", "cout"),
        ("from se_keras.models import zoo", "zoo"),
        ("import se_keras.zoo", "se_keras.zoo"),
    ],
)
def test_a_wrong_call_is_seen(source, wrong):
    assert [wrong in found for found in wrong_calls(source)] == [True]
    with pytest.raises(SyntaxError):
        wrong_calls("a b")


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=page_name)
def test_the_examples_run(page, tmp_path, monkeypatch):
    """One after the other, as a reader would paste them into one session."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    sources = FENCE.findall(text)
    assert len(sources) == text.count("```python")
    names = {"__name__": "page"}
    for number, source in enumerate(sources, start=1):
        exec(compile(source, f"{page.name}, example {number}", "exec"), names)


def commands_of(section):
    """The first block of commands in a section of the first page, split as a shell does."""
    text = START.read_text().split(f"\n## {section}\n")[1]
    block = re.search(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]
    return [shlex.split(line) for line in block.splitlines()]


def crops_of_photos(folder):
    """Ten crops of each of scikit-learn's two photos, a folder each."""
    for name, pixels in zip(("temple", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            left, top = 50 * number, 30 * number
            crop = Image.fromarray(pixels).crop((left, top, left + 120, top + 120))
            crop.resize((40, 40)).save(folder / name / f"{number}.jpg")


@pytest.mark.slow
def test_the_commands_of_the_start_run(tmp_path, monkeypatch, capsys):
    """Only the image size and the number of epochs are changed, to be quick."""
    monkeypatch.chdir(tmp_path)
    crops_of_photos(tmp_path / "photos")
    crops_of_photos(tmp_path / "new_photos")
    install, *commands = commands_of("From a folder of images to an int8 export")
    (wanted,) = re.findall(r"^\.\[(.*)\]$", install[-1])
    setup = configparser.ConfigParser()
    setup.read(README.with_name("setup.cfg"))
    assert install[:2] == ["pip", "install"]
    assert set(wanted.split(",")) <= set(setup["options.extras_require"])
    assert [words[:2] for words in commands] == [
        ["se-keras", name] for name in ("train", "evaluate", "explain", "export", "predict")
    ]
    for _, name, *options in commands:
        smaller = ["--epochs", "1", "--image-size", "32"] if name == "train" else []
        assert main([name, *options, *smaller]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    for expected in ("balanced", "onnx, int8", "same top-1 class", "flower"):
        assert expected in printed
    assert (tmp_path / "runs" / "explained" / "classes.png").is_file()


@pytest.mark.slow
def test_a_frozen_normalization_keeps_its_statistics_in_fit(tmp_path, monkeypatch):
    """Fine-tune as in the docs; a `training=False` in the call would not hold the statistics."""
    monkeypatch.chdir(tmp_path)
    blocks = FENCE.findall((REPO / "docs" / "networks.md").read_text())
    (source,) = [block for block in blocks if "def accuracy_after" in block]
    start, fit, end = source.partition("frozen = accuracy_after")
    names = {"keras": keras, "np": np, "se_keras": se_keras}
    exec(start, names)
    norms = [
        layer
        for layer in names["backbone"].layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    before = [keras.ops.convert_to_numpy(norm.moving_mean).copy() for norm in norms]
    exec(fit + end, names)
    assert len(norms) > 10
    for norm, mean in zip(norms, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(norm.moving_mean), mean)
