"""Read images from files, bytes, arrays or Pillow images as uint8 pixels.

All code of the package reads images here, so that training, prediction, calibration and
explanations see the same pixels:

- The content of a file determines its format, not its suffix. Of an animated file or one with
  several pages, the first picture is used.
- The picture is rotated as its EXIF orientation says.
- 16-bit values are divided by 257, so that 65535 becomes 255; 12-bit values likewise.
- An alpha channel and the transparency of a palette are dropped, as in Pillow's `convert("RGB")`
  and timm: a transparent pixel keeps its stored color.
- CMYK, YCCK, palettes and single bits become RGB or gray, as Pillow converts them.
- Floats, signed and 32-bit integers are refused, because their range is unknown. Images with
  more pixels than Pillow's limit are refused too.

Every image is decoded at its full size. Decoding a JPEG at a reduced size would be faster, but
clips black and white before the averaging: noise in dark areas and print would differ by two to
four levels from Pillow's result.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from se_keras.support.arguments import text_of_path
from se_keras.support.errors import InputError, in_one_line, shown
from se_keras.support.files import open_regular
from se_keras.support.tables import visible

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageSource = str | os.PathLike | bytes | np.ndarray | Image

# Pillow's names; FORMAT_NAMES has the common ones. Many phones write MPO: a JPEG with a second
# picture after the first.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
FORMAT_NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
# Characters of a path in a message.
LONGEST = 1000
# Beyond this ratio of the sides, `center_crop` resizes only the crop and not the whole image.
LONG = 16

_ORIENTATION = 0x0112
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES, _TIFF_NUMBERS = 258, 262, 284, 339


def open_image(source: "ImageSource", channels: int = 3) -> "Image":
    """Open an image upright, in RGB or gray.

    Args:
        source: path or bytes of an image file, uint8 array (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4), or Pillow image.
        channels: 3 for color, 1 for gray.

    Raises:
        InputError: if the source is not a regular file, not an image, or an image of an
            unsupported kind; the message names the file.

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
    """Read the center of an image as pixels of a given size.

    The center is the largest centered part with the proportions of `size` (a square for one
    number). It is resized as by Pillow's `resize` with `BILINEAR`, with antialiasing.

    Args:
        source: as in `open_image`.
        size: height and width of the result, or one number for both; `None` reads the whole image
            at its own size.
        channels: 3 for color, 1 for gray.
        enlarge: whether to enlarge a center that is smaller than `size`.

    Returns:
        A uint8 array (height, width, channels).

    Raises:
        InputError: as in `open_image`.

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
        # Rotating the small result is faster than rotating a large photo.
        new = (height, width) if orientation in _LYING else (width, height)
        box = _middle(image.size, new, orientation)
        if not enlarge and box[2] - box[0] <= new[0]:
            new = (box[2] - box[0], box[3] - box[1])
        part = _crop(_to_eight_bits(image, _mode(channels)), box)
        resized = part if part.size == new else part.resize(new, Resampling.BILINEAR)
        return _to_array(_turn(resized, orientation))


def center_crop(image: "Image", size: int, crop: float, interpolation: str) -> "Image":
    """Crop the central square of an image as timm's evaluation transform does.

    Args:
        image: result of `open_image`.
        size: height and width of the result.
        crop: side of the square as a share of the image's shorter side.
        interpolation: Pillow's name of the filter: "bicubic", "bilinear", ...

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
    # Round as torchvision.transforms does: Resize rounds down, CenterCrop to the nearest integer.
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
    """Return a path with undecodable bytes escaped, so that it can be printed and written.

    Example:

    >>> from se_keras.images import name_of
    >>> name_of("a/caf\\udce9.png")
    'a/caf\\\\xe9.png'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def line_of(path: str | os.PathLike) -> str:
    r"""Return a path in characters that stay in their line, for a message.

    Example:

    >>> from se_keras.images import line_of
    >>> line_of("two\nlines.png")
    'two\\nlines.png'
    """
    line = visible(name_of(path))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]}...{line[-LONGEST // 2 :]}"


# --- opening -------------------------------------------------------------------------------------


@contextmanager
def _open(source: "ImageSource") -> "Iterator[Image]":
    """Open the image; turn errors of Pillow's readers into one line about the source."""
    import PIL.Image

    if isinstance(source, np.ndarray):
        yield _from_array(source)
        return
    if not isinstance(source, str | os.PathLike | bytes | PIL.Image.Image):
        raise InputError(
            "`image` must be a path, the bytes of an image file, a uint8 array or a Pillow image, "
            f"got {type(source).__name__}."
        )
    if isinstance(source, str | os.PathLike):
        source = text_of_path("image", source)
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
    # A damaged file can make Pillow raise nearly any error.
    except Exception as error:
        raise InputError(f"can't read the image {_name(source)}: {_reason(error)}.") from error


def _from_array(array: np.ndarray) -> "Image":
    from PIL import Image

    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (1, 3, 4))
    if array.dtype != np.uint8 or not fits or not array.size:
        raise InputError(
            "`image` must be uint8 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got "
            f"{array.dtype} of shape {array.shape}."
        )
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _file(source: str | os.PathLike | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return BytesIO(source)
    return open_regular(source)


def _read_head(file: IO[bytes]) -> "Image":
    """Return the image of a file, of which Pillow has only read the head."""
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  (the import registers them)

    Image.preinit()
    head = file.read(16)
    if not head:
        raise ValueError("it is empty")
    for name in FORMATS:
        # Not Image.open: it warns of images between its limit and twice the limit, and warnings
        # can't be caught in several threads.
        factory, accept = Image.OPEN[name]
        if accept is None or accept(head) is True:
            file.seek(0)
            return factory(file, "")
    raise ValueError(f"it is not a {FORMAT_NAMES} image")


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
        return line_of(source)
    return f"of {len(source):,} bytes" if isinstance(source, bytes) else repr(source)


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else in_one_line(error)
    return text[:1].lower() + text[1:].rstrip(".") if text[1:2].islower() else text.rstrip(".")


# --- to uint8 ------------------------------------------------------------------------------------


_BETWEEN = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA", "LAB": "RGB", "HSV": "RGB"}


def _mode(channels: int) -> str:
    if channels not in (1, 3):
        raise InputError(f"`channels` must be 1 or 3, got {shown(channels)}.")
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
        if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is 0, which Pillow handles only for 8 bits
            values = top - values
        image = Image.fromarray(np.round(values.clip(0, top) * (255 / top)).astype("uint8"))
    if image.mode != mode:
        # Without this step Pillow warns about a palette's transparency, or can't convert.
        image = image.convert(_BETWEEN.get(image.mode, image.mode))
    return image if image.mode == mode else image.convert(mode)


def _check_numbers(image: "Image", tags: Any) -> None:
    is_png = image.format == "PNG"  # older versions of Pillow open 16-bit PNG as mode "I"
    if image.mode == "F":
        raise ValueError("its pixels are floats, whose range is unknown: save it in 8 bits")
    if 2 in tags.get(_TIFF_NUMBERS, ()) or (image.mode == "I" and not is_png):
        raise ValueError(
            "its pixels are signed or 32-bit integers, whose range is unknown: save it in 8 or 16 "
            "bits"
        )
    if tags.get(_TIFF_PLANES) == 2 and max(tags.get(_TIFF_BITS, (8,))) > 8:
        raise ValueError(
            "its 16-bit colors are in separate planes, which Pillow misreads: save it in 8 bits"
        )


def _to_array(image: "Image") -> np.ndarray:
    return np.array(image).reshape(image.height, image.width, -1)


# --- turning and resizing ------------------------------------------------------------------------

# EXIF orientations: first those that swap height and width, then those in which an axis of the
# stored picture is reversed.
_LYING = (5, 6, 7, 8)
_X_REVERSED, _Y_REVERSED = (2, 3, 7, 8), (3, 4, 6, 7)


def _orientation(image: "Image") -> int:
    if image.format == "TIFF":
        image.load()  # rotates the image, and drops the tag
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
    """Return the box of the largest centered part with the proportions of `new`."""
    scale = min(side / wanted for side, wanted in zip(size, new, strict=True))
    width, height = (max(1, round(wanted * scale)) for wanted in new)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    # An odd pixel is cut from the same side of the upright picture, whatever the orientation.
    if orientation in _X_REVERSED:
        left = size[0] - width - left
    if orientation in _Y_REVERSED:
        top = size[1] - height - top
    return left, top, left + width, top + height


def _crop(image: "Image", box: tuple[int, int, int, int]) -> "Image":
    return image if box == (0, 0, *image.size) else image.crop(box)
