"""Figures of matplotlib, which draws only where a command or a user asks for a picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from se_keras.support.errors import extra
from se_keras.support.files import written_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure; sizes are in inches.

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


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure to a file, in the format that the file's suffix says.

    Example:

    >>> import tempfile
    >>> from se_keras.support.plotting import new_figure, save_figure
    >>> path = Path(tempfile.mkdtemp()) / "empty.png"
    >>> save_figure(new_figure(2, 1), path)
    >>> path.read_bytes()[1:4]
    b'PNG'
    """
    with written_beside(path) as partial:
        figure.savefig(partial, dpi=DPI)
