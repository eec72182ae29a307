"""Compare the equations with NumPy, and check which inputs they refuse."""

import keras
import numpy as np
import pytest
from checks import array, uniform
from hypothesis import given
from hypothesis import strategies as st

from se_keras import ops

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=3)


def channels_last(x, data_format):
    return np.moveaxis(x, 1, -1) if data_format == "channels_first" else x


@given(
    batch=st.integers(0, 3),
    spatial=SHAPES,
    channels=st.integers(1, 9),
    pool=st.sampled_from(["avg", "max"]),
    data_format=st.sampled_from(["channels_last", "channels_first"]),
    seed=st.integers(0, 99),
)
def test_squeeze_describes_each_channel(batch, spatial, channels, pool, data_format, seed):
    first = data_format == "channels_first"
    shape = (batch, channels, *spatial) if first else (batch, *spatial, channels)
    u = uniform(shape, seed)
    positions = int(np.prod(spatial))
    pixels = channels_last(u, data_format).reshape(batch, positions, channels).astype("float64")
    expected = pixels.max(1) if pool == "max" else pixels.sum(1) / positions
    z = ops.squeeze(u, pool, data_format)
    assert tuple(z.shape) == (batch, channels)
    np.testing.assert_allclose(array(z), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float32"),
        ("uint8", "float32"),
    ],
)
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_squeeze_returns_float32_at_least(given, returned, pool):
    u = keras.ops.cast(np.full((1, 2, 2, 3), 3.0), given)
    z = ops.squeeze(u, pool, "channels_last")
    assert keras.backend.standardize_dtype(z.dtype) == returned
    np.testing.assert_array_equal(array(z), np.full((1, 3), 3.0))


def test_the_mean_of_a_large_float16_map_does_not_overflow():
    # The sum, 1.6e10, is far above float16's 65504; a sum in float16 stops growing much earlier.
    u = np.full((1, 512, 512, 2), 60000.0, "float16")
    z = array(ops.squeeze(u, data_format="channels_last"))
    np.testing.assert_allclose(z, 60000.0, rtol=1e-6)


def test_the_mean_of_a_large_float32_map_keeps_its_digits():
    u = uniform((1, 512, 512, 2), seed=1) + np.float32(1000.0)
    z = array(ops.squeeze(u, data_format="channels_last"))
    np.testing.assert_allclose(z, u.astype("float64").mean((1, 2)), rtol=1e-6)


def test_excite_is_two_maps_two_activations_and_a_scale():
    z, w1, w2 = uniform((2, 6), 1), uniform((6, 3), 2), uniform((3, 6), 3)
    s = ops.excite(
        z,
        lambda v: keras.ops.matmul(v, w1),
        lambda v: keras.ops.matmul(v, w2),
        activation=keras.ops.tanh,
        gate_activation=keras.ops.relu,
        gate_scale=3.0,
    )
    np.testing.assert_allclose(array(s), 3 * np.maximum(np.tanh(z @ w1) @ w2, 0), rtol=1e-5)


def test_excite_defaults_to_relu_and_sigmoid():
    w = np.eye(2, dtype="float32")
    s = ops.excite(
        np.array([[-1.0, 2.0]], "float32"),
        lambda v: keras.ops.matmul(v, w),
        lambda v: keras.ops.matmul(v, w),
    )
    np.testing.assert_allclose(array(s), [[0.5, 1 / (1 + np.exp(-2.0))]], rtol=1e-6)


@given(
    spatial=SHAPES,
    data_format=st.sampled_from(["channels_last", "channels_first"]),
    expanded=st.booleans(),
)
def test_recalibrate_scales_each_channel(spatial, data_format, expanded):
    first = data_format == "channels_first"
    u = uniform((2, 3, *spatial) if first else (2, *spatial, 3))
    gate = uniform((2, 3), seed=1)
    given = ops.expand_gate(gate, u.ndim, data_format) if expanded else gate
    y = array(ops.recalibrate(u, given, data_format))
    for n, c in np.ndindex(2, 3):
        old = channels_last(u, data_format)[n, ..., c]
        np.testing.assert_allclose(
            channels_last(y, data_format)[n, ..., c], old * gate[n, c], rtol=1e-6
        )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_global_data_format_is_the_default(data_format):
    u = uniform((2, 3, 4, 5))
    keras.config.set_image_data_format(data_format)
    assert ops.standardize_data_format(None) == data_format
    axes = (2, 3) if data_format == "channels_first" else (1, 2)
    z = ops.squeeze(u)
    np.testing.assert_allclose(array(z), u.mean(axes), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        array(ops.recalibrate(u, z)), u * u.mean(axes, keepdims=True), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(4,), (2, 4), (1, 2, 2, 2, 2, 4)])
def test_a_map_of_another_rank_is_refused(shape):
    with pytest.raises(ValueError, match=r"`u` must be a feature map of rank 3, 4 or 5"):
        ops.squeeze(np.zeros(shape, "float32"))


@pytest.mark.parametrize("pool", ["mean", None, 3])
def test_an_unknown_pool_is_refused(pool):
    with pytest.raises(ValueError, match=r"`pool` must be one of \('avg', 'max'\), got"):
        ops.squeeze(np.zeros((1, 2, 2, 4), "float32"), pool)


@pytest.mark.parametrize("data_format", ["NCHW", "channels", 1])
def test_an_unknown_data_format_is_refused(data_format):
    with pytest.raises(ValueError, match=r"`data_format` must be one of .*, got"):
        ops.squeeze(np.zeros((1, 2, 2, 4), "float32"), data_format=data_format)


def test_a_tensor_is_written_out_only_where_it_is_refused():
    """Formatting a tensor takes milliseconds, and waits for a GPU."""
    written = []

    class Counted(np.ndarray):
        def __repr__(self):
            written.append(self)
            return "counted"

    u = np.ones((1, 2, 2, 4), "float32").view(Counted)
    ops.recalibrate(u, ops.squeeze(u))
    assert written == []
    with pytest.raises(ValueError, match=r"`u` must be a tensor .*, got counted\."):
        ops.squeeze(u.astype("complex64"))
    assert len(written) == 1
