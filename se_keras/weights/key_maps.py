"""Translate tensor names between naming schemes and this package, in both directions.

Our names are the paths of variables, such as `stage2_block1_conv1/kernel`.
"""

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import keras
import numpy as np

from se_keras.graph import innermost_layers
from se_keras.weights.identify import PossibleTraits, Shape
from se_keras.weights.layer_order import CLASSIFIER, paths_by_order

# --- layouts -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The transposition from a tensor of a file to a variable of Keras.

    Attributes:
        name: name of the layout in a printed plan.
        axes: axes of the file's tensor in Keras' order, without the axes in `ones`.
        ones: axes of length 1 that only the file's tensor has.
    """

    name: str
    axes: tuple[int, ...]
    ones: tuple[int, ...] = ()

    @property
    def source_rank(self) -> int:
        return len(self.axes) + len(self.ones)

    def source_shape(self, shape: Shape) -> Shape:
        """Return the shape of the file's tensor for a variable of this shape."""
        lengths = iter(shape[i] for i in np.argsort(self.axes))
        return tuple(1 if i in self.ones else next(lengths) for i in range(self.source_rank))

    def target_shape(self, shape: Shape) -> Shape:
        """Return the shape of the variable for a tensor of this shape."""
        lengths = [length for i, length in enumerate(shape) if i not in self.ones]
        return tuple(lengths[i] for i in self.axes)

    def to_keras(self, array: np.ndarray) -> np.ndarray:
        """Return a view."""
        return array.squeeze(self.ones).transpose(self.axes)

    def from_keras(self, array: np.ndarray) -> np.ndarray:
        """Return a view."""
        return np.expand_dims(array.transpose(np.argsort(self.axes)), self.ones)


def as_is(rank: int) -> Layout:
    return Layout(name="", axes=tuple(range(rank)))


CONVOLUTION = Layout(name="OIHW -> HWIO", axes=(2, 3, 1, 0))
CONVOLUTION_1D = Layout(name="OIK -> KIO", axes=(2, 1, 0))
MATRIX = Layout(name="OI -> IO", axes=(1, 0))
# PyTorch and classification_models implement the two layers of SE as 1x1 convolutions.
POINTWISE_MATRIX = Layout(name="OI11 -> IO", axes=(1, 0), ones=(2, 3))
KERAS_POINTWISE_MATRIX = Layout(name="11IO -> IO", axes=(0, 1), ones=(0, 1))


# --- naming schemes ------------------------------------------------------------------------------


class KeyMap(Protocol):
    """A naming scheme, as a conversion plan uses it."""

    @property
    def name(self) -> str:
        """Return the name of the scheme in messages."""

    @property
    def traits(self) -> PossibleTraits:
        """Return the traits of the networks whose weights have these names."""

    def names(self, model: keras.Model) -> dict[str, str | None]:
        """Return the name of the file's tensor for each path; `None` where the scheme has none."""

    def ours(self, name: str) -> str | None:
        """Return the path of the variable for a tensor; `None` for a name of another scheme."""

    def layout(self, path: str, rank: int) -> Layout:
        """Return the layout of the tensor for a variable, given its path and rank."""

    def reason_to_ignore(self, name: str, expected: Collection[str]) -> str | None:
        """Return the reason why a tensor may be ignored; `None` if it may not."""


# PyTorch's names of parameters and buffers: in a normalization, and in any other layer.
NORM_VARIABLES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
VARIABLES = {"kernel": "weight", "bias": "bias"}
COUNTER = "num_batches_tracked"
AVERAGED = "n_averaged"  # in torch.optim.swa_utils.AveragedModel


@dataclass(frozen=True, kw_only=True)
class TemplateNames:
    """A scheme whose layer names follow templates and whose variable names equal ours.

    Attributes:
        name: name of the scheme in messages.
        layers: our layer names -> theirs; `{stage}`, `{block}` and `{n}` stand for numbers.
        shift: differences between their numbers and ours.
        traits: traits of the networks whose weights have these names.
        ignored: beginnings of the names of unneeded tensors, with the reasons.
    """

    separator: ClassVar[str] = "/"

    name: str
    layers: Mapping[str, str]
    shift: Mapping[str, int] = field(default_factory=dict)
    traits: PossibleTraits = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)

    def names(self, model: keras.Model) -> dict[str, str | None]:
        return {variable.path: self.theirs(variable.path) for variable in model.weights}

    def theirs(self, path: str) -> str | None:
        """Return the name of the tensor for a variable's path; `None` if the scheme has none."""
        layer, _, variable = path.rpartition("/")
        leaf = self.variables(layer).get(variable)
        for ours, theirs in self.layers.items():
            numbers = _match_numbers(ours, layer)
            if numbers is not None and leaf is not None:
                shifted = {key: n + self.shift.get(key, 0) for key, n in numbers.items()}
                return f"{theirs.format(**shifted)}{self.separator}{leaf}"
        return None

    def ours(self, name: str) -> str | None:
        module, _, leaf = name.rpartition(self.separator)
        for ours, theirs in self.layers.items():
            numbers = _match_numbers(theirs, module)
            variables = {value: key for key, value in self.variables(ours).items()}
            if numbers is not None and leaf in variables:
                shifted = {key: n - self.shift.get(key, 0) for key, n in numbers.items()}
                return f"{ours.format(**shifted)}/{variables[leaf]}"
        return None

    def variables(self, layer: str) -> Mapping[str, str]:
        """Return our names of the variables of a layer -> theirs."""
        return {name: name for name in _variables(layer)}

    def layout(self, path: str, rank: int) -> Layout:
        return _layout_in_keras2(path, rank)

    def reason_to_ignore(self, name: str, expected: Collection[str]) -> str | None:
        return next((why for start, why in self.ignored.items() if name.startswith(start)), None)


class TorchNames(TemplateNames):
    """Names of a PyTorch model."""

    separator = "."

    def variables(self, layer: str) -> Mapping[str, str]:
        return _variables(layer)

    def layout(self, path: str, rank: int) -> Layout:
        if _is_in_se(path) and rank > 1:
            return POINTWISE_MATRIX
        return {2: MATRIX, 3: CONVOLUTION_1D, 4: CONVOLUTION}.get(rank, as_is(rank))

    def reason_to_ignore(self, name: str, expected: Collection[str]) -> str | None:
        module, _, leaf = name.rpartition(".")
        if leaf == COUNTER and f"{module}.running_mean" in expected:
            return "PyTorch's count of training steps"
        if leaf == AVERAGED:
            return "count of the models that were averaged"
        return super().reason_to_ignore(name, expected)


@dataclass(frozen=True, kw_only=True)
class OrderedNames:
    """The names of one file whose layers were identified by their order.

    Attributes:
        name: name of the scheme in messages.
        traits: traits of the networks whose weights have these names.
        paths: name of each tensor -> path of its variable.
    """

    name: str
    traits: PossibleTraits
    paths: Mapping[str, str]

    def names(self, model: keras.Model) -> dict[str, str | None]:
        names = {path: name for name, path in self.paths.items()}
        return {variable.path: names.get(variable.path) for variable in model.weights}

    def ours(self, name: str) -> str | None:
        return self.paths.get(name)

    def layout(self, path: str, rank: int) -> Layout:
        return _layout_in_keras2(path, rank)

    def reason_to_ignore(self, name: str, expected: Collection[str]) -> str | None:
        return None


@dataclass(frozen=True, kw_only=True)
class KerasNames:
    """The names of Keras 3's `.weights.h5` and `.keras`: the layer's name and a number."""

    name: str
    traits: PossibleTraits = field(default_factory=dict)

    def names(self, model: keras.Model) -> dict[str, str | None]:
        layers = {
            variable.path: _strip_models(layer.name, variable.path)
            for layer in innermost_layers(model)
            for variable in layer.weights
        }
        names: dict[str, str | None] = {}
        seen: dict[str, int] = {}
        for variable in model.weights:
            layer = layers.get(variable.path, variable.path).rpartition("/")[0]
            seen[layer] = number = seen.get(layer, -1) + 1
            names[variable.path] = f"{layer}/{number}"
        return names

    def ours(self, name: str) -> str | None:
        layer, _, number = name.rpartition("/")
        variables = list(_variables(layer))
        known = layer and number.isdecimal() and int(number) < len(variables)
        return f"{layer}/{variables[int(number)]}" if known else None

    def layout(self, path: str, rank: int) -> Layout:
        return as_is(rank)

    def reason_to_ignore(self, name: str, expected: Collection[str]) -> str | None:
        return "state of training" if name.startswith("optimizer/") else None


def _strip_models(layer: str, path: str) -> str:
    """Return a path without the enclosing models of its layer."""
    parts = path.split("/")
    return "/".join(parts[parts.index(layer) :]) if layer in parts else path


def _layout_in_keras2(path: str, rank: int) -> Layout:
    return KERAS_POINTWISE_MATRIX if _is_in_se(path) and rank > 1 else as_is(rank)


def _is_in_se(path: str) -> bool:
    return path.rpartition("/")[0].endswith(("_se/reduce", "_se/expand"))


def _variables(layer: str) -> Mapping[str, str]:
    return NORM_VARIABLES if re.search(r"norm(\d|\{n\})*$", layer) else VARIABLES


def _match_numbers(template: str, name: str) -> dict[str, int] | None:
    """Return the numbers in a name that matches the template; `None` if it does not match."""
    match = _pattern(template).fullmatch(name)
    return match and {key: int(text) for key, text in match.groupdict().items()}


@functools.cache
def _pattern(template: str) -> re.Pattern:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d+)", re.escape(template)))


# --- the residual networks -----------------------------------------------------------------------


def _in_units(layers: Mapping[str, str]) -> dict[str, str]:
    """Return templates for the layers of residual units: ours -> theirs."""
    return {
        "stage{stage}_block{block}_" + ours: "layer{stage}.{block}." + theirs
        for ours, theirs in layers.items()
    }


_UNIT = _in_units({"conv{n}": "conv{n}", "norm{n}": "bn{n}"})
_SHORTCUT = _in_units({"shortcut_conv": "downsample.0", "shortcut_norm": "downsample.1"})
# downsample.0 is the pool.
_POOL_SHORTCUT = _in_units({"shortcut_conv": "downsample.1", "shortcut_norm": "downsample.2"})
# timm, resnet.py
_SE = {
    **_in_units({"se/reduce": "se.fc1", "se/expand": "se.fc2", "se/conv": "se.conv"}),
    CLASSIFIER: "fc",
}
_STEM = {"stem_conv": "conv1", "stem_norm": "bn1"}
_DEEP_STEM = {
    "stem_conv1": "conv1.0",
    "stem_norm1": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_norm2": "conv1.4",
    "stem_conv3": "conv1.6",
    "stem_norm3": "bn1",
}
_STEM_POOL = {"stem_pool_conv": "maxpool.0", "stem_pool_norm": "maxpool.1"}
# timm, senet.py
_LEGACY_SE = {
    **_in_units({"se/reduce": "se_module.fc1", "se/expand": "se_module.fc2"}),
    CLASSIFIER: "last_linear",
}
_LEGACY_STEM = {"stem_conv": "layer0.conv1", "stem_norm": "layer0.bn1"}
_LEGACY_DEEP_STEM = {"stem_conv{n}": "layer0.conv{n}", "stem_norm{n}": "layer0.bn{n}"}

# Our stages begin at 2 (conv2_x of He et al.) and our blocks at 1; theirs begin at 1 and 0.
_SHIFT = {"stage": -1, "block": -1}
_TRAITS = {
    "stem pool": "padded on both sides",
    "stride of units": "on the 3x3",
    "stride of grouped units": "on the 3x3",
    "stride of basic units": "on the 3x3",
    "end of basic units": "without a ReLU before SE",
    "normalization": "after its convolution",
}
# The average pools of timm's "aa" have no weights, so the names do not show them.
_STRIDED_OR_POOLED = ("on the 3x3", "an average pool after the 3x3")
_D_TRAITS: PossibleTraits = {
    **_TRAITS,
    "stem pool": ("padded on both sides", "an average pool"),
    "stride of units": _STRIDED_OR_POOLED,
    "stride of grouped units": _STRIDED_OR_POOLED,
    "stride of basic units": _STRIDED_OR_POOLED,
    "shortcut": "an average pool and a convolution",
}
_LIGHT_TRAITS = {**_TRAITS, "shortcut": "an average pool and a convolution"}
_RS_TRAITS = {**_D_TRAITS, **_TRAITS, "stem pool": "a convolution"}
_LEGACY_TRAITS = {
    **_TRAITS,
    "stem pool": "padded at the end",
    "stride of units": "on the 1x1",
    "end of basic units": "with a ReLU before SE",
}


# pytorchcv, seresnet.py, seresnext.py, senet.py, seresnet_cifar.py
_CV_UNIT = {
    "stage{stage}_block{block}_" + ours: "features.stage{stage}.unit{block}." + theirs
    for ours, theirs in {
        "conv{n}": "body.conv{n}.conv",
        "norm{n}": "body.conv{n}.bn",
        "se/reduce": "se.conv1",
        "se/expand": "se.conv2",
        "shortcut_conv": "identity_conv.conv",
        "shortcut_norm": "identity_conv.bn",
    }.items()
}


def _cv_stem(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"stem_{part}{ours}": f"features.init_block{theirs}.{leaf}"
        for part, leaf in {"conv": "conv", "norm": "bn"}.items()
    }


# The stride is on the 1x1 or (variants "b") on the 3x3, which the names do not show.
_CV_TRAITS: PossibleTraits = {
    "stride of units": ("on the 1x1", "on the 3x3"),
    "stride of basic units": "on the 3x3",
    "stem pool": "padded on both sides",
    "stride of grouped units": "on the 3x3",
    "end of basic units": "without a ReLU before SE",
    "normalization": "after its convolution",
    "shortcut": "a convolution",
}


# sebastian-sz/resnet-rs-keras, resnet_rs_model.py: the files that keras.applications published.
_RS_UNIT = {
    "conv{n}": "conv_{n}",
    "norm{n}": "batch_norm_{n}",
    "se/reduce": "se_reduce",
    "se/expand": "se_expand",
    "shortcut_conv": "projection_conv",
    "shortcut_norm": "projection_batch_norm",
}
# keras.applications, resnet_rs.py: files that were saved from its models.
_KERAS_RS_UNIT = {
    "norm1": "batch_norm_1",
    **{ours: f"_{theirs}" for ours, theirs in _RS_UNIT.items()},
    "se/reduce": "_se_se_reduce",
    "se/expand": "_se_se_expand",
}


def _resnet_rs(name: str, stem: str, unit: str, layers: Mapping[str, str]) -> TemplateNames:
    units = {"stage{stage}_block{block}_" + ours: unit + layers[ours] for ours in layers}
    return TemplateNames(
        name=name,
        layers={
            "stem_pool_conv": f"{stem}conv_4",
            "stem_pool_norm": f"{stem}batch_norm_4",
            "stem_conv{n}": stem + "conv_{n}",
            "stem_norm{n}": stem + "batch_norm_{n}",
            **units,
            CLASSIFIER: CLASSIFIER,
        },
        shift={"block": -1},
        traits=_RS_TRAITS,
    )


def _resnet(name: str, *tables: Mapping[str, str], **traits: str | tuple[str, ...]) -> TorchNames:
    layers = {ours: theirs for table in (_UNIT, *tables) for ours, theirs in table.items()}
    return TorchNames(name=name, layers=layers, shift=_SHIFT, traits=traits)


def _pytorchcv(
    name: str, stem: Mapping[str, str], classifier: str = "output", **traits: str
) -> TorchNames:
    layers = {**stem, **_CV_UNIT, CLASSIFIER: classifier}
    return TorchNames(
        name=f"pytorchcv {name}",
        layers=layers,
        shift={"stage": -1},
        traits={**_CV_TRAITS, **traits},
    )


_CONVOLUTION = {"shortcut": "a convolution"}
TIMM_KEY_MAPS: tuple[TorchNames, ...] = (
    _resnet("timm ResNet", _STEM, _SHORTCUT, _SE, **_TRAITS, **_CONVOLUTION),
    _resnet("timm ResNet with a deep stem", _DEEP_STEM, _SHORTCUT, _SE, **_TRAITS, **_CONVOLUTION),
    _resnet("timm ResNet-D", _DEEP_STEM, _POOL_SHORTCUT, _SE, **_D_TRAITS),
    _resnet("timm ResNet with pooled shortcuts", _STEM, _POOL_SHORTCUT, _SE, **_LIGHT_TRAITS),
    _resnet("timm ResNet-RS", _DEEP_STEM, _STEM_POOL, _POOL_SHORTCUT, _SE, **_RS_TRAITS),
    _resnet("timm legacy SENet", _LEGACY_STEM, _SHORTCUT, _LEGACY_SE, **_LEGACY_TRAITS),
    _resnet("timm legacy SENet-154", _LEGACY_DEEP_STEM, _SHORTCUT, _LEGACY_SE, **_LEGACY_TRAITS),
)
KEY_MAPS: tuple[KeyMap, ...] = (
    *TIMM_KEY_MAPS,
    _pytorchcv("SE-ResNet", _cv_stem("", ".conv")),
    _pytorchcv("SENet-154", _cv_stem("{n}", ".conv{n}"), "output.fc"),
    _pytorchcv("SE-ResNet for small images", _cv_stem("", ""), **{"stem pool": "none"}),
    _resnet_rs("resnet-rs-keras", "stem_", "c{stage}_block_{block}_", _RS_UNIT),
    _resnet_rs(
        "keras.applications ResNet-RS",
        "stem_1_stem_",
        "BlockGroup{stage}__block_{block}_",
        _KERAS_RS_UNIT,
    ),
    KerasNames(name="Keras 3"),
)
SCHEMES = (*(key_map.name for key_map in KEY_MAPS), "classification_models")


def find_key_map(names: Collection[str]) -> KeyMap | None:
    """Find the naming scheme that matches most of the names; `None` if no scheme matches any.

    Args:
        names: names of the tensors, in the order of the file.

    Raises:
        InputError: if the layers are identified by their order, and the order is broken.

    Example:

    >>> from se_keras.weights.key_maps import find_key_map
    >>> find_key_map(["layer0.conv1.weight", "layer1.0.conv1.weight"]).name
    'timm legacy SENet'
    """

    def known(key_map: KeyMap) -> int:
        return sum(key_map.ours(name) is not None for name in names)

    best = max(KEY_MAPS, key=known)
    known_names = known(best)
    if 2 * known_names > len(names):
        return best
    ordered = paths_by_order(names)
    if ordered is not None:
        order, paths = ordered
        return OrderedNames(name=order.name, traits=order.traits, paths=paths)
    return best if known_names else None
