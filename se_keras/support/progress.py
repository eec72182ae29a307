"""Progress of long work, in the style of Keras."""

import sys


def progress_style() -> int:
    """Return Keras' `verbose` for standard output: 1 for a bar, 2 for plain lines.

    A bar is redrawn at each step, which would add a line for each step to a log file.

    Example:

    >>> from se_keras.support.progress import progress_style
    >>> progress_style() in (1, 2)
    True
    """
    return 1 if sys.stdout.isatty() else 2
