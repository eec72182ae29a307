"""The parts that all families share: layers with common settings, and the classifier.

All initializers are set here.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import KerasTensor, layers

from se_keras.blocks import residual_unit
from se_keras.layers import GATES, NORM_EPSILON, NORM_MOMENTUM
from se_keras.models.recipes import Recipe
from se_keras.support.errors import InputError

# The variance of He et al. 2015 (arXiv 1502.01852; the paper's sec. 5.1), for the fan-out as in
# PyTorch. Uniform numbers, because drawing normal numbers is slow.
CONV_INITIALIZER = {"scale": 2.0, "mode": "fan_out", "distribution": "uniform"}

Size = int | tuple[int, int]


@keras.saving.register_keras_serializable(package="se_keras")
class ChannelPadding(layers.Layer):
    """A layer that adds channels of zeros before and after the channels of a map.

    Args:
        padding: number of channels to add before and after.
        axis: the axis of the channels.
        **kwargs: `name` and `dtype`, as in every Keras layer.

    Example:

    >>> import numpy as np
    >>> from se_keras.models.parts import ChannelPadding
    >>> np.asarray(ChannelPadding((1, 2))(np.ones((1, 1, 1, 2)))).ravel().tolist()
    [0.0, 1.0, 1.0, 0.0, 0.0]
    """

    # Keras' layers pad only spatial axes. An operation of `keras.ops` would have no stable name,
    # and a saved file would refer to a private module of Keras for it.

    def __init__(self, padding: tuple[int, int], axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.padding: tuple[int, ...] = tuple(padding)
        self.axis = axis

    def call(self, inputs: KerasTensor) -> KerasTensor:
        margins: list[tuple[int, ...]] = [(0, 0)] * len(inputs.shape)
        margins[self.axis] = self.padding
        return keras.ops.pad(inputs, margins)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding, "axis": self.axis}


@keras.saving.register_keras_serializable(package="se_keras")
class EvenAveragePooling2D(layers.AveragePooling2D):
    """An average pool that refuses maps of odd sizes instead of dropping their border.

    Args:
        *args: as in `keras.layers.AveragePooling2D`.
        **kwargs: as in `keras.layers.AveragePooling2D`.

    Example:

    >>> import numpy as np
    >>> from se_keras.models.parts import EvenAveragePooling2D
    >>> EvenAveragePooling2D(2)(np.ones((1, 4, 6, 1))).shape
    TensorShape([1, 2, 3, 1])
    """

    # A network of unknown input size learns its sizes only when it is called.

    def call(self, inputs: KerasTensor) -> KerasTensor:
        refuse_odd(inputs.shape, self.data_format, self.name)
        return super().call(inputs)


def refuse_odd(shape: Sequence[int | None], data_format: str, where: str) -> None:
    """Refuse maps of odd sizes: a 2x2 pool and a stride of 2 would give different sizes.

    Raises:
        InputError: if a size is odd; the message says which image sizes are possible.
    """
    height, width = shape[2:] if data_format == "channels_first" else shape[1:3]
    if any(side is not None and side % 2 for side in (height, width)):
        raise InputError(
            f"`input_shape`: height and width must be even at {where}, which halves its map by an "
            f"average pool, got {height}x{width} there. Height and width of the image can be any "
            "multiple of 32."
        )


@dataclass(frozen=True, kw_only=True)
class Feature:
    """The output of a stage: its number, its stride and the map itself.

    `se` says whether the stage may have SE.
    """

    stage: int
    stride: int
    map: KerasTensor
    se: bool = True


@dataclass(frozen=True, kw_only=True)
class StageStride:
    """Stride and dilation of a stage (dilated as in arXiv 1606.00915 and timm).

    Attributes:
        stride: stride of its first unit.
        first_dilation: dilation of the strided convolution in its first unit.
        dilation: dilation of all other convolutions.
        total: stride of its output relative to the image.
    """

    stride: int
    first_dilation: int
    dilation: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The place of a residual unit in the network, and its sizes.

    Attributes:
        name: beginning of the names of its layers.
        stage: number of its stage.
        planes: channels of this stage in the family's table.
        first: whether it is the first unit of its stage.
        stride: stride of its strided convolution.
        first_dilation: dilation of the strided convolution.
        dilation: dilation of all other convolutions.
        drop_rate: rate of stochastic depth.
    """

    name: str
    stage: int
    planes: int
    first: bool
    stride: int
    first_dilation: int
    dilation: int
    drop_rate: float


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Builder of the layers of one network; each method names its layer, so names are stable.

    Attributes:
        data_format: `"channels_last"` or `"channels_first"`.
        dtype: Keras dtype policy of every layer.
        norm_epsilon: epsilon of every batch normalization.
        se_options: arguments of every SE block; `None` for a network without SE.
        attention: kind of the SE blocks: a key of `GATES`.
        se_stages: the stages with SE; `None` for all.
        placement: place of SE in a residual unit (paper, Fig. 5).
        drop_path_rate: rate of stochastic depth in the last unit, up to which it grows linearly.
        output_stride: maximum total stride, after which stages dilate; `None` for no maximum.
    """

    data_format: str
    dtype: Any
    norm_epsilon: float = NORM_EPSILON
    se_options: Mapping[str, Any] | None
    attention: str = "se"
    se_stages: frozenset[int] | None = None
    placement: str = "standard"
    drop_path_rate: float = 0.0
    output_stride: int | None = None

    def stage_strides(self, stem: int, strides: Sequence[int]) -> list["StageStride"]:
        """Return the strides of the stages, with dilation where `output_stride` is reached.

        Args:
            stem: stride of the stem.
            strides: stride of the first unit of each stage.

        Raises:
            InputError: if the network never reaches `output_stride`.
        """
        natural = stem * math.prod(strides)
        if self.output_stride is not None and self.output_stride > natural:
            raise InputError(
                f"`output_stride` must be at most {natural}, the stride of this network, "
                f"got {self.output_stride}."
            )
        steps, total, dilation = [], stem, 1
        for stride in strides:
            first_dilation = dilation
            exceeds = total * stride > (self.output_stride or natural)
            dilation *= stride if exceeds else 1
            kept = 1 if exceeds else stride
            total *= kept
            steps.append(
                StageStride(
                    stride=kept, first_dilation=first_dilation, dilation=dilation, total=total
                )
            )
        return steps

    def drop_rates(self, units: int) -> list[float]:
        """Return the rates of stochastic depth, growing linearly (arXiv 1603.09382, sec. 3)."""
        return [self.drop_path_rate * i / max(units - 1, 1) for i in range(units)]

    def residual_stages(
        self,
        x: KerasTensor,
        put_unit: Callable[[KerasTensor, Unit], KerasTensor],
        *,
        stem: int,
        strides: Sequence[int],
        depths: Sequence[int],
        widths: Sequence[int],
    ) -> list[Feature]:
        """Build stages of residual units; return the output of each stage.

        Args:
            x: output of the stem.
            put_unit: function that applies a unit to a map.
            stem: stride of the stem.
            strides: stride of the first unit of each stage.
            depths: units in each stage.
            widths: channels of each stage.
        """
        features = []
        for stride, units in self._stages(stem, strides, depths, widths):
            for unit in units:
                x = put_unit(x, unit)
            features.append(Feature(stage=units[-1].stage, stride=stride, map=x))
        return features

    def _stages(
        self, stem: int, strides: Sequence[int], depths: Sequence[int], widths: Sequence[int]
    ) -> Iterator[tuple[int, list[Unit]]]:
        """Yield the output stride and the units of each stage."""
        steps = self.stage_strides(stem, strides)
        drop_rates = iter(self.drop_rates(sum(depths)))
        # The paper's conv1 is the stem, so the first stage is 2 (conv2_x).
        for stage, (depth, planes, step) in enumerate(
            zip(depths, widths, steps, strict=True), start=2
        ):
            units = [
                Unit(
                    name=f"stage{stage}_block{block}",
                    stage=stage,
                    planes=planes,
                    first=block == 1,
                    stride=step.stride if block == 1 else 1,
                    first_dilation=step.first_dilation if block == 1 else step.dilation,
                    dilation=step.dilation,
                    drop_rate=next(drop_rates),
                )
                for block in range(1, depth + 1)
            ]
            yield step.total, units

    @property
    def channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else -1

    def channels(self, x: KerasTensor) -> int:
        return x.shape[self.channel_axis]

    def conv(
        self,
        x: KerasTensor,
        filters: int,
        kernel: Size,
        *,
        name: str,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        padding: str = "symmetric",
        use_bias: bool = False,
    ) -> KerasTensor:
        # Keras' "same" pads a strided convolution only at the end, but the weights come from
        # PyTorch and Caffe, which pad both sides. Without a stride there is no difference.
        if padding == "symmetric":
            padding = "same" if stride == 1 or kernel == 1 else "valid"
            if padding == "valid":
                assert isinstance(kernel, int)  # no strided convolution here has two sizes
                x = self.pad(x, (kernel // 2, kernel // 2), f"{name}_pad")
        conv = layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding=padding,
            groups=groups,
            dilation_rate=dilation,
            use_bias=use_bias,
            kernel_initializer=keras.initializers.VarianceScaling(**CONV_INITIALIZER),
            data_format=self.data_format,
            dtype=self.dtype,
            name=name,
        )
        return conv(x)

    def pad(self, x: KerasTensor, margin: tuple[int, int], name: str) -> KerasTensor:
        """Pad both spatial axes with zeros at the start and the end."""
        return layers.ZeroPadding2D(
            (margin, margin), data_format=self.data_format, dtype=self.dtype, name=name
        )(x)

    def pad_channels(self, x: KerasTensor, new: int, name: str) -> KerasTensor:
        """Add channels of zeros, half of them on each side."""
        half = (new // 2, new - new // 2)
        return ChannelPadding(half, self.channel_axis, dtype=self.dtype, name=name)(x)

    def norm(self, x: KerasTensor, name: str, scale: bool = True) -> KerasTensor:
        return layers.BatchNormalization(
            axis=self.channel_axis,
            momentum=NORM_MOMENTUM,
            epsilon=self.norm_epsilon,
            scale=scale,
            dtype=self.dtype,
            name=name,
        )(x)

    def act(self, x: KerasTensor, name: str, kind: str = "relu") -> KerasTensor:
        return layers.Activation(kind, dtype=self.dtype, name=name)(x)

    def conv_norm(
        self, x: KerasTensor, filters: int, kernel: Size, *, name: str, index: Any = "", **options
    ) -> KerasTensor:
        x = self.conv(x, filters, kernel, name=f"{name}_conv{index}", **options)
        return self.norm(x, f"{name}_norm{index}")

    def conv_norm_act(
        self,
        x: KerasTensor,
        filters: int,
        kernel: Size,
        *,
        name: str,
        index: Any = "",
        act: str = "relu",
        **options,
    ) -> KerasTensor:
        x = self.conv(x, filters, kernel, name=f"{name}_conv{index}", **options)
        return self.norm_act(x, name=name, index=index, act=act)

    def norm_act(
        self, x: KerasTensor, *, name: str, index: Any = "", act: str = "relu"
    ) -> KerasTensor:
        x = self.norm(x, f"{name}_norm{index}")
        return self.act(x, f"{name}_relu{index}", act)

    def depthwise(
        self, x: KerasTensor, kernel: int, *, name: str, dilation: int = 1, **options
    ) -> KerasTensor:
        return layers.DepthwiseConv2D(
            kernel,
            dilation_rate=dilation,
            use_bias=False,
            depthwise_initializer=keras.initializers.VarianceScaling(**CONV_INITIALIZER),
            data_format=self.data_format,
            dtype=self.dtype,
            name=name,
            **options,
        )(x)

    def pool(
        self, x: KerasTensor, kind: str, size: int, stride: int, padding: str, name: str
    ) -> KerasTensor:
        layer = {"max": layers.MaxPooling2D, "avg": layers.AveragePooling2D}[kind]
        return layer(
            size,
            stride,
            padding=padding,
            data_format=self.data_format,
            dtype=self.dtype,
            name=name,
        )(x)

    def halve(self, x: KerasTensor, name: str) -> KerasTensor:
        """Average over 2x2 pixels; refuse maps of odd sizes."""
        refuse_odd(x.shape, self.data_format, name)
        layer = EvenAveragePooling2D(2, data_format=self.data_format, dtype=self.dtype, name=name)
        return layer(x)

    def add(self, a: KerasTensor, b: KerasTensor, name: str) -> KerasTensor:
        return layers.Add(dtype=self.dtype, name=name)([a, b])

    def concat(self, maps: Sequence[KerasTensor], name: str) -> KerasTensor:
        """Concatenate the channels of all maps in this order."""
        return layers.Concatenate(axis=self.channel_axis, dtype=self.dtype, name=name)(maps)

    def scale(self, x: KerasTensor, factor: float, name: str) -> KerasTensor:
        return x if factor == 1 else layers.Rescaling(factor, dtype=self.dtype, name=name)(x)

    def se(self, x: KerasTensor, stage: int, name: str) -> KerasTensor:
        """Build the gate (SE or related) after `x`, if this stage of the network has one."""
        if self.se_options is None or (self.se_stages is not None and stage not in self.se_stages):
            return x
        own = {"name": name, "data_format": self.data_format, "dtype": self.dtype}
        return GATES[self.attention](**self.se_options, **own)(x)

    def drop_path(self, x: KerasTensor, rate: float, name: str) -> KerasTensor:
        """Drop the branch for random images: stochastic depth (arXiv 1603.09382)."""
        if rate == 0:
            return x
        return layers.Dropout(rate, noise_shape=(None, 1, 1, 1), dtype=self.dtype, name=name)(x)

    def unit(
        self,
        x: KerasTensor,
        branch: Callable[..., KerasTensor],
        shortcut: KerasTensor,
        unit: Unit,
        recipe: Recipe,
        **merging: Any,
    ) -> KerasTensor:
        """Build a residual unit with `residual_unit`, at the place that `unit` describes."""
        return self.residual_unit(
            x,
            partial(branch, unit=unit, recipe=recipe, parts=self),
            shortcut,
            stage=unit.stage,
            drop_rate=unit.drop_rate,
            name=unit.name,
            **merging,
        )

    def residual_unit(
        self,
        x: KerasTensor,
        branch: Callable[..., KerasTensor],
        shortcut: KerasTensor,
        *,
        stage: int,
        drop_rate: float,
        name: str,
        activation: str | None = "relu",
        concat: bool = False,
        scale: float = 1.0,
    ) -> KerasTensor:
        """Build a residual unit with SE at its `placement`.

        `concat` concatenates branch and shortcut instead of adding them; `scale` multiplies the
        branch.
        """

        def merge(y: KerasTensor, shortcut: KerasTensor) -> KerasTensor:
            y = self.scale(y, scale, f"{name}_scale")
            y = self.drop_path(y, drop_rate, f"{name}_drop_path")
            if concat:
                y = self.concat([shortcut, y], f"{name}_concat")
            else:
                y = self.add(y, shortcut, f"{name}_add")
            return y if activation is None else self.act(y, f"{name}_out", activation)

        def se(x: KerasTensor) -> KerasTensor:
            return self.se(x, stage, f"{name}_se")

        return residual_unit(x, branch, shortcut, merge, se, self.placement)

    def global_pool(self, x: KerasTensor, kind: str = "avg") -> KerasTensor:
        layer = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[kind]
        return layer(data_format=self.data_format, dtype=self.dtype, name=f"{kind}_pool")(x)

    def classifier(
        self, x: KerasTensor, classes: int, activation: Any, dropout: float
    ) -> KerasTensor:
        """Build the global average pool, dropout and the predictions."""
        x = self.dropout(self.global_pool(x), dropout, "dropout")
        return self.predictions(x, classes, activation)

    def dropout(self, x: KerasTensor, rate: float, name: str) -> KerasTensor:
        return layers.Dropout(rate, dtype=self.dtype, name=name)(x) if rate else x

    def predictions(self, x: KerasTensor, classes: int, activation: Any) -> KerasTensor:
        """Build the last layer, which computes in the type of its variables.

        This is float32 under a mixed policy, as Keras' guide to mixed precision advises: a float16
        softmax loses small losses.
        """
        dtype = keras.dtype_policies.get(self.dtype).variable_dtype
        return layers.Dense(classes, activation=activation, dtype=dtype, name="predictions")(x)
