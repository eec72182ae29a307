"""`se-keras evaluate`: test a model on new images."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.commands.classifiers import BATCH, PIXELS, SOURCES, Classifier, load_classifier
from se_keras.folders import ClassFolder, for_each_image, list_classes
from se_keras.images import line_of, name_of
from se_keras.support.errors import InputError
from se_keras.support.files import write_json, written_beside
from se_keras.support.startup import load_tensorflow
from se_keras.support.tables import format_table

if TYPE_CHECKING:
    import numpy as np

    from se_keras.train.data import ImageData
    from se_keras.train.seen import Seen

# The number of classes (the worst ones) in the printed table; the file has all classes.
LISTED = 30
# Height and width of the images in mistakes.png.
SHOWN_SIZE = 224


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `evaluate` to the commands."""
    parser = commands.add_parser(
        "evaluate",
        help="test a model on new images",
        description="Tests a model on a folder of images. Prints accuracy, balanced accuracy and "
        "macro F1 with 95 % intervals, and precision and recall of each class. If DIR has a test "
        "folder, only its images are used. It also says how many images the run was trained on.",
        epilog="OUT gets evaluation.json, predictions.csv, confusion.png and mistakes.png.",
        examples=("se-keras evaluate runs/photos --data new_photos --out runs/new_photos",),
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=SOURCES,
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder with one folder of images for each class",
    )
    parser.add_argument(
        "--out",
        metavar="OUT",
        type=Path,
        help="new folder for the results (default: only print them)",
    )
    parser.add_argument("--pixels", metavar="NAME", help=PIXELS)
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Print the results, and write them to a folder if `--out` is given."""
    print(evaluate(parsed.model, parsed.data, out=parsed.out, pixels=parsed.pixels))
    if parsed.out:
        print(f"\nThe results are in {parsed.out}.")


def evaluate(
    path: str | Path, data: str | Path, *, out: str | Path | None = None, pixels: str | None = None
) -> str:
    """Test a model on the images of a folder.

    Args:
        path: the folder of a run, a `.keras` file, or the output of `export`.
        data: a folder that has a folder of images for each class. The names of the folders must be
            class names of the model; if the model has no names, it must have as many classes, in
            the same order.
        out: a new folder for `evaluation.json`, `predictions.csv`, `confusion.png` and
            `mistakes.png`; `None` writes nothing.
        pixels: as in `predict`.

    Returns:
        The results as text.

    Raises:
        InputError: if the model or an image can't be read, the classes do not fit, or `out`
            exists already.
    """
    if out is not None and Path(out).exists():
        raise InputError(f"`out`: {out} exists already: choose another folder.")
    found = list_classes(data)
    classifier = load_classifier(Path(path), pixels)
    load_tensorflow()
    images = _as_data(found, classifier)
    seen = _find_seen(Path(path), images)
    probabilities = _answer(classifier, list(images.test.items))
    if probabilities.ndim != 2 or probabilities.shape[1] != len(images.class_names):
        raise InputError(
            f"The model must return probabilities of {len(images.class_names)} classes, as in "
            f"{data}, got {probabilities.shape[1:]}."
        )
    from se_keras.train.metrics import measure

    figures = measure(images.test.labels, probabilities, images.class_names, seed=0)
    if out is not None:
        more = {"images_of_the_run": asdict(seen)} if seen else {}
        _write(Path(out), images, probabilities, figures | more)
    warning = str(seen or "")
    return "\n\n".join(filter(None, [warning, _in_words(figures)]))


def _find_seen(path: Path, images: "ImageData") -> "Seen | None":
    """Return how many of the images the model's run has used; `None` if it is unknown."""
    from se_keras.train.seen import find_seen, run_of

    run = run_of(path)
    if run is None:
        return None
    return find_seen(run, list(images.test.items), list(images.test.names))


def _as_data(found: ClassFolder, classifier: Classifier) -> "ImageData":
    """Return the images as the test part of a data set with the model's classes."""
    import numpy as np

    from se_keras.train.config import FOLDER_DEFAULTS
    from se_keras.train.data import ImageData, Split

    names = classifier.class_names or found.class_names
    if unknown := [name for name in found.class_names if name not in names]:
        raise InputError(
            f"{line_of(found.folder)} has the class {unknown[0]}, but the model's classes are "
            f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}."
        )
    numbers = np.array([names.index(name) for name in found.class_names])
    everything = Split(
        items=np.array(found.paths, object),
        labels=numbers[found.labels],
        names=np.array([name_of(Path(file).as_posix()) for file in found.files], object),
    )
    # The model may have been trained on images of the training part.
    tested = found.parts == "test" if "test" in found.parts else np.ones(len(everything), bool)
    none = everything.part(np.array([], int))
    return ImageData(
        class_names=tuple(names),
        channels=3,
        size=SHOWN_SIZE,
        train=none,
        validation=none,
        test=everything.part(np.flatnonzero(tested)),
        split="",
        defaults=FOLDER_DEFAULTS,
    )


def _answer(classifier: Classifier, paths: list[str]) -> "np.ndarray":
    """Return the probabilities of all images, (N, classes)."""
    import keras
    import numpy as np

    from se_keras.support.progress import progress_style

    answers = []
    bar = keras.utils.Progbar(len(paths), unit_name="image", verbose=progress_style())
    for start in range(0, len(paths), BATCH):
        some = paths[start : start + BATCH]
        pixels: dict[int, np.ndarray] = {}

        def read(number: int, some: list[str] = some, pixels: dict[int, Any] = pixels) -> None:
            pixels[number] = classifier.read(some[number])

        for_each_image(read, len(some))
        answers.append(classifier.answer([pixels[number] for number in range(len(some))]))
        bar.update(start + len(some))
    return np.concatenate(answers)


def _write(folder: Path, images: "ImageData", probabilities: "np.ndarray", figures: Any) -> None:
    from se_keras.train import report
    from se_keras.train.metrics import INTERVALS, confusion
    from se_keras.train.pictures import draw_confusion

    folder.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(folder) as partial:
        partial.mkdir()
        predicted = probabilities.argmax(axis=1)
        counts = confusion(images.test.labels, predicted, len(images.class_names))
        draw_confusion(counts, images.class_names, partial / "confusion.png")
        report.draw_worst(images, probabilities, partial / "mistakes.png")
        report.write_predictions(images, {"test": probabilities}, partial / "predictions.csv")
        write_json(partial / "evaluation.json", {"intervals": INTERVALS, **figures})


def _in_words(figures: dict[str, Any]) -> str:
    from se_keras.train.page import HEADLINES, between, percent

    totals: list[list[Any]] = [
        [text, percent(figures[name]), between(figures[f"{name}_interval"])]
        for name, text in HEADLINES.items()
        if name in figures
    ]
    error = percent(figures["expected_calibration_error"])
    totals.append(["expected calibration error", error, None])
    there = [row for row in figures["by_class"] if row["images"]]
    rows = [
        [
            row["class"],
            row["images"],
            percent(row["recall"]),
            between(row["recall_interval"]),
            "never" if row["precision"] is None else percent(row["precision"]),
        ]
        for row in sorted(there, key=lambda row: row["recall"])
    ]
    header = ["class", "images", "recall", "95 %", "precision"]
    tables = [
        format_table(["", f"{figures['images']:,} images", "95 %"], totals),
        format_table(header, rows[:LISTED]),
    ]
    return "\n\n".join(tables) + (
        f"\nand {len(rows) - LISTED:,} classes with a higher recall" if len(rows) > LISTED else ""
    )
