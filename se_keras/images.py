"""The one reader of images: from a file, bytes, an array or an image of Pillow to uint8 pixels.

Every part of the package that looks at an image reads it here, so that training, prediction,
calibration and explaining see the same pixels. What the reader does with each kind:

- The content decides which format a file has, its suffix does not. Of an animated or many-paged
  file it takes the first picture.
- It turns the picture as its EXIF orientation says.
- 16 bits become 8 by division by 257, so that 65535 becomes 255; 12 bits likewise by their range.
- It drops an alpha channel and the transparency of a palette, as Pillow's `convert("RGB")` and
  timm do: a transparent pixel has the color that is stored for it.
- CMYK, YCCK, palettes and single bits become red, green and blue, or gray, as Pillow converts them.
- It refuses floats, signed and 32-bit numbers, whose range no file says, and pictures of more
  pixels than Pillow's own limit.

It decodes every image at its full size. A JPEG could be decoded at a half of its size or less, but
what the decoder cuts off at black and white would then be lost: dark noise and print would differ
by two to four levels from what a user of Pillow gets, however much smaller the result is.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from se_keras.support.errors import InputError, in_one_line
from se_keras.support.files import open_regular

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageSource = str | os.PathLike | bytes | np.ndarray | Image

# As Pillow calls them; the message has their common names. MPO is what many phones write: JPEG
# with a second picture after the first.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
FORMAT_NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
# Beyond this ratio of the sides `center_crop` resizes the crop alone, not the whole image first.
LONG = 16

_ORIENTATION = 0x0112
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES, _TIFF_NUMBERS = 258, 262, 284, 339


def open_image(source: "ImageSource", channels: int = 3) -> "Image":
    """Return an upright image of red, green and blue, or of gray.

    Args:
        source: path or bytes of an image file, uint8 array (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4), or image of Pillow.
        channels: 3 for color, 1 for gray.

    Raises:
        InputError: naming the file, if it is no regular file, no image, or not of a kind that this
            reader takes.

    Example:

    >>> import numpy as np
    >>> from se_keras.images import open_image
    >>> open_image(np.zeros((20, 30), "uint8")).mode
    'RGB'
    """
    with _open(source) as image:
        upright = _turn(image, _orientation(image))
        return _to_eight_bits(upright, _mode(channels))


def read_image(
    source: "ImageSource",
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    *,
    enlarge: bool = True,
) -> np.ndarray:
    """Return the pixels of the middle of an image, shrunk or enlarged to a size.

    The middle is the largest part of the height and width that `size` has in proportion, a square
    for one number; it is resized as by Pillow's `resize` with `BILINEAR`, with antialiasing.

    Args:
        source: as of `open_image`.
        size: height and width of the result, or one number for both; `None` leaves the image whole
            and at its own size.
        channels: 3 for color, 1 for gray.
        enlarge: whether a middle that is smaller than `size` is enlarged to it, or left as it is.

    Returns:
        uint8, (height, width, channels).

    Raises:
        InputError: as of `open_image`.

    Example:

    >>> import numpy as np
    >>> from se_keras.images import read_image
    >>> read_image(np.full((20, 30), 7, "uint8"), size=10).shape
    (10, 10, 3)
    """
    from PIL.Image import Resampling

    if size is None:
        return _to_array(open_image(source, channels))
    height, width = (size, size) if isinstance(size, int) else size
    with _open(source) as image:
        orientation = _orientation(image)
        # A small result is turned faster than a large photo.
        new = (height, width) if orientation in _LYING else (width, height)
        box = _middle(image.size, new, orientation)
        if not enlarge and box[2] - box[0] <= new[0]:
            new = (box[2] - box[0], box[3] - box[1])
        part = _crop(_to_eight_bits(image, _mode(channels)), box)
        resized = part if part.size == new else part.resize(new, Resampling.BILINEAR)
        return _to_array(_turn(resized, orientation))


def center_crop(image: "Image", size: int, crop: float, interpolation: str) -> "Image":
    """Return the square in the middle of an image, as timm's evaluation transform makes it.

    Args:
        image: what `open_image` gives.
        size: height and width of the result.
        crop: the share of the shorter side that is seen.
        interpolation: filter of Pillow: "bicubic", "bilinear", ...

    Example:

    >>> import numpy as np
    >>> from se_keras.images import center_crop, open_image
    >>> photo = open_image(np.zeros((300, 500, 3), "uint8"))
    >>> center_crop(photo, 224, crop=0.875, interpolation="bicubic").size
    (224, 224)
    """
    from PIL import Image

    method = Image.Resampling[interpolation.upper()]
    short = math.floor(size / crop)
    # torchvision.transforms rounds so: Resize the longer side down, CenterCrop to the nearest.
    width, height = (int(short * side / min(image.size)) for side in image.size)
    resized = (width, height)
    left, top = (round((side - size) / 2) for side in resized)
    box = (left, top, left + size, top + size)
    if max(image.size) <= LONG * min(image.size):
        return image.resize(resized, method).crop(box)
    scales = [side / new for side, new in zip(image.size, resized, strict=True)] * 2
    x0, y0, x1, y1 = (
        min(max(0, x * scale), side)
        for x, scale, side in zip(box, scales, image.size * 2, strict=True)
    )
    return image.resize((size, size), method, box=(x0, y0, x1, y1))


def name_of(path: str | os.PathLike) -> str:
    """Return a path in characters that any terminal or file takes, whatever bytes it is of.

    Example:

    >>> from se_keras.images import name_of
    >>> name_of("a/caf\\udce9.png")
    'a/caf\\\\xe9.png'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# --- opening -------------------------------------------------------------------------------------


@contextmanager
def _open(source: "ImageSource") -> "Iterator[Image]":
    """Give the image; what a reader of Pillow raises inside becomes one line about the source."""
    import PIL.Image

    if isinstance(source, np.ndarray):
        yield _from_array(source)
        return
    if not isinstance(source, str | os.PathLike | bytes | PIL.Image.Image):
        raise InputError(
            "`image` must be a path, the bytes of an image file, a uint8 array or an image of "
            f"Pillow, got {type(source).__name__}."
        )
    try:
        if isinstance(source, PIL.Image.Image):
            _check_pixels(source)
            yield source
        else:
            with _file(source) as file, _read_head(file) as image:
                _check_pixels(image)
                yield image
    except (InputError, MemoryError):
        raise
    # Files are not ours: a damaged one makes Pillow raise nearly anything.
    except Exception as error:
        raise InputError(f"can't read the image {_name(source)}: {_reason(error)}.") from error


def _from_array(array: np.ndarray) -> "Image":
    from PIL import Image

    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (1, 3, 4))
    if array.dtype != np.uint8 or not fits or not array.size:
        raise InputError(
            "`image` must be uint8 of (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got "
            f"{array.dtype} of {array.shape}."
        )
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _file(source: str | os.PathLike | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return BytesIO(source)
    return open_regular(source)


def _read_head(file: IO[bytes]) -> "Image":
    """Return the image of a file; Pillow reads only its head here."""
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  (they register themselves)

    Image.preinit()
    head = file.read(16)
    if not head:
        raise ValueError("it is empty")
    for name in FORMATS:
        # Not Image.open: of a picture between its limit and twice that it says so by a warning,
        # and warnings can't be caught in several threads.
        factory, accept = Image.OPEN[name]
        if accept is None or accept(head) is True:
            file.seek(0)
            return factory(file, "")
    raise ValueError(f"it is no {FORMAT_NAMES} image")


def _check_pixels(image: "Image") -> None:
    from PIL import Image

    limit, pixels = Image.MAX_IMAGE_PIXELS, math.prod(image.size)
    if limit is not None and pixels > limit:
        raise ValueError(
            f"it has {pixels:,} pixels, above Pillow's limit of {limit:,} "
            "(PIL.Image.MAX_IMAGE_PIXELS)"
        )
    if not pixels:
        raise ValueError("it has no pixels")


def _name(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return name_of(source)
    return f"of {len(source):,} bytes" if isinstance(source, bytes) else repr(source)


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else in_one_line(error)
    return text[:1].lower() + text[1:].rstrip(".") if text[1:2].islower() else text.rstrip(".")


# --- to uint8 ------------------------------------------------------------------------------------


_BETWEEN = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA", "LAB": "RGB", "HSV": "RGB"}


def _mode(channels: int) -> str:
    if channels not in (1, 3):
        raise InputError(f"`channels` must be 1 or 3, got {channels!r}.")
    return "L" if channels == 1 else "RGB"


def _to_eight_bits(image: "Image", mode: str) -> "Image":
    """Return the image as "L" or "RGB"."""
    from PIL import Image

    image.load()
    tags = getattr(image, "tag_v2", {})
    _check_numbers(image, tags)
    if image.mode.startswith("I"):
        # Pillow's own conversion cuts off at 255.
        top = 2 ** int(tags.get(_TIFF_BITS, (16,))[0]) - 1
        values = np.asarray(image).astype("float32")
        if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is 0, which Pillow heeds for 8 bits only
            values = top - values
        image = Image.fromarray(np.round(values.clip(0, top) * (255 / top)).astype("uint8"))
    if image.mode != mode:
        # Otherwise Pillow warns of a palette's transparency, or does not convert.
        image = image.convert(_BETWEEN.get(image.mode, image.mode))
    return image if image.mode == mode else image.convert(mode)


def _check_numbers(image: "Image", tags: Any) -> None:
    is_png = image.format == "PNG"  # its "I" is of 16 bits, in older versions of Pillow
    if image.mode == "F":
        raise ValueError("its pixels are floats, whose range it does not say: save it in 8 bits")
    if 2 in tags.get(_TIFF_NUMBERS, ()) or (image.mode == "I" and not is_png):
        raise ValueError(
            "its pixels are signed or 32-bit integers, whose range it does not say: save it in 8 "
            "or 16 bits"
        )
    if tags.get(_TIFF_PLANES) == 2 and max(tags.get(_TIFF_BITS, (8,))) > 8:
        raise ValueError("its 16-bit colors lie in separate planes, which Pillow misreads")


def _to_array(image: "Image") -> np.ndarray:
    return np.array(image).reshape(image.height, image.width, -1)


# --- turning and resizing ------------------------------------------------------------------------

# Orientations of EXIF: those that swap height and width, and those in which the picture that is
# stored runs against the upright one.
_LYING = (5, 6, 7, 8)
_X_REVERSED, _Y_REVERSED = (2, 3, 7, 8), (3, 4, 6, 7)


def _orientation(image: "Image") -> int:
    if image.format == "TIFF":
        image.load()  # which turns it, and drops the tag
    return image.getexif().get(_ORIENTATION, 1)


def _turn(image: "Image", orientation: int) -> "Image":
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _middle(
    size: tuple[int, int], new: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the largest middle part in the proportions of `new`."""
    scale = min(side / wanted for side, wanted in zip(size, new, strict=True))
    width, height = (max(1, round(wanted * scale)) for wanted in new)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    # What does not go in half is at the same side of the upright picture.
    if orientation in _X_REVERSED:
        left = size[0] - width - left
    if orientation in _Y_REVERSED:
        top = size[1] - height - top
    return left, top, left + width, top + height


def _crop(image: "Image", box: tuple[int, int, int, int]) -> "Image":
    return image if box == (0, 0, *image.size) else image.crop(box)
