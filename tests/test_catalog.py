"""Every row of the catalog against the network it builds."""

import pytest
from checks import GOLDEN, README

import se_keras
from se_keras import cli
from se_keras.models.recipes import RECIPES

MANIFESTS = GOLDEN / "manifests"


# The paper's Tables 2 and 3, with SE, in 10^9: convolutions and dense layers, SE's two included.
# Its Inception-ResNet-v2 and ShuffleNet are held in their own files: they fit other counts.
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


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("row", RECIPES, ids=lambda row: row.name)
def test_a_row_says_what_it_builds(row, request):
    """Counts and input are the row's; names and shapes of all weights are as they were.

    A name that changes breaks files that users have. `pytest tests/test_catalog.py
    --update-manifests` writes the names anew, where a change is meant.
    """
    model = se_keras.create(row.name)
    count = se_keras.count(model)
    assert (count.trainable, count.macs) == (row.parameters, row.multiply_adds)
    assert count.uncounted == ()
    assert model.input_shape == (None, row.input_size, row.input_size, 3)
    assert model.output_shape == (None, row.classes)
    found = [f"{w.path} {'x'.join(map(str, w.shape))}" for w in model.weights]
    path = MANIFESTS / f"{row.name}.txt"
    if request.config.getoption("--update-manifests"):
        path.write_text("\n".join(found) + "\n")
    assert found == path.read_text().splitlines()


@pytest.mark.parametrize(("name", "expected"), PAPER_MULTIPLY_ADDS.items())
def test_multiply_adds_are_the_papers_within_one_percent(name, expected):
    """What the rows say; the test above holds it to the networks."""
    (row,) = se_keras.list_models(name)
    assert row.multiply_adds / 1e9 == pytest.approx(expected, rel=0.01)


def test_the_readme_has_what_list_prints(capsys):
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out.strip() in README.read_text()


def test_no_manifest_is_left_over():
    assert {path.stem for path in MANIFESTS.iterdir()} == {row.name for row in RECIPES}
