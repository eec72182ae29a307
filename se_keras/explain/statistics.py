"""Statistics of the gates of a model, by layer, class and channel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from se_keras.support.arguments import did_you_mean, plain, plain_text
from se_keras.support.errors import InputError, shown
from se_keras.support.files import write_csv
from se_keras.support.tables import format_table

# A gate below or above these multiples of `gate_scale` is saturated.
CLOSED_BOUND, OPEN_BOUND = 0.1, 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerStats:
    """Statistics of the gates of one SE layer with K classes and C channels, in float64.

    If a layer is called several times for an image (in a nested model), each call counts. If a gate
    differs between positions, the statistics cover images and positions.

    Attributes:
        name: name of the layer; in a nested model `backbone/se1`, for its second call `se1#2`. SE
            in layers of Keras has the name of the product, or, if Keras chose this name, of the
            gate's last layer with weights.
        gate_scale: the constant factor of its gates, or twice that for a sum of two gates; 1 for SE
            in layers of Keras.
        count: number of gates in each class, (K,).
        mean, std: mean and (population) standard deviation of each channel's gate in each class,
            (K, C).
        closed, open: share of gates below 0.1 and above 0.9 times `gate_scale`, (K, C).
        map: mean gate at each position in each class, over the channels, (K, *spatial); `None` if
            the gate is the same at all positions, or the images have different sizes.
    """

    name: str
    gate_scale: float
    count: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    closed: np.ndarray
    open: np.ndarray
    map: np.ndarray | None = None

    @property
    def channels(self) -> int:
        return self.mean.shape[1]

    @property
    def mean_of_all(self) -> np.ndarray:
        """The mean of each channel's gate over all images, (C,)."""
        return self._mean_over_images(self.mean)

    @property
    def map_of_all(self) -> np.ndarray | None:
        """The mean gate at each position over all images, (*spatial)."""
        return None if self.map is None else self._mean_over_images(self.map)

    @property
    def std_of_all(self) -> np.ndarray:
        """The standard deviation of each channel's gate over all images, (C,)."""
        return np.sqrt(self._variance_within + self._variance_between)

    @property
    def variability(self) -> float:
        """The variation of the gates between images, relative to their size, 0 to 1.

        It is the root of sum_c Var(s_c) / sum_c E(s_c^2) over the channels c. It is 0 if each gate
        is the same for all images, so that a constant can replace the layer. It does not depend
        on the scale of the gates, for which the next convolution can compensate.
        """
        variance = self.std_of_all**2
        energy = (variance + self.mean_of_all**2).sum()
        return float(np.sqrt(variance.sum() / energy)) if energy else 0.0

    @property
    def specificity(self) -> float:
        """The share of the gates' variance that lies between the classes, 0 to 1: eta squared.

        It is sum_c Var_k(E(s_c | k)) / sum_c Var(s_c) over the channels c, with classes k. Random
        labels give about (K - 1) / (images - 1).
        """
        total = (self._variance_within + self._variance_between).sum()
        return float(self._variance_between.sum() / total) if total else 0.0

    @property
    def summary(self) -> dict[str, float]:
        """The layer in a few numbers, as in the table and in `layers.csv`."""
        return {
            "mean": self.mean_of_all.mean(),
            "std": self.std_of_all.mean(),
            "variability": self.variability,
            "specificity": self.specificity,
            f"below {CLOSED_BOUND}": self._mean_over_images(self.closed).mean(),
            f"above {OPEN_BOUND}": self._mean_over_images(self.open).mean(),
        }

    @property
    def _variance_within(self) -> np.ndarray:
        return self._mean_over_images(self.std**2)

    @property
    def _variance_between(self) -> np.ndarray:
        return self._mean_over_images((self.mean - self.mean_of_all) ** 2)

    def _mean_over_images(self, by_class: np.ndarray) -> np.ndarray:
        return np.average(by_class, axis=0, weights=self.count)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExcitationStats:
    """The result of `record_excitations`; prints as a table of the layers.

    `stats["stage2_block1_se"]` is one layer.

    Attributes:
        classes: names of the images' classes, in the order of their numbers.
        layers: the SE layers in execution order, those in nested models last.
    """

    classes: tuple[str, ...]
    layers: tuple[LayerStats, ...]

    def __getitem__(self, name: str) -> LayerStats:
        """Return the layer with this name."""
        for layer in self.layers:
            if layer.name == plain_text(name):
                return layer
        names = [layer.name for layer in self.layers]
        hint = did_you_mean(name, names) or f" The SE layers: {', '.join(names)}."
        raise KeyError(f"no SE layer {shown(name)}.{hint}")

    def class_number(self, name: str | int) -> int:
        """Return the index of a class in `classes`, given its name; a number means its digits.

        Raises:
            InputError: if there is no such class.
        """
        number = plain(name)
        text = str(number) if type(number) is int else plain_text(name)
        if text not in self.classes:
            hint = did_you_mean(name, self.classes)
            raise InputError(f"`classes` must be some of {self.classes}, got {shown(name)}.{hint}")
        return self.classes.index(text)

    def __str__(self) -> str:
        rows = [
            [layer.name, layer.channels, *(f"{value:.3f}" for value in layer.summary.values())]
            for layer in self.layers
        ]
        return format_table(["layer", "channels", *self.layers[0].summary], rows)

    def write_layers(self, path: Path) -> None:
        """Write a CSV file with one row for each layer, as in the table."""
        rows = (
            (layer.name, layer.channels, *map(_format_number, layer.summary.values()))
            for layer in self.layers
        )
        write_csv(path, ("layer", "channels", *self.layers[0].summary), rows)

    def write_channels(self, path: Path) -> None:
        """Write a CSV file with one row for each layer, class and channel."""
        header = ("layer", "class", "channel", "count", "mean", "std")
        shares = (f"below {CLOSED_BOUND}", f"above {OPEN_BOUND}")
        write_csv(path, (*header, *shares), self._channel_rows())

    def _channel_rows(self) -> Iterator[Sequence[object]]:
        for layer in self.layers:
            for number, name in enumerate(self.classes):
                columns = (layer.mean, layer.std, layer.closed, layer.open)
                values = zip(*(column[number] for column in columns), strict=True)
                for channel, row in enumerate(values):
                    yield layer.name, name, channel, layer.count[number], *map(_format_number, row)


def _format_number(value: float) -> str:
    return f"{value:.9g}"
