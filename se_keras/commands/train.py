"""`se-keras train`: train a model on images."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from se_keras.commands.options import add_fields, given_fields
from se_keras.support.signals import signal_of
from se_keras.support.startup import load_keras, load_tensorflow
from se_keras.train.config import GROUPS, Cluster, TrainConfig
from se_keras.train.run_files import SETTINGS, go_on
from se_keras.train.run_folder import (
    CHANGEABLE,
    check_folder,
    default_folder,
    epochs_done,
    read_settings,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `train` to the commands."""
    parser = commands.add_parser(
        "train",
        help="train a model on images and save it",
        usage="%(prog)s [OPTION ...]",
        description="Trains a model on images. Without options it trains SE-ResNet-20 on "
        "scikit-learn's handwritten digits, which takes about a minute and no download.",
        epilog="The validation images choose the best epoch. The test images are used once, at the "
        "end. OUT gets model.keras and saved_model/, which both take raw pixels 0..255, and "
        "report.html, a page about the run.",
        examples=(
            "se-keras train --data photos --weights seresnet50.a1_in1k --out runs/photos",
            "se-keras train --data cifar10 --model seresnet32 --epochs 50",
            "se-keras train --out runs/photos --resume",
        ),
    )
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    add_fields(groups, TrainConfig)
    add_fields(groups, Cluster)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=Path, metavar="OUT", help="folder of the run (default: runs/DATA-MODEL)"
    )
    output.add_argument(
        "--tensorboard", action="store_true", help="write logs for TensorBoard to OUT/tensorboard"
    )
    again = output.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in OUT after its last finished epoch, with its own settings; only "
        "--patience, --choose and --epochs (to a larger number) may be changed",
    )
    again.add_argument("--overwrite", action="store_true", help="replace the run in OUT")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Train, and print the next steps."""
    given = given_fields(parsed, TrainConfig)
    asked = TrainConfig(**given)
    cluster = Cluster(**given_fields(parsed, Cluster))
    folder = parsed.out or default_folder(asked)
    config = TrainConfig(**read_settings(folder) | given) if parsed.resume else asked
    config = config.completed()
    if not cluster.process:
        check_folder(folder, parsed.resume, parsed.overwrite)
    before = _version(folder / SETTINGS)
    try:
        report = _train(config, folder, cluster, parsed)
    except BaseException as error:
        if signal_of(error) and not cluster.process:
            is_begun = parsed.resume or _version(folder / SETTINGS) != before
            changes = {x: given[x] for x in CHANGEABLE if x in given and parsed.resume}
            print(f"\n{_how_to_go_on(folder, is_begun, changes)}", file=sys.stderr)
        raise
    if report:
        # Of several processes only the first gets here.
        print("Next: `se-keras predict`, `explain` and `export` take this folder.")


def _train(
    config: TrainConfig, folder: Path, cluster: Cluster, parsed: argparse.Namespace
) -> dict[str, Any]:
    load_keras()
    load_tensorflow()
    from se_keras.train.run import train

    return train(
        config,
        folder,
        resume=parsed.resume,
        overwrite=parsed.overwrite,
        cluster=cluster,
        tensorboard=parsed.tensorboard,
    )


def _version(file: Path) -> tuple[int, int] | None:
    """Return what differs between the versions of a file; `None` if there is no file."""
    with suppress(OSError, ValueError):
        return file.stat().st_ino, file.stat().st_mtime_ns
    return None


def _how_to_go_on(folder: Path, is_begun: bool, changes: dict[str, Any]) -> str:
    if not (is_begun and (folder / SETTINGS).exists()):
        return "The run has not started yet."
    done = epochs_done(folder)
    kept = f"{done} epoch{'s are' if done > 1 else ' is'} saved" if done else "No epoch is finished"
    options = (word for name, value in changes.items() for word in (f"--{name}", str(value)))
    return f"{kept}. To continue: {go_on(folder, *options)}"
