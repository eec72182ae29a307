"""Tabulate published results of others: pytorchcv's networks on small images, with and without SE.

`benchmarks/results/pytorchcv.csv` has the errors of its README, each from one training run, and the
addresses of the training logs. A pair is two networks that differ in SE alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.results import read_rows

PATH = Path(__file__).with_name("results") / "pytorchcv.csv"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A row of the CSV file.

    Attributes:
        data: name of the data set.
        network: name of the network without SE.
        parameters, se_parameters: numbers of parameters without and with SE.
        error, se_error: test errors without and with SE, %.
        log, se_log: addresses of the training logs.
    """

    data: str
    network: str
    parameters: int
    error: float
    se_parameters: int
    se_error: float
    log: str
    se_log: str

    @property
    def difference(self) -> float:
        return round(self.se_error - self.error, 2)


def read_pairs() -> list[Pair]:
    return read_rows(Pair, PATH)


def pair_table(pairs: Sequence[Pair]) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a row for each network: `plain, SE (difference)` for each data set."""
    names = list(dict.fromkeys(pair.data for pair in pairs))
    cells = {
        (pair.network, pair.data): f"{pair.error:.2f}, {pair.se_error:.2f} ({pair.difference:+.2f})"
        for pair in pairs
    }
    networks = dict.fromkeys(pair.network for pair in pairs)
    rows = [[network, *(cells.get((network, name), "") for name in names)] for network in networks]
    return ["network", *names], rows


def summary(pairs: Sequence[Pair]) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a row for each data set; the chance is the two-sided sign test's."""
    rows = []
    for name in dict.fromkeys(pair.data for pair in pairs):
        differences = np.array([pair.difference for pair in pairs if pair.data == name])
        better = int((differences < 0).sum())
        chance = stats.binomtest(better, int((differences != 0).sum())).pvalue
        spread = f"{differences.min():+.2f} to {differences.max():+.2f}"
        found = f"{better} of {len(differences)}"
        rows.append([name, found, f"{differences.mean():+.2f}", spread, f"{chance:.3f}"])
    return ["images", "SE is better in", "mean difference", "range", "chance without effect"], rows
