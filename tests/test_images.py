"""The reader of images: every kind of file gives the pixels from which it was written."""

import io
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from image_files import BROKEN, COLOR, GRAY, KINDS, STORED, WIDE, ImageFile, ramp, saved
from PIL import Image, ImageDraw, ImageOps

from se_keras import images
from se_keras.images import center_crop, name_of, open_image, read_image
from se_keras.support.errors import InputError

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
ITU = np.array([299, 587, 114]) / 1000


def difference(a, b):
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


def file_of(kind: ImageFile, folder, name="image"):
    path = folder / f"{name}.{kind.suffix}"
    path.write_bytes(kind.content)
    return path


# --- every kind of file --------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_file_gives_the_pixels_it_was_written_from(name, tmp_path):
    kind = KINDS[name]
    pixels = read_image(file_of(kind, tmp_path))
    assert pixels.dtype == np.uint8
    assert difference(pixels, kind.pixels) <= kind.tolerance
    gray = read_image(kind.content, channels=1)[..., 0]
    assert difference(gray, (kind.pixels @ ITU).round()) <= kind.tolerance + 1


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_image_is_named_in_one_line(name, tmp_path):
    content, reason = BROKEN[name]
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    for read in (open_image, read_image, lambda source: read_image(source, 8)):
        with pytest.raises(InputError, match=rf"^can't read the image .*broken\.png: .*{reason}"):
            read(path)
        with pytest.raises(InputError, match=f"^can't read the image of .* bytes: .*{reason}") as e:
            read(content)
        assert "\n" not in str(e.value)


def in_time(call):
    """Run a call in another thread, so that a reader that waits forever fails the test."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "circle", "missing"])
def test_only_regular_files_are_opened(kind, tmp_path):
    path = tmp_path / "x.png"
    {
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "circle": lambda: path.symlink_to(path),
        "missing": lambda: path.symlink_to(tmp_path / "gone"),
    }[kind]()
    errors = []

    def read():
        with pytest.raises(InputError, match=r"can't read the image .*x\.png: ") as error:
            open_image(path)
        errors.append(error.value)

    in_time(read)
    assert "\n" not in str(errors[0])


def test_pillows_limit_is_the_users_to_set(monkeypatch):
    content = KINDS["png"].content
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", COLOR.shape[0] * COLOR.shape[1] - 1)
    with pytest.raises(InputError, match=r"864 pixels.*limit of 863.*MAX_IMAGE_PIXELS"):
        read_image(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(content).shape == COLOR.shape


@pytest.mark.parametrize(
    "name", ["png, palette with transparencies", "gif, animated", "tiff, CMYK", "bmp, palette"]
)
def test_a_file_that_is_cut_anywhere_is_an_input_error_or_an_image(name):
    content = KINDS[name].content
    messages = []
    for end in range(1, len(content), max(1, len(content) // 60)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read_image(content[:end])
            except InputError as error:
                messages.append(str(error))
    assert len(messages) > 5
    assert not any("\n" in message for message in messages)


# --- what is no file -----------------------------------------------------------------------------


def test_path_text_bytes_array_and_image_are_the_same():
    path = PHOTOS / "china.jpg"
    with Image.open(path) as opened:
        decoded = opened.convert("RGB")
    sources = [path, str(path), path.read_bytes(), decoded, np.asarray(decoded)]
    first, *others = [read_image(source, 100) for source in sources]
    assert all((first == other).all() for other in others)


@pytest.mark.parametrize("orientation", STORED)
def test_an_image_that_was_opened_by_the_user_is_turned_too_and_stays(orientation):
    kind = KINDS[f"png, EXIF orientation {orientation}"]
    with Image.open(io.BytesIO(kind.content)) as image:
        size = image.size
        assert difference(read_image(image), COLOR) == 0
        assert image.size == size
        assert difference(read_image(ImageOps.exif_transpose(image)), COLOR) == 0


def test_arrays_of_each_shape():
    color = np.dstack([COLOR, GRAY])
    assert (read_image(GRAY)[..., 2] == GRAY).all()
    assert (read_image(GRAY[..., None], channels=1)[..., 0] == GRAY).all()
    assert (read_image(color) == COLOR).all()
    assert (read_image(COLOR[::-1, ::-1]) == COLOR[::-1, ::-1]).all()


@pytest.mark.parametrize(
    "source",
    [
        COLOR / 255,
        WIDE,
        COLOR[None],
        COLOR[..., :2],
        np.zeros((0, 5, 3), "uint8"),
        np.zeros(5, "uint8"),
        7,
        None,
        [1, 2],
    ],
    ids=["floats", "uint16", "batch", "two channels", "empty", "vector", "number", "none", "list"],
)
def test_what_is_no_image_is_refused(source):
    with pytest.raises(InputError, match="`image` must be "):
        read_image(source)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_an_image_of_pillow_without_a_range_is_refused(mode):
    with pytest.raises(InputError, match="whose range is unknown"):
        read_image(Image.fromarray(GRAY).convert(mode))


@pytest.mark.parametrize("mode", ["LAB", "HSV", "YCbCr", "La", "RGBa", "LA", "PA", "1", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_other_mode_of_pillow_is_taken(mode, channels):
    through = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, "RGB")
    image = Image.fromarray(COLOR).convert(through)
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    else:
        image = image.convert(mode)
    assert read_image(image, channels=channels).shape == (*COLOR.shape[:2], channels)


def test_channels_must_be_1_or_3():
    with pytest.raises(InputError, match="`channels` must be 1 or 3, got 4"):
        read_image(COLOR, channels=4)


def test_a_name_of_any_bytes_is_read_and_named(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(path)).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"caf\\xe9\.png: it is not a PNG") as error:
        read_image(os.fsdecode(path))
    str(error.value).encode("utf-8")
    assert name_of("grün.png") == "grün.png"


# --- the middle, resized -------------------------------------------------------------------------


def with_pillow(pixels, size):
    """Crop the square in the middle and shrink it, as who serves a model would write it."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("name", KINDS)
def test_a_user_of_pillow_gets_the_same_square(name):
    kind = KINDS[name]
    upright = read_image(kind.content)
    assert difference(read_image(kind.content, 9), with_pillow(upright, 9)) <= 1
    assert difference(read_image(kind.content, 50), with_pillow(upright, 50)) <= 1


@pytest.mark.parametrize(
    "shape", [(30, 41), (41, 30), (200, 301), (8, 8), (8, 5), (1, 50), (70, 1)]
)
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_that_is_turned_is_the_upright_one(shape, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](pixels)))
    content = saved(stored, "png", exif=exif)
    for size in (8, 16, (16, 8), (5, 13)):
        assert difference(read_image(content, size), read_image(pixels, size)) <= 1


def test_shrinking_does_not_alias():
    # Lines of one pixel: whoever takes one pixel of many sees black or white, not gray.
    lines = np.zeros((300, 300, 3), "uint8")
    lines[:, ::2] = 255
    shrunk = read_image(lines, 32)
    assert 120 <= shrunk.min() <= shrunk.max() <= 135


@pytest.mark.parametrize("size", [(10, 20), (20, 10), (24, 36)])
def test_the_middle_of_other_proportions(size):
    pixels = read_image(COLOR, size)
    assert pixels.shape == (*size, 3)
    # The middle of the ramp stays in the middle.
    assert abs(float(pixels[..., :2].mean()) - 127.5) < 1


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (2, 5000), (1, 1)])
def test_a_thread_of_an_image_takes_no_memory(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")
    assert read_image(pixels, 64).shape == (64, 64, 3)
    tracked = []
    original = Image.Image.resize

    def resize(self, size, *arguments, **options):
        tracked.append(size[0] * size[1])
        return original(self, size, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", resize)
        cropped = center_crop(open_image(pixels), 224, crop=0.875, interpolation="bicubic")
    assert cropped.size == (224, 224)
    assert max(tracked) <= images.LONG * 256**2


@pytest.mark.parametrize("shape", [(20, 300), (300, 20), (15, 239)])
def test_a_crop_alone_is_the_crop_of_the_whole(shape, monkeypatch):
    image = open_image(ramp(*shape))
    whole = np.asarray(center_crop(image, 64, crop=0.9, interpolation="bicubic"))
    monkeypatch.setattr(images, "LONG", 1)
    alone = np.asarray(center_crop(image, 64, crop=0.9, interpolation="bicubic"))
    assert difference(whole, alone) <= 1


# --- large photos --------------------------------------------------------------------------------


def dark_noise():
    noise = np.random.default_rng(0).normal(4, 12, (1030, 1202))
    return Image.fromarray(noise.clip(0, 255).astype("uint8")).convert("RGB")


def print_on_paper():
    page = Image.new("RGB", (1202, 1030), "white")
    for line in range(0, 1030, 14):
        ImageDraw.Draw(page).text((0, line), "The quick brown fox " * 12, fill="black")
    return page


@pytest.mark.parametrize("picture", [dark_noise, print_on_paper])
@pytest.mark.parametrize("size", [16, 128])
def test_a_large_jpeg_is_read_as_by_pillow(picture, size):
    # A decoder that makes it smaller does not cut off what lies beyond black and white.
    content = saved(picture(), "jpg", quality=75)
    whole = np.asarray(Image.open(io.BytesIO(content)))
    assert difference(read_image(content, size), with_pillow(whole, size)) <= 1


@pytest.mark.parametrize("orientation", STORED)
def test_a_large_photo_is_turned(orientation):
    # Sides that no factor divides.
    upright = ramp(1031, 1203)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    content = saved(stored, "jpg", quality=95, exif=exif)
    assert difference(read_image(content, 32), read_image(upright, 32)) <= 2
