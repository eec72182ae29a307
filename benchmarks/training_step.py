"""Compare the training step of SE-ResNet-50 and of ResNet-50 in TensorFlow.

python -m benchmarks.training_step [--batch N] [--rounds N] [--out FILE]

Four forms of the network at 224 pixels take turns: without SE, with `SqueezeExcite`, with the four
stock layers, and with the gate computed from the narrow map before the last 1x1 convolution. The
last form computes something else, because its gate ignores the batch normalization between the two
maps: its time is a lower bound for the identity of `optimize` in training. Measures the CPU time of
one thread. The CSV file has a row for each form, written at the end.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import se_keras
from benchmarks.layer_speed import stock_gate
from benchmarks.results import describe_machine, file_run, versions, write_rows
from benchmarks.timing import compare
from se_keras.graph import Graph, Node, trace
from se_keras.support.tables import format_table
from se_keras.support.timing import seconds_in_turn

RESULTS = Path(__file__).with_name("results") / "training_step.csv"
WITHOUT = "without SE"
Source = Callable[[Graph, Node], keras.KerasTensor]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the CSV file.

    Attributes:
        run: name of the run; all rows of the file have the same.
        form: form of the network.
        batch, rounds: batch size; number of measured steps.
        ms: median CPU milliseconds of a step.
        ratio, ratio_low, ratio_high: median and quartiles of the ratios to the network without SE.
        versions, machine: versions of the packages; the processor.
    """

    run: str
    form: str
    batch: int
    rounds: int
    ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    versions: str
    machine: str


def rewritten(model: keras.Model, source: Source) -> keras.Model:
    """Return a copy with SE in stock layers, whose gates read `source(graph, node)`."""
    graph = trace(model)
    for node in [node for node in graph.nodes if type(node.op) is se_keras.SqueezeExcite]:
        squeezed = source(graph, node)
        x = keras.Input(squeezed.shape[1:])
        gate = keras.Model(x, stock_gate(x, node.output.shape[-1]), name=f"{node.name}_gate")
        product = graph.add(layers.Multiply(), [node.inputs[0], graph.add(gate, squeezed).output])
        graph.redirect(node.output, product.output)
    return graph.build()


def own_map(_: Graph, node: Node) -> keras.KerasTensor:
    return node.inputs[0]


def narrow_map(graph: Graph, node: Node) -> keras.KerasTensor:
    normalization = graph.producer(node.inputs[0])
    return graph.producer(normalization.inputs[0]).inputs[0]


def measure(models: dict[str, keras.Model], batch: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each step of each model; the models take turns."""
    images = np.random.default_rng(0).random((batch, 224, 224, 3), "float32")
    labels = np.arange(batch)
    for model in models.values():
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    steps = [partial(model.train_on_batch, images, labels) for model in models.values()]
    seconds = seconds_in_turn(steps, rounds, time.process_time)
    return dict(zip(models, seconds, strict=True))


def rows_of(seconds: dict[str, list[float]], batch: int, run: str) -> list[Row]:
    text = versions(sys.executable, ("keras", "tensorflow")) or ""
    rows = []
    for form, times in seconds.items():
        found = compare(times, seconds[WITHOUT])
        rows.append(
            Row(
                run=run,
                form=form,
                batch=batch,
                rounds=len(times),
                ms=round(1000 * found.seconds, 2),
                ratio=round(found.ratio, 4),
                ratio_low=round(found.ratio_low, 4),
                ratio_high=round(found.ratio_high, 4),
                versions=text,
                machine=describe_machine(),
            )
        )
    return rows


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a row for each form."""
    header = ["SE-ResNet-50", "batch", "ms a step", "to without SE (quartiles)"]
    lines = []
    for row in rows:
        ratio = f"{row.ratio:.3f} ({row.ratio_low:.3f} to {row.ratio_high:.3f})"
        lines.append([row.form, str(row.batch), f"{row.ms:.0f}", ratio])
    return header, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--run", metavar="NAME", help="name of the run (default: the date)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    se = se_keras.create("seresnet50")
    models = {
        WITHOUT: se_keras.create("seresnet50", se=False),
        "`SqueezeExcite`": se,
        "four stock layers": rewritten(se, own_map),
        "gate from the narrow map": rewritten(se, narrow_map),
    }
    seconds = measure(models, options.batch, options.rounds)
    rows = rows_of(seconds, options.batch, file_run(options.out, [], options.run))
    write_rows(Row, options.out, rows)
    print(format_table(*table(rows)))


if __name__ == "__main__":
    main()
