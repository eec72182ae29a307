"""Folders with odd files, drawn by a seed: bad files are named, and the others are read."""

import os
import random
import shutil
import socket
import struct
import time
import zlib
from contextlib import nullcontext

import pytest
from forks import SEED
from PIL import Image
from work import photos

from se_keras.folders import for_each_image, list_classes
from se_keras.images import read_image
from se_keras.support.errors import InputError

pytestmark = pytest.mark.reliability


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
    "to a folder": lambda path: path.symlink_to("/"),
}
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
