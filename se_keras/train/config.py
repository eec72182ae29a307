"""The settings of a training run, and the defaults for each data set."""

import dataclasses
import inspect
import os
import textwrap
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from se_keras.models.recipes import RECIPES, find_recipe
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
    with_suggestions,
)
from se_keras.support.errors import InputError
from se_keras.support.files import neighbors

Settings = TypeVar("Settings")

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
CHOICES = ("best", "last")
CLASS_WEIGHTS = ("none", "balanced")
# The least parameter of a beta distribution that Keras draws from rightly: of Beta(0.01, 0.01) it
# draws 1/2 in 18 of 100 cases, where it should be near 0 or 1.
LEAST_ALPHA = 0.1


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """The defaults for a data set.

    Attributes:
        epochs, batch_size, lr: of the run; `lr` is the peak of the schedule, for `batch_size`.
        image_size: height and width of the images, pixels; `None` for a folder, where the model
            decides.
        shift: augmentation by random shifts of up to so many pixels.
        flip: augmentation by mirroring left to right.
        zoom: augmentation by random square crops, of at least this part of the side.
        patience: epochs without a better one after which a run ends; 0 where it never does.
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
    # A mirrored digit is another sign or none: no flip.
    "digits": Defaults(epochs=20, batch_size=64, lr=0.1, image_size=8, shift=1),
    "fashion_mnist": Defaults(epochs=30, batch_size=128, lr=0.1, image_size=28, shift=2, flip=True),
    # He et al. 2015, sec. 4.2: batches of 128, rate 0.1, pad by 4 and crop, flip.
    "cifar10": Defaults(epochs=100, batch_size=128, lr=0.1, image_size=32, shift=4, flip=True),
    "cifar100": Defaults(epochs=100, batch_size=128, lr=0.1, image_size=32, shift=4, flip=True),
}
# Height and width to which the images of a folder are brought at least.
SMALLEST = 64
FOLDER_DEFAULTS = Defaults(
    epochs=30, batch_size=32, lr=0.05, image_size=None, flip=True, zoom=0.7, patience=10
)

# What is trained where the user says nothing.
DEFAULT_MODEL = "seresnet20"


def is_model_file(model: str | None) -> bool:
    """Return whether a model is named by a `.keras` file, not by the catalog.

    Example:

    >>> from se_keras.train.config import is_model_file
    >>> is_model_file("runs/photos/model.keras"), is_model_file("seresnet50")
    (True, False)
    """
    return model is not None and model.lower().endswith(".keras")


def _model(argument: str, model: Any) -> str:
    model = _text_of_path(argument, model)
    if is_model_file(model):
        return model
    is_name = any(recipe.name == model for recipe in RECIPES)
    if not is_name and Path(model).is_dir():
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


def _text_of_path(argument: str, value: Any) -> str:
    return text(argument, os.fspath(value) if isinstance(value, os.PathLike) else value)


CHECKS: dict[str, Check] = {
    **dict.fromkeys(
        ("image_size", "epochs", "batch_size", "accumulate", "ratio", "unfreeze"), positive_integer
    ),
    **dict.fromkeys(("tuning_rate", "layer_decay", "rand_augment"), positive_share),
    **dict.fromkeys(("lr", "clip_norm"), positive_number),
    **dict.fromkeys(("label_smoothing", "ema"), rate),
    **dict.fromkeys(("data", "split", "placement", "pixels"), text),
    "model": _model,
    "weights": _text_of_path,
    **dict.fromkeys(("mixup", "cutmix"), partial(number_between, least=LEAST_ALPHA, most=1)),
    "weight_decay": partial(number_from, least=0),
    **dict.fromkeys(("seed", "patience", "freeze"), partial(integer_below, end=2**31)),
    "choose": partial(one_of, choices=CHOICES),
    "class_weights": partial(one_of, choices=CLASS_WEIGHTS),
    "precision": partial(one_of, choices=PRECISIONS),
    **dict.fromkeys(("sync_batch_norm", "no_se"), boolean),
}


def option(metavar: str, help: str, default: Any = None, unset: str = "") -> Any:
    """Make the field of a setting, of which `se-keras train` makes an option.

    Args:
        metavar: what stands for the value in the help.
        help: what the setting is.
        default: `None` where it depends on the rest.
        unset: what `None`, or no flag, means.
    """
    meaning = unset or default
    text = help if meaning is None else f"{help} (default: {meaning})"
    return field(default=default, metadata={"metavar": metavar, "help": text})


def _fitting(name: str) -> str:
    """Return what the data sets have where the user says nothing: "20 for digits; ..."."""
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

    `None` stands for what fits the data.

    Raises:
        InputError: if a setting is out of its range.

    Example:

    >>> from se_keras.train import TrainConfig
    >>> TrainConfig(data="cifar10", epochs=0)
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: `epochs` must be a positive integer, got 0.
    """

    data: str = option(
        "DATA",
        f"{', '.join(DEFAULTS)}, or a folder with one folder of images for each class, or "
        "with such folders in train and test or val",
        "digits",
    )
    model: str | None = option(
        "MODEL",
        "a name that `se-keras list` shows; or a .keras file of a classifier or a backbone, or the "
        "folder of a finished run, whose weights are trained on with a fresh classifier",
        unset=f"{DEFAULT_MODEL}; with weights the network that they are for",
    )
    weights: str | None = option(
        "SOURCE",
        "weights to begin with: a name such as seresnet50.a1_in1k, hf://OWNER/REPO[@REVISION], or, "
        "with a model's name, imagenet or a file; the classifier is fresh",
        unset="fresh ones",
    )
    pixels: str | None = option(
        "NAME",
        "what pixels such weights take, where nothing says it: raw (0..255), imagenet (its mean "
        "and deviation), tf (-1..1), or the published weights that they began with",
        unset="what the weights or the model say",
    )
    freeze: int | None = option(
        "N",
        "with such weights: epochs in which the classifier alone is trained, at the whole learning "
        "rate; the other layers follow",
        unset="5; with fresh weights there are none",
    )
    tuning_rate: float | None = option(
        "SHARE",
        "part of the learning rate at which layers are trained after these epochs",
        unset="1",
    )
    layer_decay: float | None = option(
        "SHARE",
        "with such weights: the rate of each stage of the network to that of the next one, so that "
        "the first ones change least; a stage ends where the maps get smaller",
        unset="1, the same rate for all",
    )
    unfreeze: int | None = option(
        "N",
        "with such weights: after these epochs train the last N stages and the classifier only",
        unset="all",
    )
    # What the SENet paper varies: Table 10; Fig. 5 and Tables 14 and 15; its plain networks.
    ratio: int | None = option(
        "N", "channels of a map to one of the hidden layer of its SE block", unset="the model's, 16"
    )
    placement: str | None = option(
        "WHERE",
        "SE in the residual units: standard, pre, post, identity or conv3x3",
        unset="the model's, standard",
    )
    no_se: bool = option(
        "", "train the plain twin, the same network without SE", False, unset="with SE"
    )
    image_size: int | None = option(
        "PIXELS",
        "height and width that images are brought to",
        unset=f"{_fitting('image_size')}; what the model was made for, at least {SMALLEST}, for a "
        "folder",
    )
    split: str | None = option(
        "FILE",
        "the images of each part: a CSV of file, class and part, such as a run leaves as split.csv",
        unset="the parts that the data have; a missing one is drawn from the training images by "
        "the seed, a fifth of each class for the test, 15 % for validation",
    )
    epochs: int | None = option("N", "passes over the training images", unset=_fitting("epochs"))
    patience: int | None = option(
        "N",
        "end after so many epochs without a better one by the validation images; 0: never",
        unset=f"{_fitting('patience')}; 0 for the others",
    )
    choose: str = option(
        "EPOCH", "epoch that is kept: best, by the validation images, or last", CHOICES[0]
    )
    class_weights: str = option(
        "HOW",
        "balanced: each class counts alike, however many images it has, in the loss and in the "
        "choice of the epoch; none: each image does",
        CLASS_WEIGHTS[0],
    )
    batch_size: int | None = option(
        "N",
        "images that decide one update of the weights, over all devices",
        unset=_fitting("batch_size"),
    )
    # In proportion to the batch: Goyal et al. 2017 (arXiv 1706.02677), sec. 2.1.
    lr: float | None = option(
        "RATE",
        "peak of the learning rate, which rises linearly over the first steps and falls as a "
        "cosine",
        unset=f"{_fitting('lr')}; in proportion to the batch size",
    )
    mixup: float | None = option(
        "ALPHA",
        "blend each image and its label with another one of its batch, in shares drawn from "
        "Beta(ALPHA, ALPHA), 0.1 to 1; the training accuracy then goes by the larger share",
        unset="no mixing",
    )
    cutmix: float | None = option(
        "ALPHA",
        "put a rectangle of another image of its batch into each one, and as much of its label; "
        "0.1 to 1; with mixup too, each batch gets one of the two",
        unset="no mixing",
    )
    rand_augment: float | None = option(
        "MAGNITUDE",
        "change each image in two ways out of eleven, such as turning, shearing, contrast, by up "
        "to MAGNITUDE, 0 to 1; 1 turns it all the way round",
        unset="none",
    )
    # He et al. 2015, sec. 4.2, and the SENet paper, sec. 5.1.
    weight_decay: float = option(
        "RATE", "decoupled weight decay of kernels; not of biases and normalizations", 1e-4
    )
    # Szegedy et al. 2015 (arXiv 1512.00567), sec. 7.
    label_smoothing: float = option(
        "SHARE", "share of each target, 0 to below 1, that goes to all classes alike", 0.1
    )
    seed: int = option(
        "N", "seed of the split, the initial weights, the shuffles and the augmentation", 0
    )
    precision: str = option("P", f"one of {', '.join(PRECISIONS)}", PRECISIONS[0])
    accumulate: int = option(
        "N",
        "parts that each batch is computed in, one after the other, for less memory; batch "
        "normalization sees one part at a time",
        1,
    )
    clip_norm: float | None = option(
        "NORM",
        "largest norm of an update's gradient, all variables together",
        unset="no limit",
    )
    ema: float | None = option(
        "MOMENTUM",
        "test and save the moving average of the weights over the updates, with this momentum, "
        "such as 0.999",
        unset="the last weights",
    )
    sync_batch_norm: bool = option(
        "",
        "batch normalization with the statistics of all devices, as JAX always does",
        False,
        unset="each device's own",
    )

    def __post_init__(self):
        check_fields(self, CHECKS)
        if self.no_se and (self.ratio is not None or self.placement is not None):
            raise InputError(
                "`ratio` and `placement` are of SE blocks: with `no_se` there are none."
            )

    @property
    def network_options(self) -> dict[str, Any]:
        """Return what the network is asked for beyond its name, as `se_keras.create` takes it."""
        asked = {"ratio": self.ratio, "placement": self.placement}
        given = {name: value for name, value in asked.items() if value is not None}
        return given | ({"se": False} if self.no_se else {})

    @property
    def begins_with_weights(self) -> bool:
        """Return whether the network has weights that were trained before."""
        return self.weights is not None or is_model_file(self.model)

    @property
    def defaults(self) -> Defaults:
        """Return what fits the data set."""
        return DEFAULTS.get(self.data, FOLDER_DEFAULTS)

    def completed(self) -> "TrainConfig":
        """Return the same with every setting filled in, except the batch size of a folder.

        Where the run begins with weights, these decide on `model`, `image_size`, `freeze` and
        `tuning_rate`.

        Raises:
            InputError: if there is no such data set.

        Example:

        >>> TrainConfig(data="cifar10", epochs=3).completed().lr
        0.1
        >>> TrainConfig(data="cifar10", batch_size=256).completed().lr
        0.2
        """
        if self.data not in DEFAULTS and not Path(self.data).is_dir():
            raise InputError(
                f"`data` must be one of {', '.join(DEFAULTS)} or a folder, got {self.data!r}."
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
    """The devices and processes of a run; they do not change what it computes.

    Raises:
        InputError: if they are out of range, or some of the last three are missing.

    Example:

    >>> Cluster(coordinator="10.0.0.1:4321", process=4, processes=4)
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: `process` must be an integer from 0 to 3, got 4.
    """

    devices: int | None = option(
        "N",
        "devices that each process uses; a machine without a GPU parts its CPU into so many",
        unset="1, with a coordinator all it has",
    )
    coordinator: str | None = option(
        "HOST:PORT",
        "address of process 0, where all processes of a run meet; needs KERAS_BACKEND=jax",
        unset="one process",
    )
    process: int | None = option("I", "with a coordinator: number of this process, from 0")
    processes: int | None = option("N", "with a coordinator: how many processes there are")

    def __post_init__(self):
        checks: dict[str, Check] = {
            "devices": positive_integer,
            "processes": positive_integer,
            "coordinator": text,
        }
        check_fields(self, checks)
        together = (self.coordinator, self.process, self.processes)
        if together == (None, None, None):
            return
        if self.coordinator is None or self.process is None or self.processes is None:
            raise InputError("`coordinator`, `process` and `processes` go together.")
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"`coordinator` must be HOST:PORT, got {self.coordinator!r}.")
        check_fields(self, {"process": partial(integer_below, end=self.processes)})
