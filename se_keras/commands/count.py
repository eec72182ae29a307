"""`se-keras count`: count parameters and multiply-adds of a saved model."""

import argparse

from se_keras.commands.model_files import open_model
from se_keras.commands.options import numbers


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `count` to the commands."""
    parser = commands.add_parser(
        "count",
        help="count parameters and multiply-adds of a model",
        description="Prints the parameters, multiply-adds and activations of each layer, for one "
        "image.",
        examples=(
            "se-keras count runs/photos",
            "se-keras count model.keras --input-shape 224,224,3",
        ),
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder of a run of `se-keras train`, or .keras file of a functional model",
    )
    parser.add_argument(
        "--input-shape",
        type=numbers,
        metavar="H,W,C",
        help="shape of one image (default: the input shape of the model)",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Print the table."""
    model = open_model(parsed.model)
    from se_keras.counting import count

    print(count(model, parsed.input_shape))
