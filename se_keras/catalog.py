"""`create` and the named builders: a row of the catalog, and weights for it."""

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
from se_keras.support.errors import InputError
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
        model: catalog name, such as `"seresnet50"` (`list_models()` gives them all), or a row
            of your own.
        weights: `None` for random ones, or what `load_weights` takes: `"imagenet"`, the best that
            are published for this network; the name of other published ones, such as
            `"seresnet50.a1_in1k"`; `"hf://owner/repo[@revision]"`; or the path of a file.
            The number of classes is the file's, if `classes` does not say, and the size of images
            the size of the published weights, if `input_shape` does not.
        fresh_classifier: `True` leaves out the file's classifier, to train another one.
        adapt_input: `True` adapts the first kernel of `weights` to an `input_shape` of other
            channels than three, as timm does: for one channel the kernels of the colors are added,
            for others repeated and scaled by 3 / channels. For other weights it changes nothing.
        include_preprocessing: `True` puts `preprocess_input` into the model, which then takes
            raw pixels, uint8, of three colors. The numbers come from published `weights`, or
            ImageNet's without any. For weights of a file give, in place of `True`, what
            `pixels_of` takes: the name of the weights that they began with, or `Pixels`.
        **options: options of the named builder: `help(se_keras.SEResNet50)` tells them
            all. MobileNet adds `alpha` and `depth_multiplier`, the small ResNets `shortcut`.

    Returns:
        A functional `keras.Model`; its input is (N, H, W, C).

    Raises:
        InputError: for an unknown name, for a value that an option can't take, and for weights that
            can't be had or do not fit to the last tensor.
        TypeError: for an unknown option.

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
            "`fresh_classifier=True` leaves out the classifier of `weights`: give both."
        )
    if boolean("adapt_input", adapt_input):
        raise InputError("`adapt_input=True` adapts the first kernel of `weights`: give both.")
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
    """Build a network with weights, as `create` does; return also which tensor went where."""
    boolean("fresh_classifier", fresh_classifier)
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
        name: of the function, such as `"SEResNet50"`.

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
    """Return the type of every option of this row, and of more."""
    return get_type_hints(type(recipe)) | get_type_hints(create) | get_type_hints(NetworkOptions)


def _documentation(recipe: Recipe, options: Iterable[str]) -> str:
    """Return what `help` says of a builder: each option as it is documented where it is defined."""
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
# The blocks that a row has, and the paper that they are from.
_BLOCKS = {
    "se": ("SE", "Hu et al. 2017, arXiv 1709.01507"),
    "eca": ("ECA", "Wang et al. 2019, arXiv 1910.03151"),
}
_DOCUMENTATION = """Build `{recipe.name}`, a network of the catalog, with {block} blocks or without.

Network: {kind}
{block} blocks: {paper}.
Made for: {recipe.input_size}x{recipe.input_size} pixels and {recipe.classes} classes.
Size: {recipe.parameters:,} trainable parameters; {recipe.multiply_adds:,} multiply-adds an image.

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
    """Return the row and the options of its network, with what the user asks of either."""
    recipe = model if isinstance(model, Recipe) else find_recipe(model)
    known = _options(recipe)
    refuse_unknown_options(recipe.name, options, known)
    own = {name: options[name] for name in recipe.own_options if name in options}
    common = {name: value for name, value in options.items() if name not in own}
    return replace(recipe, **own), NetworkOptions(**common)


# --- weights -------------------------------------------------------------------------------------


def _preprocess(pixels: bool | str | Pixels, options: NetworkOptions) -> keras.layers.Layer | None:
    """Add the layer that prepares images, if one is asked for."""
    if pixels is False:
        return None
    known = known_pixels(pixels, "include_preprocessing")
    if known.raw:
        raise InputError("`include_preprocessing` must be Pixels with `mean` and `std`.")
    return normalization_layer(known, standardize_data_format(options.data_format))


def _as_trained(recipe: Recipe, asked: Collection[str], source: WeightSource) -> Recipe:
    """Return the row with the options that published weights of it were trained with."""
    if source.preset is None or source.preset.recipe != recipe.name:
        return recipe
    needed: dict[str, Any] = {**source.preset.options}
    return replace(recipe, **{name: needed[name] for name in needed.keys() - set(asked)})


def _as_published(recipe: Recipe, options: NetworkOptions, source: WeightSource) -> NetworkOptions:
    """Add the name and the size of published weights to the options, where none is asked for."""
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
    """Return what pixels the weights take; it must be known."""
    if source.pixels.unknown:
        raise InputError(
            f"`include_preprocessing=True`: what pixels the weights of {source} take is unknown: "
            f"{source.pixels.origin}. In place of True give the weights that they began with, such "
            "as 'seresnet50.a1_in1k', or se_keras.Pixels(mean=(...), std=(...))."
        )
    return source.pixels


def _take_classes_of(checkpoint: Checkpoint, options: NetworkOptions) -> NetworkOptions:
    """Add the number of classes of the file to the options."""
    # Other weights were trained with a softmax, as keras.applications holds it; what this
    # package saved may have had any.
    softmax = keras.activations.get(options.classifier_activation) in (
        keras.activations.linear,
        keras.activations.softmax,
    )
    if not (softmax or checkpoint.of_keras):
        raise InputError(
            "`classifier_activation` must be None or 'softmax' with pretrained weights, got "
            f"{options.classifier_activation!r}."
        )
    classes = classes_of(checkpoint)
    if classes is None:
        return options
    if options.classes is None and classes > MAX_CLASSES:
        raise InputError(
            f"{checkpoint.source} has a classifier of {classes:,} classes, and up to "
            f"{MAX_CLASSES:,} are taken unasked: say `classes={classes}` if that is right, or "
            "`fresh_classifier=True` to leave it out."
        )
    _refuse_other_classes(options.classes, classes, checkpoint.source)
    return replace(options, classes=classes)


def _refuse_other_classes(asked: int | None, classes: int, source: object) -> None:
    if asked not in (None, classes):
        raise InputError(
            f"`classes={asked}`, and {str(source)!r} has a classifier of {classes}: leave "
            "`classes` out, or say `fresh_classifier=True` to leave out the file's classifier."
        )
