"""Progress of long work, as Keras shows it."""

import sys


def progress_style() -> int:
    """Return Keras' `verbose` for standard output: 1, a bar, or 2, plain lines.

    A bar draws itself anew at each step, which a log file would show as a line each.

    Example:

    >>> from se_keras.support.progress import progress_style
    >>> progress_style() in (1, 2)
    True
    """
    return 1 if sys.stdout.isatty() else 2
