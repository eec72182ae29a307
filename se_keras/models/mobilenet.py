"""SE-MobileNet: MobileNetV1 with SE after each of its 13 pointwise convolutions."""

from keras import KerasTensor

from se_keras.models.parts import Feature, Parts
from se_keras.models.recipes import MobileNetRecipe

# arXiv 1704.04861, Table 1: output channels of the separable convolutions, one tuple per stage.
# The first convolution of a stage has the stride; the stem belongs to stage 1.
WIDTHS = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))
STRIDES = (1, 2, 2, 2, 2)


def mobilenet(x: KerasTensor, recipe: MobileNetRecipe, parts: Parts) -> list[Feature]:
    """Build the stem and the 13 separable convolutions; return the output of each stage."""
    stem_width = int(32 * recipe.alpha)
    x = parts.conv_norm_act(x, stem_width, 3, stride=2, padding="same", act="relu6", name="stem")
    features = []
    steps = parts.stage_strides(2, STRIDES)
    for stage, (widths, step) in enumerate(zip(WIDTHS, steps, strict=True), start=1):
        for block, width in enumerate(widths, start=1):
            stride, dilation = (
                (step.stride, step.first_dilation) if block == 1 else (1, step.dilation)
            )
            name = f"stage{stage}_block{block}"
            x = separable(x, int(width * recipe.alpha), stride, dilation, name, recipe, parts)
            x = parts.se(x, stage, f"{name}_se")
        features.append(Feature(stage=stage, stride=step.total, map=x))
    return features


def separable(
    x: KerasTensor,
    filters: int,
    stride: int,
    dilation: int,
    name: str,
    recipe: MobileNetRecipe,
    parts: Parts,
) -> KerasTensor:
    """Build depthwise 3x3, pointwise 1x1 (arXiv 1704.04861, Fig. 3 right)."""
    if stride > 1:  # padded at the end only, as in keras.applications
        x = parts.pad(x, (0, 1), f"{name}_depthwise_pad")
    x = parts.depthwise(
        x,
        3,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        dilation=dilation,
        depth_multiplier=recipe.depth_multiplier,
        name=f"{name}_depthwise_conv",
    )
    x = parts.norm_act(x, act="relu6", name=f"{name}_depthwise")
    return parts.conv_norm_act(x, filters, 1, act="relu6", name=f"{name}_pointwise")
