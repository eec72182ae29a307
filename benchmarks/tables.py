"""Make the tables of README and `docs/` from the CSV files and the catalog.

python -m benchmarks.tables --check    exit code 1 if the tables in the pages are stale
python -m benchmarks.tables --write    write the tables between their marks in the pages
"""

import argparse
import functools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import all as whole_run
from benchmarks import (
    device_step,
    fine_tuning,
    folder_training,
    layer_speed,
    memory,
    paired,
    published,
    training_step,
    training_xla,
)
from benchmarks.peers import Row
from benchmarks.results import AS_BUILT, BY_KERAS, OPTIMIZED, PLAIN, Result, one_run, read_rows
from benchmarks.study import STUDIES, Run
from benchmarks.study import table as study_table
from se_keras.models.recipes import RECIPES, Recipe
from se_keras.support.files import written_beside
from se_keras.weights.presets import PRESETS, Preset

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
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
RUN_STUDIES = [name for name, one in STUDIES.items() if one.path.exists()]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(kind: type[Any], path: Path) -> Sequence[Any]:
    """Return the rows of a file, which must be of one run."""
    return one_run(path, read_rows(kind, path))


def _results(name: str = "bench") -> Sequence[Result]:
    return _rows(Result, RESULTS / f"{name}.csv")


def ratios() -> str:
    """Tabulate the main network: rows are engines and precisions, columns forms and batches."""
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
    """Return the other figures of the optimized network at the largest batch."""
    row = own.get((OPTIMIZED, BATCHES[-1]))
    if row is None:
        return ("", "", "")
    memory = f"{row.memory_mb:.0f} / {row.against_memory_mb:.0f}"
    return (f"{row.ms:.0f}", memory, f"{row.gflops:.0f} / {row.limit_gflops:.0f}")


def families() -> str:
    """Tabulate the other networks, optimized: rows are networks, columns engines and batches."""
    rows = [row for row in _results("families") if row.form == OPTIMIZED]
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
    """Tabulate other libraries: rows are libraries and engines, columns batches."""
    rows = _rows(Row, RESULTS / "peers.csv")
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


def pairs() -> str:
    """Tabulate the paired tests: rows are networks and batches, columns engines."""
    rows = [row for row in _paired_rows(AS_BUILT) if not row.without]
    formats = list(dict.fromkeys(row.format for row in rows))
    found = {(row.model, row.batch, row.format): row for row in rows}
    lines = []
    for model, batch in dict.fromkeys((row.model, row.batch) for row in rows):
        own = [found.get((model, batch, format)) for format in formats]
        size = next(row.size for row in own if row)
        lines.append([f"`{model}`", f"{size}", f"{batch}", *map(_pair, own)])
    return markdown(["network", "pixels", "batch", *(ENGINES[name] for name in formats)], lines)


def by_keras() -> str:
    """Tabulate our SavedModels against Keras'."""
    header = ["network", "pixels", "batch", "ms", "Keras' export, ms", "ratio"]
    lines = []
    for row in _paired_rows(BY_KERAS):
        times = (f"{ms:.1f}" for ms in (row.ms, row.against_ms))
        lines.append([f"`{row.model}`", f"{row.size}", f"{row.batch}", *times, _pair(row)])
    return markdown(header, lines)


def _paired_rows(against: str) -> list[paired.Row]:
    rows = _rows(paired.Row, RESULTS / "paired.csv")
    return [row for row in rows if row.against == against]


def _pair(row: paired.Row | None) -> str:
    if row is None:
        return ""
    if row.ratio is None:
        return row.verdict
    return f"{row.ratio:.3f} ({row.ratio_low:.3f} to {row.ratio_high:.3f}), {row.verdict}"


def peaks() -> str:
    """Tabulate the peak memory of each operation."""
    return markdown(*memory.table(_rows(memory.Row, memory.RESULTS)))


def folder() -> str:
    """Tabulate training from a folder."""
    rows = _rows(folder_training.Row, folder_training.RESULTS)
    return markdown(*folder_training.table(rows))


def device() -> str:
    """Tabulate networks on a GPU."""
    return markdown(*device_step.table(read_rows(device_step.Row, device_step.RESULTS)))


def layer() -> str:
    """Tabulate the layers without a network around them."""
    return markdown(*layer_speed.table(_rows(layer_speed.Row, layer_speed.RESULTS)))


def training() -> str:
    """Tabulate a training step with SE and without."""
    return markdown(*training_step.table(_rows(training_step.Row, training_step.RESULTS)))


def xla() -> str:
    """Tabulate training in TensorFlow with XLA and without."""
    return markdown(*training_xla.table(_rows(training_xla.Row, training_xla.RESULTS)))


def loads() -> str:
    """Tabulate how loaded the machine was, step by step; the files may be of several runs."""
    return markdown(*whole_run.table(read_rows(whole_run.StepRow, RESULTS / whole_run.RUN_FILE)))


def study(name: str) -> str:
    """Tabulate the variants of a study, one per row."""
    one = STUDIES[name]
    return markdown(*study_table(one, _rows(Run, one.path)))


def tuning() -> str:
    """Tabulate the ways of fine-tuning, one per row."""
    rows = read_rows(fine_tuning.Row, fine_tuning.RESULTS)
    return markdown(*fine_tuning.table(rows))


def short_ratios() -> str:
    """Tabulate the main network, optimized: rows are engines in their usual precisions."""
    rows = [r for r in _results() if (r.model, r.against) == (MAIN, PLAIN) and r.form == OPTIMIZED]
    names = dict.fromkeys((r.format, r.precision) for r in rows if r.precision != "bfloat16")
    ratio = {(r.format, r.precision, r.batch): f"{r.ratio:.2f}" for r in rows}
    header = ["engine", *(f"batch {batch}" for batch in BATCHES)]
    lines = [
        [f"{ENGINES[engine]} {precision}", *(ratio[engine, precision, b] for b in BATCHES)]
        for engine, precision in names
    ]
    return markdown(header, lines)


def short_studies() -> str:
    """Tabulate the plain network and the standard block of each study."""
    lines = []
    for name in RUN_STUDIES:
        one = STUDIES[name]
        header, rows = study_table(one, _rows(Run, one.path))
        cells = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
        error, difference = "test error, %", "minus plain"
        plain, se = cells["plain"], cells["SE"]
        images = re.sub(r"_\d+$", "", name).replace("_", "-")
        lines.append([images, f"{one.images:,}", str(one.epochs)])
        lines[-1] += [plain[error], se[error], se[difference]]
    return markdown(["images", "to train", "epochs", "plain", "SE", "difference"], lines)


def networks() -> str:
    """Tabulate the networks of the catalog."""
    header = ("network", "builder", "pixels", "parameters", "multiply-adds")
    rows = [
        [f"`{row.name}`", f"`{row.builder}`", *map("{:,}".format, _sizes(row))] for row in RECIPES
    ]
    return markdown(header, rows)


def _sizes(row: Recipe) -> tuple[int, ...]:
    return row.input_size, row.parameters, row.multiply_adds


def weights() -> str:
    """Tabulate the published weights; a star marks `weights="imagenet"`."""
    header = ("network", "weights", "pixels", "crop", "resize", "top-1 %")
    return markdown(
        [*header, "test pixels", "crop", "top-1 %"], [_row_of_weights(row) for row in PRESETS]
    )


def _row_of_weights(preset: Preset) -> tuple[str, ...]:
    address = preset.source.partition("#")[0]
    file = address.removeprefix("hf://") if "hf:" in address else address.rpartition("/")[2]
    pixels, second = preset.pixels, preset.pixels.second
    own = (f"{pixels.size}", f"{pixels.crop}", pixels.interpolation, _percent(preset.top1))
    larger = (f"{second.size}", f"{second.crop:g}", _percent(second.top1)) if second else ("",) * 3
    return (f"`{preset.recipe}`{' *' if preset.best else ''}", file, *own, *larger)


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.2f}"


TABLES: dict[str, Callable[[], str]] = {
    "catalog: networks": networks,
    "catalog: weights": weights,
    "speed: ratios": ratios,
    "speed: families": families,
    "speed: peers": peers,
    "speed: short": short_ratios,
    "speed: paired": pairs,
    "speed: by Keras": by_keras,
    "speed: memory": peaks,
    "speed: layer": layer,
    "speed: training": training,
    "speed: xla": xla,
    "study: pytorchcv": lambda: markdown(*published.pair_table(published.read_pairs())),
    "study: pytorchcv in short": lambda: markdown(*published.summary(published.read_pairs())),
    "study: short": short_studies,
    "study: tuning": tuning,
    **{f"study: {name}": functools.partial(study, name) for name in RUN_STUDIES},
}
if device_step.RESULTS.exists():
    TABLES["speed: device"] = device
# These files are missing until a run of `benchmarks.all` is published.
if folder_training.RESULTS.exists():
    TABLES["speed: folder"] = folder
if (RESULTS / whole_run.RUN_FILE).exists():
    TABLES["speed: loads"] = loads
MARKS = re.compile(r"(?<=<!-- )(\w+: [\w ]+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """Return a text with each table between its marks.

    Raises:
        ValueError: if a mark names no table.
    """

    def fill(found: re.Match) -> str:
        name, end = found[1], found[2]
        if name not in TABLES:
            raise ValueError(f"There is no table {name!r}; there are {', '.join(TABLES)}.")
        return "".join([name, end, TABLES[name](), "\n"])

    return MARKS.sub(fill, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--check", action="store_true")
    choice.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    texts = {page: page.read_text("utf-8") for page in PAGES}
    stale = {page: new for page, old in texts.items() if (new := with_tables(old)) != old}
    for page, text in stale.items():
        if write:
            with written_beside(page) as partial:
                partial.write_text(text, "utf-8")
        else:
            print(f"{page.name} is stale: python -m benchmarks.tables --write", file=sys.stderr)
    return 1 if stale and not write else 0


if __name__ == "__main__":
    sys.exit(main())
