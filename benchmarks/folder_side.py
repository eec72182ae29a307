"""Train from a folder of images in one way, and report the speed, for `folder_training.py`.

python -m benchmarks.folder_side WAY FOLDER STEPS WORKERS    prints a line of JSON

WAY is a name in `WAYS`. The process of timm imports neither this package nor TensorFlow.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

BATCH, SIZE = 64, 128
# A random crop has at least this share of the image's shorter side, as in `se-keras train`.
ZOOM = 0.7
START_UP = 3
RATE, MOMENTUM, DECAY, SMOOTHING = 0.05, 0.9, 1e-4, 0.1


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its running child processes."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text("utf-8").split()
    stats = [Path(f"/proc/{child}/stat").read_text("utf-8") for child in children]
    # User and system time, after the name in parentheses, which may have spaces.
    ticks = sum(int(n) for stat in stats for n in stat.rpartition(")")[2].split()[11:13])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def reading_rate(batches: Iterable, steps: int) -> float:
    """Return images per second of the input alone; the first batch does not count."""
    source = iter(batches)
    next(source)
    begun = time.perf_counter()
    for _ in islice(source, steps):
        pass
    return steps * BATCH / (time.perf_counter() - begun)


# --- TensorFlow ----------------------------------------------------------------------------------


def settings(folder: Path) -> Any:
    from se_keras.train.config import TrainConfig

    return TrainConfig(
        data=str(folder), model="seresnet18", image_size=SIZE, batch_size=BATCH
    ).completed()


def fit(model: Any, batches: Any, steps: int) -> dict[str, float]:
    """Train for some timed steps, after a few steps in which everything starts."""
    from se_keras.train.input_clock import InputClock

    class Clock(InputClock):
        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            super().on_train_batch_end(batch, logs)
            if batch == 0:  # the first batch does not count
                self.cpu = cpu_seconds()

    for count in (START_UP, steps + 1):
        clock = Clock(BATCH)
        watched = clock.watch(batches)
        model.fit(watched, steps_per_epoch=count, verbose=0, callbacks=[clock])
    found = clock.figures()
    return {
        "images_per_second": found["images_per_second"],
        "images_per_cpu_second": steps * BATCH / (cpu_seconds() - clock.cpu),
        "waiting": found["waiting_for_input"],
        "reading_per_second": reading_rate(batches, steps),
    }


def se_keras_way(folder: Path, steps: int, workers: int) -> dict[str, float]:
    from se_keras.train import data as sources
    from se_keras.train.run import build_model

    config = settings(folder)
    begun = time.perf_counter()
    data = sources.open_data(config)
    sources.fingerprint(data)
    data = sources.prepare(data)
    first_pass = time.perf_counter() - begun
    batches, _ = sources.training_batches(data, BATCH, 0, range(steps * BATCH))
    return fit(build_model(config, data), batches, steps) | {"first_pass_s": first_pass}


def keras_way(folder: Path, steps: int, workers: int) -> dict[str, float]:
    import keras
    import tensorflow as tf

    from se_keras.train import data as sources
    from se_keras.train.run import build_model

    config = settings(folder)
    side = round(SIZE / ZOOM)

    def augment(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        share = tf.random.uniform([BATCH, 1], ZOOM, 1)
        corner = tf.random.uniform([BATCH, 2]) * (1 - share)
        boxes = tf.concat([corner, corner + share], axis=1)
        parts = tf.image.crop_and_resize(images, boxes, tf.range(BATCH), (SIZE, SIZE))
        return tf.image.random_flip_left_right(parts), labels

    batches = (
        keras.utils.image_dataset_from_directory(
            folder,
            label_mode="categorical",
            batch_size=BATCH,
            image_size=(side, side),
            crop_to_aspect_ratio=True,
            seed=0,
            verbose=False,
        )
        .filter(lambda images, _: tf.shape(images)[0] == BATCH)
        .repeat()
        .map(augment, tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    return fit(build_model(config, sources.open_data(config)), batches, steps)


# --- timm ----------------------------------------------------------------------------------------


def timm_way(folder: Path, steps: int, workers: int) -> dict[str, float]:
    import torch

    from benchmarks.peer_side import import_timm

    batches = torch_batches(folder, workers)
    classes = len(list(folder.iterdir()))
    model: Any = import_timm().create_model("seresnet18", num_classes=classes).train()
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY
    )
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    waited, source = 0.0, iter(batches)
    for step in range(START_UP + steps):
        if step == START_UP:
            waited, begun, cpu = 0.0, time.perf_counter(), cpu_seconds()
        asked = time.perf_counter()
        pixels, labels = next(source)
        waited += time.perf_counter() - asked
        images = pixels.to(torch.float32, memory_format=torch.channels_last) / 127.5 - 1
        outputs = model(images)
        loss = loss_of(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        float(loss), float((outputs.argmax(1) == labels).sum())  # as Keras' loss and metric
    seconds, cpu = time.perf_counter() - begun, cpu_seconds() - cpu
    return {
        "images_per_second": steps * BATCH / seconds,
        "images_per_cpu_second": steps * BATCH / cpu,
        "waiting": waited / seconds,
        "reading_per_second": reading_rate(source, steps),
    }


def torch_batches(folder: Path, workers: int) -> Iterator:
    """Yield batches for ever: random squares, resized once by Pillow, as timm does, and flips."""
    import torch
    from PIL import Image

    files = sorted(folder.glob("*/*"))
    names = sorted({file.parent.name for file in files})

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            # PyTorch's seed differs between its worker processes.
            generator = np.random.default_rng(int(torch.randint(2**62, ())))
            with Image.open(files[index]) as image:
                side = round(min(image.size) * generator.uniform(ZOOM, 1))
                left, top = (int(generator.integers(0, whole - side + 1)) for whole in image.size)
                box = (left, top, left + side, top + side)
                part = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR, box)
            pixels = np.asarray(part)[:, :: int(generator.choice([-1, 1]))].copy()
            label = names.index(files[index].parent.name)
            return torch.from_numpy(pixels).permute(2, 0, 1), label

    loader = torch.utils.data.DataLoader(
        Images(),
        BATCH,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


WAYS: dict[str, Callable[[Path, int, int], dict[str, float]]] = {
    "se_keras": se_keras_way,
    "keras": keras_way,
    "timm": timm_way,
}


def main() -> None:
    way, folder, steps, workers = sys.argv[1:]
    print(json.dumps(WAYS[way](Path(folder), int(steps), int(workers))))


if __name__ == "__main__":
    main()
