"""`se-keras insert`: insert squeeze-and-excitation into a saved model."""

import argparse

from se_keras.commands.model_files import open_model
from se_keras.commands.options import keras_file, numbers
from se_keras.support.errors import InputError
from se_keras.support.files import written_beside


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `insert` to the commands."""
    parser = commands.add_parser(
        "insert",
        help="insert squeeze-and-excitation into a model",
        description="Inserts SE into a saved model. The new model computes the same as the "
        "old one, unless --no-warm-start is given. Train it to use SE.",
        examples=(
            "se-keras insert model.keras --dry-run",
            "se-keras insert model.keras -o model-se.keras --ratio 8",
        ),
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder of a run of `se-keras train`, or .keras file of a functional model",
    )
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--out", type=keras_file, metavar="OUT", help=".keras file to write")
    output.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    places = parser.add_argument_group("places")
    places.add_argument(
        "--where",
        default="auto",
        metavar="WHERE",
        help="where to insert SE: auto, residual, concat, conv, pointwise, or a regular expression "
        "for the names of layers to insert it after",
    )
    places.add_argument(
        "--placement",
        choices=["standard", "pre", "post", "identity"],
        default="standard",
        help="position of SE in a residual unit, as in Fig. 5 of the paper",
    )
    places.add_argument(
        "--stages",
        type=numbers,
        metavar="S,S",
        help="insert only in these stages, as numbered by --dry-run (default: all)",
    )
    places.add_argument(
        "--skip-last-stage",
        action="store_true",
        help="insert nothing in the last stage, which has the lowest resolution",
    )
    places.add_argument(
        "--force", action="store_true", help="insert SE even if the model already has it"
    )
    layers = parser.add_argument_group("SE layers")
    layers.add_argument(
        "--ratio",
        type=int,
        default=16,
        metavar="R",
        help="reduction ratio: C channels are squeezed to C/R units",
    )
    layers.add_argument(
        "--no-warm-start",
        dest="warm_start",
        action="store_false",
        help="initialize as in the paper, with gates near 0.5 instead of exactly 1",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Plan once; print the plan, or apply it and write the new model."""
    if parsed.out is None and not parsed.dry_run:
        raise InputError("Give --out OUT, the file to write, or --dry-run.")
    model = open_model(parsed.model)
    from se_keras.surgery import find_sites

    plan = find_sites(
        model,
        parsed.where,
        parsed.ratio,
        placement=parsed.placement,
        stages=parsed.stages,
        skip_last_stage=parsed.skip_last_stage,
    )
    if parsed.dry_run:
        print(plan)
        return
    new = plan.apply(model, parsed.warm_start, force=parsed.force)
    with written_beside(parsed.out) as partial:
        new.save(partial)
    print(f"{parsed.out}: SE at {len(plan.sites)} sites, {plan.parameters:,} more parameters")
