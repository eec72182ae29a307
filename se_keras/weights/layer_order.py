"""Identify the layers of classification_models by their order: most of them have no names.

Keras 2 writes layers by their depth in the graph, and its own `load_weights` reads them by their
order too. In a residual unit the branch comes first, then SE, then the (shorter) shortcut.
"""

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from se_keras.support.errors import InputError
from se_keras.weights.identify import Traits

CLASSIFIER = "predictions"
SE = ("se/reduce", "se/expand")
Kinds = list[str]
# Variables of a layer -> its kind. Only SE and the classifier have layers with a bias.
KINDS = {
    frozenset({"kernel"}): "convolution",
    frozenset({"kernel", "bias"}): "with a bias",
    frozenset({"beta", "moving_mean", "moving_variance"}): "normalization",
    frozenset({"gamma", "beta", "moving_mean", "moving_variance"}): "normalization",
}


@dataclass(frozen=True, kw_only=True)
class LayerOrder:
    """Our layer names for one kind of network, in the order of its files.

    Attributes:
        name: name of the networks in messages.
        traits: traits of the networks.
        stem: layers before the first unit.
        branch: layers of a unit before SE.
        shortcut: layers after SE in the first unit of each stage.
        end: layers between the last unit and the classifier.
    """

    name: str
    traits: Traits
    stem: tuple[str, ...]
    branch: tuple[str, ...]
    shortcut: tuple[str, ...]
    end: tuple[str, ...] = ()

    @property
    def unit(self) -> tuple[str, ...]:
        """Return the layers of a unit without a shortcut."""
        return (*self.branch, *SE)

    def agreement(self, kinds: Kinds) -> int:
        """Return how many layers match the stem and first unit; 0 for a file without units."""
        if not any(_begins(kinds[start:], self.unit) for start in range(len(kinds))):
            return 0
        pairs = zip(_kinds((*self.stem, *self.unit)), kinds, strict=False)
        return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))

    def layers(self, kinds: Kinds, names: Sequence[str]) -> list[str]:
        """Return our names for the layers of a file.

        Args:
            kinds: kinds of its layers.
            names: names of the layers in the file.

        Raises:
            InputError: if the layers do not form units up to the end; the message names the first
                layer that does not fit.
        """
        found = [*self.stem] if _begins(kinds, self.stem) else []
        stage, block = 1, 0
        while _begins(rest := kinds[len(found) :], self.unit):
            with_shortcut = (*self.unit, *self.shortcut)
            # A shortcut may look like the beginning of the next unit: the layers after it decide.
            opens = _begins(rest, (*with_shortcut, *self.unit)) or self._ends(rest, with_shortcut)
            stage, block = (stage + 1, 1) if opens else (stage, block + 1)
            parts = with_shortcut if opens else self.unit
            found += [f"stage{stage}_block{block}_{part}" for part in parts]
        if not self._ends(rest):
            raise InputError(self._complaint(names[len(found) :]))
        return [*found, *self.end, CLASSIFIER][: len(kinds)]

    def _ends(self, kinds: Kinds, before: tuple[str, ...] = ()) -> bool:
        """Return whether these are the last layers, with or without a classifier."""
        last = (*before, *self.end)
        return kinds in (_kinds(last), _kinds((*last, CLASSIFIER)))

    def _complaint(self, rest: Sequence[str]) -> str:
        stem, unit, shortcut = map(", ".join, (self.stem, self.unit, self.shortcut))
        return (
            f"its layers begin like {self.name}, but from {', '.join(rest[:4]) or 'the end'} on "
            f"they must be the beginning ({stem}), a unit ({unit}; {shortcut} in the first of a "
            f"stage) or the end"
        )


def _kinds(layers: Iterable[str]) -> Kinds:
    """Return the kinds of our layers from their names."""
    return list(map(_kind, layers))


def _kind(layer: str) -> str:
    if layer in (*SE, CLASSIFIER):
        return "with a bias"
    return "normalization" if "norm" in layer else "convolution"


def _begins(kinds: Kinds, layers: Sequence[str]) -> bool:
    """Return whether a file's first layers have the kinds of these layers."""
    return kinds[: len(layers)] == _kinds(layers)


def paths_by_order(names: Collection[str]) -> tuple[LayerOrder, dict[str, str]] | None:
    """Return the kind of network in a file, and the variable's path for each tensor.

    Args:
        names: names of the tensors (`layer/variable`), in the order of the file.

    Returns:
        The kind and the paths, or `None` for another network.

    Raises:
        InputError: if the file begins like one of these networks but continues differently.
    """
    layers: dict[str, list[str]] = {}
    for name in names:
        layer, _, variable = name.rpartition("/")
        layers.setdefault(layer, []).append(variable)
    kinds = [KINDS.get(frozenset(variables), "another") for variables in layers.values()]
    order = max(ORDERS, key=lambda order: order.agreement(kinds))
    if not order.agreement(kinds):
        return None
    ours = order.layers(kinds, list(layers))
    paths = {
        f"{theirs}/{variable}": f"{name}/{variable}"
        for (theirs, variables), name in zip(layers.items(), ours, strict=True)
        for variable in variables
    }
    return order, paths


_BOTTLENECK: dict[str, Any] = {
    "branch": ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3"),
    "shortcut": ("shortcut_conv", "shortcut_norm"),
    "traits": {
        "stem pool": "padded on both sides",
        "stride of units": "on the 1x1",
        "stride of grouped units": "on the 3x3",
        "shortcut": "a convolution",
        "normalization": "after its convolution",
    },
}
ORDERS = (
    LayerOrder(  # models/senet.py
        name="classification_models' SE-ResNets and SE-ResNeXts",
        stem=("stem_conv", "stem_norm"),
        **_BOTTLENECK,
    ),
    LayerOrder(
        name="classification_models' SENet-154",
        stem=tuple(f"stem_{part}{n}" for n in (1, 2, 3) for part in ("conv", "norm")),
        **_BOTTLENECK,
    ),
    LayerOrder(  # models/resnet.py
        name="classification_models' SE-ResNet-18 and 34",
        stem=("input_norm", "stem_conv", "stem_norm"),
        branch=("norm1", "conv1", "norm2", "conv2"),
        shortcut=("shortcut_conv",),
        end=("final_norm",),
        traits={
            "stem pool": "padded on both sides",
            "shortcut": "a convolution",
            "normalization": "before its convolution",
        },
    ),
)
