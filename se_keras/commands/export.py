"""`se-keras export`: a saved model as the file of an engine."""

import argparse
from pathlib import Path

from se_keras.commands.model_files import model_file, open_model


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `export` to the commands."""
    parser = commands.add_parser(
        "export",
        help="write a model for another engine, optimized",
        description="Writes a model, optimized, as a SavedModel or for ONNX Runtime, OpenVINO or "
        "LiteRT; loads it back and compares it with the Keras model.",
        epilog="OUT.report.json gets what is printed. Without --calibration int8 is for weights "
        "alone.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="folder of a run of `se-keras train`, or .keras file"
    )
    parser.add_argument(
        "-f",
        "--format",
        default="tf_saved_model",
        metavar="FORMAT",
        help="tf_saved_model, onnx, openvino or litert (default %(default)s)",
    )
    parser.add_argument(
        "-p",
        "--precision",
        default="float32",
        metavar="PRECISION",
        help="float32, bfloat16 (tf_saved_model, openvino) or int8 (all but tf_saved_model) "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        help="folder of images, of which at most 300 are taken, to measure activations on for int8 "
        "and to compare with",
    )
    parser.add_argument(
        "-o",
        "--out",
        dest="path",
        type=Path,
        metavar="OUT",
        help="file or folder to write (default: beside MODEL, such as model-int8.onnx)",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Export the model and print the comparison."""
    from se_keras.deploy.engines import find_engine

    file, engine = model_file(parsed.model), find_engine(parsed.format)
    engine.require()
    made_up = file.with_name(f"{file.stem}-{parsed.precision}{engine.suffix}")
    model = open_model(file)
    from se_keras.deploy.export import export

    print(
        export(model, parsed.path or made_up, parsed.format, parsed.precision, parsed.calibration)
    )
