"""The registry of published weights, against what timm says of them."""

import csv
import json
import re

import classification_models_weights
import pytest
from checks import GOLDEN, README

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
    """Where timm itself gets the weights."""
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


def test_every_set_of_timm_is_in_the_registry_and_none_is_made_up():
    sources = {timm_source(name, row): name.split(".")[0] for name, row in OF_TIMM.items()}
    assert len(sources) == 23
    of_timm = [preset for preset in PRESETS if not preset.source.startswith(RELEASE)]
    assert {preset.source: preset.recipe for preset in of_timm} == sources
    assert len(PRESETS) == len(of_timm) + len(CLASSIFICATION_MODELS)


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
        labels="imagenet",
        origin=f"weights {name}",
    )
    assert preset.license == row["license"]
    assert preset.top1 == ACCURACIES[name, preset.pixels.size, preset.pixels.crop]


def second_size(name, row):
    if row["test_input_size"] is None:
        return None
    size, crop = row["test_input_size"][1], row["test_crop_pct"] or row["crop_pct"]
    return SecondSize(size=size, crop=crop, top1=ACCURACIES[name, size, crop])


def test_every_row_is_of_the_catalog_and_one_of_each_is_the_best():
    for recipe in {preset.recipe for preset in PRESETS}:
        rows = [preset for preset in PRESETS if preset.recipe == recipe]
        best = [preset for preset in rows if preset.best]
        assert best == [find_preset(recipe)]
        assert best[0].top1 == max(preset.top1 for preset in rows)
        # `preprocess_input` takes the name of a row.
        assert len({(preset.pixels.mean, preset.pixels.std) for preset in rows}) == 1


def test_the_readme_has_them_all():
    def line(preset):
        address = preset.source.partition("#")[0]
        file = address.removeprefix("hf://") if "hf:" in address else address.rpartition("/")[2]
        pixels = preset.pixels
        name = f"`{preset.recipe}`{' *' if preset.best else ''}"
        cells = (name, file, pixels.size, pixels.crop, pixels.interpolation, f"{preset.top1:.2f}")
        second = pixels.second
        cells += (second.size, f"{second.crop:g}", f"{second.top1:.2f}") if second else ("",) * 3
        return f"| {' | '.join(map(str, cells))} |"

    assert "\n".join(map(line, PRESETS)) in README.read_text()


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
    with pytest.raises(ValueError, match=f"none are published for {recipe}") as caught:
        find_preset(recipe)
    assert all(preset.recipe in str(caught.value) for preset in PRESETS)


def test_a_row_without_published_weights_names_its_relative():
    # timm's own seresnet101 is untrained; those of the paper's release are not.
    relatives = "its relatives cm_seresnet101 and legacy_seresnet101 have some"
    with pytest.raises(ValueError, match=rf"seresnet101 \({relatives}"):
        find_preset("seresnet101")
    with pytest.raises(ValueError, match=r"for semobilenet\. There"):
        find_preset("semobilenet")


def test_a_name_that_no_row_has_is_refused():
    with pytest.raises(ValueError, match="must be a model of the catalog, got 'seresnet51'"):
        find_preset("seresnet51")
