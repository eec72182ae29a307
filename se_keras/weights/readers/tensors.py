"""An open file of weights: its tensors by name, and facts about their network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from se_keras.support.errors import damage_named
from se_keras.weights.identify import Shape, Traits


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of a file.

    Attributes:
        shape: shape of the tensor.
        dtype: NumPy's or ml_dtypes' name of the type.
        read: function that returns the values.
    """

    shape: Shape
    dtype: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An open file of weights.

    Attributes:
        source: the user's name for the file.
        tensors: the tensors by their names.
        architecture: name of the network, if the hub's `config.json` states it.
        stranger: a sentence on the network, if it is not in the catalog.
        of_keras: whether Keras 3 wrote the file.
        traits: traits of the network, if the file shows them.
        notes: sentences for the plan on the choices that were made within the file.
    """

    source: str
    tensors: Mapping[str, Tensor]
    of_keras: bool = False
    architecture: str | None = None
    stranger: str | None = None
    traits: Traits = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def read(self, name: str) -> np.ndarray:
        """Return the values of a tensor, and check their shape and type.

        Raises:
            InputError: if the values can't be read, or have another shape or type.
        """
        tensor = self.tensors[name]
        with damage_named(f"can't read {self.source}"):
            values = tensor.read()
            if values.shape != tensor.shape or str(values.dtype) != tensor.dtype:
                raise ValueError(
                    f"{name} must be {tensor.dtype} {tensor.shape}, got "
                    f"{values.dtype} {values.shape}"
                )
        return values


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The result of a reader, with the attributes of `Checkpoint`."""

    tensors: Mapping[str, Tensor]
    traits: Traits = field(default_factory=dict)
    of_keras: bool = False
    notes: tuple[str, ...] = ()


def as_bfloat16(bits: np.ndarray) -> np.ndarray:
    import ml_dtypes  # NumPy has no such type; Keras depends on this package

    return bits.view(ml_dtypes.bfloat16)
