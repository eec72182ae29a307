"""What tells networks of the same shapes apart, and which recipe a file is of."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from se_keras.models.recipes import RECIPES, Recipe, ResNetRecipe, SmallResNetRecipe

# What is to be told apart -> how it is here. A network without a part lacks the entry.
Traits = Mapping[str, str]
Shape = tuple[int, ...]

STEM_POOLS = {"both": "padded on both sides", "end": "padded at the end", None: "none"}
STRIDES = {True: "on the 1x1", False: "on the 3x3"}
ENDS = {True: "with a ReLU before SE", False: "without a ReLU before SE"}
# The layers that tell them.
TRAIT_LAYERS = (
    "stem_pool_pad",
    "stage2_block1_relu2",
    "stage3_block1_conv1",
    "stage3_block1_conv2",
    "stage3_block1_conv3",
    "stage3_block1_shortcut_pool",
    "stage3_block1_shortcut_pad",
    "final_norm",
)
NORMS = {True: "before its convolution", False: "behind its convolution"}
SHORTCUTS = {
    "projection": "a convolution",
    "convolution": "a convolution",
    "pool": "an average pool and a convolution",
    "zeros": "zeros for the new channels",
}


def traits_of_layers(layers: Mapping[str, Mapping[str, Any]]) -> Traits:
    """Those of a residual network, from the configurations of its `TRAIT_LAYERS` by name."""
    pad = layers.get("stem_pool_pad")
    pool = {0: "end", 1: "both"}[pad["padding"][0][0]] if pad else None
    conv1, conv2 = (layers.get(f"stage3_block1_conv{n}") for n in (1, 2))
    if conv1 is None or conv2 is None:
        return {"stem pool": STEM_POOLS[pool]}
    shortcuts = {"pool": "pool", "pad": "zeros"}
    found = [s for part, s in shortcuts.items() if f"stage3_block1_shortcut_{part}" in layers]
    return _traits(
        stem_pool=pool,
        bottleneck="stage3_block1_conv3" in layers,
        grouped=conv2["groups"] > 1,
        stride_on_1x1=max(conv1["strides"]) > 1,
        relu_before_se="stage2_block1_relu2" in layers,
        shortcut=found[0] if found else "projection",
        preactivated="final_norm" in layers,
    )


def traits_of_recipe(recipe: ResNetRecipe) -> Traits:
    """Those that the network of a recipe has."""
    return _traits(
        stem_pool=recipe.stem_pool,
        bottleneck=recipe.block.endswith("bottleneck"),
        grouped=recipe.groups > 1,
        stride_on_1x1=recipe.stride_on_1x1,
        relu_before_se=recipe.relu_before_se,
        shortcut=recipe.shortcut,
        preactivated=recipe.block.startswith("preactivated"),
    )


def _traits(
    *,
    stem_pool: str | None,
    bottleneck: bool,
    grouped: bool,
    stride_on_1x1: bool,
    relu_before_se: bool,
    shortcut: str,
    preactivated: bool,
) -> Traits:
    traits = {
        "stem pool": STEM_POOLS[stem_pool],
        "shortcut": SHORTCUTS[shortcut],
        "normalization": NORMS[preactivated],
    }
    if bottleneck:
        traits["stride of grouped units" if grouped else "stride of units"] = STRIDES[stride_on_1x1]
    elif not preactivated:
        traits["end of basic units"] = ENDS[relu_before_se]
    return traits


def differences(expected: Traits, found: Traits) -> list[tuple[str, str, str]]:
    """(what, how it is expected, how it is) of all that differs."""
    # All know of their stem pool; else a trait is of networks that have the part.
    return [
        (what, how, found[what])
        for what, how in expected.items()
        if what in found and found[what] != how
    ]


# --- which recipe --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Sizes that no two recipes of a naming scheme share.

    Attributes:
        stem: channels of its convolutions.
        depths: units in each stage.
        first_unit: shapes of the kernels of the first unit, HWIO.
        projects: whether a shortcut has a convolution.
    """

    stem: tuple[int, ...]
    depths: tuple[int, ...]
    first_unit: tuple[Shape, ...]
    projects: bool


def signature_of_shapes(shapes: Mapping[str, Shape]) -> Signature:
    """From the shapes of variables by their paths."""
    stem = sorted(path for path in shapes if re.fullmatch(r"stem_conv\d*/kernel", path))
    unit = sorted(p for p in shapes if re.fullmatch(r"stage2_block1_conv\d/kernel", p))
    places = {match.groups() for match in map(_PLACE.match, shapes) if match}
    stages = [int(stage) for stage, _ in places]
    return Signature(
        stem=tuple(shapes[path][-1] for path in stem),
        depths=tuple(stages.count(stage) for stage in sorted(set(stages))),
        first_unit=tuple(shapes[path] for path in unit),
        projects=any(path.endswith("_shortcut_conv/kernel") for path in shapes),
    )


_PLACE = re.compile(r"stage(\d+)_block(\d+)_")


def signature_of_recipe(recipe: ResNetRecipe) -> Signature:
    """That of the network of a recipe (`se_keras.models.resnet`)."""
    stem, planes = recipe.stem_widths[-1], recipe.widths[0]
    unit: tuple[Shape, ...] = ((3, 3, stem, planes), (3, 3, planes, planes))
    if recipe.block.endswith("bottleneck"):
        width = planes * recipe.width_per_group // 64 * recipe.groups
        narrow = width // recipe.reduce_first
        unit = (
            (1, 1, stem, narrow),
            (3, 3, narrow // recipe.groups, width),
            (1, 1, width, planes * recipe.expansion),
        )
    return Signature(
        stem=recipe.stem_widths,
        depths=recipe.depths,
        first_unit=unit,
        projects=recipe.shortcut != "zeros",
    )


def has_se(shapes: Mapping[str, Shape]) -> bool:
    return any("_se/" in path for path in shapes)


def builders_that_fit(shapes: Mapping[str, Shape], traits: Traits) -> list[str]:
    """The calls of `create` whose networks take weights of these shapes.

    Args:
        shapes: of the variables by their paths.
        traits: of the networks that the weights are of.
    """
    signature = signature_of_shapes(shapes)
    plain = "" if has_se(shapes) else ", se=False"
    return [
        f"create({recipe.name!r}{option}{plain})"
        for row in RECIPES
        for option, recipe in _variants(row)
        if _fits(recipe, signature, traits)
    ]


def _variants(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """A row, and what it becomes by an option that changes which weights it has."""
    yield "", recipe
    if isinstance(recipe, SmallResNetRecipe):
        yield ", shortcut='projection'", replace(recipe, shortcut="projection")


def _fits(recipe: Recipe, signature: Signature, traits: Traits) -> bool:
    return (
        isinstance(recipe, ResNetRecipe)
        and signature_of_recipe(recipe) == signature
        and not differences(traits, traits_of_recipe(recipe))
    )
