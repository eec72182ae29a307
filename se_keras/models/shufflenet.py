"""SE-ShuffleNet: ShuffleNet v1 with SE at the end of each unit's branch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import KerasTensor

from se_keras.models.parts import Feature, Parts, Unit
from se_keras.models.recipes import ShuffleNetRecipe
from se_keras.ops import Tensor, standardize_data_format
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import InputError


@keras.saving.register_keras_serializable(package="se_keras")
class ChannelShuffle(keras.layers.Layer):
    """A layer that interleaves the channels of groups, so that the next groups mix them.

    Source: Zhang et al., arXiv 1707.01083, section 3.1.

    Args:
        groups: number of groups g, which must divide the number of channels.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras' global setting.
        **kwargs: `name` and `dtype`, as in every Keras layer.

    Input and output shape:
        (N, H, W, C), or (N, C, H, W) with `"channels_first"`; H and W may be unknown.

    Raises:
        InputError: if `groups` is not a positive integer, or does not divide the channels.

    Example:

    >>> import numpy as np
    >>> from se_keras.models.shufflenet import ChannelShuffle
    >>> x = np.arange(6.0).reshape(1, 1, 1, 6)
    >>> np.asarray(ChannelShuffle(3)(x)).ravel().tolist()
    [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]
    """

    # `Reshape` and `Permute` can't shuffle maps of unknown height and width.

    def __init__(self, groups: int, *, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups = positive_integer("groups", groups)
        self.data_format = standardize_data_format(data_format)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[self._axis(input_shape)]
        if channels is None or channels % self.groups:
            raise InputError(
                f"{self.name}: `groups={self.groups}` must divide the number of channels, "
                f"got the input shape {tuple(input_shape)}."
            )

    def call(self, inputs: Tensor) -> Tensor:
        shape = keras.ops.shape(inputs)
        axis = self._axis(shape)
        groups = (self.groups, shape[axis] // self.groups)
        x = keras.ops.reshape(inputs, (*shape[:axis], *groups, *shape[axis + 1 :]))
        return keras.ops.reshape(keras.ops.swapaxes(x, axis, axis + 1), shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "groups": self.groups,
            "data_format": self.data_format,
        }

    def _axis(self, shape: tuple) -> int:
        return 1 if self.data_format == "channels_first" else len(shape) - 1


def shufflenet(x: KerasTensor, recipe: ShuffleNetRecipe, parts: Parts) -> list[Feature]:
    """Build the stem and the stages (arXiv 1707.01083, Table 1)."""
    x = parts.conv_norm_act(x, recipe.stem_width, 3, stride=2, name="stem")
    x = padded_pool(x, "max", 2, "stem_pool", parts)
    return parts.residual_stages(
        x,
        partial(shuffle_unit, recipe=recipe, parts=parts),
        stem=4,
        strides=(2,) * len(recipe.depths),
        depths=recipe.depths,
        widths=recipe.widths,
    )


def shuffle_unit(x: KerasTensor, unit: Unit, recipe: ShuffleNetRecipe, parts: Parts) -> KerasTensor:
    """Concatenate the pooled input and the branch if the width grows; else add them (Fig. 2)."""
    grows = parts.channels(x) != unit.planes
    new = unit.planes - parts.channels(x) if grows else unit.planes
    shortcut = x
    if grows:  # the pool is not dilated: Keras' pools can't be, and timm's are not
        shortcut = padded_pool(x, "avg", unit.stride, f"{unit.name}_shortcut_pool", parts)
    branch = partial(shuffled_bottleneck, filters=new)
    return parts.unit(x, branch, shortcut, unit, recipe, concat=grows)


def shuffled_bottleneck(
    x: KerasTensor,
    after_3x3: Callable,
    filters: int,
    unit: Unit,
    recipe: ShuffleNetRecipe,
    parts: Parts,
) -> KerasTensor:
    """Build grouped 1x1, shuffle, depthwise 3x3, grouped 1x1 (Fig. 2b)."""
    name, groups = unit.name, recipe.groups
    narrow = unit.planes // 4
    # Sec. 3.2: the first 1x1 of stage 2 is not grouped, because its input is narrow.
    groups1 = 1 if parts.channels(x) == recipe.stem_width else groups
    x = parts.conv_norm_act(x, narrow, 1, groups=groups1, name=name, index=1)
    x = ChannelShuffle(
        groups, data_format=parts.data_format, dtype=parts.dtype, name=f"{name}_shuffle"
    )(x)
    if unit.stride > 1:
        x = parts.pad(x, (1, 1), f"{name}_depthwise_pad")
    x = parts.depthwise(
        x,
        3,
        strides=unit.stride,
        padding="valid" if unit.stride > 1 else "same",
        dilation=unit.first_dilation,
        name=f"{name}_depthwise_conv",
    )
    x = after_3x3(parts.norm(x, f"{name}_depthwise_norm"))
    return parts.conv_norm(x, filters, 1, groups=groups, name=name, index=2)


def padded_pool(x: KerasTensor, kind: str, stride: int, name: str, parts: Parts) -> KerasTensor:
    """Pool 3x3 with a pixel of zeros on each side, as in the authors' release."""
    # A zero never changes a maximum of non-negative maps; a mean includes it, as in the release.
    x = parts.pad(x, (1, 1), f"{name}_pad")
    return parts.pool(x, kind, 3, stride, "valid", name)
