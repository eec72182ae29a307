"""Fine-tune a trained network with inserted SE and without, for the same epochs.

python -m benchmarks.insert_study [--seeds 0 1 2 3 4] [--out benchmarks/results/insert_study.csv]

For each seed a plain chain of six convolutions is trained on 10,000 images of Fashion-MNIST. Then
three networks are fine-tuned on the same batches with the same learning rates: the network itself,
a copy with SE and a warm start (`se_keras.insert_se`), and a copy with the paper's initialization
(`warm_start=False`). The rows of a seed are written at its end, so a stopped run continues with the
next seed. Prints the test errors, and the differences to the plain network of the same seed, with
95 % intervals (Student's t). Draws the curves next to the CSV file.
"""

import argparse
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers

import se_keras
from benchmarks.results import read_rows, write_rows
from benchmarks.seeds import draw_curve, with_interval
from se_keras.support.plotting import new_figure, save_figure
from se_keras.support.tables import format_table

WIDTHS = (16, 32, 64)
TRAIN_EPOCHS, TUNE_EPOCHS = 5, 3
TRAIN_RATE, TUNE_RATE = 0.1, 0.02
IMAGES, BATCH = 10_000, 100
TRAINED, PLAIN, WARM, COLD = "trained", "plain", "SE, warm start", "SE, paper's start"
Images = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One epoch; epoch 0 is before the first step."""

    seed: int
    network: str
    epoch: int
    error: float  # of the 10,000 test images, %
    cpu_seconds: float  # of the epoch's training


def plain_network() -> keras.Model:
    """Build convolutions with normalization and ReLU, two at each of three resolutions."""
    x = image = keras.Input((28, 28, 1))
    x = layers.Rescaling(1 / 255)(x)
    for stage, width in enumerate(WIDTHS):
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        if stage < len(WIDTHS) - 1:
            x = layers.MaxPooling2D(2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10)(x))


class Study:
    """The networks of one seed, and their rows."""

    def __init__(self, seed: int, training: Images, test: Images):
        self.seed, self.training, self.test = seed, training, test
        self.rows: list[Row] = []

    def run(self) -> list[Row]:
        keras.utils.set_random_seed(self.seed)
        plain = plain_network()
        self._train(TRAINED, plain, TRAIN_EPOCHS, TRAIN_RATE)
        warm, cold = (se_keras.insert_se(plain, warm_start=start) for start in (True, False))
        # The plain network comes last, because the others are copies of its current state.
        for name, model in ((WARM, warm), (COLD, cold), (PLAIN, plain)):
            self._train(name, model, TUNE_EPOCHS, TUNE_RATE)
        return self.rows

    def _train(self, name: str, model: keras.Model, epochs: int, rate: float) -> None:
        """Train with SGD and momentum; the learning rate falls to zero as a cosine."""
        images, labels = self.training
        schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * len(images) // BATCH)
        model.compile(
            keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        if name != TRAINED:
            self._record(name, model, 0, 0.0)
        # Without Keras' shuffling, so that all fine-tuned networks see the same batches.
        batches = np.random.default_rng((self.seed, name == TRAINED))
        for epoch in range(1, epochs + 1):
            order = batches.permutation(len(images))
            start = time.process_time()
            model.fit(images[order], labels[order], BATCH, shuffle=False, verbose=0)
            seconds = time.process_time() - start
            if name != TRAINED or epoch == epochs:
                self._record(name, model, epoch, seconds)

    def _record(self, name: str, model: keras.Model, epoch: int, seconds: float) -> None:
        images, labels = self.test
        answers = model.predict(images, batch_size=500, verbose=0).argmax(axis=-1)
        error = 100 * float(np.mean(answers != labels))
        self.rows.append(Row(self.seed, name, epoch, round(error, 2), round(seconds, 1)))
        print(*astuple(self.rows[-1]), sep=", ", flush=True)


# --- results -------------------------------------------------------------------------------------


def errors(rows: list[Row], network: str) -> np.ndarray:
    """Return the test errors, (seeds, epochs)."""
    seeds = sorted({row.seed for row in rows})
    return np.array(
        [[r.error for r in rows if (r.seed, r.network) == (seed, network)] for seed in seeds]
    )


def table(rows: list[Row]) -> str:
    plain = errors(rows, PLAIN)
    lines = []
    for network in (PLAIN, WARM, COLD):
        own = errors(rows, network)
        seconds = sum(row.cpu_seconds for row in rows if row.network == network)
        against = "" if network == PLAIN else with_interval(own[:, -1] - plain[:, -1])
        ends = [with_interval(own[:, 0]), with_interval(own[:, -1]), against]
        lines.append([network, *ends, f"{seconds / len(own) / TUNE_EPOCHS:.1f}"])
    header = ["network", "error before, %", "error after, %", "after - plain", "CPU s an epoch"]
    return format_table(header, lines)


def draw(rows: list[Row], path: Path) -> None:
    """Draw the means over the seeds, and the range from the best to the worst."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    # Errors without a warm start are far larger, so the other networks also have their own panel.
    for axes, networks in ((left, (PLAIN, WARM)), (right, (PLAIN, WARM, COLD))):
        for network in networks:
            curves = errors(rows, network)
            draw_curve(axes, network, range(curves.shape[1]), curves)
        axes.set(xlabel="epoch of fine-tuning", ylabel="test error, %")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    seeds = len({row.seed for row in rows})
    figure.suptitle(f"Fashion-MNIST, mean and range of {seeds} seeds")
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    results = Path(__file__).with_name("results") / "insert_study.csv"
    parser.add_argument("--out", type=Path, default=results)
    options = parser.parse_args()
    (images, labels), (test_images, test_labels) = keras.datasets.fashion_mnist.load_data()
    training = images[:IMAGES, ..., None], labels[:IMAGES]
    test = test_images[..., None], test_labels
    rows = read_rows(Row, options.out)
    for seed in options.seeds:
        if seed not in {row.seed for row in rows}:
            rows = sorted([*rows, *Study(seed, training, test).run()], key=lambda row: row.seed)
            write_rows(Row, options.out, rows)
    print(f"Fashion-MNIST, {len(errors(rows, PLAIN))} seeds, {TUNE_EPOCHS} epochs")
    print(table(rows))
    draw(rows, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
