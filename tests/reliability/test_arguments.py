"""Random values for each argument of each public function: the right thing, or one clear line.

The annotation of an argument says which values are right; an error names the argument.
"""

import functools
import inspect
import os
import typing
import warnings
from collections.abc import Callable

import keras
import numpy as np
import pytest
from forks import SEED
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from odd_values import VALUES, Angry, fits

import se_keras
import se_keras.train
from se_keras.support.arguments import plain
from se_keras.weights.preprocessing import SecondSize

L = keras.layers
MAP, VECTOR = np.ones((1, 4, 4, 4), "float32"), np.ones((1, 4), "float32")
GATES = (
    "SqueezeExcite",
    "EffectiveSqueezeExcite",
    "EfficientChannelAttention",
    "GatherExcite",
    "SpatialChannelSqueezeExcite",
)


@functools.cache
def small_model():
    x = keras.Input((8, 8, 3))
    y = L.Conv2D(4, 3, name="conv")(x)
    return keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(y)), name="plain")


@functools.cache
def with_se():
    return se_keras.insert_se(small_model(), where=["conv"], ratio=2)


@functools.cache
def statistics():
    images = np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    return se_keras.record_excitations(with_se(), images, verbose=0)


def same(x):
    return x


def annotations(function):
    """What a function states of its arguments; a text where that is not imported when it runs."""
    try:
        return typing.get_type_hints(function)
    except NameError:
        return inspect.get_annotations(function)


def door(function, *left_out, like=None, **right):
    """A function, its right arguments, and the annotations of those that are tried."""
    like = like or function
    hints = annotations(like.__init__ if inspect.isclass(like) else like)
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = {
        name: hints.get(name, typing.Any)
        for name, parameter in inspect.signature(like).parameters.items()
        if parameter.kind not in kinds and name not in left_out and name != "self"
    }
    if options := hints.get("kwargs"):
        names |= typing.get_type_hints(typing.get_args(options)[0])
    return function, right, {n: t for n, t in names.items() if n not in left_out}


def make_and_call(kind):
    def call(**options):
        options = {"ratio": 2, **options} if kind == "SqueezeExcite" else options
        return getattr(se_keras, kind)(**options)(MAP)

    return call


def of_gate(kind, method):
    layer = getattr(se_keras, kind)(data_format="channels_last")
    layer(MAP)
    return getattr(layer, method)


def builder(name, like=None, **right):
    """A named builder, or another function with its arguments."""
    build = getattr(se_keras, name)
    hints = {n: p.annotation for n, p in inspect.signature(build).parameters.items()}
    return like or build, right, hints


def small(**options):
    return se_keras.create("seresnet20", **options)


ops = se_keras.ops
SMALL = {"input_shape": (8, 8, 3), "classes": 2}
PHOTO = np.ones((8, 8, 3), "uint8")
ONE = {"model_or_source": se_keras.Pixels(raw=True, size=8)}
# Made when they are asked for: models are.
DOORS = {
    **{
        kind: lambda kind=kind: door(make_and_call(kind), like=getattr(se_keras, kind))
        for kind in GATES
    },
    **{f"{kind}.gate": lambda kind=kind: door(of_gate(kind, "gate"), inputs=MAP) for kind in GATES},
    "Pixels": lambda: door(se_keras.Pixels),
    "SecondSize": lambda: door(SecondSize, size=288, crop=0.9),
    "TrainConfig": lambda: door(se_keras.train.TrainConfig),
    "Cluster": lambda: door(se_keras.train.Cluster),
    "train": lambda: door(
        se_keras.train.train, "log", config=se_keras.train.TrainConfig(data="nowhere")
    ),
    "se_block": lambda: door(se_keras.se_block, x=keras.Input((4, 4, 4))),
    "count": lambda: door(se_keras.count, model=with_se()),
    "decode_predictions": lambda: door(se_keras.decode_predictions, predictions=np.eye(1000)[:1]),
    "export": lambda: door(
        se_keras.export, "calibration", model=with_se(), path="made.onnx", format="onnx"
    ),
    "find_sites": lambda: door(se_keras.find_sites, model=small_model(), where=["conv"]),
    "insert_se": lambda: door(se_keras.insert_se, model=small_model(), where=["conv"]),
    "InsertionPlan.apply": lambda: door(
        se_keras.find_sites(small_model(), ["conv"]).apply, model=small_model()
    ),
    "list_models": lambda: door(se_keras.list_models),
    "load_image": lambda: door(se_keras.load_image, image=PHOTO, **ONE),
    "load_weights": lambda: door(se_keras.load_weights, model=with_se(), source="x.safetensors"),
    "optimize": lambda: door(se_keras.optimize, model=with_se(), verbose=0),
    "pixels_of": lambda: door(se_keras.pixels_of),
    "plot_excitations": lambda: door(se_keras.plot_excitations, stats=statistics()),
    "preprocess_input": lambda: door(
        se_keras.preprocess_input, images=PHOTO, model_or_source="seresnet50.a1_in1k"
    ),
    "prune_se": lambda: door(se_keras.prune_se, model=with_se(), stats=statistics()),
    "record_excitations": lambda: door(
        se_keras.record_excitations,
        model=with_se(),
        data=np.ones((2, 8, 8, 3), "float32"),
        verbose=0,
    ),
    "remove_se": lambda: door(se_keras.remove_se, model=with_se()),
    "save_timm": lambda: door(se_keras.save_timm, model=with_se(), path="x.safetensors"),
    "squeeze": lambda: door(ops.squeeze, u=MAP),
    "excite": lambda: door(ops.excite, z=VECTOR, reduce=same, expand=same),
    "excite_once": lambda: door(ops.excite_once, z=VECTOR, weigh=same),
    "excite_neighbors": lambda: door(ops.excite_neighbors, z=VECTOR, convolve=same),
    "fuse": lambda: door(ops.fuse, u=MAP, s=MAP, q=MAP),
    "gather": lambda: door(ops.gather, u=MAP, extent=2),
    "interpolate": lambda: door(ops.interpolate, v=MAP, sizes=(4, 4)),
    "recalibrate": lambda: door(ops.recalibrate, u=MAP, gate=VECTOR),
    "expand_gate": lambda: door(ops.expand_gate, gate=VECTOR, rank=4),
    "without_masked": lambda: door(ops.without_masked, u=MAP, mask=None),
    "SEResNet20": lambda: builder("SEResNet20", **SMALL),
    "create": lambda: builder("SEResNet20", like=small, **SMALL),
    "create model": lambda: (lambda model: se_keras.create(model), {}, {"model": str}),
}
# Their networks are large: only what is refused is tried.
LARGE = sorted(
    name
    for name in se_keras.__all__
    if name.startswith(("SE", "CM", "Legacy", "ResNetRS", "ECAResNet")) and name != "SEResNet20"
)
CHEAP = ("Pixels", "SecondSize", "TrainConfig", "Cluster", "list_models", "expand_gate")


def takes_functions(annotation):
    parts = (annotation, *typing.get_args(annotation))
    return any(Callable in (part, typing.get_origin(part)) for part in parts)


def tried(function, right, argument, annotation, value):
    """Call it; the error, if any, is the user's and names the argument."""
    is_own = isinstance(value, Angry) or callable(value)
    if is_own and (annotation is typing.Any or takes_functions(annotation)):
        return  # what it raises is its own
    arguments = {**right, argument: value}
    with warnings.catch_warnings(action="ignore"):
        try:
            function(**arguments)
        except se_keras.InputError as error:
            message = str(error)
            # What is of the right kind may be wrong for another reason, such as a missing file.
            assert f"`{argument}" in message or fits(annotation, value), message
            assert "\n" not in message
            assert len(message) < 2000
            return
        except TypeError as error:  # as Python's for an unknown argument
            if isinstance(value, dict) and any(f"has no option {x!r}" in str(error) for x in value):
                return
            raise
    is_path = isinstance(value, os.PathLike) and argument in ("data", "split", "model", "weights")
    is_top = argument == "model_or_source" and isinstance(plain(value), int)
    assert fits(annotation, value) or is_path or is_top, "was taken"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def examples(count):
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=checks)


def try_all(name, count):
    """Try random values for random arguments of a function."""
    function, right, annotations = DOORS[name]()

    @seed(SEED)
    @examples(count * len(annotations))
    @given(st.sampled_from(sorted(annotations)), VALUES)
    def run(argument, value):
        tried(function, right, argument, annotations[argument], value)

    run()


@pytest.mark.reliability
@pytest.mark.parametrize("name", DOORS)
def test_an_argument_is_right_or_named(name):
    try_all(name, 60)


@pytest.mark.reliability
@pytest.mark.parametrize("name", LARGE)
def test_an_argument_of_a_large_network_is_named(name):
    function, _, annotations = builder(name)

    @seed(SEED)
    @examples(300)
    @given(st.sampled_from(sorted(annotations)), VALUES)
    def run(argument, value):
        if not fits(annotations[argument], value):
            tried(function, {}, argument, annotations[argument], value)

    run()


@pytest.mark.parametrize("name", CHEAP)
def test_an_argument_that_costs_little_is_right_or_named(name):
    """The slice of the default run."""
    try_all(name, 10)
