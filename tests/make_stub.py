"""Makes `se_keras/__init__.pyi`, which tells type checkers and editors the public names.

The builders are made from the rows of the catalog when they are asked for, so no checker finds
them in the source; and what a function hands on as `**options`, the stub spells out.
`python tests/make_stub.py` writes it anew; test_types.py holds it to the code.
"""

import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter
from pathlib import Path
from typing import get_args, get_type_hints

import se_keras
from se_keras.layers import LayerOptions
from se_keras.models.recipes import RECIPES

STUB = Path(__file__).parent.parent / "se_keras" / "__init__.pyi"
SUBMODULES = ("ops", "train")  # that README calls as attributes of the package
BUILDERS = tuple(recipe.builder for recipe in RECIPES)
# The functions with `**options`: whose arguments these are, and which of them they are not.
TAKEN_FROM: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "create": (BUILDERS, set()),
    "se_block": (("SqueezeExcite",), set()),
    "insert_se": (("SqueezeExcite",), {"data_format", *LayerOptions.__annotations__}),
    "find_sites": (("SqueezeExcite",), {"data_format", *LayerOptions.__annotations__}),
}
HEAD = '''# Made by `python tests/make_stub.py`: do not edit.
"""Squeeze-and-excitation for Keras 3."""

import keras
'''
QUALIFIED = re.compile(r"\b((?:collections|keras|os|se_keras|typing)\.(?:\w+\.)*)(\w+)")


def make_stub() -> str:
    spelled_out = [*TAKEN_FROM, *BUILDERS]
    imported = [name for name in se_keras.__all__ if name not in [*spelled_out, *SUBMODULES]]
    exports = {_import(getattr(se_keras, name).__module__, name) for name in imported}
    exports |= {_import("se_keras", name) for name in SUBMODULES}
    functions = "".join(_function(name, getattr(se_keras, name)) for name in spelled_out)
    names = "".join(f'    "{name}",\n' for name in se_keras.__all__)
    imports, functions = _with_short_names(functions)
    return (
        f"{HEAD}{''.join(sorted(imports))}\n{''.join(sorted(exports))}\n"
        f"__version__: str\n__all__ = [\n{names}]\n{functions}"
    )


def _import(module: str, name: str) -> str:
    return f"from {module} import {name} as {name}\n"


def _with_short_names(source: str) -> tuple[set[str], str]:
    """The imports of all names of modules in the source, and the source without their modules.

    Those of Keras stay as users write them: `keras.Model`, not the module that holds the class.
    """
    imports = set()

    def shorten(found: re.Match) -> str:
        module, name = found.groups()
        if module.startswith("keras."):
            return f"keras.{name}"
        imports.add(f"from {module[:-1]} import {name}\n")
        return name

    source = QUALIFIED.sub(shorten, source)
    return imports, source


def _function(name: str, function: Callable) -> str:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if name in TAKEN_FROM:
        sources, left_out = TAKEN_FROM[name]
        options = _options(getattr(se_keras, source) for source in sources)
        known = left_out | set(signature.parameters)
        parameters[-1:] = [options[option] for option in options if option not in known]
    lines = "".join(f"    {line},\n" for line in _lines(parameters))
    returned = inspect.formatannotation(signature.return_annotation)
    return f"\ndef {name}(\n{lines}) -> {returned}:{_body(name, function)}\n"


def _body(name: str, function: Callable) -> str:
    """What an editor shows of a builder; of the other functions it finds the docstring itself."""
    if name not in BUILDERS:
        return " ..."
    summary = inspect.getdoc(function).partition("Args:")[0]
    return "\n" + textwrap.indent(f'"""{summary.rstrip()}\n"""', "    ")


def _options(functions: Iterable[Callable]) -> Mapping[str, Parameter]:
    """Every option of these, keyword-only; its default where all have the same."""
    options: dict[str, Parameter] = {}
    for option in itertools.chain.from_iterable(map(_parameters, functions)):
        same = options.get(option.name, option).default == option.default
        options[option.name] = option.replace(
            kind=Parameter.KEYWORD_ONLY, default=option.default if same else ...
        )
    return options


def _parameters(function: Callable) -> Iterator[Parameter]:
    """The parameters, those of `**kwargs: Unpack[...]` one by one."""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is Parameter.VAR_KEYWORD:
            for name, annotation in get_type_hints(*get_args(parameter.annotation)).items():
                yield Parameter(name, Parameter.KEYWORD_ONLY, default=..., annotation=annotation)
        else:
            yield parameter


def _lines(parameters: Iterable[Parameter]) -> Iterable[str]:
    """The parameters with the marks `/` and `*` between them."""
    before = None
    for parameter in parameters:
        if before is Parameter.POSITIONAL_ONLY and parameter.kind is not before:
            yield "/"
        if parameter.kind is Parameter.KEYWORD_ONLY and parameter.kind is not before:
            yield "*"
        default = "..." if parameter.default is ... else repr(parameter.default)
        given = "" if parameter.default is Parameter.empty else f" = {default}"
        yield f"{parameter.name}: {inspect.formatannotation(parameter.annotation)}{given}".replace(
            "'", '"'
        )
        before = parameter.kind


if __name__ == "__main__":
    STUB.write_text(make_stub())
