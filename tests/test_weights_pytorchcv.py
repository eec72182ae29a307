"""pytorchcv's weights: its names, its networks, its files.

The logits in golden/ are those of pytorchcv itself (golden/make_pytorchcv.py); the files are
written here under its names.
"""

from dataclasses import replace

import numpy as np
import pytest
from checks import GOLDEN, array, by_size, trainable
from drawn_weights import image
from pytorchcv_weights import ROWS, is_small, sizes
from timm_weights import digest, draw, with_counters

import se_keras
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError
from se_keras.weights.convert import plan_for_timm
from se_keras.weights.key_maps import KEY_MAPS

torch = pytest.importorskip("torch")
# Name of pytorchcv -> trainable parameters (`net_weights` of its model_metainfos.csv).
PARAMETERS = {
    "seresnet20_cifar10": 274_847,
    "seresnet20_cifar100": 280_697,
    "seresnet110_cifar10": 1_744_952,
    "seresnet50": 28_088_024,
    "seresnet50b": 28_088_024,
    "seresnet101": 49_326_872,
    "seresnet101b": 49_326_872,
    "seresnet152": 66_821_848,
    "seresnext50_32x4d": 27_559_896,
    "seresnext101_32x4d": 48_955_416,
    "seresnext101_64x4d": 88_232_984,
    "senet154": 115_088_984,
}


def options_of(name):
    classes = 100 if name.endswith("cifar100") else find_recipe(ROWS[name]).classes
    options = {"classes": classes, "input_shape": (None, None, 3), "classifier_activation": None}
    return options | ({"shortcut": "projection"} if is_small(name) else {})


def key_map_of(name):
    kind = "SE-ResNet for small images" if is_small(name) else "SE-ResNet"
    kind = "SENet-154" if name == "senet154" else kind
    return next(row for row in KEY_MAPS if row.name == f"pytorchcv {kind}")


def tensors_of(model, name):
    """Names and shapes of pytorchcv's file for a model."""
    key_map = key_map_of(name)
    names = key_map.names(model)
    shapes = {variable.path: tuple(variable.shape) for variable in model.weights}
    return with_counters(
        {
            names[path]: key_map.layout(path, len(shape)).source_shape(shape)
            for path, shape in shapes.items()
        }
    )


def write_drawn(path, shapes):
    torch.save({name: torch.from_numpy(draw(name, s)) for name, s in shapes.items()}, path)
    return path


# --- the networks --------------------------------------------------------------------------------


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    "name", ["seresnet20_cifar10", "seresnet20_cifar100", "seresnet110_cifar10"]
)
def test_parameters_with_projections_are_pytorchcvs(name):
    model = se_keras.create(ROWS[name], **options_of(name))
    assert trainable(model) == PARAMETERS[name]


@pytest.mark.parametrize("name", [n for n in ROWS if not is_small(n)])
def test_parameters_are_pytorchcvs(name):
    assert find_recipe(ROWS[name]).parameters == PARAMETERS[name]


LARGE = {"seresnet56_cifar10", "seresnet110_cifar10", "seresnext50_32x4d", "seresnet50b"}
DRAWN = [
    pytest.param(
        name, marks=[*sized.marks, pytest.mark.slow] if name in LARGE else list(sized.marks)
    )
    for name, sized in zip(ROWS, by_size(ROWS.values()), strict=True)
    if not name.endswith(("_svhn", "56_cifar100", "110_cifar100"))
]


@pytest.mark.parametrize("name", DRAWN)
def test_logits_are_pytorchcvs(name, tmp_path):
    model = se_keras.create(ROWS[name], **options_of(name))
    golden = np.load(GOLDEN / f"pytorchcv_{name}.npz")
    shapes = tensors_of(model, name)
    assert digest(shapes) == golden["names"]
    plan = se_keras.load_weights(model, write_drawn(tmp_path / "drawn.pth", shapes))
    assert plan.scheme == key_map_of(name).name
    for size in sizes(name):
        expected = golden[f"logits_{size}"]
        found = array(model(image(size)))[0]
        assert np.abs(found - expected).max() < 1e-4 * expected.std(), size


def test_the_shortcut_is_one_of_two():
    with pytest.raises(InputError, match=r"`shortcut` must be one of \('zeros', 'projection'\)"):
        se_keras.create("seresnet20", shortcut="pool")
    with pytest.raises(TypeError, match="shortcut"):
        se_keras.create("seresnet50", shortcut="projection")
    with pytest.raises(TypeError, match="shortcut"):
        se_keras.SEResNet164(shortcut="projection")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of SE-ResNet-20, and a model that it fits."""
    name = "seresnet20_cifar10"
    model = se_keras.create("seresnet20", shortcut="projection", input_shape=(8, 8, 3))
    path = tmp_path_factory.mktemp("small") / "seresnet20.pth"
    return write_drawn(path, tensors_of(model, name)), model


def test_option_a_is_refused_and_option_b_named(small):
    path, _ = small
    with pytest.raises(InputError) as caught:
        se_keras.create("seresnet20", weights=path, input_shape=(8, 8, 3))
    message = str(caught.value)
    assert "The file fits create('seresnet20', shortcut='projection')." in message
    assert "shortcut  a convolution  zeros for the new channels" in message


def test_files_of_keras_tell_the_options_apart_too(small, tmp_path):
    path = tmp_path / "model.weights.h5"
    small[1].save_weights(path)
    with pytest.raises(InputError, match=r"fits create\('seresnet20', shortcut='projection'\)\."):
        se_keras.create("seresnet20", weights=path)
    se_keras.create("seresnet20").save_weights(path)
    with pytest.raises(InputError, match=r"fits create\('seresnet20'\)\."):
        se_keras.load_weights(small[1], path)


def test_timm_is_not_given_the_names_of_pytorchcv(small):
    with pytest.raises(InputError, match="timm has no network like seresnet20"):
        plan_for_timm(small[1])
    row = replace(find_recipe("cm_seresnet50"), depths=(1, 1), widths=(8, 16), stem_widths=(8,))
    with pytest.raises(InputError, match="timm has no network like cm_seresnet50"):
        plan_for_timm(se_keras.create(row, input_shape=(32, 32, 3)))
