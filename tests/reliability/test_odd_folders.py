"""Folders with odd files, drawn by a seed: bad files are named, and the others are read."""

import os
import random
import re
import shutil
import socket
import stat
import struct
import tempfile
import threading
import time
import zlib
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from forks import SEED
from PIL import Image
from work import photos

from se_keras.folders import for_each_image, list_classes
from se_keras.images import read_image
from se_keras.support.errors import InputError

pytestmark = pytest.mark.reliability
AS_ROOT = os.geteuid() == 0


def bomb(path):
    """A small PNG whose head says 12,000 x 12,000 pixels."""
    Image.new("1", (8, 8)).save(path, "png")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 12_000, 12_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def listen(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        server.bind(path.name)
        os.chdir(here)


def cut(path):
    Image.effect_noise((64, 64), 50).save(path, "png")
    path.write_bytes(path.read_bytes()[:300])


def webp_bomb():
    """A head of VP8X that says 16,384 x 16,384 pixels."""
    size = (16_383).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\x00" * 4 + size + size
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def tiff_bomb():
    """One strip that says 100,000 x 100,000 pixels."""
    tags = {256: 100_000, 257: 100_000, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 100_000}
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\x00" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4)


def bmp_bomb():
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, *[0] * 6)


UNREADABLE = {
    "pipe": os.mkfifo,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "random": lambda path: path.symlink_to("/dev/urandom"),
    "gone": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path),
    "socket": listen,
    "bomb": bomb,
    "empty": lambda path: path.touch(),
    "cut": cut,
    "text": lambda path: path.write_text("no image"),
    "GIF bomb": lambda path: path.write_bytes(b"GIF89a" + b"\xff" * 4 + b"\x00" * 3 + b","),
    "WebP bomb": lambda path: path.write_bytes(webp_bomb()),
    "TIFF bomb": lambda path: path.write_bytes(tiff_bomb()),
    "BMP bomb": lambda path: path.write_bytes(bmp_bomb()),
    "tags": lambda path: path.write_bytes(b"II*\x00\x08\x00\x00\x00\xff\xff" + b"\xff" * 4000),
    "to a folder": lambda path: path.symlink_to("/"),
}
IRREGULAR = ("pipe", "zero", "random", "gone", "loop", "socket")
LEFT_OUT = {
    "round": lambda folder: (folder / "round").symlink_to(folder.parent),
    "up": lambda folder: (folder / "up").symlink_to("."),
    "text": lambda folder: (folder / "notes.txt").touch(),
    "hidden": lambda folder: (folder / ".hidden.png").touch(),
}


@pytest.mark.parametrize("turn", range(40))
def test_an_odd_folder(turn, tmp_path):
    generator = random.Random(f"{SEED} {turn}")
    photos(tmp_path / "photos")
    for kind in generator.sample(list(LEFT_OUT), 2):
        LEFT_OUT[kind](tmp_path / "photos" / "dark")
    odd = generator.sample(list(UNREADABLE), generator.randint(1, 9))
    for kind in odd:
        where = tmp_path / "photos" / generator.choice(["dark", "light"])
        UNREADABLE[kind](where / f"{kind}.{generator.choice(['png', 'JPG', 'webp'])}")
    begun = time.monotonic()
    found = list_classes(tmp_path / "photos")
    read = []
    named = [kind for kind in odd if any(f"/{kind}." in file for file in found.files)]
    with pytest.raises(InputError) if named else nullcontext() as caught:
        for_each_image(lambda n: read.append(read_image(found.paths[n], 8)), len(found.paths))
    assert {*odd} - {*named} <= {"to a folder"}  # a link to a folder is counted and left out
    assert len(read) == 24
    message = str(caught.value) if named else ""
    assert all(f"/{kind}." in message for kind in named)
    assert "\n" not in message
    assert time.monotonic() - begun < 5
    shutil.rmtree(tmp_path / "photos")


# --- names, depth and number ---------------------------------------------------------------------

NAMES = ("two\nlines", "\udce9", "a\x1b[31m", "\u202egnp", " ", "a\tb", "%s", "*", "x" * 200, "é")


def assert_one_line(message):
    assert "\n" not in message
    assert not re.search(r"[\x00-\x1f\x7f\u2028\u202a-\u202e]", message), message


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_does_not_break_the_line(name, tmp_path):
    photos(tmp_path / "photos", images=2)
    for folder in ("dark", "light"):
        odd = tmp_path / "photos" / folder / name
        odd.mkdir()
        Image.new("RGB", (9, 9)).save(odd / f"{name}.png")
        (odd / f"{name}.txt").touch()
    found = list_classes(tmp_path / "photos")
    paths = found.paths
    assert len(found.paths) == 6
    assert_one_line(str(found.left_out))
    for path in found.paths:
        assert read_image(path, 8).shape == (8, 8, 3)
    (odd / f"{name}.png").write_text("no image")
    with pytest.raises(InputError) as caught:
        for_each_image(lambda n: read_image(paths[n], 8), len(paths))
    assert_one_line(str(caught.value))
    (tmp_path / "one" / name).mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        list_classes(tmp_path / "one")
    assert_one_line(str(caught.value))


def nest(folder, depth):
    """Folders in folders, deeper than a path may be long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def flatten(folder):
    """Remove them again, from the outside in."""
    while (folder / "d").exists():
        (folder / "d").rename(folder / "old")
        for inner in (folder / "old").iterdir():
            inner.rename(folder / inner.name)
        (folder / "old").rmdir()


@pytest.mark.parametrize("depth", [1500, 3000])
def test_very_deep_folders(depth, tmp_path):
    """As deep as the longest path they are read; deeper ones are named."""
    photos(tmp_path / "photos", images=2)
    nest(tmp_path / "photos" / "dark", depth)
    try:
        with pytest.raises(InputError) if depth > 2000 else nullcontext() as caught:
            assert len(list_classes(tmp_path / "photos").paths) == 4
    finally:
        flatten(tmp_path / "photos" / "dark")
    if caught:
        assert str(caught.value).startswith("can't read the folder ")
        assert str(caught.value).endswith("File name too long.")


def test_many_tiny_files(tmp_path):
    photos(tmp_path / "photos", images=1)
    content = (tmp_path / "photos" / "dark" / "0.png").read_bytes()
    for number in range(10_000):
        (tmp_path / "photos" / "dark" / f"{number}.PNG").write_bytes(content)
        if number % 10 == 0:
            (tmp_path / "photos" / "light" / f"{number}.jpg").touch()
    found = list_classes(tmp_path / "photos")
    paths = found.paths
    assert len(found.paths) == 11_002
    with pytest.raises(InputError, match=r"can't read 1,000 of 11,002 images: .*; and 990 more\.$"):
        for_each_image(lambda n: read_image(paths[n], 8), len(paths))


def test_a_folder_called_as_an_image_and_a_case(tmp_path):
    photos(tmp_path / "photos", images=2)
    (tmp_path / "photos" / "dark" / "x.jpg").mkdir()
    shutil.copy(tmp_path / "photos" / "dark" / "0.png", tmp_path / "photos" / "dark" / "x.jpg")
    shutil.copytree(tmp_path / "photos" / "dark", tmp_path / "photos" / "Dark")
    found = list_classes(tmp_path / "photos")
    assert found.class_names == ("Dark", "dark", "light")
    assert len(found.paths) == 3 + 3 + 2
    with pytest.raises(InputError, match="it is a folder"):
        read_image(tmp_path / "photos" / "dark" / "x.jpg")


# --- while they are read -------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(5))
def test_files_that_vanish_grow_and_change_while_they_are_read(turn, tmp_path):
    """Each gives an image or its line."""
    photos(tmp_path / "photos", images=20)
    found = list_classes(tmp_path / "photos")
    paths = found.paths
    whole = [Path(path).read_bytes() for path in found.paths]
    stop = threading.Event()

    def change():
        generator = random.Random(f"{SEED} {turn}")
        while not stop.is_set():
            number = generator.randrange(len(whole))
            path, content = found.paths[number], whole[number]
            with suppress(OSError):
                kind = generator.choice(["gone", "cut", "grown", "pipe", "folder", "whole"])
                if kind in ("gone", "pipe", "folder"):
                    os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
                if kind == "pipe":
                    os.mkfifo(path)
                elif kind == "folder":
                    os.mkdir(path)
                elif kind != "gone":
                    if os.path.lexists(path) and not stat.S_ISREG(os.stat(path).st_mode):
                        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
                    end = {"cut": len(content) // 2, "grown": None, "whole": None}[kind]
                    with open(path, "wb") as file:
                        file.write(content[:end] + b"x" * 1000 * (kind == "grown"))

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(5):
            try:
                for_each_image(lambda n: read_image(paths[n], 8), len(paths))
            except InputError as error:
                assert_one_line(str(error))
    finally:
        stop.set()
        changer.join()


@pytest.fixture
def anybodys():
    """A folder that anybody may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize("what", ["file", "folder", "root"])
def test_what_may_not_be_read_is_named(what, anybodys):
    """In a child that has no rights beyond those of anybody."""
    folder = anybodys / "photos"
    photos(folder, images=2)
    path = {"file": folder / "dark" / "0.png", "folder": folder / "dark", "root": folder}[what]
    path.chmod(0)
    Image.init()  # the child may not be able to read the folder of Pillow
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        message = "nothing was refused"
        try:
            if AS_ROOT:
                os.setgid(65534)
                os.setuid(65534)
            found = list_classes(folder)
            paths = found.paths
            for_each_image(lambda n: read_image(paths[n], 8), len(paths))
        except InputError as error:
            message = str(error)
        except BaseException as error:
            message = repr(error)
        os.write(writing, message.encode())
        os._exit(0)
    os.waitpid(child, 0)
    path.chmod(0o755)
    message = os.read(reading, 10_000).decode()
    for end in (reading, writing):
        os.close(end)
    what = "image" if what == "file" else "folder"
    assert message.lower() == f"can't read the {what} {path}: permission denied.".lower()


# --- through the commands ------------------------------------------------------------------------

COMMANDS = {
    "train": ("train", "--data", "photos", "--epochs", "1", "--image-size", "8", "--out", "run"),
    "evaluate": ("evaluate", "model.keras", "--data", "photos", "--out", "ev"),
    "predict": ("predict", "model.keras", "photos"),
    "explain": ("explain", "model.keras", "--data", "photos", "--out", "ex"),
    "export": ("export", "model.keras", "--calibration", "photos", "-o", "served"),
}


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_names_what_it_can_not_read(name, turn, forks, place):
    generator = random.Random(f"{SEED} {name} {turn}")
    for path in (place / "photos").rglob("*.png"):
        if path.name not in ("0.png", "1.png", "2.png"):
            path.unlink()
    odd = generator.sample([kind for kind in UNREADABLE if kind != "to a folder"], 2)
    for kind in odd:
        UNREADABLE[kind](place / "photos" / "dark" / f"{kind}.png")
    before = {path.name for path in place.iterdir()}
    ended = forks.run(*COMMANDS[name], folder=place)
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    lines = ended.err.strip().splitlines()
    assert lines[-1].startswith(f"se-keras {name}: ")
    assert len(lines) == (3 if name == "predict" else 1)  # one an image, and one for all
    # The content of all files is read before the images are.
    first = [kind for kind in odd if kind in IRREGULAR] if name == "train" else []
    assert all(f"{kind}.png" in ended.err for kind in first or odd)
    assert {path.name for path in place.iterdir()} == before
