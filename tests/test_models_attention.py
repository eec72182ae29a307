"""The kin of squeeze-and-excitation in every network: `attention`."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from checks import array, se_layers, set_random_weights, trainable

import se_keras
from se_keras.blocks import PLACEMENTS
from se_keras.layers import GATES
from se_keras.models.recipes import find_recipe

KIN = [kind for kind in GATES if kind != "se"]
# The weights of a layer for C channels, by its paper.
WEIGHTS = {
    "eca": lambda c: {8: 3, 16: 3, 32: 3, 64: 3, 128: 5, 256: 5}[c],
    "ese": lambda c: c * c + c,
    "scse": lambda c: 2 * c * (c // 2) + c // 2 + c + c + 1,
    "ge": lambda c: 0,
}
SMALL = {"depths": (1, 1), "widths": (16, 32)}
# A network of each family, and what makes it small.
FAMILIES = {
    "seresnet20": (SMALL, {}),
    "sewrn16_8": (SMALL, {}),
    "seresnet50t": ({"depths": (1, 1), "widths": (8, 16), "stem_widths": (4, 4, 8)}, {}),
    "semobilenet": ({"alpha": 0.25}, {}),
    "sevgg16_bn": ({"depths": (1, 2), "widths": (8, 16)}, {"include_top": False}),
    "seshufflenet": ({"depths": (2, 2), "widths": (48, 96)}, {"placement": "identity"}),
}


def made(name, smaller=SMALL, **options):
    row = replace(find_recipe(name), **smaller)
    return se_keras.create(row, input_shape=(32, 32, 3), **options)


def gates(model, kind):
    return [layer for layer in model.layers if type(layer) is GATES[kind]]


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", FAMILIES)
def test_each_stands_where_se_does_with_the_weights_of_its_paper(name):
    smaller, options = FAMILIES[name]
    widths = [layer.expand.units for layer in se_layers(made(name, smaller, **options))]
    plain = {key: value for key, value in options.items() if key != "placement"}
    twin = trainable(made(name, smaller, se=False, **plain))
    for kind in KIN:
        if name == "seshufflenet" and kind == "eca":  # widths that the table above does not have
            continue
        model = made(name, smaller, attention=kind, **options)
        assert len(gates(model, kind)) == len(widths) > 0
        assert trainable(model) - twin == sum(map(WEIGHTS[kind], widths))


def test_se_is_the_usual_attention():
    asked, usual = made("seresnet20", attention="se"), made("seresnet20")
    assert [w.path for w in asked.weights] == [w.path for w in usual.weights]
    for layer, other in zip(se_layers(asked), se_layers(usual), strict=True):
        assert layer.get_config() == other.get_config()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_closed_gate_of_any_kind_cuts_what_the_placement_says(placement):
    for kind in KIN:
        options = {"attention": kind, "se_options": {"gate_activation": keras.ops.zeros_like}}
        model = made("seresnet20", placement=placement, include_top=False, **options)
        set_random_weights(model)
        y = array(model(np.random.default_rng(0).random((1, 32, 32, 3), "float32")))
        assert (not y.any()) == (placement == "post")


def test_options_go_to_the_layer_and_are_saved(tmp_path):
    model = made("seresnet20", attention="scse", ratio=4, se_options={"fusion": "max"})
    first, *_ = gates(model, "scse")
    assert (first.ratio, first.fusion, first.name) == (4, "max", "stage2_block1_se")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).random((2, 32, 32, 3), "float32")
    np.testing.assert_array_equal(array(loaded(x)), array(model(x)))
    options = {"extent": 4, "extra_params": True, "use_mlp": True}
    first, *_ = gates(made("seresnet20", attention="ge", se_options=options), "ge")
    assert (first.extent, first.ratio, first.reduce.units) == (4, 16, 1)


def test_the_work_of_each_is_counted():
    # 16 channels on 32x32, 32 on 16x16: the same network less its plain twin.
    twin = se_keras.count(made("seresnet20", se=False)).macs
    eca = se_keras.count(made("seresnet20", attention="eca"))
    assert (eca.macs - twin, eca.uncounted) == (16 * 3 + 32 * 3, ())
    ese = se_keras.count(made("seresnet20", attention="ese"))
    assert (ese.macs - twin, ese.uncounted) == (16 * 16 + 32 * 32, ())
    scse = se_keras.count(made("seresnet20", attention="scse"))
    dense = 2 * 16 * 8 + 2 * 32 * 16
    assert (scse.macs - twin, scse.uncounted) == (dense + 32 * 32 * 16 + 16 * 16 * 32, ())
    options = {"extent": 4, "extra_params": True, "use_mlp": True, "reduced_channels": 2}
    ge = se_keras.count(made("seresnet20", attention="ge", se_options=options))
    gathers = 9 * 16 * (16 * 16 + 8 * 8) + 9 * 32 * (8 * 8 + 4 * 4)
    mlp = 2 * 2 * (16 * 8 * 8 + 32 * 4 * 4)
    assert (ge.macs - twin, ge.uncounted) == (gathers + mlp, ())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention": "cbam"}, "`attention` must be one of .*'se', 'eca'.*, got 'cbam'"),
        (
            {"attention": "eca", "ratio": 8},
            "`ratio=8` is an option of `attention='se'` or 'scse' or",
        ),
        (
            {"attention": "ese", "se_options": {"kernel_size": 3}},
            "`kernel_size=3` is an option of `attention='eca'`, not of 'ese'",
        ),
        ({"se_options": {"extent": 2}}, "`extent=2` is an option of `attention='ge'`, not of 'se'"),
        (
            {"se_options": {"fusion": "max"}},
            "`fusion='max'` is an option of `attention='scse'`, not",
        ),
        (
            {"attention": "ge", "ratio": 8},
            "`ratio` must stay at its default with `extra_params=False`",
        ),
        ({"attention": "eca", "se": False}, "and `attention` need `se=True`"),
        ({"attention": "scse", "se_options": {"ratio": 2}}, r"must not have \['ratio'\]"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words):
    with pytest.raises(se_keras.InputError, match=words):
        made("seresnet20", **options)


def test_an_option_that_no_kind_has_is_a_type_error():
    with pytest.raises(TypeError, match="EfficientChannelAttention has no option 'kernal_size'"):
        made("seresnet20", attention="eca", se_options={"kernal_size": 3})


def test_a_row_of_eca_takes_no_ratio_and_has_a_plain_twin_and_an_se_one():
    smaller = {"depths": (1, 1), "widths": (8, 16), "stem_widths": (4, 4, 8)}
    with pytest.raises(se_keras.InputError, match="`ratio=4` is an option of `attention='se'`"):
        made("ecaresnet50t", smaller, ratio=4)
    twin, se, eca = (
        trainable(made("ecaresnet50t", smaller, **options))
        for options in ({"se": False}, {"attention": "se"}, {})
    )
    assert eca - twin == 3 + 3
    assert se - twin == sum(2 * c * (c // 16) + c // 16 + c for c in (32, 64))
