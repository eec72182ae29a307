"""Every published set of weights for a row of the catalog. Imports no keras.

Top-1 accuracies come from timm's results-imagenet.csv (commit 4e5207c7 of October 2025) and, for
classification_models and pytorchcv, from their READMEs. They are measured on the validation or test
images of the data set, at the size and crop of the row. The terms of the data set may apply to the
weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError
from se_keras.weights.preprocessing import IMAGENET, Pixels, SecondSize

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# timm's defaults for preparing images.
USUAL: dict[str, Any] = {
    "size": 224,
    "crop": 0.875,
    "interpolation": "bicubic",
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One published set of weights.

    Attributes:
        recipe: name of the catalog's row that the weights fit.
        tag: tag of the set within the row; see `name`.
        source: `hf://owner/repo`, or the address of a file with its hash after `#`: `sha256=` and
            the first digits, or `sha1=` or `md5=` and all digits.
        pixels: the pixels that the weights were trained on.
        top1: accuracy in percent at `pixels.size` (`pixels.second.top1` is the accuracy at the
            second size). `None` for classes other than ImageNet's 1000.
        origin: who trained and ported the weights.
        license: license that the publisher states.
        classes: number of classes.
        options: options with which the row's network takes the weights.
        best: whether `weights="imagenet"` loads this set: the most accurate one of the row, at
            either size.
    """

    recipe: str
    tag: str
    source: str
    pixels: Pixels
    top1: float | None
    origin: str
    license: str = "apache-2.0"
    classes: int = 1000
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    best: bool = False

    @property
    def name(self) -> str:
        """The full name of the set, such as `seresnet50.a1_in1k`; timm's name if timm has the set.

        A model with these weights gets this name by default, and keeps it in files and clones.
        """
        return f"{self.recipe}.{self.tag}"


_RS = "TensorFlow's TPU models (arXiv 2103.07579), ported in timm"
_SW = "timm; trained on ImageNet-12k, a part of ImageNet-22k"
_RSB = "timm; recipe of arXiv 2110.00476"
_TIMM = "timm"
_MIIL = "Alibaba MIIL, in timm"
_GLUON = "Gluon CV model zoo, ported in timm"
_RELEASE = "hujie-frank/SENet, ported by Cadene, kept by timm"


def _pixels(recipe: str, tag: str, **more: Any) -> Pixels:
    """Return the pixels of a set, with timm's defaults for what is not given."""
    usual = USUAL | {"labels": IMAGENET, "origin": f"weights {recipe}.{tag}"}
    return Pixels(**usual | more)


def _test(size: int, top1: float | None, crop: float = 1.0) -> SecondSize:
    return SecondSize(size=size, crop=crop, top1=top1)


def _hub(recipe: str, tag: str, top1: float | None, origin: str, **more: Any) -> Preset:
    """Return a preset from a repository of timm, with timm's defaults for what is not given."""
    best = more.pop("best", False)
    return Preset(
        recipe=recipe,
        tag=tag,
        source=f"hf://timm/{recipe}.{tag}",
        pixels=_pixels(recipe, tag, **more),
        top1=top1,
        origin=origin,
        best=best,
    )


def _imagenet_12k(recipe: str, origin: str, **more: Any) -> Preset:
    """Return a preset from a repository of timm with the 11,821 classes of ImageNet-12k."""
    tag = "sw_in12k"
    preset = _hub(recipe, tag, None, origin, labels=f"hf://timm/{recipe}.{tag}", **more)
    return replace(preset, classes=11_821)


def _resnet_rs(recipe: str, size: int, crop: float, top1: float, second: SecondSize) -> Preset:
    return _hub(recipe, "tf_in1k", top1, _RS, size=size, crop=crop, second=second, best=True)


def _release(recipe: str, file: str, top1: float, origin: str, interpolation: str) -> Preset:
    """Return a preset from timm's GitHub releases: file names end with digits of their sha256."""
    digits = file.removesuffix(".pth").rpartition("-")[2]
    address = "https://github.com/rwightman/pytorch-image-models/releases/download"
    tag = "in1k"
    return Preset(
        recipe=recipe,
        tag=tag,
        source=f"{address}/{file}#sha256={digits}",
        pixels=_pixels(recipe, tag, interpolation=interpolation),
        top1=top1,
        origin=origin,
        best=True,
    )


def _classification_models(
    recipe: str, model: str, md5: str, top1: float, *, best: bool = True, unscaled: bool = False
) -> Preset:
    """Return a preset from the release of qubvel/classification_models, with the classifier."""
    address = "https://github.com/qubvel/classification_models/releases/download/0.0.1"
    # Its README says 224 pixels of 256 and names no interpolation; Cadene's is bilinear.
    # models/resnet.py: the networks that normalize their input take raw pixels.
    as_they_are = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
    tag = "cm_in1k"
    numbers = as_they_are if unscaled else {}
    return Preset(
        recipe=recipe,
        tag=tag,
        source=f"{address}/{model}_imagenet_1000.h5#md5={md5}",
        pixels=_pixels(recipe, tag, interpolation="bilinear", **numbers),
        top1=top1,
        origin="classification_models, from Cadene's pretrained-models.pytorch",
        license="MIT",
        best=best,
    )


# pytorch/datasets/cifar10_cls_dataset.py of osmr/imgclsmob; also used for CIFAR-100 and SVHN.
_SMALL: dict[str, Any] = {
    "size": 32,
    "crop": 1.0,
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2023, 0.1994, 0.2010),
}


def _pytorchcv(recipe: str, file: str, release: str, sha1: str, top1: float, **more) -> Preset:
    """Return a preset from the releases of osmr/imgclsmob, which pytorchcv loads."""
    address = f"https://github.com/osmr/imgclsmob/releases/download/v0.0.{release}"
    best, images = more.get("best", False), more.get("images")
    tag = f"cv_{images or 'in1k'}"
    # pytorch/datasets/imagenet1k_cls_dataset.py: bilinear; small images are not resized.
    numbers = {**_SMALL, "labels": images} if images else {}
    return Preset(
        recipe=recipe,
        tag=tag,
        source=f"{address}/{file}-{sha1[:8]}.pth.zip#sha1={sha1}",
        pixels=_pixels(recipe, tag, interpolation="bilinear", **numbers),
        top1=top1,
        origin="pytorchcv (osmr/imgclsmob)",
        license="MIT",
        classes=more.get("classes", 1000),
        options={"shortcut": "projection"} if images else {},
        best=best,
    )


def _pytorchcv_small(depth: int, images: str, error: str, sha1: str) -> Preset:
    """Return a preset for small images; the file's name holds `error` in 1/100 %."""
    return _pytorchcv(
        f"seresnet{depth}",
        f"seresnet{depth}_{images}-{error}",
        "362",
        sha1,
        round(100 - int(error) / 100, 2),
        images=images,
        classes=100 if images == "cifar100" else 10,
    )


def _keras_applications(depth: int, size: int, top1: float, md5: str) -> Preset:
    """Return a preset of keras.applications' ResNet-RS, with the classifier."""
    address = "https://storage.googleapis.com/tensorflow/keras-applications/resnet_rs"
    recipe, tag = f"resnetrs{depth}", f"keras_in1k_{size}"
    # tensorflow/tpu, resnet_preprocessing.py: a margin of 16 pixels on each side; bicubic.
    crop = size * 1000 // (size + 32) / 1000
    return Preset(
        recipe=recipe,
        tag=tag,
        source=f"{address}/resnet-rs-{depth}-i{size}.h5#md5={md5}",
        pixels=_pixels(recipe, tag, size=size, crop=crop),
        top1=top1,
        origin="tensorflow/tpu, converted in resnet-rs-keras for keras.applications",
    )


PRESETS: tuple[Preset, ...] = (
    # timm, models/resnet.py and the model cards
    _hub("seresnet50", "a1_in1k", 80.01, _RSB, crop=0.95, second=_test(288, 81.11)),
    _hub("seresnet50", "a2_in1k", 80.10, _RSB, crop=0.95, second=_test(288, 81.09)),
    _hub("seresnet50", "a3_in1k", 75.10, _RSB, crop=0.95, size=160, second=_test(224, 77.04, 0.95)),
    _hub("seresnet50", "ra2_in1k", 80.26, _TIMM, second=_test(288, 81.29, 0.95), best=True),
    _hub(
        "seresnet152d",
        "ra2_in1k",
        83.70,
        _TIMM,
        crop=0.95,
        size=256,
        second=_test(320, 84.34),
        best=True,
    ),
    _hub("seresnext26d_32x4d", "bt_in1k", 77.59, _TIMM, second=_test(288, 78.82, 0.95), best=True),
    _hub("seresnext26t_32x4d", "bt_in1k", 77.98, _TIMM, second=_test(288, 78.74, 0.95), best=True),
    _hub("seresnext50_32x4d", "racm_in1k", 81.27, _TIMM, second=_test(288, 82.19, 0.95), best=True),
    _hub("seresnext50_32x4d", "gluon_in1k", 79.92, _GLUON),
    _hub("seresnext101_32x4d", "gluon_in1k", 80.89, _GLUON, best=True),
    _hub("seresnext101_64x4d", "gluon_in1k", 80.88, _GLUON),
    _hub(
        "seresnext101_32x8d",
        "ah_in1k",
        83.62,
        _TIMM,
        crop=0.95,
        second=_test(288, 84.19),
        best=True,
    ),
    _hub(
        "seresnext101d_32x8d",
        "ah_in1k",
        83.70,
        _TIMM,
        crop=0.95,
        second=_test(288, 84.38),
        best=True,
    ),
    _hub(
        "seresnextaa101d_32x8d",
        "ah_in1k",
        83.90,
        _TIMM,
        crop=0.95,
        second=_test(288, 84.58),
    ),
    _hub("seresnextaa101d_32x8d", "sw_in12k_ft_in1k", 85.96, _SW, second=_test(288, 86.52)),
    _hub(
        "seresnextaa101d_32x8d",
        "sw_in12k_ft_in1k_288",
        86.53,
        _SW,
        size=288,
        crop=0.95,
        second=_test(320, 86.72),
        best=True,
    ),
    _imagenet_12k("seresnextaa101d_32x8d", _SW, crop=0.95, second=_test(288, None)),
    _hub(
        "seresnextaa201d_32x8d",
        "sw_in12k_ft_in1k_384",
        87.30,
        _SW,
        size=384,
        crop=1.0,
        best=True,
    ),
    _imagenet_12k("seresnextaa201d_32x8d", _SW, size=320, crop=0.95, second=_test(384, None)),
    _resnet_rs("resnetrs50", 160, 0.91, 77.86, _test(224, 79.93, 0.91)),
    _resnet_rs("resnetrs101", 192, 0.94, 80.71, _test(288, 82.29, 0.94)),
    _resnet_rs("resnetrs152", 256, 1.0, 82.90, _test(320, 83.71)),
    _resnet_rs("resnetrs200", 256, 1.0, 83.88, _test(320, 84.45)),
    _resnet_rs("resnetrs270", 256, 1.0, 83.60, _test(352, 84.44)),
    _resnet_rs("resnetrs350", 288, 1.0, 84.30, _test(384, 84.71)),
    _resnet_rs("resnetrs420", 320, 1.0, 84.24, _test(416, 85.01)),
    _hub(
        "ecaresnet26t",
        "ra2_in1k",
        78.89,
        _TIMM,
        size=256,
        second=_test(320, 79.90, 0.95),
        best=True,
    ),
    _hub("ecaresnet50t", "a1_in1k", 81.28, _RSB, crop=0.95, second=_test(288, 82.11)),
    _hub("ecaresnet50t", "a2_in1k", 80.88, _RSB, crop=0.95, second=_test(288, 81.68)),
    _hub(
        "ecaresnet50t", "a3_in1k", 77.79, _RSB, crop=0.95, size=160, second=_test(224, 79.55, 0.95)
    ),
    _hub(
        "ecaresnet50t",
        "ra2_in1k",
        81.45,
        _TIMM,
        size=256,
        second=_test(320, 82.37, 0.95),
        best=True,
    ),
    _hub("ecaresnet50d", "miil_in1k", 80.63, _MIIL, second=_test(288, 81.65, 0.95), best=True),
    _hub("ecaresnet101d", "miil_in1k", 82.18, _MIIL, second=_test(288, 83.01, 0.95), best=True),
    _hub("ecaresnetlight", "miil_in1k", 80.45, _MIIL, second=_test(288, 81.43, 0.95), best=True),
    _hub(
        "ecaresnet269d",
        "ra2_in1k",
        84.72,
        _TIMM,
        crop=0.95,
        size=320,
        second=_test(352, 84.97),
        best=True,
    ),
    _hub("senet154", "gluon_in1k", 81.26, _GLUON, best=True),
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
        77.10,
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
        80.27,
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
        "cm_seresnet50", "seresnet50", "ff0ce1ed5accaad05d113ecef2d29149", 76.44, best=False
    ),
    _classification_models(
        "cm_seresnet101", "seresnet101", "5c31adee48c82a66a32dee3d442f5be8", 77.92, best=False
    ),
    _classification_models(
        "cm_seresnet152", "seresnet152", "96fc14e3a939d4627b0174a0e80c7371", 78.34, best=False
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
    # keras.applications, resnet_rs.py; top-1 of sebastian-sz/resnet-rs-keras, which made the files
    _keras_applications(50, 160, 78.9, "69d9d925319f00a8bdd4af23c04e4102"),
    _keras_applications(101, 160, 80.3, "544b3434d00efc199d66e9058c7f3379"),
    _keras_applications(101, 192, 81.3, "eb285be29ab42cf4835ff20a5e3b5d23"),
    _keras_applications(152, 192, 82.1, "8d72a301ed8a6f11a47c4ced4396e338"),
    _keras_applications(152, 224, 82.9, "31a46a92ab21b84193d0d71dd8c3d03b"),
    _keras_applications(152, 256, 83.0, "ba6271b99bdeb4e7a9b15c05964ef4ad"),
    _keras_applications(200, 256, 83.4, "a76930b741884e09ce90fa7450747d5f"),
    _keras_applications(270, 256, 83.8, "20d575825ba26176b03cb51012a367a8"),
    _keras_applications(350, 256, 84.0, "f4a039dc3c421321b7fc240494574a68"),
    _keras_applications(350, 320, 84.3, "7ccb858cc738305e8ceb3c0140bee393"),
    _keras_applications(420, 320, 84.4, "ae0eb9bed39e64fc8d7e0db4018dc7e8"),
    # pytorchcv, models/common/model_metainfos.csv; top-1 of its README
    _pytorchcv(
        "seresnet50", "seresnet50b-0539", "387", "459e6871e944d1c7102ee9c055ea428b8d9a168c", 79.21
    ),
    _pytorchcv(
        "seresnet101",
        "seresnet101b-0487",
        "460",
        "b83a20fd2ad9a32e0fe5cb3daef45aac03ea3194",
        80.30,
        best=True,
    ),
    _pytorchcv(
        "seresnext50_32x4d",
        "seresnext50_32x4d-0451",
        "505",
        "52029a7f6170873b2d50a7016fba053e98183f7b",
        81.06,
    ),
    _pytorchcv(
        "seresnext101_32x4d",
        "seresnext101_32x4d-0467",
        "529",
        "c738e758c535fac87027fc4b9271a7cb95442505",
        80.64,
    ),
    _pytorchcv(
        "seresnext101_64x4d",
        "seresnext101_64x4d-0428",
        "561",
        "ea9d98df431d53251011099f317cd20fa2307d1b",
        81.34,
        best=True,
    ),
    _pytorchcv(
        "senet154", "senet154-0455", "522", "95dbccbe56dc93c4544e6d1c6673f09425a4cee2", 81.15
    ),
    _pytorchcv(
        "cm_seresnet50",
        "seresnet50-0575",
        "441",
        "004bfde422c860c4f11b1e1190bb5a8db477d939",
        78.78,
        best=True,
    ),
    _pytorchcv(
        "cm_seresnet101",
        "seresnet101-0460",
        "533",
        "37851448605dae67bbf83ff8e7f7e7cc367e1746",
        80.76,
        best=True,
    ),
    _pytorchcv(
        "cm_seresnet152",
        "seresnet152-0439",
        "538",
        "7a6b02ac25caccb0420eea542c625f9b0bfb3e03",
        81.28,
        best=True,
    ),
    _pytorchcv_small(20, "cifar10", "0601", "935d89433e803c8a3027c81f1267401e7caccce6"),
    _pytorchcv_small(20, "cifar100", "2854", "8c7abf66d8c1418cb3ca760f5d1efbb42738036b"),
    _pytorchcv_small(20, "svhn", "0323", "d77df31c62d1504209a5ba47e59ccb0ae84500b2"),
    _pytorchcv_small(56, "cifar10", "0413", "b61c143989cb2901bec48dded4c6ddcae91aabc4"),
    _pytorchcv_small(56, "cifar100", "2294", "7fa54f4593f364c2363cb3ee8d5bc1285af1ade5"),
    _pytorchcv_small(56, "svhn", "0264", "93839c762a97bd0b5bd27c71fd64c227afdae3ed"),
    _pytorchcv_small(110, "cifar10", "0363", "1ddec2309ff61c2c0e14c96d51a1b846afdc2acc"),
    _pytorchcv_small(110, "cifar100", "2086", "a82c30938028a172dd6a124152bc0952b55a2f49"),
    _pytorchcv_small(110, "svhn", "0235", "9572ba7394c774b8d056b24a7631ef47e53024b8"),
)


def find_preset(recipe: str) -> Preset:
    """Return the best published set of a row of the catalog, which `weights="imagenet"` loads.

    Raises:
        InputError: if there is no such set; the message lists the rows that have one.

    Example:

    >>> from se_keras.weights.presets import find_preset
    >>> find_preset("seresnet50").source
    'hf://timm/seresnet50.ra2_in1k'
    """
    preset = _best(find_recipe(recipe).name)
    if preset is not None:
        return preset
    others = [repr(row.name) for row in presets_of(recipe)]
    if others:
        raise InputError(
            f"`weights='imagenet'`: no ImageNet weights are published for {recipe}; name one of "
            f"its other weights: {', '.join(others)}."
        )
    names = sorted({preset.recipe for preset in PRESETS if preset.best})
    relatives = [name for name in names if name.endswith(f"_{recipe}")]
    hint = f" (but for its relatives {' and '.join(relatives)})" if relatives else ""
    raise InputError(
        f"`weights='imagenet'`: no weights are published for {recipe}{hint}. Networks with "
        f"published weights: {', '.join(names)}."
    )


def _best(recipe: str) -> Preset | None:
    return next((row for row in PRESETS if row.recipe == recipe and row.best), None)


def preset_of(name_or_address: str) -> Preset | None:
    """Return the preset with this name or address; `None` if there is none.

    Example:

    >>> from se_keras.weights.presets import preset_of
    >>> preset_of("hf://timm/seresnet50.a3_in1k").pixels.size
    160
    >>> preset_of("seresnet50.a3_in1k").top1
    75.1
    """
    return next((row for row in PRESETS if name_or_address in (row.source, row.name)), None)


def presets_of(recipe: str) -> tuple[Preset, ...]:
    """Return all published sets of a row of the catalog.

    Example:

    >>> from se_keras.weights.presets import presets_of
    >>> [preset.name for preset in presets_of("seresnext101_64x4d")]
    ['seresnext101_64x4d.gluon_in1k', 'seresnext101_64x4d.cv_in1k']
    """
    return tuple(preset for preset in PRESETS if preset.recipe == recipe)


def shared_pixels(recipe: str) -> Pixels:
    """Return the pixels that all published weights of a row share, with `None` where they differ.

    Example:

    >>> from se_keras.weights.presets import shared_pixels
    >>> shared_pixels("senet154").size, shared_pixels("senet154").interpolation
    (224, None)
    """
    first, *others = [preset.pixels for preset in presets_of(recipe)] or [
        Pixels(origin="it has no published weights")
    ]
    if not others:
        return first
    if any((pixels.mean, pixels.std) != (first.mean, first.std) for pixels in others):
        return Pixels(origin="its published weights differ")
    nothing: dict[str, Any] = {
        name: None
        for name in ("size", "crop", "interpolation", "second", "labels")
        if any(getattr(pixels, name) != getattr(first, name) for pixels in others)
    }
    return replace(first, origin=f"all published weights of {recipe}", **nothing)
