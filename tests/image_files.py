"""Make image files of every kind, each with its expected pixels.

`KINDS` maps a name to the suffix of a file, its bytes, and what a reader must see, uint8 (H, W, 3)
with at most `tolerance` levels of difference. `BROKEN` maps a name to bytes that no reader takes.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 36
# What a lossy format may change in a smooth picture, where it stores each color, and where it
# stores the hue of two by two pixels.
LOSSY, SUBSAMPLED = 4, 10


@dataclass(frozen=True)
class ImageFile:
    suffix: str
    content: bytes
    pixels: np.ndarray
    tolerance: int = 1


def ramp(height=HEIGHT, width=WIDTH):
    """Return a smooth color picture without symmetry, so that a rotated one differs."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([255 * x, 255 * y, 128 + 120 * x * (1 - y)], -1).round().astype("uint8")


def gray_of(color):
    return color[..., 0] // 2 + color[..., 1] // 4


def stacked(gray):
    return np.repeat(gray[..., None], 3, axis=-1)


def saved(image, suffix, **options):
    file = io.BytesIO()
    name = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    image.save(file, name, **options)
    return file.getvalue()


# --- written byte by byte, since Pillow does not write them --------------------------------------


def png(array, bits, kind, chunks=()):
    """A PNG of big-endian samples; `kind` is its color type: 0 gray, 2 RGB, 4 LA, 6 RGBA."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunk(name, data) for name, data in chunks)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(array, order, *, photometric=None, numbers=1, planes=1, bits=None, data=None):
    """An uncompressed TIFF; `order` is "<" or ">", `numbers` 1 unsigned, 2 signed, 3 floats."""
    height, width, samples = (*array.shape, 1)[:3]
    data = data or (np.moveaxis(array, -1, 0) if planes == 2 else array).tobytes()
    bits = bits or array.itemsize * 8
    strips = samples if planes == 2 else 1
    photometric = (2 if samples > 2 else 1) if photometric is None else photometric
    fields = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [bits] * samples),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "I", [0] * strips),  # where the strips begin: below
        (277, "H", [samples]),
        (278, "I", [height]),
        (279, "I", [len(data) // strips] * strips),
        (284, "H", [planes]),
        (339, "H", [numbers] * samples),
    ]
    where = 8 + 2 + 12 * len(fields) + 4
    sizes = [struct.calcsize(kind) * len(values) for _, kind, values in fields]
    start = where + sum(size for size in sizes if size > 4)
    entries, far = b"", b""
    for tag, kind, values in fields:
        if tag == 273:
            values = [start + n * len(data) // strips for n in range(strips)]
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(values))
        if len(packed) > 4:
            entries, far = entries + struct.pack(f"{order}I", where + len(far)), far + packed
        else:
            entries += packed.ljust(4, b"\0")
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return magic + struct.pack(f"{order}H", len(fields)) + entries + b"\0\0\0\0" + far + data


# --- the kinds -----------------------------------------------------------------------------------

# What is stored where EXIF turns it to the picture. The standard says at which sides of the picture
# the first row and the first column that are stored are: 1 top and left, 2 top and right, 3 bottom
# and right, 4 bottom and left, 5 left and top, 6 right and top, 7 right and bottom, 8 left and
# bottom.
STORED = {
    1: lambda u: u,
    2: lambda u: u[:, ::-1],
    3: lambda u: u[::-1, ::-1],
    4: lambda u: u[::-1],
    5: lambda u: u.swapaxes(0, 1),
    6: lambda u: u.swapaxes(0, 1)[::-1],
    7: lambda u: u.swapaxes(0, 1)[::-1, ::-1],
    8: lambda u: u.swapaxes(0, 1)[:, ::-1],
}
COLOR = ramp()
GRAY = gray_of(COLOR)
WIDE = GRAY.astype("uint16") * 257 + 100  # 16 bits, which are not a multiple of 257
WIDE_COLOR = COLOR.astype("uint16") * 257 - (COLOR > 0) * np.uint16(100)
ALPHA = ramp()[..., ::-1][..., 1]
OTHER = COLOR[::-1, ::-1].copy()


def _image(array):
    return Image.fromarray(np.ascontiguousarray(array))


def _with_alpha(array):
    return np.dstack([array, ALPHA.astype(array.dtype) * (257 if array.itemsize == 2 else 1)])


def _indexed(transparency=None, suffix="png"):
    """Return pixels that are numbers of 200 colors of a palette."""
    palette = ramp(10, 20).reshape(-1, 3)
    numbers = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 200
    image = _image(numbers.astype("uint8"))
    image.putpalette(palette.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    return saved(image, suffix, **options), palette[numbers]


def _one_bit():
    bits = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 5 < 2
    return _image(bits), stacked(bits * np.uint8(255))


def _twelve_bit():
    values = GRAY.astype("uint32") * 4095 // 255
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1)
    return tiff(GRAY, "<", bits=12, data=packed.astype("uint8").tobytes())


def _turned(suffix, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(_image(STORED[orientation](COLOR)), suffix, exif=exif, **options)


def _exif_at_the_end(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    plain = png(np.ascontiguousarray(STORED[orientation](COLOR)), 8, 2)
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data
    return plain[:-12] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + plain[-12:]


def _four_grays():
    numbers = GRAY // 64
    image = _image(numbers)
    image.putpalette(bytes(level for gray in (0, 85, 170, 255) for level in [gray] * 3))
    return saved(image, "png", bits=2), stacked(numbers * np.uint8(85))


def _cmyk():
    ink = np.dstack([255 - COLOR, np.zeros_like(GRAY)])
    return Image.merge("CMYK", [_image(ink[..., n]) for n in range(4)])


def _kinds():
    color, gray = _image(COLOR), _image(GRAY)
    yield "png", "png", saved(color, "png"), COLOR, 0
    yield "png, gray", "png", saved(gray, "png"), stacked(GRAY), 0
    yield "png, one bit", "png", saved(_one_bit()[0], "png"), _one_bit()[1], 0
    yield "png, RGBA", "png", saved(_image(_with_alpha(COLOR)), "png"), COLOR, 0
    yield "png, LA", "png", png(_with_alpha(GRAY), 8, 4), stacked(GRAY), 0
    yield (
        "png, gray with one that is transparent",
        "png",
        png(GRAY, 8, 0, [(b"tRNS", b"\0\x20")]),
        stacked(GRAY),
        0,
    )
    yield (
        "png, RGB with one that is transparent",
        "png",
        png(COLOR, 8, 2, [(b"tRNS", bytes(6))]),
        COLOR,
        0,
    )
    yield "png, palette of two bits", "png", *_four_grays(), 0
    yield "png, EXIF after the pixels", "png", _exif_at_the_end(6), COLOR, 0
    yield "png, palette", "png", *_indexed(), 0
    yield "png, palette with one that is transparent", "png", *_indexed(3), 0
    yield "png, palette with transparencies", "png", *_indexed(bytes(range(200))), 0
    yield "png, 16 bits gray", "png", png(WIDE, 16, 0), stacked(GRAY), 1
    transparent = [(b"tRNS", struct.pack(">H", WIDE[0, 0]))]
    yield (
        "png, 16 bits gray with one that is transparent",
        "png",
        png(WIDE, 16, 0, transparent),
        stacked(GRAY),
        1,
    )
    yield "png, 16 bits RGB", "png", png(WIDE_COLOR, 16, 2), COLOR, 1
    yield "png, 16 bits LA", "png", png(_with_alpha(WIDE), 16, 4), stacked(GRAY), 1
    yield "png, 16 bits RGBA", "png", png(_with_alpha(WIDE_COLOR), 16, 6), COLOR, 1
    for order, name in (("<", "little"), (">", "big")):
        wide = WIDE.astype(f"{order}u2")
        yield f"tiff, 16 bits gray, {name} endian", "tif", tiff(wide, order), stacked(GRAY), 1
        wide = WIDE_COLOR.astype(f"{order}u2")
        yield f"tiff, 16 bits RGB, {name} endian", "tif", tiff(wide, order), COLOR, 1
        wide = _with_alpha(WIDE_COLOR).astype(f"{order}u2")
        yield f"tiff, 16 bits RGBA, {name} endian", "tif", tiff(wide, order), COLOR, 1
        yield f"tiff, 8 bits, {name} endian", "tif", tiff(COLOR, order), COLOR, 0
        yield (
            f"tiff, 8 bits in planes, {name} endian",
            "tif",
            tiff(COLOR, order, planes=2),
            COLOR,
            0,
        )
        yield (
            f"tiff, white is 0, {name} endian",
            "tif",
            tiff(255 - GRAY, order, photometric=0),
            stacked(GRAY),
            0,
        )
    yield (
        "tiff, 16 bits, white is 0",
        "tif",
        tiff(65535 - WIDE, "<", photometric=0),
        stacked(GRAY),
        1,
    )
    yield "tiff, 12 bits", "tif", _twelve_bit(), stacked(GRAY), 1
    wide = saved(_image(WIDE), "tif", compression="tiff_lzw")
    yield "tiff, 16 bits gray, LZW", "tif", wide, stacked(GRAY), 1
    pages = saved(color, "tif", save_all=True, append_images=[_image(OTHER)])
    yield "tiff, two pages", "tif", pages, COLOR, 0
    yield "tiff, CMYK", "tif", saved(_cmyk(), "tif"), COLOR, 1
    for name, options in (
        ("baseline", {}),
        ("progressive", {"progressive": True}),
        ("no subsampling", {"subsampling": 0}),
        ("optimized", {"optimize": True, "subsampling": 2}),
    ):
        yield f"jpeg, {name}", "jpg", saved(color, "jpg", quality=95, **options), COLOR, SUBSAMPLED
    yield "jpeg, gray", "jpg", saved(gray, "jpg", quality=95), stacked(GRAY), LOSSY
    yield "jpeg, CMYK", "jpg", saved(_cmyk(), "jpg", quality=95), COLOR, LOSSY
    yield "gif", "gif", *_indexed(suffix="gif"), 0
    yield "bmp", "bmp", saved(color, "bmp"), COLOR, 0
    yield "bmp, palette", "bmp", *_indexed(suffix="bmp"), 0
    yield "bmp, one bit", "bmp", saved(_one_bit()[0], "bmp"), _one_bit()[1], 0
    yield "webp", "webp", saved(color, "webp", lossless=True), COLOR, 0
    yield "webp, lossy", "webp", saved(color, "webp", quality=95), COLOR, SUBSAMPLED
    transparent = saved(_image(_with_alpha(COLOR)), "webp", lossless=True, exact=True)
    yield "webp, RGBA", "webp", transparent, COLOR, 0
    more = {"save_all": True, "append_images": [_image(OTHER)], "duration": 100}
    for suffix in ("png", "webp"):
        options = more | ({"lossless": True} if suffix == "webp" else {})
        yield f"{suffix}, animated", suffix, saved(color, suffix, **options), COLOR, 0
    frames = [_image(np.full((HEIGHT, WIDTH), n, "uint8")) for n in (40, 200)]
    moving = saved(frames[0], "gif", save_all=True, append_images=frames[1:], duration=100)
    yield "gif, animated", "gif", moving, np.full_like(COLOR, 40), 0
    yield "a jpeg called .png", "png", saved(color, "jpg", quality=95), COLOR, SUBSAMPLED
    yield "a png called .JPG", "JPG", saved(color, "png"), COLOR, 0
    yield "a webp called .gif", "gif", saved(color, "webp", lossless=True), COLOR, 0
    for orientation in STORED:
        text = f"EXIF orientation {orientation}"
        yield (
            f"jpeg, {text}",
            "jpg",
            _turned("jpg", orientation, quality=95, subsampling=0),
            COLOR,
            LOSSY,
        )
        yield (
            f"jpeg, progressive, {text}",
            "jpg",
            _turned("jpg", orientation, quality=95, subsampling=0, progressive=True),
            COLOR,
            LOSSY,
        )
        yield f"png, {text}", "png", _turned("png", orientation), COLOR, 0
        yield f"webp, {text}", "webp", _turned("webp", orientation, lossless=True), COLOR, 0
        yield f"tiff, {text}", "tif", _turned("tif", orientation), COLOR, 0


KINDS = {
    name: ImageFile(suffix, content, pixels, tolerance)
    for name, suffix, content, pixels, tolerance in _kinds()
}


def _cut(content):
    return content[: len(content) // 2]


# Name -> bytes, and a part of what the error says.
BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"This is no image, only words.", "not a PNG, JPEG, WebP, BMP, GIF or TIFF image"),
    "a cut jpeg": (_cut(KINDS["jpeg, baseline"].content), "truncated"),
    "a cut png": (_cut(KINDS["png"].content), "truncated"),
    "a cut webp": (_cut(KINDS["webp"].content), ""),
    "a cut tiff": (_cut(KINDS["tiff, 16 bits gray, big endian"].content), ""),
    "a head alone": (KINDS["png"].content[:16], ""),
    "floats": (tiff(WIDE.astype("<f4"), "<", numbers=3), "floats"),
    "floats, big endian": (tiff(WIDE.astype(">f4"), ">", numbers=3), "floats"),
    "32 bits": (tiff(WIDE.astype("<u4"), "<"), "32-bit"),
    "signed 16 bits": (tiff(WIDE.astype("<i2"), "<", numbers=2), "signed"),
    "signed 8 bits": (tiff(GRAY.astype("i1"), "<", numbers=2), "signed"),
    "16 bits in planes": (tiff(WIDE_COLOR.astype("<u2"), "<", planes=2), "separate planes"),
    "144 million pixels": (saved(Image.new("1", (12000, 12000)), "png"), "144,000,000 pixels"),
    "400 million pixels": (saved(Image.new("1", (20000, 20000)), "png"), "400,000,000 pixels"),
}
