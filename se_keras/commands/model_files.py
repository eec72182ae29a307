"""Load the model of a run's folder or of a `.keras` file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.images import line_of
from se_keras.support.arguments import did_you_mean
from se_keras.support.errors import InputError
from se_keras.support.files import neighbors
from se_keras.support.startup import load_keras

if TYPE_CHECKING:
    import keras


def model_file(path: str | os.PathLike) -> Path:
    """Return the `.keras` file at a path: the path itself, or `model.keras` of a run's folder.

    Raises:
        InputError: if there is no such file.

    Example:

    >>> from se_keras.commands.model_files import model_file
    >>> model_file("missing.keras")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: There is no missing.keras.
    """
    path = Path(path).expanduser()
    file = path / "model.keras" if path.is_dir() else path
    if file.is_file() and file.suffix.lower() == ".keras":
        return file
    named = line_of(path)
    if (path / "settings.json").is_file():
        raise InputError(
            f"The run {named} is not finished: `se-keras train --resume` continues it."
        )
    if not path.exists():
        raise InputError(f"There is no {named}.{did_you_mean(path, neighbors(path))}")
    raise InputError(
        f"The model must be a .keras file or the folder of a run, got {named}. If it is a file of "
        f"weights, `se-keras convert {named} OUT.keras --model NAME` makes a .keras file."
    )


def open_model(path: str | os.PathLike) -> "keras.Model":
    """Load the model of a run's folder or a `.keras` file, without its compilation.

    Raises:
        InputError: if there is no model, or it can't be read.
    """
    file = model_file(path)
    load_keras()
    import se_keras.catalog  # noqa: F401  (registers all layers of the package)
    from se_keras.weights.readers.keras3 import load_archive

    return load_archive(file)


def check_takes_images(shape: Any, file: Path) -> None:
    """Refuse a model whose input is not one batch of images (N, H, W, C).

    Args:
        shape: shape of the input; `None` if it is unknown.
        file: file of the model.

    Raises:
        InputError: if the shape is not (N, H, W, C).

    Example:

    >>> from pathlib import Path
    >>> from se_keras.commands.model_files import check_takes_images
    >>> check_takes_images((None, 32, 32, 3), Path("model.keras"))
    """
    if not isinstance(shape, tuple) or len(shape) != 4:
        got = shape or "an unknown shape"
        raise InputError(f"{file} must take images (N, H, W, C), got {got}.")
