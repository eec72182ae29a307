"""Test that texts are plain English. Ruff's D401 checks the first word of docstrings."""

import ast
import io
import json
import re
import tokenize

import pytest
from checks import PAGES, REPO
from test_architecture import MODULES

# What to avoid -> what to write instead.
AVOIDED = {
    r"\bbehind\b": "after",
    r"^(That|Those) of\b": "the noun itself",
    r"^(Return|Find|Give) (that|those) of\b": "the noun itself",
    r"^(What|Whether|How|Which|Why)\b": "an imperative: Return whether ...",
    r"\b(initialis|normalis|optimis|serialis|quantis|recognis|summaris)[ei]": "American spelling",
    r"\b(colour|behaviour|grey|centre|labelled|modelling)": "American spelling",
    r"\b(thereof|therein|whereupon|whereof|hither|nought|lest|anew|albeit)\b": "modern words",
    r"\b(so asked|and the like)\b": "a whole clause",
    r"\A {4}[a-z_][\w, ]*: (of|that|what|whose|which)\b": "a noun first",
}

SOURCES = {**MODULES, **{f"benchmarks.{p.stem}": p for p in (REPO / "benchmarks").glob("*.py")}}
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
ERRORS = ("InputError", "MissingExtraError", "WrongResultError")

ANYWHERE = {pattern: better for pattern, better in AVOIDED.items() if not pattern.startswith("^")}


def violations(text, avoided):
    return [
        f"{found[0]!r}: write {better}"
        for pattern, better in avoided.items()
        if (found := re.search(pattern, text))
    ]


def last_text(message):
    """Return the end of a message as far as the code states it; `None` if a value ends it."""
    match message:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=[*values, ast.Constant(value=str(text))]):
            return "".join(
                [part.value for part in values if isinstance(part, ast.Constant)] + [text]
            )
        case ast.BinOp(right=last):
            return last_text(last)
        case ast.Call(func=ast.Attribute(value=text, attr="strip")):
            return last_text(text)
    return None


def unfinished_errors(tree):
    """Return the ends of error messages that are neither a sentence nor `: COMMAND`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    made = [call for call in calls if getattr(call.func, "id", None) in ERRORS]
    ends = [(call, last_text(call.args[0])) for call in made]
    return [
        f"line {call.lineno}: {end!r}"
        for call, end in ends
        if end is not None and not end.endswith((".", ". ")) and ": pip install" not in end
    ]


def docstrings(tree):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in map(ast.get_docstring, nodes) if text]


def comments(source):
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]


@pytest.mark.parametrize("module", SOURCES)
def test_docstrings_and_comments_are_plain(module):
    source = SOURCES[module].read_text("utf-8")
    texts = docstrings(ast.parse(source))
    found = [bad for text in texts for bad in violations(text.splitlines()[0], AVOIDED)]
    lines = [line for text in [*texts, *comments(source)] for line in text.splitlines()]
    assert found + [bad for line in lines for bad in violations(line, ANYWHERE)] == []


@pytest.mark.parametrize("module", SOURCES)
def test_errors_end_with_a_full_stop(module):
    assert unfinished_errors(ast.parse(SOURCES[module].read_text("utf-8"))) == []


@pytest.mark.parametrize("page", [*PAGES, REPO / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_pages_are_plain(page):
    assert violations(page.read_text("utf-8"), ANYWHERE) == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_plain(notebook):
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    assert violations("\n".join("".join(cell["source"]) for cell in cells), ANYWHERE) == []


def test_the_lint_can_fail():
    assert violations("Those of a file", AVOIDED) == ["'Those of': write the noun itself"]
    assert violations("SE goes behind it", ANYWHERE) == ["'behind': write after"]
    assert violations("    rows: of the file", ANYWHERE) == ["'    rows: of': write a noun first"]
    assert violations("Return the labeled images after it", AVOIDED) == []
    source = 'raise InputError(f"no {name}")\nInputError("a" + f"{b}.")\nInputError(f"{c}")'
    assert unfinished_errors(ast.parse(source.replace("{name}", "way"))) == ["line 1: 'no way'"]
    assert unfinished_errors(ast.parse(source)) == []
