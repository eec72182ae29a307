"""Compare finished runs: a table, the differences in their answers, and a picture."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se_keras.support.plotting import new_figure, save_figure, show_names
from se_keras.support.tables import format_table
from se_keras.train.page import between, percent
from se_keras.train.run_files import History, read_results, read_settings_file

HEADER = ("run", "parameters", "epoch", "accuracy", "95 %", "balanced", "macro F1", "seconds")


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """The files and results of a finished run.

    Attributes:
        name: name of its folder.
        report: content of `report.json`.
        history: rows of `history.csv`.
        right: whether the answer is right, for each test image by its name and class.
    """

    name: str
    report: Mapping[str, Any]
    history: History
    right: Mapping[tuple[str, str], bool]


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        InputError: if the run is missing, damaged or from an earlier version.
    """
    report, history, answers = read_results(folder)
    right = {(row["file"], row["true"]): row["true"] == row["predicted"] for row in answers}
    if os.path.lexists(folder / "settings.json"):  # the resolved path of the images
        settings = read_settings_file(folder)
        report["settings"]["data"] = settings.get("data", report["settings"].get("data"))
    return Run(name=str(folder), report=report, history=history, right=right)


def describe(runs: Sequence[Run]) -> str:
    """Return a table of runs, of their different settings, and of their different answers."""
    texts = [format_table(HEADER, [_row(run) for run in runs])]
    if settings := _differing_settings(runs):
        texts.append(format_table(["setting", *(run.name for run in runs)], settings))
    texts += [_compare_answers(runs[0], other) for other in runs[1:]]
    return "\n\n".join(texts)


def _row(run: Run) -> list[Any]:
    test, epochs = run.report["test"], run.report["epochs"]
    return [
        run.name,
        run.report["parameters"]["all"],
        f"{epochs['chosen']} of {epochs['trained']}",
        percent(test["accuracy"]),
        between(test["accuracy_interval"]),
        percent(test["balanced_accuracy"]),
        percent(test["macro_f1"]),
        f"{run.report['training_seconds']:.0f}",
    ]


def _differing_settings(runs: Sequence[Run]) -> list[list[str]]:
    settings = [run.report["settings"] for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    values = {name: [each.get(name) for each in settings] for name in names}
    return [[name, *map(str, row)] for name, row in values.items() if row != row[:1] * len(row)]


def _compare_answers(one: Run, other: Run) -> str:
    """Compare two runs on the same test images, which says more than two intervals."""
    if one.right.keys() != other.right.keys():
        return (
            f"{other.name} and {one.name} were tested on different images: compare their intervals "
            "only."
        )
    pairs = [(one.right[image], other.right[image]) for image in one.right]
    first, second = pairs.count((True, False)), pairs.count((False, True))
    chance = mcnemar(first, second)
    return (
        f"Of the same {len(pairs):,} test images, {second:,} are right only in {other.name} and "
        f"{first:,} only in {one.name}. If both were equally good, the probability of such a large "
        f"difference would be {chance:.2g} (McNemar's exact test)."
    )


def mcnemar(one: int, other: int) -> float:
    """Return the two-sided p value of McNemar's exact test.

    Args:
        one: number of images that only the first model has right.
        other: number of images that only the second model has right.

    Example:

    >>> mcnemar(0, 5)
    0.0625
    """
    tosses, fewer = one + other, min(one, other)
    tail = sum(math.comb(tosses, heads) for heads in range(fewer + 1))
    return min(1.0, 2 * tail / 2**tosses)


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the validation accuracy over the epochs, and the test accuracy with its interval."""
    names, fonts = show_names([run.name for run in runs])
    figure = new_figure(11, 3 + 0.35 * len(runs))
    curves, bars = figure.subplots(1, 2)
    for number, run in enumerate(runs):
        epochs = [row["epoch"] for row in run.history]
        accuracy = [row["val_accuracy"] for row in run.history]
        (line,) = curves.plot(epochs, accuracy, marker="." if len(epochs) < 20 else None)
        chosen = run.report["epochs"]["chosen"]
        curves.plot(chosen, accuracy[chosen - 1], "o", color=line.get_color(), fillstyle="none")
        test = run.report["test"]
        low, high = test["accuracy_interval"]
        ends = [[max(0.0, test["accuracy"] - low)], [max(0.0, high - test["accuracy"])]]
        bars.errorbar(
            test["accuracy"], number, xerr=ends, fmt="o", capsize=4, color=line.get_color()
        )
    curves.set(xlabel="epoch", title="validation accuracy; circles: kept epochs")
    curves.xaxis.get_major_locator().set_params(integer=True)
    bars.set_yticks(range(len(names)), names, parse_math=False, fontfamily=fonts)
    bars.set(title="test accuracy, 95 % interval", ylim=(len(runs) - 0.5, -0.5))
    for axes in (curves, bars):
        axes.grid(alpha=0.3)
    save_figure(figure, path)
