"""Commands on a run with damaged files give the right answer, or an error of one line."""

import json
import os
import random
import re
import shutil

import damage
import pytest
from contents import contents
from forks import SEED

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
    "saved_model/assets.extra/se_keras.json",
)
READERS = {
    "predict": ("predict", "run", "photos/dark/0.png"),
    "predict a SavedModel": ("predict", "run/saved_model", "photos/dark/0.png"),
    "evaluate": ("evaluate", "run", "--data", "photos", "--out", "ev"),
    "evaluate a SavedModel": ("evaluate", "run/saved_model", "--data", "photos"),
    "explain": ("explain", "run", "--out", "ex"),
    "export": ("export", "run", "-o", "served"),
    "compare": ("compare", "run", "other", "-o", "both.png"),
    "count": ("count", "run"),
}
# Of the readers those that look at a file; some of them see it in two commands of three.
LOOK = {
    "saved_model": ("predict a SavedModel", "evaluate a SavedModel"),
    "split.csv": ("evaluate", "export", "evaluate a SavedModel"),
    "history.csv": ("compare",),
    "predictions.csv": ("compare",),
}
# A folder without one of these is that of a model, not of a finished run.
OF_A_RUN = ("settings.json", "report.json", "split.csv")
TRIES = 6  # of each file
TIMES = re.compile(r"^one sample .*$|\d[\d.]* ?[mu]?s\b", re.MULTILINE)


@pytest.fixture(scope="module")
def finished(workplace, tmp_path_factory):
    """A finished run, and a copy of it; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "place"
    shutil.copytree(workplace, folder, ignore=shutil.ignore_patterns("runs"))
    for name in ("run", "other"):
        shutil.copytree(workplace / "runs" / "one", folder / name)
    return folder


@pytest.fixture(scope="module")
def right(forks, finished, tmp_path_factory):
    """What a reader says of a run that is whole."""
    known = {}

    def answer(name):
        if name not in known:
            place = shutil.copytree(finished, tmp_path_factory.mktemp("right") / "place")
            ended = forks.run(*READERS[name], folder=place)
            assert ended.code == 0, ended
            known[name] = TIMES.sub("", ended.out)
        return known[name]

    return answer


REPLACED = {
    "a folder": os.mkdir,
    "a pipe": os.mkfifo,
    "a loop": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: None,
}


def damages(file):
    """Some of the kinds of damage, drawn by the seed: name and what does it."""
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
        kinds.append((f"bit {number} at {at}", content[:at] + flipped + content[at + 1 :]))
    chosen = generator.sample(kinds, TRIES - 2)
    for how, new in chosen:
        yield how, lambda path, new=new: path.write_bytes(new)
    for kind in generator.sample(list(REPLACED), 2):
        yield kind, lambda path, kind=kind: (path.unlink(), REPLACED[kind](path))


def assert_clear(ended, what):
    assert ended.code in (0, 2), f"{what}: {ended}"
    assert "Traceback" not in ended.err, f"{what}: {ended.err}"
    if ended.code:
        assert len(ended.err.strip().splitlines()) == 1, f"{what}: {ended.err}"


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_run(name, forks, finished, right, tmp_path):
    whole = contents(finished / "run")
    generator = random.Random(f"{SEED} {name}")
    looking = LOOK.get(name.partition("/")[0], tuple(READERS))
    for turn, (how, damage_it) in enumerate(damages(finished / "run" / name)):
        place = shutil.copytree(finished, tmp_path / str(turn) / "place")
        damage_it(place / "run" / name)
        command = generator.choice(looking if turn % 3 else list(READERS))
        ended = forks.run(*READERS[command], folder=place)
        what = f"{command}, {name}, {how}"
        assert_clear(ended, what)
        if not ended.code and not (how == "nothing" and name in OF_A_RUN):
            assert TIMES.sub("", ended.out) == right(command), what
        resumed = forks.run("train", "--out", "run", "--resume", folder=place)
        assert_clear(resumed, f"--resume, {name}, {how}")
        if resumed.code == 0:
            assert_same(place / "run", whole, f"{name}, {how}")
        shutil.rmtree(place)


def assert_same(run, whole, what):
    """A checkpoint that nothing needs any more may stay damaged."""
    for path in run.glob("checkpoint-*"):
        if not path.is_file():
            path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()
    left = contents(run)
    differing = {name for name in whole if left.get(name) != whole[name]}
    assert {name for name in differing if "checkpoint" not in name} == set(), what
