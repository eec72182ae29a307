"""The light and quiet start of the `se-keras` command."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def is_command() -> bool:
    """Return whether this process is the command `se-keras`, or `python -m se_keras`.

    Example:

    >>> from se_keras.support.startup import is_command
    >>> is_command()
    False
    """
    if Path(sys.argv[0]).name in ("se-keras", "se-keras.exe"):
        return True
    # "-m" is what Python has there until it has found the package that it is to run.
    return sys.argv[0] == "-m" and sys.orig_argv[-len(sys.argv)] in ("se_keras", "-mse_keras")


def load_keras() -> None:
    """Import Keras for a command, which has not done so yet.

    TensorFlow's libraries write notes on drivers and instruction sets to the standard error while
    they are loaded. They are held back, and shown where loading fails; `TF_CPP_MIN_LOG_LEVEL=0`
    shows all of it.
    """
    # TensorFlow's warnings are about the calls of this package, which a user can't change.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if "keras" in sys.modules:
        return
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        import keras
    else:
        with _standard_error_held_back():
            import keras  # noqa: F401


@contextmanager
def _standard_error_held_back() -> Iterator[None]:
    with tempfile.TemporaryFile() as notes:
        shown = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except Exception:
            notes.seek(0)
            os.write(shown, notes.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
