"""SE-VGG-16: VGG-16 with SE after the ReLU of each of its 13 convolutions."""

from typing import Any

from keras import KerasTensor, layers

from se_keras.models.parts import Feature, Parts
from se_keras.models.recipes import VGGRecipe
from se_keras.support.errors import InputError


def vgg(x: KerasTensor, recipe: VGGRecipe, parts: Parts) -> list[Feature]:
    """Build the stages; each ends with its max-pool."""
    features = []
    for stage, (depth, width) in enumerate(zip(recipe.depths, recipe.widths, strict=True), start=1):
        for index in range(1, depth + 1):
            x = convolution(x, width, f"stage{stage}", index, recipe, parts)
            x = parts.se(x, stage, f"stage{stage}_se{index}")
        x = parts.pool(x, "max", 2, 2, "valid", f"stage{stage}_pool")
        features.append(Feature(stage=stage, stride=2**stage, map=x))
    return features


def convolution(
    x: KerasTensor, width: int, name: str, index: int, recipe: VGGRecipe, parts: Parts
) -> KerasTensor:
    """Build 3x3 and ReLU (arXiv 1409.1556, sec. 2.1)."""
    # There is a bias even before a normalization, as in torchvision's vgg16_bn.
    x = parts.conv(x, width, 3, use_bias=True, name=f"{name}_conv{index}")
    if recipe.norm:
        x = parts.norm(x, f"{name}_norm{index}")
    return parts.act(x, f"{name}_relu{index}")


def vgg_classifier(
    parts: Parts, x: KerasTensor, classes: int, activation: Any, dropout: float
) -> KerasTensor:
    """Build two dense layers of 4096, dropout and predictions (arXiv 1409.1556, Table 1)."""
    if None in x.shape[1:]:
        raise InputError(
            "`input_shape` must have a known height and width, because the classifier has weights "
            f"for each position, got a last map of shape {x.shape[1:]}. `include_top=False` takes "
            "any size."
        )
    x = layers.Flatten(data_format=parts.data_format, dtype=parts.dtype, name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(4096, activation="relu", dtype=parts.dtype, name=name)(x)
        x = parts.dropout(x, dropout, f"{name}_dropout")
    return parts.predictions(x, classes, activation)
