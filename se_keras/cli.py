"""The command line: arguments in, calls out."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from se_keras import __version__, count, find_sites, insert_se, list_models
from se_keras.catalog import load_keras_model
from se_keras.support.errors import InputError, WrongResultError, as_input_error
from se_keras.support.files import written_beside
from se_keras.support.tables import format_table

STOPPED = 130  # what a shell gives for a process that Ctrl-C ended

# Those of `TrainConfig`.
SETTINGS = (
    (
        "--data",
        str,
        "DATA",
        "digits (default), fashion_mnist, cifar10, cifar100, or a folder with "
        "one folder of images for each class",
    ),
    ("--model", str, "NAME", "a name that `se-keras list` shows (default seresnet20)"),
    (
        "--image-size",
        int,
        "PIXELS",
        "height and width that images are brought to (default: as they "
        "are; for a folder what the model was made for, at least 64)",
    ),
    (
        "--epochs",
        int,
        "N",
        "passes over the training images (default: digits 20, cifar10 and cifar100 100, others 30)",
    ),
    (
        "--batch-size",
        int,
        "N",
        "images for one update, over all devices (default: digits 64, folder 32, others 128)",
    ),
    (
        "--lr",
        float,
        "RATE",
        "peak of the learning rate, which rises linearly over the first steps "
        "and falls as a cosine (default: folder 0.05, others 0.1, for the default batch size, and "
        "in proportion to it)",
    ),
    ("--weight-decay", float, "RATE", "decoupled weight decay, of kernels only (default 1e-4)"),
    (
        "--label-smoothing",
        float,
        "SHARE",
        "share of each target, 0 to below 1, that goes to all classes alike (default 0.1)",
    ),
    ("--seed", int, "N", "seed of split, initial weights, shuffles, augmentation (default 0)"),
    (
        "--precision",
        str,
        "P",
        "float32 (default), mixed_bfloat16 or mixed_float16",
    ),
    (
        "--accumulate",
        int,
        "N",
        "parts that each batch is computed in, one after the other, for less memory (default 1)",
    ),
    ("--clip-norm", float, "NORM", "largest norm of an update's gradient (default: no limit)"),
    (
        "--ema",
        float,
        "MOMENTUM",
        "test and save the moving average of the weights, such as 0.999 (default: the last ones)",
    ),
)
# Those of `Cluster`.
MACHINES = (
    (
        "--devices",
        int,
        "N",
        "devices that this process uses (default 1; with --coordinator all it has)",
    ),
    (
        "--coordinator",
        str,
        "HOST:PORT",
        "address of process 0, where all processes of a run meet; needs KERAS_BACKEND=jax",
    ),
    ("--process", int, "I", "with --coordinator: number of this process, from 0"),
    ("--processes", int, "N", "with --coordinator: how many processes there are"),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        # One line, without the usage before it.
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: of the command line; `None` for those of the process.

    Returns:
        The exit code: 0, 2 for bad input, 130 after Ctrl-C.
    """
    # A name that the terminal can't show is no reason to stop.
    sys.stdout.reconfigure(errors="replace")
    # Its warnings are about the calls of this package, which a user can't change.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (InputError, OSError, WrongResultError) as error:
        print(f"se-keras {parsed.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nse-keras: stopped", file=sys.stderr)
        return STOPPED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="se-keras",
        description="Squeeze-and-excitation (SE) networks for Keras: from a folder of images to a "
        "trained, explained, pruned and exported model.",
        epilog="`se-keras COMMAND --help` has the options of a command. A usual order: train, "
        "predict, explain, export.",
    )
    parser.add_argument("--version", action="version", version=f"se-keras {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_predict(commands)
    _add_list(commands)
    _add_count(commands)
    _add_convert(commands)
    _add_insert(commands)
    _add_explain(commands)
    _add_export(commands)
    _add_bench(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train",
        help="train a model on images and save it",
        description="Trains a model on images. Without options: SE-ResNet-20 on scikit-learn's "
        "handwritten digits, in about a minute, without a network.",
        epilog="A fifth of each class of a folder is held out as test images. OUT gets "
        "model.keras and saved_model/ (both take raw pixels 0..255), history.csv, curves.png, "
        "confusion.png and report.json.",
    )
    for name, kind, metavar, text in SETTINGS:
        # What is not given is not set: `TrainConfig` has the defaults.
        parser.add_argument(name, type=kind, metavar=metavar, help=text, default=argparse.SUPPRESS)
    parser.add_argument(
        "--sync-batch-norm",
        action="store_true",
        help="batch normalization with the statistics of all devices, as JAX always does",
    )
    for name, kind, metavar, text in MACHINES:
        parser.add_argument(name, type=kind, metavar=metavar, help=text)
    parser.add_argument(
        "--tensorboard", action="store_true", help="write what TensorBoard shows to OUT/tensorboard"
    )
    parser.add_argument(
        "--out", type=Path, metavar="OUT", help="folder of the run (default runs/DATA-MODEL)"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="go on after the last finished epoch of a stopped run",
    )
    again.add_argument("--overwrite", action="store_true", help="replace the run that is in OUT")
    parser.set_defaults(run=_train)


def _add_predict(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "predict",
        help="classify image files",
        description="Prints the likeliest classes of each image, with their probabilities.",
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        help="folder of a run of `se-keras train`, .keras file, or SavedModel folder; left out "
        "with --weights",
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image file")
    parser.add_argument(
        "--weights",
        metavar="SOURCE",
        help="pretrained: hf://OWNER/REPO[@REVISION], or, with --model, imagenet or a file",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="with --weights: a name that `se-keras list` shows"
    )
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="classes to print for each image (default 5)",
    )
    parser.set_defaults(run=_predict)


def _add_list(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "list",
        help="list the models",
        description="Prints the models with their trainable parameters and the multiply-adds of "
        "one image, both with SE, for the input size (pixels) and the number of classes that a "
        "model was made for. The builder is its function in Python.",
    )
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        nargs="?",
        default="*",
        help="only names that match, such as '*mobile*'",
    )
    parser.set_defaults(run=_list)


def _add_count(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "count",
        help="count parameters and multiply-adds of a model",
        description="Prints parameters, multiply-adds of one image and activations of a .keras "
        "file, layer by layer.",
    )
    parser.add_argument("path", metavar="FILE", help=".keras file of a functional model")
    parser.add_argument(
        "--input-shape",
        type=_numbers,
        metavar="H,W,C",
        help="shape of one image, where the model leaves it open",
    )
    parser.set_defaults(run=_count)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _add_convert(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert",
        help="make a .keras file of published weights, or a file for timm",
        description="Makes OUT, a .keras file, of weights and the network that they are for; or, "
        "with --to timm, a .safetensors file that timm's network of the same name takes.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="imagenet, hf://OWNER/REPO[@REVISION], or a .safetensors, .pth, .bin, .weights.h5 or "
        ".keras file; with --to timm a .keras file",
    )
    parser.add_argument("out", metavar="OUT", help="file to write")
    direction = parser.add_mutually_exclusive_group(required=True)
    direction.add_argument("--model", metavar="NAME", help="a name that `se-keras list` shows")
    direction.add_argument("--to", choices=["timm"], help="whose names the tensors get")
    parser.add_argument(
        "--classes",
        type=int,
        metavar="N",
        help="with --model: number of classes (default SOURCE's)",
    )
    parser.add_argument(
        "--fresh-classifier",
        action="store_true",
        help="with --model: leave out SOURCE's classifier, for training another",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    parser.set_defaults(run=_convert)


def _add_insert(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "insert",
        help="put squeeze-and-excitation into a model",
        description="Puts SE into the model of a .keras file. Without --no-warm-start the new "
        "model computes what the old one does, until it is trained.",
    )
    parser.add_argument("path", metavar="FILE", help=".keras file of a functional model")
    parser.add_argument("-o", "--out", type=_keras_file, metavar="OUT", help=".keras file to write")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    parser.add_argument(
        "--where",
        default="auto",
        metavar="WHERE",
        help="behind what: auto (default), residual, concat, conv, pointwise, or a regular "
        "expression of layer names",
    )
    parser.add_argument(
        "--placement",
        choices=["standard", "pre", "post", "identity"],
        default="standard",
        help="where SE stands in a residual unit, as in the paper's Fig. 5 (default standard)",
    )
    parser.add_argument(
        "--ratio",
        type=int,
        default=16,
        metavar="R",
        help="reduction ratio: C channels are squeezed to C/R units (default 16)",
    )
    parser.add_argument(
        "--stages",
        type=_numbers,
        metavar="S,S",
        help="only these stages, as the plan (--dry-run) numbers them",
    )
    parser.add_argument(
        "--skip-last-stage",
        action="store_true",
        help="no SE in the last stage, that of the lowest resolution",
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
    parser.set_defaults(run=_insert)


def _add_explain(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "explain",
        help="show what the SE layers of a model do, and take out those that hardly vary",
        description="Runs a trained model over its training images and writes statistics of all "
        "gates (the numbers that the SE layers multiply channels by): by layer, class and channel.",
        epilog="OUT gets report.txt, which is printed too, layers.csv, channels.csv, classes.png, "
        "spread.png and layers.png; with --prune also pruned.keras, and report.json with the names "
        "of its classes. variability: standard deviation of a gate over the images, relative to "
        "the gates' size; specificity: share of the variance that lies between the classes.",
    )
    parser.add_argument(
        "path",
        metavar="MODEL",
        help="folder of a run, or .keras file of a model that takes raw pixels 0..255",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="a folder of images or a name, as of `se-keras train` (default: that of the run)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="OUT", help="new folder for the results"
    )
    parser.add_argument(
        "--prune",
        type=float,
        metavar="KEEP",
        help="share of the SE layers that stay, 0 to 1: those whose gates vary most. The others "
        "become constants in the layers before them, and what that costs is measured on the test "
        "images",
    )
    parser.set_defaults(run=_explain)


def _add_export(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "export",
        help="write a model for another engine, optimized",
        description="Writes a model, optimized, as a SavedModel or for ONNX Runtime, OpenVINO or "
        "LiteRT; loads it back and compares it with the Keras model.",
        epilog="OUT.report.json gets what is printed. Without --calibration int8 is for weights "
        "alone.",
    )
    parser.add_argument(
        "path", metavar="MODEL", help="folder of a run of `se-keras train`, or .keras file"
    )
    parser.add_argument(
        "-f",
        "--format",
        default="tf_saved_model",
        metavar="FORMAT",
        help="tf_saved_model (default), onnx, openvino or litert",
    )
    parser.add_argument(
        "-p",
        "--precision",
        default="float32",
        metavar="PRECISION",
        help="float32 (default), bfloat16 (tf_saved_model, openvino) or int8 (all but "
        "tf_saved_model)",
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
        type=Path,
        metavar="OUT",
        help="file or folder to write (default: beside MODEL, such as model-int8.onnx)",
    )
    parser.set_defaults(run=_export)


def _add_bench(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure what SE costs, engine by engine",
        description="Times models against their plain twins (the same networks without SE), as "
        "built and optimized, in each engine and precision; models without SE layers of this "
        "package against themselves.",
        epilog="OUT gets a row as soon as it is measured; rows that it has are not measured again. "
        "Pictures go beside it.",
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        default=["seresnet50"],
        help="a name that `se-keras list` shows, one of keras.applications, or a .keras file "
        "(default seresnet50)",
    )
    for name, kind, text in (
        ("--formats", _words, "formats of `se-keras export` (default: all that are installed)"),
        ("--precisions", _words, "precisions of `se-keras export` (default: all)"),
        ("--batches", _numbers, "numbers of images at once (default 1,8,32)"),
        ("--sizes", _numbers, "image sizes in pixels (default: what a model was made for)"),
    ):
        # What is not given is not set: `plan_benchmark` has the defaults.
        parser.add_argument(name, type=kind, metavar="A,B", help=text, default=argparse.SUPPRESS)
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads that compute (default: one a core); with 1 processor time is measured, which "
        "depends less on what else the machine does",
    )
    parser.add_argument(
        "--rounds", type=int, default=15, metavar="N", help="turns of each network (default 15)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench.csv"),
        metavar="OUT",
        help="CSV file (default runs/bench.csv)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and measure nothing")
    parser.set_defaults(run=_bench)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _keras_file(text: str) -> Path:
    if not text.endswith(".keras"):
        raise argparse.ArgumentTypeError(f"must be a .keras file, got {text!r}")
    return Path(text)


def _train(parsed: argparse.Namespace) -> None:
    from se_keras.train import Cluster, TrainConfig, train

    given = dict(vars(parsed))
    del given["command"], given["run"]
    options = {name: given.pop(name) for name in ("out", "resume", "overwrite", "tensorboard")}
    places = ("devices", "coordinator", "process", "processes")
    cluster = Cluster(**{name: given.pop(name) for name in places})
    if train(TrainConfig(**given), cluster=cluster, **options):  # the first process
        print("Next: `se-keras predict`, `explain` and `export` take this folder.")


def _predict(parsed: argparse.Namespace) -> None:
    from se_keras.train.classify import predict, predict_pretrained, show_predictions

    images = parsed.images
    if parsed.weights is not None:
        images = images if parsed.path is None else [parsed.path, *images]
        predictions = predict_pretrained(parsed.weights, images, model=parsed.model, top=parsed.top)
    elif parsed.model is not None:
        raise InputError("--model goes with --weights")
    elif parsed.path is None:
        raise InputError("it takes PATH and IMAGE, or --weights SOURCE and IMAGE")
    else:
        predictions = predict(parsed.path, images, top=parsed.top)
    print(show_predictions(images, predictions))


def _list(parsed: argparse.Namespace) -> None:
    rows = list_models(parsed.pattern)
    if not rows:
        raise InputError(f"no model matches {parsed.pattern!r}; `se-keras list` shows them all")
    header = ("name", "pixels", "parameters", "multiply-adds", "builder")
    cells = [(r.name, r.input_size, r.parameters, r.multiply_adds, r.builder) for r in rows]
    print(format_table(header, cells))


def _count(parsed: argparse.Namespace) -> None:
    model = load_keras_model(parsed.path)
    with as_input_error(f"can't count {parsed.path}"):
        print(count(model, parsed.input_shape))


def _convert(parsed: argparse.Namespace) -> None:
    from se_keras.catalog import convert_to_keras, convert_to_timm

    if parsed.to is None:
        plan = convert_to_keras(
            parsed.source,
            parsed.out,
            model=parsed.model,
            classes=parsed.classes,
            fresh_classifier=parsed.fresh_classifier,
            dry_run=parsed.dry_run,
        )
    elif parsed.classes is not None or parsed.fresh_classifier:
        raise InputError("--classes and --fresh-classifier go with --model, not with --to")
    else:
        plan = convert_to_timm(parsed.source, parsed.out, dry_run=parsed.dry_run)
    tensors = f"{len(plan.assignments)} tensors, named as in {plan.scheme}"
    print(plan if parsed.dry_run else f"{parsed.out}: {tensors}")


def _insert(parsed: argparse.Namespace) -> None:
    if parsed.out is None and not parsed.dry_run:
        raise InputError("give the file to write with --out, or --dry-run")
    model = load_keras_model(parsed.path)
    names = ("where", "ratio", "placement", "stages", "skip_last_stage")
    choice = {name: getattr(parsed, name) for name in names}
    with as_input_error(f"can't insert SE into {parsed.path}"):
        plan = find_sites(model, **choice)
        if parsed.dry_run:
            print(plan)
            return
        new = insert_se(model, warm_start=parsed.warm_start, force=parsed.force, **choice)
    with written_beside(parsed.out) as partial:
        new.save(partial)
    print(f"{parsed.out}: SE at {len(plan.sites)} sites, {plan.parameters:,} parameters more")


def _explain(parsed: argparse.Namespace) -> None:
    from se_keras.commands.explain import explain

    print(explain(parsed.path, parsed.out, data=parsed.data, keep=parsed.prune))
    print(f"\nAll of it is in {parsed.out}")
    if parsed.prune is not None:
        pruned = parsed.out / "pruned.keras"
        print(f"Next: se-keras predict {pruned} IMAGE, or se-keras export {pruned}")


def _export(parsed: argparse.Namespace) -> None:
    from se_keras.deploy.export import export_file

    print(export_file(parsed.path, parsed.out, parsed.format, parsed.precision, parsed.calibration))


def _bench(parsed: argparse.Namespace) -> None:
    from benchmarks.bench import plan_benchmark, run_benchmark

    ours = ("command", "run", "models", "rounds", "out", "dry_run")
    choice = {name: value for name, value in vars(parsed).items() if name not in ours}
    plan = plan_benchmark(parsed.models, **choice)
    if parsed.dry_run:
        print(plan)
        return
    print(*plan.left_out, sep="\n", end="\n" if plan.left_out else "")
    report = run_benchmark(plan, parsed.out, parsed.rounds)
    print(report)
    print(*report.files, sep="\n")
    if report.failures:
        raise InputError("; ".join(report.failures))
