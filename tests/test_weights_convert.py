"""Test conversion from files to models and back: names, shapes, refusals, all or nothing."""

import functools
import importlib.util
import pathlib
from dataclasses import replace
from types import SimpleNamespace

import keras
import ml_dtypes
import numpy as np
import pytest
from checks import GOLDEN, array, run_python, set_random_weights, shapes_of_row, uniform
from drawn_weights import image
from golden.make_timm import load_timm
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from timm_weights import DEEPEST, digest, draw, with_counters, write_drawn

import se_keras
from se_keras import catalog, cli
from se_keras.models.recipes import RECIPES, ResNetRecipe, find_recipe
from se_keras.support.errors import InputError
from se_keras.weights import convert, hub
from se_keras.weights.convert import plan_conversion, plan_for_timm, traits_of_model
from se_keras.weights.identify import (
    builders_that_fit,
    differences,
    signature_of_recipe,
    signature_of_shapes,
    traits_of_architecture,
    traits_of_recipe,
)
from se_keras.weights.key_maps import (
    CONVOLUTION,
    KERAS_POINTWISE_MATRIX,
    KEY_MAPS,
    MATRIX,
    POINTWISE_MATRIX,
    TorchNames,
)
from se_keras.weights.readers import Checkpoint, Tensor

TIMM = {
    line.split()[0]: line.split()[1:]
    for line in (GOLDEN / "timm_names.txt").read_text().splitlines()
}
RESNETS = [row for row in RECIPES if isinstance(row, ResNetRecipe)]
# The same networks with less in them.
NARROW = {"depths": (1, 2, 1, 1), "widths": (8, 16, 16, 32), "stem_widths": (8,)}
DEEP = {**NARROW, "stem_widths": (4, 4, 8)}
GROUPS = {"groups": 2, "width_per_group": 32}
TINY = replace(find_recipe("seresnet50"), name="tiny", **NARROW)
VARIANTS = {
    "seresnet18": NARROW,
    "seresnet50": NARROW,
    "seresnext50_32x4d": NARROW | GROUPS,
    "senet154": DEEP | GROUPS,
    "seresnext26d_32x4d": DEEP | GROUPS,
    "seresnextaa101d_32x8d": DEEP | GROUPS,
    "resnetrs50": DEEP,
    "ecaresnet50t": DEEP,
    "ecaresnetlight": NARROW,
    "legacy_seresnet18": NARROW,
    "legacy_seresnet50": NARROW,
    "legacy_seresnext50_32x4d": NARROW | GROUPS,
    "legacy_senet154": DEEP | GROUPS,
}


def tiny(row=TINY, seed=None, **options):
    options = {"input_shape": (32, 32, 3), "classes": 5} | options
    model = se_keras.create(row, **options)
    if seed is not None:
        set_random_weights(model, seed)
    return model


def model_of_manifest(name):
    weights = [SimpleNamespace(path=p, shape=s) for p, s in shapes_of_row(name).items()]
    return SimpleNamespace(weights=weights, name=name)


def key_map_of(name):
    """Return the naming scheme of timm for this row."""
    traits, model = traits_of_recipe(find_recipe(name)), model_of_manifest(name)
    return next(
        row
        for row in KEY_MAPS
        if isinstance(row, TorchNames)
        and not differences(row.traits, traits)
        and None not in row.names(model).values()
    )


@functools.cache
def tensors_of(name):
    """Return names and shapes of timm's file for a row, without the counters."""
    key_map, shapes = key_map_of(name), shapes_of_row(name)
    names = key_map.names(model_of_manifest(name))
    return {
        names[path]: key_map.layout(path, len(shape)).source_shape(shape)
        for path, shape in shapes.items()
    }


def file_of(name, dtype="float32"):
    """Return timm's file for a row, without values."""
    shapes = with_counters(tensors_of(name))

    def read():
        raise AssertionError("a plan reads no values")

    tensors = {key: Tensor(shape=shape, dtype=dtype, read=read) for key, shape in shapes.items()}
    return Checkpoint(source=f"{name}.safetensors", tensors=tensors)


def assert_same_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TIMM)
def test_names_and_shapes_are_timms(name):
    """Compare with timm's state_dict (golden/make_timm_names.py), for all of its SE networks."""
    count, expected = TIMM[name]
    shapes = with_counters(tensors_of(name))
    assert len(shapes) == int(count)
    assert digest(shapes) == expected


@pytest.mark.parametrize("name", TIMM)
def test_each_name_leads_back(name):
    key_map = key_map_of(name)
    for path, theirs in key_map.names(model_of_manifest(name)).items():
        assert key_map.ours(theirs) == path


@pytest.mark.parametrize(
    ("layout", "source", "theirs", "target", "ours"),
    [
        (CONVOLUTION, (5, 4, 3, 2), (4, 3, 2, 1), (3, 2, 4, 5), (2, 1, 3, 4)),
        (MATRIX, (5, 4), (4, 3), (4, 5), (3, 4)),
        (POINTWISE_MATRIX, (5, 4, 1, 1), (4, 3, 0, 0), (4, 5), (3, 4)),
        (KERAS_POINTWISE_MATRIX, (1, 1, 4, 5), (0, 0, 3, 4), (4, 5), (3, 4)),
    ],
)
def test_a_layout_turns_a_tensor_and_turns_it_back(layout, source, theirs, target, ours):
    x = uniform(source)
    y = layout.to_keras(x)
    assert y.shape == layout.target_shape(source) == target
    assert layout.source_shape(target) == source
    assert y[ours] == x[theirs]
    np.testing.assert_array_equal(layout.from_keras(y), x)


# --- which network -------------------------------------------------------------------------------


@pytest.mark.parametrize("row", RESNETS, ids=lambda row: row.name)
def test_the_signature_of_a_row_is_that_of_its_weights(row):
    assert signature_of_recipe(row) == signature_of_shapes(shapes_of_row(row.name))


# Rows of timm whose files have the same names and shapes.
TWINS = ("seresnext101d_32x8d", "seresnextaa101d_32x8d")


@pytest.mark.parametrize("name", TIMM)
def test_a_file_of_timm_fits_one_row_or_the_two_that_it_can_not_tell_apart(name):
    alike = [other for other in TIMM if tensors_of(other) == tensors_of(name)]
    assert tuple(alike) == (TWINS if name in TWINS else (name,))
    found = builders_that_fit(shapes_of_row(name), key_map_of(name).traits)
    assert found == [f"create({other!r})" for other in alike]
    said = key_map_of(name).traits | traits_of_architecture(name)
    assert builders_that_fit(shapes_of_row(name), said) == [f"create({name!r})"]


def test_rows_that_a_file_of_keras_can_not_tell_apart_are_named():
    """They have equal names and shapes; the layers in a `.keras` file tell them apart."""
    alike = {}
    for row in RECIPES:
        alike.setdefault(frozenset(shapes_of_row(row.name).items()), []).append(row)
    assert max(map(len, alike.values())) == 3
    for rows in alike.values():
        shapes = shapes_of_row(rows[0].name)
        calls = [f"create({row.name!r})" for row in rows if isinstance(row, ResNetRecipe)]
        assert len(calls) in (len(rows), 0)
        assert builders_that_fit(shapes, {}) == calls
        for row, call in zip(rows, calls, strict=False):
            assert builders_that_fit(shapes, traits_of_recipe(row)) == [call]


@pytest.mark.parametrize("name", [*VARIANTS, "cm_seresnet18", "cm_seresnet50"])
def test_the_traits_of_a_row_are_those_of_its_network(name):
    row = replace(find_recipe(name), **VARIANTS.get(name, NARROW))
    model = se_keras.create(row, input_shape=(32, 32, 3), classes=5)
    assert traits_of_model(model) == traits_of_recipe(row)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    ("file", "model"),
    [("seresnet50", "legacy_seresnet50"), ("legacy_seresnet50", "seresnet50")],
)
def test_v1_and_v1_5_have_the_same_shapes_and_refuse_each_others_files(file, model):
    assert signature_of_shapes(shapes_of_row(file)) == signature_of_shapes(shapes_of_row(model))
    network = se_keras.create(model, input_shape=(32, 32, 3))
    assert plan_conversion(network, file_of(model)).assignments
    with pytest.raises(InputError, match=rf"The file fits create\('{file}'\)") as caught:
        plan_conversion(network, file_of(file))
    assert "stride of units" in str(caught.value)
    assert "problem" not in str(caught.value)  # every name and shape has its place


@pytest.mark.parametrize(
    "file", ["seresnet18", "seresnext50_32x4d", "seresnext26d_32x4d", "seresnet101"]
)
def test_the_file_of_another_row_is_refused_and_its_builder_named(file):
    network = tiny(find_recipe("seresnet20"))
    with pytest.raises(InputError, match=rf"The file fits create\('{file}'\)\."):
        plan_conversion(network, file_of(file))


def aa_row(**changes):
    return replace(find_recipe("seresnextaa101d_32x8d"), **DEEP | GROUPS, **changes)


def d_row():
    return replace(find_recipe("seresnext101d_32x8d"), **DEEP | GROUPS)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", TWINS)
def test_the_plan_of_a_bare_file_says_what_it_can_not_tell(name):
    network = se_keras.create(name, input_shape=(32, 32, 3))
    plan = plan_conversion(network, file_of(TWINS[0]))
    calls = " and ".join(f"create({twin!r})" for twin in TWINS)
    note = f"{calls} have these names and shapes: the file does not show which one it is."
    assert plan.notes == (note,)
    assert note in str(plan)
    known = replace(file_of(TWINS[0]), architecture=name)
    assert plan_conversion(network, known).notes == ()
    other = replace(file_of(TWINS[0]), architecture="resnext101d_of_mine")
    (note,) = plan_conversion(network, other).notes
    assert "config.json names 'resnext101d_of_mine', which is not in the catalog." in note


@pytest.mark.parametrize("name", TWINS)
def test_the_config_of_the_hub_tells_which_network_a_file_is_of(name, tmp_path, monkeypatch):
    rows = dict(zip(TWINS, (d_row(), aa_row()), strict=True))
    model = tiny(rows[name], seed=1)
    se_keras.save_timm(model, tmp_path / "a.safetensors")
    fetched = hub.Fetched(path=tmp_path / "a.safetensors", config={"architecture": name})
    monkeypatch.setattr(hub, "fetch", lambda source: fetched)
    source = "hf://me/flowers"
    loaded = se_keras.create(rows[name], weights=source, input_shape=(32, 32, 3))
    assert_same_weights(model, loaded)
    (other,) = set(TWINS) - {name}
    with pytest.raises(InputError, match=rf"does not fit {other}.*source, it is for '{name}'"):
        se_keras.create(rows[other], weights=source, input_shape=(32, 32, 3))
    victim = tiny(rows[other])
    before = victim.get_weights()
    with pytest.raises(InputError, match=rf"does not fit {other}.*source, it is for '{name}'"):
        se_keras.load_weights(victim, source)
    for a, b in zip(before, victim.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_published_weights_without_a_config_are_of_the_row_of_the_registry(tmp_path, monkeypatch):
    se_keras.save_timm(tiny(d_row(), classes=1000), tmp_path / "a.safetensors")
    fetched = hub.Fetched(path=tmp_path / "a.safetensors")
    monkeypatch.setattr(hub, "fetch", lambda source: fetched)
    source = "hf://timm/seresnextaa101d_32x8d.ah_in1k"
    se_keras.create(aa_row(), weights=source, input_shape=(32, 32, 3))
    with pytest.raises(InputError, match="does not fit seresnext101d_32x8d"):
        se_keras.create(d_row(), weights=source, input_shape=(32, 32, 3))


def test_the_plain_twin_is_told_by_its_architecture(tmp_path, monkeypatch):
    plain = tiny(aa_row(), se=False)
    se_keras.save_timm(plain, tmp_path / "a.safetensors")
    config = {"architecture": "resnextaa101d_32x8d"}
    fetched = hub.Fetched(path=tmp_path / "a.safetensors", config=config)
    monkeypatch.setattr(hub, "fetch", lambda source: fetched)
    options = {"weights": "hf://me/flowers", "se": False, "input_shape": (32, 32, 3)}
    se_keras.create(aa_row(), **options)
    with pytest.raises(InputError, match="does not fit seresnext101d_32x8d"):
        se_keras.create(d_row(), **options)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_keras_file_tells_the_average_pools_by_its_layers(suffix, tmp_path):
    model = tiny(aa_row(), seed=1)
    if suffix == ".keras":
        model.save(tmp_path / "a.keras")
        with pytest.raises(InputError, match=r"an average pool after the 3x3 +on the 3x3"):
            se_keras.load_weights(tiny(d_row()), tmp_path / "a.keras")
    else:
        model.save_weights(tmp_path / "a.weights.h5")
    fresh = tiny(aa_row())
    se_keras.load_weights(fresh, tmp_path / f"a{suffix}")
    assert_same_weights(model, fresh)


def test_a_file_without_se_fits_the_plain_twin(tmp_path):
    plain = se_keras.create("seresnet18", se=False, input_shape=(32, 32, 3))
    se_keras.save_timm(plain, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"The file fits create\('seresnet18', se=False\)"):
        se_keras.load_weights(tiny(find_recipe("seresnet18")), tmp_path / "a.safetensors")


def test_what_no_row_fits_is_named_as_its_config_does(tmp_path):
    file = replace(file_of("seresnet18"), architecture="seresnet18_of_mine")
    changed = {k: v for k, v in file.tensors.items() if not k.startswith("layer4.1.")}
    with pytest.raises(
        InputError, match=r"According to its source, it is for 'seresnet18_of_mine'"
    ):
        plan_conversion(tiny(), replace(file, tensors=changed))


# --- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_to_timm_and_back_is_bit_equal(name, tmp_path):
    row = replace(find_recipe(name), **VARIANTS[name])
    model, fresh = tiny(row, seed=1), tiny(row)
    written = se_keras.save_timm(model, tmp_path / "a.safetensors")
    read = se_keras.load_weights(fresh, tmp_path / "a.safetensors")
    assert_same_weights(model, fresh)
    assert read.assignments == written.assignments
    assert {ignored.reason for ignored in read.ignored} == {"PyTorch's count of training steps"}
    found = {key: value.shape for key, value in load_file(tmp_path / "a.safetensors").items()}
    assert found == with_counters({row.source: row.source_shape for row in written.assignments})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_types_go_there_and_back(dtype, tmp_path):
    model, fresh = tiny(seed=1, dtype=dtype), tiny(dtype=dtype)
    se_keras.save_timm(model, tmp_path / "a.safetensors")
    se_keras.load_weights(fresh, tmp_path / "a.safetensors")
    assert_same_weights(model, fresh)
    wide = tiny()
    se_keras.load_weights(wide, tmp_path / "a.safetensors")
    assert {weight.dtype for weight in wide.weights} == {"float32"}
    for a, b in zip(model.get_weights(), wide.get_weights(), strict=True):
        np.testing.assert_array_equal(a.astype("float32"), b)


def test_what_timm_does_not_have_is_refused(tmp_path):
    for name in ("seresnet20", "semobilenet"):
        model = se_keras.create(name, input_shape=(32, 32, 3))
        with pytest.raises(InputError, match=f"timm has no network like {name}"):
            se_keras.save_timm(model, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"must end with .safetensors, got 'a.pth'"):
        se_keras.save_timm(tiny(), "a.pth")
    assert list(tmp_path.iterdir()) == []


has_timm = all(importlib.util.find_spec(name) for name in ("timm", "torchvision"))


@pytest.mark.skipif(not has_timm, reason="needs timm")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("seresnet18", 224),
        ("seresnext26d_32x4d", 224),
        ("legacy_seresnet18", 224),
        ("seresnetaa50d", 64),
        *(
            pytest.param(name, 64, marks=pytest.mark.slow)
            for name in (
                "seresnet50t",
                "resnetrs50",
                "seresnextaa101d_32x8d",
                "ecaresnet26t",
                "ecaresnetlight",
                "ecaresnet50d",
            )
        ),
    ],
)
def test_timm_takes_the_file(name, size, tmp_path):
    """It loads strictly and gives Keras' logits; its own file comes back bit for bit."""
    torch, timm = load_timm()
    options = {"input_shape": (size, size, 3), "classes": 7, "classifier_activation": None}
    model = se_keras.create(name, **options)
    set_random_weights(model)
    se_keras.save_timm(model, tmp_path / "a.safetensors")
    state = {k: torch.from_numpy(v) for k, v in load_file(tmp_path / "a.safetensors").items()}
    theirs = timm.create_model(name, num_classes=7).eval()
    theirs.load_state_dict(state, strict=True)
    x = image(size)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    found = array(model(x))
    assert np.abs(found - expected).max() < 1e-4 * expected.std()
    back = {k: v.numpy() for k, v in theirs.state_dict().items()}
    save_file(back, tmp_path / "b.safetensors")
    again = se_keras.create(name, weights=tmp_path / "b.safetensors", **options)
    assert_same_weights(model, again)


@pytest.mark.slow
@pytest.mark.skipif(not has_timm, reason="needs timm")
@pytest.mark.parametrize("name", ["seresnetaa50d", "resnetrs50"])
@pytest.mark.parametrize("stride", [8, 16])
def test_dilated_stages_are_timms(name, stride, tmp_path):
    torch, timm = load_timm()
    options = {"features_only": True, "output_stride": stride}
    model = se_keras.create(name, input_shape=(64, 64, 3), **options)
    set_random_weights(model)
    theirs = timm.create_model(name, out_indices=(1, 2, 3, 4), **options).eval()
    se_keras.save_timm(model, tmp_path / "a.safetensors")
    state = {k: torch.from_numpy(v) for k, v in load_file(tmp_path / "a.safetensors").items()}
    theirs.load_state_dict(state, strict=True)
    x = image(64)
    with torch.inference_mode():
        maps = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    for ours, other in zip(model(x), maps, strict=True):
        expected = other.numpy().transpose(0, 2, 3, 1)
        assert np.abs(array(ours) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.skipif(not has_timm, reason="needs timm")
@pytest.mark.parametrize("name", DEEPEST)
def test_the_deepest_networks_are_timms(name, tmp_path):
    """The weights of their units are small, because otherwise rounding grows from unit to unit."""
    torch, timm = load_timm()
    theirs = timm.create_model(name).eval()
    state = {key: draw(key, value.shape) for key, value in theirs.state_dict().items()}
    for key in state:
        if key.endswith("bn3.weight"):
            state[key] *= 0.2
    save_file(state, tmp_path / "a.safetensors")
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    x = image(64)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    options = {"input_shape": (64, 64, 3), "classifier_activation": None}
    ours = se_keras.create(name, weights=tmp_path / "a.safetensors", **options)
    assert np.abs(array(ours(x)) - expected).max() < 1e-4 * expected.std()


def test_a_plan_prints_as_a_table(tmp_path):
    plan = plan_for_timm(tiny(find_recipe("seresnet18")))
    lines = [" ".join(line.split()) for line in str(plan).splitlines()]
    assert lines[0] == "134 tensors, named as in timm ResNet"
    assert lines[1] == "tensor shape variable shape transform"
    assert lines[2] == "conv1.weight 64x3x7x7 stem_conv/kernel 7x7x3x64 OIHW -> HWIO"
    assert "layer1.0.se.fc1.weight 8x64x1x1 stage2_block1_se/reduce/kernel 64x8 OI11 -> IO" in lines


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good():
    """A model and the tensors of a file that fits it."""
    model = tiny()
    shapes = {row.source: row.source_shape for row in plan_for_timm(model).assignments}
    tensors = {name: draw(name, shape) for name, shape in with_counters(shapes).items()}
    return model, tensors, sorted(shapes)


def rename(tensors, name, choice):
    new = (f"module.{name}", name.replace(".weight", ".wieght"), f"{name}_", "x")[choice]
    new = f"{name}0" if new == name else new
    tensors[new] = tensors.pop(name)
    return [("missing", name), ("unexpected", new)]


def drop(tensors, name, choice):
    del tensors[name]
    return [("missing", name)]


def duplicate(tensors, name, choice):
    new = (f"module.{name}", f"ema.{name}", f"{name}.1", f"layer9.0.{name}")[choice]
    tensors[new] = tensors[name].copy()
    return [("unexpected", new)]


def reshape(tensors, name, choice):
    value = tensors[name]
    tensors[name] = (
        value[:-1],
        value[..., None],
        np.concatenate([value, value]),
        value.reshape(-1)[:1],
    )[choice]
    return [("other shape", name)]


def retype(tensors, name, choice):
    tensors[name] = tensors[name].astype(("float16", "float64", "int32", "int64")[choice])
    return [("other type", name)]


@settings(
    max_examples=60,
    phases=[Phase.generate, Phase.shrink],  # an explanation of a failure takes minutes more
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    damages=st.lists(
        st.tuples(
            st.sampled_from([rename, drop, duplicate, reshape, retype]),
            st.integers(0, 10_000),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda damage: damage[1],
    )
)
def test_a_damaged_file_is_refused_its_damage_named_and_nothing_changed(good, damages, tmp_path):
    model, tensors, names = good
    # A file may have a classifier of a type of its own.
    assume([names[d[1] % len(names)][:3] for d in damages if d[0] is retype].count("fc.") < 2)
    tensors, named = dict(tensors), []
    for name, (damage, _, choice) in {names[d[1] % len(names)]: d for d in damages}.items():
        named += damage(tensors, name, choice)
    save_file(tensors, tmp_path / "damaged.safetensors")
    before = model.get_weights()
    with pytest.raises(InputError) as caught:
        se_keras.load_weights(model, tmp_path / "damaged.safetensors")
    lines = [" ".join(line.split()) for line in str(caught.value).splitlines()]
    for what, tensor in named:
        assert any(
            line.startswith(f"{what} {tensor} ") or line == f"{what} {tensor}" for line in lines
        ), (what, tensor)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_undamaged_file_is_taken(good, tmp_path):
    _, tensors, _ = good
    fresh = tiny()
    save_file(tensors, tmp_path / "good.safetensors")
    se_keras.load_weights(fresh, tmp_path / "good.safetensors")
    kernel = fresh.get_layer("stage3_block2_conv2").kernel
    np.testing.assert_array_equal(
        array(kernel), tensors["layer2.1.conv2.weight"].transpose(2, 3, 1, 0)
    )


def test_a_stray_counter_is_unexpected(good, tmp_path):
    model, tensors, _ = good
    save_file({**tensors, "bn9.num_batches_tracked": np.array(0)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"unexpected  bn9.num_batches_tracked"):
        se_keras.load_weights(model, tmp_path / "a.safetensors")


def broken():
    raise OSError("the disk is broken")


def broken_the_second_time(values):
    reads = iter([values.copy])
    return lambda: next(reads, broken)()


def others_the_second_time(values):
    reads = iter([values, np.zeros((2, *values.shape), values.dtype)])
    return lambda: next(reads)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda values: broken, "the disk is broken"),
        (broken_the_second_time, "the disk is broken"),
        (others_the_second_time, r"must be float32 \(5,\), got"),
        (lambda values: values.astype("float64").copy, "got float64"),
        (lambda values: values[None].copy, r"got float32 \(1, 5\)"),
    ],
)
def test_what_can_not_be_read_leaves_the_model_as_it_was(read, message, good):
    model, tensors, _ = good
    before = model.get_weights()
    rows = {k: Tensor(shape=v.shape, dtype=str(v.dtype), read=v.copy) for k, v in tensors.items()}
    last = tensors["fc.bias"]
    rows["fc.bias"] = replace(rows["fc.bias"], read=read(last))
    checkpoint = Checkpoint(source="a.safetensors", tensors=rows)
    refusal = pytest.raises(InputError, match=rf"can't read a\.safetensors: .*{message}")
    with refusal, convert.put_back_on_failure(model.weights):
        plan_conversion(model, checkpoint).apply(model, checkpoint)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("limit", [convert.KEPT_IN_MEMORY, 1])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_variable_that_can_not_be_set_puts_all_others_back(error, limit, good, monkeypatch):
    model, tensors, _ = good
    variables = {variable.path: variable for variable in model.weights}
    first, last = variables["stem_conv/kernel"], variables[f"{convert.CLASSIFIER}/bias"]
    first.assign(np.full(first.shape, np.uint32(0x7FC00BAD).view("float32")))  # a NaN of its own
    before = [array.tobytes() for array in model.get_weights()]
    set_right = last.assign
    answers = iter([error, set_right])  # once

    def assign(values):
        answer = next(answers)
        if answer is error:
            raise error
        answer(values)

    monkeypatch.setattr(last, "assign", assign)
    monkeypatch.setattr(convert, "KEPT_IN_MEMORY", limit)
    rows = {k: Tensor(shape=v.shape, dtype=str(v.dtype), read=v.copy) for k, v in tensors.items()}
    checkpoint = Checkpoint(source="a.safetensors", tensors=rows)
    with pytest.raises(error), convert.put_back_on_failure(model.weights):
        plan_conversion(model, checkpoint).apply(model, checkpoint)
    assert [array.tobytes() for array in model.get_weights()] == before
    assert next(answers, None) is None


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("fc.bias", np.nan),
        ("fc.weight", np.inf),
        ("bn1.weight", -np.inf),
        ("bn1.running_var", -1e-3),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_numbers_of_no_trained_network_are_refused_and_counted(name, number, dtype, good):
    model, tensors, _ = good
    before = model.get_weights()
    arrays = {k: v.astype(dtype) if v.dtype == "float32" else v for k, v in tensors.items()}
    arrays[name].flat[1:3] = number
    rows = {k: Tensor(shape=v.shape, dtype=str(v.dtype), read=v.copy) for k, v in arrays.items()}
    checkpoint = Checkpoint(source="a.safetensors", tensors=rows)
    with pytest.raises(
        InputError,
        match=rf"a\.safetensors: no trained network .* this file has 2: in {name}\. Noth",
    ):
        plan_conversion(model, checkpoint).apply(model, checkpoint)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_of_no_scheme_are_refused(tmp_path):
    save_file({"blocks.0.weight": np.zeros(3, "float32")}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"blocks.0.weight.* match none of the known schemes"):
        se_keras.load_weights(tiny(), tmp_path / "a.safetensors")


# --- classifiers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def five_classes(good, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "flowers.safetensors"
    save_file(good[1], path)
    return path


SMALL = {"input_shape": (32, 32, 3)}


def test_the_number_of_classes_is_the_files(five_classes):
    assert se_keras.create(TINY, weights=five_classes, **SMALL).output_shape == (None, 5)
    assert se_keras.create(TINY, weights=five_classes, classes=5, **SMALL).output_shape == (None, 5)
    with pytest.raises(InputError, match=r"`classes` must be 5, .*, got 7"):
        se_keras.create(TINY, weights=five_classes, classes=7, **SMALL)
    with pytest.raises(InputError, match=r"The file has 5 classes: build with `classes=5`"):
        se_keras.load_weights(tiny(classes=7), five_classes)


def test_very_many_classes_are_taken_only_where_they_are_asked_for(five_classes, monkeypatch):
    """No memory is allocated for the number in a harmful file."""
    monkeypatch.setattr(catalog, "MAX_CLASSES", 4)
    with pytest.raises(InputError, match=r"classifier of 5 classes, more than 4: .* `classes=5`"):
        se_keras.create(TINY, weights=five_classes, **SMALL)
    model = se_keras.create(TINY, weights=five_classes, classes=5, **SMALL)
    assert model.output_shape == (None, 5)


def test_a_fresh_classifier_leaves_out_the_files(five_classes, good):
    model = tiny(classes=7)
    kept = array(model.get_layer("predictions").kernel)
    plan = se_keras.load_weights(model, five_classes, fresh_classifier=True)
    np.testing.assert_array_equal(array(model.get_layer("predictions").kernel), kept)
    np.testing.assert_array_equal(
        array(model.get_layer("stem_conv").kernel), good[1]["conv1.weight"].transpose(2, 3, 1, 0)
    )
    left = {row.source: row.reason for row in plan.ignored if row.source.startswith("fc.")}
    assert left == dict.fromkeys(("fc.bias", "fc.weight"), "the model keeps its own classifier")
    made = se_keras.create(TINY, weights=five_classes, classes=7, fresh_classifier=True, **SMALL)
    assert made.output_shape == (None, 7)
    wide = se_keras.create(TINY, weights=five_classes, fresh_classifier=True, **SMALL)
    assert wide.output_shape == (None, 1000)


@pytest.mark.parametrize(
    "options", [{"include_top": False, "pooling": "avg"}, {"features_only": True}]
)
def test_without_a_classifier_the_files_is_left_out(options, five_classes):
    model = se_keras.create(TINY, **options)
    plan = se_keras.load_weights(model, five_classes)
    left = {row.source: row.reason for row in plan.ignored if row.source.startswith("fc.")}
    assert left == dict.fromkeys(("fc.bias", "fc.weight"), "the model has no classifier")
    assert_same_weights(model, se_keras.create(TINY, weights=five_classes, **options))
    with pytest.raises(
        InputError, match="`fresh_classifier` must be False for tiny, which has no classifier"
    ):
        se_keras.load_weights(model, five_classes, fresh_classifier=True)


def test_a_part_of_a_classifier_is_not_left_out_in_silence(five_classes):
    features = tiny(include_top=False, pooling="avg")
    head = keras.layers.Dense(5, use_bias=False, name="predictions")
    model = keras.Model(features.input, head(features.output))
    with pytest.raises(InputError, match=r"unexpected  fc.bias"):
        se_keras.load_weights(model, five_classes)


def test_a_file_without_a_classifier_needs_a_fresh_one(five_classes, tmp_path):
    headless = {k: v for k, v in load_file(five_classes).items() if not k.startswith("fc.")}
    save_file(headless, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"missing  fc.weight"):
        se_keras.create(TINY, weights=tmp_path / "a.safetensors", **SMALL)
    se_keras.create(TINY, weights=tmp_path / "a.safetensors", fresh_classifier=True, **SMALL)


def test_only_a_softmax_or_logits_with_weights_of_others(five_classes, tmp_path):
    for activation in (None, "softmax", keras.activations.softmax):
        se_keras.create(TINY, weights=five_classes, classifier_activation=activation, **SMALL)
    with pytest.raises(ValueError, match=r"must be None or 'softmax' .* got 'sigmoid'"):
        se_keras.create(TINY, weights=five_classes, classifier_activation="sigmoid", **SMALL)
    options = {"classifier_activation": "sigmoid", **SMALL}
    se_keras.create(TINY, weights=five_classes, fresh_classifier=True, **options)
    tiny(**options).save_weights(tmp_path / "own.weights.h5")
    se_keras.create(TINY, weights=tmp_path / "own.weights.h5", **options)


def test_a_fresh_classifier_is_about_weights():
    with pytest.raises(ValueError, match="ignores the classifier of `weights`"):
        se_keras.create("seresnet20", fresh_classifier=True)


# --- what files have around the names -------------------------------------------------------------

HEADS = ("fc.1", "head", "classifier.2", "head.fc")


@pytest.fixture(scope="module")
def headless():
    return tiny(include_top=False)


def load(model, tensors, path, **options):
    save_file(tensors, path)
    return se_keras.load_weights(model, path, **options)


def reasons(plan):
    return {row.source: row.reason for row in plan.ignored if "num_batches" not in row.source}


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "backbone.", "net.0."],
)
def test_a_common_prefix_is_taken_off_and_the_plan_says_so(prefix, good, tmp_path):
    model, tensors, _ = good
    wrapped = {f"{prefix}{name}": value for name, value in tensors.items()}
    plan = load(model, wrapped, tmp_path / "a.safetensors")
    assert f"removed: the prefix {prefix!r}" in str(plan).splitlines()
    assert {row.source for row in plan.assignments} | {i.source for i in plan.ignored} == {*wrapped}
    kernel = array(model.get_layer("stage3_block2_conv2").kernel)
    np.testing.assert_array_equal(kernel, tensors["layer2.1.conv2.weight"].transpose(2, 3, 1, 0))


@pytest.mark.parametrize("name", ["conv1.weight", "layer3.0.bn2.running_var", "fc.bias"])
def test_a_prefix_of_all_but_one_tensor_is_refused(name, good, headless, tmp_path):
    model, tensors, _ = good
    wrapped = {k if k == name else f"module.{k}": value for k, value in tensors.items()}
    for network in (model,) if name == "fc.bias" else (model, headless):
        with pytest.raises(InputError, match=r"does not fit|none of the known schemes"):
            load(network, wrapped, tmp_path / "a.safetensors")


def test_two_networks_in_one_file_are_refused(good, headless, tmp_path):
    model, tensors, _ = good
    for prefix in ("", "model."):
        both = {f"{p}{k}": v.copy() for p in (prefix, "ema.module.") for k, v in tensors.items()}
        for network in (model, headless):
            with pytest.raises(
                InputError, match=r"several networks \(.*'ema.module'.*\): name one of them"
            ):
                load(network, both, tmp_path / "a.safetensors")


def test_one_of_two_networks_is_taken_by_its_prefix(good, tmp_path):
    model, tensors, _ = good
    both = {f"student.{k}": v * 2 for k, v in tensors.items() if v.dtype == "float32"}
    both |= {f"teacher.{k}": v for k, v in tensors.items()}
    save_file(both, tmp_path / "a.safetensors")
    plan = se_keras.load_weights(model, f"{tmp_path}/a.safetensors::teacher")
    assert "weights: 'teacher' in the file" in str(plan).splitlines()
    np.testing.assert_array_equal(array(model.layers[-1].kernel), tensors["fc.weight"].T)
    with pytest.raises(InputError, match=r"no weights 'fc': no name of a tensor begins with it"):
        se_keras.load_weights(model, f"{tmp_path}/a.safetensors::fc")


def test_what_stands_beside_the_network_is_left_out_by_its_prefix(good, tmp_path):
    torch = pytest.importorskip("torch")
    model, tensors, _ = good
    state = {f"model.{k}": torch.from_numpy(np.array(v)) for k, v in tensors.items()}
    state["criterion.weight"] = torch.ones(5)
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": state, "epoch": 3}, path)
    with pytest.raises(InputError, match=rf"'{path}::model' reads only the network") as caught:
        se_keras.load_weights(model, path)
    assert "unexpected  criterion.weight  5" in str(caught.value)
    for key in ("model", "state_dict.model"):
        plan = se_keras.load_weights(model, f"{path}::{key}")
        assert len(plan.assignments) == len(model.weights)


def test_the_count_of_averaged_models_is_ignored(good, tmp_path):
    model, tensors, _ = good
    averaged = {f"module.{name}": value for name, value in tensors.items()}
    plan = load(model, averaged | {"n_averaged": np.array(9)}, tmp_path / "a.safetensors")
    assert reasons(plan) == {"n_averaged": "count of the models that were averaged"}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_classifier_of_another_name_is_found(head, prefix, good, tmp_path):
    model, tensors, _ = good
    names = {k: k.replace("fc.", f"{head}.") if k.startswith("fc.") else k for k in tensors}
    renamed = {f"{prefix}{names[k]}": value for k, value in tensors.items()}
    plan = load(model, renamed, tmp_path / "a.safetensors")
    assert f"classifier: {prefix + head!r} in the file" in str(plan).splitlines()
    np.testing.assert_array_equal(array(model.layers[-1].kernel), tensors["fc.weight"].T)


def test_the_number_of_classes_is_that_of_a_head_of_another_name(good, tmp_path):
    renamed = {
        k.replace("fc.", "net.head.1.") if k[:3] == "fc." else f"net.{k}": v
        for k, v in good[1].items()
    }
    save_file(renamed, tmp_path / "a.safetensors")
    assert se_keras.create(TINY, weights=tmp_path / "a.safetensors", **SMALL).output_shape[1] == 5


def two_layers(tensors):
    kept = {k: v for k, v in tensors.items() if not k.startswith("fc.")}
    layers = {"weight": np.zeros((5, 32), "float32"), "bias": np.zeros(5, "float32")}
    return kept | {f"fc.{n}.{leaf}": value for n in (0, 2) for leaf, value in layers.items()}


def test_a_head_of_two_layers_is_left_out_only_where_none_is_wanted(good, headless, tmp_path):
    model, tensors, _ = good
    beside = {"criterion.weight": np.zeros(5, "float32")}
    file = tmp_path / "a.safetensors"
    expected = dict.fromkeys(
        ("criterion.weight", *(f"fc.{n}.{leaf}" for n in (0, 2) for leaf in ("weight", "bias"))),
        "not a part of the network",
    )
    with pytest.raises(InputError, match=r"no classifier of one layer: `fresh_classifier=True`"):
        load(model, two_layers(tensors) | beside, file)
    assert reasons(se_keras.load_weights(model, file, fresh_classifier=True)) == expected
    assert reasons(se_keras.load_weights(headless, file)) == expected


@pytest.mark.parametrize(
    "name",
    ["layer4.1.conv1.weight", "layer5.0.conv1.weight", "layer1.0.attention.weight", "bn2.bias"],
)
def test_a_part_of_another_network_is_not_left_out(name, good, headless, tmp_path):
    _, tensors, _ = good
    for prefix in ("", "backbone."):
        more = {f"{prefix}{k}": v for k, v in tensors.items()} | {
            f"{prefix}{name}": np.zeros((8, 8, 1, 1), "float32")
        }
        with pytest.raises(InputError, match=f"unexpected +{prefix}{name}"):
            load(headless, more, tmp_path / "a.safetensors")


def test_the_head_beside_a_prefix_is_found_or_left_out(good, headless, tmp_path):
    model, tensors, _ = good
    split = {
        k.replace("fc.", "head.fc.") if k.startswith("fc.") else f"backbone.{k}": v
        for k, v in tensors.items()
    }
    load(model, split, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(array(model.layers[-1].kernel), tensors["fc.weight"].T)
    plan = se_keras.load_weights(headless, tmp_path / "a.safetensors")
    assert set(reasons(plan)) == {"head.fc.weight", "head.fc.bias"}


def cast(tensors, dtype, names):
    return {
        k: v.astype(dtype) if names(k) and v.dtype.kind == "f" else v for k, v in tensors.items()
    }


def is_norm(name):
    return "bn" in name or "downsample.1" in name


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    "kept", [is_norm, lambda k: "running" in k, lambda k: is_norm(k) or k.startswith("fc.")]
)
def test_half_precision_beside_single_is_loaded(kept, dtype, good, tmp_path):
    """Files of autocast, of `convert_params`, or with a head in float32."""
    model, tensors, _ = good
    mixed = cast(tensors, dtype, lambda name: not kept(name))
    load(model, mixed, tmp_path / "a.safetensors")
    for layer, theirs in (("stage3_block2_conv2", "layer2.1.conv2"), ("predictions", "fc")):
        value = mixed[f"{theirs}.weight"].astype("float32")
        axes = (2, 3, 1, 0) if value.ndim == 4 else (1, 0)
        np.testing.assert_array_equal(array(model.get_layer(layer).kernel), value.transpose(axes))


def test_two_kinds_of_half_precision_are_refused(good, tmp_path):
    model, tensors, _ = good
    mixed = cast(tensors, "float16", lambda name: name != "fc.weight" and name != "fc.bias")
    mixed = cast(mixed, ml_dtypes.bfloat16, lambda name: name.startswith("fc."))
    with pytest.raises(InputError, match=r"other type  fc.weight  bfloat16"):
        load(model, mixed, tmp_path / "a.safetensors")


# --- published -----------------------------------------------------------------------------------


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Provide a hub with one file; return the fetched files."""
    model = tiny(find_recipe("seresnet18"), classes=1000)
    set_random_weights(model)
    se_keras.save_timm(model, tmp_path / "model.safetensors")
    fetched = []

    def fetch(source):
        fetched.append(str(source))
        return hub.Fetched(
            path=tmp_path / "model.safetensors", config={"architecture": "seresnet18"}
        )

    monkeypatch.setattr(hub, "fetch", fetch)
    return model, fetched


def test_weights_of_the_hub(published):
    model, fetched = published
    loaded = se_keras.create("seresnet18", weights="hf://me/flowers", **SMALL)
    assert_same_weights(loaded, model)
    assert fetched == ["hf://me/flowers"]


def test_imagenet_is_the_best_that_is_published(published):
    _, fetched = published
    with pytest.raises(InputError, match=r"imagenet \(timm ResNet\) does not fit seresnet50"):
        se_keras.create("seresnet50", weights="imagenet", **SMALL)
    assert fetched == ["hf://timm/seresnet50.ra2_in1k"]


def test_imagenet_has_1000_classes(published):
    _, fetched = published
    with pytest.raises(InputError, match=r"`classes` must be 1000, .* 'imagenet', got 10"):
        se_keras.SEResNet50(weights="imagenet", classes=10)
    assert fetched == []


def test_imagenet_is_refused_where_none_are_published(published):
    _, fetched = published
    for name in ("seresnet18", "semobilenet", "seshufflenet", "sevgg16"):
        with pytest.raises(ValueError, match=f"no weights are published for {name}"):
            se_keras.create(name, weights="imagenet")
    assert fetched == []


# --- command line --------------------------------------------------------------------------------


def test_convert_there_and_back(five_classes, good, tmp_path, capsys):
    """With a row of the catalog: the file of SE-ResNet-18 with three classes."""
    shapes = {
        r.source: r.source_shape
        for r in plan_for_timm(tiny(find_recipe("seresnet18"), classes=3)).assignments
    }
    source = write_drawn(tmp_path / "source.safetensors", shapes)
    out, back = tmp_path / "out.keras", tmp_path / "back.safetensors"
    convert = ["convert", str(source), str(out), "--model", "seresnet18"]
    assert cli.main([*convert, "--dry-run"]) == 0
    assert "layer4.1.bn2.running_var" in capsys.readouterr().out
    assert not out.exists()
    assert cli.main(convert) == 0
    assert capsys.readouterr().out == f"{out}: 134 tensors, named as in timm ResNet\n"
    assert cli.main(["convert", str(out), str(back), "--to", "timm"]) == 0
    before, after = load_file(source), load_file(back)
    assert set(before) == set(after)
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "back.safetensors",
        "out.keras",
        "source.safetensors",
    ]
    other = [*convert[:3], "--model", "legacy_seresnet18"]
    assert cli.main(other) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"se-keras convert: {source} (timm ResNet) does not fit")
    assert "The file fits create('seresnet18')." in complaint


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a.keras", "b.keras", "--model", "seresnet18"], "there is no file 'a.keras'"),
        (["a.txt", "b.keras", "--model", "seresnet18"], "there is no file 'a.txt'"),
        (["a.keras", "b.h5", "--model", "seresnet18"], "OUT must be a .keras file, got 'b.h5'"),
        (["a.keras", "b.keras", "--model", "seresnet1"], "Did you mean"),
        (["a.keras", "b.keras", "--model", "seresnet18", "--classes", "0"], "--classes must be"),
        (["a.h5", "b.safetensors", "--to", "timm"], "There is no a.h5"),
        (["a.keras", "b.safetensors", "--to", "timm"], "There is no a.keras"),
        (["a.keras", "b.safetensors", "--to", "timm", "--classes", "2"], "need --model"),
    ],
)
def test_a_bad_conversion_ends_in_one_line(arguments, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["convert", *arguments]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "count FILE",
        "insert FILE --dry-run",
        "export FILE",
        "explain FILE --out new",
        "predict FILE image.png",
        "convert FILE OUT.safetensors --to timm",
    ],
)
def test_every_command_refuses_weights_without_a_model_by_the_same_sentence(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("image.png").touch()
    for name in ("a.weights.h5", "a.h5", "a.pth", "A.SAFETENSORS"):
        pathlib.Path(name).touch()
        assert cli.main(command.replace("FILE", name).split()) == 2
        assert capsys.readouterr().err.partition(": ")[2] == (
            f"The model must be a .keras file or the folder of a run, got {name}. If it is "
            f"a file of weights, `se-keras convert {name} OUT.keras --model NAME` makes a .keras "
            "file.\n"
        )


@pytest.mark.slow
def test_names_may_end_in_capitals_and_begin_at_home(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = se_keras.create("seresnet20", input_shape=(8, 8, 3))
    model.save(tmp_path / "a.keras")
    (tmp_path / "a.keras").rename(tmp_path / "A.KERAS")
    assert cli.main(["count", "~/A.KERAS"]) == 0
    assert "parameters" in capsys.readouterr().out
    assert cli.main(["convert", "~/A.KERAS", f"{tmp_path}/b.keras", "--model", "seresnet20"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/b.keras: 133 tensors, named as in Keras 3\n"


# --- cost ----------------------------------------------------------------------------------------

COST = """
import sys, time
from pathlib import Path
import se_keras

def peak():
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

model = se_keras.create("seresnet50")
for _ in range(2):
    peak()
    before, start = memory("VmRSS"), time.perf_counter()
    se_keras.load_weights(model, sys.argv[1])
    print(memory("VmHWM") - before, time.perf_counter() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_loading_takes_little_memory_and_time(tmp_path):
    path = write_drawn(tmp_path / "a.safetensors", tensors_of("seresnet50"))
    size = path.stat().st_size
    lines = [line.split() for line in run_python(COST, path).splitlines()]
    assert len(lines) == 2
    for extra, seconds in lines:
        assert int(extra) < 1.5 * size
        assert float(seconds) < 10  # 112 MB; reading alone takes 0.1 s
