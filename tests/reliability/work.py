"""Make the files on which the commands of these tests work."""

import numpy as np
from PIL import Image

# Small enough to take a second or two, with all that the commands look for.
TRAIN = ("train", "--data", "photos", "--image-size", "8", "--model", "seresnet20", "--seed", "1")
TRAIN += ("--batch-size", "16", "--epochs", "2", "--patience", "0", "--out", "run")


def photos(folder, images=12):
    """Two classes of noise, one brighter."""
    generator = np.random.default_rng(0)
    for name, least in (("dark", 0), ("light", 120)):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            pixels = generator.integers(least, least + 130, (10, 10, 3), "uint8")
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
