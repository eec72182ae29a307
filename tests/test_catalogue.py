"""Every row of the catalogue against the network it builds."""

from pathlib import Path

import pytest

import se_keras
from se_keras.models.recipes import RECIPES

MANIFESTS = Path(__file__).parent / "golden" / "manifests"
LARGE = 40_000_000  # parameters, from which on a build is slow


def rows():
    return [
        pytest.param(row, id=row.name, marks=pytest.mark.slow if row.parameters > LARGE else ())
        for row in RECIPES
    ]


@pytest.mark.parametrize("row", rows())
def test_a_row_says_what_it_builds(row, request):
    """Counts and input are the row's; names and shapes of all weights are as they were.

    A name that changes breaks files that users have. `pytest -m '' --update-manifests` writes
    the names anew, where a change is meant.
    """
    model = se_keras.create(row.name)
    count = se_keras.count(model)
    assert (count.trainable, count.macs) == (row.parameters, row.multiply_adds)
    assert model.input_shape == (None, row.input_size, row.input_size, 3)
    assert model.output_shape == (None, row.classes)
    found = [f"{w.path} {'x'.join(map(str, w.shape))}" for w in model.weights]
    path = MANIFESTS / f"{row.name}.txt"
    if request.config.getoption("--update-manifests"):
        path.write_text("\n".join(found) + "\n")
    assert found == path.read_text().splitlines()


def test_no_manifest_is_left_over():
    assert {path.stem for path in MANIFESTS.iterdir()} == {row.name for row in RECIPES}
