"""`se-keras explain`: show what the SE layers of a saved model do, and prune them."""

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from se_keras.commands.class_maps import MOST_MAPS, check_files, draw_maps, has_classes_of
from se_keras.commands.model_files import check_takes_images, model_file, open_model
from se_keras.support.arguments import share
from se_keras.support.errors import InputError
from se_keras.support.files import write_json, written_beside
from se_keras.support.startup import load_tensorflow
from se_keras.support.tables import format_table
from se_keras.support.timing import seconds_in_turn
from se_keras.train.config import DEFAULTS, TrainConfig
from se_keras.train.run_files import read_settings_file

if TYPE_CHECKING:
    import keras
    import numpy as np

    from se_keras.explain.pruning import PruningPlan
    from se_keras.explain.statistics import ExcitationStats
    from se_keras.train.data import ImageData

BATCH_SIZE = 32
# Gates with a variability below this value hardly vary.
LOW_VARIABILITY = 0.1
TIMED_IMAGES, TIMED_CALLS = 8, 15


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `explain` to the commands."""
    parser = commands.add_parser(
        "explain",
        help="show what the SE layers of a model do, and prune them",
        description="Runs a trained model on its training images and writes statistics of the "
        "gates (the factors by which SE layers scale the channels) for each layer, class and "
        "channel.",
        epilog="OUT gets report.txt (which is also printed), layers.csv, channels.csv, "
        "classes.png, spread.png and layers.png, and maps.png if gates differ between the places "
        "of an image. With --keep it also gets pruned.keras and "
        "report.json with the class names; with --cam it also gets cam.png.\n\n"
        "The variability of a gate is its standard deviation over the images, relative to the "
        "size of the gates. Its specificity is the share of its variance between the classes.",
        examples=(
            "se-keras explain runs/photos --out runs/explained",
            "se-keras explain runs/photos --out runs/pruned --keep 0.5 --cam new.jpg",
        ),
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder of a run, or .keras file of a model that takes raw pixels 0..255",
    )
    images = parser.add_argument_group("data")
    images.add_argument(
        "--data",
        metavar="DATA",
        help="name of a data set or folder of images, as in `se-keras train` (default: the data "
        "of the run)",
    )
    images.add_argument(
        "--pixels",
        metavar="NAME",
        help="pixel values that the model takes, as in `se-keras predict` (default: as stated in "
        "the model, else raw)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=Path, required=True, metavar="OUT", help="new folder for the results"
    )
    output.add_argument(
        "--keep",
        type=float,
        metavar="SHARE",
        help="prune: keep the SE layers whose gates vary most, this share of all (0 to 1). "
        "The others become constant factors in the layers before them. Accuracy and time are "
        "compared on the test images (default: prune nothing)",
    )
    output.add_argument(
        "--cam",
        nargs="*",
        metavar="IMAGE",
        help="draw class activation maps (Grad-CAM), which show the parts of an image that support "
        f"a class, for at most {MOST_MAPS} image files; without IMAGE, for the test images with "
        "the most confident wrong answers (default: no maps)",
    )
    parser.add_argument("--prune", action=_Renamed, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


class _Renamed(argparse.Action):
    """Refuse `--prune`, the misleading former name of `--keep`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        parser.error(f"--prune is now --keep, the share of SE layers to keep: --keep {values}.")


def run(parsed: argparse.Namespace) -> None:
    """Explain the model and print the report."""
    text = explain(
        parsed.model,
        parsed.out,
        data=parsed.data,
        keep=parsed.keep,
        cam=parsed.cam,
        pixels=parsed.pixels,
    )
    print(text)
    print(f"\nThe results are in {parsed.out}.")
    if parsed.keep is not None:
        pruned = parsed.out / "pruned.keras"
        print(f"Next: se-keras predict {pruned} IMAGE, or se-keras export {pruned}")


def explain(
    path: str | Path,
    out: str | Path,
    *,
    data: str | None = None,
    keep: float | None = None,
    cam: Sequence[str] | None = None,
    pixels: str | None = None,
) -> str:
    """Show what the SE layers of a saved model do, and prune them if `keep` is given.

    The statistics are measured on the training images. The cost of pruning is measured on the test
    images, which are used neither for training nor for the statistics.

    Args:
        path: the folder of a run, or a `.keras` file.
        out: a new folder for `layers.csv`, `channels.csv`, `classes.png`, `spread.png`,
            `layers.png` and `report.txt`; if gates differ between positions, also for `maps.png`;
            with `keep` also for `pruned.keras` and for `report.json` with the class names; with
            `cam` also for `cam.png`.
        data: as in `TrainConfig`; `None` for the data of the run.
        keep: the share of SE layers to keep, as in `prune_se`; `None` prunes nothing.
        cam: image files to draw class activation maps for; if empty, the test images with the most
            confident wrong answers; `None` draws no maps. If the model has no SE, or images are
            named without `data`, only the maps are written.
        pixels: pixels that the model takes, as in `predict`; `None` for the pixels that the model
            states, or else raw pixels 0..255. `pruned.keras` takes raw pixels.

    Returns:
        The text of `report.txt`.

    Raises:
        InputError: if the model or the data can't be read or don't fit each other, the model has no
            SE layer, `keep` is out of range, or `out` exists already.
    """
    folder = Path(out)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"`out`: {folder} exists already: choose another folder.")
    if keep is not None:
        share("keep", keep)
    check_files(cam or ())
    file = model_file(path)
    alone = bool(cam) and keep is None and data is None and not _is_of_run(file)
    config = None if alone else _data_config(file, data)
    model = _on_raw_pixels(open_model(file), file, pixels)
    load_tensorflow()
    if keep is not None:
        _check_pruning(model)
    has_gates = _has_gates(model, needed=keep is not None or cam is None)
    images = _images(model, file, config) if config else None
    from se_keras.train.data import image_errors

    with image_errors(), written_beside(folder) as partial:
        partial.mkdir()
        parts = _explain(model, images, partial, keep) if images and has_gates else []
        if cam is not None:
            parts.append(draw_maps(model, file, cam, images, partial))
        text = "\n\n".join(parts)
        (partial / "report.txt").write_text(text + "\n", "utf-8")
    return text


def _is_of_run(file: Path) -> bool:
    return "data" in read_settings_file(file.parent)


def _has_gates(model: "keras.Model", needed: bool) -> bool:
    """Return whether a model has SE layers.

    Raises:
        InputError: if it has no SE layers, but they are needed.
    """
    from se_keras.explain.record import gates_of_model
    from se_keras.graph import trace
    from se_keras.rewrite.squeeze_excite import find_gates

    graph = trace(model)
    return bool(gates_of_model(graph) if needed else find_gates(graph))


def _on_raw_pixels(model: "keras.Model", file: Path, pixels: str | None) -> "keras.Model":
    """Return the model with its normalization included, so that it takes raw pixels."""
    from se_keras.graph import trace
    from se_keras.pixels import gray_pixels, normalization_layer, pixels_named, pixels_of

    check_takes_images(getattr(model, "input_shape", None), file)
    takes = pixels_of(model) if pixels is None else pixels_named(pixels)
    if takes.mean is None:
        return model
    takes = gray_pixels(takes) if model.input_shape[-1] == 1 and takes.channels != 1 else takes
    graph = trace(model)
    (tensor,) = model.inputs
    graph.insert(normalization_layer(takes, "channels_last"), tensor)
    return graph.build()


def _data_config(file: Path, data: str | None) -> TrainConfig:
    """Return the settings that select the images: the settings of the run, or other `data`."""
    run = read_settings_file(file.parent)
    if data is None and "data" not in run:
        raise InputError(
            f"{file} is not in the folder of a run of `se-keras train`: name its images by `data`."
        )
    if data is None and run["data"] not in DEFAULTS and not Path(run["data"]).is_dir():
        raise InputError(f"The run's images in {run['data']} are missing: name them by `data`.")
    own = data is None and run.get("split")  # the file of this setting may have been deleted
    return TrainConfig(
        data=data or run["data"],
        image_size=run.get("image_size"),
        seed=run.get("seed", 0),
        split=str(file.parent / "split.csv") if own else None,
    )


def _images(model: "keras.Model", file: Path, config: TrainConfig) -> "ImageData":
    from se_keras.train.data import open_data, prepare

    _, height, width, channels = model.input_shape
    config = dataclasses.replace(config, image_size=height or config.image_size)
    images = open_data(config.completed())
    if width not in (None, images.size) or channels != images.channels:
        raise InputError(
            f"{file} must take images of {images.image_shape}, got {model.input_shape[1:]}."
        )
    # Show each training image whole and not in random crops.
    whole = dataclasses.replace(images.defaults, zoom=1.0)
    return prepare(dataclasses.replace(images, defaults=whole))


def _explain(
    model: "keras.Model", images: "ImageData", folder: Path, keep: float | None
) -> list[str]:
    """Write the statistics of the gates; return them as texts."""
    from se_keras.explain.plots import plot_excitations
    from se_keras.explain.pruning import plan_pruning
    from se_keras.explain.record import record_excitations
    from se_keras.train.data import test_batches

    training = dataclasses.replace(images, test=images.train)
    batches = test_batches(training, BATCH_SIZE)
    stats = record_excitations(model, batches, class_names=images.class_names)
    parts = [f"{len(images.train):,} training images\n\n{stats}", _in_words(stats)]
    stats.write_layers(folder / "layers.csv")
    stats.write_channels(folder / "channels.csv")
    plot_excitations(stats, path=folder)
    if keep is not None:
        plan = plan_pruning(model, stats, keep=keep)
        parts += [str(plan), *_warn_of_varying(plan)]
        parts += _compare_pruned(model, images, plan, folder)
    return parts


def _check_pruning(model: "keras.Model") -> None:
    """Refuse a model that can't be pruned before the long pass over the images."""
    if not isinstance(model.output_shape, tuple) or len(model.output_shape) != 2:
        raise InputError(
            "`keep`: the model must return scores of classes (N, classes), to measure the cost of "
            f"pruning, got {model.output_shape}."
        )


def _in_words(stats: "ExcitationStats") -> str:
    hardly = [layer.name for layer in stats.layers if layer.variability < LOW_VARIABILITY]
    specific = max(stats.layers, key=lambda layer: layer.specificity)
    lines = [
        f"Gates that hardly vary (variability below {LOW_VARIABILITY}; a constant could replace "
        f"them): {', '.join(hardly) or 'none; pruning would change what the model does'}.",
        f"Most specific to the classes: {specific.name}, with {specific.specificity:.0%} of its "
        "variance between them.",
    ]
    return "\n".join(lines)


# --- cost and gain of pruning --------------------------------------------------------------------


def _warn_of_varying(plan: "PruningPlan") -> list[str]:
    """Return a warning that names the removed layers whose gates vary."""
    gone = [layer for layer in plan.layers if not layer.keep]
    varying = [layer.name for layer in gone if layer.variability >= LOW_VARIABILITY]
    if not varying:
        return []
    return [
        f"Warning: the gates of {len(varying)} of the {len(gone)} removed layers have a "
        f"variability of {LOW_VARIABILITY} or more, so a constant can't replace them well: "
        f"{', '.join(varying)}."
    ]


def _compare_pruned(
    model: "keras.Model", images: "ImageData", plan: "PruningPlan", folder: Path
) -> list[str]:
    """Write the pruned model; return the comparison as texts."""
    from se_keras.counting import count

    new = plan.apply(model)
    new.save(folder / "pruned.keras")
    # `se-keras predict` reads the class names from there.
    names = images.class_names if has_classes_of(model, images) else ()
    write_json(folder / "report.json", {"class_names": names}, sealed=True)
    before, after = (_answers(each, images) for each in (model, new))
    counts = [count(each, images.image_shape) for each in (model, new)]
    rows = [
        ["parameters", *(counted.params for counted in counts), None],
        ["multiply-adds", *(counted.macs for counted in counts), None],
        _accuracy_row(model, images, before, after),
        _time_row(model, new, images),
    ]
    same = (before == after).mean()
    texts = [
        format_table(["", "before", "after", "ratio"], rows),
        f"The same class for {same:.2%} of {len(before):,} test images.",
    ]
    if has_classes_of(model, images):
        right, still = (answers == images.test.labels for answers in (before, after))
        texts += warn_of_cost(right, still, [counted.params for counted in counts])
    return texts


def warn_of_cost(before: "np.ndarray", after: "np.ndarray", parameters: Sequence[int]) -> list[str]:
    """Return a warning if pruning lowers the accuracy, with the saving and the significance.

    Args:
        before, after: whether the answer is right, for each test image.
        parameters: number of parameters before and after.

    Returns:
        One text; an empty list if the accuracy does not fall.
    """
    from se_keras.train.comparison import mcnemar

    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    if lost <= won:
        return []
    points = 100 * (lost - won) / len(before)
    saved = 1 - parameters[1] / parameters[0]
    return [
        f"Warning: pruning costs {points:.1f} points of accuracy, for {saved:.1%} of the "
        f"parameters. Of {len(before):,} test images, {lost:,} are right only before pruning and "
        f"{won:,} only after it; the probability of such a large difference by chance is "
        f"{mcnemar(lost, won):.2g} (McNemar's exact test)."
    ]


def _answers(model: "keras.Model", images: "ImageData") -> "np.ndarray":
    """Return the most probable class of each test image, (N,)."""
    from se_keras.train.data import test_batches

    scores = model.predict(test_batches(images, BATCH_SIZE), verbose=0)
    return scores.argmax(axis=1)


def _accuracy_row(
    model: "keras.Model", images: "ImageData", before: "np.ndarray", after: "np.ndarray"
) -> list[Any]:
    label = "accuracy, test images"
    if not has_classes_of(model, images):
        return [label, "other classes", "other classes", None]
    shares = ((answers == images.test.labels).mean() for answers in (before, after))
    return [label, *(f"{share:.2%}" for share in shares), None]


def _time_row(model: "keras.Model", new: "keras.Model", images: "ImageData") -> list[Any]:
    from se_keras.train.data import test_batches

    batch, _ = next(iter(test_batches(images, TIMED_IMAGES)))
    pixels = batch.numpy()
    for each in (model, new):
        each.jit_compile = False  # compiling a large network takes minutes, and most users do not
    calls = [functools.partial(each.predict_on_batch, pixels) for each in (model, new)]
    old, pruned = map(median, seconds_in_turn(calls, TIMED_CALLS))
    label = f"ms for {len(pixels)} images"
    return [label, f"{old * 1e3:.1f}", f"{pruned * 1e3:.1f}", f"{pruned / old:.2f}"]
