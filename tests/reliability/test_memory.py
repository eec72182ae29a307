"""Repeated work does not need more and more memory: slopes of the resident size."""

import ctypes
import gc
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

import se_keras
from se_keras.deploy.engines import ENGINES, find_engine

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc"),
]

FORMATS = [engine.format for engine in ENGINES]


def resident():
    """Return the resident size of this process in kB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


class Heap(ctypes.Structure):
    """The result of `mallinfo2` of glibc."""

    _fields_ = [(name, ctypes.c_size_t) for name in (*"abcdefg", "in_use", "free", "top")]


def in_use():
    """Return the kB of the heap that are in use, whatever pages the allocator holds."""
    look = ctypes.CDLL(None).mallinfo2
    look.restype = Heap
    return look().in_use / 1024


def slope(work, turns, samples=20, size=resident):
    """Return the kB that each round adds, by a line through the second half."""
    sizes = []
    for turn in range(turns):
        work()
        if (turn + 1) % (turns // samples) == 0:
            gc.collect()
            sizes.append(size())
    half = sizes[samples // 2 :]
    found = np.polyfit(np.arange(len(half)) * (turns // samples), half, 1)[0]
    print(f"{found:+.2f} kB a turn; {sizes[0]:,.0f} -> {sizes[-1]:,.0f} kB in {turns:,} turns")
    return found


def tiny():
    inputs = keras.Input((8, 8, 3))
    x = se_keras.se_block(keras.layers.Conv2D(8, 3)(inputs), ratio=2)
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))


def written(folder, format):
    engine = find_engine(format)
    for module in engine.modules:
        pytest.importorskip(module)
    path = folder / f"model{engine.suffix}"
    se_keras.export(tiny(), path, format)
    return path


def test_a_leak_is_seen():
    kept = []
    assert slope(lambda: kept.append(np.ones(2**16, "uint8")), 400) > 50


@pytest.mark.parametrize("format", FORMATS)
def test_2000_calls_of_a_loaded_file(format, tmp_path):
    run = find_engine(format).load(written(tmp_path, format), "float32")
    batch = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype("float32")
    assert slope(lambda: run([batch]), 2000) < 2  # a batch that is kept is 3 kB


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="no glibc 2.33")
def test_the_heap_of_onnx_runtime_is_flat():
    """The resident size grows by a step of half a MB now and then, which is not in use."""
    with tempfile.TemporaryDirectory() as folder:
        run = find_engine("onnx").load(written(Path(folder), "onnx"), "float32")
        batch = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype("float32")
        assert slope(lambda: run([batch]), 6000, size=in_use) < 0.05


@pytest.mark.parametrize("format", FORMATS)
def test_20_exports(format, tmp_path):
    model = tiny()
    for module in find_engine(format).modules:
        pytest.importorskip(module)
    path = tmp_path / f"model{find_engine(format).suffix}"

    def export_once():
        se_keras.export(model, path, format)

    assert slope(export_once, 20) < 2048


def test_100_models_made_and_dropped():
    def build():
        se_keras.create("seresnet20", input_shape=(8, 8, 3), classes=2)

    assert slope(build, 100) < 512
