"""Start the `se-keras` command quickly and quietly."""

import importlib
import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from se_keras.support.errors import OTHER_BACKEND, InputError, backend_package, in_one_line
from se_keras.support.signals import signals_wait
from se_keras.support.streams import standard_error_held_back


def is_command() -> bool:
    """Return whether this process is the command `se-keras`, or `python -m se_keras`.

    Example:

    >>> from se_keras.support.startup import is_command
    >>> is_command()
    False
    """
    if Path(sys.argv[0]).name in ("se-keras", "se-keras.exe"):
        return True
    # Python sets "-m" until it has found the package to run.
    return sys.argv[0] == "-m" and sys.orig_argv[-len(sys.argv)] in ("se_keras", "-mse_keras")


def load_keras() -> None:
    """Import Keras without TensorFlow's notes on drivers and instruction sets.

    The notes are shown if the import fails, or with `TF_CPP_MIN_LOG_LEVEL=0`.

    Raises:
        InputError: if Keras has no such backend.
    """
    with backend_package(OTHER_BACKEND):
        try:
            _load_quietly("keras")
        except ValueError as error:  # an unknown backend in KERAS_BACKEND or Keras' settings
            raise InputError(
                f"Keras can't start: {in_one_line(error)}. Set KERAS_BACKEND to tensorflow, jax "
                "or torch."
            ) from error


def load_tensorflow() -> None:
    """Import TensorFlow, which reads images and exports with any backend, without its notes.

    Raises:
        MissingExtraError: if it is missing.
    """
    with backend_package():
        _load_quietly("tensorflow")


def _load_quietly(package: str) -> None:
    # TensorFlow's warnings are about calls within this package, which a user can't change.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if package in sys.modules:
        return
    loud = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0"
    failed = False
    with (
        signals_wait(),
        nullcontext() if loud else standard_error_held_back(lambda line: failed),
    ):
        try:
            importlib.import_module(package)
        except Exception:
            failed = True
            raise
