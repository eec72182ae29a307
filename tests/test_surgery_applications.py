"""surgery on every convolutional network of keras.applications, at a small input."""

import re

import keras
import numpy as np
import pytest
from checks import array, set_random_weights
from keras import applications
from test_surgery import assert_same, inputs_of, outputs, se_by_name

from se_keras import find_sites, insert_se, remove_se

# What follows a name is a pattern of the layers after which SE goes, and their number.
BOTTLENECK = r"conv\d_block\d+_3_(bn|conv)"  # v1 ends in a normalization, v2 in a convolution
# Fused blocks without an expansion end in an activation.
RESIDUAL = r"block\d\w_project_(bn|activation)"
# Residual units of EfficientNet: all blocks but the first of each of the seven stages
# (arXiv 1905.11946, Table 1, repeats times the depth factor, rounded up).
BLOCKS = {"B0": 16, "B1": 23, "B2": 23, "B3": 26, "B4": 32, "B5": 39, "B6": 45, "B7": 55}
# arXiv 2104.00298, Table 4, and the authors' code for the others; six or seven stages. In S, M and
# L the first stage keeps its input's channels, so that its first block is residual too.
V2_BLOCKS = {"B0": 21 - 6, "B1": 27 - 6, "B2": 28 - 6, "B3": 32 - 6}
V2_BLOCKS |= {"S": 40 - 6 + 1, "M": 57 - 7 + 1, "L": 79 - 7 + 1}
CELLS = r"(normal|reduction)_concat_\w+"

SITES = {
    # arXiv 1512.03385, Table 1: 3 + 4 + 6 + 3 units, and so on
    **{f"ResNet{depth}": (BOTTLENECK, n) for depth, n in ((50, 16), (101, 33), (152, 50))},
    **{f"ResNet{depth}V2": (BOTTLENECK, n) for depth, n in ((50, 16), (101, 33), (152, 50))},
    "VGG16": (r"block\d_conv\d", 13),
    "VGG19": (r"block\d_conv\d", 16),
    "MobileNet": (r"conv_pw_\d+_relu", 13),
    "MobileNetV2": (r"block_\d+_project_BN", 10),
    "MobileNetV3Small": (r"expanded_conv_\d+_project_bn", 6),
    "MobileNetV3Large": (r"expanded_conv(_\d+)?_project_bn", 10),
    "InceptionV3": (r"mixed\d+", 11),
    # 10 + 20 + 10 units; stem, first and second reduction
    "InceptionResNetV2": (r"block(35|17|8)_\d+_conv|mixed_(5b|6a|7a)", 40 + 3),
    # The convolution's normalization; in the units with a stride the pool after it.
    "Xception": (r"block\d+_(sepconv\d_bn|pool)", 12),
    **{
        f"DenseNet{depth}": (r"conv\d_block\d+_concat|pool\d_pool", 4 + 3)
        for depth in (121, 169, 201)
    },
    "ConvNeXtTiny": (r".*_pointwise_conv_2", 3 + 3 + 9 + 3),
    **{
        f"ConvNeXt{size}": (r".*_pointwise_conv_2", 3 + 3 + 27 + 3)
        for size in ("Small", "Base", "Large", "XLarge")
    },
    # arXiv 1707.07012, Fig. 2: 3 N normal cells (N = 4, 6), two reductions, two in the stem
    "NASNetMobile": (CELLS, 3 * 4 + 4),
    "NASNetLarge": (CELLS, 3 * 6 + 4),
    **{f"EfficientNet{size}": (RESIDUAL, blocks - 7) for size, blocks in BLOCKS.items()},
    **{f"EfficientNetV2{size}": (RESIDUAL, units) for size, units in V2_BLOCKS.items()},
}
HAVE_SE = re.compile("MobileNetV3|EfficientNet")
SIZES = {"InceptionV3": 96, "InceptionResNetV2": 96, "Xception": 96}
QUICK = ("MobileNetV3Small",)


def built(name):
    size = SIZES.get(name, 32)
    model = getattr(applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3)
    )
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Normalization):  # EfficientNet: of the image
            set_random_weights(layer)
    return model


def test_every_network_is_here():
    builders = {name for name in dir(applications) if name[0].isupper()}
    assert builders == set(SITES)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SITES]
)
def test_sites_and_a_warm_start(name):
    model = built(name)
    pattern, number = SITES[name]
    plan = find_sites(model)
    assert len(plan.sites) == number
    assert [s.after for s in plan.sites if not re.fullmatch(pattern, s.after)] == []
    assert any(site.has_se for site in plan.sites) == bool(HAVE_SE.match(name))
    if HAVE_SE.match(name):
        with pytest.raises(ValueError, match="already"):
            insert_se(model)
    x = inputs_of(model)
    expected = outputs(model, x)
    assert np.isfinite(expected[0]).all()
    new = insert_se(model, force=True)
    assert_same(outputs(new, x), expected)
    assert_same(outputs(model, x), expected)
    assert len(se_by_name(new)) == number
    back = remove_se(new)
    assert [layer.name for layer in back.layers] == [layer.name for layer in model.layers]
    assert_same(back.get_weights(), model.get_weights())
    assert_same(outputs(back, x), expected)
    new.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    # Eight images: two may both lose a branch, where the network drops some.
    new.train_on_batch(*(np.repeat(part, 4, axis=0) for part in (x, np.ones_like(expected[0]))))
    still = [n for n, se in se_by_name(new).items() if not np.any(array(se.expand.bias))]
    assert still == []


def test_resnet50_gets_the_papers_parameters():
    model = applications.ResNet50(weights=None, input_shape=(32, 32, 3), include_top=False)
    for use_bias, added in ((True, 2_530_992), (False, 2_514_944)):
        new = insert_se(model, use_bias=use_bias)
        assert new.count_params() - model.count_params() == added
    assert remove_se(new).count_params() == model.count_params()
