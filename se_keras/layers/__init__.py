"""Squeeze-and-excitation and related layers, which multiply a map by a gate."""

from se_keras.layers.base import (
    NORM_EPSILON,
    NORM_MOMENTUM,
    ChannelGate,
    LayerOptions,
    options_of,
    resolve,
    resolve_dtype,
)
from se_keras.layers.effective import EffectiveSqueezeExcite
from se_keras.layers.efficient_channel import EfficientChannelAttention, neighbors
from se_keras.layers.gather_excite import GatherExcite
from se_keras.layers.spatial_channel import SpatialChannelSqueezeExcite
from se_keras.layers.squeeze_excite import SqueezeExcite, hidden_width, se_options

# Values of the option `attention` -> layers.
GATES: dict[str, type[ChannelGate]] = {
    "se": SqueezeExcite,
    "eca": EfficientChannelAttention,
    "ese": EffectiveSqueezeExcite,
    "scse": SpatialChannelSqueezeExcite,
    "ge": GatherExcite,
}

__all__ = [
    "GATES",
    "NORM_EPSILON",
    "NORM_MOMENTUM",
    "ChannelGate",
    "EffectiveSqueezeExcite",
    "EfficientChannelAttention",
    "GatherExcite",
    "LayerOptions",
    "SpatialChannelSqueezeExcite",
    "SqueezeExcite",
    "hidden_width",
    "neighbors",
    "options_of",
    "resolve",
    "resolve_dtype",
    "se_options",
]
