"""`plot_excitations`: draw the paper's Figures 6 and 7, and a picture of all layers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from se_keras.explain.statistics import ExcitationStats, LayerStats
from se_keras.support.arguments import instance_of, items_of
from se_keras.support.arguments import path as checked_path
from se_keras.support.errors import InputError, shown
from se_keras.support.plotting import new_figure, save_figure, shorten, show_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The paper draws 50 channels, with four classes in Figure 6 and two in Figure 7 (sec. 7.2). Here
# the number of classes is limited by matplotlib's colors.
SHOWN_CHANNELS = 50
COMPARED_CLASSES, SPREAD_CLASSES = 10, 2
LEGEND_COLUMNS = 6
MAP_CLASSES = 4
# With more layers, their names would overlap.
NAMED_LAYERS = 60
HEAT_COLUMNS = 512


def plot_excitations(
    stats: ExcitationStats,
    classes: Sequence[str | int] | None = None,
    path: str | Path | None = None,
) -> "dict[str, Figure]":
    """Draw statistics of the gates (arXiv 1709.01507, sec. 7.2).

    In a notebook, run `%matplotlib inline` to see the figures.

    Args:
        stats: result of `record_excitations`.
        classes: the classes to compare, by name or number; `None` for the first ten. The titles
            state the number of shown classes.
        path: a folder for `classes.png`, `spread.png`, `layers.png` and, if there is such a
            figure, `maps.png`. The folder is made if needed; `None` writes no files.

    Returns:
        A dict of `matplotlib` figures.

        - `"classes"`, the paper's Figure 6: mean gate of 50 evenly chosen channels, for each class
          and for all images. There is a panel for the last SE layer of each stage (a stage is a
          sequence of layers with equally many channels);
        - `"spread"`, the paper's Figure 7: mean and standard deviation within the first two of the
          classes, in the same layers;
        - `"layers"`: mean and standard deviation of every channel of every layer over all images;
        - `"maps"`, only if gates differ between positions: their mean at each position, for all
          images and for the first four of the classes.

    Raises:
        InputError: if `stats` does not have a class.
        MissingExtraError: without matplotlib.

    Example:

    >>> import keras, numpy as np
    >>> import se_keras
    >>> x = keras.Input((4, 4, 8))
    >>> model = keras.Model(x, se_keras.SqueezeExcite(4)(x))
    >>> data = np.random.default_rng(0).random((8, 4, 4, 8), "float32"), np.arange(8) % 2
    >>> stats = se_keras.record_excitations(model, data, verbose=False)
    >>> sorted(se_keras.plot_excitations(stats, classes=[0, 1]))
    ['classes', 'layers', 'spread']
    """
    instance_of("stats", stats, ExcitationStats, "the result of `record_excitations`")
    chosen = stats.classes[:COMPARED_CLASSES] if classes is None else classes
    numbers = [stats.class_number(name) for name in items_of(chosen) or ()]
    if not numbers:
        raise InputError(f"`classes` must be some of {stats.classes}, got {shown(classes)}.")
    figures = {
        "classes": _draw_classes(stats, numbers),
        "spread": _draw_spread(stats, numbers[:SPREAD_CLASSES]),
        "layers": _draw_layers(stats),
    }
    with_maps = [layer for layer in stats.layers if layer.map is not None]
    if with_maps:
        figures["maps"] = _draw_maps(stats, with_maps, numbers[:MAP_CLASSES])
    if path is not None:
        folder = checked_path("path", path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            wrong = f"can't make the folder {shown(str(folder))}: {error.strerror}"
            raise InputError(f"`path`: {wrong}.") from error
        for name, figure in figures.items():
            save_figure(figure, folder / f"{name}.png")
    return figures


def last_of_stages(layers: Sequence[LayerStats]) -> list[LayerStats]:
    """Return the last layer of each sequence of layers with equally many channels."""
    following = [*layers[1:], None]
    return [
        layer
        for layer, after in zip(layers, following, strict=True)
        if after is None or after.channels != layer.channels
    ]


def _draw_classes(stats: ExcitationStats, numbers: Sequence[int]) -> "Figure":
    figure, panels = _make_panels(last_of_stages(stats.layers))
    for axes, layer in panels:
        shown = _choose_channels(layer)
        for number in numbers:
            axes.plot(shown, layer.mean[number, shown], label=stats.classes[number], linewidth=1)
        axes.plot(shown, layer.mean_of_all[shown], "k--", label="all images", linewidth=1.5)
    _add_legend(figure, panels)
    figure.suptitle(
        f"Mean gate of {_classes_in_words(stats, numbers)}: where the lines differ, the layer "
        "distinguishes classes"
    )
    return figure


def _draw_spread(stats: ExcitationStats, numbers: Sequence[int]) -> "Figure":
    figure, panels = _make_panels(last_of_stages(stats.layers))
    for axes, layer in panels:
        shown = _choose_channels(layer)
        for number in numbers:
            mean, std = layer.mean[number, shown], layer.std[number, shown]
            axes.plot(shown, mean, label=stats.classes[number], linewidth=1)
            axes.fill_between(shown, mean - std, mean + std, alpha=0.25)
    _add_legend(figure, panels)
    figure.suptitle(
        f"Gates of {_classes_in_words(stats, numbers)}: mean and standard deviation over the "
        "images of each class"
    )
    return figure


def _draw_layers(stats: ExcitationStats) -> "Figure":
    """Draw each layer as a row of full width, with channels sorted by their mean gate."""
    means, stds = [], []
    for layer in stats.layers:
        order = np.argsort(layer.mean_of_all)
        stretched = order[np.arange(HEAT_COLUMNS) * layer.channels // HEAT_COLUMNS]
        means.append(layer.mean_of_all[stretched])
        stds.append(layer.std_of_all[stretched])
    figure = new_figure(11, 2 + 0.25 * min(len(means), NAMED_LAYERS))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, title in ((left, means, "mean gate"), (right, stds, "standard deviation")):
        image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis")
        axes.set(
            title=f"{title} over all images", xticks=[], xlabel="channels, from closed to open"
        )
        figure.colorbar(image, ax=axes)
    if len(means) <= NAMED_LAYERS:
        left.set_yticks(range(len(means)), [layer.name for layer in stats.layers])
    return figure


def _draw_maps(
    stats: ExcitationStats, layers: Sequence[LayerStats], numbers: Sequence[int]
) -> "Figure":
    """Draw each layer as a row of maps of one scale: of all images, and of each class."""
    layers = layers if len(layers) <= NAMED_LAYERS else last_of_stages(layers)
    # One class alone is all images.
    numbers = numbers if len(stats.classes) > 1 else []
    figure = new_figure(3 + 2 * len(numbers), 0.8 + 1.9 * len(layers))
    grid: Any = figure.subplots(len(layers), 1 + len(numbers), squeeze=False)
    for row, layer in zip(grid, layers, strict=True):
        assert layer.map is not None  # or it would not be among them
        maps = [_as_picture(one) for one in (layer.map_of_all, *layer.map[numbers])]
        scale = {"vmin": min(map(np.min, maps)), "vmax": max(map(np.max, maps))}
        for axes, one in zip(row, maps, strict=True):
            image = axes.imshow(one, interpolation="nearest", cmap="viridis", **scale)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(shorten(layer.name), fontsize=8)
        figure.colorbar(image, ax=list(row))
    names, fonts = show_names([shorten(stats.classes[number]) for number in numbers])
    for axes, name in zip(grid[0], ["all images", *names], strict=True):
        axes.set_title(name, parse_math=False, fontfamily=fonts, fontsize=10)
    figure.suptitle("Mean gate at each position: bright places are let through")
    return figure


def _as_picture(values: np.ndarray) -> np.ndarray:
    """Return a map of one to three axes as one of two; of a volume the mean over its depth."""
    return values.mean(axis=0) if values.ndim == 3 else np.atleast_2d(values)


# --- parts of figures ----------------------------------------------------------------------------

Panels = list[tuple["Axes", LayerStats]]


def _make_panels(layers: Sequence[LayerStats]) -> "tuple[Figure, Panels]":
    columns = 1 if len(layers) == 1 else 2
    rows = -(-len(layers) // columns)
    figure = new_figure(5.5 * columns, 0.8 + 2.2 * rows)
    # All panels share one scale, so that layers can be compared.
    grid: Any = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    panels = list(zip(grid, layers, strict=False))
    for axes, layer in panels:
        axes.set_title(f"{layer.name}, {layer.channels} channels", fontsize=10)
        axes.set(xlabel="channel", ylabel="gate")
        axes.grid(alpha=0.3)
    for axes in grid[len(layers) :]:
        axes.set_axis_off()
    return figure, panels


def _choose_channels(layer: LayerStats) -> np.ndarray:
    number = min(SHOWN_CHANNELS, layer.channels)
    return np.linspace(0, layer.channels - 1, number).round().astype(int)


def _classes_in_words(stats: ExcitationStats, numbers: Sequence[int]) -> str:
    count = len(stats.classes)
    if len(numbers) < count:
        return f"{len(numbers)} of {count:,} classes"
    return f"all {count} classes" if count > 1 else "the only class"


def _add_legend(figure: "Figure", panels: Panels) -> None:
    handles, labels = panels[0][0].get_legend_handles_labels()
    names, fonts = show_names([shorten(label) for label in labels])
    columns = min(LEGEND_COLUMNS, len(names))
    legend = figure.legend(handles, names, loc="outside lower center", ncols=columns)
    for text in legend.get_texts():
        # A dollar sign in a name must not start a formula.
        text.set(parse_math=False, fontfamily=fonts)
