"""Read the images of a data set, and feed them to the model.

`open_data` reads only labels and names. `prepare` then reads every image once, and keeps as many as
fit into memory. `training_batches` and `test_batches` give the model raw pixels (float32 in 0..255)
and one-hot labels.

If training uses random crops of each image (`Defaults.zoom`), images are read and kept as large
squares, and each crop is cut from its square and resized once. Squares with at most `DETAIL` times
the side that the smallest crop needs keep the file's pixels.
"""

import dataclasses
import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from se_keras.folders import for_each_image, list_classes
from se_keras.images import line_of, name_of, read_image
from se_keras.support.errors import InputError, extra, in_one_line
from se_keras.support.files import open_regular
from se_keras.support.progress import progress_style
from se_keras.train.augmentation import NO_MORE, Augmentation
from se_keras.train.config import DEFAULTS, Defaults, TrainConfig
from se_keras.train.duplicates import COPY_SIZE, Twin, find_twins, small_copy
from se_keras.train.splits import PARTS, check_counts, count_parts, divide, read_parts

# Decoded images stay in memory up to this size; the others are read again in each epoch.
CACHE_BYTES = 2**31
# Side of a kept square, relative to its smallest crop at the model's size. With this value, photos
# that are resized twice differ by one level on average from photos that are resized once.
DETAIL = 2
# Images that TensorFlow reads with one call of Python: a call costs as much as a small image.
READ_AT_ONCE = 32

CLASS_NAMES = {
    "fashion_mnist": "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot",
    "cifar10": "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
    # The fine labels, https://www.cs.toronto.edu/~kriz/cifar.html, in alphabetical order.
    "cifar100": "apple,aquarium_fish,baby,bear,beaver,bed,bee,beetle,bicycle,bottle,bowl,boy,"
    "bridge,bus,butterfly,camel,can,castle,caterpillar,cattle,chair,chimpanzee,"
    "clock,cloud,cockroach,couch,crab,crocodile,cup,dinosaur,dolphin,elephant,"
    "flatfish,forest,fox,girl,hamster,house,kangaroo,keyboard,lamp,lawn_mower,"
    "leopard,lion,lizard,lobster,man,maple_tree,motorcycle,mountain,mouse,mushroom,"
    "oak_tree,orange,orchid,otter,palm_tree,pear,pickup_truck,pine_tree,plain,plate,"
    "poppy,porcupine,possum,rabbit,raccoon,ray,road,rocket,rose,sea,seal,shark,"
    "shrew,skunk,skyscraper,snail,snake,spider,squirrel,streetcar,sunflower,"
    "sweet_pepper,table,tank,telephone,television,tiger,tractor,train,trout,tulip,"
    "turtle,wardrobe,whale,willow_tree,wolf,woman,worm",
}


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of each batch that one of several processes reads.

    Attributes:
        process: number of the process, from 0.
        processes: number of processes.

    Example:

    >>> first, second = (Share(process=number, processes=2) for number in range(2))
    >>> first.of(tf.range(8), batch_size=4).numpy().tolist()
    [0, 1, 4, 5]
    >>> second.of(tf.range(8), batch_size=4).numpy().tolist()
    [2, 3, 6, 7]
    """

    process: int = 0
    processes: int = 1

    def of(self, indices: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Return the indices for this process; `batch_size` is a multiple of `processes`."""
        batches = tf.reshape(indices, (-1, self.processes, batch_size // self.processes))
        return tf.reshape(batches[:, self.process], (-1,))


ALL = Share()


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One part of a data set.

    Attributes:
        items: sources of the images: a uint8 array (N, H, W, C), or N objects that are paths or
            uint8 images (H, W, C).
        labels: class numbers, (N,).
        names: names of the files relative to the data's folder, or numbers in the data set, (N,).
    """

    items: np.ndarray
    labels: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, indices: np.ndarray) -> "Split":
        return Split(
            items=self.items[indices], labels=self.labels[indices], names=self.names[indices]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData:
    """A data set, in its three parts.

    Attributes:
        class_names: names of the classes, by number.
        channels: 1 for gray images, 3 for color.
        size: height and width to which images are resized.
        train, validation, test: the parts.
        split: description of the split in words.
        left_out: a line on the files of a folder that are not images; empty if there are none.
        twins: images of a folder that are in two parts, found by `prepare`.
        defaults: defaults of the data set, with the augmentation.
    """

    class_names: tuple[str, ...]
    channels: int
    size: int
    train: Split
    validation: Split
    test: Split
    split: str
    left_out: str = ""
    twins: tuple[Twin, ...] = ()
    defaults: Defaults

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, self.channels)

    @property
    def parts(self) -> dict[str, Split]:
        """The parts by their names."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def counts(self) -> np.ndarray:
        """The number of images of each class (row) in each part (column)."""
        names = np.repeat(PARTS, [len(part) for part in self.parts.values()])
        labels = np.concatenate([part.labels for part in self.parts.values()])
        return count_parts(names, labels, len(self.class_names))


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A data set before the split.

    Attributes:
        everything: the images.
        class_names, channels, left_out: as in `ImageData`.
        own_parts: part of each image; empty if the data are not divided.
    """

    everything: Split
    class_names: tuple[str, ...]
    channels: int
    own_parts: np.ndarray
    left_out: str = ""


class ImageFile(str):  # noqa: SLOT000  (its slots would have no defaults)
    """The path of an image, with the state of the file when `fingerprint` read it.

    Attributes:
        state: size and time; `None` before the file was read.
        digest: SHA-256 of the content.
    """

    state: tuple[int, int] | None = None
    digest: bytes = b""

    def remember(self) -> None:
        """Read the file and remember its state."""
        self.state, self.digest = self._look()

    def check(self) -> None:
        """Refuse a file that has changed."""
        if self.state is not None and self._state() != self.state:
            self.state, digest = self._look()
            if digest != self.digest:
                name = line_of(self)
                raise InputError(
                    f"can't read the image {name}: it has changed since the run started."
                )

    def _state(self) -> tuple[int, int]:
        with self._named():
            found = os.stat(self)
        return found.st_size, found.st_mtime_ns

    def _look(self) -> tuple[tuple[int, int], bytes]:
        state = self._state()
        with self._named(), open_regular(self) as file:
            return state, hashlib.file_digest(file, "sha256").digest()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else in_one_line(error)
            raise InputError(f"can't read the image {line_of(self)}: {reason}.") from error


def open_data(config: TrainConfig) -> ImageData:
    """Find the data set that the settings name, and split it into three parts.

    Args:
        config: completed settings.

    Returns:
        The data; images of a folder are not read yet (see `prepare`).

    Raises:
        InputError: if the data set does not exist or can't be downloaded, or a folder does not have
            at least two classes with an image in each part.

    Example:

    >>> from se_keras.train.config import TrainConfig
    >>> data = open_data(TrainConfig(data="digits").completed())
    >>> [len(part) for part in data.parts.values()], data.image_shape
    ([1169, 269, 359], (8, 8, 1))
    """
    if config.data == "digits":
        source = _digits()
    elif config.data in DEFAULTS:
        source = _keras_dataset(config.data)
    else:
        source = _folder(Path(config.data))
    everything = source.everything
    parts, text = _divide(source, config)
    check_counts(
        count_parts(parts, everything.labels, len(source.class_names)),
        source.class_names,
        line_of(config.data),
    )
    assert config.image_size is not None  # the settings are completed
    splits: dict[str, Any] = {
        part: everything.part(np.flatnonzero(parts == part)) for part in PARTS
    }
    return ImageData(
        class_names=source.class_names,
        channels=source.channels,
        size=config.image_size,
        **splits,
        split=text,
        left_out=source.left_out,
        defaults=config.defaults,
    )


def _divide(source: Source, config: TrainConfig) -> tuple[np.ndarray, str]:
    everything = source.everything
    if config.split is None:
        return divide(source.own_parts, everything.labels, config.seed)
    classes = [source.class_names[label] for label in everything.labels]
    parts = read_parts(Path(config.split), list(everything.names), classes)
    return parts, f"as in {config.split}"


def _digits() -> Source:
    with extra("train"):
        from sklearn.datasets import load_digits
    digits = load_digits()
    # Their pixels are 0..16.
    images = np.round(digits.images * (255 / 16)).astype("uint8")[..., np.newaxis]
    return Source(
        everything=Split(items=images, labels=digits.target, names=_numbers(len(images))),
        class_names=tuple("0123456789"),
        channels=1,
        own_parts=np.array([], str),
    )


def _keras_dataset(name: str) -> Source:
    try:
        (train_images, train_labels), (test_images, test_labels) = getattr(
            keras.datasets, name
        ).load_data()
    except Exception as error:
        # Keras raises a bare `Exception` if a download fails.
        raise InputError(
            f"`data`: {name} is not in Keras' cache, and the download failed "
            f"({in_one_line(error)}). Run keras.datasets.{name}.load_data() on a machine with a "
            "network, and copy its ~/.keras/datasets to this one. `--data digits` needs no network."
        ) from error
    images = np.concatenate([train_images, test_images])
    images = images if images.ndim == 4 else images[..., np.newaxis]
    labels = np.concatenate([train_labels, test_labels]).ravel().astype(int)
    return Source(
        everything=Split(items=images, labels=labels, names=_numbers(len(images))),
        class_names=tuple(CLASS_NAMES[name].split(",")),
        channels=images.shape[-1],
        own_parts=np.repeat(["train", "test"], [len(train_images), len(test_images)]),
    )


def _numbers(count: int) -> np.ndarray:
    return np.array([str(number) for number in range(count)], object)


def _folder(folder: Path) -> Source:
    found = list_classes(folder)
    everything = Split(
        items=_objects(list(map(ImageFile, found.paths))),
        labels=found.labels,
        names=np.array([name_of(Path(file).as_posix()) for file in found.files], object),
    )
    own = np.array([{"val": "validation"}.get(part, part) for part in found.parts], str)
    return Source(
        everything=everything,
        class_names=found.class_names,
        channels=3,
        own_parts=own,
        left_out=str(found.left_out),
    )


def fingerprint(data: ImageData) -> str:
    """Return a hash of the images, their names, their classes and their parts.

    It does not depend on the place of the folder. Every file is read.

    Args:
        data: the data before `prepare`.

    Raises:
        InputError: if files can't be read; the message names them.
    """
    whole = hashlib.sha256(repr(data.class_names).encode())
    is_folder = data.train.items.dtype == object
    if is_folder:
        paths = np.concatenate([part.items for part in data.parts.values()])
        for_each_image(lambda number: paths[number].remember(), len(paths))
    for name, part in data.parts.items():
        whole.update(f"{name} {part.labels.tolist()} {list(part.names)}".encode())
        digests = (path.digest for path in part.items) if is_folder else [part.items.tobytes()]
        whole.update(b"".join(digests))
    return whole.hexdigest()[:16]


def prepare(data: ImageData) -> ImageData:
    """Read every image once, with a progress bar for a folder.

    Returns:
        The same data with the twins, and with as many images in memory as fit (`CACHE_BYTES`).

    Raises:
        InputError: if files can't be read; the message names them.
    """
    if _has_size(data, data.train):
        return data
    # Training images come last: they are read only if memory is left.
    parts = {name: data.parts[name] for name in reversed(PARTS)}
    items = np.concatenate([_objects(part.items) for part in parts.values()])
    is_folder = data.train.items.dtype == object
    held_out = len(items) - len(data.train)
    copies = np.zeros((len(items), COPY_SIZE * data.channels), "uint8")
    room, lock = CACHE_BYTES, threading.Lock()

    def read(number: int) -> None:
        nonlocal room
        image = (read_whole if number < held_out else read_square)(data, items[number])
        copies[number] = small_copy(image)
        with lock:
            if image.nbytes <= room:
                room -= image.nbytes
                items[number] = image

    progress = None
    if is_folder:
        print("Reading every image once:")
        bar = keras.utils.Progbar(len(items), unit_name="image", verbose=progress_style())
        progress = bar.update
    for_each_image(read, len(items), progress)
    kept = sum(isinstance(item, np.ndarray) for item in items)
    if is_folder and kept < len(items):
        print(f"{kept:,} of them stay in memory; the others are read again in each epoch.")
    if is_folder:
        places = np.repeat(list(parts), [len(part) for part in parts.values()])
        names = np.concatenate([part.names for part in parts.values()])
        data = dataclasses.replace(data, twins=tuple(find_twins(copies, places, names)))
    by_part = np.split(items, np.cumsum([len(part) for part in parts.values()])[:-1])
    splits: dict[str, Any] = {
        name: dataclasses.replace(part, items=own)
        for (name, part), own in zip(parts.items(), by_part, strict=True)
    }
    return dataclasses.replace(data, **splits)


def _has_size(data: ImageData, split: Split) -> bool:
    return split.items.dtype == np.uint8 and split.items.shape[1:] == data.image_shape


def _objects(items: Sequence[Any] | np.ndarray) -> np.ndarray:
    objects = np.empty(len(items), object)
    objects[:] = list(items)
    return objects


def read_whole(data: ImageData, item: Any) -> np.ndarray:
    """Read an image for a test: at the model's size, like `load_image`."""
    if isinstance(item, np.ndarray) and item.shape == data.image_shape:
        return item
    return _read(item, data.size, data.channels)


def _read(item: Any, size: int, channels: int, enlarge: bool = True) -> np.ndarray:
    if isinstance(item, ImageFile):
        item.check()
    return read_image(item, size, channels, enlarge=enlarge)


def read_square(data: ImageData, item: Any) -> np.ndarray:
    """Read the square from which crops are cut, or the image if there are no random crops."""
    if data.defaults.zoom == 1:
        return read_whole(data, item)
    side = DETAIL * math.ceil(data.size / data.defaults.zoom)
    if isinstance(item, np.ndarray) and item.shape[0] == item.shape[1] <= side:
        return item
    return _read(item, side, data.channels, enlarge=False)


def training_batches(
    data: ImageData,
    batch_size: int,
    seed: int,
    epochs: range,
    *,
    parts: int = 1,
    share: Share = ALL,
    weights: np.ndarray | None = None,
    more: Augmentation = NO_MORE,
) -> tuple[tf.data.Dataset, int]:
    """Return the training images of some epochs in order, shuffled and augmented.

    The random numbers of an epoch depend on the seed and the number of the epoch. So a resumed run
    sees the same images as an uninterrupted one, and several processes together see the same images
    as a single one. The last images of an epoch that do not fill a batch are left out, other images
    in each epoch.

    Args:
        data: the data after `prepare`.
        batch_size: number of images in a batch, over all processes.
        seed: seed of shuffling and augmentation.
        epochs: numbers of the epochs.
        parts: number of equal parts in which each batch is given.
        share: the share of each part that this process reads.
        weights: weight of each class, (classes,); `None` for equal weights.
        more: augmentation besides the data set's. An image is mixed with images of the same part
            and process.

    Returns:
        Batches (or parts of them) of images (N, H, W, C), labels (N, classes) and, if there are
        any, weights (N,); and the number of them in an epoch.
    """
    batches, part_size = len(data.train) // batch_size, batch_size // parts
    augment, change, mix = augmentation(data.defaults), more.change(), more.mix()

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(data.train), dtype=tf.int64), [tf.constant(seed, tf.int64), epoch]
        )
        ours = share.of(order[: batches * batch_size], part_size)
        numbers = epoch * len(data.train) + ours
        seeds = tf.stack([tf.fill(tf.shape(ours), tf.constant(seed, tf.int64)), numbers], axis=1)
        return tf.data.Dataset.from_tensor_slices((ours, seeds))

    def read_part(index: int, its_seed: np.ndarray) -> np.ndarray:
        square = read_square(data, data.train.items[index])
        return read_whole(data, random_part(square, data.defaults.zoom, its_seed))

    def changed(image: tf.Tensor, label: tf.Tensor, its_seed: tf.Tensor) -> tuple:
        # A seed for other random numbers than `augment` draws.
        fresh = tf.random.experimental.stateless_fold_in(its_seed, 1)
        own_seed, batch_seed = tf.unstack(tf.random.split(fresh, 2))
        return change(augment(image, its_seed), own_seed), label, batch_seed

    def mixed(images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tuple:
        images, labels = mix(tf.cast(images, tf.float32), labels, seeds[0])
        return images, *_weigh_mixed(weights, labels)

    indices = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(one_epoch)
    examples = (
        _take_images(indices, data, data.train, read_part if data.defaults.zoom < 1 else None)
        .unbatch()
        .map(changed, tf.data.AUTOTUNE)
        .batch(part_size // share.processes, drop_remainder=True)
        .map(mixed)
        .prefetch(tf.data.AUTOTUNE)
    )
    return examples, batches * parts


def test_batches(data: ImageData, batch_size: int) -> tf.data.Dataset:
    """Return the test images in batches, in order and unchanged."""
    return part_batches(data, "test", batch_size)


def part_batches(
    data: ImageData, part: str, batch_size: int, weights: np.ndarray | None = None
) -> tf.data.Dataset:
    """Return the images of a part in batches, in order and unchanged."""
    split = data.parts[part]
    indices = tf.data.Dataset.range(len(split)).map(lambda index: (index,))
    examples = _take_images(indices, data, split).map(
        lambda images, labels: (images, labels, *_weigh(weights, labels))
    )
    return _in_batches(examples, batch_size, len(split))


def full_batches(
    data: ImageData,
    part: str,
    batch_size: int,
    share: Share = ALL,
    weights: np.ndarray | None = None,
) -> tuple[tf.data.Dataset, int]:
    """Return the images of a part in full batches, because several devices need equal shares.

    Returns:
        Batches of images (N, H, W, C), one-hot labels (N, classes) and weights (N,), which are 0
        for the padding of the last batch; and the number of images including the padding.
    """
    split = data.parts[part]
    count = len(split)
    filled = -(-count // batch_size) * batch_size
    weights = np.ones(len(data.class_names)) if weights is None else weights
    indices = tf.data.Dataset.from_tensor_slices(share.of(tf.range(filled), batch_size)).map(
        lambda index: (index % count, tf.cast(index < count, tf.float32))
    )
    examples = _take_images(indices, data, split).map(
        lambda images, labels, counts: (images, labels, counts * _weigh(weights, labels)[0])
    )
    ours = filled // share.processes
    return _in_batches(examples, batch_size // share.processes, ours), filled


def _weigh(weights: np.ndarray | None, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Return the weights of images with one-hot labels, if classes have weights."""
    if weights is None:
        return ()
    return (tf.linalg.matvec(labels, tf.constant(weights, labels.dtype)),)


def _weigh_mixed(weights: np.ndarray | None, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Weigh each class' part of a cross-entropy by the weight of the class."""
    if weights is None:
        return (labels,)
    weighed = labels * tf.constant(weights, labels.dtype)
    total = tf.reduce_sum(weighed, axis=-1)
    return weighed / total[:, None], total


def _in_batches(examples: tf.data.Dataset, size: int, count: int) -> tf.data.Dataset:
    """Rebatch the `count` images from `_take_images` to another size."""
    batches = examples.rebatch(size, drop_remainder=count % size == 0).map(_to_floats)
    # Keras warns if data of unknown size end.
    known = tf.data.experimental.assert_cardinality(-(-count // size))
    return batches.apply(known).prefetch(tf.data.AUTOTUNE)


def _to_floats(images: tf.Tensor, *more: tf.Tensor) -> tuple:
    return tf.cast(images, tf.float32), *more


def _take_images(
    indices: tf.data.Dataset,
    data: ImageData,
    split: Split,
    read: Callable[..., np.ndarray] | None = None,
) -> tf.data.Dataset:
    """Replace indices by images and labels, several at a time.

    Args:
        indices: tuples that begin with the number of an image in the split.
        data: the data set.
        split: a part of the data set.
        read: function from such a tuple to a uint8 image; `None` reads the image for a test.

    Returns:
        Batches of images, one-hot labels, and the other elements of the tuples.
    """
    labels = tf.constant(split.labels)
    in_tensor = read is None and _has_size(data, split)
    images = tf.constant(split.items) if in_tensor else None
    read_one = read or (lambda index, *_: read_whole(data, split.items[index]))

    def read_all(*columns: np.ndarray) -> np.ndarray:
        try:
            return np.stack([read_one(*row) for row in zip(*columns, strict=True)])
        except InputError as error:
            _errors.append(error)
            raise

    def take(numbers: tf.Tensor, *more: tf.Tensor) -> tuple:
        if images is not None:
            pixels = tf.gather(images, numbers)
        else:
            # Paths stay outside of tensors, which can't hold names that are not UTF-8.
            pixels = tf.numpy_function(read_all, [numbers, *more], tf.uint8, stateful=False)
            pixels = tf.ensure_shape(pixels, (None, *data.image_shape))
        targets = tf.one_hot(tf.gather(labels, numbers), len(data.class_names))
        return pixels, targets, *more

    return indices.batch(READ_AT_ONCE).map(take, tf.data.AUTOTUNE)


_errors: list[InputError] = []


@contextmanager
def image_errors() -> Iterator[None]:
    """Raise the original error of an image, which TensorFlow would bury in its own messages.

    Raises:
        InputError: if an image can't be read or has changed; the message names it.
    """
    _errors.clear()
    try:
        yield
    except tf.errors.OpError as error:
        if not _errors:
            raise
        raise _errors[0] from error


def random_part(square: np.ndarray, zoom: float, seed: Any) -> np.ndarray:
    """Cut a random square with at least the share `zoom` of the image's side.

    Example:

    >>> random_part(np.zeros((100, 100, 3), "uint8"), zoom=0.9, seed=(0, 1)).shape
    (99, 99, 3)
    """
    share, across, down = np.random.default_rng(seed).random(3)
    side = max(1, round((zoom + (1 - zoom) * share) * len(square)))
    left, top = (round(where * (len(square) - side)) for where in (across, down))
    return square[top : top + side, left : left + side]


def augmentation(defaults: Defaults) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a function that shifts and flips an image (H, W, C) by a seed (2,)."""

    def augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        shape = image.shape
        crop_seed, flip_seed, _ = tf.unstack(tf.random.split(seed, 3))
        if defaults.shift:
            margin = (defaults.shift, defaults.shift)
            image = tf.pad(image, (margin, margin, (0, 0)))
            image = tf.image.stateless_random_crop(image, shape, crop_seed)
        if defaults.flip:
            image = tf.image.stateless_random_flip_left_right(image, flip_seed)
        return tf.ensure_shape(image, shape)

    return augment
