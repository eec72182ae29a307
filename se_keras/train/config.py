"""What a training run is told: the settings, and what fits each data set."""

import dataclasses
from dataclasses import dataclass
from functools import partial

from se_keras.models.recipes import find_recipe
from se_keras.support.arguments import (
    boolean,
    check_fields,
    integer_below,
    number_from,
    one_of,
    positive_integer,
    positive_number,
    rate,
    text,
    with_suggestions,
)

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What fits a data set where the user says nothing.

    Attributes:
        epochs, batch_size, lr: of the run; `lr` is the peak of the schedule, for `batch_size`.
        image_size: height and width of the images, pixels; `None` for a folder, where the model
            decides.
        shift: augmentation by random shifts of up to so many pixels.
        flip: augmentation by mirroring left to right.
        zoom: augmentation by random square crops, of at least this part of the side.
    """

    epochs: int
    batch_size: int
    lr: float
    image_size: int | None
    shift: int = 0
    flip: bool = False
    zoom: float = 1.0


DEFAULTS = {
    # A mirrored digit is another sign or none: no flip.
    "digits": Defaults(epochs=20, batch_size=64, lr=0.1, image_size=8, shift=1),
    "fashion_mnist": Defaults(epochs=30, batch_size=128, lr=0.1, image_size=28, shift=2, flip=True),
    # He et al. 2015, sec. 4.2: batches of 128, rate 0.1, pad by 4 and crop, flip.
    "cifar10": Defaults(epochs=100, batch_size=128, lr=0.1, image_size=32, shift=4, flip=True),
    "cifar100": Defaults(epochs=100, batch_size=128, lr=0.1, image_size=32, shift=4, flip=True),
}
FOLDER_DEFAULTS = Defaults(epochs=30, batch_size=32, lr=0.05, image_size=None, flip=True, zoom=0.7)

CHECKS = {
    **dict.fromkeys(("image_size", "epochs", "batch_size", "accumulate"), positive_integer),
    **dict.fromkeys(("lr", "clip_norm"), positive_number),
    **dict.fromkeys(("label_smoothing", "ema"), rate),
    "data": text,
    "model": lambda _, name: find_recipe(name).name,
    "weight_decay": partial(number_from, least=0),
    "seed": partial(integer_below, end=2**31),
    "precision": partial(one_of, choices=PRECISIONS),
    "sync_batch_norm": boolean,
}


@with_suggestions
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a training run.

    `None` stands for what fits the data (`se_keras.train.config.DEFAULTS`).

    Attributes:
        data: `"digits"`, `"fashion_mnist"`, `"cifar10"`, `"cifar100"`, or a folder with one folder
            of images for each class, or with such folders in `train` and `test` or `val`.
        model: a name that `se_keras.list_models()` gives.
        image_size: height and width that images are brought to, pixels. `None`: as the data set
            has them; for a folder what the model was made for, at least 64.
        epochs: passes over the training images.
        batch_size: images that decide one update of the weights, over all devices.
        lr: peak of the learning rate, which rises linearly over the first steps and falls as a
            cosine. `None`: that of `DEFAULTS`, in proportion to `batch_size` (the linear scaling
            rule of Goyal et al. 2017, arXiv 1706.02677, sec. 2.1).
        weight_decay: decoupled, for all kernels; not for biases and normalizations.
        label_smoothing: share of each target that goes to all classes alike, in [0, 1).
        seed: of the split, the initial weights, the shuffles and the augmentation.
        precision: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
        accumulate: parts that a batch is computed in, one after the other, for less memory; their
            mean gradient makes the update. Batch normalization sees one part at a time.
        clip_norm: largest norm of an update's gradient, all variables together; `None` for no
            limit.
        ema: momentum, in [0, 1), of the moving average of the weights over the updates, which is
            tested and saved in their place; `None` for the last weights.
        sync_batch_norm: normalize with the statistics of all devices. Without it TensorFlow uses
            those of each device; JAX has those of the whole batch either way.

    Raises:
        InputError: if a setting is out of its range.

    Example:

    >>> from se_keras.train import TrainConfig
    >>> TrainConfig(data="cifar10", epochs=0)
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: `epochs` must be a positive integer, got 0.
    """

    data: str = "digits"
    model: str = "seresnet20"
    image_size: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    # He et al. 2015, sec. 4.2, and the SENet paper, sec. 5.1.
    weight_decay: float = 1e-4
    # Szegedy et al. 2015 (arXiv 1512.00567), sec. 7.
    label_smoothing: float = 0.1
    seed: int = 0
    precision: str = "float32"
    accumulate: int = 1
    clip_norm: float | None = None
    ema: float | None = None
    sync_batch_norm: bool = False

    def __post_init__(self):
        check_fields(self, CHECKS)

    @property
    def defaults(self) -> Defaults:
        """What fits the data set."""
        return DEFAULTS.get(self.data, FOLDER_DEFAULTS)

    def completed(self) -> "TrainConfig":
        """The same with every setting filled in, except the batch size of a folder.

        Example:

        >>> TrainConfig(data="cifar10", epochs=3).completed().lr
        0.1
        >>> TrainConfig(data="cifar10", batch_size=256).completed().lr
        0.2
        """
        batches = (self.batch_size or self.defaults.batch_size) / self.defaults.batch_size
        fallback = {
            "image_size": self.defaults.image_size or max(64, find_recipe(self.model).input_size),
            "epochs": self.defaults.epochs,
            "lr": self.defaults.lr * batches,
        }
        missing = {name: value for name, value in fallback.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)
