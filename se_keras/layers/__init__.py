"""Squeeze-and-excitation and its kin: layers that multiply a map by a gate."""

from se_keras.layers.base import ChannelGate, LayerOptions, options_of, resolve
from se_keras.layers.squeeze_excite import SqueezeExcite, hidden_width, se_options

__all__ = [
    "ChannelGate",
    "LayerOptions",
    "SqueezeExcite",
    "hidden_width",
    "options_of",
    "resolve",
    "se_options",
]
