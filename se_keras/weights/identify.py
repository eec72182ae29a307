"""The traits that tell networks of the same shapes apart, and the recipe of a file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from se_keras.layers import hidden_width, neighbors
from se_keras.models.recipes import RECIPES, Recipe, ResNetRecipe, SmallResNetRecipe

# A feature that tells networks apart -> its variant. Networks without the feature omit the key.
Traits = Mapping[str, str]
# The same for a file whose names leave several variants possible.
PossibleTraits = Mapping[str, str | tuple[str, ...]]
Shape = tuple[int, ...]

STEM_POOLS = {
    "both": "padded on both sides",
    "end": "padded at the end",
    "convolution": "a convolution",
    "average": "an average pool",
    None: "none",
}
STRIDES = {"1x1": "on the 1x1", "3x3": "on the 3x3", "pool": "an average pool after the 3x3"}
ENDS = {True: "with a ReLU before SE", False: "without a ReLU before SE"}
# The layers that show these traits.
TRAIT_LAYERS = (
    "stem_pool_pad",
    "stem_pool_conv",
    "stem_average_pool",
    "stage2_block1_relu2",
    "stage3_block1_conv1",
    "stage3_block1_conv2",
    "stage3_block1_conv3",
    "stage3_block1_pool",
    "stage3_block1_shortcut_pool",
    "stage3_block1_shortcut_pad",
    "final_norm",
)
NORMS = {True: "before its convolution", False: "after its convolution"}
SHORTCUTS = {
    "projection": "a convolution",
    "convolution": "a convolution",
    "pool": "an average pool and a convolution",
    "zeros": "zeros for the new channels",
}


def traits_of_layers(layers: Mapping[str, Mapping[str, Any]]) -> Traits:
    """Return the traits of a residual network, from the configurations of its layers by name."""
    pool = _stem_pool_of_layers(layers)
    conv1, conv2 = (layers.get(f"stage3_block1_conv{n}") for n in (1, 2))
    if conv1 is None or conv2 is None:
        return {"stem pool": STEM_POOLS[pool]}
    bottleneck = "stage3_block1_conv3" in layers
    stride = "1x1" if bottleneck and max(conv1["strides"]) > 1 else "3x3"
    shortcuts = {"pool": "pool", "pad": "zeros"}
    found = [s for part, s in shortcuts.items() if f"stage3_block1_shortcut_{part}" in layers]
    return _traits(
        stem_pool=pool,
        bottleneck=bottleneck,
        grouped=conv2["groups"] > 1,
        stride="pool" if "stage3_block1_pool" in layers else stride,
        relu_before_se="stage2_block1_relu2" in layers,
        shortcut=found[0] if found else "projection",
        preactivated="final_norm" in layers,
    )


def _stem_pool_of_layers(layers: Mapping[str, Mapping[str, Any]]) -> str | None:
    pad = layers.get("stem_pool_pad")
    if pad:
        return {0: "end", 1: "both"}[pad["padding"][0][0]]
    places = {"stem_pool_conv": "convolution", "stem_average_pool": "average"}
    return next((pool for layer, pool in places.items() if layer in layers), None)


def traits_of_recipe(recipe: ResNetRecipe) -> Traits:
    """Return the traits that the network of a recipe has."""
    return _traits(
        stem_pool=recipe.stem_pool,
        bottleneck=recipe.block.endswith("bottleneck"),
        grouped=recipe.groups > 1,
        stride="1x1" if recipe.stride_on_1x1 else "pool" if recipe.stride_by_pool else "3x3",
        relu_before_se=recipe.relu_before_se,
        shortcut=recipe.shortcut,
        preactivated=recipe.block.startswith("preactivated"),
    )


def _traits(
    *,
    stem_pool: str | None,
    bottleneck: bool,
    grouped: bool,
    stride: str,
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
        traits["stride of grouped units" if grouped else "stride of units"] = STRIDES[stride]
    elif not preactivated:
        traits["stride of basic units"] = STRIDES["pool" if stride == "pool" else "3x3"]
        traits["end of basic units"] = ENDS[relu_before_se]
    return traits


def traits_of_architecture(name: str | None) -> Traits:
    """Return the traits of timm's network of this name; none if it is not in the catalog.

    The twin without SE has the name of the row without "se".
    """
    rows = (row for row in RECIPES if isinstance(row, ResNetRecipe))
    row = next((row for row in rows if name in (row.name, row.name.removeprefix("se"))), None)
    if row is None:
        return {}
    # A name does not show the options that the user chooses when building the network.
    return {k: how for k, how in traits_of_recipe(row).items() if k not in row.own_options}


def differences(expected: PossibleTraits, found: Traits) -> list[tuple[str, str, str]]:
    """Return (trait, expected variants, found variant) for each trait that differs."""
    # Every network has a stem pool trait; other traits exist only in networks with the feature.
    choices = {what: (how,) if isinstance(how, str) else how for what, how in expected.items()}
    return [
        (what, " or ".join(ways), found[what])
        for what, ways in choices.items()
        if what in found and found[what] not in ways
    ]


# --- the recipe ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Sizes that identify a recipe within a naming scheme.

    Attributes:
        stem: channels of the stem's convolutions.
        depths: units in each stage.
        first_unit: shapes of the kernels of the first unit, HWIO.
        projects: whether a shortcut has a convolution.
        pools_by_convolution: whether a convolution replaces the stem's pool.
        preactivated: whether a normalization follows the last unit.
        attention: "se" or "eca"; `None` without either.
        se: hidden units (or kernel size) of the first SE (or ECA) block of each stage.
    """

    stem: tuple[int, ...]
    depths: tuple[int, ...]
    first_unit: tuple[Shape, ...]
    projects: bool
    pools_by_convolution: bool
    preactivated: bool
    attention: str | None
    se: tuple[int, ...]


def signature_of_shapes(shapes: Mapping[str, Shape]) -> Signature:
    """Return the signature of a network from the shapes of its variables by their paths."""
    stem = sorted(path for path in shapes if re.fullmatch(r"stem_conv\d*/kernel", path))
    unit = sorted(p for p in shapes if re.fullmatch(r"stage2_block1_conv\d/kernel", p))
    places = {match.groups() for match in map(_PLACE.match, shapes) if match}
    stages = [int(stage) for stage, _ in places]
    attention, sizes = _gates_of_shapes(shapes, sorted(set(stages)))
    return Signature(
        stem=tuple(shapes[path][-1] for path in stem),
        depths=tuple(stages.count(stage) for stage in sorted(set(stages))),
        first_unit=tuple(shapes[path] for path in unit),
        projects=any(path.endswith("_shortcut_conv/kernel") for path in shapes),
        pools_by_convolution="stem_pool_conv/kernel" in shapes,
        preactivated="final_norm/gamma" in shapes,
        attention=attention,
        se=sizes,
    )


def _gates_of_shapes(
    shapes: Mapping[str, Shape], stages: Sequence[int]
) -> tuple[str | None, tuple[int, ...]]:
    """Return the kind of gate in the units, and its size in the first unit of each stage."""
    for attention, (part, axis) in {"se": ("reduce", -1), "eca": ("conv", 0)}.items():
        names = [f"stage{stage}_block1_se/{part}/kernel" for stage in stages]
        sizes = tuple(shapes[name][axis] for name in names if name in shapes)
        if sizes:
            return attention, sizes
    return None, ()


_PLACE = re.compile(r"stage(\d+)_block(\d+)_")


def signature_of_recipe(recipe: ResNetRecipe, *, se: bool = True) -> Signature:
    """Return the signature of a recipe's network, with or without SE."""
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
    channels = [width * recipe.expansion for width in recipe.widths] if se else []
    sizes = {
        "se": (hidden_width(n, recipe.ratio, recipe.divisor) for n in channels),
        "eca": map(neighbors, channels),
    }
    return Signature(
        stem=recipe.stem_widths,
        depths=recipe.depths,
        first_unit=unit,
        projects=recipe.shortcut != "zeros",
        pools_by_convolution=recipe.stem_pool == "convolution",
        preactivated=recipe.block.startswith("preactivated"),
        attention=recipe.attention if se else None,
        se=tuple(sizes[recipe.attention]),
    )


def builders_that_fit(shapes: Mapping[str, Shape], traits: PossibleTraits) -> list[str]:
    """Return the calls of `create` whose networks take weights of these shapes.

    Args:
        shapes: shapes of the variables by their paths.
        traits: traits of the networks that the weights are for.
    """
    signature = signature_of_shapes(shapes)
    plain = "" if signature.se else ", se=False"
    rows = [
        f"create({recipe.name!r}{option}{plain})"
        for row in RECIPES
        for option, recipe in _variants(row)
        if _fits(recipe, signature, traits)
    ]
    attention = signature.attention
    if rows or attention is None:
        return rows
    return [
        f"create({recipe.name!r}{option}, attention={attention!r})"
        for row in RECIPES
        for option, recipe in _variants(row)
        if _fits(replace(recipe, attention=attention), signature, traits)
    ]


def _variants(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """Yield a row and its variants: the options that change its weights."""
    yield "", recipe
    if isinstance(recipe, SmallResNetRecipe):
        yield ", shortcut='projection'", replace(recipe, shortcut="projection")


def _fits(recipe: Recipe, signature: Signature, traits: PossibleTraits) -> bool:
    return (
        isinstance(recipe, ResNetRecipe)
        and signature_of_recipe(recipe, se=bool(signature.se)) == signature
        and not differences(traits, traits_of_recipe(recipe))
    )
