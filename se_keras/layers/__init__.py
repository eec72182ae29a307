"""Squeeze-and-excitation and related layers, which multiply a map by a gate."""

from collections.abc import Mapping
from typing import Any

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
from se_keras.support.errors import InputError

# Values of the option `attention` -> layers.
GATES: dict[str, type[ChannelGate]] = {
    "se": SqueezeExcite,
    "eca": EfficientChannelAttention,
    "ese": EffectiveSqueezeExcite,
    "scse": SpatialChannelSqueezeExcite,
    "ge": GatherExcite,
}


def refuse_options_of_others(attention: str, asked: Mapping[str, Any]) -> None:
    """Refuse options that this gate does not have, but one of its kin has.

    Args:
        attention: name of the gate.
        asked: the options, with their values.

    Raises:
        InputError: for such an option.

    Example:

    >>> from se_keras.layers import refuse_options_of_others
    >>> refuse_options_of_others("eca", {"kernel_size": 3, "pool": "max"})
    """
    for name in asked:
        owners = [repr(kind) for kind, gate in GATES.items() if name in options_of(gate)]
        if owners and repr(attention) not in owners:
            raise InputError(
                f"`{name}={asked[name]!r}` is an option of `attention={owners[0]}`"
                f"{''.join(f' or {owner}' for owner in owners[1:])}, not of {attention!r}."
            )


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
    "refuse_options_of_others",
    "resolve",
    "resolve_dtype",
    "se_options",
]
