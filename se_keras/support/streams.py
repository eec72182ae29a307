"""Hold back what libraries write to standard error."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A process has one standard error.
_ALONE = threading.RLock()


@contextmanager
def standard_error_held_back(is_shown: Callable[[bytes], bool]) -> Iterator[None]:
    """Hold back what a block writes to standard error, also from compiled code.

    Args:
        is_shown: whether a line is written after the block.

    Example:

    >>> from se_keras.support.streams import standard_error_held_back
    >>> with standard_error_held_back(lambda line: b"error" in line):
    ...     _ = os.write(2, b"a note\\n")
    """
    with _ALONE, tempfile.TemporaryFile() as notes:
        try:
            shown = os.dup(2)
        except OSError:  # it is closed
            yield
            return
        os.dup2(notes.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            notes.seek(0)
            for line in filter(is_shown, notes):
                os.write(2, line)
