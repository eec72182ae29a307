"""Squeeze-and-excitation for Keras 3."""

from se_keras import ops
from se_keras.blocks import se_block
from se_keras.layers import SqueezeExcite

__version__ = "0.1.0"
__all__ = ["SqueezeExcite", "ops", "se_block"]
