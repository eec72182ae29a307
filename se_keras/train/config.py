"""The settings of a training run, and the defaults for each data set."""

import dataclasses
import inspect
import os
import textwrap
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from se_keras.models.recipes import ATTENTIONS, RECIPES, find_recipe
from se_keras.support.arguments import (
    Check,
    boolean,
    check_fields,
    did_you_mean,
    integer_below,
    number_between,
    number_from,
    one_of,
    positive_integer,
    positive_number,
    positive_share,
    rate,
    text,
    text_of_path,
    with_suggestions,
)
from se_keras.support.errors import InputError, shown
from se_keras.support.files import neighbors
from se_keras.weights.preprocessing import MAX_SIDE, SOURCE

Settings = TypeVar("Settings")

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
CHOICES = ("best", "last")
CLASS_WEIGHTS = ("none", "balanced")
# As in `se_keras.blocks` and `se_keras.pixels`, which import Keras and so can't be imported here.
PLACEMENTS = ("standard", "pre", "post", "identity", "conv3x3")
PIXEL_WORDS = ("raw", "imagenet", "tf")
# Keras draws wrong numbers from beta distributions with smaller parameters: from Beta(0.01, 0.01),
# 18 % are 1/2, which should be near 0 or 1.
LEAST_ALPHA = 0.1


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """The defaults for a data set.

    Attributes:
        epochs, batch_size, lr: settings of the run; `lr` is the peak of the schedule for
            `batch_size`.
        image_size: height and width of the images in pixels; `None` for the model's size.
        shift: augmentation by random shifts of up to this many pixels.
        flip: augmentation by mirroring left to right.
        zoom: augmentation by random square crops of at least this share of the side.
        patience: number of epochs without improvement after which a run ends; 0 for no limit.
    """

    epochs: int
    batch_size: int
    lr: float
    image_size: int | None
    shift: int = 0
    flip: bool = False
    zoom: float = 1.0
    patience: int = 0


DEFAULTS = {
    # No flip: a mirrored digit is another sign, or none.
    "digits": Defaults(epochs=20, batch_size=64, lr=0.1, image_size=8, shift=1),
    "fashion_mnist": Defaults(epochs=30, batch_size=128, lr=0.1, image_size=28, shift=2, flip=True),
    # He et al. 2015, sec. 4.2: batches of 128, rate 0.1, pad by 4 and crop, flip.
    "cifar10": Defaults(epochs=100, batch_size=128, lr=0.1, image_size=32, shift=4, flip=True),
    "cifar100": Defaults(epochs=100, batch_size=128, lr=0.1, image_size=32, shift=4, flip=True),
}
# The smallest height and width to which images of a folder are resized by default.
SMALLEST = 64
FOLDER_DEFAULTS = Defaults(
    epochs=30, batch_size=32, lr=0.05, image_size=None, flip=True, zoom=0.7, patience=10
)

# The model that is trained by default.
DEFAULT_MODEL = "seresnet20"


def is_model_file(model: str | None) -> bool:
    """Return whether a model is named by a path and not by the catalog.

    Example:

    >>> from se_keras.train.config import is_model_file
    >>> is_model_file("runs/photos/model.keras"), is_model_file("seresnet50")
    (True, False)
    """
    return model is not None and model.lower().endswith(".keras")


def _model(argument: str, model: Any) -> str:
    model = text_of_path(argument, model)
    if is_model_file(model):
        return model
    is_name = any(recipe.name == model for recipe in RECIPES)
    if not is_name and os.path.isdir(model):
        return _model_of_run(argument, Path(model))
    if not is_name and os.sep in model:
        hint = did_you_mean(model, neighbors(model))
        raise InputError(f"`{argument}`: there is no {model}.{hint}")
    return find_recipe(model).name


def _model_of_run(argument: str, folder: Path) -> str:
    file = folder / "model.keras"
    if not file.is_file():
        unfinished = (folder / "settings.json").is_file()
        what = "a run that is not finished" if unfinished else "not the folder of a run"
        raise InputError(f"`{argument}`: {folder} is {what}: it has no model.keras.")
    return str(file)


def _pixels(argument: str, value: Any) -> str:
    """Check the form of a source of pixels; it is read only when the run begins."""
    name = text(argument, value)
    known = [*PIXEL_WORDS, *(recipe.name for recipe in RECIPES)]
    if name not in known and not SOURCE.fullmatch(name):
        raise InputError(
            f"`{argument}` must be {', '.join(PIXEL_WORDS)}, the name of a network or of published "
            "weights such as 'seresnet50.a1_in1k', 'hf://owner/repo' or a file of weights, got "
            f"{shown(value)}.{did_you_mean(name, known)}"
        )
    return name


# The groups of options in the help of `se-keras train`.
DATA = "data"
MODEL = "model and weights"
FINE_TUNING = "fine-tuning of pretrained weights"
TRAINING = "training"
AUGMENTATION = "augmentation"
DEVICES = "devices"
GROUPS = (DATA, MODEL, FINE_TUNING, TRAINING, AUGMENTATION, DEVICES)

CHECKS: dict[str, Check] = {
    **dict.fromkeys(("epochs", "batch_size", "accumulate", "ratio", "unfreeze"), positive_integer),
    "image_size": partial(positive_integer, most=MAX_SIDE),
    **dict.fromkeys(("tuning_rate", "layer_decay", "rand_augment"), positive_share),
    **dict.fromkeys(("lr", "clip_norm"), positive_number),
    **dict.fromkeys(("label_smoothing", "ema"), rate),
    "placement": partial(one_of, choices=PLACEMENTS),
    "pixels": _pixels,
    "model": _model,
    **dict.fromkeys(("data", "split", "weights"), text_of_path),
    **dict.fromkeys(("mixup", "cutmix"), partial(number_between, least=LEAST_ALPHA, most=1)),
    "weight_decay": partial(number_from, least=0),
    **dict.fromkeys(("seed", "patience", "freeze"), partial(integer_below, end=2**31)),
    "attention": partial(one_of, choices=ATTENTIONS),
    "choose": partial(one_of, choices=CHOICES),
    "class_weights": partial(one_of, choices=CLASS_WEIGHTS),
    "precision": partial(one_of, choices=PRECISIONS),
    **dict.fromkeys(("sync_batch_norm", "no_se"), boolean),
}


def option(group: str, metavar: str, help: str, default: Any = None, unset: str = "") -> Any:
    """Make the dataclass field of a setting, which is also an option of `se-keras train`.

    Args:
        group: one of `GROUPS`.
        metavar: placeholder of the value in the help.
        help: description of the setting.
        default: default; `None` if it depends on other settings.
        unset: description of `None`, or of an unset flag.
    """
    meaning = unset or default
    text = help if meaning is None else f"{help} (default: {meaning})"
    return field(default=default, metadata={"group": group, "metavar": metavar, "help": text})


def _fitting(name: str) -> str:
    """Return the defaults of the data sets in words: "20 for digits; ..."."""
    names: dict[Any, list[str]] = {}
    for data, row in {**DEFAULTS, "a folder": FOLDER_DEFAULTS}.items():
        names.setdefault(getattr(row, name), []).append(data)
    return "; ".join(f"{value} for {', '.join(of)}" for value, of in names.items() if value)


def documented(settings: type[Settings]) -> type[Settings]:
    """Add the help of each field to the docstring of a dataclass, as its attributes."""
    shape: dict[str, Any] = {"width": 100, "initial_indent": 4 * " ", "subsequent_indent": 8 * " "}
    known = fields(settings)  # type: ignore[arg-type]  # it is a dataclass
    texts = (f"{each.name}: {each.metadata['help']}." for each in known)
    attributes = "\n".join(textwrap.fill(text, **shape) for text in texts)
    doc = inspect.getdoc(settings) or ""
    settings.__doc__ = doc.replace("Raises:", f"Attributes:\n{attributes}\n\nRaises:")
    return settings


@with_suggestions
@documented
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a training run.

    `None` stands for the default of the data set or model.

    Raises:
        InputError: if a setting is invalid.

    Example:

    >>> from se_keras.train import TrainConfig
    >>> TrainConfig(data="cifar10", epochs=0)
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: `epochs` must be a positive integer, got 0.
    """

    data: str = option(
        DATA,
        "DATA",
        f"{', '.join(DEFAULTS)}, or a folder of images: one folder for each class, or a train "
        "folder and a val or test folder that have one for each class",
        "digits",
    )
    split: str | None = option(
        DATA,
        "FILE",
        "CSV file that says which part each image belongs to, with the columns file, class and "
        "part, such as split.csv of a run",
        unset="the parts that the data have; missing ones are drawn from the training images with "
        "the seed: a fifth of each class for the test, 15 % for validation",
    )
    image_size: int | None = option(
        DATA,
        "PIXELS",
        "height and width to which images are resized",
        unset=f"{_fitting('image_size')}; for a folder the usual size of the model, at "
        f"least {SMALLEST}",
    )
    model: str | None = option(
        MODEL,
        "MODEL",
        "a name that `se-keras list` shows, or the folder of a finished run or a .keras file of a "
        "classifier or backbone, which gets a new classifier and is trained further",
        unset=f"{DEFAULT_MODEL}; with weights their network",
    )
    weights: str | None = option(
        MODEL,
        "SOURCE",
        "pretrained weights to begin with: a name such as seresnet50.a1_in1k, or "
        "hf://OWNER/REPO[@REVISION]; or, together with the name of a model, imagenet or a file. "
        "The classifier is always new",
        unset="random weights",
    )
    pixels: str | None = option(
        MODEL,
        "NAME",
        "pixel values that pretrained weights take, needed only if they do not state them: raw "
        "(0..255), imagenet (ImageNet's mean and deviation), tf (-1..1), or the name of the "
        "published weights that they were trained from",
        unset="as stated by the weights or the model",
    )
    # Varied in the SENet paper: Table 10; Fig. 5 and Tables 14 and 15; networks without SE.
    ratio: int | None = option(
        MODEL,
        "N",
        "reduction ratio of SE: C channels are squeezed to C/N units",
        unset="as in the model, usually 16",
    )
    placement: str | None = option(
        MODEL,
        "WHERE",
        "position of SE in the residual units: standard, pre, post, identity or conv3x3",
        unset="as in the model, usually standard",
    )
    attention: str | None = option(
        MODEL,
        "KIND",
        "layer in the places of SE: se, or its kin eca, ese (effective SE), scse (concurrent "
        "spatial and channel SE) or ge (gather-excite)",
        unset="as in the model, usually se",
    )
    no_se: bool = option(
        MODEL, "", "train the same network without SE, for comparison", False, unset="with SE"
    )
    freeze: int | None = option(
        FINE_TUNING,
        "N",
        "number of epochs at the start that train only the new classifier, at the full learning "
        "rate",
        unset="5; without pretrained weights 0",
    )
    tuning_rate: float | None = option(
        FINE_TUNING,
        "SHARE",
        "factor of the learning rate after the frozen epochs",
        unset="1",
    )
    layer_decay: float | None = option(
        FINE_TUNING,
        "SHARE",
        "learning rate of each stage relative to the next stage, so that the first stages change "
        "least; a stage ends where the feature maps get smaller",
        unset="1, the same rate for all",
    )
    unfreeze: int | None = option(
        FINE_TUNING,
        "N",
        "train only the last N stages and the classifier after the frozen epochs",
        unset="all stages",
    )
    epochs: int | None = option(
        TRAINING, "N", "passes over the training images", unset=_fitting("epochs")
    )
    patience: int | None = option(
        TRAINING,
        "N",
        "stop after N epochs without a better result on the validation images; 0 never stops early",
        unset=f"{_fitting('patience')}; 0 for the others",
    )
    choose: str = option(
        TRAINING,
        "EPOCH",
        "epoch to keep: best, by the validation images, or last",
        CHOICES[0],
    )
    class_weights: str = option(
        TRAINING,
        "HOW",
        "balanced: each class counts the same in the loss and in the choice of the epoch, however "
        "many images it has; none: each image counts the same",
        CLASS_WEIGHTS[0],
    )
    batch_size: int | None = option(
        TRAINING,
        "N",
        "number of images for one update of the weights, over all devices",
        unset=_fitting("batch_size"),
    )
    # In proportion to the batch: Goyal et al. 2017 (arXiv 1706.02677), sec. 2.1.
    lr: float | None = option(
        TRAINING,
        "RATE",
        "peak of the learning rate, which rises linearly over the first steps and then falls "
        "along a cosine",
        unset=f"{_fitting('lr')}; in proportion to the batch size",
    )
    # He et al. 2015, sec. 4.2, and the SENet paper, sec. 5.1.
    weight_decay: float = option(
        TRAINING,
        "RATE",
        "decoupled weight decay of kernels; biases and normalization layers have none",
        1e-4,
    )
    # Szegedy et al. 2015 (arXiv 1512.00567), sec. 7.
    label_smoothing: float = option(
        TRAINING,
        "SHARE",
        "label smoothing: share of each target, in [0, 1), that is spread over all classes",
        0.1,
    )
    clip_norm: float | None = option(
        TRAINING,
        "NORM",
        "largest norm of the gradient of all variables together; a larger one is scaled down",
        unset="no limit",
    )
    ema: float | None = option(
        TRAINING,
        "MOMENTUM",
        "test and save a moving average of the weights over the updates, with this momentum, such "
        "as 0.999",
        unset="the weights after the last update",
    )
    accumulate: int = option(
        TRAINING,
        "N",
        "compute each batch in N parts, one after the other, which saves memory; batch "
        "normalization sees one part at a time",
        1,
    )
    precision: str = option(TRAINING, "P", f"one of {', '.join(PRECISIONS)}", PRECISIONS[0])
    seed: int = option(
        TRAINING,
        "N",
        "seed of the split, the initial weights, the shuffling and the augmentation",
        0,
    )
    mixup: float | None = option(
        AUGMENTATION,
        "ALPHA",
        "blend each image and its label with another one of the batch, in shares drawn from "
        "Beta(ALPHA, ALPHA); ALPHA is in [0.1, 1]; the training accuracy then goes by the label "
        "with the larger share",
        unset="no blending",
    )
    cutmix: float | None = option(
        AUGMENTATION,
        "ALPHA",
        "replace a rectangle of each image by one from another image of the batch, and the same "
        "share of its label; ALPHA is in [0.1, 1]; if mixup is given too, each batch gets one of "
        "the two",
        unset="no rectangles",
    )
    rand_augment: float | None = option(
        AUGMENTATION,
        "MAGNITUDE",
        "change each image in two of eleven ways, such as rotation, shear and contrast, by up to "
        "MAGNITUDE in (0, 1]; at 1 a rotation may be a full turn",
        unset="no such changes",
    )
    sync_batch_norm: bool = option(
        DEVICES,
        "",
        "compute the statistics of batch normalization over all devices, as JAX always does",
        False,
        unset="each device by itself",
    )

    def __post_init__(self):
        check_fields(self, CHECKS)
        if self.no_se and self._of_gates:
            raise InputError(
                "`ratio`, `placement` and `attention` need SE blocks, but `no_se` removes them."
            )

    @property
    def network_options(self) -> dict[str, Any]:
        """Return the options of the network for `se_keras.create`."""
        return self._of_gates | ({"se": False} if self.no_se else {})

    @property
    def _of_gates(self) -> dict[str, Any]:
        names = ("ratio", "placement", "attention")
        asked = {name: getattr(self, name) for name in names}
        return {name: value for name, value in asked.items() if value is not None}

    @property
    def begins_with_weights(self) -> bool:
        """Return whether the run starts from trained weights."""
        return self.weights is not None or is_model_file(self.model)

    @property
    def defaults(self) -> Defaults:
        """Return the defaults of the data set."""
        return DEFAULTS.get(self.data, FOLDER_DEFAULTS)

    def completed(self) -> "TrainConfig":
        """Return a copy with all defaults filled in, except the batch size for a folder.

        If the run starts from weights, `start_of` fills in `model`, `image_size`, `freeze` and
        `tuning_rate`.

        Raises:
            InputError: if there is no such data set.

        Example:

        >>> TrainConfig(data="cifar10", epochs=3).completed().lr
        0.1
        >>> TrainConfig(data="cifar10", batch_size=256).completed().lr
        0.2
        """
        if self.data not in DEFAULTS and not os.path.isdir(self.data):
            raise InputError(
                f"`data` must be one of {', '.join(DEFAULTS)} or a folder, got {shown(self.data)}."
                + did_you_mean(self.data, [*DEFAULTS, *neighbors(self.data)])
            )
        batches = (self.batch_size or self.defaults.batch_size) / self.defaults.batch_size
        fallback: dict[str, Any] = {
            "epochs": self.defaults.epochs,
            "patience": self.defaults.patience,
            "lr": self.defaults.lr * batches,
        }
        if not self.begins_with_weights:
            fallback["model"] = model = self.model or DEFAULT_MODEL
            made_for = max(SMALLEST, find_recipe(model).input_size)
            fallback["image_size"] = self.defaults.image_size or made_for
        missing: dict[str, Any] = {
            name: value for name, value in fallback.items() if getattr(self, name) is None
        }
        return dataclasses.replace(self, **missing)


@with_suggestions
@documented
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The devices and processes of a run.

    Raises:
        InputError: if a value is out of range, or only some of `coordinator`, `process` and
            `processes` are given.

    Example:

    >>> Cluster(coordinator="10.0.0.1:4321", process=4, processes=4)
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: `process` must be an integer from 0 to 3, got 4.
    """

    devices: int | None = option(
        DEVICES,
        "N",
        "number of devices of each process; without a GPU the CPU is split into N virtual ones",
        unset="1; with a coordinator all of them",
    )
    coordinator: str | None = option(
        DEVICES,
        "HOST:PORT",
        "address of process 0, where all processes of a run meet; needs KERAS_BACKEND=jax",
        unset="a single process",
    )
    process: int | None = option(DEVICES, "I", "with a coordinator: number of this process, from 0")
    processes: int | None = option(DEVICES, "N", "with a coordinator: number of processes")

    def __post_init__(self):
        checks: dict[str, Check] = {
            "devices": positive_integer,
            "processes": positive_integer,
            "coordinator": text,
        }
        check_fields(self, checks)
        check_fields(self, {"process": partial(integer_below, end=self.processes or 2**31)})
        together = (self.coordinator, self.process, self.processes)
        if together == (None, None, None):
            return
        if self.coordinator is None or self.process is None or self.processes is None:
            raise InputError("`coordinator`, `process` and `processes` must be given together.")
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"`coordinator` must be HOST:PORT, got {shown(self.coordinator)}.")
