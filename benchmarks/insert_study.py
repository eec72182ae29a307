"""A trained plain network, with SE inserted and without, fine-tuned for the same budget.

python benchmarks/insert_study.py [--seeds 0 1 2] [--out benchmarks/insert_study.csv]

For each seed: a network of six convolutions is trained on Fashion-MNIST; then it and a copy with
SE inserted warm (`se_keras.insert_se`) are both fine-tuned, on the same batches and with the same
learning rates. A row is written when a seed is done; a stopped run goes on with the next seed.
Prints the table with means and standard deviations over the seeds.
"""

import argparse
import csv
from pathlib import Path

import keras
import numpy as np
from keras import layers

import se_keras
from se_keras.files import written_beside
from se_keras.tables import format_table

WIDTHS = (16, 32, 64)
TRAIN_EPOCHS, TUNE_EPOCHS = 5, 3
BATCH = 128
COLUMNS = ("trained", "inserted", "tuned plain", "tuned with SE")
Images = tuple[np.ndarray, np.ndarray]


def plain_network() -> keras.Model:
    """Convolution, normalisation, ReLU, two at each of three resolutions."""
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


def train(model: keras.Model, data: Images, epochs: int, rate: float, seed: int) -> None:
    """SGD with momentum; the learning rate falls to zero as a cosine."""
    keras.utils.set_random_seed(seed)  # the order of the batches
    steps = epochs * -(-len(data[0]) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(*data, batch_size=BATCH, epochs=epochs, verbose=2)


def error(model: keras.Model, data: Images) -> float:
    """Share of wrong answers, %."""
    images, labels = data
    answers = model.predict(images, batch_size=500, verbose=0).argmax(axis=-1)
    return 100 * float(np.mean(answers != labels))


def study(seed: int, training: Images, test: Images) -> dict[str, float]:
    """The test errors of one seed."""
    keras.utils.set_random_seed(seed)
    plain = plain_network()
    train(plain, training, TRAIN_EPOCHS, 0.1, seed)
    with_se = se_keras.insert_se(plain)
    errors = {"trained": error(plain, test), "inserted": error(with_se, test)}
    for name, model in (("tuned plain", plain), ("tuned with SE", with_se)):
        train(model, training, TUNE_EPOCHS, 0.02, seed + 1000)
        errors[name] = error(model, test)
    return errors


def read(path: Path) -> dict[int, dict[str, float]]:
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {
            int(row.pop("seed")): {k: float(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        }


def write(path: Path, done: dict[int, dict[str, float]]) -> None:
    with written_beside(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, ("seed", *COLUMNS))
        writer.writeheader()
        writer.writerows({"seed": seed, **errors} for seed, errors in sorted(done.items()))


def table(done: dict[int, dict[str, float]]) -> str:
    rows = [[seed, *(f"{errors[c]:.2f}" for c in COLUMNS)] for seed, errors in sorted(done.items())]
    values = np.array([[errors[c] for c in COLUMNS] for errors in done.values()])
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(COLUMNS))
    for name, numbers in (("mean", values.mean(axis=0)), ("deviation", spread)):
        rows.append([name, *(f"{number:.2f}" for number in numbers)])
    return format_table(["seed", *COLUMNS], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=60_000, help="of the training set")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    (images, labels), test = keras.datasets.fashion_mnist.load_data()
    training = images[: options.images, ..., None], labels[: options.images]
    test = test[0][..., None], test[1]
    done = read(options.out)
    for seed in options.seeds:
        if seed not in done:
            done[seed] = study(seed, training, test)
            write(options.out, done)
    print("Fashion-MNIST, test error %")
    print(table(done))


if __name__ == "__main__":
    main()
