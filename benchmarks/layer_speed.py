"""Compare `SqueezeExcite` and its kin with SE in four stock layers, in TensorFlow's graph mode.

python -m benchmarks.layer_speed [--rounds N] [--out FILE]

On the four map sizes of a ResNet-50 at batch 8, these take turns: the stock layers,
`SqueezeExcite`, the same compiled by XLA (`jit_compile=True`), each of its kin as its paper defines
it, and a plain copy of the map (one read, one write). Measures the CPU time of one thread, which
depends little on other work of the machine. Prints medians and ratios to the stock layers, with the
10th and 90th percentile of the ratios within a round. The CSV file has a row for each layer and
map.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.results import describe_machine, file_run, write_rows
from se_keras import SqueezeExcite
from se_keras.layers import GATES
from se_keras.support.tables import format_table
from se_keras.support.timing import seconds_in_turn

SIZES = ((8, 56, 56, 256), (8, 28, 28, 512), (8, 14, 14, 1024), (8, 7, 7, 2048))
RATIO = 16
CALLS = 5
STOCK = "four stock layers"
KIN = ("eca", "ese", "scse", "ge")
RESULTS = Path(__file__).with_name("results") / "layer_speed.csv"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the CSV file.

    Attributes:
        run: name of the run; all rows of the file have the same.
        map: shape of the map, (N, H, W, C).
        layer: name of the timed layer.
        rounds: number of its turns.
        ms: median milliseconds.
        to_stock, low, high: ratios to the stock layers within a round: median, 10th and 90th
            percentile.
        versions, machine: versions of the packages; the processor.
    """

    run: str
    map: str
    layer: str
    rounds: int
    ms: float
    to_stock: float
    low: float
    high: float
    versions: str
    machine: str


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


def contenders(shape: tuple[int, ...]) -> dict[str, Callable]:
    """Return the timed layers as functions of the map, by their names."""
    blocks = {"se": SqueezeExcite(RATIO), **{name: GATES[name]() for name in KIN}}
    own = {name: compiled(block, shape) for name, block in blocks.items()}
    return {
        STOCK: compiled(stock, shape),
        **own,
        "se, XLA": compiled(SqueezeExcite(RATIO), shape, jit_compile=True),
        "copy": tf.function(lambda x: x * 1.5),
    }


def measure(shape: tuple[int, ...], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of each layer in each round; the layers take turns within a round."""
    x = tf.constant(np.random.default_rng(0).random(shape, "float32"))
    functions = contenders(shape)
    calls = [partial(repeat, function, x) for function in functions.values()]
    seconds = seconds_in_turn(calls, rounds, time.process_time)
    return {name: np.divide(times, CALLS) for name, times in zip(functions, seconds, strict=True)}


def rows_of(shape: tuple[int, ...], times: dict[str, np.ndarray], run: str) -> list[Row]:
    rows = []
    for name, seconds in times.items():
        ratios = seconds / times[STOCK]
        low, high = np.percentile(ratios, (10, 90))
        rows.append(
            Row(
                run=run,
                map="x".join(map(str, shape)),
                layer=name,
                rounds=len(seconds),
                ms=round(1e3 * float(np.median(seconds)), 4),
                to_stock=round(float(np.median(ratios)), 4),
                low=round(float(low), 4),
                high=round(float(high), 4),
                versions=f"tensorflow {tf.__version__}, keras {keras.__version__}",
                machine=describe_machine(),
            )
        )
    return rows


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a row for each layer with its mean ratio and a column for each map."""
    found = {(row.layer, row.map): row for row in rows}
    maps = list(dict.fromkeys(row.map for row in rows))
    lines = []
    for layer in dict.fromkeys(row.layer for row in rows):
        own = [found[layer, name] for name in maps]
        mean = np.exp(np.mean([np.log(row.to_stock) for row in own]))
        lines.append([layer, f"{mean:.2f}", *map(_cell, own)])
    return ["layer", "geometric mean", *maps], lines


def _cell(row: Row) -> str:
    return f"{row.ms:.2f} ms, {row.to_stock:.2f} ({row.low:.2f} to {row.high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--run", metavar="NAME", help="name of the run (default: the date)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    run = file_run(options.out, [], options.run)
    rows = [row for shape in SIZES for row in rows_of(shape, measure(shape, options.rounds), run)]
    write_rows(Row, options.out, rows)
    print(format_table(*table(rows)))


if __name__ == "__main__":
    main()
