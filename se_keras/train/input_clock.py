"""Measure the speed of a run, and the time that it waits for images."""

import time

import keras
import numpy as np
import tensorflow as tf


class InputClock(keras.callbacks.Callback):
    """A callback that measures images per second, and the share of time waiting for input.

    A step waits from its beginning until its batch arrives. The share is an upper bound, because a
    device such as a GPU may compute an earlier step meanwhile. The first step of an epoch is left
    out, because the very first one compiles the model.
    """

    def __init__(self, images_a_step: int):
        super().__init__()
        self.images_a_step = images_a_step
        self.steps = 0
        self.arrived: dict[int, float] = {}

    def watch(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Return the same batches, and note the time when each is handed to the model."""

        def note(number: np.ndarray) -> np.ndarray:
            self.arrived[int(number)] = time.perf_counter()
            return number

        def pass_on(number: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
            with tf.control_dependencies([tf.numpy_function(note, [number], tf.int64)]):
                return tf.nest.map_structure(tf.identity, batch)

        return batches.enumerate().map(pass_on)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.waited, self.counted = 0.0, 0
        self.first_ended: float | None = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.begun = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.ended = time.perf_counter()
        arrived = self.arrived.pop(self.steps, self.begun)
        self.steps += 1
        if self.first_ended is None:
            self.first_begun, self.first_ended = self.begun, self.ended
            return
        self.waited += max(0.0, min(arrived, self.ended) - self.begun)
        self.counted += 1

    def figures(self) -> dict[str, float]:
        """Return the figures of the finished epoch (of its only step if it has just one)."""
        begun = self.first_begun if self.first_ended is None else self.first_ended
        seconds = self.ended - (begun if self.counted else self.first_begun)
        return {
            "images_per_second": round(max(1, self.counted) * self.images_a_step / seconds, 1),
            "waiting_for_input": round(self.waited / seconds, 4),
        }
