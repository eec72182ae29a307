"""Compare the registry of published weights with timm's."""

import csv
import json
import re

import classification_models_weights
import pytest
import pytorchcv_weights
from checks import GOLDEN

from se_keras.models.recipes import RECIPES
from se_keras.weights.preprocessing import Pixels, SecondSize
from se_keras.weights.presets import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PRESETS,
    find_preset,
    preset_of,
)

# timm's own name of a set of weights -> what it says of it (golden/make_preprocessing.py).
TIMM = json.loads((GOLDEN / "timm_published.json").read_text())
NAMES = {recipe.name for recipe in RECIPES}
# Top-1 in percent by name, size and crop: SE rows of timm's results/results-imagenet.csv, 4e5207c7.
ACCURACIES = {
    (row["model"], int(row["img_size"]), float(row["crop_pct"])): round(float(row["top1"]), 2)
    for row in csv.DictReader((GOLDEN / "timm_accuracies.csv").read_text().splitlines())
}
OF_TIMM = {name: row for name, row in TIMM.items() if name.split(".")[0] in NAMES}


def timm_source(name, row):
    """Return the place from which timm downloads the weights."""
    if row["hf_hub_id"]:
        return f"hf://{row['hf_hub_id']}"
    digits = row["url"].removesuffix(".pth").rpartition("-")[2]
    return f"{row['url']}#sha256={digits}"


# Name of classification_models -> top-1 accuracy (its README) and md5 (its weights.py) of the file
# with the classifier.
CLASSIFICATION_MODELS = {
    "seresnet18": (69.41, "9a925fd96d050dbf7cc4c54aabfcf749"),
    "seresnet34": (72.60, "863976b3bd439ff0cc05c91821218a6b"),
    "seresnet50": (76.44, "ff0ce1ed5accaad05d113ecef2d29149"),
    "seresnet101": (77.92, "5c31adee48c82a66a32dee3d442f5be8"),
    "seresnet152": (78.34, "96fc14e3a939d4627b0174a0e80c7371"),
    "seresnext50": (78.74, "5310dcd58ed573aecdab99f8df1121d5"),
    "seresnext101": (79.88, "be5b26b697a0f7f11efaa1bb6272fc84"),
    "senet154": (81.06, "c8eac0e1940ea4d8a2e0b2eb0cdf4e75"),
}
RELEASE = "https://github.com/qubvel/classification_models/releases/download/0.0.1"


@pytest.mark.parametrize("name", CLASSIFICATION_MODELS)
def test_each_file_of_classification_models_is_in_the_registry(name):
    top1, md5 = CLASSIFICATION_MODELS[name]
    preset = preset_of(f"{RELEASE}/{name}_imagenet_1000.h5#md5={md5}")
    assert preset.recipe == classification_models_weights.NAMES[name]
    assert (preset.top1, preset.license) == (top1, "MIT")
    pixels = preset.pixels
    assert (pixels.size, pixels.crop) == (224, 224 / 256)
    if name in {"seresnet18", "seresnet34"}:  # models/resnet.py: preprocess_input gives x
        assert [255 * std for std in pixels.std] == [1, 1, 1]
        assert pixels.mean == (0, 0, 0)
    else:  # models/senet.py: mode="torch"
        assert (pixels.mean, pixels.std) == (IMAGENET_MEAN, IMAGENET_STD)


# File of pytorchcv without the end of its name -> top-1 accuracy (100 minus the error in its README
# or, of small images, in the file's name), full sha1 and release (its model_metainfos.csv).
PYTORCHCV = {
    "seresnet50-0575": (78.78, "004bfde422c860c4f11b1e1190bb5a8db477d939", 441),
    "seresnet50b-0539": (79.21, "459e6871e944d1c7102ee9c055ea428b8d9a168c", 387),
    "seresnet101-0460": (80.76, "37851448605dae67bbf83ff8e7f7e7cc367e1746", 533),
    "seresnet101b-0487": (80.30, "b83a20fd2ad9a32e0fe5cb3daef45aac03ea3194", 460),
    "seresnet152-0439": (81.28, "7a6b02ac25caccb0420eea542c625f9b0bfb3e03", 538),
    "seresnext50_32x4d-0451": (81.06, "52029a7f6170873b2d50a7016fba053e98183f7b", 505),
    "seresnext101_32x4d-0467": (80.64, "c738e758c535fac87027fc4b9271a7cb95442505", 529),
    "seresnext101_64x4d-0428": (81.34, "ea9d98df431d53251011099f317cd20fa2307d1b", 561),
    "senet154-0455": (81.15, "95dbccbe56dc93c4544e6d1c6673f09425a4cee2", 522),
    "seresnet20_cifar10-0601": (93.99, "935d89433e803c8a3027c81f1267401e7caccce6", 362),
    "seresnet20_cifar100-2854": (71.46, "8c7abf66d8c1418cb3ca760f5d1efbb42738036b", 362),
    "seresnet20_svhn-0323": (96.77, "d77df31c62d1504209a5ba47e59ccb0ae84500b2", 362),
    "seresnet56_cifar10-0413": (95.87, "b61c143989cb2901bec48dded4c6ddcae91aabc4", 362),
    "seresnet56_cifar100-2294": (77.06, "7fa54f4593f364c2363cb3ee8d5bc1285af1ade5", 362),
    "seresnet56_svhn-0264": (97.36, "93839c762a97bd0b5bd27c71fd64c227afdae3ed", 362),
    "seresnet110_cifar10-0363": (96.37, "1ddec2309ff61c2c0e14c96d51a1b846afdc2acc", 362),
    "seresnet110_cifar100-2086": (79.14, "a82c30938028a172dd6a124152bc0952b55a2f49", 362),
    "seresnet110_svhn-0235": (97.65, "9572ba7394c774b8d056b24a7631ef47e53024b8", 362),
}
# ResNet-RS of keras.applications: depth and size -> top-1 accuracy (imagenet_evaluation/README.md
# of sebastian-sz/resnet-rs-keras, which made the files), and md5 (its resnet_rs_model.py).
KERAS_RS = {
    (50, 160): (78.9, "69d9d925319f00a8bdd4af23c04e4102"),
    (101, 160): (80.3, "544b3434d00efc199d66e9058c7f3379"),
    (101, 192): (81.3, "eb285be29ab42cf4835ff20a5e3b5d23"),
    (152, 192): (82.1, "8d72a301ed8a6f11a47c4ced4396e338"),
    (152, 224): (82.9, "31a46a92ab21b84193d0d71dd8c3d03b"),
    (152, 256): (83.0, "ba6271b99bdeb4e7a9b15c05964ef4ad"),
    (200, 256): (83.4, "a76930b741884e09ce90fa7450747d5f"),
    (270, 256): (83.8, "20d575825ba26176b03cb51012a367a8"),
    (350, 256): (84.0, "f4a039dc3c421321b7fc240494574a68"),
    (350, 320): (84.3, "7ccb858cc738305e8ceb3c0140bee393"),
    (420, 320): (84.4, "ae0eb9bed39e64fc8d7e0db4018dc7e8"),
}
OF_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/resnet_rs"
OF_PYTORCHCV = "https://github.com/osmr/imgclsmob/releases/download"


@pytest.mark.parametrize("file", PYTORCHCV)
def test_each_file_of_pytorchcv_is_in_the_registry(file):
    (top1, sha1, release), name = PYTORCHCV[file], file.rpartition("-")[0]
    preset = preset_of(f"{OF_PYTORCHCV}/v0.0.{release}/{file}-{sha1[:8]}.pth.zip#sha1={sha1}")
    assert preset.recipe == pytorchcv_weights.ROWS[name]
    assert (preset.top1, preset.license) == (top1, "MIT")
    pixels, images = preset.pixels, name.rpartition("_")[2]
    if not pytorchcv_weights.is_small(name):
        assert preset.name == f"{preset.recipe}.cv_in1k"
        assert (pixels.size, pixels.crop, pixels.interpolation) == (224, 0.875, "bilinear")
        assert (pixels.mean, pixels.std) == (IMAGENET_MEAN, IMAGENET_STD)
        assert preset.options == {}
        return
    assert preset.name == f"{preset.recipe}.cv_{images}"
    assert preset.classes == {"cifar10": 10, "cifar100": 100, "svhn": 10}[images]
    assert (pixels.size, pixels.crop, pixels.labels) == (32, 1.0, images)
    assert pixels.mean == (0.4914, 0.4822, 0.4465)
    assert pixels.std == (0.2023, 0.1994, 0.2010)
    assert preset.options == {"shortcut": "projection"}


def test_each_file_of_keras_applications_is_in_the_registry():
    for (depth, size), (top1, md5) in KERAS_RS.items():
        preset = preset_of(f"{OF_KERAS}/resnet-rs-{depth}-i{size}.h5#md5={md5}")
        assert preset.name == f"resnetrs{depth}.keras_in1k_{size}"
        assert (preset.top1, preset.license, preset.best) == (top1, "apache-2.0", False)
        pixels = preset.pixels
        # The network in keras.applications normalizes by them within itself.
        assert (pixels.mean, pixels.std) == (IMAGENET_MEAN, IMAGENET_STD)
        assert (pixels.size, pixels.interpolation) == (size, "bicubic")
        assert int(size / pixels.crop) == size + 32  # CROP_PADDING of resnet_preprocessing.py


def test_every_set_of_timm_is_in_the_registry_and_none_is_made_up():
    sources = {timm_source(name, row): name.split(".")[0] for name, row in OF_TIMM.items()}
    assert len(sources) == 45
    others = (RELEASE, OF_KERAS, OF_PYTORCHCV)
    of_timm = [preset for preset in PRESETS if not preset.source.startswith(others)]
    assert {preset.source: preset.recipe for preset in of_timm} == sources
    of_others = (CLASSIFICATION_MODELS, KERAS_RS, PYTORCHCV)
    assert len(PRESETS) == len(of_timm) + sum(map(len, of_others))


@pytest.mark.parametrize("name", OF_TIMM)
def test_images_are_prepared_as_timm_prepares_them(name):
    row = OF_TIMM[name]
    preset = preset_of(timm_source(name, row))
    assert preset.name == name
    assert preset.pixels == Pixels(
        size=row["input_size"][1],
        crop=row["crop_pct"],
        interpolation=row["interpolation"],
        mean=tuple(row["mean"]),
        std=tuple(row["std"]),
        second=second_size(name, row),
        labels="imagenet" if row["num_classes"] == 1000 else preset.source,
        origin=f"weights {name}",
    )
    assert (preset.license, preset.classes) == (row["license"], row["num_classes"])
    assert preset.top1 == ACCURACIES.get((name, preset.pixels.size, preset.pixels.crop))
    assert (preset.top1 is None) == (preset.classes != 1000)


def second_size(name, row):
    if row["test_input_size"] is None:
        return None
    size, crop = row["test_input_size"][1], row["test_crop_pct"] or row["crop_pct"]
    return SecondSize(size=size, crop=crop, top1=ACCURACIES.get((name, size, crop)))


def top1_at_either_size(preset):
    second = preset.pixels.second
    return max(preset.top1, second.top1 if second else 0)


def test_every_row_is_of_the_catalog_and_one_of_each_is_the_best():
    for recipe in {preset.recipe for preset in PRESETS}:
        rows = [preset for preset in PRESETS if preset.recipe == recipe]
        best = [preset for preset in rows if preset.best]
        of_imagenet = [preset for preset in rows if preset.pixels.labels == "imagenet"]
        assert best == ([max(of_imagenet, key=top1_at_either_size)] if of_imagenet else [])
        assert not best or find_preset(recipe) == best[0]
        # `preprocess_input` takes the name of a row.
        assert len({(preset.pixels.mean, preset.pixels.std) for preset in rows}) == 1


# hex after the last dash: the file's sha256 begins with it.
RELEASES = {
    "legacy_seresnet18": "v0.1-weights/seresnet18-4bb0ce65.pth",
    "legacy_seresnet50": "v0.1-cadene/se_resnet50-ce0d4300.pth",
    "legacy_seresnext26_32x4d": "v0.1-weights/seresnext26_32x4d-65ebdb501.pth",
    "legacy_senet154": "v0.1-weights/legacy_senet154-e9eb9fe6.pth",
}


@pytest.mark.parametrize(("recipe", "file"), RELEASES.items())
def test_the_address_of_a_release(recipe, file):
    digits = re.search(r"-(\w+)\.pth", file)[1]
    assert find_preset(recipe).source == (
        "https://github.com/rwightman/pytorch-image-models/releases/download/"
        f"{file}#sha256={digits}"
    )


def test_the_best_set_is_stated():
    assert find_preset("seresnet50").source == "hf://timm/seresnet50.ra2_in1k"
    assert find_preset("seresnext50_32x4d").source == "hf://timm/seresnext50_32x4d.racm_in1k"


@pytest.mark.parametrize("recipe", sorted(NAMES - {preset.recipe for preset in PRESETS}))
def test_a_row_without_published_weights_says_which_have_some(recipe):
    with pytest.raises(ValueError, match=f"no weights are published for {recipe}") as caught:
        find_preset(recipe)
    assert all(preset.recipe in str(caught.value) for preset in PRESETS if preset.best)


def test_a_row_with_weights_for_small_images_alone_names_them():
    names = ", ".join(f"'seresnet20.cv_{images}'" for images in ("cifar10", "cifar100", "svhn"))
    with pytest.raises(
        ValueError,
        match=f"no ImageNet weights .* seresnet20; name one of its other weights: {names}",
    ):
        find_preset("seresnet20")


def test_a_row_without_published_weights_names_its_relative():
    # timm's own seresnet152 is untrained; those of the paper's release are not.
    relatives = "but for its relatives cm_seresnet152 and legacy_seresnet152"
    with pytest.raises(ValueError, match=rf"seresnet152 \({relatives}"):
        find_preset("seresnet152")
    with pytest.raises(ValueError, match=r"for semobilenet\. Networks"):
        find_preset("semobilenet")


def test_a_name_that_no_row_has_is_refused():
    with pytest.raises(ValueError, match="must be a model of the catalog, got 'seresnet51'"):
        find_preset("seresnet51")
