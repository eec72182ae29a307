"""Every row of the catalog against the network it builds."""

import numpy as np
import pytest
from checks import MANIFESTS, kind_of, shapes_of_row

import se_keras
from se_keras.models.recipes import RECIPES

# The paper's Tables 2 and 3, with SE, in 10^9: convolutions and dense layers, SE's two included.
# Its Inception-ResNet-v2 and ShuffleNet fit other counts: see their own test files.
PAPER_MULTIPLY_ADDS = {
    "legacy_seresnet50": 3.87,
    "legacy_seresnet101": 7.60,
    "legacy_seresnet152": 11.32,
    "legacy_seresnext50_32x4d": 4.25,
    "legacy_seresnext101_32x4d": 8.00,
    "sevgg16_bn": 15.48,
    "sebn_inception": 2.04,
    "semobilenet": 0.572,
}


# timm's results/benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv, infer_gmacs at the row's size.
TIMM_MULTIPLY_ADDS = {
    "resnetrs50": 2.29,
    "resnetrs101": 6.04,
    "resnetrs152": 15.59,
    "resnetrs200": 20.18,
    "resnetrs270": 27.06,
    "resnetrs350": 43.67,
    "resnetrs420": 64.2,
    "ecaresnet26t": 3.35,
    "ecaresnet50t": 5.64,
    "ecaresnet50d": 4.35,
    "ecaresnet101d": 8.08,
    "ecaresnetlight": 4.11,
    "ecaresnet269d": 41.53,
    "seresnet50t": 4.32,
    "seresnet200d": 20.01,
    "seresnet269d": 26.59,
    "seresnetaa50d": 5.4,
    "seresnextaa101d_32x8d": 17.25,
    "seresnextaa201d_32x8d": 101.11,
}


def has_manifest(row):
    return (MANIFESTS / f"{row.name}.txt").exists()


def relatives(row):
    """Return the rows that differ from this one in depth alone."""
    return [other for other in RECIPES if kind_of(other) == kind_of(row) and other != row]


slow = pytest.mark.slow
ROWS = [
    pytest.param(
        row,
        id=row.name,
        marks=[] if has_manifest(row) or not any(map(has_manifest, relatives(row))) else slow,
    )
    for row in RECIPES
]


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("row", ROWS)
def test_a_row_says_what_it_builds(row, request):
    """Counts and input are the row's; names and shapes of all weights are as they were.

    A name that changes breaks files that users have. `pytest tests/test_catalog.py
    --update-manifests` writes the names anew, where a change is meant. Of rows that differ in depth
    alone one may have the manifest for all.
    """
    model = se_keras.create(row.name)
    count = se_keras.count(model)
    assert (count.trainable, count.macs) == (row.parameters, row.multiply_adds)
    assert count.uncounted == ()
    assert model.input_shape == (None, row.input_size, row.input_size, 3)
    assert model.output_shape == (None, row.classes)
    found = {w.path: tuple(w.shape) for w in model.weights}
    has_own = has_manifest(row) or not any(map(has_manifest, relatives(row)))
    if request.config.getoption("--update-manifests") and has_own:
        lines = [f"{path} {'x'.join(map(str, shape))}" for path, shape in found.items()]
        (MANIFESTS / f"{row.name}.txt").write_text("\n".join(lines) + "\n")
    assert list(found.items()) == list(shapes_of_row(row.name).items())


@pytest.mark.parametrize("row", RECIPES, ids=lambda row: row.name)
def test_the_names_of_a_row_have_its_parameters(row):
    shapes = shapes_of_row(row.name)
    trained = [np.prod(s) for path, s in shapes.items() if "/moving_" not in path]
    assert sum(map(int, trained)) == row.parameters


@pytest.mark.parametrize(("name", "expected"), PAPER_MULTIPLY_ADDS.items())
def test_multiply_adds_are_the_papers_within_one_percent(name, expected):
    """Check the numbers in the rows; the test above compares them with the networks."""
    (row,) = se_keras.list_models(name)
    assert row.multiply_adds / 1e9 == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("name", "expected"), TIMM_MULTIPLY_ADDS.items())
def test_multiply_adds_are_timms_within_one_percent(name, expected):
    """timm counts normalization and pools too."""
    (row,) = se_keras.list_models(name)
    assert row.multiply_adds / 1e9 == pytest.approx(expected, rel=0.01)


def test_no_manifest_is_left_over():
    assert {path.stem for path in MANIFESTS.iterdir()} <= {row.name for row in RECIPES}
