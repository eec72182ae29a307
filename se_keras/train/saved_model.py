"""Write the SavedModel of a run, load it again, and compare it with the model."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from se_keras.support.errors import InputError, WrongResultError, damage_named, lines_of
from se_keras.support.files import refuse_pipes
from se_keras.train.config import TrainConfig
from se_keras.train.data import ImageData, full_batches, test_batches

# The script ends when its standard input ends, which is when this process ends, even by a kill.
# Otherwise it would go on writing into the folder of a run that is resumed.
EXPORT = """
import os, sys, threading
def end_with_parent():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
import keras, se_keras
keras.models.load_model(sys.argv[1], compile=False).export(sys.argv[2], verbose=False)
"""
# Largest difference of a probability between the model and its SavedModel. They compute the same
# in another order, which in 16 bits changes the third digit.
TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 5e-2, "mixed_float16": 1e-2}


@contextmanager
def exported(model: keras.Model, file: Path, path: Path) -> Iterator[None]:
    """Write the SavedModel of a model that is also in a `.keras` file; done when the block ends.

    Under JAX, another process writes it while the block runs.
    """
    if keras.backend.backend() == "tensorflow":
        try:
            model.export(path, verbose=False)
        except tf.errors.OpError as error:  # such as a full disk
            raise InputError(f"can't write {path}: {lines_of(error)[0]}") from error
        yield
        return
    # A SavedModel that JAX exports runs only on the kind of device that exported it.
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
    command: list[str | Path] = [sys.executable, "-c", EXPORT, file, path]
    pipe = subprocess.PIPE
    pipes: dict[str, Any] = {"stdin": pipe, "stdout": subprocess.DEVNULL, "stderr": pipe}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        try:
            yield
            assert process.stderr is not None
            notes = process.stderr.read()  # `communicate` would close its input
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"the SavedModel can't be made:\n{notes}")


def load_saved_model(
    path: Path,
) -> tuple[Callable[[np.ndarray], np.ndarray], tuple[int | None, ...]]:
    """Load any SavedModel, also of other packages.

    Returns:
        Its function from pixels (N, H, W, C) to probabilities (N, classes), and the shape of its
        input.

    Raises:
        InputError: if the SavedModel can't be read, or has more than one input.
    """
    # TensorFlow may raise any error for a damaged file, or a file for another purpose.
    with damage_named(f"Can't read {path}"):
        refuse_pipes(path)
        signature = tf.saved_model.load(path).signatures["serving_default"]
        (name, spec), *more = signature.structured_input_signature[1].items()
    if more:
        raise InputError(f"Can't use {path}: it takes more than one input.")

    def call(pixels: np.ndarray) -> np.ndarray:
        (output, *_) = signature(**{name: tf.constant(pixels, spec.dtype)}).values()
        return output.numpy()

    return call, tuple(spec.shape)


def predict_part(model: keras.Model, config: TrainConfig, data: ImageData, part: str) -> np.ndarray:
    """Return the probabilities of the images of a part, (N, classes)."""
    assert config.batch_size is not None  # the settings are completed
    count = len(data.parts[part])
    # Full batches, because the model is compiled for each size of a batch.
    batches, _ = full_batches(data, part, min(config.batch_size, count))
    answers = [model.predict_on_batch(images.numpy()) for images, *_ in batches]
    return np.concatenate(answers)[:count]


def compare_saved_model(
    ours: np.ndarray, config: TrainConfig, data: ImageData, saved: Path
) -> float:
    """Load a SavedModel, and compare its probabilities of the test images with the model's.

    Args:
        ours: the probabilities by the model itself, (N, classes).
        config: the settings, completed.
        data: the images.
        saved: the SavedModel.

    Returns:
        The largest difference between the probabilities.

    Raises:
        WrongResultError: if the SavedModel returns other probabilities than the model.
    """
    assert config.batch_size is not None  # the settings are completed
    serve, _ = load_saved_model(saved)
    batches = test_batches(data, config.batch_size)
    served = np.concatenate([serve(images.numpy()) for images, _ in batches])
    difference = float(np.abs(ours - served).max())
    # Written so that NaN fails.
    if not difference <= TOLERANCE[config.precision]:
        raise WrongResultError(
            f"{saved} does not compute the same as the model: probabilities of test images differ "
            f"by up to {difference:.1e}, more than {TOLERANCE[config.precision]:.0e}."
        )
    same = int((ours.argmax(axis=1) == served.argmax(axis=1)).sum())
    print(
        f"SavedModel loaded back: it agrees with the model on {same:,} of {len(ours):,} test images"
        f", probabilities within {difference:.1e}"
    )
    return difference
