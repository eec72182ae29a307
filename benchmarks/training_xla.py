"""Time the first step of a training in TensorFlow, and later steps, with or without XLA.

    python -m benchmarks.training_xla seresnet18 128 32 5          # network, pixels, batch, steps
    python -m benchmarks.training_xla seresnet18 128 32 5 --jit

Run each command in a process of its own. Prints a line of JSON with wall and CPU times: of the
first step, and the median of the later ones.
"""

import argparse
import json
import time

import keras
import numpy as np
import tensorflow as tf

import se_keras
from se_keras.train.config import TrainConfig
from se_keras.train.optimizer import build_optimizer


class Clock(keras.callbacks.Callback):
    """A callback that notes wall and CPU time before the first step, and after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, float]] = []

    def _note(self) -> None:
        self.times.append((time.perf_counter(), time.process_time()))

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if batch == 0:
            self._note()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._note()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("network")
    parser.add_argument("pixels", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("steps", type=int, help="number of timed steps, after two others")
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    given = parser.parse_args()
    keras.utils.set_random_seed(0)
    shape = (given.pixels, given.pixels, 1 if given.pixels == 8 else 3)
    model = se_keras.create(given.network, input_shape=shape, classes=10)
    config = TrainConfig(data="digits", batch_size=given.batch).completed()
    model.compile(
        build_optimizer(config, model, 1000),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        weighted_metrics=["accuracy"],
        jit_compile=given.jit,
    )
    images = np.random.default_rng(0).random((given.batch, *shape), "float32")
    labels = np.eye(10, dtype="float32")[np.arange(given.batch) % 10]
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    clock = Clock()
    model.fit(batches, steps_per_epoch=given.steps + 2, verbose=0, callbacks=[clock])
    seconds = np.diff(np.array(clock.times), axis=0)
    later = np.median(seconds[2:], axis=0) * 1000
    figures = {
        "first_wall_s": round(seconds[0][0], 2),
        "first_cpu_s": round(seconds[0][1], 2),
        "later_wall_ms": round(later[0], 1),
        "later_cpu_ms": round(later[1], 1),
    }
    print(json.dumps(vars(given) | figures))


if __name__ == "__main__":
    main()
