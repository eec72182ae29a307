"""Squeeze-and-excitation for Keras 3."""

from collections.abc import Callable

from se_keras.support.startup import quiet_command

with quiet_command():
    import keras  # noqa: F401  (first, for its TensorFlow)

from se_keras import ops
from se_keras.blocks import se_block
from se_keras.catalog import create, named_builder
from se_keras.counting import count
from se_keras.deploy.export import export
from se_keras.deploy.rewrites import optimize
from se_keras.explain import plot_excitations, prune_se, record_excitations
from se_keras.layers import SqueezeExcite
from se_keras.models.recipes import RECIPES, list_models
from se_keras.preprocessing import decode_predictions, load_image, preprocess_input
from se_keras.support.arguments import did_you_mean
from se_keras.support.errors import InputError
from se_keras.surgery import find_sites, insert_se, remove_se
from se_keras.weights.convert import load_weights, save_timm

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "SqueezeExcite",
    "count",
    "create",
    "decode_predictions",
    "export",
    "find_sites",
    "insert_se",
    "list_models",
    "load_image",
    "load_weights",
    "ops",
    "optimize",
    "plot_excitations",
    "preprocess_input",
    "prune_se",
    "record_excitations",
    "remove_se",
    "save_timm",
    "se_block",
    *(recipe.builder for recipe in RECIPES),
]


def __getattr__(name: str) -> Callable:
    """The named builders, one a row of the catalog."""
    if name not in __all__:
        hint = did_you_mean(name, __all__)
        # With `obj` given, Python adds no suggestion of its own after ours.
        raise AttributeError(f"module 'se_keras' has no attribute {name!r}.{hint}", obj=None)
    return named_builder(name)


def __dir__() -> list[str]:
    return __all__
