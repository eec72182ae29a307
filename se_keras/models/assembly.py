"""Build a `keras.Model` from a recipe: input, stages and classifier."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import keras
from keras import KerasTensor

from se_keras.blocks import PLACEMENTS
from se_keras.layers import GATES, options_of, refuse_options_of_others, resolve, resolve_dtype
from se_keras.models.inception import inception, inception_resnet
from se_keras.models.mobilenet import mobilenet
from se_keras.models.parts import NORM_EPSILON, Feature, Parts
from se_keras.models.recipes import (
    InceptionRecipe,
    InceptionResNetRecipe,
    MobileNetRecipe,
    Recipe,
    ResNetRecipe,
    ShuffleNetRecipe,
    SmallResNetRecipe,
    VGGRecipe,
)
from se_keras.models.resnet import resnet
from se_keras.models.shufflenet import shufflenet
from se_keras.models.vgg import vgg, vgg_classifier
from se_keras.ops import standardize_data_format
from se_keras.support.arguments import (
    Check,
    boolean,
    check_fields,
    instance_of,
    integers,
    keras_name,
    one_of,
    positive_integer,
    rate,
    shape,
)
from se_keras.support.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of recipe: the function that builds its networks, and their options."""

    stages: Callable[[KerasTensor, Any, Parts], list[Feature]]
    options: frozenset[str] = frozenset()
    classifier: Callable[[Parts, KerasTensor, int, Any, float], KerasTensor] = Parts.classifier


RESIDUAL_OPTIONS = frozenset({"placement", "drop_path_rate", "output_stride"})
FAMILIES: dict[type[Recipe], Family] = {
    ResNetRecipe: Family(stages=resnet, options=RESIDUAL_OPTIONS),
    SmallResNetRecipe: Family(stages=resnet, options=RESIDUAL_OPTIONS),
    MobileNetRecipe: Family(stages=mobilenet, options=frozenset({"output_stride"})),
    ShuffleNetRecipe: Family(stages=shufflenet, options=RESIDUAL_OPTIONS),
    InceptionRecipe: Family(stages=inception),
    InceptionResNetRecipe: Family(
        stages=inception_resnet, options=RESIDUAL_OPTIONS - {"output_stride"}
    ),
    VGGRecipe: Family(stages=vgg, classifier=vgg_classifier),
}

CHECKS: dict[str, Check] = {
    **dict.fromkeys(("se", "include_top", "features_only"), boolean),
    "classes": partial(positive_integer, most=2**24),
    "ratio": positive_integer,
    **dict.fromkeys(("dropout", "drop_path_rate"), rate),
    "name": keras_name,
    "input_shape": shape,
    "se_stages": partial(integers, wanted="numbers of stages, as in [2, 3]"),
    "se_options": partial(instance_of, kind=Mapping, wanted="a dict of SqueezeExcite's arguments"),
    "attention": partial(one_of, choices=tuple(GATES)),
    "placement": partial(one_of, choices=PLACEMENTS),
    "pooling": partial(one_of, choices=("avg", "max")),
    "output_stride": partial(one_of, choices=(8, 16, 32)),
}


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The options of any network.

    Attributes:
        se: `False` builds the same network without its SE blocks.
        include_top: `False` leaves out the classifier.
        input_tensor: a Keras tensor to use as the input instead of a new one.
        input_shape: (H, W, C), or (C, H, W); H and W may be `None`. The default has 3 channels, and
            the network's image size (unknown sizes without the classifier).
        pooling: global pooling without the classifier: `"avg"`, `"max"` or `None`.
        classes: number of classes; `None` for the network's default.
        classifier_activation: activation of the classifier; `None` for logits.
        name: name of the model; `None` for the network's name.
        ratio: reduction ratio r; `None` for the network's default (16).
        placement: `"standard"`, `"pre"`, `"post"`, `"identity"` or `"conv3x3"` (paper, Fig. 5).
        se_stages: numbers of the stages with SE, as in the names of layers (`stage2_...` is the
            paper's conv2_x); `None` for all stages.
        se_options: further arguments of every `SqueezeExcite`, such as `pool`, `gate_activation`
            or `use_bias`, or of the layer that `attention` selects.
        attention: the layer at each place of SE: `"se"`, `"eca"` (`EfficientChannelAttention`),
            `"ese"` (`EffectiveSqueezeExcite`), `"scse"` (`SpatialChannelSqueezeExcite`) or `"ge"`
            (`GatherExcite`), each with its own defaults; `None` for the network's default.
        dtype: Keras dtype policy; `None` for the global policy.
        data_format: `"channels_last"` or `"channels_first"`; `None` for Keras' global setting.
        dropout: dropout rate before the classifier; `None` for the network's default.
        drop_path_rate: rate of stochastic depth in the last residual unit.
        output_stride: 8, 16 or 32: later stages use dilation instead of a stride.
        features_only: return the maps of all stages as outputs, named `stage2_stride4`, ...
    """

    se: bool = True
    include_top: bool = True
    input_tensor: KerasTensor | None = None
    input_shape: tuple[int | None, ...] | None = None
    pooling: str | None = None
    classes: int | None = None
    classifier_activation: Any = "softmax"
    name: str | None = None
    ratio: int | None = None
    placement: str = "standard"
    se_stages: Collection[int] | None = None
    se_options: Mapping[str, Any] | None = None
    attention: str | None = None
    dtype: Any = None
    data_format: str | None = None
    dropout: float | None = None
    drop_path_rate: float = 0.0
    output_stride: int | None = None
    features_only: bool = False

    def __post_init__(self):
        check_fields(self, CHECKS)
        resolve("classifier_activation", self.classifier_activation)
        if self.pooling is not None and (self.features_only or self.include_top):
            raise InputError(
                f"`pooling={self.pooling!r}` replaces the classifier: it needs `include_top=False` "
                "and `features_only=False`."
            )
        taken = {"ratio", "data_format", "dtype", "name"} & set(self.se_options or ())
        if taken:
            raise InputError(
                f"`se_options` must not have {sorted(taken)}: the builder has arguments for them."
            )
        of_gates = {"ratio", "placement", "se_stages", "se_options", "attention"}
        if not self.se and self.changed() & of_gates:
            raise InputError(
                "`ratio`, `placement`, `se_stages`, `se_options` and `attention` need `se=True`: "
                "they change SE blocks."
            )

    def changed(self) -> set[str]:
        """Return the names of the options that differ from their defaults."""
        return {f.name for f in fields(self) if getattr(self, f.name) is not f.default}


def absent_options(recipe: Recipe) -> frozenset[str]:
    """Return the names of the options that the row's family does not have.

    Example:

    >>> from se_keras.models.assembly import absent_options
    >>> from se_keras.models.recipes import find_recipe
    >>> sorted(absent_options(find_recipe("semobilenet")))
    ['drop_path_rate', 'placement']
    """
    every = (family.options for family in FAMILIES.values())
    return frozenset().union(*every) - FAMILIES[type(recipe)].options


def build_network(
    recipe: Recipe, options: NetworkOptions, preprocess: keras.layers.Layer | None = None
) -> keras.Model:
    """Build the network of a recipe, with fresh weights.

    Args:
        recipe: the network's row in the catalog.
        options: the user's options.
        preprocess: a layer that turns raw uint8 pixels into the network's input.

    Raises:
        InputError: if this family, data format or machine does not support an option.
    """
    family = FAMILIES[type(recipe)]
    _refuse_unknown_options(recipe, options)
    parts = _make_parts(recipe, options)
    dtype = parts.dtype.variable_dtype if preprocess is None else "uint8"
    image = x = _make_input(recipe, options, parts, dtype)
    _refuse_small(recipe, x, parts)
    if preprocess is not None:
        _refuse_other_colors(x, parts)
        x = preprocess(x)
    features = family.stages(x, recipe, parts)
    _refuse_unknown_stages(options, features)
    sources = [image] if options.input_tensor is None else keras.utils.get_source_inputs(image)
    return keras.Model(
        sources[0] if len(sources) == 1 else sources,
        _make_outputs(features, recipe, options, parts),
        name=options.name or recipe.name,
    )


def _make_parts(recipe: Recipe, options: NetworkOptions) -> Parts:
    attention = options.attention or recipe.attention
    return Parts(
        data_format=_resolve_data_format(options.data_format),
        dtype=resolve_dtype("dtype", options.dtype),
        norm_epsilon=recipe.norm_epsilon or NORM_EPSILON,
        se_options=_gate_options(recipe, options, attention) if options.se else None,
        attention=attention,
        se_stages=None if options.se_stages is None else frozenset(options.se_stages),
        placement=options.placement,
        drop_path_rate=options.drop_path_rate,
        output_stride=options.output_stride,
    )


def _gate_options(recipe: Recipe, options: NetworkOptions, attention: str) -> dict[str, Any]:
    """Return the arguments of each gate: the user's, else the row's."""
    known = options_of(GATES[attention])
    of_row = {"ratio": recipe.ratio, "divisor": recipe.divisor}
    usual = {k: v for k, v in of_row.items() if attention == recipe.attention and k in known}
    asked = {"ratio": options.ratio} if options.ratio else {}
    asked |= options.se_options or {}
    refuse_options_of_others(attention, asked)
    return {**usual, **asked}


def _make_input(recipe: Recipe, options: NetworkOptions, parts: Parts, dtype: str) -> KerasTensor:
    given = options.input_tensor
    if given is None:
        given = _resolve_input_shape(recipe, options, parts)
        return keras.Input(given, dtype=dtype, name="image")
    if not isinstance(given, KerasTensor):
        raise InputError(f"`input_tensor` must be a Keras tensor, got {type(given).__name__}.")
    if options.input_shape is not None and options.input_shape != tuple(given.shape[1:]):
        raise InputError(
            f"`input_shape` must be the shape of `input_tensor`, {tuple(given.shape[1:])}, got "
            f"{options.input_shape}."
        )
    return given


def _resolve_input_shape(
    recipe: Recipe, options: NetworkOptions, parts: Parts
) -> tuple[int | None, ...]:
    channels_first = parts.data_format == "channels_first"
    if options.input_shape is None:
        size = recipe.input_size if options.include_top and not options.features_only else None
        return (3, size, size) if channels_first else (size, size, 3)
    given = options.input_shape
    if len(given) != 3 or given[0 if channels_first else -1] is None:
        order = "(C, H, W)" if channels_first else "(H, W, C)"
        raise InputError(f"`input_shape` must be {order} with a known C, got {given}.")
    return given


def _make_outputs(
    features: list[Feature], recipe: Recipe, options: NetworkOptions, parts: Parts
) -> KerasTensor | list[KerasTensor]:
    if options.features_only:
        return [parts.act(f.map, f"stage{f.stage}_stride{f.stride}", "linear") for f in features]
    x = features[-1].map
    if options.include_top:
        return FAMILIES[type(recipe)].classifier(
            parts,
            x,
            options.classes or recipe.classes,
            options.classifier_activation,
            recipe.dropout if options.dropout is None else options.dropout,
        )
    return x if options.pooling is None else parts.global_pool(x, options.pooling)


def _refuse_small(recipe: Recipe, x: KerasTensor, parts: Parts) -> None:
    size = x.shape[2:] if parts.data_format == "channels_first" else x.shape[1:-1]
    if any(known is not None and known < recipe.smallest_size for known in size):
        raise InputError(
            f"`input_shape`: height and width must be at least {recipe.smallest_size} pixels for "
            f"{recipe.name}, got {size[0]}x{size[1]}."
        )


def _refuse_other_colors(x: KerasTensor, parts: Parts) -> None:
    if parts.channels(x) != 3:
        raise InputError(
            "`include_preprocessing=True` needs an input of 3 channels, got "
            f"{parts.channels(x)} channels."
        )


def _refuse_unknown_options(recipe: Recipe, options: NetworkOptions) -> None:
    for name in sorted(options.changed() & absent_options(recipe)):
        raise InputError(
            f"`{name}={getattr(options, name)!r}`: {recipe.name} does not have this option."
        )


def _refuse_unknown_stages(options: NetworkOptions, features: list[Feature]) -> None:
    stages = [feature.stage for feature in features if feature.se]
    unknown = set(options.se_stages or ()) - set(stages)
    if unknown:
        raise InputError(f"`se_stages` must be among {stages}, got {sorted(unknown, key=str)}.")


def _resolve_data_format(data_format: str | None) -> str:
    data_format = standardize_data_format(data_format)
    on_tensorflow_cpu = keras.backend.backend() == "tensorflow" and not (
        keras.distribution.list_devices("gpu")
    )
    if data_format == "channels_first" and on_tensorflow_cpu:
        raise InputError(
            "`data_format` must be 'channels_last' here: TensorFlow has no channels_first "
            "convolutions on a CPU (use a GPU, or the JAX or PyTorch backend)."
        )
    return data_format
