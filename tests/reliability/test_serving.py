"""Functions of `find_engine(...).load` in several threads, with any batch size, and with NaN."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import se_keras
from se_keras.deploy.engines import find_engine

pytestmark = pytest.mark.reliability

SUFFIX = {"tf_saved_model": "", "onnx": ".onnx", "openvino": "", "litert": ".tflite"}


@pytest.fixture(scope="module", params=SUFFIX)
def served(request, tmp_path_factory):
    """Provide a small model and the function of an engine for it."""
    engine = find_engine(request.param)
    for module in engine.modules:
        pytest.importorskip(module)
    inputs = keras.Input((8, 8, 3))
    x = se_keras.se_block(keras.layers.Conv2D(8, 3, activation="relu")(inputs), ratio=2)
    outputs = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    path = tmp_path_factory.mktemp("served") / f"model{SUFFIX[request.param]}"
    se_keras.export(model, path, request.param)
    return model, engine.load(path, "float32")


@pytest.mark.parametrize("threads", [8])
def test_threads_may_share_a_loaded_file(threads, served):
    _, run = served
    generator = np.random.default_rng(0)
    batches = [
        generator.uniform(-1, 1, (size, 8, 8, 3)).astype("float32") for size in (1, 2, 5, 3) * 60
    ]
    serial = [run([batch])[0].copy() for batch in batches]
    with ThreadPoolExecutor(threads) as pool:
        shared = list(pool.map(lambda batch: run([batch])[0].copy(), batches))
    for one, other in zip(serial, shared, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_batch_of_any_size(size, served):
    model, run = served
    batch = np.random.default_rng(0).uniform(-1, 1, (size, 8, 8, 3)).astype("float32")
    (answer,) = run([batch])
    assert answer.shape == (size, 4)
    if size:
        np.testing.assert_allclose(answer, model.predict(batch, verbose=0), atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_in_nan_out(bad, served):
    """OpenVINO's ReLU makes 0 of NaN, and its max pooling may."""
    model, run = served
    batch = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 3)).astype("float32")
    good = model.predict(batch, verbose=0)
    batch[1, 4, 4, 1] = bad
    (answer,) = run([batch])
    assert not np.isfinite(answer[1]).any()
    np.testing.assert_allclose(answer[[0, 2]], good[[0, 2]], atol=1e-5)
