"""The table of networks: one recipe for each. Imports no keras, so that listing is fast.

`parameters` counts the trainable parameters, and `multiply_adds` convolutions and dense layers.
Both are for networks with SE (with biases), 1000 classes (10 for small images) and the recipe's
input size. Tests compare them with the built networks.
"""

import fnmatch
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from se_keras.support.arguments import (
    Check,
    check_fields,
    did_you_mean,
    number_from,
    one_of,
    plain_text,
    positive_integer,
    text,
)
from se_keras.support.errors import InputError, shown

# The keys of `se_keras.layers.GATES`, for code that does not import Keras.
ATTENTIONS = ("se", "eca", "ese", "scse", "ge")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The fields that every network has.

    Attributes:
        name: name in the catalog; timm's name if timm has the network.
        builder: name of the function that builds the network.
        input_size: default height and width of the input in pixels.
        smallest_size: smallest height and width that leave a pixel after the last layer.
        classes: default number of classes.
        ratio: reduction ratio r of the SE blocks.
        divisor: a divisor of the hidden width of SE blocks (timm's non-legacy networks: 8).
        attention: kind of the gates: a key of `se_keras.layers.GATES`.
        norm_epsilon: epsilon of the batch normalizations.
        dropout: dropout rate before the classifier.
        parameters: number of trainable parameters, set for every recipe of `RECIPES`.
        multiply_adds: multiply-adds for one image, set for every recipe of `RECIPES`.
    """

    # The positional arguments of a builder, in the order of keras.applications.
    positional: ClassVar[tuple[str, ...]] = (
        "include_top",
        "weights",
        "input_tensor",
        "input_shape",
        "pooling",
        "classes",
        "classifier_activation",
        "name",
    )
    # The fields that a user may change when building.
    own_options: ClassVar[tuple[str, ...]] = ()

    name: str
    builder: str
    input_size: int = 224
    smallest_size: int = 1
    classes: int = 1000
    ratio: int = 16
    divisor: int = 1
    attention: str = "se"
    norm_epsilon: float | None = None
    dropout: float = 0.0
    parameters: int | None = None
    multiply_adds: int | None = None


@dataclass(frozen=True, kw_only=True)
class ResNetRecipe(Recipe):
    """A residual network (He et al. 2015, arXiv 1512.03385, Table 1).

    Attributes:
        block: `"basic"`, `"bottleneck"`, or one of these with pre-activation (arXiv 1603.05027).
        depths: units in each stage.
        widths: channels of the 3x3 convolution in each stage, before `groups` widens it.
        groups, width_per_group: ResNeXt's cardinality and width (arXiv 1611.05431).
        reduce_first: divisor of the width of the first 1x1 (SENet-154: 2).
        stride_on_1x1: whether the stride is on the first 1x1 (He et al. 2015, the release of
            SE-ResNet) and not on the 3x3.
        stem: `"7x7"`, `"deep"` (three 3x3) or `"small"` (one 3x3, for small images).
        stem_widths: channels of each convolution of the stem.
        stem_pool: a 3x3/2 max-pool that is padded on `"both"` sides (He et al.) or at the `"end"`
            (Caffe's ceil mode); a 3x3/2 `"convolution"` with normalization and ReLU (ResNet-RS,
            arXiv 2103.07579); a 2x2 `"average"` pool; or `None` for no pool.
        stride_by_pool: whether a 2x2 average pool after the ReLU replaces the stride of a unit's
            3x3 (arXiv 1904.11486; timm's `aa_layer`). It needs `stem_pool="average"`.
        shortcut: the shortcut where the shape changes: a `"projection"` (1x1 and normalization), a
            `"convolution"` without normalization (pre-activation), an average `"pool"` before the
            projection (ResNet-D), or `"zeros"` for the new channels (He et al., option A).
        shortcut_kernel: kernel size of a projection with a stride.
        relu_before_se: whether a ReLU is between the last normalization and SE (released basic
            blocks).
        norm_input: whether a layer of the network normalizes the image, without a scale.
        always_shortcut: whether the first unit of each stage always has a shortcut layer.
    """

    block: str
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    groups: int = 1
    width_per_group: int = 64
    reduce_first: int = 1
    stride_on_1x1: bool = False
    stem: str = "7x7"
    stem_widths: tuple[int, ...] = (64,)
    stem_pool: str | None = "both"
    stride_by_pool: bool = False
    shortcut: str = "projection"
    shortcut_kernel: int = 1
    relu_before_se: bool = False
    norm_input: bool = False
    always_shortcut: bool = False

    def __post_init__(self):
        if self.stride_by_pool != (self.stem_pool == "average"):
            raise InputError(
                "`stride_by_pool=True` and `stem_pool='average'` must be used together, got "
                f"{self.stride_by_pool} and {self.stem_pool!r}."
            )
        if self.stride_by_pool and (self.stride_on_1x1 or self.block.startswith("preactivated")):
            raise InputError(
                "`stride_by_pool=True` needs units with a stride on a 3x3 before a ReLU, got "
                f"block={self.block!r} and stride_on_1x1={self.stride_on_1x1}."
            )

    @property
    def expansion(self) -> int:
        """Output channels of a unit for each channel of its 3x3."""
        return 4 if self.block.endswith("bottleneck") else 1


@dataclass(frozen=True, kw_only=True)
class SmallResNetRecipe(ResNetRecipe):
    """A residual network for small images (He et al. 2015, arXiv 1512.03385, sec. 4.2).

    Attributes:
        shortcut: the shortcut where the shape changes: `"zeros"` for the new channels (He et al.,
            option A), or a `"projection"` (1x1 and normalization; option B). By default the
            published weights choose it.
    """

    own_options: ClassVar[tuple[str, ...]] = ("shortcut",)

    shortcut: str = "zeros"

    def __post_init__(self):
        check_fields(self, {"shortcut": partial(one_of, choices=("zeros", "projection"))})


@dataclass(frozen=True, kw_only=True)
class MobileNetRecipe(Recipe):
    """MobileNetV1 (Howard et al. 2017, arXiv 1704.04861, Table 1).

    Attributes:
        alpha: width multiplier.
        depth_multiplier: output channels of a depthwise convolution for each input channel.
    """

    positional: ClassVar[tuple[str, ...]] = (
        "input_shape",
        "alpha",
        "depth_multiplier",
        "dropout",
        "include_top",
        "weights",
        "input_tensor",
        "pooling",
        "classes",
        "classifier_activation",
        "name",
    )
    own_options: ClassVar[tuple[str, ...]] = ("alpha", "depth_multiplier")

    alpha: float = 1.0
    depth_multiplier: int = 1

    def __post_init__(self):
        # alpha scales the 32 channels of the stem.
        checks: dict[str, Check] = {
            "alpha": partial(number_from, least=1 / 32),
            "depth_multiplier": positive_integer,
        }
        check_fields(self, checks)


@dataclass(frozen=True, kw_only=True)
class VGGRecipe(Recipe):
    """VGG (Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1).

    Attributes:
        depths: 3x3 convolutions in each stage.
        widths: channels of the convolutions in each stage.
        norm: whether batch normalization is between each convolution and its ReLU.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    norm: bool = False


@dataclass(frozen=True, kw_only=True)
class ShuffleNetRecipe(Recipe):
    """ShuffleNet (Zhang et al. 2017, arXiv 1707.01083, Table 1).

    Attributes:
        groups: number of groups of the 1x1 convolutions.
        stem_width: channels of the stem.
        depths: units in each stage, including the unit with stride 2.
        widths: output channels of each stage.
    """

    groups: int
    stem_width: int = 24
    depths: tuple[int, ...] = (4, 8, 4)
    widths: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class InceptionRecipe(Recipe):
    """BN-Inception (arXiv 1502.03167, Fig. 5) or Inception-v3 (arXiv 1512.00567, Table 1).

    Attributes:
        version: `"bn"` or `"v3"`.
    """

    version: str


@dataclass(frozen=True, kw_only=True)
class InceptionResNetRecipe(Recipe):
    """Inception-ResNet-v2 (Szegedy et al. 2016, arXiv 1602.07261, Fig. 15).

    Attributes:
        depths: residual units in each stage.
        scales: factors of the branches before the addition.
    """

    depths: tuple[int, ...]
    scales: tuple[float, ...]


# He et al. 2015, Table 1.
_18 = {"block": "basic", "depths": (2, 2, 2, 2)}
_34 = {"block": "basic", "depths": (3, 4, 6, 3)}
_26 = {"block": "bottleneck", "depths": (2, 2, 2, 2)}
_50 = {"block": "bottleneck", "depths": (3, 4, 6, 3)}
_101 = {"block": "bottleneck", "depths": (3, 4, 23, 3)}
_152 = {"block": "bottleneck", "depths": (3, 8, 36, 3)}
# timm resnet.py; the ResNet-RS are from arXiv 2103.07579.
_200 = {"block": "bottleneck", "depths": (3, 24, 36, 3)}
_269 = {"block": "bottleneck", "depths": (3, 30, 48, 8)}
_LIGHT = {"block": "bottleneck", "depths": (1, 1, 11, 3), "shortcut": "pool"}
_201 = {"block": "bottleneck", "depths": (3, 24, 36, 4)}
_270 = {"block": "bottleneck", "depths": (4, 29, 53, 4)}
_350 = {"block": "bottleneck", "depths": (4, 36, 72, 4)}
_420 = {"block": "bottleneck", "depths": (4, 44, 87, 4)}
_154 = {  # paper, sec. 5.1 (SENet-154)
    **_152,
    "groups": 64,
    "width_per_group": 4,
    "reduce_first": 2,
    "stem": "deep",
    "stem_widths": (64, 64, 128),
    "shortcut_kernel": 3,
    "dropout": 0.2,
}
_32X4D = {"groups": 32, "width_per_group": 4}
_64X4D = {"groups": 64, "width_per_group": 4}
_32X8D = {"groups": 32, "width_per_group": 8}
_D = {"stem": "deep", "stem_widths": (32, 32, 64), "shortcut": "pool"}
_T = {"stem": "deep", "stem_widths": (24, 32, 64), "shortcut": "pool"}
# timm resnet.py: stride on the 3x3, SE widths in multiples of 8.
_TIMM = {"divisor": 8}
_RS = {**_TIMM, **_D, "stem_pool": "convolution", "ratio": 4}
# The smallest size at which the maps before the three pools are even.
_AA = {**_TIMM, **_D, "stem_pool": "average", "stride_by_pool": True, "smallest_size": 31}
_ECA = {"attention": "eca"}
# The release (hujie-frank/SENet) as ported by Cadene, timm senet.py.
_RELEASE = {"stem_pool": "end", "dropout": 0.2, "relu_before_se": True}
_RELEASED_RESNET = {**_RELEASE, "stride_on_1x1": True}
# Networks of classification_models (qubvel) and its h5 files. Its ResNeXts and SENet-154 equal
# timm's seresnext50_32x4d, seresnext101_32x4d and senet154.
_CM = {"stride_on_1x1": True}  # models/senet.py: Cadene's units, He et al.'s stem
_CM_PREACTIVATED = {  # models/resnet.py: MXNet's ResNet
    "block": "preactivated_basic",
    "shortcut": "convolution",
    "always_shortcut": True,
    "norm_input": True,
    "norm_epsilon": 2e-5,
}
_SMALL_IMAGES: dict[str, Any] = {
    "input_size": 32,
    "classes": 10,
    "widths": (16, 32, 64),
    "stem": "small",
    "stem_widths": (16,),
    "stem_pool": None,
}


def _small_resnet(depth: int, parameters: int, multiply_adds: int) -> SmallResNetRecipe:
    # He et al. 2015, sec. 4.2: 6n + 2 layers; option A shortcuts.
    return SmallResNetRecipe(
        name=f"seresnet{depth}",
        builder=f"SEResNet{depth}",
        parameters=parameters,
        multiply_adds=multiply_adds,
        block="basic",
        depths=((depth - 2) // 6,) * 3,
        **_SMALL_IMAGES,
    )


_164 = {  # arXiv 1603.05027, sec. 4.1: 9n + 2 layers
    **_SMALL_IMAGES,
    "block": "preactivated_bottleneck",
    "depths": (18, 18, 18),
    "shortcut": "convolution",
}
_WRN_16_8 = {  # arXiv 1605.07146, Table 1: 6n + 4 layers, widths times 8
    **_SMALL_IMAGES,
    "block": "preactivated_basic",
    "depths": (2, 2, 2),
    "widths": (128, 256, 512),
    "shortcut": "convolution",
}


def _resnet(
    name: str, builder: str, parameters: int, multiply_adds: int, *parts: dict, **more
) -> ResNetRecipe:
    settings = {key: value for part in parts for key, value in part.items()}
    return ResNetRecipe(
        name=name,
        builder=builder,
        parameters=parameters,
        multiply_adds=multiply_adds,
        **settings,
        **more,
    )


RECIPES: tuple[Recipe, ...] = (
    _resnet("seresnet18", "SEResNet18", 11_779_624, 1_814_161_408, _18, _TIMM),
    _resnet("seresnet34", "SEResNet34", 21_960_416, 3_663_920_128, _34, _TIMM),
    _resnet("seresnet50", "SEResNet50", 28_088_024, 4_091_699_200, _50, _TIMM),
    _resnet("seresnet101", "SEResNet101", 49_326_872, 7_806_148_608, _101, _TIMM),
    _resnet("seresnet152", "SEResNet152", 66_821_848, 11_520_204_800, _152, _TIMM),
    _resnet(
        "seresnet152d", "SEResNet152D", 66_841_080, 15_357_157_376, _152, _TIMM, _D, input_size=256
    ),
    _resnet("seresnet50t", "SEResNet50T", 28_104_720, 4_299_728_896, _50, _TIMM, _T),
    _resnet("seresnetaa50d", "SEResNetAA50D", 28_107_256, 5_371_789_312, _50, _AA),
    _resnet(
        "seresnet200d", "SEResNet200D", 71_855_096, 19_921_084_416, _200, _TIMM, _D, input_size=256
    ),
    _resnet(
        "seresnet269d", "SEResNet269D", 113_672_760, 26_485_366_784, _269, _TIMM, _D, input_size=256
    ),
    _resnet(
        "seresnext26d_32x4d",
        "SEResNeXt26D_32x4d",
        16_809_512,
        2_711_740_416,
        _26,
        _TIMM,
        _D,
        _32X4D,
    ),
    _resnet(
        "seresnext26t_32x4d",
        "SEResNeXt26T_32x4d",
        16_806_976,
        2_680_129_536,
        _26,
        _TIMM,
        _T,
        _32X4D,
    ),
    _resnet(
        "seresnext50_32x4d", "SEResNeXt50_32x4d", 27_559_896, 4_232_994_816, _50, _TIMM, _32X4D
    ),
    _resnet(
        "seresnext101_32x4d", "SEResNeXt101_32x4d", 48_955_416, 7_974_739_968, _101, _TIMM, _32X4D
    ),
    _resnet(
        "seresnext101_64x4d", "SEResNeXt101_64x4d", 88_232_984, 15_465_013_248, _101, _TIMM, _64X4D
    ),
    _resnet(
        "seresnext101_32x8d", "SEResNeXt101_32x8d", 93_569_048, 16_418_758_656, _101, _TIMM, _32X8D
    ),
    _resnet(
        "seresnext101d_32x8d",
        "SEResNeXt101D_32x8d",
        93_588_280,
        16_658_399_232,
        _101,
        _TIMM,
        _D,
        _32X8D,
    ),
    _resnet(
        "seresnextaa101d_32x8d",
        "SEResNeXtAA101D_32x8d",
        93_588_280,
        17_178_624_000,
        _101,
        _AA,
        _32X8D,
    ),
    _resnet(
        "seresnextaa201d_32x8d",
        "SEResNeXtAA201D_32x8d",
        149_394_904,
        100_711_505_920,
        _201,
        _AA,
        _32X8D,
        {"stem_widths": (64, 64, 128)},
        input_size=384,
    ),
    _resnet("resnetrs50", "ResNetRS50", 35_691_912, 2_278_629_376, _50, _RS, input_size=160),
    _resnet("resnetrs101", "ResNetRS101", 63_618_696, 6_012_157_952, _101, _RS, input_size=192),
    _resnet("resnetrs152", "ResNetRS152", 86_621_576, 15_527_886_848, _152, _RS, input_size=256),
    _resnet("resnetrs200", "ResNetRS200", 93_209_992, 20_093_386_752, _200, _RS, input_size=256),
    _resnet("resnetrs270", "ResNetRS270", 129_861_448, 26_950_189_056, _270, _RS, input_size=256),
    _resnet("resnetrs350", "ResNetRS350", 163_956_168, 43_493_793_792, _350, _RS, input_size=288),
    _resnet("resnetrs420", "ResNetRS420", 191_891_656, 63_942_344_704, _420, _RS, input_size=320),
    _resnet(
        "ecaresnet26t", "ECAResNet26T", 16_011_916, 3_330_405_888, _26, _ECA, _T, input_size=256
    ),
    _resnet(
        "ecaresnet50t", "ECAResNet50T", 25_573_814, 5_612_148_480, _50, _ECA, _T, input_size=256
    ),
    _resnet("ecaresnet50d", "ECAResNet50D", 25_576_350, 4_328_912_640, _50, _ECA, _D),
    _resnet("ecaresnet101d", "ECAResNet101D", 44_568_563, 8_041_220_864, _101, _ECA, _D),
    _resnet("ecaresnetlight", "ECAResNetLight", 30_162_046, 4_089_287_424, _LIGHT, _ECA),
    _resnet(
        "ecaresnet269d",
        "ECAResNet269D",
        102_093_077,
        41_364_716_288,
        _269,
        _ECA,
        _D,
        input_size=320,
    ),
    _resnet("senet154", "SENet154", 115_088_984, 20_688_363_520, _154, _TIMM),
    _resnet(
        "legacy_seresnet18", "LegacySEResNet18", 11_778_592, 1_814_160_384, _18, _RELEASED_RESNET
    ),
    _resnet(
        "legacy_seresnet34", "LegacySEResNet34", 21_958_868, 3_663_918_592, _34, _RELEASED_RESNET
    ),
    _resnet(
        "legacy_seresnet50", "LegacySEResNet50", 28_088_024, 3_860_488_192, _50, _RELEASED_RESNET
    ),
    _resnet(
        "legacy_seresnet101", "LegacySEResNet101", 49_326_872, 7_574_937_600, _101, _RELEASED_RESNET
    ),
    _resnet(
        "legacy_seresnet152",
        "LegacySEResNet152",
        66_821_848,
        11_288_993_792,
        _152,
        _RELEASED_RESNET,
    ),
    _resnet(
        "legacy_seresnext26_32x4d",
        "LegacySEResNeXt26_32x4d",
        16_790_280,
        2_472_099_840,
        _26,
        _RELEASE,
        _32X4D,
    ),
    _resnet(
        "legacy_seresnext50_32x4d",
        "LegacySEResNeXt50_32x4d",
        27_559_896,
        4_232_994_816,
        _50,
        _RELEASE,
        _32X4D,
    ),
    _resnet(
        "legacy_seresnext101_32x4d",
        "LegacySEResNeXt101_32x4d",
        48_955_416,
        7_974_739_968,
        _101,
        _RELEASE,
        _32X4D,
    ),
    _resnet("legacy_senet154", "LegacySENet154", 115_088_984, 20_688_363_520, _154, _RELEASE),
    _resnet("cm_seresnet18", "CMSEResNet18", 11_781_027, 1_827_005_440, _18, _CM_PREACTIVATED),
    _resnet("cm_seresnet34", "CMSEResNet34", 21_961_303, 3_676_763_648, _34, _CM_PREACTIVATED),
    _resnet("cm_seresnet50", "CMSEResNet50", 28_088_024, 3_860_488_192, _50, _CM),
    _resnet("cm_seresnet101", "CMSEResNet101", 49_326_872, 7_574_937_600, _101, _CM),
    _resnet("cm_seresnet152", "CMSEResNet152", 66_821_848, 11_288_993_792, _152, _CM),
    _small_resnet(20, 272_095, 40_553_056),
    _small_resnet(32, 468_109, 68_865_952),
    _small_resnet(44, 664_123, 97_178_848),
    _small_resnet(56, 860_137, 125_491_744),
    _small_resnet(110, 1_742_200, 252_899_776),
    _resnet("seresnet164", "SEResNet164", 1_905_362, 247_840_256, _164),
    _resnet("sewrn16_8", "SEWRN16_8", 11_049_290, 1_548_231_680, _WRN_16_8),
    MobileNetRecipe(  # the layers of keras.applications, whose weights fit it without SE
        name="semobilenet",
        builder="SEMobileNet",
        norm_epsilon=1e-3,
        dropout=1e-3,
        parameters=4_718_044,
        multiply_adds=569_220_096,
    ),
    VGGRecipe(  # configuration D, the layers of keras.applications' VGG16
        name="sevgg16",
        builder="SEVGG16",
        smallest_size=32,
        depths=(2, 2, 3, 3, 3),
        dropout=0.5,
        parameters=138_588_336,
        multiply_adds=15_470_490_624,
    ),
    VGGRecipe(  # torchvision's vgg16_bn
        name="sevgg16_bn",
        builder="SEVGG16BN",
        smallest_size=32,
        depths=(2, 2, 3, 3, 3),
        norm=True,
        dropout=0.5,
        parameters=138_596_784,
        multiply_adds=15_470_490_624,
    ),
    ShuffleNetRecipe(  # 1x, g = 3
        name="seshufflenet",
        builder="SEShuffleNet",
        groups=3,
        widths=(240, 480, 960),
        parameters=2_484_533,
        multiply_adds=138_071_088,
    ),
    InceptionRecipe(  # hujie-frank/SENet, models/SE-BN-Inception.prototxt
        name="sebn_inception",
        builder="SEBNInception",
        version="bn",
        smallest_size=7,
        parameters=11_931_622,
        multiply_adds=2_033_239_424,
    ),
    InceptionRecipe(  # timm inception_v3.py; dropout of tensorflow/models, slim
        name="seinception_v3",
        builder="SEInceptionV3",
        version="v3",
        input_size=299,
        smallest_size=75,
        norm_epsilon=1e-3,
        dropout=0.2,
        parameters=25_496_188,
        multiply_adds=5_714_867_040,
    ),
    InceptionResNetRecipe(  # timm inception_resnet_v2.py; arXiv 1602.07261, Fig. 15: keep 0.8
        name="seinception_resnet_v2",
        builder="SEInceptionResNetV2",
        depths=(10, 20, 10),
        scales=(0.17, 0.10, 0.20),
        input_size=299,
        smallest_size=75,
        norm_epsilon=1e-3,
        dropout=0.2,
        parameters=64_387_444,
        multiply_adds=13_164_289_376,
    ),
)


def list_models(pattern: str = "*") -> list[Recipe]:
    """Return the recipes of the catalog whose name matches a pattern, in the table's order.

    Args:
        pattern: shell-style, such as `"*resnext*"`.

    Returns:
        The recipes; each has `.name`, `.builder`, `.parameters`, `.multiply_adds`, ...

    Example:

    >>> import se_keras
    >>> [recipe.name for recipe in se_keras.list_models("*mobile*")]
    ['semobilenet']
    """
    pattern = text("pattern", pattern)
    return [recipe for recipe in RECIPES if fnmatch.fnmatchcase(recipe.name, pattern)]


def find_recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        InputError: if there is none; the message suggests similar names.
    """
    given = plain_text(name)
    for recipe in RECIPES:
        if recipe.name == given:
            return recipe
    names = [recipe.name for recipe in RECIPES]
    raise InputError(
        f"`model` must be a model of the catalog, got {shown(name)}.{did_you_mean(name, names)} "
        "`se_keras.list_models()` returns all of them."
    )
