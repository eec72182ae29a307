"""An open file of weights: tensors by name, and the facts that it states of their network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from se_keras.support.errors import damage_named
from se_keras.weights.identify import Shape, Traits


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of a file.

    Attributes:
        shape: its shape.
        dtype: NumPy's or ml_dtypes' name of its type.
        read: gives its values.
    """

    shape: Shape
    dtype: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An open file of weights.

    Attributes:
        source: what the user called it.
        tensors: its tensors by their names.
        architecture: name of the network, where `config.json` of the hub gives one.
        stranger: a sentence on the network, where it is none of the catalog.
        of_keras: whether Keras 3 wrote it.
        traits: of the network, where the file tells.
        notes: sentences on what was chosen in the file, for the plan.
    """

    source: str
    tensors: Mapping[str, Tensor]
    of_keras: bool = False
    architecture: str | None = None
    stranger: str | None = None
    traits: Traits = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def read(self, name: str) -> np.ndarray:
        """Return the values of a tensor, which are of the shape and type that the file gave.

        Raises:
            InputError: if they can't be read, or are others.
        """
        tensor = self.tensors[name]
        with damage_named(f"can't read {self.source}"):
            values = tensor.read()
            if values.shape != tensor.shape or str(values.dtype) != tensor.dtype:
                raise ValueError(
                    f"{name} was {tensor.dtype} {tensor.shape} before it was read, and is "
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
