"""Folders of image files for measurements: pieces of scikit-learn's two photos, by a seed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

# The last two have red and blue exchanged.
CLASSES = ("china", "flower", "blue_china", "blue_flower")
NOISE = 3.0


def write_folder(
    folder: Path, count: int, size: int, suffix: str, classes: Sequence[str] = CLASSES
) -> None:
    """Write pieces of the photos, with the noise of a camera, whose longer side is `size`."""
    generator = np.random.default_rng(0)
    photos = load_sample_images().images
    arrays = [*photos, *(photo[..., ::-1] for photo in photos)]
    for name, array in zip(classes, arrays, strict=False):
        photo = Image.fromarray(np.ascontiguousarray(array))
        scale = max(1, size * 1.05 / photo.width)
        if scale > 1:
            photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
        (folder / name).mkdir(parents=True)
        for number in range(count // len(classes)):
            width, height = size, round(size * generator.uniform(0.6, 0.67))
            left, top = (
                int(generator.integers(0, whole - part + 1))
                for whole, part in zip(photo.size, (width, height), strict=True)
            )
            piece = np.asarray(photo.crop((left, top, left + width, top + height)))
            noise = generator.standard_normal((height, width, 1), "float32")
            image = Image.fromarray((piece + NOISE * noise).clip(0, 255).astype("uint8"))
            image.save(folder / name / f"{number}.{suffix}", quality=88)
