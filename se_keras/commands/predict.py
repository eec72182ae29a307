"""`se-keras predict`: classify image files, and print or write the answers."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import chain
from pathlib import Path

from se_keras.commands.classifiers import (
    BATCH,
    PIXELS,
    SOURCES,
    Answer,
    Classifier,
    classify,
    load_classifier,
    pretrained_classifier,
)
from se_keras.folders import SUFFIXES, find_images
from se_keras.images import name_of
from se_keras.support.arguments import positive_integer
from se_keras.support.errors import InputError, shown
from se_keras.support.files import write_csv
from se_keras.support.progress import progress_style
from se_keras.support.tables import visible

BAR_WIDTH = 30


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `predict` to the commands."""
    parser = commands.add_parser(
        "predict",
        help="classify image files",
        description="Prints the most probable classes of each image.",
        epilog="If some images can't be read, their errors are printed to the standard error, the "
        "other images are classified, and the exit code is 2.",
        examples=(
            "se-keras predict runs/photos new.jpg 'more/*.jpg' --top 3",
            "se-keras predict --weights seresnet50.a1_in1k new.jpg",
        ),
    )
    parser.add_argument("path", metavar="MODEL", nargs="?", help=f"{SOURCES}; not with --weights")
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="image file, folder of images at any depth, or pattern such as 'photos/**/*.jpg'",
    )
    pretrained = parser.add_argument_group("model")
    pretrained.add_argument(
        "--weights",
        metavar="SOURCE",
        help="use a pretrained model instead of MODEL: a name such as seresnet50.a1_in1k, or "
        "hf://OWNER/REPO[@REVISION]; or, with --model, imagenet or a file",
    )
    pretrained.add_argument(
        "--model",
        metavar="NAME",
        help="network for --weights, as `se-keras list` names it",
    )
    pretrained.add_argument("--pixels", metavar="NAME", help=PIXELS)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--top", type=int, default=5, metavar="N", help="number of classes for each image"
    )
    output.add_argument(
        "--csv",
        type=csv_file,
        metavar="FILE",
        help="write the answers to a CSV file instead of printing them: a row for each image, "
        "with the columns file, class, probability, class_2, probability_2, ... up to --top",
    )
    parser.set_defaults(run=run)


def csv_file(text: str) -> Path:
    """Parse the path of a `.csv` file, which may not exist yet."""
    if not text.lower().endswith(".csv"):
        raise argparse.ArgumentTypeError(f"must be a .csv file, got {shown(text)}")
    return Path(text)


def run(parsed: argparse.Namespace) -> None:
    """Classify the images; print the answers, or write them to a file."""
    positive_integer("top", parsed.top)
    path, sources = parsed.path, parsed.images
    if parsed.weights is not None:
        images = _find([*filter(None, [path]), *sources])
        classifier = pretrained_classifier(parsed.weights, parsed.model, parsed.pixels)
    elif parsed.model is not None:
        raise InputError("--model needs --weights.")
    elif path is None:
        raise InputError("Give MODEL IMAGE..., or --weights SOURCE IMAGE....")
    else:
        images = _find(sources)
        classifier = load_classifier(Path(path), parsed.pixels)
    failed: list[InputError] = []
    answered = _answered(classifier, images, parsed.top, failed)
    if parsed.csv is None:
        found = dict(answered)
        print(show_predictions(list(found), list(found.values())), end="\n" * bool(found))
    elif rows := write_answers(parsed.csv, answered):
        print(f"{rows:,} image{'s' * (rows > 1)} in {parsed.csv}")
    _tell(failed, len(images))


def _find(sources: Sequence[str]) -> list[str]:
    """Find the images; report files that are left out.

    Raises:
        InputError: if there are no images.
    """
    images, left_out = find_images(sources)
    where = ", ".join(map(name_of, sources))
    if not images:
        raise InputError(f"{where} has no images ({', '.join(SUFFIXES)}). {left_out}".strip())
    if not any(map(os.path.lexists, images)):
        raise InputError(f"There is no image file {where}.")
    if left_out:
        print(left_out, file=sys.stderr)
    return images


def _answered(
    classifier: Classifier, images: Sequence[str], top: int, failed: list[InputError]
) -> Iterator[tuple[str, Answer]]:
    """Yield the readable images with their classes; show the progress."""
    with _bar(len(images)) as progress:
        for number, (image, answer) in enumerate(classify(classifier, images, top), start=1):
            if isinstance(answer, InputError):
                failed.append(answer)
            else:
                yield image, answer
            progress(number)


@contextmanager
def _bar(count: int) -> Iterator[Callable[[int], None]]:
    """Provide a function that shows progress on the standard error, if there are many images."""
    import keras

    if count <= BATCH:
        yield lambda done: None
        return
    with redirect_stdout(sys.stderr):
        bar = keras.utils.Progbar(count, unit_name="image", verbose=progress_style())

    def show(done: int) -> None:
        if done % BATCH == 0 or done == count:
            with redirect_stdout(sys.stderr):
                bar.update(done)

    yield show


def _tell(failed: Sequence[InputError], count: int) -> None:
    """Report the images that could not be read.

    Raises:
        InputError: if there are any.
    """
    if count == 1 and failed:
        raise failed[0]
    for error in failed:
        print(error, file=sys.stderr)
    if failed:
        rest = "the others are classified" if len(failed) < count else "none is classified"
        raise InputError(f"{len(failed):,} of {count:,} images can't be read; {rest}.")


def write_answers(path: Path, answered: Iterator[tuple[str, Answer]]) -> int:
    """Write a row for each image to a CSV file; return the number of rows.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from se_keras.commands.predict import write_answers
    >>> file = Path(tempfile.mkdtemp()) / "answers.csv"
    >>> write_answers(file, iter([("a.png", [("cat", 0.9), ("dog", 0.1)])]))
    1
    >>> print(file.read_text().strip())
    file,class,probability,class_2,probability_2
    a.png,cat,0.900000,dog,0.100000
    """
    first = next(answered, None)
    if first is None:
        return 0
    ranks = ["", *(f"_{rank}" for rank in range(2, len(first[1]) + 1))]
    header = ["file", *(f"{column}{rank}" for rank in ranks for column in ("class", "probability"))]
    count = 0

    def rows() -> Iterator[list[str]]:
        nonlocal count
        for image, answer in chain([first], answered):
            count += 1
            cells = ((name, f"{share:.6f}") for name, share in answer)
            yield [name_of(image), *chain.from_iterable(cells)]

    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, header, rows())
    return count


def predict(
    path: str | Path, images: Sequence[str | Path], *, pixels: str | None = None, top: int = 5
) -> list[list[tuple[str, float]]]:
    """Classify image files.

    Args:
        path: the folder of a run, a `.keras` file, or the output of `export`. Class names come from
            the exported file or from `report.json` in the same folder; without names, classes
            are numbered.
        images: image files.
        pixels: pixels that the model takes, instead of the pixels that it states: `"raw"` for
            0..255, or the name or source of the published weights that it was trained from.
        top: number of classes for each image, the most probable first.

    Returns:
        For each image its classes with their probabilities.

    Raises:
        InputError: if the path or an image can't be read (the message names it), or if the outputs
            of the model are not probabilities.
    """
    _check(images, top)
    return _classify_all(load_classifier(Path(path), pixels), images, top)


def predict_pretrained(
    weights: str,
    images: Sequence[str | Path],
    *,
    model: str | None = None,
    pixels: str | None = None,
    top: int = 5,
) -> list[list[tuple[str, float]]]:
    """Classify image files with pretrained weights.

    Args:
        weights: as in `se_keras.create`. Class names are ImageNet's, or the names in the
            `config.json` of another repository; without names, classes are numbered.
        images: image files.
        model: name in the catalog; `None` for the network that a repository of the hub names.
        pixels: pixels that the weights take: the name or source of the weights that they were
            trained from; `None` for published weights.
        top: number of classes for each image, the most probable first.

    Returns:
        For each image its classes with their probabilities.

    Raises:
        InputError: if the weights can't be loaded, do not fit or do not name their network, or if
            an image can't be read (the message names it).
    """
    _check(images, top)
    return _classify_all(pretrained_classifier(weights, model, pixels), images, top)


def _classify_all(classifier: Classifier, images: Sequence[str | Path], top: int) -> list[Answer]:
    answers = [answer for _, answer in classify(classifier, images, top)]
    for answer in answers:
        if isinstance(answer, InputError):
            raise answer
    return answers


def _check(images: Sequence[str | Path], top: int) -> None:
    positive_integer("top", top)
    for image in images:
        if not Path(image).is_file():
            raise InputError(f"There is no image file {image}.")


def show_predictions(
    images: Sequence[str | Path], predictions: Sequence[Sequence[tuple[str, float]]]
) -> str:
    """Return the classes of each image as text, with a bar for each class.

    Example:

    >>> from se_keras.commands.predict import show_predictions
    >>> print(show_predictions(["a.png"], [[("cat", 0.9), ("dog", 0.1)]]))
    a.png
      cat   90.0 %  ███████████████████████████
      dog   10.0 %  ███
    """
    width = max((len(visible(name)) for classes in predictions for name, _ in classes), default=0)
    lines = []
    for image, classes in zip(images, predictions, strict=True):
        lines.append(visible(name_of(image)))
        for name, share in classes:
            bar = "█" * round(share * BAR_WIDTH)
            percent = f"{share:6.1%}".replace("%", " %")
            lines.append(f"  {visible(name):{width}}  {percent}  {bar}".rstrip())
    return "\n".join(lines)
