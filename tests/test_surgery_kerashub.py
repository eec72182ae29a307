"""surgery on small backbones of KerasHub."""

import keras
import numpy as np
import pytest
from checks import array
from test_surgery import after, assert_same, inputs_of, outputs, se_by_name

from se_keras import find_sites, insert_se

keras_hub = pytest.importorskip("keras_hub")

SHAPE = (64, 64, 3)


def resnet(**options):
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[2, 1],
        stackwise_num_strides=[1, 2],
        image_shape=SHAPE,
        **options,
    )


def cspnet():
    """A CSPDarkNet (arXiv 1911.11929): the units are in one half of each stage."""
    return keras_hub.models.CSPNetBackbone(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[2, 2],
        stackwise_num_filters=[16, 32],
        bottle_ratio=[0.5, 1.0],
        block_ratio=[1.0, 0.5],
        expand_ratio=[2.0, 1.0],
        block_type="dark_block",
        stage_type="csp",
        image_shape=SHAPE,
    )


def mobilenet(se_ratio=None):
    return keras_hub.models.MobileNetBackbone(
        stackwise_expansion=[[40, 56]],
        stackwise_num_blocks=[2],
        stackwise_num_filters=[[16, 16]],
        stackwise_kernel_size=[[3, 3]],
        stackwise_num_strides=[[2, 1]],
        stackwise_se_ratio=[[se_ratio, se_ratio]],
        stackwise_activation=[["relu", "relu"]],
        stackwise_padding=[[1, 1]],
        input_num_filters=16,
        input_activation="relu",
        output_num_filters=64,
        output_activation="relu",
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        squeeze_and_excite=None,
        last_layer_filter=64,
        image_shape=SHAPE,
    )


def efficientnet(*block_types, se_ratio=0.0):
    return keras_hub.models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[2, 2],
        stackwise_input_filters=[16, 16],
        stackwise_output_filters=[16, 24],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[se_ratio, se_ratio],
        stackwise_strides=[1, 2],
        stackwise_block_types=block_types,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        num_features=64,
        input_shape=SHAPE,
    )


UNITS = [f"stack{stack}_block{block}" for stack, block in ((0, 0), (0, 1), (1, 0))]
NETWORKS = {
    "resnet": (
        lambda: resnet(block_type="basic_block"),
        [f"{unit}_2_bn" for unit in UNITS],
    ),
    "resnet v2": (
        lambda: resnet(block_type="bottleneck_block", use_pre_activation=True),
        [f"{unit}_3_conv" for unit in UNITS],
    ),
    "cspnet": (
        cspnet,
        [
            f"stage_{stage}_block_{block}_dark_block_activation_2"
            for stage, block in ((0, 0), (1, 0), (1, 1))
        ],
    ),
    # Each unit is one layer, with its addition inside.
    "mobilenet": (mobilenet, ["block_0_0", "block_1_0", "block_1_1"]),
    "efficientnet": (
        lambda: efficientnet("v1", "v1"),
        ["block1a_project_bn", "block1b_project_bn", "block2b_project_bn"],
    ),
    "efficientnet v2": (
        lambda: efficientnet("fused", "unfused"),
        ["block1a_", "block1b_", "block2a_", "block2b_"],
    ),
}


@pytest.mark.parametrize(("build", "sites"), NETWORKS.values(), ids=NETWORKS)
def test_sites_warm_start_training_and_file(build, sites, tmp_path):
    model = build()
    assert after(find_sites(model)) == sites
    x = np.abs(inputs_of(model))
    expected = outputs(model, x)
    new = insert_se(model)
    assert_same(outputs(new, x), expected)
    new.save(tmp_path / "model.keras")
    assert_same(outputs(keras.saving.load_model(tmp_path / "model.keras"), x), expected)
    new.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    # Eight images: two may both lose a branch, where the network drops some.
    new.train_on_batch(*(np.repeat(part, 4, axis=0) for part in (x, np.ones_like(expected[0]))))
    still = [n for n, se in se_by_name(new).items() if not np.any(array(se.expand.bias))]
    assert still == []


@pytest.mark.parametrize(
    "build",
    [
        lambda: mobilenet(se_ratio=0.25),
        lambda: efficientnet("v1", "v1", se_ratio=0.25),
        lambda: efficientnet("fused", "unfused", se_ratio=0.25),
    ],
    ids=["mobilenet v3", "efficientnet", "efficientnet v2"],
)
def test_the_se_that_they_have_is_seen(build):
    with pytest.raises(ValueError, match="has squeeze-and-excitation at"):
        insert_se(build())
