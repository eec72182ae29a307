"""`se-keras convert`: convert weights to a `.keras` file, or a model to a file for timm."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.commands.model_files import open_model
from se_keras.models.recipes import find_recipe
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import InputError, shown
from se_keras.support.files import written_beside
from se_keras.support.startup import load_keras

if TYPE_CHECKING:
    from se_keras.weights.convert import ConversionPlan


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `convert` to the commands."""
    parser = commands.add_parser(
        "convert",
        help="convert weights to a .keras file, or a model to a file for timm",
        description="With --model: builds a network, loads the weights, and writes a .keras file. "
        "With --to timm: writes a .safetensors file that timm's network of the same name takes.",
        examples=(
            "se-keras convert seresnet50.a1_in1k seresnet50.keras --model seresnet50",
            "se-keras convert runs/photos photos.safetensors --to timm",
        ),
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="with --model: imagenet, a name such as seresnet50.a1_in1k, "
        "hf://OWNER/REPO[@REVISION], or a file of weights, such as .safetensors, .pth, .weights.h5 "
        "or .keras; with --to timm: a .keras file or the folder of a run",
    )
    parser.add_argument("out", metavar="OUT", help="file to write")
    output = parser.add_argument_group("output")
    direction = output.add_mutually_exclusive_group(required=True)
    direction.add_argument(
        "--model", metavar="NAME", help="network to build, as `se-keras list` names it"
    )
    direction.add_argument("--to", choices=["timm"], help="library to write a file for")
    output.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    network = parser.add_argument_group("network, with --model")
    network.add_argument(
        "--classes",
        type=int,
        metavar="N",
        help="number of classes (default: as in SOURCE)",
    )
    network.add_argument(
        "--fresh-classifier",
        action="store_true",
        help="use a new, untrained classifier instead of the classifier in SOURCE",
    )
    network.add_argument(
        "--adapt-input",
        type=int,
        metavar="CHANNELS",
        help="number of channels of the images (default: 3)",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Convert, and print the plan."""
    if parsed.to is None:
        plan = _convert_to_keras(parsed)
    elif parsed.classes is not None or parsed.fresh_classifier or parsed.adapt_input is not None:
        raise InputError("--classes, --fresh-classifier and --adapt-input need --model, not --to.")
    else:
        plan = _convert_to_timm(parsed)
    tensors = f"{len(plan.assignments)} tensors, named as in {plan.scheme}"
    print(plan if parsed.dry_run else "\n".join([f"{parsed.out}: {tensors}", *plan.notes]))


def _convert_to_keras(parsed: argparse.Namespace) -> "ConversionPlan":
    if not parsed.out.endswith(".keras"):
        raise InputError(f"`out` must be a .keras file, got {shown(parsed.out)}.")
    recipe = find_recipe(parsed.model)
    load_keras()
    from se_keras.catalog import create_with_plan

    options: dict[str, Any] = {} if parsed.classes is None else {"classes": parsed.classes}
    if parsed.adapt_input is not None:
        channels = positive_integer("adapt_input", parsed.adapt_input)
        options["input_shape"] = _shape(parsed.source, recipe.name, channels)
    network, plan = create_with_plan(
        recipe,
        parsed.source,
        fresh_classifier=parsed.fresh_classifier,
        adapt_input=parsed.adapt_input is not None,
        **options,
    )
    if not parsed.dry_run:
        with written_beside(Path(parsed.out)) as partial:
            network.save(partial)
    return plan


def _shape(source: str, recipe: str, channels: int) -> tuple[int | None, ...]:
    """Return the shape of the images for some weights, with another number of channels."""
    import keras

    from se_keras.weights.source import parse_source

    size = parse_source(source, recipe).pixels.height_and_width or (None, None)
    first = keras.config.image_data_format() == "channels_first"
    return (channels, *size) if first else (*size, channels)


def _convert_to_timm(parsed: argparse.Namespace) -> "ConversionPlan":
    network = open_model(parsed.source)
    from se_keras.weights.convert import plan_for_timm, save_timm

    return plan_for_timm(network) if parsed.dry_run else save_timm(network, parsed.out)
