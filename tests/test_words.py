"""Plain English: what the words of the package must not be. Ruff's D401 holds the first one."""

import ast
import io
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
}


ANYWHERE = {pattern: better for pattern, better in AVOIDED.items() if not pattern.startswith("^")}


def violations(text, avoided):
    return [
        f"{found[0]!r}: write {better}"
        for pattern, better in avoided.items()
        if (found := re.search(pattern, text))
    ]


def docstrings(tree):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in map(ast.get_docstring, nodes) if text]


def comments(source):
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_and_comments_are_plain(module):
    source = MODULES[module].read_text("utf-8")
    texts = docstrings(ast.parse(source))
    found = [bad for text in texts for bad in violations(text.splitlines()[0], AVOIDED)]
    lines = [line for text in [*texts, *comments(source)] for line in text.splitlines()]
    assert found + [bad for line in lines for bad in violations(line, ANYWHERE)] == []


@pytest.mark.parametrize("page", [*PAGES, REPO / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_pages_are_plain(page):
    assert violations(page.read_text("utf-8"), ANYWHERE) == []


def test_the_lint_can_fail():
    assert violations("Those of a file", AVOIDED) == ["'Those of': write the noun itself"]
    assert violations("SE goes behind it", ANYWHERE) == ["'behind': write after"]
    assert violations("Return the labeled images after it", AVOIDED) == []
