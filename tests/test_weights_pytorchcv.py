"""pytorchcv's weights: its names, its networks, its files.

The logits in golden/ are those of pytorchcv itself (golden/make_pytorchcv.py); the files are
written here under its names.
"""

import hashlib
import itertools
import re
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from checks import GOLDEN, array, by_size, trainable
from drawn_weights import image
from PIL import Image
from pytorchcv_weights import ROWS, is_small, sizes
from timm_weights import digest, draw, with_counters

import se_keras
from se_keras import cli
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError
from se_keras.weights import presets
from se_keras.weights.convert import plan_conversion, plan_for_timm
from se_keras.weights.identify import builders_that_fit
from se_keras.weights.key_maps import KEY_MAPS
from se_keras.weights.readers import open_file

torch = pytest.importorskip("torch")
# Name of pytorchcv -> trainable parameters (`net_weights` of its model_metainfos.csv).
PARAMETERS = {
    "seresnet20_cifar10": 274_847,
    "seresnet20_cifar100": 280_697,
    "seresnet110_cifar10": 1_744_952,
    "seresnet50": 28_088_024,
    "seresnet50b": 28_088_024,
    "seresnet101": 49_326_872,
    "seresnet101b": 49_326_872,
    "seresnet152": 66_821_848,
    "seresnext50_32x4d": 27_559_896,
    "seresnext101_32x4d": 48_955_416,
    "seresnext101_64x4d": 88_232_984,
    "senet154": 115_088_984,
}


STRIDES = ("seresnet50", "cm_seresnet50")  # on the 3x3, on the 1x1


def narrow(name):
    row = replace(find_recipe(name), depths=(1, 1), widths=(8, 16), stem_widths=(8,))
    return se_keras.create(row, input_shape=(32, 32, 3), classes=5)


def options_of(name):
    classes = 100 if name.endswith("cifar100") else find_recipe(ROWS[name]).classes
    options = {"classes": classes, "input_shape": (None, None, 3), "classifier_activation": None}
    return options | ({"shortcut": "projection"} if is_small(name) else {})


def key_map_of(name):
    kind = "SE-ResNet for small images" if is_small(name) else "SE-ResNet"
    kind = "SENet-154" if name == "senet154" else kind
    return next(row for row in KEY_MAPS if row.name == f"pytorchcv {kind}")


def tensors_of(model, name):
    """Names and shapes of pytorchcv's file for a model."""
    key_map = key_map_of(name)
    names = key_map.names(model)
    shapes = {variable.path: tuple(variable.shape) for variable in model.weights}
    return with_counters(
        {
            names[path]: key_map.layout(path, len(shape)).source_shape(shape)
            for path, shape in shapes.items()
        }
    )


def write_drawn(path, shapes):
    torch.save({name: torch.from_numpy(draw(name, s)) for name, s in shapes.items()}, path)
    return path


# --- the networks --------------------------------------------------------------------------------


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize(
    "name", ["seresnet20_cifar10", "seresnet20_cifar100", "seresnet110_cifar10"]
)
def test_parameters_with_projections_are_pytorchcvs(name):
    model = se_keras.create(ROWS[name], **options_of(name))
    assert trainable(model) == PARAMETERS[name]


@pytest.mark.parametrize("name", [n for n in ROWS if not is_small(n)])
def test_parameters_are_pytorchcvs(name):
    assert find_recipe(ROWS[name]).parameters == PARAMETERS[name]


LARGE = {"seresnet56_cifar10", "seresnet110_cifar10", "seresnext50_32x4d", "seresnet50b"}
DRAWN = [
    pytest.param(
        name, marks=[*sized.marks, pytest.mark.slow] if name in LARGE else list(sized.marks)
    )
    for name, sized in zip(ROWS, by_size(ROWS.values()), strict=True)
    if not name.endswith(("_svhn", "56_cifar100", "110_cifar100"))
]


@pytest.mark.parametrize("name", DRAWN)
def test_logits_are_pytorchcvs(name, tmp_path):
    model = se_keras.create(ROWS[name], **options_of(name))
    golden = np.load(GOLDEN / f"pytorchcv_{name}.npz")
    shapes = tensors_of(model, name)
    assert digest(shapes) == golden["names"]
    plan = se_keras.load_weights(model, write_drawn(tmp_path / "drawn.pth", shapes))
    assert plan.scheme == key_map_of(name).name
    for size in sizes(name):
        expected = golden[f"logits_{size}"]
        found = array(model(image(size)))[0]
        assert np.abs(found - expected).max() < 1e-4 * expected.std(), size


def test_the_shortcut_is_one_of_two():
    with pytest.raises(InputError, match=r"`shortcut` must be one of \('zeros', 'projection'\)"):
        se_keras.create("seresnet20", shortcut="pool")
    with pytest.raises(TypeError, match="shortcut"):
        se_keras.create("seresnet50", shortcut="projection")
    with pytest.raises(TypeError, match="shortcut"):
        se_keras.SEResNet164(shortcut="projection")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of SE-ResNet-20, and a model that it fits."""
    name = "seresnet20_cifar10"
    model = se_keras.create("seresnet20", shortcut="projection", input_shape=(8, 8, 3))
    path = tmp_path_factory.mktemp("small") / "seresnet20.pth"
    return write_drawn(path, tensors_of(model, name)), model


def test_option_a_is_refused_and_option_b_named(small):
    path, _ = small
    with pytest.raises(InputError) as caught:
        se_keras.create("seresnet20", weights=path, input_shape=(8, 8, 3))
    message = str(caught.value)
    assert "The file fits create('seresnet20', shortcut='projection')." in message
    assert "shortcut  a convolution  zeros for the new channels" in message


def test_files_of_keras_tell_the_options_apart_too(small, tmp_path):
    path = tmp_path / "model.weights.h5"
    small[1].save_weights(path)
    with pytest.raises(InputError, match=r"fits create\('seresnet20', shortcut='projection'\)\."):
        se_keras.create("seresnet20", weights=path)
    se_keras.create("seresnet20").save_weights(path)
    with pytest.raises(InputError, match=r"fits create\('seresnet20'\)\."):
        se_keras.load_weights(small[1], path)


@pytest.mark.parametrize(("row", "other"), [*itertools.permutations(STRIDES)])
def test_a_bare_file_loads_where_the_builder_says_which(row, other, tmp_path):
    """seresnet50 and seresnet50b have the same tensors: the stride is on the 1x1 or on the 3x3."""
    model = narrow(row)
    path = write_drawn(tmp_path / "a.pth", tensors_of(model, "seresnet50"))
    se_keras.load_weights(model, path)
    with pytest.raises(InputError, match="stem pool  padded on both sides  padded at the end"):
        se_keras.load_weights(narrow("legacy_seresnet50"), path)
    with (
        open_file(path, called="published", architecture=other) as published,
        pytest.raises(InputError, match=r"stride of units  on the [13]x[13] +on the [13]x[13]"),
    ):
        plan_conversion(model, published)


def test_the_file_can_not_tell_which_of_two_it_is():
    lines = (GOLDEN / "manifests" / "seresnet50.txt").read_text().splitlines()
    shapes = {path: tuple(map(int, s.split("x"))) for path, s in map(str.split, lines)}
    fit = builders_that_fit(shapes, key_map_of("seresnet50").traits)
    assert fit == [f"create({row!r})" for row in STRIDES]


def test_timm_is_not_given_the_names_of_pytorchcv(small):
    with pytest.raises(InputError, match="timm has no network like seresnet20"):
        plan_for_timm(small[1])
    with pytest.raises(InputError, match="timm has no network like cm_seresnet50"):
        plan_for_timm(narrow("cm_seresnet50"))


# --- by name -----------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, and the address under which it is served; what is downloaded has its own folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def published(served, small, monkeypatch):
    """The set `seresnet20.cv_cifar10`, at another address; its archive there."""
    folder, address = served
    path, _ = small
    archive = zipped(path)
    sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
    source = f"{address}/{archive.name}#sha1={sha1}"
    row = replace(presets.preset_of("seresnet20.cv_cifar10"), source=source)
    others = [other for other in presets.PRESETS if other.name != row.name]
    monkeypatch.setattr(presets, "PRESETS", (*others, row))
    return archive.rename(folder / archive.name)


def test_a_set_is_loaded_by_its_name(published, small, tmp_path):
    model = se_keras.create("seresnet20", weights="seresnet20.cv_cifar10")
    assert (model.name, model.input_shape) == ("seresnet20.cv_cifar10", (None, 32, 32, 3))
    se_keras.load_weights(small[1], small[0])
    for a, b in zip(model.get_weights(), small[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kept = [path.name for path in (tmp_path / "keras").rglob("*") if path.is_file()]
    assert kept == [small[0].name]  # without the archive
    published.unlink()
    assert (
        se_keras.SEResNet20(weights="seresnet20.cv_cifar10", include_top=False).name == model.name
    )


def test_names_and_pixels_are_those_of_the_set(published):
    classes = np.eye(10, dtype="float32")
    best = se_keras.decode_predictions(classes, "seresnet20.cv_cifar10", top=1)
    assert [name for [(_, name, _)] in best] == CIFAR10
    model = se_keras.create(
        "seresnet20", weights="seresnet20.cv_cifar10", include_preprocessing=True
    )
    assert se_keras.decode_predictions(classes[:1], model, top=1) == [[("airplane",) * 2 + (1.0,)]]
    pixels = se_keras.pixels_of("seresnet20.cv_cifar10")
    plain = se_keras.create("seresnet20", weights="seresnet20.cv_cifar10")
    photo = se_keras.load_image(np.full((64, 48, 3), 255, "uint8"), plain)
    prepared = se_keras.preprocess_input(photo[None], plain)
    expected = [(1 - 0.4914) / 0.2023, (1 - 0.4822) / 0.1994, (1 - 0.4465) / 0.2010]
    np.testing.assert_allclose(prepared[0, 5, 7], expected, rtol=1e-6)
    assert pixels.size == 32
    np.testing.assert_allclose(array(model(photo[None])), array(plain(prepared)), atol=1e-6)


def test_the_row_has_the_pixels_of_all_its_sets_and_no_names():
    pixels = se_keras.pixels_of("seresnet56")
    assert (pixels.size, pixels.crop, pixels.std) == (32, 1.0, (0.2023, 0.1994, 0.2010))
    assert pixels.labels is None


def test_what_is_asked_for_is_kept(published):
    with pytest.raises(InputError, match="shortcut  a convolution  zeros for the new channels"):
        se_keras.create("seresnet20", weights="seresnet20.cv_cifar10", shortcut="zeros")
    with pytest.raises(InputError, match=r"`classes` must be 10, .*cv_cifar10', got 100"):
        se_keras.create("seresnet20", weights="seresnet20.cv_cifar10", classes=100)
    with pytest.raises(InputError, match=r"The file fits create\('seresnet20', shortcut='proj"):
        se_keras.create("seresnet32", weights="seresnet20.cv_cifar10", input_shape=(8, 8, 3))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"<!DOCTYPE html>", "it is a web page"),
        (b"words", "is not a whole zip file"),
        (None, "its sha1 is "),
    ],
    ids=["page", "words", "other"],
)
def test_another_file_at_the_address_is_refused_and_not_kept(
    content, complaint, published, tmp_path
):
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    published.write_bytes(zipped(other).read_bytes() if content is None else content)
    with pytest.raises(InputError, match=complaint) as caught:
        se_keras.create("seresnet20", weights="seresnet20.cv_cifar10")
    assert published.name in str(caught.value)
    assert [path for path in (tmp_path / "keras").rglob("*") if path.is_file()] == []


def test_predict_names_the_classes_of_a_set(published, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((40, 50, 3), 77, "uint8")).save(photo)
    assert cli.main(["predict", "--weights", "seresnet20.cv_cifar10", str(photo)]) == 0
    found = re.findall(r"(\w+) +(\d+\.\d) %", capsys.readouterr().out)
    model = se_keras.create("seresnet20", weights="seresnet20.cv_cifar10")
    pixels = np.full((1, 32, 32, 3), 77 / 255)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    scores = array(model((pixels - mean) / std))[0]
    best = np.argsort(-scores)[: len(found)]
    assert found == [(CIFAR10[number], f"{100 * scores[number]:.1f}") for number in best]
    assert len(found) > 1


def test_list_shows_the_published_sets(capsys):
    assert cli.main(["list", "--weights", "seresnet20"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "pixels", "classes", "top-1", "%", "license"]
    assert [row.split() for row in rows] == [
        ["seresnet20.cv_cifar10", "32", "10", "93.99", "MIT"],
        ["seresnet20.cv_cifar100", "32", "100", "71.46", "MIT"],
        ["seresnet20.cv_svhn", "32", "10", "96.77", "MIT"],
    ]
    assert cli.main(["list", "--weights", "*.cv_in1k"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 9
    assert cli.main(["list", "--weights", "seresnet32"]) == 2
    assert "No published weights match 'seresnet32'" in capsys.readouterr().err


CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def test_class_names_are_in_the_order_of_the_data_sets():
    scores = {"cifar10": CIFAR10, "svhn": list("0123456789")}
    for images, names in scores.items():
        found = se_keras.decode_predictions(np.eye(10), f"seresnet56.cv_{images}", top=1)
        assert [name for [(_, name, _)] in found] == names
    found = se_keras.decode_predictions(np.eye(100), "seresnet110.cv_cifar100", top=1)
    names = [name for [(_, name, _)] in found]
    assert names == sorted(set(names))  # its own order
    assert (names[0], names[34], names[99]) == ("apple", "fox", "worm")


# --- its archives --------------------------------------------------------------------------------


def zipped(path, **members):
    """An archive beside a file, of the file or of other members."""
    archive = path.with_name(f"{path.name}.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in (members or {path.name: path.read_bytes()}).items():
            writer.writestr(name, content)
    return archive


def test_an_archive_is_the_file_in_it(small, tmp_path):
    path, model = small
    archive = zipped(path)
    plan = se_keras.load_weights(model, archive)
    before = model.get_weights()
    assert plan == se_keras.load_weights(model, path)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


ARCHIVES = {
    "no zip": (b"PK\x03\x04 of a zip", "is not a whole zip file"),
    "empty": ({}, "must hold exactly one file, which ends with .pth"),
    "two files": (
        {"a.pth": b"a", "b.pth": b"b"},
        "must hold exactly one file, which ends with .pth",
    ),
    "another file": ({"a.txt": b"a"}, "must hold exactly one file, which ends with .pth"),
    "a bomb": ({"a.pth": bytes(2**24)}, "which would unpack to 16,777,216"),
    "no file of PyTorch": ({"a.pth": b"words"}, "is not a whole PyTorch file"),
}


@pytest.mark.parametrize(("members", "complaint"), ARCHIVES.values(), ids=ARCHIVES)
def test_a_bad_archive_is_refused_by_its_name(members, complaint, small, tmp_path):
    archive = tmp_path / "a.pth.zip"
    if isinstance(members, bytes):
        archive.write_bytes(members)
    else:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
            for name, content in members.items():
                writer.writestr(name, content)
    with pytest.raises(InputError, match=complaint) as caught:
        se_keras.load_weights(small[1], archive)
    assert str(archive) in str(caught.value)
    assert "weights.pth" not in str(caught.value)


def test_an_archive_that_leads_out_of_its_folder_writes_nothing_there(small, tmp_path):
    archive = tmp_path / "a.pth.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("../../out.pth", small[0].read_bytes())
    se_keras.load_weights(small[1], archive)  # the name decides nothing
    assert [path.name for path in tmp_path.rglob("*")] == ["a.pth.zip"]


@pytest.mark.parametrize("damage", ["header", "middle", "end", "size", "checksum"])
def test_a_damaged_archive_is_refused(damage, small, tmp_path):
    content = bytearray(zipped(small[0]).read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    place = {"header": 0, "middle": len(content) // 2, "size": entry + 24, "checksum": entry + 16}
    if damage == "end":
        del content[-40:]
    else:
        content[place[damage]] ^= 0x55
    (tmp_path / "a.pth.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pth\.zip"):
        se_keras.load_weights(small[1], tmp_path / "a.pth.zip")
