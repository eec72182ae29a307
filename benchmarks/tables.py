"""README's tables of speed and of the studies, made of the CSV files.

python -m benchmarks.tables --check    exit code 1 if README has other tables
python -m benchmarks.tables --write    puts them between their marks in README
"""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.peers import Row
from benchmarks.results import AS_BUILT, OPTIMIZED, PLAIN, Result, read_rows
from benchmarks.study import STUDIES, Run
from benchmarks.study import table as study_table
from se_keras.support.files import written_beside

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
ENGINES = {
    "tf_saved_model": "TensorFlow",
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "pytorch": "PyTorch",
}
MAIN = "seresnet50"
BATCHES = (1, 8)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _results() -> list[Result]:
    return read_rows(Result, RESULTS / "bench.csv")


def ratios() -> str:
    """The main network: a row an engine and precision, a column a form and batch."""
    rows = [r for r in _results() if (r.model, r.against) == (MAIN, PLAIN) and r.batch in BATCHES]
    columns = [(form, batch) for form in (AS_BUILT, OPTIMIZED) for batch in BATCHES]
    lines = []
    for engine, precision in dict.fromkeys((row.format, row.precision) for row in rows):
        own = {(r.form, r.batch): r for r in rows if (r.format, r.precision) == (engine, precision)}
        cells = [_ratio(own[column]) if column in own else "" for column in columns]
        lines.append([f"{ENGINES[engine]} {precision}", *cells, *_figures(own)])
    header = [f"{form}, batch {batch}" for form, batch in columns]
    rest = [f"ms of batch {BATCHES[-1]}", "peak MB, SE / plain", "GFLOP/s / of a product"]
    return markdown(["engine", *header, *rest], lines)


def _ratio(row: Result) -> str:
    return f"{row.ratio:.3f} ({row.ratio_low:.3f} to {row.ratio_high:.3f})"


def _figures(own: dict[tuple[str, int], Result]) -> tuple[str, ...]:
    """Of the optimized network at the largest batch."""
    row = own.get((OPTIMIZED, BATCHES[-1]))
    if row is None:
        return ("", "", "")
    memory = f"{row.memory_mb:.0f} / {row.against_memory_mb:.0f}"
    return (f"{row.ms:.0f}", memory, f"{row.gflops:.0f} / {row.limit_gflops:.0f}")


def families() -> str:
    """The other networks, optimized: a row a network, a column an engine, precision and batch."""
    rows = [row for row in _results() if row.model != MAIN and row.form == OPTIMIZED]
    columns = list(dict.fromkeys((row.format, row.precision, row.batch) for row in rows))
    lines = []
    for model, against in dict.fromkeys((row.model, row.against) for row in rows):
        cells = {
            (row.format, row.precision, row.batch): f"{row.ratio:.3f}"
            for row in rows
            if row.model == model
        }
        lines.append([f"`{model}`", against, *(cells.get(column, "") for column in columns)])
    names = [f"{ENGINES[engine]} {precision}, {batch}" for engine, precision, batch in columns]
    return markdown(["network", "against", *names], lines)


def peers() -> str:
    """A row a peer and engine, batches beside one another; an engine's rows by time."""
    rows = read_rows(Row, RESULTS / "peers.csv")
    batches = sorted({row.batch for row in rows})
    names = dict.fromkeys((row.engine, row.peer, row.precision, row.stride) for row in rows)
    lines = []
    for name in names:
        own = {r.batch: r for r in rows if (r.engine, r.peer, r.precision, r.stride) == name}
        cells = [
            cell
            for batch in batches
            for cell in (
                (f"{own[batch].ms:.0f}", f"{own[batch].ratio:.3f}", _to_ours(own[batch]))
                if batch in own
                else ("", "", "")
            )
        ]
        lines.append([ENGINES[name[0]], *name[1:], *cells])
    heads = [f"{text}, {batch}" for batch in batches for text in ("ms", "SE / plain", "/ ours")]
    return markdown(["engine", "made by", "precision", "stride", *heads], lines)


def _to_ours(row: Row) -> str:
    return "" if row.to_ours is None else f"{row.to_ours:.2f}"


def study(name: str) -> str:
    """The variants of a study, a row each."""
    one = STUDIES[name]
    return markdown(*study_table(one, read_rows(Run, one.path)))


TABLES: dict[str, Callable[[], str]] = {
    "speed: ratios": ratios,
    "speed: families": families,
    "speed: peers": peers,
    **{f"study: {name}": functools.partial(study, name) for name in STUDIES},
}


def with_tables(text: str) -> str:
    """A text with each table between its marks.

    Raises:
        ValueError: if a table's marks are missing.
    """
    for name, make in TABLES.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"README has no marks {start.strip()!r} and {end!r}")
        text = "".join([before, start, make(), "\n", end, after])
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--check", action="store_true")
    choice.add_argument("--write", action="store_true")
    old = README.read_text("utf-8")
    new = with_tables(old)
    if parser.parse_args().write:
        with written_beside(README) as partial:
            partial.write_text(new, "utf-8")
    elif old != new:
        print("README's tables are stale: python -m benchmarks.tables --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
