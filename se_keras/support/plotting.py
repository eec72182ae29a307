"""Figures of matplotlib, which is imported only when a figure is drawn."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from se_keras.support.errors import extra
from se_keras.support.files import written_beside
from se_keras.support.tables import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
# Matplotlib's default font, which it includes.
FONT = "DejaVu Sans"
# A font of matplotlib that shows every character as a box.
BOXES = "Last Resort"
LONGEST_NAME = 24


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
        # Not pyplot, which would start a window system and keep the figure in memory.
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure to a file, in the format of the file's suffix.

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


def shorten(name: str) -> str:
    """Shorten a name for a picture: leave out the middle of a long name.

    Example:

    >>> from se_keras.support.plotting import shorten
    >>> shorten("a_very_long_name_of_a_class")
    'a_very_long_…e_of_a_class'
    """
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME + 1 else f"{name[:half]}…{name[-half:]}"


def show_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    r"""Return names as this machine's fonts can show them, and the fonts to use in order.

    Invisible characters and characters that no font has are escaped.

    Example:

    >>> from se_keras.support.plotting import show_names
    >>> show_names(["cat", "кошка", "a\tb"])
    (['cat', 'кошка', 'a\\tb'], ['DejaVu Sans'])
    """
    names = [visible(name) for name in names]
    files = _font_files()
    fonts, missing = [FONT], set("".join(names)) - _characters(files[FONT])
    # Read further fonts only if a name needs them: there may be hundreds.
    for font, file in files.items() if missing else ():
        if found := missing & _characters(file):
            fonts.append(font)
            missing -= found
    escapes = {ord(char): char.encode("unicode_escape").decode() for char in missing}
    return [name.translate(escapes) for name in names], fonts


def _font_files() -> dict[str, str]:
    """Return the file of each font's upright face, the regular weight if it exists."""
    from matplotlib.font_manager import fontManager

    faces = (face for face in fontManager.ttflist if face.style == "normal")
    in_order = sorted(faces, key=lambda face: (face.weight == 400, face.name))
    return {face.name: face.fname for face in in_order if not face.name.startswith(BOXES)}


@functools.cache
def _characters(file: str) -> frozenset[str]:
    """Return the characters that a font can draw at any size."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError):  # ignore an unreadable font
        return frozenset()
