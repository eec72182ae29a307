"""SE's kin: compared with float64 references and timm's modules; common properties of gates."""

import inspect
import math

import keras
import numpy as np
import pytest
from checks import ACTIVATIONS, GOLDEN, array, reference_gate, set_random_weights, uniform

import se_keras
from se_keras.layers import GATES, neighbors

SHAPE = (2, 5, 6, 8)
# Name: what `attention` calls the layer, its arguments.
CASES = {
    "eca": ("eca", {}),
    "eca_wide": ("eca", {"kernel_size": 9, "use_bias": True, "pool": "max", "gate_scale": 2.0}),
    "ese": ("ese", {}),
    "ese_max": ("ese", {"pool": "max", "gate_activation": "tanh", "use_bias": False}),
    "scse": ("scse", {}),
    "scse_max": ("scse", {"ratio": 4, "fusion": "max", "gate_scale": 1.5, "activation": "silu"}),
    "ge": ("ge", {}),
    "ge_max": ("ge", {"extent": 2, "pool": "max"}),
    "ge_8": ("ge", {"extent": 8}),
    "ge_4_params": ("ge", {"extent": 4, "extra_params": True}),
    "ge_params": ("ge", {"extra_params": True}),
    "ge_2_mlp": ("ge", {"extent": 2, "use_mlp": True, "ratio": 4, "use_bias": False}),
    "ge_8_plus": ("ge", {"extent": 8, "extra_params": True, "use_mlp": True, "ratio": 2}),
}


def made(case, shape=SHAPE, seed=0, **more):
    kind, options = CASES[case]
    layer = GATES[kind](**options, **more)
    layer.build((None, *shape[1:]))
    set_random_weights(layer, seed)
    return layer


# --- the references, one sample at a time, float64 -----------------------------------------------


def reference(case, u, weights, mask=None):
    """The output for one map (*spatial, C); `weights` by their paths in the layer."""
    kind, options = CASES[case]
    counts = np.ones(u.shape[:-1], bool) if mask is None else mask
    gate = {"eca": eca, "ese": ese, "scse": scse, "ge": ge}[kind](u, weights, counts, **options)
    scale = options.get("gate_scale", 1.0)
    if options.get("fusion") == "max":
        return np.maximum(*(u * scale * part for part in gate))
    return u * scale * gate


def pooled(u, counts, pool):
    if not counts.any():
        return np.zeros(u.shape[-1])
    return u[counts].max(axis=0) if pool == "max" else u[counts].mean(axis=0)


def eca(u, weights, counts, pool="avg", **options):
    z, kernel = pooled(u, counts, pool), weights["conv/kernel"].ravel()
    half = len(kernel) // 2
    padded = np.pad(z, half)
    sums = [padded[c : c + len(kernel)] @ kernel for c in range(len(z))]
    return ACTIVATIONS["sigmoid"](np.array(sums) + weights.get("conv/bias", 0))


def ese(u, weights, counts, pool="avg", gate_activation="hard_sigmoid", **options):
    z = pooled(u, counts, pool) @ weights["dense/kernel"]
    return ACTIVATIONS[gate_activation](z + weights.get("dense/bias", 0))


def scse(u, weights, counts, fusion="sum", activation="relu", **options):
    two = [
        weights[f"{part}/{kind}"] for part in ("reduce", "expand") for kind in ("kernel", "bias")
    ]
    s = reference_gate(pooled(u, counts, "avg")[None], two, activation=activation)
    q = ACTIVATIONS["sigmoid"](u @ weights["spatial/kernel"] + weights["spatial/bias"])
    return s + q if fusion == "sum" else (s, q)


def ge(u, weights, counts, extent=0, extra_params=False, use_mlp=False, pool="avg", **options):
    sizes = u.shape[:-1]
    if extra_params:
        v = gathered(np.where(counts[..., None], u, 0), weights, extent)
    elif extent:
        cells = [range(0, size, extent) for size in sizes]
        v = np.zeros((*map(len, cells), u.shape[-1]))
        for cell in np.ndindex(v.shape[:-1]):
            places = [slice(max(0, i * extent - extent + 1), i * extent + extent) for i in cell]
            v[cell] = pooled(u[tuple(places)], counts[tuple(places)], pool)
    else:
        v = pooled(u, counts, pool).reshape(*[1] * len(sizes), -1)
    if use_mlp:
        v = ACTIVATIONS["relu"](v @ weights["reduce/kernel"] + weights.get("reduce/bias", 0))
        v = v @ weights["expand/kernel"] + weights.get("expand/bias", 0)
    for axis, size in enumerate(sizes):
        v = np.take(v, [math.floor(i * v.shape[axis] / size) for i in range(size)], axis=axis)
    return ACTIVATIONS["sigmoid"](v)


def gathered(u, weights, extent):
    for n in range(1, 5):
        if f"conv{n}/kernel" not in weights:
            return u
        u = np.where(u > 0, u, 0) if n > 1 else u
        kernel = weights[f"conv{n}/kernel"][..., 0]
        u = np.pad(u, [(1, 1)] * (u.ndim - 1) + [(0, 0)]) if extent else u
        stride = 2 if extent else 1
        counts = [(u.shape[i] - kernel.shape[i]) // stride + 1 for i in range(u.ndim - 1)]
        v = np.zeros((*counts, u.shape[-1]))
        for cell in np.ndindex(*counts):
            starts = zip(cell, kernel.shape[:-1], strict=True)
            window = u[tuple(slice(i * stride, i * stride + size) for i, size in starts)]
            v[cell] = (window * kernel).sum(axis=tuple(range(kernel.ndim - 1)))
        mean, variance = (weights[f"norm{n}/moving_{what}"] for what in ("mean", "variance"))
        v = (v - mean) / np.sqrt(variance + 1e-5)
        u = v * weights[f"norm{n}/gamma"] + weights[f"norm{n}/beta"]
    return u


def weights_of(layer):
    return {"/".join(w.path.split("/")[-2:]): array(w).astype("float64") for w in layer.weights}


def assert_equals_reference(case, layer, x, tolerance, mask=None):
    u = array(x).astype("float64")
    first = layer.data_format == "channels_first"
    u = np.moveaxis(u, 1, -1) if first else u
    weights = weights_of(layer)
    masks = [None] * len(u) if mask is None else mask
    expected = np.array([reference(case, u[i], weights, masks[i]) for i in range(len(u))])
    y = array(layer(x, mask=mask))
    assert y.shape == tuple(x.shape)
    y = np.moveaxis(y, 1, -1) if first else y
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * np.abs(expected).max())


SHAPES = {
    "map": SHAPE,
    "sequence": (2, 11, 8),
    "volume": (2, 2, 3, 4, 8),
    "pixel": (3, 1, 1, 8),
    "odd": (1, 17, 9, 4),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_each_equals_its_reference(case, shape):
    if shape == "volume" and CASES[case][1].get("extra_params"):
        with pytest.raises(se_keras.InputError, match=r"needs maps of rank 3 or 4.* got rank 5"):
            made(case, SHAPES[shape])
        return
    layer = made(case, SHAPES[shape], dtype="float64")
    assert_equals_reference(case, layer, uniform(SHAPES[shape], 1, "float64"), 1e-12)


@pytest.mark.parametrize("case", CASES)
def test_channels_first_and_masks_equal_the_reference(case):
    x = uniform((3, 5, 6, 8), 1)
    mask = np.random.default_rng(2).random((3, 5, 6)) < 0.6
    mask[-1] = False
    assert_equals_reference(case, made(case, x.shape), x, 1e-5, mask)
    layer = made(case, (None, 8, 5, 6), data_format="channels_first")
    assert_equals_reference(case, layer, np.moveaxis(x, -1, 1), 1e-5, mask)
    row = np.broadcast_to(mask[:, :, :1], mask.shape)  # a mask may lack the last axes
    short = array(layer(np.moveaxis(x, -1, 1), mask=mask[:, :, 0]))
    np.testing.assert_allclose(short, array(layer(np.moveaxis(x, -1, 1), mask=row)), rtol=1e-6)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_float16", 2e-3), ("bfloat16", 0.05)])
@pytest.mark.parametrize("case", CASES)
def test_short_types_are_near_the_reference(case, policy, tolerance):
    layer = made(case, dtype=policy)
    x = keras.ops.cast(uniform(SHAPE, 1), layer.compute_dtype)
    assert {weight.dtype for weight in layer.weights} <= {layer.variable_dtype}
    assert keras.backend.standardize_dtype(layer(x).dtype) == layer.compute_dtype
    assert_equals_reference(case, layer, x, tolerance)


@pytest.mark.parametrize("case", CASES)
def test_a_large_float16_map_stays_finite(case):
    layer = made(case, (None, 64, 64, 8), dtype="mixed_float16")
    x = np.full((1, 64, 64, 8), 6e4, "float16") * np.array([1, -1] * 4, "float16")
    if "gate_scale" not in CASES[case][1] and case != "scse":  # they can give more than 65504
        assert np.isfinite(array(layer(x))).all()
    assert np.isfinite(array(layer.gate(x))).all()


# --- timm ----------------------------------------------------------------------------------------

# Attributes of golden/make_timm_gates.py's modules, and ours.
PARTS = {"conv": "conv", "fc": "dense", "mlp.fc1": "reduce", "mlp.fc2": "expand"}
VARIABLES = {"running_mean": "moving_mean", "running_var": "moving_variance", "bias": "bias"}
TIMM = {
    "eca_8": ("eca", {}),
    "eca_64": ("eca", {}),
    "eca_256": ("eca", {}),
    "ese": ("ese", {}),
    "ge": ("ge", {}),
    "ge_2": ("ge", {"extent": 2}),
    "ge_4": ("ge", {"extent": 4}),
    "ge_8": ("ge", {"extent": 8}),
    "ge_mlp": ("ge", {"use_mlp": True}),
    "ge_4_mlp": ("ge", {"extent": 4, "use_mlp": True}),
    "ge_2_params": ("ge", {"extent": 2, "extra_params": True}),
    "ge_4_params": ("ge", {"extent": 4, "extra_params": True}),
    "ge_8_params_mlp": ("ge", {"extent": 8, "extra_params": True, "use_mlp": True}),
}


def set_weights_of_timm(layer, weights):
    for name, value in weights.items():
        part, _, leaf = name.rpartition(".")
        part = PARTS.get(part, part.removeprefix("gather."))
        kernel = "gamma" if part.startswith("norm") else "kernel"
        bias = "beta" if part.startswith("norm") else "bias"
        variable = {"weight": kernel, "bias": bias}.get(leaf, VARIABLES.get(leaf))
        if value.ndim == 4:
            value = value.transpose(2, 3, 0, 1) if part.startswith("conv") else value[..., 0, 0].T
        value = value.transpose(2, 1, 0) if value.ndim == 3 else value
        getattr(getattr(layer, part), variable).assign(value)


@pytest.mark.parametrize("name", TIMM)
def test_each_equals_timms_module(name):
    golden = np.load(GOLDEN / "timm_gates.npz")
    start = f"{name}/weights/"
    weights = {key.removeprefix(start): golden[key] for key in golden if key.startswith(start)}
    kind, options = TIMM[name]
    layer = GATES[kind](**options)
    x = golden[f"{name}/x"]
    layer.build(x.shape)
    assert sum(map(np.size, weights.values())) == layer.count_params()
    set_weights_of_timm(layer, weights)
    np.testing.assert_allclose(array(layer(x)), golden[f"{name}/y"], rtol=1e-5, atol=1e-6)


# t = int(abs((log2 C + 1) / 2)); k = t if odd, else t + 1: worked out by hand.
@pytest.mark.parametrize(
    ("channels", "size"),
    [(1, 1), (7, 1), (8, 3), (64, 3), (127, 3), (128, 5), (256, 5), (2047, 5), (2048, 7)],
)
def test_the_kernel_of_eca_follows_the_papers_rule(channels, size):
    assert neighbors(channels) == size
    layer = GATES["eca"]()
    layer.build((None, 1, 1, channels))
    assert layer.count_params() == size


# --- what every gate has -------------------------------------------------------------------------

NEUTRAL = [case for case in CASES if case not in ("ge", "ge_max", "ge_8", "ese_max")]


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("case", NEUTRAL)
def test_a_warm_start_is_the_identity_to_the_last_bit(case, dtype):
    kind, options = CASES[case]
    options = {name: value for name, value in options.items() if name != "gate_scale"}
    start = GATES[kind](**options).warm_start_options()
    layer = GATES[kind](**options, **start, dtype=dtype)
    x = keras.ops.cast(uniform(SHAPE) * 100, layer.compute_dtype)
    layer.build(SHAPE)
    set_random_weights(layer)
    layer.trainable = False
    layer.start_at_zero()
    np.testing.assert_array_equal(array(layer(x)), array(x))
    np.testing.assert_array_equal(array(layer.gate(x)), 1)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("ge", "this GatherExcite can't start as the identity"),
        ("ge_8", "none of its weights"),
        ("ese_max", "got 0 for"),
    ],
)
def test_a_gate_that_can_not_be_1_says_so(case, words):
    with pytest.raises(se_keras.InputError, match=words):
        made(case).warm_start_options()


@pytest.mark.parametrize("case", CASES)
def test_a_saved_layer_is_the_same(case, tmp_path):
    kind, options = CASES[case]
    image = keras.Input(SHAPE[1:])
    more = {"kernel_initializer": keras.initializers.RandomNormal(seed=3)}
    more = {} if case in ("ge", "ge_max", "ge_8") else more
    layer = GATES[kind](**options, **more, name="gate", data_format="channels_last")
    model = keras.Model(image, layer(image))
    set_random_weights(model)
    assert set(layer.get_config()) == {
        *se_keras.layers.options_of(type(layer)),
        "name",
        "dtype",
    } | {"trainable"}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("gate").get_config() == layer.get_config()
    x = uniform(SHAPE)
    np.testing.assert_array_equal(array(loaded(x)), array(model(x)))


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize:UserWarning")
@pytest.mark.parametrize(
    "case",
    ["eca", "scse_max", *(pytest.param(c, marks=pytest.mark.slow) for c in ("ese", "ge_8_plus"))],
)
def test_dense_layers_inside_are_quantized_and_all_others_left(case, tmp_path):
    image = keras.Input(SHAPE[1:])
    model = keras.Model(image, made(case, name="gate")(image))
    x = uniform(SHAPE)
    before = array(model(x))
    model.quantize("int8")
    after = array(model(x))
    layer = model.get_layer("gate")
    parts = [getattr(layer, name) for name in layer.part_names()]
    dense = [part for part in parts if isinstance(part, keras.layers.Dense)]
    assert {part.quantization_mode for part in dense} <= {"int8"}
    assert {part.quantization_mode for part in parts if part not in dense} <= {None}
    np.testing.assert_allclose(after, before, atol=0.02)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(loaded(x)), after, rtol=1e-6, atol=1e-6)


def test_the_normalizations_of_gather_excite_learn_in_training_only():
    image = keras.Input(SHAPE[1:])
    layer = GATES["ge"](2, extra_params=True)
    model = keras.Model(image, layer(image))
    model.compile("sgd", "mse")
    x = uniform(SHAPE)
    model(x), layer.gate(x)
    assert not array(layer.norm1.moving_mean).any()
    model.train_on_batch(x, x)
    assert array(layer.norm1.moving_mean).any()
    learned = array(layer.norm1.moving_mean).copy()
    layer(x, training=True)
    assert (array(layer.norm1.moving_mean) != learned).any()


def test_unknown_sizes_are_taken_where_the_equation_allows():
    x = uniform((1, 7, 9, 8))
    for case in ("eca", "scse", "ge_8", "ge_4_params"):
        image = keras.Input((None, None, 8))
        model = keras.Model(image, made(case, (None, None, None, 8))(image))
        assert model.output_shape == (None, None, None, 8)
        layer = model.layers[-1]
        expected = reference(case, x[0].astype("float64"), weights_of(layer))
        np.testing.assert_allclose(model.predict(x, verbose=0)[0], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(se_keras.InputError, match=r"sizes of the map must be known, got \(None, 5"):
        made("ge_params", (None, None, 5, 8))


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("eca", {"kernel_size": 4}, "`kernel_size` must be odd, got 4"),
        ("eca", {"kernel_size": 0}, "`kernel_size` must be a positive integer, got 0"),
        ("scse", {"fusion": "mean"}, r"`fusion` must be one of \('sum', 'max'\), got 'mean'"),
        ("scse", {"ratio": 0}, "`ratio` must be a positive integer, got 0"),
        ("ge", {"extent": 3}, r"`extent` must be one of \(0, 2, 4, 8\), got 3"),
        ("ge", {"extra_params": 2}, "`extra_params` must be"),
        (
            "ge",
            {"ratio": 4},
            "`ratio` must stay at its default with `extra_params=False` and `use_mlp=F",
        ),
        ("ge", {"extra_params": True, "pool": "max"}, "`pool` must stay at its default with"),
        (
            "ge",
            {"extra_params": True, "use_bias": False},
            "`use_bias` must stay at its default with",
        ),
        ("ge", {"activation": "silu"}, "must stay at its default with"),
        (
            "ese",
            {"gate_scale": None},
            "`gate_scale` must be a finite number other than 0, got None",
        ),
    ],
)
def test_a_bad_argument_is_refused(kind, options, words):
    with pytest.raises(se_keras.InputError, match=words):
        GATES[kind](**options)


@pytest.mark.parametrize("kind", GATES)
def test_an_unknown_option_is_a_type_error_with_a_suggestion(kind):
    name = GATES[kind].__name__
    with pytest.raises(TypeError, match=f"{name} has no option 'gate_scal'. .*'gate_scale'"):
        GATES[kind](gate_scal=2)
    assert "kwargs" in inspect.signature(GATES[kind]).parameters
