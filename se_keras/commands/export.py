"""`se-keras export`: write a saved model for an inference engine."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.commands.model_files import model_file, open_model
from se_keras.images import name_of
from se_keras.support.errors import InputError
from se_keras.support.startup import load_tensorflow

if TYPE_CHECKING:
    import keras

    from se_keras.deploy.calibration import Samples


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `export` to the commands."""
    parser = commands.add_parser(
        "export",
        help="optimize a model and write it for an inference engine",
        description="Optimizes a model and writes it as a SavedModel or for ONNX Runtime, "
        "OpenVINO or LiteRT. Then loads the file and compares it with the Keras model.",
        epilog="OUT.report.json gets the printed results. Without --calibration, int8 "
        "quantizes only the weights.",
        examples=(
            "se-keras export runs/photos --format onnx",
            "se-keras export runs/photos -f onnx -p int8 --calibration photos",
        ),
    )
    parser.add_argument(
        "model", metavar="MODEL", help="folder of a run of `se-keras train`, or .keras file"
    )
    parser.add_argument(
        "-f",
        "--format",
        default="tf_saved_model",
        metavar="FORMAT",
        help="tf_saved_model, onnx, openvino or litert",
    )
    parser.add_argument(
        "-p",
        "--precision",
        default="float32",
        metavar="PRECISION",
        help="float32, bfloat16 (tf_saved_model and openvino) or int8 (all but tf_saved_model)",
    )
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        help="folder of images, of which at most 300 are used to compare the models and, for "
        "int8, to measure activations (default: compare on the test images of the run)",
    )
    parser.add_argument(
        "-o",
        "--out",
        dest="path",
        type=Path,
        metavar="OUT",
        help="file or folder to write (default: next to MODEL, such as model-int8.onnx)",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Export the model and print the comparison."""
    from se_keras.deploy.engines import find_engine

    file, engine = model_file(parsed.model), find_engine(parsed.format)
    engine.require()
    made_up = file.with_name(f"{file.stem}-{parsed.precision}{engine.suffix}")
    model = open_model(file)
    load_tensorflow()
    from se_keras.class_names import labels_of_run
    from se_keras.deploy.export import export

    names = [name for _, name in labels_of_run(file) or ()]
    shape: Any = getattr(model, "output_shape", None)
    is_classifier = isinstance(shape, tuple) and len(shape) == 2
    # The report in the folder may belong to another model.
    if not is_classifier or len(names) != max(shape[1], 2):
        names = []
    samples = _samples(model, file, parsed.calibration, names)
    path = parsed.path or made_up
    print(export(model, path, parsed.format, parsed.precision, samples, class_names=names or None))


def _samples(
    model: "keras.Model", file: Path, calibration: str | None, names: Sequence[str]
) -> "Samples | None":
    """Return the calibration samples; by default the test images of the run."""
    from se_keras.deploy.calibration import open_samples
    from se_keras.train.seen import find_seen, run_of

    run = run_of(file)
    if calibration is None:
        return None if run is None else _test_images(model, run)
    samples = open_samples(model, calibration, names)
    inside = [name_of(Path(os.path.relpath(x, calibration)).as_posix()) for x in samples.files]
    seen = None if run is None else find_seen(run, samples.files, inside)
    return replace(samples, trained_on=None if seen is None else seen.train)


def _test_images(model: "keras.Model", run: Path) -> "Samples | None":
    """Return the test images of a run; print a line and return `None` if they are missing."""
    from se_keras.deploy.calibration import samples_of_images
    from se_keras.pixels import pixels_of
    from se_keras.train.config import DEFAULTS, TrainConfig
    from se_keras.train.data import open_data
    from se_keras.train.run_files import read_settings_file
    from se_keras.train.seen import find_seen

    if pixels_of(model).unknown:
        return None
    settings = read_settings_file(run)
    data = settings.get("data", "")
    if data not in DEFAULTS and not Path(data).is_dir():
        print(f"The run's images in {data} are missing: the file is compared on other images.")
        return None
    config = TrainConfig(
        data=data, image_size=settings.get("image_size"), split=str(run / "split.csv")
    )
    try:
        test = open_data(config.completed()).test
        samples = samples_of_images(
            model, list(test.items), test.labels, "{} test images of the run"
        )
    except InputError as error:
        print(
            "The file is compared on other images, because the run's test images can't be used: "
            f"{error}"
        )
        return None
    seen = find_seen(run, samples.files, [])
    # If the data are not files, the test part has no image of the training part.
    return replace(samples, trained_on=seen.train if seen else 0)
