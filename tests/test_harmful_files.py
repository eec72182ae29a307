"""Harmful files, and files damaged at random: they load, or one line refuses them."""

import faulthandler
import os
import struct
import sys
import tracemalloc
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from checks import refused, set_random_weights
from classification_models_weights import write_h5
from harmful_files import (
    H5_EDITS,
    H5_PATCHES,
    KERAS_EDITS,
    MODEL_EDITS,
    NAME_EDITS,
    SECRET,
    rewritten,
)
from safetensors.numpy import load_file, save_file

import se_keras
from se_keras.cli import main
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError
from se_keras.weights.convert import CLASSIFIER
from se_keras.weights.readers import hdf5, open_file
from se_keras.weights.readers.keras3 import load_archive

L = keras.layers
NARROW = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "stem_widths": (4,)}
TIMM_ROW = replace(find_recipe("seresnet50"), name="tiny", **NARROW)
SEED = int(os.environ.get("FUZZ_SEED", "0"))  # others find what this one does not
FEW, MANY = 40, 840  # damaged files of a kind; six kinds
LONGEST = 300  # seconds that a file may take before the process is ended: HDF5 has hung for ever


def of_keras():
    image = keras.Input((8, 8, 3))
    x = L.BatchNormalization(name="stem_norm")(L.Conv2D(4, 3, name="stem_conv")(image))
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(image, L.Dense(5, name=CLASSIFIER)(x), name="small")


def of_timm():
    return se_keras.create(TIMM_ROW, input_shape=(32, 32, 3), classes=5)


@pytest.fixture(scope="module")
def models():
    """A model of each kind with weights of its own."""
    made = {"keras": of_keras(), "timm": of_timm()}
    for model in made.values():
        set_random_weights(model, 1)
    return made


@pytest.fixture(scope="module")
def good(models, tmp_path_factory):
    """Name of a good file -> its path."""
    folder = tmp_path_factory.mktemp("good")
    models["keras"].save_weights(folder / "a.weights.h5")
    models["keras"].save(folder / "a.keras")
    se_keras.save_timm(models["timm"], folder / "a.safetensors")
    kernel = ("conv2d_1/kernel:0", (3, 3, 3, 4))
    norm = [(f"norm/{name}:0", (4,)) for name in ("gamma", "beta")]
    write_h5(folder / "a.h5", [("conv2d_1", [kernel]), ("norm", norm)], root="model_weights")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_bytes(SECRET * 100)
    return path


@contextmanager
def unchanged(model):
    before = [array.tobytes() for array in model.get_weights()]
    yield
    assert [array.tobytes() for array in model.get_weights()] == before


def check_refused(model, path, load=se_keras.load_weights):
    """Check that one line names the file and that little memory is used; return the line."""
    tracemalloc.start()
    with unchanged(model), pytest.raises(InputError) as caught:
        load(model, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25
    message = str(caught.value)
    assert path.name in message
    assert message.isprintable() or "does not fit" in message  # a table
    return message


# --- made to harm --------------------------------------------------------------------------------


def edited(path, edit, secret):
    with h5py.File(path, "r+") as file:
        edit(file, secret)


@pytest.mark.parametrize("name", H5_EDITS | NAME_EDITS)
def test_a_harmful_h5_file_is_refused(name, models, good, secret, tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_bytes(good["a.weights.h5"].read_bytes())
    edited(path, (H5_EDITS | NAME_EDITS)[name], secret)
    check_refused(models["keras"], path)
    inside = path.read_bytes()
    path = tmp_path / "a.keras"
    path.write_bytes(
        rewritten(good["a.keras"], lambda members: members.update({"model.weights.h5": inside}))
    )
    check_refused(models["keras"], path)
    check_refused(models["keras"], path, lambda model, path: load_archive(path))


@pytest.mark.parametrize("name", H5_EDITS)
def test_a_harmful_h5_file_of_keras_2_is_refused(name, models, good, secret, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(good["a.h5"].read_bytes())
    edited(path, H5_EDITS[name], secret)
    check_refused(models["keras"], path)


LISTS = {
    "number": 5,
    "numbers": [1, 2],
    "table": [["a"]],
    "no space": h5py.Empty("S1"),
    "no UTF-8": np.array([b"\xff\xfe"]),
    "lines": ["a\nb"],
    "others": ["a"],
}


@pytest.mark.parametrize("attribute", ["layer_names", "weight_names"])
@pytest.mark.parametrize("name", LISTS)
def test_a_damaged_list_of_names_is_refused(name, attribute, models, good, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(good["a.h5"].read_bytes())
    with h5py.File(path, "r+") as file:
        place = "model_weights" if attribute == "layer_names" else "model_weights/conv2d_1"
        file[place].attrs[attribute] = LISTS[name]
    check_refused(models["keras"], path)


@pytest.mark.parametrize("kind", ["external", "soft", "hard"])
def test_weights_of_keras_2_in_another_place_are_refused(kind, models, good, tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(good["a.h5"].read_bytes())
    with h5py.File(tmp_path / "a.h5", "w") as file, h5py.File(other) as source:
        source.copy("model_weights", file, "kept")
        links = {
            "external": h5py.ExternalLink(str(other), "/model_weights"),
            "soft": h5py.SoftLink("/kept"),
            "hard": file["kept"],
        }
        file["model_weights"] = links[kind]
    check_refused(models["keras"], tmp_path / "a.h5")


@pytest.mark.parametrize("name", H5_PATCHES)
def test_an_h5_file_that_would_hold_hdf5_in_a_loop_is_refused(name, models, good, tmp_path):
    inside = H5_PATCHES[name](good["a.weights.h5"].read_bytes())
    path = tmp_path / "a.weights.h5"
    path.write_bytes(inside)
    message = check_refused(models["keras"], path)
    if name == "text of another length":  # HDF5 refuses it too, but takes 2 GiB first
        assert "text with a stated length of 2,147,483,648 bytes" in message
    path = tmp_path / "a.keras"
    path.write_bytes(
        rewritten(good["a.keras"], lambda members: members.update({"model.weights.h5": inside}))
    )
    check_refused(models["keras"], path)


def test_an_h5_file_of_too_many_parts_is_refused(models, good, monkeypatch):
    monkeypatch.setattr(hdf5, "MAX_ITEMS", 10)
    check_refused(models["keras"], good["a.weights.h5"])


def copied(path, to, version, groups=0, **packing):
    """Write an h5 file again as another version of HDF5, with more groups in its first group."""
    with h5py.File(path) as old, h5py.File(to, "w", libver=version) as new:

        def copy(place, item):
            made = (
                new.create_dataset(place, data=item[()], **packing)
                if isinstance(item, h5py.Dataset)
                else new.require_group(place)
            )
            made.attrs.update(item.attrs)

        old.visititems(copy)
        for number in range(groups):
            new.create_group(f"{next(iter(new))}/{number}")


@pytest.mark.parametrize(
    "packing",
    [{}, {"chunks": True}, {"compression": "gzip", "shuffle": True, "fletcher32": True}],
)
@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_an_h5_file_that_is_packed_is_read(packing, version, models, good, tmp_path):
    path = tmp_path / "a.weights.h5"
    copied(good["a.weights.h5"], path, version, **packing)
    fresh = of_keras()
    se_keras.load_weights(fresh, path)
    for a, b in zip(models["keras"].get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["a.weights.h5", "a.keras"])
def test_an_h5_file_with_fractal_heaps_is_tried_in_another_process(
    kind, models, good, tmp_path, monkeypatch
):
    inside = tmp_path / "inside.weights.h5"
    copied(good["a.weights.h5"], inside, "latest", groups=20)
    content = inside.read_bytes()
    if kind == "a.keras":
        content = rewritten(
            good[kind], lambda members: members.update({"model.weights.h5": content})
        )
    path = tmp_path / kind
    path.write_bytes(content)
    fresh = of_keras()
    se_keras.load_weights(fresh, path)
    for a, b in zip(models["keras"].get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setattr(hdf5, "LOOK", "import os; os.abort()")  # as HDF5 does
    check_refused(fresh, path)


@pytest.mark.parametrize("name", KERAS_EDITS)
def test_a_harmful_archive_is_refused(name, models, good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.keras"
    path.write_bytes(KERAS_EDITS[name](good["a.keras"]))
    check_refused(models["keras"], path)
    check_refused(models["keras"], path, lambda model, path: load_archive(path))
    assert os.listdir(tmp_path) == ["a.keras"]


@pytest.mark.parametrize("name", MODEL_EDITS)
def test_no_archive_chooses_code_or_takes_memory(name, models, good, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.keras"
    path.write_bytes(MODEL_EDITS[name](good["a.keras"]))
    check_refused(models["keras"], path, lambda model, path: load_archive(path))
    assert "a.keras" in refused(main, ["count", "a.keras"], capsys)
    assert os.listdir(tmp_path) == ["a.keras"]


def test_what_torch_does_not_store_is_refused(models, good, tmp_path):
    torch = pytest.importorskip("torch")
    state = {k: torch.from_numpy(v) for k, v in load_file(good["a.safetensors"]).items()}
    bias = state["fc.bias"]
    path = tmp_path / "a.pth"
    with warnings.catch_warnings(action="ignore"):  # PyTorch: some kinds are of a prototype
        others = [
            torch.zeros(1).expand(5),
            torch.zeros(1).expand(2**33),
            bias.to("meta"),
            bias.to_sparse(),
            torch._neg_view(bias),
            torch.complex(bias, bias).conj().imag,
            torch.nested.nested_tensor([bias, bias]),
            torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8),
        ]
        for other in others:
            with suppress(NotImplementedError, RuntimeError):  # PyTorch itself can't write it
                torch.save(state | {"fc.bias": other}, path)
                check_refused(models["timm"], path)


@pytest.mark.parametrize("kind", ["a.pth", "a.keras"])
def test_an_archive_over_several_disks_is_refused(kind, models, good, tmp_path):
    path = tmp_path / kind
    if kind == "a.pth":
        write_torch(path, good, zipped=True)
    else:
        path.write_bytes(good[kind].read_bytes())
    *whole, end = path.read_bytes().rpartition(b"PK\5\6")
    path.write_bytes(whole[0] + struct.pack("<4sLQL", b"PK\6\7", 1, 0, 1) + whole[1] + end)
    check_refused(models["timm" if kind == "a.pth" else "keras"], path)


def test_a_long_header_is_refused(models, good, tmp_path):
    content = good["a.safetensors"].read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    path = tmp_path / "a.safetensors"
    for header in (content[8 : 8 + length] + b" " * 2**24, b"{" * 2**20, b"[" * 2**20):
        path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
        check_refused(models["timm"], path)


def test_a_name_that_no_message_could_show_is_refused(models, good, tmp_path):
    tensors = load_file(good["a.safetensors"])
    for name in ("fc\n.bias", "\x1b[31m", "a" * 5000):
        save_file(tensors | {name: np.zeros(1, "f4")}, tmp_path / "a.safetensors")
        check_refused(models["timm"], tmp_path / "a.safetensors")


# --- damaged at random ---------------------------------------------------------------------------


def write_torch(path, good, zipped):
    torch = pytest.importorskip("torch")
    state = {k: torch.from_numpy(v) for k, v in load_file(good["a.safetensors"]).items()}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)


KINDS = {
    "a.weights.h5": "keras",
    "a.keras": "keras",
    "a.h5": "keras",
    "a.safetensors": "timm",
    "zipped.pth": "timm",
    "old.pth": "timm",
}


def damaged(content, random):
    """Make a file with up to eight faults of one kind: bytes, numbers, swapped places, cuts."""
    content, size = bytearray(content), len(content)
    kind = random.integers(5)
    numbers = (0, 1, 8, 16, 2**31, 2**62, 2**64 - 1, size)
    for place in random.integers(size, size=random.integers(1, 9)):
        start = place & ~7
        if kind == 0:
            content[place] = random.integers(256)
        elif kind == 1:
            content[place] ^= 1 << random.integers(8)
        elif kind == 2:
            content[start : start + 8] = struct.pack("<Q", numbers[random.integers(len(numbers))])
        elif kind == 3:
            other = random.integers(size) & ~7
            content[start : start + 8] = content[other : other + 8]
    return bytes(content[: random.integers(size)] if kind == 4 else content[:size])


def outcome(path, model):
    """Read and load a damaged file; give the refusal, if it is one."""
    try:
        with open_file(path, called=path.name) as checkpoint:
            for name, tensor in checkpoint.tensors.items():
                values = checkpoint.read(name)
                assert values.shape == tensor.shape
                assert str(values.dtype) == tensor.dtype
        se_keras.load_weights(model, path)
    except InputError as error:
        return str(error)
    return ""


def fuzz(name, count, models, good, tmp_path):
    path = tmp_path / name
    if name.endswith(".pth"):
        write_torch(path, good, zipped=name == "zipped.pth")
    else:
        path.write_bytes(good[name].read_bytes())
    whole, model = path.read_bytes(), models[KINDS[name]]
    kept = model.get_weights()
    before = [array.tobytes() for array in kept]
    outcomes = Counter()
    for seed in range(SEED, SEED + count):
        path.write_bytes(damaged(whole, np.random.default_rng(seed)))
        print(f"{name}: seed {seed}")
        faulthandler.dump_traceback_later(LONGEST, exit=True, file=sys.__stderr__)
        with warnings.catch_warnings(action="ignore"):
            refusal = outcome(path, model)
        faulthandler.cancel_dump_traceback_later()
        outcomes["refused" if refusal else "loaded"] += 1
        if refusal:
            assert path.name in refusal
            assert [array.tobytes() for array in model.get_weights()] == before
        else:
            model.set_weights(kept)
    return outcomes


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", KINDS)
def test_a_file_damaged_at_random_is_refused_or_loaded(name, count, models, good, tmp_path):
    outcomes = fuzz(name, count, models, good, tmp_path)
    assert outcomes["refused"] > count / 10


@pytest.mark.parametrize("count", [FEW // 6, pytest.param(MANY // 4, marks=pytest.mark.slow)])
def test_a_model_damaged_at_random_is_refused_or_loaded(count, good, tmp_path):
    path = tmp_path / "a.keras"
    whole = good["a.keras"].read_bytes()
    for seed in range(SEED, SEED + count):
        path.write_bytes(damaged(whole, np.random.default_rng(seed)))
        print(f"seed {seed}")
        faulthandler.dump_traceback_later(LONGEST, exit=True, file=sys.__stderr__)
        with suppress(InputError), warnings.catch_warnings(action="ignore"):
            assert isinstance(load_archive(path), keras.Model)
        faulthandler.cancel_dump_traceback_later()
