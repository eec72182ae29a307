"""`create` and the named builders: a row of the catalogue, and weights for it."""

import inspect
import os
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import keras

from se_keras.models.assembly import NetworkOptions, build_network
from se_keras.models.recipes import RECIPES, Recipe, find_recipe


def create(
    model: str | Recipe, /, *, weights: str | os.PathLike | None = None, **options: Any
) -> keras.Model:
    """Builds a network of the catalogue.

    Args:
        model: catalogue name, such as `"seresnet50"` (`list_models()` gives them all), or a row
            of your own.
        weights: `None` for fresh ones, or the path of a `.weights.h5` file.
        **options: those of `se_keras.models.assembly.NetworkOptions`, and those that the family
            adds (MobileNet: `alpha`, `depth_multiplier`).

    Returns:
        A functional `keras.Model`; its input is (N, H, W, C).

    Raises:
        ValueError: for an unknown name or a value that an option can't take.
        TypeError: for an unknown option.

    Example:

    >>> import se_keras
    >>> model = se_keras.create("seresnet20", input_shape=(28, 28, 1), classes=10)
    >>> twin = se_keras.create("seresnet20", se=False, input_shape=(28, 28, 1), classes=10)
    >>> model.count_params() - twin.count_params()
    2373
    """
    recipe = model if isinstance(model, Recipe) else find_recipe(model)
    known = _options(recipe)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"{recipe.name} has no option {unknown}; it has {sorted(known)}.")
    own = {name: options.pop(name) for name in recipe.own_options if name in options}
    network = build_network(replace(recipe, **own), NetworkOptions(**options))
    if weights is not None:
        _load(network, weights)
    return network


def named_builder(name: str) -> Callable[..., keras.Model]:
    """The function that builds one row, with the argument order of `keras.applications`.

    Args:
        name: of the function, such as `"SEResNet50"`.

    Raises:
        AttributeError: if no row has this builder.
    """
    for recipe in RECIPES:
        if recipe.builder == name:
            return _builder(recipe)
    raise AttributeError(f"module 'se_keras' has no attribute {name!r}")


def _builder(recipe: Recipe) -> Callable[..., keras.Model]:
    signature = _signature(recipe)

    def build(*args: Any, **kwargs: Any) -> keras.Model:
        return create(recipe.name, **signature.bind(*args, **kwargs).arguments)

    build.__name__ = build.__qualname__ = recipe.builder
    build.__module__ = __name__
    build.__signature__ = signature
    build.__doc__ = (
        f"Builds `{recipe.name}` (row of `se_keras.models.recipes`).\n\n"
        f"{recipe.parameters:,} parameters; made for {recipe.input_size}x{recipe.input_size} "
        f"pixels and {recipe.classes} classes.\nThe arguments are those of `se_keras.create`."
    )
    return build


def _signature(recipe: Recipe) -> inspect.Signature:
    known = _options(recipe)
    order = [*recipe.positional, *(name for name in known if name not in recipe.positional)]
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD
                if name in recipe.positional
                else inspect.Parameter.KEYWORD_ONLY,
                default=known[name],
            )
            for name in order
        ],
        return_annotation=keras.Model,
    )


def _options(recipe: Recipe) -> dict[str, Any]:
    """Every option of this row with its default."""
    common = {field.name: field.default for field in fields(NetworkOptions)}
    of_row = {name: getattr(recipe, name) for name in ("classes", "ratio", "dropout")}
    own = {name: getattr(recipe, name) for name in recipe.own_options}
    return {"weights": None, **common, **of_row, **own}


def _load(model: keras.Model, weights: str | os.PathLike) -> None:
    path = os.fspath(weights)
    if not path.endswith(".weights.h5"):
        raise ValueError(f"`weights` must be None or the path of a .weights.h5 file, got {path!r}.")
    if not os.path.isfile(path):
        raise ValueError(f"`weights`: there is no file {path!r}.")
    model.load_weights(path)
