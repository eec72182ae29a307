"""Training SE networks on images: the settings, the data, the run and its resuming."""

from typing import TYPE_CHECKING, Any

from se_keras.support.errors import InputError, backend_package
from se_keras.train.config import Cluster, TrainConfig

if TYPE_CHECKING:
    from se_keras.train.run import train

__all__ = ["Cluster", "InputError", "TrainConfig", "train"]


def __getattr__(name: str) -> Any:
    """Return `train`, whose first use imports TensorFlow."""
    if name != "train":
        raise AttributeError(f"module 'se_keras.train' has no attribute {name!r}")
    with backend_package():
        from se_keras.train.run import train

    return train
