"""Damage files: cut them, or change values of a JSON file or a table."""

import copy
import json

CUTS = (0, 1, 0.25, 0.5, 0.75, -1)  # bytes, or shares of the file; -1 is all but the last
NESTED = "[" * 100_000
SWAPS = (None, True, -1, 7, 10**400, 1e308, float("nan"), float("inf"), "x", "", "\ud800", [], {})


def cuts(content):
    """Return beginnings of a file by name."""
    for cut in CUTS:
        end = int(len(content) * cut) if isinstance(cut, float) else cut
        yield f"cut at {cut}", content[:end]


def other_bytes(content):
    """Return the file with invalid content."""
    yield "no UTF-8", content + b"\xff\xfe"
    yield "zeros", bytes(len(content))
    yield "another file", b"\x89PNG\r\n\x1a\n" + content
    yield "a list", b"[" + content + b"]"
    yield "null", b"null"
    yield "nested", NESTED.encode()
    yield "twice", content + content


def places(value, at=()):
    """Return the paths of all values in JSON; of each list only its first item's."""
    yield at
    if isinstance(value, dict):
        inner = value.items()
    else:
        inner = enumerate(value[:1]) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*at, key))


def swapped(content):
    """Return copies of an object in which one value is changed, missing, or has its key twice."""
    for at in list(places(content))[1:]:
        for value in SWAPS:
            yield f"{at} = {value!r:.20}", encoded(with_value(content, at, value))
        yield f"no {at}", encoded(with_value(content, at, None, drop=True))
    for key in content:
        text = encoded(content).decode()
        yield f"{key} twice", text.replace("{", f'{{"{key}": 1, ', 1).encode()


def with_value(content, at, value, drop=False):
    changed = copy.deepcopy(content)
    inner = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    if drop:
        del inner[at[-1]]
    return changed


def encoded(content):
    return json.dumps(content).encode()


def other_tables(content):
    """Return a CSV file with changed rows and columns."""
    header, *rows = content.decode().splitlines()
    columns = header.split(",")

    def table(rows):
        return "\n".join(rows).encode() + b"\n"

    yield "no header", table(rows)
    yield "header alone", table([header])
    yield "a column less", table([",".join(row.split(",")[1:]) for row in (header, *rows)])
    yield "a column in the header less", table([",".join(columns[1:]), *rows])
    yield "a column more in a row", table([header, rows[0] + ",1", *rows[1:]])
    yield "a column twice", table([f"{header},{columns[0]}", *(f"{row},1" for row in rows)])
    yield "a row twice", table([header, rows[0], *rows])
    yield "other order", table([header, *reversed(rows)])
    yield "an open quote", table([header, '"' + rows[0], *rows[1:]])
    yield "a long field", table([header, "x" * 200_000 + rows[0], *rows[1:]])
    yield "a zero byte", table([header, "\0" + rows[0], *rows[1:]])
    for number, name in enumerate(columns):
        for value in ("", "x", "nan", "inf", "-1", "1e400", "9" * 400, "[]"):
            cells = rows[0].split(",")
            cells[number] = value
            yield f"{name} = {value:.9}", table([header, ",".join(cells), *rows[1:]])
