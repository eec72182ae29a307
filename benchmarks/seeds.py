"""Shared by studies over several seeds: 95 % intervals and curves."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from scipy import stats


def with_interval(values: np.ndarray) -> str:
    """Return the mean and half of its 95 % interval (Student's t), which needs two values."""
    half = "?" if len(values) == 1 else f"{half_interval(values):.2f}"
    return f"{values.mean():.2f} ± {half}"


def half_interval(values: np.ndarray) -> float:
    """Return half of the 95 % interval of the mean (Student's t); 0 for one value."""
    if len(values) == 1:
        return 0.0
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def draw_curve(axes: Axes, label: str, epochs: Iterable[int], curves: np.ndarray) -> None:
    """Draw the mean of curves (seeds, epochs), and the range from minimum to maximum."""
    (line,) = axes.plot(epochs, curves.mean(axis=0), marker="o", label=label)
    low, high = curves.min(axis=0), curves.max(axis=0)
    axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15)
