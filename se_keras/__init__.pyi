# Made by `python tests/make_stub.py`: do not edit.
"""Squeeze-and-excitation for Keras 3."""

import keras
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from os import PathLike
from se_keras.models.recipes import Recipe
from se_keras.surgery.plan import InsertionPlan
from se_keras.weights.preprocessing import Pixels
from se_keras.weights.source import WeightSource
from typing import Any

from se_keras import ops as ops
from se_keras import train as train
from se_keras.class_names import decode_predictions as decode_predictions
from se_keras.counting import count as count
from se_keras.deploy.export import export as export
from se_keras.explain.plots import plot_excitations as plot_excitations
from se_keras.explain.pruning import prune_se as prune_se
from se_keras.explain.record import record_excitations as record_excitations
from se_keras.layers.effective import EffectiveSqueezeExcite as EffectiveSqueezeExcite
from se_keras.layers.efficient_channel import EfficientChannelAttention as EfficientChannelAttention
from se_keras.layers.gather_excite import GatherExcite as GatherExcite
from se_keras.layers.spatial_channel import SpatialChannelSqueezeExcite as SpatialChannelSqueezeExcite
from se_keras.layers.squeeze_excite import SqueezeExcite as SqueezeExcite
from se_keras.models.recipes import list_models as list_models
from se_keras.pixels import load_image as load_image
from se_keras.pixels import pixels_of as pixels_of
from se_keras.pixels import preprocess_input as preprocess_input
from se_keras.rewrite.optimize import optimize as optimize
from se_keras.support.errors import InputError as InputError
from se_keras.surgery.insertion import remove_se as remove_se
from se_keras.weights.convert import load_weights as load_weights
from se_keras.weights.convert import save_timm as save_timm
from se_keras.weights.preprocessing import Pixels as Pixels

__version__: str
__all__ = [
    "CMSEResNet101",
    "CMSEResNet152",
    "CMSEResNet18",
    "CMSEResNet34",
    "CMSEResNet50",
    "ECAResNet101D",
    "ECAResNet269D",
    "ECAResNet26T",
    "ECAResNet50D",
    "ECAResNet50T",
    "ECAResNetLight",
    "EffectiveSqueezeExcite",
    "EfficientChannelAttention",
    "GatherExcite",
    "InputError",
    "LegacySENet154",
    "LegacySEResNeXt101_32x4d",
    "LegacySEResNeXt26_32x4d",
    "LegacySEResNeXt50_32x4d",
    "LegacySEResNet101",
    "LegacySEResNet152",
    "LegacySEResNet18",
    "LegacySEResNet34",
    "LegacySEResNet50",
    "Pixels",
    "ResNetRS101",
    "ResNetRS152",
    "ResNetRS200",
    "ResNetRS270",
    "ResNetRS350",
    "ResNetRS420",
    "ResNetRS50",
    "SEBNInception",
    "SEInceptionResNetV2",
    "SEInceptionV3",
    "SEMobileNet",
    "SENet154",
    "SEResNeXt101D_32x8d",
    "SEResNeXt101_32x4d",
    "SEResNeXt101_32x8d",
    "SEResNeXt101_64x4d",
    "SEResNeXt26D_32x4d",
    "SEResNeXt26T_32x4d",
    "SEResNeXt50_32x4d",
    "SEResNeXtAA101D_32x8d",
    "SEResNeXtAA201D_32x8d",
    "SEResNet101",
    "SEResNet110",
    "SEResNet152",
    "SEResNet152D",
    "SEResNet164",
    "SEResNet18",
    "SEResNet20",
    "SEResNet200D",
    "SEResNet269D",
    "SEResNet32",
    "SEResNet34",
    "SEResNet44",
    "SEResNet50",
    "SEResNet50T",
    "SEResNet56",
    "SEResNetAA50D",
    "SEShuffleNet",
    "SEVGG16",
    "SEVGG16BN",
    "SEWRN16_8",
    "SpatialChannelSqueezeExcite",
    "SqueezeExcite",
    "count",
    "create",
    "decode_predictions",
    "export",
    "find_sites",
    "insert_se",
    "list_models",
    "load_image",
    "load_weights",
    "ops",
    "optimize",
    "pixels_of",
    "plot_excitations",
    "preprocess_input",
    "prune_se",
    "record_excitations",
    "remove_se",
    "save_timm",
    "se_block",
]

def create(
    model: str | Recipe,
    /,
    *,
    weights: str | PathLike | WeightSource | None = None,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    include_top: bool = True,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = ...,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    se: bool = True,
    ratio: int | None = ...,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = ...,
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = ...,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
    shortcut: str = "zeros",
    alpha: float = 1.0,
    depth_multiplier: int = 1,
) -> keras.Model: ...

def se_block(
    x: keras.KerasTensor,
    ratio: int = 16,
    name: str | None = None,
    *,
    reduced_channels: int | None = None,
    divisor: int = 1,
    pool: str = "avg",
    activation: str | Callable | None = "relu",
    gate_activation: str | Callable | None = "sigmoid",
    gate_scale: float = 1.0,
    use_bias: bool = True,
    data_format: str | None = None,
    kernel_initializer: Any = "he_normal",
    bias_initializer: Any = "zeros",
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    kernel_constraint: Any = None,
    bias_constraint: Any = None,
    dtype: Any = ...,
    trainable: bool = ...,
    autocast: bool = ...,
    activity_regularizer: Any = ...,
) -> keras.KerasTensor: ...

def insert_se(
    model: keras.Model,
    where: str | Iterable[str] | Callable[[keras.Layer], bool] | InsertionPlan = "auto",
    ratio: int | None = None,
    warm_start: bool = True,
    *,
    attention: str = "se",
    placement: str = "standard",
    stages: Collection[int] | None = None,
    skip_last_stage: bool = False,
    force: bool = False,
    reduced_channels: int | None = None,
    divisor: int = 1,
    pool: str = "avg",
    activation: str | Callable | None = "relu",
    gate_activation: str | Callable | None = "sigmoid",
    gate_scale: float = 1.0,
    use_bias: bool = True,
    kernel_initializer: Any = "he_normal",
    bias_initializer: Any = "zeros",
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    kernel_constraint: Any = None,
    bias_constraint: Any = None,
) -> keras.Model: ...

def find_sites(
    model: keras.Model,
    where: str | Iterable[str] | Callable[[keras.Layer], bool] = "auto",
    ratio: int | None = None,
    *,
    attention: str = "se",
    placement: str = "standard",
    stages: Collection[int] | None = None,
    skip_last_stage: bool = False,
    reduced_channels: int | None = None,
    divisor: int = 1,
    pool: str = "avg",
    activation: str | Callable | None = "relu",
    gate_activation: str | Callable | None = "sigmoid",
    gate_scale: float = 1.0,
    use_bias: bool = True,
    kernel_initializer: Any = "he_normal",
    bias_initializer: Any = "zeros",
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    kernel_constraint: Any = None,
    bias_constraint: Any = None,
) -> InsertionPlan: ...

def SEResNet18(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet18`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 11,779,624 trainable parameters; 1,814,161,408 multiply-adds per image.
    """

def SEResNet34(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet34`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 21,960,416 trainable parameters; 3,663,920,128 multiply-adds per image.
    """

def SEResNet50(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet50`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 28,088,024 trainable parameters; 4,091,699,200 multiply-adds per image.
    """

def SEResNet101(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet101`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 49,326,872 trainable parameters; 7,806,148,608 multiply-adds per image.
    """

def SEResNet152(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet152`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 66,821,848 trainable parameters; 11,520,204,800 multiply-adds per image.
    """

def SEResNet152D(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet152d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 256x256 pixels and 1000 classes.
    Size: 66,841,080 trainable parameters; 15,357,157,376 multiply-adds per image.
    """

def SEResNet50T(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet50t`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 28,104,720 trainable parameters; 4,299,728,896 multiply-adds per image.
    """

def SEResNetAA50D(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnetaa50d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 28,107,256 trainable parameters; 5,371,789,312 multiply-adds per image.
    """

def SEResNet200D(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet200d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 256x256 pixels and 1000 classes.
    Size: 71,855,096 trainable parameters; 19,921,084,416 multiply-adds per image.
    """

def SEResNet269D(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet269d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 256x256 pixels and 1000 classes.
    Size: 113,672,760 trainable parameters; 26,485,366,784 multiply-adds per image.
    """

def SEResNeXt26D_32x4d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnext26d_32x4d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 16,809,512 trainable parameters; 2,711,740,416 multiply-adds per image.
    """

def SEResNeXt26T_32x4d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnext26t_32x4d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 16,806,976 trainable parameters; 2,680,129,536 multiply-adds per image.
    """

def SEResNeXt50_32x4d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnext50_32x4d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 27,559,896 trainable parameters; 4,232,994,816 multiply-adds per image.
    """

def SEResNeXt101_32x4d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnext101_32x4d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 48,955,416 trainable parameters; 7,974,739,968 multiply-adds per image.
    """

def SEResNeXt101_64x4d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnext101_64x4d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 88,232,984 trainable parameters; 15,465,013,248 multiply-adds per image.
    """

def SEResNeXt101_32x8d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnext101_32x8d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 93,569,048 trainable parameters; 16,418,758,656 multiply-adds per image.
    """

def SEResNeXt101D_32x8d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnext101d_32x8d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 93,588,280 trainable parameters; 16,658,399,232 multiply-adds per image.
    """

def SEResNeXtAA101D_32x8d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnextaa101d_32x8d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 93,588,280 trainable parameters; 17,178,624,000 multiply-adds per image.
    """

def SEResNeXtAA201D_32x8d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnextaa201d_32x8d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 384x384 pixels and 1000 classes.
    Size: 149,394,904 trainable parameters; 100,711,505,920 multiply-adds per image.
    """

def ResNetRS50(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 4,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `resnetrs50`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 160x160 pixels and 1000 classes.
    Size: 35,691,912 trainable parameters; 2,278,629,376 multiply-adds per image.
    """

def ResNetRS101(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 4,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `resnetrs101`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 192x192 pixels and 1000 classes.
    Size: 63,618,696 trainable parameters; 6,012,157,952 multiply-adds per image.
    """

def ResNetRS152(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 4,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `resnetrs152`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 256x256 pixels and 1000 classes.
    Size: 86,621,576 trainable parameters; 15,527,886,848 multiply-adds per image.
    """

def ResNetRS200(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 4,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `resnetrs200`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 256x256 pixels and 1000 classes.
    Size: 93,209,992 trainable parameters; 20,093,386,752 multiply-adds per image.
    """

def ResNetRS270(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 4,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `resnetrs270`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 256x256 pixels and 1000 classes.
    Size: 129,861,448 trainable parameters; 26,950,189,056 multiply-adds per image.
    """

def ResNetRS350(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 4,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `resnetrs350`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 288x288 pixels and 1000 classes.
    Size: 163,956,168 trainable parameters; 43,493,793,792 multiply-adds per image.
    """

def ResNetRS420(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 4,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `resnetrs420`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 320x320 pixels and 1000 classes.
    Size: 191,891,656 trainable parameters; 63,942,344,704 multiply-adds per image.
    """

def ECAResNet26T(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "eca",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `ecaresnet26t`, a network of the catalog, with or without ECA blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    ECA blocks: Wang et al. 2019, arXiv 1910.03151.
    Made for: 256x256 pixels and 1000 classes.
    Size: 16,011,916 trainable parameters; 3,330,405,888 multiply-adds per image.
    """

def ECAResNet50T(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "eca",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `ecaresnet50t`, a network of the catalog, with or without ECA blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    ECA blocks: Wang et al. 2019, arXiv 1910.03151.
    Made for: 256x256 pixels and 1000 classes.
    Size: 25,573,814 trainable parameters; 5,612,148,480 multiply-adds per image.
    """

def ECAResNet50D(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "eca",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `ecaresnet50d`, a network of the catalog, with or without ECA blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    ECA blocks: Wang et al. 2019, arXiv 1910.03151.
    Made for: 224x224 pixels and 1000 classes.
    Size: 25,576,350 trainable parameters; 4,328,912,640 multiply-adds per image.
    """

def ECAResNet101D(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "eca",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `ecaresnet101d`, a network of the catalog, with or without ECA blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    ECA blocks: Wang et al. 2019, arXiv 1910.03151.
    Made for: 224x224 pixels and 1000 classes.
    Size: 44,568,563 trainable parameters; 8,041,220,864 multiply-adds per image.
    """

def ECAResNetLight(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "eca",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `ecaresnetlight`, a network of the catalog, with or without ECA blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    ECA blocks: Wang et al. 2019, arXiv 1910.03151.
    Made for: 224x224 pixels and 1000 classes.
    Size: 30,162,046 trainable parameters; 4,089,287,424 multiply-adds per image.
    """

def ECAResNet269D(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "eca",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `ecaresnet269d`, a network of the catalog, with or without ECA blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    ECA blocks: Wang et al. 2019, arXiv 1910.03151.
    Made for: 320x320 pixels and 1000 classes.
    Size: 102,093,077 trainable parameters; 41,364,716,288 multiply-adds per image.
    """

def SENet154(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `senet154`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 115,088,984 trainable parameters; 20,688,363,520 multiply-adds per image.
    """

def LegacySEResNet18(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `legacy_seresnet18`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 11,778,592 trainable parameters; 1,814,160,384 multiply-adds per image.
    """

def LegacySEResNet34(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `legacy_seresnet34`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 21,958,868 trainable parameters; 3,663,918,592 multiply-adds per image.
    """

def LegacySEResNet50(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `legacy_seresnet50`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 28,088,024 trainable parameters; 3,860,488,192 multiply-adds per image.
    """

def LegacySEResNet101(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `legacy_seresnet101`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 49,326,872 trainable parameters; 7,574,937,600 multiply-adds per image.
    """

def LegacySEResNet152(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `legacy_seresnet152`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 66,821,848 trainable parameters; 11,288,993,792 multiply-adds per image.
    """

def LegacySEResNeXt26_32x4d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `legacy_seresnext26_32x4d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 16,790,280 trainable parameters; 2,472,099,840 multiply-adds per image.
    """

def LegacySEResNeXt50_32x4d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `legacy_seresnext50_32x4d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 27,559,896 trainable parameters; 4,232,994,816 multiply-adds per image.
    """

def LegacySEResNeXt101_32x4d(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `legacy_seresnext101_32x4d`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 48,955,416 trainable parameters; 7,974,739,968 multiply-adds per image.
    """

def LegacySENet154(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `legacy_senet154`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 115,088,984 trainable parameters; 20,688,363,520 multiply-adds per image.
    """

def CMSEResNet18(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `cm_seresnet18`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 11,781,027 trainable parameters; 1,827,005,440 multiply-adds per image.
    """

def CMSEResNet34(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `cm_seresnet34`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 21,961,303 trainable parameters; 3,676,763,648 multiply-adds per image.
    """

def CMSEResNet50(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `cm_seresnet50`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 28,088,024 trainable parameters; 3,860,488,192 multiply-adds per image.
    """

def CMSEResNet101(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `cm_seresnet101`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 49,326,872 trainable parameters; 7,574,937,600 multiply-adds per image.
    """

def CMSEResNet152(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `cm_seresnet152`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 66,821,848 trainable parameters; 11,288,993,792 multiply-adds per image.
    """

def SEResNet20(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 10,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
    shortcut: str = "zeros",
) -> keras.Model:
    """Build `seresnet20`, a network of the catalog, with or without SE blocks.

    Network: A residual network for small images (He et al. 2015, arXiv 1512.03385, sec. 4.2).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 32x32 pixels and 10 classes.
    Size: 272,095 trainable parameters; 40,553,056 multiply-adds per image.
    """

def SEResNet32(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 10,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
    shortcut: str = "zeros",
) -> keras.Model:
    """Build `seresnet32`, a network of the catalog, with or without SE blocks.

    Network: A residual network for small images (He et al. 2015, arXiv 1512.03385, sec. 4.2).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 32x32 pixels and 10 classes.
    Size: 468,109 trainable parameters; 68,865,952 multiply-adds per image.
    """

def SEResNet44(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 10,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
    shortcut: str = "zeros",
) -> keras.Model:
    """Build `seresnet44`, a network of the catalog, with or without SE blocks.

    Network: A residual network for small images (He et al. 2015, arXiv 1512.03385, sec. 4.2).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 32x32 pixels and 10 classes.
    Size: 664,123 trainable parameters; 97,178,848 multiply-adds per image.
    """

def SEResNet56(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 10,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
    shortcut: str = "zeros",
) -> keras.Model:
    """Build `seresnet56`, a network of the catalog, with or without SE blocks.

    Network: A residual network for small images (He et al. 2015, arXiv 1512.03385, sec. 4.2).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 32x32 pixels and 10 classes.
    Size: 860,137 trainable parameters; 125,491,744 multiply-adds per image.
    """

def SEResNet110(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 10,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
    shortcut: str = "zeros",
) -> keras.Model:
    """Build `seresnet110`, a network of the catalog, with or without SE blocks.

    Network: A residual network for small images (He et al. 2015, arXiv 1512.03385, sec. 4.2).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 32x32 pixels and 10 classes.
    Size: 1,742,200 trainable parameters; 252,899,776 multiply-adds per image.
    """

def SEResNet164(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 10,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seresnet164`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 32x32 pixels and 10 classes.
    Size: 1,905,362 trainable parameters; 247,840,256 multiply-adds per image.
    """

def SEWRN16_8(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 10,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `sewrn16_8`, a network of the catalog, with or without SE blocks.

    Network: A residual network (He et al. 2015, arXiv 1512.03385, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 32x32 pixels and 10 classes.
    Size: 11,049,290 trainable parameters; 1,548,231,680 multiply-adds per image.
    """

def SEMobileNet(
    input_shape: tuple[int | None, ...] | None = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float | None = 0.001,
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `semobilenet`, a network of the catalog, with or without SE blocks.

    Network: MobileNetV1 (Howard et al. 2017, arXiv 1704.04861, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 4,718,044 trainable parameters; 569,220,096 multiply-adds per image.
    """

def SEVGG16(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.5,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `sevgg16`, a network of the catalog, with or without SE blocks.

    Network: VGG (Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 138,588,336 trainable parameters; 15,470,490,624 multiply-adds per image.
    """

def SEVGG16BN(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.5,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `sevgg16_bn`, a network of the catalog, with or without SE blocks.

    Network: VGG (Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 138,596,784 trainable parameters; 15,470,490,624 multiply-adds per image.
    """

def SEShuffleNet(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seshufflenet`, a network of the catalog, with or without SE blocks.

    Network: ShuffleNet (Zhang et al. 2017, arXiv 1707.01083, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 2,484,533 trainable parameters; 138,071,088 multiply-adds per image.
    """

def SEBNInception(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `sebn_inception`, a network of the catalog, with or without SE blocks.

    Network: BN-Inception (arXiv 1502.03167, Fig. 5) or Inception-v3 (arXiv 1512.00567, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 224x224 pixels and 1000 classes.
    Size: 11,931,622 trainable parameters; 2,033,239,424 multiply-adds per image.
    """

def SEInceptionV3(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seinception_v3`, a network of the catalog, with or without SE blocks.

    Network: BN-Inception (arXiv 1502.03167, Fig. 5) or Inception-v3 (arXiv 1512.00567, Table 1).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 299x299 pixels and 1000 classes.
    Size: 25,496,188 trainable parameters; 5,714,867,040 multiply-adds per image.
    """

def SEInceptionResNetV2(
    include_top: bool = True,
    weights: str | PathLike | WeightSource | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
    include_preprocessing: bool | str | Pixels = False,
    se: bool = True,
    ratio: int | None = 16,
    placement: str = "standard",
    se_stages: Collection[int] | None = None,
    se_options: Mapping[str, Any] | None = None,
    attention: str | None = "se",
    dtype: Any = None,
    data_format: str | None = None,
    dropout: float | None = 0.2,
    drop_path_rate: float = 0.0,
    output_stride: int | None = None,
    features_only: bool = False,
) -> keras.Model:
    """Build `seinception_resnet_v2`, a network of the catalog, with or without SE blocks.

    Network: Inception-ResNet-v2 (Szegedy et al. 2016, arXiv 1602.07261, Fig. 15).
    SE blocks: Hu et al. 2017, arXiv 1709.01507.
    Made for: 299x299 pixels and 1000 classes.
    Size: 64,387,444 trainable parameters; 13,164,289,376 multiply-adds per image.
    """
