"""surgery: the kin of squeeze-and-excitation into models, and out of them."""

import copy
import pickle
import re

import keras
import numpy as np
import pytest
from checks import array, set_random_weights
from keras import layers
from test_surgery import (
    assert_same,
    audio,
    inputs_of,
    outputs,
    shared_backbone,
    shared_layers,
    two_units,
    volume,
)

import se_keras
from se_keras import find_sites, insert_se, remove_se
from se_keras.cli import main
from se_keras.layers import GATES, ChannelGate
from se_keras.models.recipes import ATTENTIONS

KIN = [kind for kind in GATES if kind != "se"]
# Options with which the gate can be 1 at first; GE has nothing to begin at zero without weights.
WARM = {"eca": {}, "ese": {}, "scse": {}, "ge": {"extent": 4, "extra_params": True}}
# The weights of a layer for 16 channels: by hand from the papers' equations.
WEIGHTS_AT_16 = {
    "eca": 3,
    "ese": 16 * 16 + 16,
    "scse": (16 * 8 + 8) + (8 * 16 + 16) + (16 + 1),
    "ge": 2 * (9 * 16 + 4 * 16),  # two convolutions, each with a normalization
}


def gates(model):
    found = []
    for layer in model.layers:
        found += gates(layer) if isinstance(layer, keras.Model) else []
        found += [layer] if isinstance(layer, ChannelGate) else []
    return found


def learned(model):
    set_random_weights(model)
    return model


@pytest.mark.parametrize("kind", KIN)
def test_each_begins_as_the_identity_and_learns_and_goes_out_again(kind):
    model = learned(two_units())
    x = inputs_of(model)
    plan = find_sites(model, attention=kind, **WARM[kind])
    assert [site.parameters for site in plan.sites] == [WEIGHTS_AT_16[kind]] * 2
    new = insert_se(model, attention=kind, **WARM[kind])
    assert [type(layer) for layer in gates(new)] == [GATES[kind]] * 2
    assert [layer.name for layer in gates(new)] == [f"a2_bn_{kind}", f"b2_bn_{kind}"]
    assert new.count_params() - model.count_params() == plan.parameters
    assert_same(outputs(new, x), outputs(model, x))
    back = remove_se(new)
    assert back.get_config() == model.get_config()
    assert_same(outputs(back, x), outputs(model, x))
    new.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    new.train_on_batch(x, np.ones((2, 3)))
    assert all(np.any(array(layer.gate(np.ones((1, 8, 8, 16)))) != 1) for layer in gates(new))


OPTIONS = {
    "eca": ({"kernel_size": 7, "pool": "max", "use_bias": True}, 7 + 1),
    "ese": ({"gate_activation": "sigmoid", "use_bias": False}, 16 * 16),
    "scse": ({"ratio": 4, "fusion": "max"}, 2 * 16 * 4 + 4 + 16 + 17),
    "ge": ({"extent": 2, "use_mlp": True, "reduced_channels": 3}, 2 * 16 * 3 + 3 + 16),
}


@pytest.mark.parametrize(
    "kind", ["eca", "ge", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("ese", "scse"))]
)
def test_a_plan_keeps_the_kin_and_its_options(kind, tmp_path):
    options, weights = OPTIONS[kind]
    model = learned(two_units())
    plan = find_sites(model, attention=kind, **options)
    assert (plan.attention, plan.parameters) == (kind, 2 * weights)
    last = str(plan).splitlines()[-1]
    assert last.endswith(f"2 sites for {GATES[kind].__name__}")
    assert ("SE width" in str(plan)) == (kind in ("scse", "ge"))
    assert pickle.loads(pickle.dumps(plan)) == plan == copy.deepcopy(plan)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = inputs_of(model)
    expected = outputs(model, x)
    for other in (clone, loaded):
        new = insert_se(other, plan)
        for layer in gates(new):
            assert {name: layer.get_config()[name] for name in options} == options
        assert_same(outputs(new, x), expected)
    new.save(tmp_path / "new.keras")
    again = keras.saving.load_model(tmp_path / "new.keras")
    assert_same(outputs(again, x), expected)
    assert [layer.get_config() for layer in gates(again)] == [
        layer.get_config() for layer in gates(new)
    ]


@pytest.mark.parametrize(
    ("network", "kinds"),
    [(audio, KIN), (volume, ["scse", "ge"]), (shared_backbone, ["eca"]), (shared_layers, ["ge"])],
)
def test_maps_of_other_ranks_and_shared_layers(network, kinds):
    model = learned(network())
    x = inputs_of(model)
    for kind in kinds:
        options = {"use_mlp": True, "extent": 2} if kind == "ge" else {}
        plan = find_sites(model, attention=kind, **options)
        new = plan.apply(model)
        assert_same(outputs(new, x), outputs(model, x))
        assert new.count_params() - model.count_params() == plan.parameters > 0
        assert len(gates(new)) == len({site.shares for site in plan.sites})


@pytest.mark.parametrize("kind", GATES)
def test_a_gate_that_is_there_is_seen_whatever_kind_it_is(kind):
    image = keras.Input((8, 8, 8), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(image)
    x = GATES[kind](name="gate")(layers.ReLU(name="relu")(x))
    chain = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    unit = keras.Model(image, layers.Add(name="add")([x, image]))
    for model, after in ((chain, "relu"), (unit, "gate")):
        for asked in ("se", "eca"):
            plan = find_sites(model, attention=asked)
            assert [(site.after, site.has_se) for site in plan.sites] == [(after, True)]
            with pytest.raises(se_keras.InputError, match="at 1 of 1 sites already"):
                plan.apply(model)
        assert len(gates(plan.apply(model, force=True))) == 2
        assert not gates(remove_se(model))


def test_weights_for_each_position_are_shared_by_maps_of_one_size_alone():
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((4, 16, 3), name="b")
    shared = layers.Conv2D(8, 3, padding="same", activation="relu", name="shared")
    model = keras.Model([a, b], [shared(a), shared(b)])
    for options, count in (({"extra_params": True}, 2), ({"use_mlp": True}, 1)):
        plan = find_sites(model, attention="ge", **options)
        new = plan.apply(model)
        assert len(gates(new)) == count
        assert new.count_params() - model.count_params() == plan.parameters


def test_channels_first_is_taken_where_it_stands():
    image = keras.Input((4, 6, 6), name="image")
    x = layers.AveragePooling2D(1, data_format="channels_first", name="pool")(image)
    model = keras.Model(image, x)
    x = inputs_of(model)
    for kind in KIN:
        new = insert_se(model, ["pool"], attention=kind, **WARM[kind])
        (layer,) = gates(new)
        assert layer.data_format == "channels_first"
        set_random_weights(layer)
        layer.gate(np.ones((1, 4, 6, 6)))
        # The same layer on the same map with its channels last.
        config = {**layer.get_config(), "data_format": "channels_last"}
        other = GATES[kind].from_config(config)
        other.build((None, 6, 6, 4))
        other.set_weights(layer.get_weights())
        expected = array(other(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(outputs(new, x)[0], expected, rtol=1e-6, atol=1e-6)


def test_a_plan_draws_no_random_numbers():
    model = two_units()
    drawn = []
    for kind in KIN:
        keras.utils.set_random_seed(1)
        find_sites(model, "conv", attention=kind, **WARM[kind])
        drawn.append(keras.initializers.HeNormal()((2, 2)))
    assert_same(map(array, drawn[1:]), map(array, drawn[:1] * 3))


REFUSED = [
    ({"attention": "cbam"}, r"`attention` must be one of \('se', 'eca', .* got 'cbam'"),
    ({"attention": None}, r"`attention` must be one of .* got None"),
    ({"attention": "eca", "ratio": 16}, "`ratio=16` is an option of `attention='se'` or 'scse' or"),
    (
        {"attention": "ese", "kernel_size": 3},
        "`kernel_size=3` is an option of `attention='eca'`, n",
    ),
    ({"extent": 2}, "`extent=2` is an option of `attention='ge'`, not of 'se'"),
    ({"attention": "eca", "kernel_size": 4}, "`kernel_size` must be odd, got 4"),
    (
        {"attention": "ge"},
        "this GatherExcite can't start as the identity, .*: pass warm_start=False",
    ),
    ({"attention": "ge", "ratio": 8}, "`ratio` must stay at its default with `extra_params=False`"),
    ({"attention": "scse", "gate_scale": 2.0}, "`gate_scale` is what warm_start=True sets"),
    ({"attention": "ese", "gate_activation": "relu"}, "`gate_activation` must have one value"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_refusals_are_one_line(options, message):
    with pytest.raises(se_keras.InputError, match=message) as raised:
        insert_se(two_units(), **options)
    assert "\n" not in str(raised.value)


def test_a_map_that_the_layer_can_not_take_is_refused_by_the_plan():
    with pytest.raises(se_keras.InputError, match="silu: `extra_params=True` needs maps of rank 3"):
        find_sites(volume(), attention="ge", extra_params=True)


def test_a_cold_start_is_the_usual_initialization():
    model = learned(two_units())
    x = inputs_of(model)
    new = insert_se(model, attention="ese", warm_start=False)
    assert {layer.gate_scale for layer in gates(new)} == {1}
    assert all(np.any(array(layer.dense.kernel)) for layer in gates(new))
    assert np.any(outputs(new, x)[0] != outputs(model, x)[0])
    new = insert_se(model, attention="ge", warm_start=False)  # it has no weights
    assert len(gates(new)) == 2
    assert new.count_params() == model.count_params()
    assert not gates(remove_se(new))


def test_what_a_plan_decided_is_not_given_again():
    model = two_units()
    plan = find_sites(model, attention="eca")
    assert len(gates(insert_se(model, plan, attention="eca"))) == 2
    for option in ({"attention": "ese"}, {"kernel_size": 3}):
        with pytest.raises(
            se_keras.InputError, match=f"`{next(iter(option))}` is part of the plan"
        ):
            insert_se(model, plan, **option)
    with pytest.raises(TypeError, match="insert_se has no option 'kernal_size'"):
        insert_se(model, plan, kernal_size=3)


def test_a_plan_of_an_earlier_version_is_of_se():
    model = two_units()
    plan = find_sites(model)
    state = {name: value for name, value in vars(plan).items() if name != "attention"}
    old = object.__new__(type(plan))
    old.__dict__.update(state)
    assert str(old) == str(plan)
    assert [type(layer) for layer in gates(old.apply(model))] == [se_keras.SqueezeExcite] * 2


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    learned(audio()).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_the_command_inserts_each(saved, capsys):
    assert tuple(GATES) == ATTENTIONS
    model, out = keras.saving.load_model(saved), saved.with_name("new.keras")
    x = inputs_of(model)
    for kind, options in {
        "eca": ["kernel_size=5", "pool=max"],
        "ge": ["extent=2", "extra_params=True"],
    }.items():
        given = [word for option in options for word in ("--option", option)]
        assert main(["insert", str(saved), "-o", str(out), "--attention", kind, *given]) == 0
        new = keras.saving.load_model(out)
        more = new.count_params() - model.count_params()
        name = GATES[kind].__name__
        assert capsys.readouterr().out == f"{out}: {name} at 2 sites, {more} more parameters\n"
        config = {key: str(value) for key, value in gates(new)[0].get_config().items()}
        assert {f"{key}={value}" for key, value in config.items()} >= {*options}
        assert_same(outputs(new, x), outputs(model, x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--attention cbam", "--attention: must be one of se, eca, ese, scse, ge, got 'cbam'"),
        ("--attention eca --ratio 8", "--ratio 8 is an option of --attention se or 'scse' or 'ge'"),
        ("--option extent=2", "`extent=2` is an option of --attention ge, not of 'se'"),
        ("--option ratio=2", "--option: SqueezeExcite has no option 'ratio'"),
        ("--option pol=max", "--option: SqueezeExcite has no option 'pol'. Did you mean 'pool'"),
        ("--option pool", "--option: must be NAME=VALUE, got 'pool'"),
        ("--option pool=min", "`pool` must be one of"),
        (
            "--attention ge",
            "this GatherExcite can't start as the identity, .* pass warm_start=False",
        ),
    ],
)
def test_the_command_refuses_in_one_line(saved, capsys, arguments, message):
    out = saved.with_name("new.keras")
    try:
        code = main(["insert", str(saved), "-o", str(out), *arguments.split()])
    except SystemExit as error:
        code = error.code
    error = capsys.readouterr().err
    assert (code, error.count("\n"), out.exists()) == (2, 1, False)
    assert re.search(message, error), error


@pytest.mark.slow
@pytest.mark.parametrize("kind", KIN)
def test_real_networks_begin_as_they_are(kind):
    """MobileNetV2 has residual units and activations that end at 6; DenseNet concatenates."""
    for make, sites in ((keras.applications.MobileNetV2, 10), (keras.applications.DenseNet121, 7)):
        model = make(weights=None, input_shape=(32, 32, 3), classes=3)
        x = inputs_of(model)
        plan = find_sites(model, attention=kind, **WARM[kind])
        assert len(plan.sites) == sites
        new = plan.apply(model)
        assert_same(outputs(new, x), outputs(model, x))
        assert_same(outputs(remove_se(new), x), outputs(model, x))
