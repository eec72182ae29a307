"""Draw class activation maps for `se-keras explain --cam`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_keras.images import line_of
from se_keras.support.arguments import did_you_mean
from se_keras.support.errors import InputError
from se_keras.support.files import neighbors
from se_keras.support.tables import format_table

if TYPE_CHECKING:
    import keras
    import numpy as np

    from se_keras.train.data import ImageData

# The largest number of images in one picture.
MOST_MAPS = 12
BATCH_SIZE = 32
# Pixels, names and classes (`None` if unknown) of some images.
Images = tuple[list["np.ndarray"], list[str], list[int | None]]


def check_files(files: Sequence[str]) -> None:
    """Refuse missing images, or too many images.

    Raises:
        InputError: if an image is missing (the message names it), or there are too many.
    """
    if len(files) > MOST_MAPS:
        raise InputError(f"`cam` must be at most {MOST_MAPS} images, got {len(files)}.")
    for name in files:
        if not Path(name).is_file():
            hint = did_you_mean(name, neighbors(name))
            raise InputError(f"`cam`: there is no image file {line_of(name)}.{hint}")


def draw_maps(
    model: "keras.Model",
    file: Path,
    files: Sequence[str],
    images: "ImageData | None",
    folder: Path,
) -> str:
    """Draw the maps of image files or of the worst test images; return the predictions as text.

    Args:
        model: a model that takes raw pixels.
        file: file of the model.
        files: image files; if empty, the worst test images are used.
        images: the data set; `None` if it is unknown.
        folder: folder to write `cam.png` to.

    Raises:
        InputError: if an image can't be read, the image size is unknown, or the model has no
            class activation maps.
    """
    import numpy as np

    from se_keras.support.plotting import shorten
    from se_keras.train.activation_maps import class_maps
    from se_keras.train.pictures import draw_class_maps

    given = _read(model, file, files, images) if files or images is None else _worst(model, images)
    pictures, names, labels = given
    pixels = np.stack(pictures).astype("float32")
    answers = model.predict_on_batch(pixels)
    taken = answers.argmax(axis=1)
    true = np.array([t if own is None else own for t, own in zip(taken, labels, strict=True)])
    for_taken, for_true = (class_maps(model, pixels, classes) for classes in (taken, true))
    classes = _class_names(file, images, answers.shape[1])
    maps, rows = [], []
    for number, (one, other) in enumerate(zip(taken, true, strict=True)):
        maps.append([(f"for {shorten(classes[one])}", for_taken[number])])
        if one != other:
            maps[-1].append((f"for its class, {shorten(classes[other])}", for_true[number]))
        own = "" if labels[number] is None else classes[other]
        share = f"{answers[number, one]:.1%}".replace("%", " %")
        rows.append([names[number], own, classes[one], share])
    draw_class_maps(pictures, maps, [Path(name).name for name in names], folder / "cam.png")
    table = format_table(["file", "class", "prediction", "probability"], rows)
    return f"Class activation maps, in cam.png:\n\n{table}"


def _read(
    model: "keras.Model", file: Path, files: Sequence[str], images: "ImageData | None"
) -> Images:
    from se_keras.images import read_image
    from se_keras.pixels import pixels_of

    _, height, width, channels = model.input_shape
    size: Any = height or (images and images.size) or pixels_of(model).size
    if not isinstance(size, int) or width not in (None, size):
        raise InputError(
            f"`cam`: {file} must take square images of one size, got {height}x{width}."
        )
    pictures = [read_image(name, size, channels) for name in files]
    return pictures, list(files), [None] * len(files)


def _worst(model: "keras.Model", images: "ImageData") -> Images:
    """Read the test images with the most confident wrong answers, as in `mistakes.png`."""
    from se_keras.train.data import read_whole, test_batches
    from se_keras.train.report import worst_mistakes

    if not has_classes_of(model, images):
        raise InputError("`cam`: the model and its data have different classes: name the images.")
    split = images.test
    answers = model.predict(test_batches(images, BATCH_SIZE), verbose=0)
    worst = worst_mistakes(split.labels, answers)[0][:MOST_MAPS]
    pictures = [read_whole(images, split.items[number]) for number in worst]
    return (
        pictures,
        [str(split.names[number]) for number in worst],
        [int(split.labels[number]) for number in worst],
    )


def has_classes_of(model: "keras.Model", images: "ImageData") -> bool:
    """Return whether a model has as many classes as a data set."""
    return model.output_shape[-1] == len(images.class_names)


def _class_names(file: Path, images: "ImageData | None", count: int) -> list[str]:
    from se_keras.class_names import labels_of_run

    of_run = [name for _, name in labels_of_run(file) or ()]
    for names in (images.class_names if images else (), of_run):
        if len(names) == count:
            return list(names)
    return [f"class {number}" for number in range(count)]
