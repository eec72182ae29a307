"""`se-keras insert`: insert squeeze-and-excitation into a saved model."""

import argparse
import ast
from collections.abc import Mapping
from typing import Any

from se_keras.commands.model_files import open_model
from se_keras.commands.options import keras_file, numbers
from se_keras.models.recipes import ATTENTIONS
from se_keras.support.arguments import did_you_mean
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
            "se-keras insert model.keras -o model-eca.keras --attention eca",
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
        "--attention",
        choices=ATTENTIONS,
        default="se",
        help="kind of layer: se, or its kin eca, ese (effective SE), scse (concurrent spatial and "
        "channel SE) or ge (gather-excite)",
    )
    layers.add_argument(
        "--ratio",
        type=int,
        metavar="R",
        help="reduction ratio: C channels are squeezed to C/R units (default: 16; 2 for scse)",
    )
    layers.add_argument(
        "--option",
        type=_option,
        action="append",
        metavar="NAME=VALUE",
        help="further argument of the layers, such as pool=max, kernel_size=5 of eca, or "
        "extra_params=True of ge; may be given several times",
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
    from se_keras.layers import GATES
    from se_keras.surgery import find_sites

    options = dict(parsed.option or ())
    _refuse_other_options(parsed.attention, options)

    plan = find_sites(
        model,
        parsed.where,
        parsed.ratio,
        attention=parsed.attention,
        placement=parsed.placement,
        stages=parsed.stages,
        skip_last_stage=parsed.skip_last_stage,
        **options,
    )
    if parsed.dry_run:
        print(plan)
        return
    new = plan.apply(model, parsed.warm_start, force=parsed.force)
    with written_beside(parsed.out) as partial:
        new.save(partial)
    name = "SE" if plan.attention == "se" else GATES[plan.attention].__name__
    print(f"{parsed.out}: {name} at {len(plan.sites)} sites, {plan.parameters:,} more parameters")


def _refuse_other_options(attention: str, options: Mapping[str, Any]) -> None:
    from se_keras.layers import GATES, options_of, refuse_options_of_others

    refuse_options_of_others(attention, options)
    # The ratio has an option of its own, and the model says what its data format is.
    known = {*options_of(GATES[attention])} - {"ratio", "data_format"}
    for name in options.keys() - known:
        raise InputError(
            f"`option`: {GATES[attention].__name__} has no option {name!r}."
            + (did_you_mean(name, known) or f" It has {', '.join(sorted(known))}.")
        )


def _option(text: str) -> tuple[str, Any]:
    """Return the name and the value that a word like `pool=max` has."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return name, value
