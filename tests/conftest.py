"""Settings of the suite: quiet TensorFlow, repeatable examples, a clean Keras for each test."""

import os
import sys
from pathlib import Path

# After the installed package: `benchmarks` is not installed.
sys.path.append(str(Path(__file__).parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser):
    parser.addoption(
        "--update-manifests",
        action="store_true",
        help="write the names and shapes of all weights anew (tests/golden/manifests)",
    )
    parser.addoption(
        "--recorded",
        metavar="FOLDER",
        help="folder with a backend's results from another machine (tests/record_backend.py)",
    )


def pytest_configure(config):
    # Without it OpenVINO reports nothing to its makers: it would start a process for each message.
    sys.modules["openvino_telemetry"] = None
    # Keras turns its variables, and torch's tensors, into arrays by an `__array__` without the
    # `copy` keyword that NumPy 2 asks for.
    config.addinivalue_line(
        "filterwarnings", "ignore:__array__ implementation doesn't accept:DeprecationWarning:keras"
    )


@pytest.fixture
def shapes_only():
    """Build models whose weights have names and shapes, but no numbers.

    Drawing the numbers takes most of the time of building a large network.
    """
    with keras.StatelessScope(initialize_variables=False):
        yield


@pytest.fixture(autouse=True)
def clean_keras():
    """Each test starts from the same seed and leaves no global setting behind."""
    policy, data_format = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(data_format)
    keras.utils.clear_session(free_memory=False)  # a garbage collection takes a second
