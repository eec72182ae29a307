"""SE-ResNet, SE-ResNeXt and SENet-154, and the residual networks for small images."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from keras import KerasTensor

from se_keras.models.parts import Feature, Parts, Unit
from se_keras.models.recipes import ResNetRecipe


def resnet(x: KerasTensor, recipe: ResNetRecipe, parts: Parts) -> list[Feature]:
    """Build the stem and the stages; return the output of each stage."""
    preactivated = recipe.block.startswith("preactivated")
    unit = preactivated_unit if preactivated else postactivated_unit
    if recipe.norm_input:
        x = parts.norm(x, "input_norm", scale=False)
    x = STEMS[recipe.stem](x, recipe, parts)
    features = parts.residual_stages(
        x,
        partial(unit, recipe=recipe, parts=parts),
        stem=1 if recipe.stem == "small" else 4,
        strides=(1,) + (2,) * (len(recipe.depths) - 1),
        depths=recipe.depths,
        widths=recipe.widths,
    )
    if preactivated:
        last = features[-1]
        features[-1] = replace(last, map=parts.norm_act(last.map, name="final"))
    return features


# --- stems ---------------------------------------------------------------------------------------


def stem_7x7(x: KerasTensor, recipe: ResNetRecipe, parts: Parts) -> KerasTensor:
    x = parts.conv_norm_act(x, recipe.stem_widths[0], 7, stride=2, name="stem")
    return _stem_pool(x, recipe, parts)


def deep_stem(x: KerasTensor, recipe: ResNetRecipe, parts: Parts) -> KerasTensor:
    """Build three 3x3 convolutions (paper, sec. 5.1: SENet-154; ResNet-C of arXiv 1812.01187)."""
    for index, width in enumerate(recipe.stem_widths, start=1):
        stride = 2 if index == 1 else 1
        x = parts.conv_norm_act(x, width, 3, stride=stride, name="stem", index=index)
    return _stem_pool(x, recipe, parts)


def small_stem(x: KerasTensor, recipe: ResNetRecipe, parts: Parts) -> KerasTensor:
    """Build one 3x3 at full size (He et al. 2015, sec. 4.2)."""
    if recipe.block.startswith("preactivated"):
        return parts.conv(x, recipe.stem_widths[0], 3, name="stem_conv")
    return parts.conv_norm_act(x, recipe.stem_widths[0], 3, name="stem")


STEMS = {"7x7": stem_7x7, "deep": deep_stem, "small": small_stem}


def _stem_pool(x: KerasTensor, recipe: ResNetRecipe, parts: Parts) -> KerasTensor:
    if recipe.stem_pool == "convolution":
        return parts.conv_norm_act(x, parts.channels(x), 3, stride=2, name="stem_pool")
    if recipe.stem_pool == "average":
        return parts.pool(x, "avg", 2, 2, "valid", "stem_average_pool")
    # Padding with zeros is exact, because a ReLU comes before. Padding at the end is ceil mode.
    margins: dict[str | None, tuple[int, int]] = {"both": (1, 1), "end": (0, 1)}
    x = parts.pad(x, margins[recipe.stem_pool], "stem_pool_pad")
    return parts.pool(x, "max", 3, 2, "valid", "stem_pool")


# --- residual units ------------------------------------------------------------------------------


def postactivated_unit(
    x: KerasTensor, unit: Unit, recipe: ResNetRecipe, parts: Parts
) -> KerasTensor:
    """Build a unit with its ReLU after the addition (arXiv 1512.03385)."""
    shortcut = x
    if _has_shortcut_layer(x, unit, recipe, parts):
        shortcut = SHORTCUTS[recipe.shortcut](x, unit, recipe, parts)
    return parts.unit(x, BRANCHES[recipe.block], shortcut, unit, recipe)


def preactivated_unit(
    x: KerasTensor, unit: Unit, recipe: ResNetRecipe, parts: Parts
) -> KerasTensor:
    """Build a unit that normalizes and activates before each convolution.

    Source: arXiv 1603.05027, Fig. 4e. A projection takes the activated input.
    """
    active = parts.norm_act(x, name=unit.name, index=1)
    shortcut = x
    if _has_shortcut_layer(x, unit, recipe, parts):
        shortcut = SHORTCUTS[recipe.shortcut](active, unit, recipe, parts)
    return parts.unit(active, BRANCHES[recipe.block], shortcut, unit, recipe, activation=None)


# --- branches -----------------------------------------------------------------------------------


def basic(
    x: KerasTensor, after_3x3: Callable, unit: Unit, recipe: ResNetRecipe, parts: Parts
) -> KerasTensor:
    """Build 3x3, 3x3 (arXiv 1512.03385, Fig. 5 left)."""
    name, planes = unit.name, unit.planes
    x = after_3x3(_strided_3x3(x, planes, unit.stride, unit, recipe, parts, index=1))
    x = parts.conv_norm(x, planes, 3, dilation=unit.dilation, name=name, index=2)
    return parts.act(x, f"{name}_relu2") if recipe.relu_before_se else x


def bottleneck(
    x: KerasTensor, after_3x3: Callable, unit: Unit, recipe: ResNetRecipe, parts: Parts
) -> KerasTensor:
    """Build 1x1, 3x3, 1x1 (arXiv 1512.03385, Fig. 5 right; in groups: 1611.05431, Fig. 3c)."""
    name, groups = unit.name, recipe.groups
    width = unit.planes * recipe.width_per_group // 64 * groups
    narrow = width // recipe.reduce_first
    stride_1x1, stride_3x3 = (unit.stride, 1) if recipe.stride_on_1x1 else (1, unit.stride)
    x = parts.conv_norm_act(x, narrow, 1, stride=stride_1x1, name=name, index=1)
    x = after_3x3(_strided_3x3(x, width, stride_3x3, unit, recipe, parts, index=2, groups=groups))
    return parts.conv_norm(x, unit.planes * recipe.expansion, 1, name=name, index=3)


def _strided_3x3(
    x: KerasTensor,
    width: int,
    stride: int,
    unit: Unit,
    recipe: ResNetRecipe,
    parts: Parts,
    **options: Any,
) -> KerasTensor:
    """Build the 3x3 of a unit, normalization and ReLU, with a stride or an average pool."""
    dilation = unit.first_dilation
    if not (recipe.stride_by_pool and stride > 1):
        return parts.conv_norm_act(
            x, width, 3, stride=stride, dilation=dilation, name=unit.name, **options
        )
    x = parts.conv_norm_act(x, width, 3, dilation=dilation, name=unit.name, **options)
    return parts.halve(x, f"{unit.name}_pool")


def preactivated_basic(
    x: KerasTensor, after_3x3: Callable, unit: Unit, recipe: ResNetRecipe, parts: Parts
) -> KerasTensor:
    """Build 3x3, 3x3 (Wide ResNet, arXiv 1605.07146)."""
    name, planes, first = unit.name, unit.planes, unit.first_dilation
    x = parts.conv(x, planes, 3, stride=unit.stride, dilation=first, name=f"{name}_conv1")
    x = after_3x3(parts.norm_act(x, name=name, index=2))
    return parts.conv(x, planes, 3, dilation=unit.dilation, name=f"{name}_conv2")


def preactivated_bottleneck(
    x: KerasTensor, after_3x3: Callable, unit: Unit, recipe: ResNetRecipe, parts: Parts
) -> KerasTensor:
    """Build 1x1, 3x3, 1x1 (arXiv 1603.05027, sec. 4.1)."""
    name, planes, first = unit.name, unit.planes, unit.first_dilation
    x = parts.conv(x, planes, 1, name=f"{name}_conv1")
    x = parts.norm_act(x, name=name, index=2)
    x = parts.conv(x, planes, 3, stride=unit.stride, dilation=first, name=f"{name}_conv2")
    x = after_3x3(parts.norm_act(x, name=name, index=3))
    return parts.conv(x, planes * recipe.expansion, 1, name=f"{name}_conv3")


BRANCHES = {
    "basic": basic,
    "bottleneck": bottleneck,
    "preactivated_basic": preactivated_basic,
    "preactivated_bottleneck": preactivated_bottleneck,
}


# --- shortcuts where the shape changes -----------------------------------------------------------


def _has_shortcut_layer(x: KerasTensor, unit: Unit, recipe: ResNetRecipe, parts: Parts) -> bool:
    changes_shape = unit.stride > 1 or parts.channels(x) != unit.planes * recipe.expansion
    return changes_shape or (unit.first and recipe.always_shortcut)


def projection(x: KerasTensor, unit: Unit, recipe: ResNetRecipe, parts: Parts) -> KerasTensor:
    """Build a convolution and its normalization (He et al. 2015, option B)."""
    # As in timm's downsample_conv, only shortcuts with a stride have the larger kernel (SENet-154).
    plain = unit.stride == 1 and unit.first_dilation == unit.dilation == 1
    return parts.conv_norm(
        x,
        unit.planes * recipe.expansion,
        1 if plain else recipe.shortcut_kernel,
        stride=unit.stride,
        dilation=unit.first_dilation if recipe.shortcut_kernel > 1 else 1,
        name=f"{unit.name}_shortcut",
    )


def convolution(x: KerasTensor, unit: Unit, recipe: ResNetRecipe, parts: Parts) -> KerasTensor:
    """Build a convolution without normalization, of an activated input (arXiv 1603.05027)."""
    channels = unit.planes * recipe.expansion
    return parts.conv(x, channels, 1, stride=unit.stride, name=f"{unit.name}_shortcut_conv")


def average_projection(
    x: KerasTensor, unit: Unit, recipe: ResNetRecipe, parts: Parts
) -> KerasTensor:
    """Build an average pool with the stride, then a 1x1 (ResNet-D, arXiv 1812.01187)."""
    name = f"{unit.name}_shortcut_pool"
    if unit.stride > 1:
        # "same" pads at the end and excludes the padding from the mean, like timm's ceil mode.
        x = parts.pool(x, "avg", 2, unit.stride, "same", name)
    elif unit.dilation > 1:
        # timm's AvgPool2dSame includes the padded zeros in the mean.
        x = parts.pool(parts.pad(x, (0, 1), f"{name}_pad"), "avg", 2, 1, "valid", name)
    return parts.conv_norm(x, unit.planes * recipe.expansion, 1, name=f"{unit.name}_shortcut")


def zero_padding(x: KerasTensor, unit: Unit, recipe: ResNetRecipe, parts: Parts) -> KerasTensor:
    """Take every second pixel, and add channels of zeros (He et al. 2015, option A)."""
    name = f"{unit.name}_shortcut"
    new = unit.planes * recipe.expansion - parts.channels(x)
    x = parts.pool(x, "avg", 1, unit.stride, "valid", f"{name}_subsample")
    return parts.pad_channels(x, new, f"{name}_pad")


SHORTCUTS = {
    "projection": projection,
    "convolution": convolution,
    "pool": average_projection,
    "zeros": zero_padding,
}
