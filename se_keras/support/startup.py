"""What TensorFlow says while it is loaded, kept from those who use the command line."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def quiet_command() -> Iterator[None]:
    """Holds back the standard error while `se-keras` loads its packages; a script's it leaves.

    TensorFlow's libraries write notes on drivers and instruction sets there before they read
    `TF_CPP_MIN_LOG_LEVEL`. With `TF_CPP_MIN_LOG_LEVEL=0` all of it is shown, and where loading
    fails too.

    Example:

    >>> from se_keras.support.startup import quiet_command
    >>> with quiet_command():
    ...     import keras
    """
    if not _is_command() or os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    with tempfile.TemporaryFile() as notes:
        shown = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            notes.seek(0)
            os.write(shown, notes.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


def _is_command() -> bool:
    # "-m" is what Python has there until it has found the package that it is to run.
    return sys.argv[0] == "-m" or Path(sys.argv[0]).stem == "se-keras"
