"""Plain text tables, in which plans and counts are printed."""

import unicodedata
from collections.abc import Sequence

# Invisible characters that change the direction of the text after them.
TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format rows of cells under a header; integers get separators and are right-aligned.

    Args:
        header: name of each column.
        rows: one cell for each column; `None` is an empty cell.

    Returns:
        The table as text, without a line break at the end.

    Example:

    >>> from se_keras.support.tables import format_table
    >>> print(format_table(["layer", "parameters"], [["conv", 9408], ["relu", 0]]))
    layer  parameters
    conv        9,408
    relu            0
    """
    texts = [list(header), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numeric = [any(type(cell) is int for cell in column) for column in zip(*rows, strict=True)]
    numeric = numeric or [False] * len(widths)
    lines = (
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        for line in texts
    )
    return "\n".join(line.rstrip() for line in lines)


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:,}" if type(cell) is int else visible(str(cell))


def visible(text: str) -> str:
    r"""Escape the characters of a text that would break its line or change its direction.

    Example:

    >>> from se_keras.support.tables import visible
    >>> visible("gpj.\u202ecat\n")
    'gpj.\\u202ecat\\n'
    """
    return "".join(
        char.encode("unicode_escape").decode() if _moves(char) else char for char in text
    )


def _moves(char: str) -> bool:
    controls = ("Cc", "Cs", "Zl", "Zp")
    return unicodedata.category(char) in controls or unicodedata.bidirectional(char) in TURNS
