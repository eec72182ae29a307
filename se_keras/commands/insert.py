"""`se-keras insert`: squeeze-and-excitation into a saved model."""

import argparse

from se_keras.commands.model_files import open_model
from se_keras.commands.options import keras_file, numbers
from se_keras.support.errors import InputError
from se_keras.support.files import written_beside


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `insert` to the commands."""
    parser = commands.add_parser(
        "insert",
        help="put squeeze-and-excitation into a model",
        description="Puts SE into a saved model. Without --no-warm-start the new model computes "
        "what the old one does, until it is trained.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder of a run of `se-keras train`, or .keras file of a functional model",
    )
    parser.add_argument("-o", "--out", type=keras_file, metavar="OUT", help=".keras file to write")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    parser.add_argument(
        "--where",
        default="auto",
        metavar="WHERE",
        help="after what: auto, residual, concat, conv, pointwise, or a regular expression of "
        "layer names (default %(default)s)",
    )
    parser.add_argument(
        "--placement",
        choices=["standard", "pre", "post", "identity"],
        default="standard",
        help="where SE stands in a residual unit, as in the paper's Fig. 5 (default %(default)s)",
    )
    parser.add_argument(
        "--ratio",
        type=int,
        default=16,
        metavar="R",
        help="reduction ratio: C channels are squeezed to C/R units (default %(default)s)",
    )
    parser.add_argument(
        "--stages",
        type=numbers,
        metavar="S,S",
        help="only these stages, as the plan (--dry-run) numbers them",
    )
    parser.add_argument(
        "--skip-last-stage",
        action="store_true",
        help="no SE in the last stage, which has the lowest resolution",
    )
    parser.add_argument(
        "--no-warm-start",
        dest="warm_start",
        action="store_false",
        help="begin with the paper's initialization: gates near 0.5, not of exactly 1",
    )
    parser.add_argument(
        "--force", action="store_true", help="insert also where the model has SE already"
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Plan once; print the plan, or apply it and write the new model."""
    if parsed.out is None and not parsed.dry_run:
        raise InputError("Give the file to write with --out, or --dry-run.")
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
    print(f"{parsed.out}: SE at {len(plan.sites)} sites, {plan.parameters:,} parameters more")
