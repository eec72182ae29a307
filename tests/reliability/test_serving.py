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


def loaded_at_the_same_time(engine, path, batch, number):
    """Load the file in a thread, call it once, and drop it."""
    run = engine.load(path, "float32")
    (answer,) = run([batch[number % len(batch) :][:1]])
    return number % len(batch), answer.copy()


@pytest.mark.parametrize("format", SUFFIX)
def test_threads_may_load_and_drop_files_beside_a_shared_one(format, tmp_path):
    """`SavedModel`s, sessions and interpreters are made and closed while another is asked."""
    engine = find_engine(format)
    for module in engine.modules:
        pytest.importorskip(module)
    inputs = keras.Input((8, 8, 3))
    x = se_keras.se_block(keras.layers.Conv2D(8, 3)(inputs), ratio=2)
    path = tmp_path / f"model{SUFFIX[format]}"
    se_keras.export(keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(x)), path, format)
    batch = np.random.default_rng(0).uniform(-1, 1, (7, 8, 8, 3)).astype("float32")
    shared = engine.load(path, "float32")
    (expected,) = shared([batch])
    with ThreadPoolExecutor(8) as pool:
        alone = [
            pool.submit(loaded_at_the_same_time, engine, path, batch, number)
            for number in range(24)
        ]
        beside = list(pool.map(lambda _: shared([batch])[0].copy(), range(200)))
        for future in alone:
            number, answer = future.result()
            np.testing.assert_allclose(answer[0], expected[number], rtol=1e-5, atol=1e-5)
    for answer in beside:
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)


def test_each_thread_may_make_its_own_model():
    """Built, with SE put in, optimized and counted in 8 threads, as in one."""

    def make(number):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(8, 3, name="conv", kernel_initializer="ones")(inputs)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
        model = keras.Model(inputs, x)
        gated = se_keras.insert_se(model, where=["conv"], ratio=2)
        fast = se_keras.optimize(gated, verbose=False)
        image = np.full((1, 8, 8, 3), number, "float32")
        return (
            se_keras.count(gated).params,
            *(keras.ops.convert_to_numpy(each(image)) for each in (model, gated, fast)),
        )

    serial = [make(number) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(make, range(16)))
    for one, other in zip(serial, threaded, strict=True):
        assert one[0] == other[0]
        for a, b in zip(one[1:], other[1:], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
