"""Images per second of the package's reader, and of TensorFlow's decoder without antialiasing.

    python -m benchmarks.reading

Makes folders of JPEG and PNG files from scikit-learn's two photos, and reads each in turn: with
`tf.io.decode_image` and `tf.image.resize` in `tf.data`, which do not smooth before they shrink;
with the package in `tf.data`, as for images that do not fit into memory; and in the first pass over
all images. Prints medians of wall and CPU time, and their ratios.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks import photos
from se_keras.support.tables import format_table
from se_keras.train import data as sources
from se_keras.train.config import DEFAULTS, TrainConfig

CLASSES = photos.CLASSES[:2]


def without_antialiasing(path: tf.Tensor, size: int) -> tf.Tensor:
    """Read the central square of an image with TensorFlow alone."""
    image = tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False)
    side = tf.reduce_min(tf.shape(image)[:2])
    image = tf.image.resize_with_crop_or_pad(image, side, side)
    image = tf.ensure_shape(tf.image.resize(image, (size, size)), (size, size, 3))
    return tf.cast(tf.round(image), tf.uint8)


def ways_to_read(folder: Path, size: int) -> dict[str, Callable[[], object]]:
    """Return each way as a function that reads the whole folder once."""
    config = TrainConfig(data=str(folder), image_size=size).completed()
    found = sources.open_data(config)
    items = np.concatenate([part.items for part in found.parts.values()])
    labels = np.concatenate([part.labels for part in found.parts.values()])
    everything = sources.Split(items=items, labels=labels, names=items)
    data = sources.ImageData(
        class_names=found.class_names,
        channels=3,
        size=size,
        train=everything,
        validation=everything,
        test=everything,
        split="",
        defaults=DEFAULTS["digits"],
    )
    streamed = sources.test_batches(data, 32)
    decoded = (
        tf.data.Dataset.from_tensor_slices((list(items), labels))
        .map(lambda path, label: (without_antialiasing(path, size), label), tf.data.AUTOTUNE)
        .map(lambda image, label: (tf.cast(image, tf.float32), tf.one_hot(label, 2)))
        .batch(32)
        .prefetch(tf.data.AUTOTUNE)
    )
    return {
        "TensorFlow": lambda: [None for _ in decoded],
        "tf.data": lambda: [None for _ in streamed],
        "first pass": lambda: sources.for_each_image(
            lambda n: sources.read_image(items[n], size), len(items)
        ),
    }


def measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Return the medians of wall and CPU seconds of each way; they take turns."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, read in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            read()
            if number:  # skip the first round, which builds the pipeline
                times = (time.perf_counter() - wall, time.process_time() - cpu)
                seconds[name].append(times)
    return {name: np.median(times, axis=0) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=7, help="number of turns of each way")
    rounds = parser.parse_args().rounds
    header = ["images", "way", "a second", "a CPU second", "time", "CPU time"]
    with tempfile.TemporaryDirectory() as temporary:
        for count, side, suffix, sizes in (
            (500, 500, "jpg", (64, 224)),
            (40, 3000, "jpg", (64, 224)),
            (1000, 48, "png", (32,)),
        ):
            folder = Path(temporary) / f"{suffix}-{side}"
            photos.write_folder(folder, count, side, suffix, CLASSES)
            for size in sizes:
                times = measure(ways_to_read(folder, size), rounds)
                base = times["TensorFlow"]
                rows = []
                for name, each in times.items():
                    wall, cpu = count / each
                    ratios = [f"{ratio:.2f}" for ratio in each / base]
                    what = f"{count} {suffix} of {side}, to {size}"
                    rows.append([what, name, round(wall), round(cpu), *ratios])
                print(format_table(header, rows), flush=True)


if __name__ == "__main__":
    main()
