"""Images a second in training from a folder: this package, Keras' own way, and PyTorch with timm.

    python -m benchmarks.folder_training [--images N] [--steps N] [--rounds N]

Makes a folder of JPEG files of 500 pixels, as `benchmarks.reading` does, and trains SE-ResNet-18 at
128 pixels on them, each way in a process of its own; the processes take turns:

- `se_keras`: as `se-keras train` does it, with random square parts and flips, after the pass that
  reads every image once, whose time stands beside;
- `keras`: the same network by `keras.utils.image_dataset_from_directory` and `fit`;
- `timm`: its network by PyTorch's DataLoader with a process for each core, and Pillow. Loss and
  metric as in the others.

The last two decode every image again in every epoch. Each way trains so many steps of 32 images,
after three that are not counted. Prints medians, of wall and of CPU time (with the threads and
processes that read), and of the share of the time in which the step waits for its images.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from se_keras.support.tables import format_table

BATCH, SIZE, UNCOUNTED = 32, 128, 3


class Clock:
    """Notes when steps begin, have their batch, and end."""

    def __init__(self) -> None:
        self.waited = 0.0
        self.ends: list[float] = []

    def watch(self, batches: Iterable, steps: int) -> Iterator:
        """Yield so many batches; what comes between is taken for the step."""
        source = iter(batches)
        for step in range(steps + UNCOUNTED):
            begun = time.perf_counter()
            batch = next(source)
            if step >= UNCOUNTED:
                self.waited += time.perf_counter() - begun
            yield batch
            self.ends.append(time.perf_counter())
            if step == UNCOUNTED - 1:
                self.cpu = _cpu_seconds()

    def figures(self) -> dict[str, float]:
        seconds = self.ends[-1] - self.ends[UNCOUNTED - 1]
        images = BATCH * (len(self.ends) - UNCOUNTED)
        cpu = _cpu_seconds() - self.cpu
        return {"second": images / seconds, "cpu": images / cpu, "waiting": self.waited / seconds}


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it has begun, which may still run."""
    ours = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    ticks = [
        sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        for pid in ours
    ]
    return time.process_time() + sum(ticks) / os.sysconf("SC_CLK_TCK")


def se_keras_way(folder: Path, steps: int) -> dict[str, float]:
    from se_keras.train import data as sources
    from se_keras.train.config import TrainConfig
    from se_keras.train.input_clock import InputClock
    from se_keras.train.run import build_model

    config = TrainConfig(
        data=str(folder), model="seresnet18", image_size=SIZE, batch_size=BATCH
    ).completed()
    begun = time.perf_counter()
    data = sources.open_data(config)
    sources.fingerprint(data)
    data = sources.prepare(data)
    first_pass = time.perf_counter() - begun
    model = build_model(config, data)
    batches, _ = sources.training_batches(data, BATCH, 0, range(99))
    clock, own = Clock(), InputClock(BATCH)
    _fit(model, own.watch(batches), clock, steps, [own])
    # Its own clock sees the wait inside `tf.data`, too.
    return clock.figures() | {
        "waiting": own.figures()["waiting_for_input"],
        "first pass": first_pass,
    }


def keras_way(folder: Path, steps: int) -> dict[str, float]:
    import keras
    import tensorflow as tf

    import se_keras
    from se_keras.train.input_clock import InputClock

    batches = keras.utils.image_dataset_from_directory(
        folder,
        label_mode="categorical",
        batch_size=BATCH,
        image_size=(SIZE, SIZE),
        crop_to_aspect_ratio=True,
        seed=0,
        verbose=False,
    )
    # Full batches only, as in the other ways.
    batches = batches.unbatch().batch(BATCH, drop_remainder=True).repeat()
    pixels = keras.Input((SIZE, SIZE, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0)(pixels)
    model = se_keras.create("seresnet18", input_tensor=scaled, classes=2)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(optimizer, loss, weighted_metrics=["accuracy"], jit_compile=False)
    clock, own = Clock(), InputClock(BATCH)
    _fit(model, own.watch(batches.prefetch(tf.data.AUTOTUNE)), clock, steps, [own])
    return clock.figures() | {"waiting": own.figures()["waiting_for_input"]}


def _fit(model, batches, clock: Clock, steps: int, callbacks: list) -> None:
    import keras

    class Ends(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            clock.ends.append(time.perf_counter())
            if batch == UNCOUNTED - 1:
                clock.cpu = _cpu_seconds()

    model.fit(batches, steps_per_epoch=steps + UNCOUNTED, verbose=0, callbacks=[*callbacks, Ends()])


def timm_way(folder: Path, steps: int) -> dict[str, float]:
    import timm
    import torch
    from PIL import Image

    files = sorted(folder.glob("*/*.jpg"))
    names = sorted({file.parent.name for file in files})

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            generator = np.random.default_rng()  # one for all would draw the same in each process
            with Image.open(files[index]) as image:
                # Decodes at a smaller scale where that is enough.
                image.draft("RGB", (2 * SIZE, 2 * SIZE))
                side = round(min(image.size) * generator.uniform(0.7, 1))
                left, top = (generator.integers(0, whole - side + 1) for whole in image.size)
                box = (left, top, left + side, top + side)
                part = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR, box)
            pixels = np.asarray(part)[:, :: generator.choice([-1, 1])].copy()
            label = names.index(files[index].parent.name)
            return torch.from_numpy(pixels).permute(2, 0, 1), label

    cores = len(os.sched_getaffinity(0))
    loader = torch.utils.data.DataLoader(
        Images(), BATCH, shuffle=True, num_workers=cores, drop_last=True, persistent_workers=True
    )
    model = timm.create_model("seresnet18", num_classes=2).train()
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    def epochs() -> Iterator:
        while True:
            yield from loader

    clock = Clock()
    for images, labels in clock.watch(epochs(), steps):
        scaled = images.to(torch.float32, memory_format=torch.channels_last) / 127.5 - 1
        outputs = model(scaled)
        loss = loss_of(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        (outputs.argmax(1) == labels).float().mean().item()
    return clock.figures()


WAYS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "se_keras": se_keras_way,
    "keras": keras_way,
    "timm": timm_way,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--images", type=int, default=5000, help="JPEG files in the folder")
    parser.add_argument("--steps", type=int, default=60, help="steps of each process that count")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each way")
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(WAYS[given.only](given.folder, given.steps)))
        return
    from benchmarks.reading import write_folder

    figures: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        write_folder(folder, given.images, 500, "jpg")
        for _ in range(given.rounds):
            for way, found in figures.items():
                options = ["--only", way, "--folder", folder, "--steps", str(given.steps)]
                command = [sys.executable, "-m", "benchmarks.folder_training", *options]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for way, found in figures.items():
        middle = {name: float(np.median([each[name] for each in found])) for name in found[0]}
        spread = "{:.1f} to {:.1f}".format(*np.sort([each["second"] for each in found])[[0, -1]])
        second, cpu = (round(middle[name], 1) for name in ("second", "cpu"))
        first = middle.get("first pass")
        waiting = f"{middle['waiting']:.1%}"
        rows.append([way, second, spread, cpu, waiting, "" if first is None else f"{first:.1f} s"])
    print(f"{os.cpu_count()} cores, {given.images:,} images; load average {os.getloadavg()[0]:.1f}")
    print(
        format_table(
            ["way", "images/s", "lowest to highest", "images/CPU s", "waiting", "first pass"], rows
        )
    )


if __name__ == "__main__":
    main()
