"""The rules for folders: which files are images, of which class and part."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from image_files import KINDS

from se_keras import folders
from se_keras.folders import for_each_image, list_classes, list_images
from se_keras.support.errors import InputError
from se_keras.train.duplicates import small_copy

PNG = KINDS["png"].content


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


def put(root, *names, content=PNG):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def per_class(found):
    by_class = {name: [] for name in found.class_names}
    for file, label in zip(found.files, found.labels, strict=True):
        by_class[found.class_names[label]].append(file)
    return by_class


# --- what is an image ----------------------------------------------------------------------------


def test_hidden_names_are_left_out_at_every_depth_and_counted(root):
    put(root, "cat/1.png", "cat/more/deep/2.png", "dog/1.png")
    put(root, "cat/.ipynb_checkpoints/1.png", "cat/more/.3.png", "cat/._0.png", ".git/a/b.png")
    put(root, "cat/more/.x/y/z.png", "__MACOSX/cat/._1.png", "dog/__MACOSX/1.png", ".DS_Store")
    found = list_classes(root)
    assert per_class(found) == {"cat": ["cat/1.png", "cat/more/deep/2.png"], "dog": ["dog/1.png"]}
    assert str(found.left_out).startswith("Left out: 8 hidden (")
    paths, left_out = list_images(root)
    assert [os.path.relpath(path, root) for path in paths] == list(found.files)
    assert left_out.count == found.left_out.count


def test_what_is_left_out_is_counted_by_reason(root):
    put(
        root, "cat/1.png", "cat/Thumbs.db", "dog/1.png", "dog/desktop.ini", "dog/notes", "README.md"
    )
    put(root, "cover.jpg", "cat/._1.png")
    assert str(list_classes(root).left_out) == (
        "Left out: 4 without a suffix of an image (README.md, ...), 1 outside of the class folders "
        "(cover.jpg), 1 hidden (cat/._1.png)."
    )
    assert str(list_images(root)[1]) == (
        "Left out: 4 without a suffix of an image (README.md, ...), 1 hidden (cat/._1.png)."
    )


def test_nothing_left_out_is_nothing_said(root):
    put(root, "cat/1.png", "dog/1.png")
    assert str(list_classes(root).left_out) == ""


def test_suffixes_count_in_any_case(root):
    names = [f"cat/{suffix[1:]}{suffix}" for suffix in folders.SUFFIXES]
    names += [
        f"cat/{suffix[1:]}-{suffix}".upper().replace("CAT", "cat") for suffix in folders.SUFFIXES
    ]
    put(root, *names, "dog/1.png")
    assert sorted(per_class(list_classes(root))["cat"]) == sorted(names)


def test_links(root):
    put(root, "cat/1.png", "dog/1.png")
    put(root.parent, "elsewhere/a/2.png")
    (root / "bird").symlink_to(root.parent / "elsewhere")  # a class may be a link
    (root / "cat/9.png").symlink_to(root / "dog/1.png")  # and an image
    (root / "cat/link").symlink_to(root.parent / "elsewhere")
    (root / "cat/around").symlink_to(root)
    (root / "self").symlink_to(root)
    (root / "up").symlink_to(root.parent)
    (root / "loop").symlink_to(root / "loop")
    found = list_classes(root)
    assert per_class(found) == {
        "bird": ["bird/a/2.png"],
        "cat": ["cat/1.png", "cat/9.png"],
        "dog": ["dog/1.png"],
    }
    assert found.left_out.count == {
        "a link to a folder": 2,
        "a link in a circle": 2,
        "without a suffix of an image": 1,
    }


def test_a_folder_called_as_an_image_is_a_folder(root):
    put(root, "cat/1.png", "cat/x.jpg/2.png", "dog.png/1.png")
    assert per_class(list_classes(root)) == {
        "cat": ["cat/1.png", "cat/x.jpg/2.png"],
        "dog.png": ["dog.png/1.png"],
    }


def test_names_of_any_bytes(root):
    put(root, os.fsdecode(b"caf\xe9/\xff.png"), "d\u00f6g/\u732b.png", "d\u00f6g/\u202e.txt")
    put(root, os.fsdecode(b"caf\xe9/\xfe.txt"))
    found = list_classes(root)
    assert found.class_names == ("caf\\xe9", "d\u00f6g")
    assert [Path(path).read_bytes() for path in found.paths] == [PNG, PNG]
    assert r"(caf\xe9/\xfe.txt, ...)" in str(found.left_out)
    str(found.left_out).encode("utf-8")


def test_ten_thousand_files(root):
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(5000):
            (root / name / f"{number}.png").touch()
    found = list_classes(root)
    assert np.bincount(found.labels).tolist() == [5000, 5000]
    assert list(found.files) == sorted(found.files)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(root):
    put(root, "cat/1.png", "dog/1.png")
    (root / "dog").chmod(0)
    with pytest.raises(InputError, match=r"can't read the folder .*dog: "):
        list_classes(root)


# --- classes and parts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat/1.png"], r"at least two classes, got cat\."),
        (["1.png"], r"at least two classes, got none\."),
        (["cat/1.png", "dog/1.txt"], r"class folder .*/dog has no images \(\.png, "),
        (["cat/.1.png", "dog/1.txt", "bird/1.gif"], r"class folders .*/cat, .*/dog have no images"),
        (["train/cat/1.png", "train/dog/1.png"], "the parts train only"),
        (["test/cat/1.png", "val/dog/1.png"], "the parts val, test only"),
        (
            ["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png", "cat/1.png"],
            "has the parts train, val and also the class folders cat: ",
        ),
        (
            ["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"],
            "has val and valid, which name the same part",
        ),
        (
            ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"],
            "train must have the classes c, like the other parts",
        ),
        (["train/a/1.png", "train/b/1.png", "test/1.png"], "test must have a folder of images"),
        (
            ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.txt"],
            "class folder .*test/b has no images",
        ),
    ],
)
def test_what_is_wrong_with_the_classes_is_named(root, names, message):
    put(root, *names)
    with pytest.raises(InputError, match=message) as error:
        list_classes(root)
    assert "\n" not in str(error.value)


def test_no_folder_is_named(root):
    with pytest.raises(InputError, match=r"there is no folder .*photos"):
        list_classes(root)


@pytest.mark.parametrize(
    "parts",
    [
        ("train", "val"),
        ("Training", "Testing"),
        ("train", "valid", "test"),
        ("train", "validation"),
    ],
)
def test_a_folder_that_is_divided_keeps_its_parts(root, parts):
    for part in parts:
        put(root, f"{part}/cat/{part}-1.png", f"{part}/dog/2.png", f"{part}/dog/x/3.png")
    put(root, "labels.csv", f"{parts[0]}/.cache/1.png", ".git/config")
    found = list_classes(root)
    assert found.class_names == ("cat", "dog")
    assert len(found.files) == 3 * len(parts)
    for file, label, part in zip(found.files, found.labels, found.parts, strict=True):
        top, name, *_ = file.split("/")
        assert name == found.class_names[label]
        assert top.lower() in folders.PART_NAMES[part]


def test_a_class_may_have_such_a_name_deeper(root):
    put(root, "cat/train/1.png", "dog/test/1.png")
    assert not len(list_classes(root).parts)


# --- reading many --------------------------------------------------------------------------------


def test_every_image_is_read_once_and_progress_comes_to_its_end():
    seen, lock, done = [], threading.Lock(), []

    def read(number):
        with lock:
            seen.append(number)

    for_each_image(read, 100, done.append)
    assert sorted(seen) == list(range(100))
    assert done == sorted(done)
    assert done[-1] == 100


def test_all_that_cannot_be_read_are_counted_and_ten_named():
    def read(number):
        if number % 3 == 0:
            raise InputError(f"can't read the image {number}.png: it is empty.")

    with pytest.raises(InputError) as error:
        for_each_image(read, 60)
    named = "; ".join(f"{number}.png: it is empty" for number in range(0, 30, 3))
    assert str(error.value) == f"can't read 20 of 60 images: {named}; and 10 more."


def test_one_that_cannot_be_read_is_its_own_message():
    def read(number):
        if number == 20:
            raise InputError("can't read the image a.png: it is empty.")

    with pytest.raises(InputError, match=r"^can't read the image a\.png: it is empty\.$"):
        for_each_image(read, 60)


def test_an_error_that_is_none_of_a_file_is_not_held_back():
    def read(number):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_each_image(read, 60)


@pytest.mark.parametrize("shape", [(317, 211, 3), (9, 8, 1), (5, 3, 3), (1, 1, 3)])
def test_small_copies_are_the_means_of_fields(shape):
    """A field of an image with fewer pixels than fields may be empty, and black then."""
    image = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    height, width, channels = shape
    means = np.zeros((8, 9, channels))
    for row, column in np.ndindex(8, 9):
        rows = slice(height * row // 8, height * (row + 1) // 8)
        columns = slice(width * column // 9, width * (column + 1) // 9)
        if image[rows, columns].size:
            means[row, column] = image[rows, columns].astype("float64").mean(axis=(0, 1))
    assert (small_copy(image).reshape(means.shape) == np.round(means)).all()
