"""Transfer learning: a network trained on five classes of Fashion-MNIST learns the other five.

python -m benchmarks.transfer [--images 1000] [--labels 20] [--seeds 0 1 2] [--out runs/transfer]

`se_keras.train` trains an SE-ResNet-20 on images of the first five classes. Its frozen backbone
gets a new classifier for the others, which is trained on few labels per class; then the last stage
is trained with a tenth of the rate. The same network with fresh weights is trained on the same
images equally often. Prints the accuracy on the 5,000 test images of the other five classes, one
line for each seed. The seed selects the labeled images.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import se_keras
from se_keras.support.tables import format_table
from se_keras.train import TrainConfig, train

KNOWN = 5  # classes 0 ... 4
SHAPE = (28, 28, 3)
FROZEN_EPOCHS, TUNED_EPOCHS, RATE = 40, 40, 1e-2
COLUMNS = ("fresh weights", "frozen", "unfrozen")
Images = tuple[np.ndarray, np.ndarray]


def pretrain(data: Images, each: int, folder: Path) -> Path:
    """Train on some images of each known class, if not done before; return the model's file."""
    for label in range(KNOWN):
        (folder / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(data[0][data[1] == label][:each]):
            Image.fromarray(image).save(folder / "images" / str(label) / f"{number}.png")
    config = TrainConfig(
        data=str(folder / "images"), model="seresnet20", image_size=28, epochs=5, batch_size=64
    )
    train(config, folder / "run", resume=True)
    return folder / "run" / "model.keras"


def unknown(data: Images, each: int | None, seed: int = 0) -> Images:
    """Return some images of each unknown class for the network, and their labels."""
    order = np.random.default_rng(seed).permutation(len(data[1]))
    chosen = [order[data[1][order] == label][:each] for label in range(KNOWN, 10)]
    rows = np.concatenate(chosen)
    images = np.repeat(data[0][rows][..., None], 3, axis=-1) / 127.5 - 1  # as se_keras.train has it
    return images.astype("float32"), data[1][rows] - KNOWN


def classifier(weights: Path | None) -> tuple[keras.Model, keras.Model]:
    """Return a model for the unknown classes, and its backbone."""
    backbone = se_keras.SEResNet20(
        include_top=False, pooling="avg", input_shape=SHAPE, weights=weights
    )
    image = keras.Input(SHAPE)
    return keras.Model(image, keras.layers.Dense(10 - KNOWN)(backbone(image))), backbone


def fit(model: keras.Model, data: Images, epochs: int, rate: float) -> None:
    model.compile(
        keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(*data, batch_size=50, epochs=epochs, verbose=0)


def accuracy(model: keras.Model, data: Images) -> float:
    answers = model.predict(data[0], batch_size=500, verbose=0).argmax(axis=-1)
    return round(100 * float(np.mean(answers == data[1])), 2)


def transfer(weights: Path, labeled: Images, test: Images) -> list[float]:
    """Return the accuracies for one choice of labeled images, in the order of `COLUMNS`."""
    fresh, _ = classifier(None)
    fit(fresh, labeled, FROZEN_EPOCHS + TUNED_EPOCHS, RATE)
    found = [accuracy(fresh, test)]
    model, backbone = classifier(weights)
    backbone.trainable = False
    fit(model, labeled, FROZEN_EPOCHS, RATE)
    found.append(accuracy(model, test))
    backbone.trainable = True
    for layer in backbone.layers:
        # Pretrained batch normalization keeps its statistics.
        norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name.startswith("stage4") and not norm
    fit(model, labeled, TUNED_EPOCHS, RATE / 10)
    return [*found, accuracy(model, test)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="of each known class")
    parser.add_argument("--labels", type=int, default=20, help="of each unknown class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="of the training")
    options = parser.parse_args()
    training, test = keras.datasets.fashion_mnist.load_data()
    rows = []
    weights = pretrain(training, options.images, options.out)
    for seed in options.seeds:
        keras.utils.set_random_seed(seed)
        labeled = unknown(training, options.labels, seed)
        rows.append([seed, *transfer(weights, labeled, unknown(test, None))])
        print(*rows[-1], flush=True)
    means = np.mean([row[1:] for row in rows], axis=0)
    table = [[name, *(f"{value:.1f}" for value in values)] for name, *values in rows]
    table.append(["mean", *(f"{value:.1f}" for value in means)])
    print(f"Fashion-MNIST, {options.labels} labeled images a class, test accuracy %")
    print(format_table(["seed", *COLUMNS], table))


if __name__ == "__main__":
    main()
