"""Squeeze-and-excitation for Keras 3."""

from importlib import import_module
from typing import Any

from se_keras.models.recipes import RECIPES
from se_keras.support.arguments import did_you_mean
from se_keras.support.errors import OTHER_BACKEND, backend_package
from se_keras.support.signals import end_at_once_on_signals
from se_keras.support.startup import is_command

__version__ = "0.1.0"

# The public names by their modules.
_HOMES = {
    "blocks": ["se_block"],
    "class_names": ["decode_predictions"],
    "catalog": ["create", *(recipe.builder for recipe in RECIPES)],
    "counting": ["count"],
    "deploy.export": ["export"],
    "rewrite.optimize": ["optimize"],
    "explain": ["plot_excitations", "prune_se", "record_excitations"],
    "layers": [
        "EffectiveSqueezeExcite",
        "EfficientChannelAttention",
        "GatherExcite",
        "SpatialChannelSqueezeExcite",
        "SqueezeExcite",
    ],
    "models.recipes": ["list_models"],
    "pixels": ["load_image", "pixels_of", "preprocess_input"],
    "support.errors": ["InputError"],
    "surgery": ["find_sites", "insert_se", "remove_se"],
    "weights.convert": ["load_weights", "save_timm"],
    "weights.preprocessing": ["Pixels"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted([*_HOME_OF, "ops"])


def __getattr__(name: str) -> Any:
    """Return a public name or module, and import it if needed."""
    if name in ("ops", "train"):
        return import_module(f"se_keras.{name}")
    if name in _HOME_OF:
        return getattr(import_module(f"se_keras.{_HOME_OF[name]}"), name)
    hint = did_you_mean(name, __all__)
    # Setting `obj` keeps Python from adding its own suggestion.
    raise AttributeError(f"module 'se_keras' has no attribute {name!r}.{hint}", obj=None)


def __dir__() -> list[str]:
    return [*__all__, "train"]


if is_command():
    end_at_once_on_signals()
else:
    # Import all at once: Keras finds the layers of a saved model only if they are imported.
    with backend_package(OTHER_BACKEND):
        for _home in _HOMES:
            import_module(f"se_keras.{_home}")
