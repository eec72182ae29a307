"""The table of variants: one row a network. Imports no keras, so that listing takes no time.

`parameters` are the trainable ones and `multiply_adds` those of convolutions and dense layers, both
with SE (biases included), 1000 classes (10 for small images) and the row's input size; tests hold
them to the built networks.
"""

import difflib
import fnmatch
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every row has.

    Attributes:
        name: catalogue name, timm's where timm has the network.
        builder: name of the function that builds it.
        input_size: height and width of the input, pixels, that the network was made for.
        classes: number of classes that it was made for.
        ratio: reduction ratio r of its SE blocks.
        divisor: their widths are rounded to a multiple of it (timm's non-legacy networks: 8).
        norm_epsilon: epsilon of the batch normalisations, where it is not the usual one.
        dropout: rate before the classifier.
        parameters: trainable parameters.
        multiply_adds: of one image.
    """

    # The arguments that a builder takes by position, in the order of keras.applications.
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
    classes: int = 1000
    ratio: int = 16
    divisor: int = 1
    norm_epsilon: float | None = None
    dropout: float = 0.0
    parameters: int
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class ResNetRecipe(Recipe):
    """A residual network (He et al. 2015, arXiv 1512.03385, Table 1).

    Attributes:
        block: `"basic"`, `"bottleneck"`, and both with pre-activation (arXiv 1603.05027).
        depths: units in each stage.
        widths: channels of the 3x3 convolution in each stage, before `groups` widens it.
        groups, width_per_group: ResNeXt's cardinality and width (arXiv 1611.05431).
        reduce_first: divides the width of the first 1x1 (SENet-154: 2).
        stride_on_1x1: the stride is on the first 1x1 (He et al. 2015, the release of SE-ResNet),
            not on the 3x3.
        stem: `"7x7"`, `"deep"` (three 3x3) or `"small"` (one 3x3, for small images).
        stem_widths: channels of each convolution of the stem.
        stem_pool: where the 3x3/2 max-pool is padded: `"both"` sides by one (He et al.), `"end"`
            (Caffe's ceil mode), or `None` for no pool.
        shortcut: where the shape changes: a `"projection"` (1x1 and normalisation), a
            `"convolution"` without (pre-activation), an average `"pool"` before the projection
            (ResNet-D), or `"zeros"` for the new channels (He et al., option A).
        shortcut_kernel: kernel of a projection with a stride.
        relu_before_se: a ReLU between the last normalisation and SE (released basic blocks).
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
    shortcut: str = "projection"
    shortcut_kernel: int = 1
    relu_before_se: bool = False

    @property
    def expansion(self) -> int:
        """Channels that a unit gives for each channel of its 3x3."""
        return 4 if self.block.endswith("bottleneck") else 1


@dataclass(frozen=True, kw_only=True)
class MobileNetRecipe(Recipe):
    """MobileNetV1 (Howard et al. 2017, arXiv 1704.04861, Table 1).

    Attributes:
        alpha: width multiplier.
        depth_multiplier: outputs of each depthwise convolution a channel.
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
        if not isinstance(self.alpha, int | float) or int(32 * self.alpha) < 1:
            raise ValueError(f"`alpha` must be a number of at least 1/32, got {self.alpha!r}.")
        if type(self.depth_multiplier) is not int or self.depth_multiplier < 1:
            raise ValueError(
                f"`depth_multiplier` must be a positive integer, got {self.depth_multiplier!r}."
            )


def _cifar(depth: int, parameters: int, multiply_adds: int) -> ResNetRecipe:
    # He et al. 2015, sec. 4.2: 6n + 2 layers; 16, 32, 64 channels; option A shortcuts.
    return ResNetRecipe(
        name=f"seresnet{depth}",
        builder=f"SEResNet{depth}",
        input_size=32,
        classes=10,
        block="basic",
        depths=((depth - 2) // 6,) * 3,
        widths=(16, 32, 64),
        stem="small",
        stem_widths=(16,),
        stem_pool=None,
        shortcut="zeros",
        parameters=parameters,
        multiply_adds=multiply_adds,
    )


RECIPES: tuple[Recipe, ...] = (
    ResNetRecipe(  # timm resnet.py, seresnet50: stride on the 3x3
        name="seresnet50",
        builder="SEResNet50",
        block="bottleneck",
        depths=(3, 4, 6, 3),
        divisor=8,
        parameters=28_088_024,
        multiply_adds=4_091_699_200,
    ),
    _cifar(20, 272_095, 40_553_056),
    _cifar(32, 468_109, 68_865_952),
    _cifar(44, 664_123, 97_178_848),
    _cifar(56, 860_137, 125_491_744),
    _cifar(110, 1_742_200, 252_899_776),
    MobileNetRecipe(  # the layers of keras.applications, whose weights fit the plain twin
        name="semobilenet",
        builder="SEMobileNet",
        norm_epsilon=1e-3,
        dropout=1e-3,
        parameters=4_718_044,
        multiply_adds=569_220_096,
    ),
)


def list_models(pattern: str = "*") -> list[Recipe]:
    """The rows of the catalogue whose name matches a pattern, in the table's order.

    Args:
        pattern: shell-style, such as `"*resnext*"`.

    Returns:
        The rows; each has `.name`, `.builder`, `.parameters`, `.multiply_adds`, ...

    Example:

    >>> import se_keras
    >>> [row.name for row in se_keras.list_models("*mobile*")]
    ['semobilenet']
    """
    return [recipe for recipe in RECIPES if fnmatch.fnmatchcase(recipe.name, pattern)]


def find_recipe(name: str) -> Recipe:
    """The row of this name.

    Raises:
        ValueError: if there is none; the message names those nearest to it.
    """
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    names = [recipe.name for recipe in RECIPES]
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"`name` must be a model of the catalogue, got {name!r}.{hint} "
        "`se_keras.list_models()` gives them all."
    )
