"""Figures of matplotlib, which draws only where a command or a user asks for a picture."""

from typing import TYPE_CHECKING

from se_keras.support.errors import extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, sizes in inches.

    Raises:
        MissingExtraError: without matplotlib.

    Example:

    >>> from se_keras.support.plotting import new_figure
    >>> [float(side) for side in new_figure(8, 3).get_size_inches()]
    [8.0, 3.0]
    """
    with extra("train"):
        # Not pyplot: it would start a window system, and keep the figure.
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")
