"""Make harmful files: good files with one change each.

An h5 file is edited in place; a `.keras` archive is written anew from the members of a good one.
"""

import io
import json
import re
import struct
import warnings
import zipfile
import zlib

import h5py
import numpy as np

SECRET = b"-----BEGIN PRIVATE KEY-----"  # what a file must not bring into a model
MANY = 2**23  # bytes of zeros that a small file unpacks to


def a_place(file):
    """Return the place of the first dataset with one axis, and its length."""
    found = []
    file.visititems(
        lambda place, item: found.append(place) if getattr(item, "ndim", 0) == 1 else None
    )
    return found[0], len(file[found[0]])


def replaced(make):
    """Return an edit that replaces a dataset."""

    def edit(file, secret):
        place, length = a_place(file)
        del file[place]
        make(file, place, length, secret)

    return edit


def on_dataset(change):
    return lambda file, secret: change(file[a_place(file)[0]])


def external(file, place, length, secret):
    file.create_dataset(place, (length,), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(file, place, length, secret):
    with h5py.File(f"{secret}.h5", "w") as other:
        other["x"] = np.ones(length, "f4")
    layout = h5py.VirtualLayout((length,), "f4")
    layout[:] = h5py.VirtualSource(f"{secret}.h5", "x", shape=(length,))
    file.create_virtual_dataset(place, layout)


def link(kind):
    def make(file, place, length, secret):
        with h5py.File(f"{secret}.h5", "w") as other:
            other["x"] = np.ones(length, "f4")
        file["elsewhere"] = np.ones(length, "f4")
        links = {
            "soft": h5py.SoftLink("/elsewhere"),
            "external": h5py.ExternalLink(f"{secret}.h5", "/x"),
            "hard": file["elsewhere"],
        }
        file[place] = links[kind]

    return make


def linked_group(kind):
    """Replace the first group by a link to its content."""

    def edit(file, secret):
        name = next(iter(file))
        with h5py.File(f"{secret}.h5", "w") as other:
            file.copy(name, other, "whole")
            other["whole/x"] = 1
        file.move(name, "moved")
        links = {"soft": h5py.SoftLink("/moved"), "hard": file["moved"]}
        file[name] = links.get(kind, h5py.ExternalLink(f"{secret}.h5", "/whole"))

    return edit


def loop(file, secret):
    file["layers/again"] = file["/"]


def deep(depth):
    return lambda file, secret: file.create_group("/".join(["a"] * depth))


def name(text):
    return lambda file, secret: file.create_group(b"layers/" + text)


def values(data):
    return replaced(lambda file, place, length, secret: file.create_dataset(place, data=data))


def of_type(dtype):
    return replaced(
        lambda file, place, length, secret: file.create_dataset(place, (length,), dtype)
    )


def named_type(file, place, length, secret):
    file[place] = np.dtype("f4")


def without_values(shape, **options):
    return replaced(lambda file, place, *_: file.create_dataset(place, shape, "f4", **options))


def wide_chunk(file, place, length, secret):
    wide = file.create_dataset(
        place, (length,), "f4", maxshape=(None,), chunks=(MANY,), compression="gzip"
    )
    wide[...] = 1


def swelling_chunk(file, place, length, secret):
    packed = file.create_dataset(place, (length,), "f4", chunks=(length,), compression="gzip")
    packed.id.write_direct_chunk((0,), zlib.compress(bytes(MANY)))


def swollen(file, place, length, secret):
    file.create_dataset(place, data=np.zeros(MANY, "i1"), chunks=(MANY // 8,), compression="gzip")


def some_chunks(file, place, length, secret):
    file.create_dataset(place, (4 * length,), "f4", chunks=(length,))[:length] = 1


def filtered(**options):
    return replaced(
        lambda file, place, length, secret: file.create_dataset(
            place, data=np.ones(length, "f4"), chunks=(length,), **options
        )
    )


def twice_deflated(file, place, length, secret):
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((length,))
    made.set_deflate(1)
    made.set_deflate(1)
    space = h5py.h5s.create_simple((length,))
    created = h5py.h5d.create(file.id, place.encode(), h5py.h5t.IEEE_F32LE, space, made)
    h5py.Dataset(created)[...] = np.ones(length, "f4")


def mark(value):
    return on_dataset(lambda dataset: dataset.attrs.create("dtype", value))


def group_name(value):
    def edit(file, secret):
        groups = []
        file.visititems(lambda place, item: groups.append(item) if "name" in item.attrs else None)
        groups[0].attrs["name"] = value

    return edit


H5_EDITS = {
    "external storage": replaced(external),
    "virtual dataset": replaced(virtual),
    "soft link": replaced(link("soft")),
    "external link": replaced(link("external")),
    "second name": replaced(link("hard")),
    "soft link of a group": linked_group("soft"),
    "external link of a group": linked_group("external"),
    "second name of a group": linked_group("hard"),
    "a group in itself": loop,
    "deep groups": deep(200),
    "name that is no UTF-8": name(b"\xff"),
    "name with an escape code": name(b"\x1b[31m"),
    "name of two lines": name(b"a\nb"),
    "long name": name(b"a" * 5000),
    "named type": replaced(named_type),
    "text": values("text"),
    "texts": values(["a", "b"]),
    "no space": values(h5py.Empty("f4")),
    "complex": of_type("c8"),
    "bytes": of_type("S2"),
    "two bytes": of_type("V2"),
    "compound": of_type([("a", "f4")]),
    "reference": of_type(h5py.ref_dtype),
    "arrays": of_type(np.dtype(("f4", (2,)))),
    "no values": without_values((5,)),
    "no values of 16 GiB": without_values((2**32,)),
    "no chunks": without_values((2**32,), chunks=(2**20,)),
    "some chunks": replaced(some_chunks),
    "wide chunk": replaced(wide_chunk),
    "swelling chunk": replaced(swelling_chunk),
    "swollen": replaced(swollen),
    "another filter": filtered(compression="lzf"),
    "scale and offset": filtered(scaleoffset=2),
    "deflated twice": replaced(twice_deflated),
    "false mark": mark("bfloat16"),
    "number for a mark": mark(5),
    "no space for a mark": mark(h5py.Empty("f4")),
}
# Of the groups of Keras 3, which have the names of layers.
NAME_EDITS = {
    "number for a name": group_name(5),
    "names": group_name(["a", "b"]),
    "no name": group_name(h5py.Empty("S1")),
    "name of no UTF-8": group_name(b"\xff\xfe"),
    "name of lines": group_name("a\nb"),
}


def patched(pattern, change):
    """Return an edit of an h5 file's bytes at the first match of a pattern."""

    def edit(content):
        at = re.search(pattern, content, re.DOTALL).start()
        content = bytearray(content)
        change(content, at)
        return bytes(content)

    return edit


def free_list_in_a_ring(content, at):
    """Make the first free place in the heap of names point to itself."""
    size, _, data = struct.unpack_from("<QQQ", content, at + 8)
    struct.pack_into("<Q", content, at + 16, size - 16)
    struct.pack_into("<QQ", content, data + size - 16, size - 16, 16)


def empty_text(content, at):
    """Add an object of length 0 to the heap of texts, with the number of free space."""
    struct.pack_into("<QQ", content, at + 16, 0, 0)


def long_text(content, at):
    struct.pack_into("<Q", content, at + 24, 2**64 - 1)


def long_length(content, at):
    """Give each text a stated length of 2 GiB."""
    for found in re.finditer(re.escape(struct.pack("<Q", at)), bytes(content)):
        if found.start() % 8 == 4:
            struct.pack_into("<I", content, found.start() - 4, 2**31)


def longer_beginning(content, at):
    content[13] = 4


H5_PATCHES = {
    "names in a ring": patched(rb"HEAP\x00\x00\x00\x00", free_list_in_a_ring),
    "text of no length": patched(rb"GCOL\x01\x00\x00\x00", empty_text),
    "text without end": patched(rb"GCOL\x01\x00\x00\x00", long_text),
    "text of another length": patched(rb"GCOL\x01\x00\x00\x00", long_length),
    "short addresses": patched(rb"\x89HDF", longer_beginning),
    "a block before": lambda content: bytes(512) + content,
    "a page before": lambda content: b"<html>" + content,
}


# --- .keras --------------------------------------------------------------------------------------


def rewritten(path, change=lambda members: None, packing=zipfile.ZIP_STORED, **more):
    """Rewrite the archive at a path with changed members: name -> content."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    out = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in [*members.items(), *more.get("also", ())]:
            archive.writestr(name, content)
    return out.getvalue()


def config(text):
    return lambda path: rewritten(path, lambda members: members.update({"config.json": text}))


def config_with(change):
    def edit(members):
        content = json.loads(members["config.json"])
        change(content["config"])
        members["config.json"] = json.dumps(content)

    return lambda path: rewritten(path, edit)


def long_config(path):
    def pad(members):
        members["config.json"] += b" " * (MANY * 4)

    return rewritten(path, pad, zipfile.ZIP_DEFLATED)


def long_weights(path):
    def pad(members):
        members["model.weights.h5"] += bytes(MANY * 4)

    return rewritten(path, pad, zipfile.ZIP_DEFLATED)


def without(name):
    return lambda path: rewritten(path, lambda members: members.pop(name))


def in_headers(pattern, offset, value):
    """Return an edit of two bytes in every header of a member, local and central."""

    def edit(path):
        content = bytearray(path.read_bytes())
        for match in re.finditer(pattern, bytes(content)):
            central = match.group().startswith(b"PK\1\2")
            struct.pack_into("<H", content, match.start() + offset + 2 * central, value)
        return bytes(content)

    return edit


def damaged_member(name):
    def edit(path):
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(name)
        content = bytearray(path.read_bytes())
        content[info.header_offset + info.file_size // 2] ^= 1
        return bytes(content)

    return edit


HEADERS = rb"PK\x01\x02|PK\x03\x04"
KERAS_EDITS = {
    **{f"config {text[:9]}": config(text) for text in ("[]", "null", "5", "{}", '{"config": 5}')},
    "config of layers": config('{"config": {"layers": [null]}}'),
    "config of a number": config('{"config": {"layers": 5}}'),
    "config without end": config("[" * 100_000),
    "config of no UTF-8": config(b'{"a": "\xff\xfe"}'),
    "long config": long_config,
    "long weights": long_weights,
    "no config": without("config.json"),
    "no weights": without("model.weights.h5"),
    "member that leads out": lambda path: rewritten(path, also=[("../planted.txt", "x")]),
    "member of the root": lambda path: rewritten(path, also=[("/tmp/planted.txt", "x")]),
    "member of Windows": lambda path: rewritten(path, also=[("..\\planted.txt", "x")]),
    "two configs": lambda path: rewritten(path, also=[("config.json", "{}")]),
    "encrypted": in_headers(HEADERS, 6, 1),
    "unknown compression": in_headers(HEADERS, 8, 77),
    "damaged config": damaged_member("config.json"),
    "damaged weights": damaged_member("model.weights.h5"),
}


def wide_layer(content):
    content["layers"][-1]["config"]["units"] = 2**31


def code(class_name, module):
    """Return a layer config whose class is a function of any module."""

    def change(content):
        content["layers"][-1] |= {
            "class_name": class_name,
            "module": module,
            "registered_name": None,
            "config": {"command": "touch planted.txt", "name": "x"},
        }

    return config_with(change)


# What only loading the whole model would do: the weights alone can be read.
MODEL_EDITS = {
    "wide layer": config_with(wide_layer),
    "os.system": code("system", "os"),
    "eval": code("eval", "builtins"),
    "download": code("get_file", "keras.utils"),
    "Lambda": code("Lambda", "keras.layers"),
}
