"""`SqueezeExcite` against the four stock layers, in TensorFlow graph mode.

python benchmarks/layer_speed.py [--rounds N]

Both run in turn on the four map sizes of a ResNet-50 at batch 8, with a plain pass over the map
(read once, write once) beside them. Prints medians and the ratio to the stock layers, with the
spread of the paired ratios (10th to 90th percentile).
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from se_keras import SqueezeExcite
from se_keras.tables import format_table

SIZES = ((8, 56, 56, 256), (8, 28, 28, 512), (8, 14, 14, 1024), (8, 7, 7, 2048))
RATIO = 16
CALLS = 5


def stock(x: keras.KerasTensor) -> keras.KerasTensor:
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Dense(channels // RATIO, activation="relu")(gate)
    gate = layers.Dense(channels, activation="sigmoid")(gate)
    return layers.Multiply()([x, gate])


def compiled(block, shape: tuple[int, ...]):
    x = keras.Input(shape[1:], batch_size=shape[0])
    model = keras.Model(x, block(x))
    return tf.function(lambda x: model(x, training=False))


def seconds(function, x) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        function(x)
    return (time.perf_counter() - start) / CALLS


def measure(shape: tuple[int, ...], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each contender in each round; they take turns within a round."""
    x = tf.constant(np.random.default_rng(0).random(shape, "float32"))
    contenders = {
        "stock": compiled(stock, shape),
        "se_keras": compiled(SqueezeExcite(RATIO), shape),
        "one pass": tf.function(lambda x: x * 1.5),
    }
    for function in contenders.values():
        seconds(function, x)
    turns = [{name: seconds(f, x) for name, f in contenders.items()} for _ in range(rounds)]
    return {name: np.array([turn[name] for turn in turns]) for name in contenders}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    rows, ratios = [], []
    for shape in SIZES:
        times = measure(shape, rounds)
        paired = times["se_keras"] / times["stock"]
        ratios.append(np.median(paired))
        low, high = np.percentile(paired, (10, 90))
        rows.append(
            [
                "x".join(map(str, shape)),
                *(f"{1e3 * np.median(times[name]):.2f}" for name in times),
                f"{ratios[-1]:.2f}",
                f"{low:.2f}-{high:.2f}",
            ]
        )
    header = ["map", "stock ms", "se_keras ms", "one pass ms", "ratio", "10-90 %"]
    print(format_table(header, rows))
    print(f"geometric mean of the ratios: {np.exp(np.mean(np.log(ratios))):.2f}")


if __name__ == "__main__":
    main()
