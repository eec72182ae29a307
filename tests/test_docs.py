"""The examples in docstrings and in the README run, and give what they say."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest
from test_architecture import MODULES

README = Path(__file__).parent.parent / "README.md"
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = re.compile(r"^\s*>>> ", re.MULTILINE)


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


def test_the_readme_examples_run(tmp_path, monkeypatch):
    """One after the other, as a reader would paste them into one session."""
    monkeypatch.chdir(tmp_path)
    text = README.read_text()
    sources = FENCE.findall(text)
    assert len(sources) == text.count("```python")
    names = {"__name__": "readme"}
    for number, source in enumerate(sources, start=1):
        exec(compile(source, f"README.md, example {number}", "exec"), names)
