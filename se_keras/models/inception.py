"""SE-BN-Inception, SE-Inception-v3 and SE-Inception-ResNet-v2.

Inception modules have SE after their concatenation (paper, Fig. 2), residual modules at the end of
their branch (Fig. 3). A stage begins with the module that halves the map.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from keras import KerasTensor

from se_keras.models.parts import Feature, Parts, Size
from se_keras.models.recipes import InceptionRecipe, InceptionResNetRecipe

Conv = tuple[int, Size]  # filters, kernel


@dataclass(frozen=True, kw_only=True)
class Module:
    """An Inception module: branches over one input, and their concatenation.

    Attributes:
        x: the input.
        name: beginning of the names of its layers.
        parts: builder of the layers.
        padding: padding of convolutions with a stride, which the parallel pool follows.
    """

    x: KerasTensor
    name: str
    parts: Parts
    padding: str = "valid"

    def convs(
        self, branch: str, *convs: Conv, x: KerasTensor | None = None, stride: int = 1
    ) -> KerasTensor:
        """Build a sequence of convolutions; the last one has the stride."""
        x = self.x if x is None else x
        for index, (filters, kernel) in enumerate(convs, start=1):
            strided = stride > 1 and index == len(convs)
            x = self.parts.conv_norm_act(
                x,
                filters,
                kernel,
                stride=stride if strided else 1,
                padding=self.padding if strided else "symmetric",
                name=f"{self.name}_{branch}",
                index=index if len(convs) > 1 else "",
            )
        return x

    def average(self) -> KerasTensor:
        """Average over 3x3, including the padded zeros (Caffe, torchvision)."""
        x = self.parts.pad(self.x, (1, 1), f"{self.name}_pool_pad")
        return self.parts.pool(x, "avg", 3, 1, "valid", f"{self.name}_pool")

    def average_inside(self) -> KerasTensor:
        """Average over 3x3, excluding positions outside of the map (TensorFlow)."""
        return self.parts.pool(self.x, "avg", 3, 1, "same", f"{self.name}_pool")

    def maximum(self, stride: int) -> KerasTensor:
        # "same" fits a 3x3 convolution that pads one pixel on both sides, also for odd sizes; for
        # even sizes it equals Caffe's ceil mode.
        padding = "same" if stride == 1 or self.padding == "symmetric" else "valid"
        return self.parts.pool(self.x, "max", 3, stride, padding, f"{self.name}_pool")

    def concat(self, *branches: KerasTensor) -> KerasTensor:
        return self.parts.concat(list(branches), f"{self.name}_concat")


def inception(x: KerasTensor, recipe: InceptionRecipe, parts: Parts) -> list[Feature]:
    """Build the stem, and the stages of modules with SE after each module."""
    stem, stages = VERSIONS[recipe.version]
    x, features = stem(x, parts)
    for stage, modules in stages.items():
        for block, module in enumerate(modules, start=1):
            name = f"stage{stage}_block{block}"
            x = parts.se(module(x, name, parts), stage, f"{name}_se")
        features.append(Feature(stage=stage, stride=2**stage, map=x))
    return features


def inception_resnet(x: KerasTensor, recipe: InceptionResNetRecipe, parts: Parts) -> list[Feature]:
    """Build the stem of Inception-v3, and residual units with SE (arXiv 1602.07261, Fig. 15).

    Only the residual units have SE; the modules that widen or halve the map have no shortcut.
    """
    x, features = stem_v3(x, parts)
    drop_rates = iter(parts.drop_rates(sum(recipe.depths)))
    rows = zip(ENTRIES.items(), recipe.depths, recipe.scales, strict=True)
    for (stage, entry), depth, scale in rows:
        x = entry(x, f"stage{stage}_entry", parts)
        for block in range(1, depth + 1):
            # The last unit of the release has neither scaling nor ReLU (tensorflow/models,
            # slim/nets/inception_resnet_v2.py).
            last = stage == 5 and block == depth
            x = scaled_unit(
                x,
                stage,
                f"stage{stage}_block{block}",
                parts,
                drop_rate=next(drop_rates),
                scale=1.0 if last else scale,
                activation=None if last else "relu",
            )
        features.append(Feature(stage=stage, stride=2**stage, map=x))
    x = parts.conv_norm_act(x, 1536, 1, name="final")
    return [*features[:-1], replace(features[-1], map=x)]


# --- stems ---------------------------------------------------------------------------------------


def stem_bn(x: KerasTensor, parts: Parts) -> tuple[KerasTensor, list[Feature]]:
    """Build the stem of BN-Inception (arXiv 1502.03167, Fig. 5): strides 2, 4, and 8 at the end."""

    def pool(x: KerasTensor, name: str) -> KerasTensor:  # ceil mode, after a ReLU
        return parts.pool(parts.pad(x, (0, 1), f"{name}_pad"), "max", 3, 2, "valid", name)

    first = parts.conv_norm_act(x, 64, 7, stride=2, name="stem", index=1)
    x = parts.conv_norm_act(pool(first, "stem_pool1"), 64, 1, name="stem", index=2)
    second = parts.conv_norm_act(x, 192, 3, name="stem", index=3)
    return pool(second, "stem_pool2"), _stem_features(first, second)


def stem_v3(x: KerasTensor, parts: Parts) -> tuple[KerasTensor, list[Feature]]:
    """Build the stem of Inception-v3 (arXiv 1512.00567, Table 1), with the 1x1 of the release."""

    def pool(x: KerasTensor, name: str) -> KerasTensor:
        return parts.pool(x, "max", 3, 2, "valid", name)

    x = parts.conv_norm_act(x, 32, 3, stride=2, padding="valid", name="stem", index=1)
    x = parts.conv_norm_act(x, 32, 3, padding="valid", name="stem", index=2)
    first = parts.conv_norm_act(x, 64, 3, name="stem", index=3)
    x = parts.conv_norm_act(pool(first, "stem_pool1"), 80, 1, name="stem", index=4)
    second = parts.conv_norm_act(x, 192, 3, padding="valid", name="stem", index=5)
    return pool(second, "stem_pool2"), _stem_features(first, second)


def _stem_features(first: KerasTensor, second: KerasTensor) -> list[Feature]:
    maps = enumerate((first, second), start=1)
    return [Feature(stage=stage, stride=2**stage, map=x, se=False) for stage, x in maps]


# --- modules of BN-Inception ---------------------------------------------------------------------


def module_bn(
    x: KerasTensor,
    name: str,
    parts: Parts,
    *,
    single: int,
    three: tuple[int, int],
    double: tuple[int, int],
    pool: str = "avg",
    projection: int,
) -> KerasTensor:
    """Build branches of 1x1, 3x3, double 3x3 and a pool (arXiv 1502.03167, Fig. 5)."""
    module = Module(x=x, name=name, parts=parts)
    pooled = module.average() if pool == "avg" else module.maximum(1)
    return module.concat(
        module.convs("1x1", (single, 1)),
        module.convs("3x3", (three[0], 1), (three[1], 3)),
        module.convs("double3x3", (double[0], 1), (double[1], 3), (double[1], 3)),
        module.convs("pool", (projection, 1), x=pooled),
    )


def reduction_bn(
    x: KerasTensor, name: str, parts: Parts, *, three: tuple[int, int], double: tuple[int, int]
) -> KerasTensor:
    """Build the module that halves the map: without 1x1, and with an unprojected pool."""
    module = Module(x=x, name=name, parts=parts, padding="symmetric")
    return module.concat(
        module.convs("3x3", (three[0], 1), (three[1], 3), stride=2),
        module.convs("double3x3", (double[0], 1), (double[1], 3), (double[1], 3), stride=2),
        module.maximum(2),
    )


# --- modules of Inception-v3 ---------------------------------------------------------------------


def module_35(
    x: KerasTensor,
    name: str,
    parts: Parts,
    *,
    single: int = 64,
    projection: int,
    average: Callable[[Module], KerasTensor] = Module.average,
) -> KerasTensor:
    """Build a module of the 35x35 grid (arXiv 1512.00567, Fig. 5; the release keeps one 5x5)."""
    module = Module(x=x, name=name, parts=parts)
    return module.concat(
        module.convs("1x1", (single, 1)),
        module.convs("5x5", (48, 1), (64, 5)),
        module.convs("double3x3", (64, 1), (96, 3), (96, 3)),
        module.convs("pool", (projection, 1), x=average(module)),
    )


def reduction_35(
    x: KerasTensor, name: str, parts: Parts, *, double: tuple[int, int, int]
) -> KerasTensor:
    """Build the module from 35x35 to 17x17 (arXiv 1512.00567, Fig. 10; 1602.07261, Fig. 7)."""
    module = Module(x=x, name=name, parts=parts)
    return module.concat(
        module.convs("3x3", (384, 3), stride=2),
        module.convs("double3x3", (double[0], 1), (double[1], 3), (double[2], 3), stride=2),
        module.maximum(2),
    )


def module_17(x: KerasTensor, name: str, parts: Parts, *, width: int) -> KerasTensor:
    """Build a module of the 17x17 grid, with factorized 7x7 (arXiv 1512.00567, Fig. 6)."""
    row, column = (1, 7), (7, 1)
    last_pair = ((width, column), (192, row))
    module = Module(x=x, name=name, parts=parts)
    return module.concat(
        module.convs("1x1", (192, 1)),
        module.convs("7x7", (width, 1), (width, row), (192, column)),
        module.convs("double7x7", (width, 1), (width, column), (width, row), *last_pair),
        module.convs("pool", (192, 1), x=module.average()),
    )


def reduction_17(x: KerasTensor, name: str, parts: Parts) -> KerasTensor:
    """Build the module from 17x17 to 8x8, as released (slim/nets/inception_v3.py)."""
    module = Module(x=x, name=name, parts=parts)
    return module.concat(
        module.convs("3x3", (192, 1), (320, 3), stride=2),
        module.convs("7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), stride=2),
        module.maximum(2),
    )


def module_8(x: KerasTensor, name: str, parts: Parts) -> KerasTensor:
    """Build a module of the 8x8 grid, with a wide bank of filters (arXiv 1512.00567, Fig. 7)."""
    module = Module(x=x, name=name, parts=parts)
    three = module.convs("3x3", (384, 1))
    double = module.convs("double3x3", (448, 1), (384, 3))
    return module.concat(
        module.convs("1x1", (320, 1)),
        module.convs("3x3_1x3", (384, (1, 3)), x=three),
        module.convs("3x3_3x1", (384, (3, 1)), x=three),
        module.convs("double3x3_1x3", (384, (1, 3)), x=double),
        module.convs("double3x3_3x1", (384, (3, 1)), x=double),
        module.convs("pool", (192, 1), x=module.average()),
    )


Stages = dict[int, tuple[Callable[..., KerasTensor], ...]]
# hujie-frank/SENet, models/SE-BN-Inception.prototxt: 3a to 5b.
BN_INCEPTION: Stages = {
    3: (
        partial(module_bn, single=64, three=(64, 64), double=(64, 96), projection=32),
        partial(module_bn, single=64, three=(64, 96), double=(64, 96), projection=64),
    ),
    4: (
        partial(reduction_bn, three=(128, 160), double=(64, 96)),
        partial(module_bn, single=224, three=(64, 96), double=(96, 128), projection=128),
        partial(module_bn, single=192, three=(96, 128), double=(96, 128), projection=128),
        partial(module_bn, single=160, three=(128, 160), double=(128, 160), projection=128),
        partial(module_bn, single=96, three=(128, 192), double=(160, 192), projection=128),
    ),
    5: (
        partial(reduction_bn, three=(128, 192), double=(192, 256)),
        partial(module_bn, single=352, three=(192, 320), double=(160, 224), projection=128),
        partial(
            module_bn, single=352, three=(192, 320), double=(192, 224), pool="max", projection=128
        ),
    ),
}
# arXiv 1512.00567, Table 1, as released: 5b to 7c.
INCEPTION_V3: Stages = {
    3: (
        partial(module_35, projection=32),
        partial(module_35, projection=64),
        partial(module_35, projection=64),
    ),
    4: (
        partial(reduction_35, double=(64, 96, 96)),
        partial(module_17, width=128),
        partial(module_17, width=160),
        partial(module_17, width=160),
        partial(module_17, width=192),
    ),
    5: (reduction_17, module_8, module_8),
}
VERSIONS: dict[str, tuple[Callable, Stages]] = {
    "bn": (stem_bn, BN_INCEPTION),
    "v3": (stem_v3, INCEPTION_V3),
}


# --- modules of Inception-ResNet-v2 --------------------------------------------------------------


def reduction_17_wide(x: KerasTensor, name: str, parts: Parts) -> KerasTensor:
    """Build the module from 17x17 to 8x8 (arXiv 1602.07261, Fig. 18)."""
    module = Module(x=x, name=name, parts=parts)
    return module.concat(
        module.convs("3x3", (256, 1), (384, 3), stride=2),
        module.convs("narrow3x3", (256, 1), (288, 3), stride=2),
        module.convs("double3x3", (256, 1), (288, 3), (320, 3), stride=2),
        module.maximum(2),
    )


# The modules before the units of a stage (slim/nets/inception_resnet_v2.py: 5b, 6a, 7a).
ENTRIES: dict[int, Callable[..., KerasTensor]] = {
    3: partial(module_35, single=96, projection=64, average=Module.average_inside),
    4: partial(reduction_35, double=(256, 256, 384)),
    5: reduction_17_wide,
}
# The branches of a unit (arXiv 1602.07261, Figs. 16, 17 and 19, with the widths of the release).
BRANCHES: dict[int, dict[str, list[Conv]]] = {
    3: {"1x1": [(32, 1)], "3x3": [(32, 1), (32, 3)], "double3x3": [(32, 1), (48, 3), (64, 3)]},
    4: {"1x1": [(192, 1)], "7x7": [(128, 1), (160, (1, 7)), (192, (7, 1))]},
    5: {"1x1": [(192, 1)], "3x3": [(192, 1), (224, (1, 3)), (256, (3, 1))]},
}


def scaled_unit(x: KerasTensor, stage: int, name: str, parts: Parts, **merging: Any) -> KerasTensor:
    """Build a residual unit that scales its branch down before the addition (sec. 3.3)."""

    def branch(x: KerasTensor, after_3x3: Callable) -> KerasTensor:
        module = Module(x=x, name=name, parts=parts)
        y = module.concat(*(module.convs(key, *convs) for key, convs in BRANCHES[stage].items()))
        # After the spatial convolutions is the place of SE in "conv3x3".
        y = after_3x3(y)
        # The linear filter expansion has a bias and no normalization.
        return parts.conv(y, parts.channels(x), 1, use_bias=True, name=f"{name}_expansion_conv")

    return parts.residual_unit(x, branch, x, stage=stage, name=name, **merging)
