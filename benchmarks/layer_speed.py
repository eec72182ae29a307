"""`SqueezeExcite` against the four stock layers, in TensorFlow graph mode.

python -m benchmarks.layer_speed [--rounds N]

On the four map sizes of a ResNet-50 at batch 8, in turn: the stock layers, `SqueezeExcite`, the
same compiled by XLA (`jit_compile=True`), and a plain copy of the map (read once, write once). One
thread, and the process's CPU time: what else the machine does hardly shows. Prints medians, the
ratios to the stock layers with the spread of the paired ones (10th to 90th percentile), and those
to the copy.
"""

import argparse
import time
from functools import partial

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from se_keras import SqueezeExcite
from se_keras.support.tables import format_table
from se_keras.support.timing import seconds_in_turn

SIZES = ((8, 56, 56, 256), (8, 28, 28, 512), (8, 14, 14, 1024), (8, 7, 7, 2048))
RATIO = 16
CALLS = 5


def stock_gate(x: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Dense(channels // RATIO, activation="relu")(gate)
    return layers.Dense(channels, activation="sigmoid")(gate)


def stock(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Multiply()([x, stock_gate(x, x.shape[-1])])


def compiled(block, shape: tuple[int, ...], jit_compile: bool = False):
    x = keras.Input(shape[1:], batch_size=shape[0])
    model = keras.Model(x, block(x))
    return tf.function(lambda x: model(x, training=False), jit_compile=jit_compile)


def repeat(function, x) -> None:
    for _ in range(CALLS):
        function(x)


def measure(shape: tuple[int, ...], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of each contender in each round; they take turns within a round."""
    x = tf.constant(np.random.default_rng(0).random(shape, "float32"))
    contenders = {
        "stock": compiled(stock, shape),
        "se_keras": compiled(SqueezeExcite(RATIO), shape),
        "with XLA": compiled(SqueezeExcite(RATIO), shape, jit_compile=True),
        "copy": tf.function(lambda x: x * 1.5),
    }
    calls = [partial(repeat, function, x) for function in contenders.values()]
    seconds = seconds_in_turn(calls, rounds, time.process_time)
    return {name: np.divide(times, CALLS) for name, times in zip(contenders, seconds, strict=True)}


def ratio(times: dict[str, np.ndarray], name: str, to: str) -> float:
    return float(np.median(times[name] / times[to]))


def row(shape: tuple[int, ...], times: dict[str, np.ndarray]) -> list[str]:
    low, high = np.percentile(times["se_keras"] / times["stock"], (10, 90))
    return [
        "x".join(map(str, shape)),
        *(f"{1e3 * np.median(times[name]):.2f}" for name in times),
        f"{ratio(times, 'se_keras', 'stock'):.2f} ({low:.2f}-{high:.2f})",
        f"{ratio(times, 'with XLA', 'stock'):.2f}",
        f"{ratio(times, 'se_keras', 'copy'):.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    all_times = [measure(shape, rounds) for shape in SIZES]
    header = ["map", "stock ms", "se_keras", "with XLA", "copy"]
    header += ["to stock (10-90 %)", "XLA to stock", "to copy"]
    rows = [row(shape, times) for shape, times in zip(SIZES, all_times, strict=True)]
    print(format_table(header, rows))
    for name in ("se_keras", "with XLA", "copy"):
        ratios = [ratio(times, name, "stock") for times in all_times]
        print(f"{name} to stock, geometric mean: {np.exp(np.mean(np.log(ratios))):.2f}")


if __name__ == "__main__":
    main()
