"""Draw the rows of a benchmark."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from benchmarks.results import AS_BUILT, OPTIMIZED, Result
from se_keras.support.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {AS_BUILT: "tab:orange", OPTIMIZED: "tab:blue"}


def draw_ratios(results: Sequence[Result]) -> "Figure":
    """Draw ratios with quartiles: one panel per model, one line per engine and setting."""
    models = sorted({(result.model, result.against) for result in results})
    panels = [[r for r in results if (r.model, r.against) == model] for model in models]
    heights = [len(set(map(_place, panel))) for panel in panels]
    figure = new_figure(8, 0.8 * len(models) + 0.28 * sum(heights) + 0.6)
    grid: Any = figure.subplots(len(models), 1, squeeze=False, height_ratios=heights).ravel()
    for axes, (model, against), panel in zip(grid, models, panels, strict=True):
        _draw_panel(axes, panel)
        other = f"its time {against}" if against == AS_BUILT else f"the time of its {against}"
        axes.set_title(f"{model}: time divided by {other}", fontsize=10)
    return figure


def _place(result: Result) -> str:
    engine = f"{result.engine}, {result.precision}"
    return f"{engine}, batch {result.batch}, {result.size} px, threads {result.threads}"


def _draw_panel(axes: "Axes", results: Sequence[Result]) -> None:
    places = list(dict.fromkeys(map(_place, results)))
    for form, color in COLORS.items():
        rows = [result for result in results if result.form == form]
        ratios = [row.ratio for row in rows]
        spread = [
            [row.ratio - row.ratio_low for row in rows],
            [row.ratio_high - row.ratio for row in rows],
        ]
        at = [places.index(_place(row)) for row in rows]
        if rows:
            axes.errorbar(ratios, at, xerr=spread, fmt="o", color=color, label=form, capsize=2)
    axes.axvline(1, color="gray", linewidth=1)
    axes.set_yticks(range(len(places)), places, fontsize=7)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8)


def draw_growth(results: Sequence[Result]) -> "Figure":
    """Draw operations per second by batch, one line per size, with the engine's limit."""
    rows = sorted((r for r in results if r.form == OPTIMIZED), key=lambda r: (_kind(r), r.size))
    kinds = [list(group) for _, group in groupby(rows, key=_kind)]
    columns = min(3, len(kinds)) or 1
    lines = -(-len(kinds) // columns) or 1
    figure = new_figure(4.2 * columns, 3.2 * lines)
    grid: Any = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, kind in zip(grid, kinds, strict=False):
        _draw_sizes(axes, kind)
    for axes in grid[len(kinds) :]:
        axes.set_axis_off()
    return figure


def _draw_sizes(axes: "Axes", results: Sequence[Result]) -> None:
    for size, group in groupby(results, key=lambda row: row.size):
        points = sorted((row.batch, row.gflops) for row in group)
        axes.plot(*zip(*points, strict=True), marker="o", label=f"{size} px")
    limit = results[0].limit_gflops
    axes.axhline(limit, color="gray", linestyle="--", label="product of matrices")
    axes.set_title("\n".join(_title(results[0])), fontsize=8)
    axes.set_xscale("log", base=2)
    batches = sorted({row.batch for row in results})
    axes.set_xticks(batches, map(str, batches))
    top = 1.1 * max(limit, *(row.gflops for row in results))
    axes.set(xlabel="batch", ylabel="GFLOP/s", ylim=(0, top))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")


def _kind(result: Result) -> tuple:
    return (result.model, result.engine, result.precision, result.threads, result.machine)


def _title(result: Result) -> tuple[str, str]:
    return result.model, f"{result.engine}, {result.precision}, threads {result.threads}"
