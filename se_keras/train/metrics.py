"""Metrics of a classifier that suit few images and unequal classes.

All intervals cover 95 %. Shares have Wilson's interval (1927). The balanced accuracy, a mean of
shares, has the interval of Zou and Donner (2008), made from the Wilson intervals of the shares. The
macro F1 has percentiles of a bootstrap within each true class, whose interval has no width if all
answers are right.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

INTERVALS = (
    "95 %: Wilson intervals for accuracy, top-5, precision and recall; the interval of Zou and "
    "Donner (2008), from the intervals of the recalls, for the balanced accuracy; percentiles of "
    "1,000 resamples within each true class, by the run's seed, for the macro F1"
)
# The 97.5 % quantile of the normal distribution.
QUANTILE = 1.959963984540054
RESAMPLES = 1000
# Top-5 accuracy is reported from this number of classes on.
TOP_FROM, TOP = 20, 5
# Number of bins of confidence for the expected calibration error.
BINS = 15
# Probabilities are clipped to TINY for the fit of a temperature; the range of its inverse.
TINY, INVERSES = 1e-12, (1e-2, 1e2)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count images by true class (row) and predicted class (column).

    Example:

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def measure(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], seed: int
) -> dict[str, Any]:
    """Return the metrics of a part for `report.json`.

    Args:
        labels: the true classes, (N,). Means over classes leave out classes without images.
        probabilities: predicted probabilities, (N, classes).
        class_names: names of the classes, by number.
        seed: seed of the resampling.

    Example:

    >>> figures = measure(np.array([0, 1, 1]), np.eye(2)[[0, 1, 0]], ["cat", "dog"], seed=0)
    >>> figures["accuracy"], figures["balanced_accuracy"], figures["by_class"][1]["recall"]
    (0.6667, 0.75, 0.5)
    """
    classes = len(class_names)
    counts = confusion(labels, probabilities.argmax(axis=1), classes)
    hits, support, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    there = support > 0
    recalls, by_recall = hits[there] / support[there], wilson(hits[there], support[there])
    figures: dict[str, Any] = {"images": len(labels)}
    figures |= _share("accuracy", hits.sum(), len(labels))
    figures |= _figure("balanced_accuracy", recalls.mean(), _of_mean(recalls, by_recall))
    figures |= _figure("macro_f1", f1_scores(counts)[there].mean(), _bootstrap_f1(counts, seed))
    if classes >= TOP_FROM:
        figures |= _share("top5", in_top(labels, probabilities).sum(), len(labels))
    figures["expected_calibration_error"] = _round(calibration_error(labels, probabilities))
    figures["by_class"] = [
        {"class": name, "images": int(n), "f1": _round(f1)}
        | _share("precision", hit, taken)
        | _share("recall", hit, n)
        for name, n, f1, hit, taken in zip(
            class_names, support, f1_scores(counts), hits, predicted, strict=True
        )
    ]
    return figures


def _share(name: str, hits: int, count: int) -> dict[str, Any]:
    """Return a share and its interval; `None` if there are no images."""
    if not count:
        return {name: None, f"{name}_interval": None}
    low, high = wilson(np.array(hits), np.array(count))
    return _figure(name, hits / count, (low, high))


def _figure(name: str, value: float, interval: tuple[Any, Any]) -> dict[str, Any]:
    return {name: _round(value), f"{name}_interval": [_round(end) for end in interval]}


def _round(value: float) -> float:
    return round(float(value), 4)


def wilson(hits: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Wilson's interval of shares.

    Example:

    >>> low, high = wilson(np.array(36), np.array(36))
    >>> round(float(low), 3), round(float(high), 3)
    (0.904, 1.0)
    """
    shares, square = hits / counts, QUANTILE**2 / counts
    middle = (shares + square / 2) / (1 + square)
    half = QUANTILE / (1 + square) * np.sqrt((shares * (1 - shares) + square / 4) / counts)
    return np.clip(middle - half, 0, shares), np.clip(middle + half, shares, 1)


def _of_mean(shares: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Return the interval of a mean of independent shares from the intervals of the shares."""
    below, above = (np.sqrt(np.square(end - shares).sum()) / len(shares) for end in ends)
    return shares.mean() - below, shares.mean() + above


def f1_scores(counts: np.ndarray) -> np.ndarray:
    """Return the F1 score of each class from a confusion matrix; 0 without a hit.

    Example:

    >>> f1_scores(np.array([[1, 1], [0, 1]])).round(3).tolist()
    [0.667, 0.667]
    """
    return 2 * counts.diagonal() / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)


def _bootstrap_f1(counts: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the interval of the macro F1 by resampling the images of each class."""
    generator = np.random.default_rng(seed)
    support = counts.sum(axis=1)
    there = support > 0
    hits, predicted = np.zeros((2, RESAMPLES, len(counts)))
    for label in np.flatnonzero(there):
        row = counts[label]
        (answers,) = np.nonzero(row)
        drawn = generator.multinomial(support[label], row[answers] / support[label], RESAMPLES)
        predicted[:, answers] += drawn
        hits[:, label] = drawn[:, answers == label].sum(axis=1)
    scores = (2 * hits[:, there] / (support + predicted)[:, there]).mean(axis=1)
    low, high = np.quantile(scores, [0.025, 0.975])
    return low, high


def in_top(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return whether the true class of each image is among the five most probable.

    Example:

    >>> in_top(np.array([0, 6]), np.tile(np.arange(7.0), (2, 1))).tolist()
    [False, True]
    """
    of_truth = probabilities[np.arange(len(labels)), labels]
    return (probabilities > of_truth[:, None]).sum(axis=1) < TOP


# --- calibration ---------------------------------------------------------------------------------


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error: how far confidence is from accuracy (Guo et al. 2017).

    Example:

    >>> calibration_error(np.array([0, 1]), np.array([[0.9, 0.1], [0.9, 0.1]])).round(3)
    np.float64(0.4)
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return np.abs(gaps).sum() / len(labels)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Fit the temperature that calibrates probabilities best (Guo et al. 2017).

    Args:
        labels: the true classes, (N,).
        probabilities: predicted probabilities, (N, classes).

    Returns:
        The divisor of the logits; `None` if there is no optimum, as when all answers are right.

    Example:

    >>> fit_temperature(np.array([0, 0, 0, 1]), np.tile([0.9, 0.1], (4, 1))).round(3)
    np.float64(2.0)
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), TINY))
    of_truth = logits[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        """Return the slope of the negative log-likelihood, convex in the temperature's inverse."""
        return (_softmax(logits * inverse) * logits).sum(axis=1).mean() - of_truth

    low, high = INVERSES
    if not slope(low) < 0 < slope(high):
        return None
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / np.sqrt(low * high)


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities with their logits divided by a temperature.

    Example:

    >>> with_temperature(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()
    [[0.75, 0.25]]
    """
    return _softmax(np.log(np.maximum(probabilities.astype(np.float64), TINY)) / temperature)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
