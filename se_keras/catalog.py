"""`create` and the named builders: build a network of the catalog, with or without weights."""

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints

import keras

from se_keras.models.assembly import NetworkOptions, absent_options, build_network
from se_keras.models.recipes import RECIPES, Recipe, find_recipe
from se_keras.ops import standardize_data_format
from se_keras.pixels import known_pixels, normalization_layer
from se_keras.support.arguments import boolean, refuse_unknown_options
from se_keras.support.errors import InputError, shown
from se_keras.weights.convert import ConversionPlan, classes_of, plan_conversion
from se_keras.weights.hub_config import MAX_CLASSES
from se_keras.weights.preprocessing import Pixels
from se_keras.weights.presets import USUAL
from se_keras.weights.readers import Checkpoint
from se_keras.weights.source import Weights, WeightSource, parse_source


def create(
    model: str | Recipe,
    /,
    *,
    weights: Weights | None = None,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    **options: Any,
) -> keras.Model:
    """Build a network of the catalog.

    Args:
        model: a name in the catalog, such as `"seresnet50"` (`list_models()` returns all names), or
            a `Recipe` of your own.
        weights: `None` for random weights, or any source that `load_weights` takes: `"imagenet"`
            for the best published weights of this network; the name of published weights, such as
            `"seresnet50.a1_in1k"`; `"hf://owner/repo[@revision]"`; or the path of a file. The
            weights set the number of classes if `classes` is not given, and published weights set
            the image size if `input_shape` is not given.
        fresh_classifier: `True` ignores the file's classifier, so that you can train a new one.
        adapt_input: `True` adapts the first kernel of `weights` to an `input_shape` with other
            than three channels, as timm does: one channel gets the sum of the three kernels; for
            more channels they are repeated and scaled by 3 / channels. It has no effect on
            weights that already have the right number of channels.
        include_preprocessing: `True` adds `preprocess_input` to the model, which then takes raw
            uint8 pixels of three colors. The mean and deviation are taken from published
            `weights`, or from ImageNet if there are no weights. For weights from a file, give
            the name of the weights that they were trained from, or `Pixels`, instead of `True`.
        **options: options of the named builder; `help(se_keras.SEResNet50)` lists them. MobileNet
            also has `alpha` and `depth_multiplier`, and the small ResNets have `shortcut`.

    Returns:
        A functional `keras.Model` with an input of shape (N, H, W, C).

    Raises:
        InputError: if the name is unknown, an option has an invalid value, or the weights can't be
            loaded or do not fit exactly.
        TypeError: if an option is unknown.

    Example:

    >>> import se_keras
    >>> model = se_keras.create("seresnet20", input_shape=(28, 28, 1), classes=10)
    >>> twin = se_keras.create("seresnet20", se=False, input_shape=(28, 28, 1), classes=10)
    >>> model.count_params() - twin.count_params()
    2373
    """
    if weights is not None:
        return create_with_plan(
            model,
            weights,
            fresh_classifier=fresh_classifier,
            adapt_input=adapt_input,
            include_preprocessing=include_preprocessing,
            **options,
        )[0]
    if boolean("fresh_classifier", fresh_classifier):
        raise InputError(
            "`fresh_classifier=True` ignores the classifier of `weights`: give `weights` too."
        )
    if boolean("adapt_input", adapt_input):
        raise InputError(
            "`adapt_input=True` adapts the first kernel of `weights`: give `weights` too."
        )
    recipe, asked = _split_options(model, options)
    pixels = Pixels(**USUAL) if include_preprocessing is True else include_preprocessing
    return build_network(recipe, asked, _preprocess(pixels, asked))


def create_with_plan(
    model: str | Recipe,
    weights: Weights,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    **options: Any,
) -> tuple[keras.Model, ConversionPlan]:
    """Build a network with weights as `create` does, and also return the conversion plan."""
    fresh_classifier = boolean("fresh_classifier", fresh_classifier)
    recipe, asked = _split_options(model, options)
    source = parse_source(weights, recipe.name)
    recipe = _as_trained(recipe, options, source)
    has_classifier = asked.include_top and not asked.features_only
    takes_classifier = has_classifier and not fresh_classifier
    if takes_classifier and source.preset is not None:
        _refuse_other_classes(asked.classes, source.preset.classes, source)
    with source.open() as checkpoint:
        if takes_classifier:
            asked = _take_classes_of(checkpoint, asked)
        pixels = include_preprocessing
        if pixels is True:
            pixels = _pixels_of_weights(source)
        asked = _as_published(recipe, asked, source)
        network = build_network(recipe, asked, _preprocess(pixels, asked))
        plan = plan_conversion(
            network, checkpoint, fresh_classifier=fresh_classifier, adapt_input=adapt_input
        )
        plan.apply(network, checkpoint)
    return network, plan


def named_builder(name: str) -> Callable[..., keras.Model]:
    """Return the function that builds one row, with the argument order of `keras.applications`.

    Args:
        name: name of the function, such as `"SEResNet50"`.

    Raises:
        AttributeError: if no row has this builder.
    """
    for recipe in RECIPES:
        if recipe.builder == name:
            return _builder(recipe)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__getattr__ = named_builder


def _builder(recipe: Recipe) -> Callable[..., keras.Model]:
    signature = _signature(recipe)

    def build(*args: Any, **kwargs: Any) -> keras.Model:
        refuse_unknown_options(recipe.builder, kwargs, signature.parameters)
        return create(recipe.name, **signature.bind(*args, **kwargs).arguments)

    build.__name__ = build.__qualname__ = recipe.builder
    build.__module__ = __name__
    build.__doc__ = _documentation(recipe, list(signature.parameters))
    build.__signature__ = signature  # type: ignore[attr-defined]  # inspect reads it
    return build


def _signature(recipe: Recipe) -> inspect.Signature:
    known, types = _options(recipe), _annotations(recipe)
    order = [*recipe.positional, *(name for name in known if name not in recipe.positional)]
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD
                if name in recipe.positional
                else inspect.Parameter.KEYWORD_ONLY,
                default=known[name],
                annotation=types[name],
            )
            for name in order
        ],
        return_annotation=keras.Model,
    )


def _options(recipe: Recipe) -> dict[str, Any]:
    """Return every option of this row with its default."""
    common = {field.name: field.default for field in fields(NetworkOptions)}
    of_row = {name: getattr(recipe, name) for name in ("classes", "ratio", "dropout", "attention")}
    own = {name: getattr(recipe, name) for name in recipe.own_options}
    ours = {
        name: parameter.default
        for name, parameter in inspect.signature(create).parameters.items()
        if name not in ("model", "options")
    }
    return {**ours, **common, **of_row, **own}


def _annotations(recipe: Recipe) -> dict[str, Any]:
    """Return the type of every option of this row, and of other options."""
    return get_type_hints(type(recipe)) | get_type_hints(create) | get_type_hints(NetworkOptions)


def _documentation(recipe: Recipe, options: Iterable[str]) -> str:
    """Return the docstring of a builder, with the documentation of each option."""
    of_row, of_create, of_all = (
        inspect.getdoc(source) or "" for source in (type(recipe), create, NetworkOptions)
    )
    texts = dict(_ENTRIES.findall("\n".join([of_row, of_create, of_all])))
    absent = absent_options(recipe)
    block, paper = _BLOCKS[recipe.attention]
    return _DOCUMENTATION.format(
        recipe=recipe,
        kind=of_row.partition("\n")[0],
        block=block,
        paper=paper,
        arguments="\n".join(
            f"    {name}: {texts.get(name)}{_ABSENT if name in absent else ''}" for name in options
        ),
        outcome=of_create[of_create.find("Returns:") : of_create.find("Example:")],
    )


# An entry of a list in a docstring: its name, and its text with the lines that continue it.
_ENTRIES = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_ABSENT = "\n        This network does not have the option: it must stay at its default."
# The blocks of a row, and their paper.
_BLOCKS = {
    "se": ("SE", "Hu et al. 2017, arXiv 1709.01507"),
    "eca": ("ECA", "Wang et al. 2019, arXiv 1910.03151"),
}
_DOCUMENTATION = """Build `{recipe.name}`, a network of the catalog, with or without {block} blocks.

Network: {kind}
{block} blocks: {paper}.
Made for: {recipe.input_size}x{recipe.input_size} pixels and {recipe.classes} classes.
Size: {recipe.parameters:,} trainable parameters; {recipe.multiply_adds:,} multiply-adds per image.

Args:
{arguments}

{outcome}Example:

>>> import se_keras
>>> model = se_keras.{recipe.builder}(include_top=False, pooling="avg")
>>> model.name
'{recipe.name}'
"""


def _split_options(
    model: str | Recipe, options: Mapping[str, Any]
) -> tuple[Recipe, NetworkOptions]:
    """Return the row and the options of its network, with the user's changes to both."""
    recipe = model if isinstance(model, Recipe) else find_recipe(model)
    known = _options(recipe)
    refuse_unknown_options(recipe.name, options, known)
    own = {name: options[name] for name in recipe.own_options if name in options}
    common = {name: value for name, value in options.items() if name not in own}
    return replace(recipe, **own), NetworkOptions(**common)


# --- weights -------------------------------------------------------------------------------------


def _preprocess(pixels: bool | str | Pixels, options: NetworkOptions) -> keras.layers.Layer | None:
    """Return the layer that prepares images; `None` if it is not wanted."""
    if pixels is False:
        return None
    known = known_pixels(pixels, "include_preprocessing")
    if known.raw:
        raise InputError(
            "`include_preprocessing` must be True, False, the name of weights, or Pixels with "
            "`mean` and `std`."
        )
    return normalization_layer(known, standardize_data_format(options.data_format))


def _as_trained(recipe: Recipe, asked: Collection[str], source: WeightSource) -> Recipe:
    """Return the row with the options that its published weights were trained with."""
    if source.preset is None or source.preset.recipe != recipe.name:
        return recipe
    needed: dict[str, Any] = {**source.preset.options}
    return replace(recipe, **{name: needed[name] for name in needed.keys() - set(asked)})


def _as_published(recipe: Recipe, options: NetworkOptions, source: WeightSource) -> NetworkOptions:
    """Add the name and size of published weights to the options, unless the user gave them."""
    name = source.model_name(recipe.name)
    if not name:
        return options
    size = source.pixels.height_and_width
    asked = (options.input_shape, options.input_tensor) != (None, None)
    if size and options.include_top and not (asked or options.features_only):
        first = standardize_data_format(options.data_format) == "channels_first"
        options = replace(options, input_shape=(3, *size) if first else (*size, 3))
    return replace(options, name=options.name or name)


def _pixels_of_weights(source: WeightSource) -> Pixels:
    """Return the pixels that the weights take; refuse unknown pixels."""
    if source.pixels.unknown:
        raise InputError(
            f"`include_preprocessing=True`: the pixels of the weights {source} are unknown "
            f"({source.pixels.origin}). Instead of True, give the weights that they were trained "
            "from, such as 'seresnet50.a1_in1k', or se_keras.Pixels(mean=(...), std=(...))."
        )
    return source.pixels


def _take_classes_of(checkpoint: Checkpoint, options: NetworkOptions) -> NetworkOptions:
    """Add the number of classes of the file to the options."""
    # As in keras.applications, pretrained weights imply a softmax; a file of this package may have
    # been trained with any activation.
    softmax = keras.activations.get(options.classifier_activation) in (
        keras.activations.linear,
        keras.activations.softmax,
    )
    if not (softmax or checkpoint.of_keras):
        raise InputError(
            "`classifier_activation` must be None or 'softmax' with pretrained weights, got "
            f"{shown(options.classifier_activation)}."
        )
    classes = classes_of(checkpoint)
    if classes is None:
        return options
    if options.classes is None and classes > MAX_CLASSES:
        raise InputError(
            f"{checkpoint.source} has a classifier of {classes:,} classes, more than "
            f"{MAX_CLASSES:,}: pass `classes={classes}` if that is right, or "
            "`fresh_classifier=True` to ignore it."
        )
    _refuse_other_classes(options.classes, classes, checkpoint.source)
    return replace(options, classes=classes)


def _refuse_other_classes(asked: int | None, classes: int, source: object) -> None:
    if asked not in (None, classes):
        raise InputError(
            f"`classes` must be {classes}, as in the classifier of {str(source)!r}, got {asked}: "
            "leave `classes` out, or pass `fresh_classifier=True` to ignore that classifier."
        )
