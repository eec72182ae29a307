"""Every published set of weights for a row of the catalog. Imports no keras.

Top-1 accuracies are those of timm's results-imagenet.csv and model cards, and for the files of
classification_models those of its README, on ImageNet's validation images, at the size and crop
that the row states. The data set's own terms may apply to weights.
"""

from dataclasses import dataclass
from typing import Any, cast

from se_keras.models.recipes import Recipe, find_recipe
from se_keras.support.errors import InputError

Colors = tuple[float, float, float]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What an image goes through before the network sees it.

    Attributes:
        size: height and width of the network's input, pixels.
        crop: side of the central crop, as a share of the resized image's shorter side.
        interpolation: of the resize: `"bilinear"` or `"bicubic"`.
        mean, std: of the colors red, green, blue, on a scale where white is 1. The network gets
            (pixel / 255 - mean) / std.
    """

    size: int = 224
    crop: float = 0.875
    interpolation: str = "bicubic"
    mean: Colors = IMAGENET_MEAN
    std: Colors = IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One published set of weights.

    Attributes:
        recipe: name of the row of the catalog that it fits.
        source: `hf://owner/repo`, or the address of a file with its hash behind `#`: `sha256=` and
            its first digits, or `md5=` and all of them.
        preprocessing: what the weights were made for.
        top1: accuracy in percent, at `preprocessing.size`.
        origin: who trained it, and how it came here.
        license: that its publisher states.
        classes: number of classes.
        best: what `weights="imagenet"` loads; one of each recipe's.
    """

    recipe: str
    source: str
    preprocessing: Preprocessing
    top1: float
    origin: str
    license: str = "apache-2.0"
    classes: int = 1000
    best: bool = False


_RSB = "timm; recipe of arXiv 2110.00476"
_TIMM = "timm"
_GLUON = "Gluon CV model zoo, ported in timm"
_RELEASE = "hujie-frank/SENet, ported by Cadene, kept by timm"


def _hub(recipe: str, tag: str, top1: float, origin: str, **more) -> Preset:
    """A repository of timm on the Hugging Face hub; what is not given of its image is usual."""
    best = more.pop("best", False)
    return Preset(
        recipe=recipe,
        source=f"hf://timm/{recipe}.{tag}_in1k",
        preprocessing=Preprocessing(**more),
        top1=top1,
        origin=origin,
        best=best,
    )


def _release(recipe: str, file: str, top1: float, origin: str, interpolation: str) -> Preset:
    """A file of timm's GitHub releases; its name ends with the first digits of its sha256."""
    digits = file.removesuffix(".pth").rpartition("-")[2]
    address = "https://github.com/rwightman/pytorch-image-models/releases/download"
    return Preset(
        recipe=recipe,
        source=f"{address}/{file}#sha256={digits}",
        preprocessing=Preprocessing(interpolation=interpolation),
        top1=top1,
        origin=origin,
        best=True,
    )


def _classification_models(
    recipe: str, model: str, md5: str, top1: float, *, best: bool = True, unscaled: bool = False
) -> Preset:
    """A file of the GitHub release of qubvel/classification_models, with the classifier."""
    address = "https://github.com/qubvel/classification_models/releases/download/0.0.1"
    # Its README: 224 pixels of 256 at least; it does not say by which resize, Cadene has bilinear.
    # models/resnet.py: the networks that normalize their input get pixels as they are.
    as_they_are: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
    return Preset(
        recipe=recipe,
        source=f"{address}/{model}_imagenet_1000.h5#md5={md5}",
        preprocessing=Preprocessing(interpolation="bilinear", **(as_they_are if unscaled else {})),
        top1=top1,
        origin="classification_models, from Cadene's pretrained-models.pytorch",
        license="MIT",
        best=best,
    )


PRESETS: tuple[Preset, ...] = (
    # timm, models/resnet.py and the model cards
    _hub("seresnet50", "a1", 80.01, _RSB, crop=0.95),
    _hub("seresnet50", "a2", 80.10, _RSB, crop=0.95),
    _hub("seresnet50", "a3", 75.10, _RSB, crop=0.95, size=160),
    _hub("seresnet50", "ra2", 80.26, _TIMM, best=True),
    _hub("seresnet152d", "ra2", 83.70, _TIMM, crop=0.95, size=256, best=True),
    _hub("seresnext26d_32x4d", "bt", 77.59, _TIMM, best=True),
    _hub("seresnext26t_32x4d", "bt", 77.98, _TIMM, best=True),
    _hub("seresnext50_32x4d", "racm", 81.27, _TIMM, best=True),
    _hub("seresnext50_32x4d", "gluon", 79.92, _GLUON),
    _hub("seresnext101_32x4d", "gluon", 80.89, _GLUON, best=True),
    _hub("seresnext101_64x4d", "gluon", 80.88, _GLUON, best=True),
    _hub("seresnext101_32x8d", "ah", 83.62, _TIMM, crop=0.95, best=True),
    _hub("seresnext101d_32x8d", "ah", 83.70, _TIMM, crop=0.95, best=True),
    _hub("senet154", "gluon", 81.26, _GLUON, best=True),
    # timm, models/senet.py
    _release("legacy_seresnet18", "v0.1-weights/seresnet18-4bb0ce65.pth", 71.74, _TIMM, "bicubic"),
    _release("legacy_seresnet34", "v0.1-weights/seresnet34-a4004e63.pth", 74.79, _TIMM, "bilinear"),
    _release(
        "legacy_seresnet50", "v0.1-cadene/se_resnet50-ce0d4300.pth", 77.65, _RELEASE, "bilinear"
    ),
    _release(
        "legacy_seresnet101", "v0.1-cadene/se_resnet101-7e38fcc6.pth", 78.37, _RELEASE, "bilinear"
    ),
    _release(
        "legacy_seresnet152", "v0.1-cadene/se_resnet152-d17c99b7.pth", 78.66, _RELEASE, "bilinear"
    ),
    _release(
        "legacy_seresnext26_32x4d",
        "v0.1-weights/seresnext26_32x4d-65ebdb501.pth",
        77.11,
        _TIMM,
        "bicubic",
    ),
    _release(
        "legacy_seresnext50_32x4d",
        "v0.1-weights/legacy_se_resnext50_32x4d-f3651bad.pth",
        79.08,
        _RELEASE,
        "bilinear",
    ),
    _release(
        "legacy_seresnext101_32x4d",
        "v0.1-weights/legacy_se_resnext101_32x4d-37725eac.pth",
        80.23,
        _RELEASE,
        "bilinear",
    ),
    _release(
        "legacy_senet154",
        "v0.1-weights/legacy_senet154-e9eb9fe6.pth",
        81.32,
        _RELEASE,
        "bilinear",
    ),
    # classification_models, weights.py
    _classification_models(
        "cm_seresnet18", "seresnet18", "9a925fd96d050dbf7cc4c54aabfcf749", 69.41, unscaled=True
    ),
    _classification_models(
        "cm_seresnet34", "seresnet34", "863976b3bd439ff0cc05c91821218a6b", 72.60, unscaled=True
    ),
    _classification_models(
        "cm_seresnet50", "seresnet50", "ff0ce1ed5accaad05d113ecef2d29149", 76.44
    ),
    _classification_models(
        "cm_seresnet101", "seresnet101", "5c31adee48c82a66a32dee3d442f5be8", 77.92
    ),
    _classification_models(
        "cm_seresnet152", "seresnet152", "96fc14e3a939d4627b0174a0e80c7371", 78.34
    ),
    _classification_models(
        "seresnext50_32x4d", "seresnext50", "5310dcd58ed573aecdab99f8df1121d5", 78.74, best=False
    ),
    _classification_models(
        "seresnext101_32x4d", "seresnext101", "be5b26b697a0f7f11efaa1bb6272fc84", 79.88, best=False
    ),
    _classification_models(
        "senet154", "senet154", "c8eac0e1940ea4d8a2e0b2eb0cdf4e75", 81.06, best=False
    ),
)


def find_preset(recipe: str) -> Preset:
    """What `weights="imagenet"` loads for a row of the catalog: the best published set.

    Raises:
        InputError: if there is none; the message says for which rows there are.

    Example:

    >>> from se_keras.weights.presets import find_preset
    >>> find_preset("seresnet50").source
    'hf://timm/seresnet50.ra2_in1k'
    """
    preset = _best(find_recipe(recipe).name)
    if preset is not None:
        return preset
    names = sorted({preset.recipe for preset in PRESETS})
    relatives = [name for name in names if name.endswith(f"_{recipe}")]
    hint = f" (its relatives {' and '.join(relatives)} have some)" if relatives else ""
    raise InputError(
        f"`weights='imagenet'`: none are published for {recipe}{hint}. There are for "
        f"{', '.join(names)}."
    )


def _best(recipe: str) -> Preset | None:
    return next((row for row in PRESETS if row.recipe == recipe and row.best), None)


def preset_of(source: str) -> Preset | None:
    """The row of a source, whatever its revision, or `None` for a source that is not published.

    Example:

    >>> from se_keras.weights.presets import preset_of
    >>> preset_of("hf://timm/seresnet50.a3_in1k@main").preprocessing.size
    160
    """
    address = source.partition("@")[0] if source.startswith("hf://") else source
    return next((preset for preset in PRESETS if preset.source == address), None)


def preprocessing_of_recipe(recipe: Recipe) -> Preprocessing:
    """That of the best published weights of a row.

    Where there are none: the usual mean and standard deviation of ImageNet, at the row's size.
    """
    preset = _best(recipe.name)
    return preset.preprocessing if preset else Preprocessing(size=recipe.input_size)


def preprocessing_of_config(config: dict, source: str) -> Preprocessing:
    """What the `config.json` of a timm repository on the hub says of its images.

    Args:
        config: its content.
        source: named in errors.

    Raises:
        InputError: if a value can't be one.
    """
    # timm wrote these fields at the top before it wrote `pretrained_cfg` (timm, models/_hub.py).
    fields = config.get("pretrained_cfg", config)
    try:
        channels, height, width = fields["input_size"]
        preprocessing = Preprocessing(
            size=int(height),
            crop=float(fields["crop_pct"]),
            interpolation=fields["interpolation"],
            mean=cast(Colors, tuple(map(float, fields["mean"]))),
            std=cast(Colors, tuple(map(float, fields["std"]))),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{source}: config.json does not say how images are prepared: "
            f"{type(error).__name__}: {error}"
        ) from error
    square = channels == 3 and height == width and fields.get("crop_mode", "center") == "center"
    if not (square and _is_usual(preprocessing)):
        raise InputError(
            f"{source}: config.json asks for images that are prepared otherwise than by a resize "
            f"({' or '.join(INTERPOLATIONS)}) and a central square crop of three colors: {fields}"
        )
    return preprocessing


def _is_usual(preprocessing: Preprocessing) -> bool:
    """Whether it is a resize, a central crop and a normalization that can be computed."""
    return (
        0 < preprocessing.crop <= 1
        and preprocessing.interpolation in INTERPOLATIONS
        and len(preprocessing.mean) == len(preprocessing.std) == 3
        and min(preprocessing.std) > 0
    )
