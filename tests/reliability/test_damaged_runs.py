"""Commands on a run with damaged files give the right answer, or an error of one line."""

import json
import random
import shutil

import damage
import pytest
from contents import contents
from forks import SEED
from work import TRAIN

pytestmark = pytest.mark.reliability

FILES = (
    "settings.json",
    "report.json",
    "history.csv",
    "predictions.csv",
    "split.csv",
    "model.keras",
    "checkpoint-0002.json",
    "checkpoint-0002.weights.h5",
    "saved_model/saved_model.pb",
    "saved_model/variables/variables.index",
    "saved_model/variables/variables.data-00000-of-00001",
)
READERS = {
    "predict": ("predict", "run", "photos/dark/0.png"),
    "predict a SavedModel": ("predict", "run/saved_model", "photos/dark/0.png"),
    "evaluate": ("evaluate", "run", "--data", "photos"),
    "explain": ("explain", "run", "--out", "ex"),
    "export": ("export", "run", "-o", "served"),
    "compare": ("compare", "run", "other", "-o", "both.png"),
    "count": ("count", "run"),
}
TRIES = 12  # of each file


@pytest.fixture(scope="module")
def finished(forks, workplace, tmp_path_factory):
    """Provide a finished run and a copy of it; tests must not change them."""
    folder = shutil.copytree(workplace, tmp_path_factory.mktemp("finished") / "place")
    ended = forks.run(*TRAIN, folder=folder)
    assert ended.code == 0, ended.err
    shutil.copytree(folder / "run", folder / "other")
    return folder


def damages(file):
    """Some of the kinds of damage, drawn by the seed."""
    content = file.read_bytes()
    kinds = [*damage.cuts(content), *damage.other_bytes(content)]
    if file.suffix == ".json":
        kinds += damage.swapped(json.loads(content))
    if file.suffix == ".csv":
        kinds += damage.other_tables(content)
    generator = random.Random(f"{SEED} {file.name}")
    for number in range(10):
        at = generator.randrange(len(content))
        flipped = bytes([content[at] ^ 1 << generator.randrange(8)])
        kinds.append((f"bit {number}", content[:at] + flipped + content[at + 1 :]))
    return generator.sample(kinds, TRIES)


def assert_clear(ended, what):
    assert ended.code in (0, 2), f"{what}: {ended}"
    assert "Traceback" not in ended.err, f"{what}: {ended.err}"
    if ended.code:
        assert len(ended.err.strip().splitlines()) == 1, f"{what}: {ended.err}"


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_run(name, forks, finished, tmp_path):
    whole = contents(finished / "run")
    generator = random.Random(f"{SEED} {name}")
    for turn, (how, content) in enumerate(damages(finished / "run" / name)):
        place = shutil.copytree(finished, tmp_path / str(turn) / "place")
        (place / "run" / name).write_bytes(content)
        command = generator.choice(list(READERS))
        ended = forks.run(*READERS[command], folder=place)
        assert_clear(ended, f"{command}, {name}, {how}")
        resumed = forks.run("train", "--out", "run", "--resume", folder=place)
        assert_clear(resumed, f"--resume, {name}, {how}")
        if resumed.code == 0 and name != "split.csv":
            assert_same(contents(place / "run"), whole, f"{name}, {how}")
        shutil.rmtree(place)


def assert_same(left, whole, what):
    """Compare runs, except for edits in a table and for unneeded checkpoints."""
    differing = {name for name in whole if left.get(name) != whole[name]}
    kept = {f"run/{name}" for name in ("predictions.csv", "report.json", "settings.json")}
    assert {name for name in differing - kept if "checkpoint" not in name} == set(), what
