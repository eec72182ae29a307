"""Fixtures of the reliability tests: the process that runs commands, and their files."""

import shutil

import keras
import pytest
from forks import Forks
from work import TRAIN, photos

import se_keras


@pytest.fixture(scope="session")
def forks():
    """Provide the process from which commands are forked."""
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def workplace(forks, tmp_path_factory):
    """Provide images, models, weights and two finished runs; tests must not change them."""
    folder = tmp_path_factory.mktemp("all") / "workplace"
    photos(folder / "photos")
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0)
    inputs = keras.Input((8, 8, 3))
    small = se_keras.create("seresnet20", input_tensor=scaled(inputs), classes=2)
    small.save(folder / "model.keras")
    plain = se_keras.create("seresnet20", input_shape=(8, 8, 3), classes=2, se=False)
    plain.save(folder / "plain.keras")
    se_keras.create("seresnet20", input_shape=(8, 8, 3), classes=2).save_weights(
        folder / "some.weights.h5"
    )
    (folder / "runs").mkdir()
    # The smallest that timm has too: not copied to each place.
    of_timm = se_keras.create("seresnet18", input_shape=(32, 32, 3), classes=2)
    of_timm.save(folder / "runs" / "named.keras")
    for name, seed in {"one": "1", "two": "2"}.items():
        ended = forks.run(*TRAIN, "--seed", seed, folder=folder)
        assert ended.code == 0, ended
        shutil.move(folder / "run", folder / "runs" / name)
    return folder


@pytest.fixture
def place(workplace, tmp_path):
    """Provide a copy without the runs that tests may change."""
    return shutil.copytree(workplace, tmp_path / "place", ignore=shutil.ignore_patterns("runs"))
