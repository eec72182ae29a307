"""What the tests of reliability share: the process of the commands, and what they work on."""

import shutil

import keras
import pytest
from forks import Forks
from work import photos

import se_keras


@pytest.fixture(scope="session")
def forks():
    """The process that commands are forked from."""
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """Images, a small model and its weights; not to be changed."""
    folder = tmp_path_factory.mktemp("workplace")
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
    return folder


@pytest.fixture
def place(workplace, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(workplace, tmp_path / "place")
