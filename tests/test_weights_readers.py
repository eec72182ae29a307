"""Test every kind of weights file, complete and damaged."""

import json
import os
import shutil
import sys
import tarfile
import zipfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from checks import array, set_random_weights
from safetensors.numpy import load_file, save_file

import se_keras
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError, MissingExtraError
from se_keras.weights.readers import READERS, open_file
from se_keras.weights.readers.pytorch import open_torch

NARROW = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 16), "stem_widths": (8,)}
ROW = replace(find_recipe("seresnet50"), name="tiny", dropout=0.2, **NARROW)
LEGACY = replace(find_recipe("legacy_seresnet50"), name="tiny_legacy", dropout=0.2, **NARROW)
OPTIONS = {"input_shape": (32, 32, 3), "classes": 5}


def made(row=ROW, **options):
    model = se_keras.create(row, **(OPTIONS | options))
    set_random_weights(model, 1)
    return model


@pytest.fixture(scope="module")
def model():
    return made()


def write_safetensors(model, path):
    se_keras.save_timm(model, path)


def write_torch(model, path, zipped=True, wrap=lambda state: state):
    torch = pytest.importorskip("torch")
    se_keras.save_timm(model, f"{path}.safetensors")
    state = {k: torch.from_numpy(v) for k, v in load_file(f"{path}.safetensors").items()}
    os.remove(f"{path}.safetensors")
    torch.save(wrap(state), path, _use_new_zipfile_serialization=zipped)


def write_shards(model, path):
    """Three files, as `huggingface_hub.split_torch_state_dict_into_shards` names them."""
    se_keras.save_timm(model, path.with_name("all.safetensors"))
    tensors = load_file(path.with_name("all.safetensors"))
    weight_map = {k: f"a-0000{n % 3 + 1}-of-00003.safetensors" for n, k in enumerate(tensors)}
    for shard in set(weight_map.values()):
        part = {name: value for name, value in tensors.items() if weight_map[name] == shard}
        save_file(part, path.with_name(shard))
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def write_torch_before_1_6(model, path):
    write_torch(model, path, zipped=False)


def write_torch_checkpoint(model, path):
    write_torch(model, path, wrap=lambda state: {"state_dict": state, "epoch": 3})


def write_timm_checkpoint(model, path):
    """Write a checkpoint as `timm.utils.CheckpointSaver` does, with raw and averaged weights."""
    torch = pytest.importorskip("torch")
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    write_torch(
        model,
        path,
        wrap=lambda state: {
            "epoch": 9,
            "arch": "seresnet50",
            "state_dict": {name: tensor + 1 for name, tensor in state.items()},
            "optimizer": optimizer,
            "version": 2,
            "args": Namespace(model="seresnet50", lr=0.1, opt_betas=None, mean=[0.5], kwargs={}),
            "amp_scaler": {"scale": 65536.0},
            "state_dict_ema": {f"module.{name}": tensor for name, tensor in state.items()},
            "metric": 80.1,
        },
    )


def write_lightning_checkpoint(model, path):
    torch = pytest.importorskip("torch")
    write_torch(
        model,
        path,
        wrap=lambda state: {
            "epoch": 3,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
            "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}}],
            "lr_schedulers": [],
            "hparams_name": "kwargs",
            "hyper_parameters": {"lr": 0.1},
        },
    )


def write_weights(model, path):
    model.save_weights(path)


def write_keras(model, path):
    model.save(path)


def write_weights_renamed(model, path):
    model.save_weights(path.with_name("b.weights.h5"))
    path.with_name("b.weights.h5").rename(path)


def write_weights_in_parts(model, path):
    """At most 20 KB each: the variables of one layer may be in two files."""
    model.save_weights(path, max_shard_size=20 / 2**20)
    assert len(list(path.parent.glob("*.weights.h5"))) > 3


def write_trained(model, path):
    """Write a model with the states of its optimizer and its dropout."""
    trained = made()
    trained.set_weights(model.get_weights())
    trained.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    trained.optimizer.build(trained.trainable_variables)
    write = trained.save if path.name.endswith(".keras") else trained.save_weights
    write(path)


KINDS = [
    ("a.safetensors", write_safetensors),
    ("a.safetensors.index.json", write_shards),
    ("a.pth", write_torch),
    ("a.pt", write_torch_before_1_6),
    ("pytorch_model.bin", write_torch_checkpoint),
    ("checkpoint-9.pth.tar", write_timm_checkpoint),
    ("EPOCH=3.CKPT", write_lightning_checkpoint),
    ("a.weights.h5", write_weights),
    ("a.keras", write_keras),
    ("whole.h5", write_keras),  # Keras 3 still writes Keras 2's layout
    ("weights.h5", write_weights_renamed),
    ("a.weights.json", write_weights_in_parts),
    ("trained.weights.h5", write_trained),
    ("trained.keras", write_trained),
]


@pytest.mark.parametrize(("name", "write"), KINDS, ids=[name for name, _ in KINDS])
def test_weights_come_back_as_they_were(name, write, model, tmp_path):
    write(model, tmp_path / name)
    fresh = se_keras.create(ROW, **OPTIONS)
    plan = se_keras.load_weights(fresh, tmp_path / name)
    assert len(plan.assignments) == len(model.weights)
    for a, b in zip(model.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_kind_of_file_is_tried():
    tried = {next(s for s in READERS if name.lower().endswith(s)) for name, _ in KINDS}
    assert set(READERS) - tried == {".pth.zip"}  # test_weights_pytorchcv.py


# --- several sets of weights in a file of PyTorch ------------------------------------------------


def read_torch(content, tmp_path, key=None, name="a.pth"):
    """Return the names of the tensors that are read, and the notes for the plan."""
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / name)
    with open_torch(tmp_path / name, key) as contents:
        return list(contents.tensors), "".join(contents.notes)


def weights(*names):
    torch = pytest.importorskip("torch")
    return {name: torch.zeros(2, 2) for name in names}


def test_the_weights_that_timm_takes_are_taken_and_the_plan_says_so(tmp_path):
    """In its order: `timm.models._helpers.load_state_dict`, and `net` at the end."""
    order = ["state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net"]
    for n, key in enumerate(order):
        content = {other: weights(other) for other in reversed(order[n:])} | {"epoch": 3}
        names, note = read_torch(content, tmp_path)
        assert names == [key]
        assert note.startswith(f"weights: {key!r} in the file")
        assert all(repr(other) in note for other in order[n + 1 :])


@pytest.mark.parametrize(
    ("content", "key", "names"),
    [
        ({"model": {"state_dict": ["a"]}}, None, ["a"]),
        ({"model": {"state_dict": ["a"], "state_dict_ema": ["b"]}, "net": ["c"]}, None, ["b"]),
        ({"model_ema": {"module": ["a"], "decay": 0.9}, "model": ["b"]}, None, ["a"]),
        ({"weights": ["a"], "epoch": 3, "optimizer": {"state": {}}}, None, ["a"]),
        ({"state_dict": ["a"], "state_dict_ema": ["b"]}, "state_dict", ["a"]),
        ({"student": ["a"], "teacher": ["b"]}, "teacher", ["b"]),
        ({"model": {"student": ["a"], "teacher": ["b"]}}, "model.teacher", ["b"]),
        ({"state_dict": ["net.a", "ema.b", "emac"]}, "state_dict.ema", ["ema.b"]),
        (["net.a", "ema.b"], "ema", ["ema.b"]),
    ],
)
def test_one_set_of_weights_is_read(content, key, names, tmp_path):
    def filled(part):
        if isinstance(part, list):
            return weights(*part)
        return {k: filled(v) for k, v in part.items()} if isinstance(part, dict) else part

    assert read_torch(filled(content), tmp_path, key)[0] == names


def test_a_set_that_is_not_there_or_not_the_only_one_is_refused(tmp_path):
    ema = {"state_dict": weights("a"), "state_dict_ema": weights("a")}
    with pytest.raises(InputError, match=r"no weights 'x': it has 'state_dict', 'state_dict_ema'"):
        read_torch(ema, tmp_path, "x")
    with pytest.raises(InputError, match=r"no weights 'b': it has one set, without a key"):
        read_torch(weights("a"), tmp_path, "b")
    for content, choices in (
        ({"teacher": weights("a"), "student": {"net": weights("b")}}, "'teacher', 'student.net'"),
        ({"model": {"a": weights("a"), "b": weights("b")}}, "'model.a', 'model.b'"),
    ):
        with pytest.raises(
            InputError, match=f"several sets of weights, {choices}: name one of them"
        ):
            read_torch(content, tmp_path)


def test_the_arguments_of_timm_alone_are_read_beside_the_weights(tmp_path):
    torch = pytest.importorskip("torch")
    before = set(torch.serialization.get_safe_globals())
    content = {"state_dict": weights("a"), "args": Namespace(model="seresnet50")}
    assert read_torch(content, tmp_path)[0] == ["a"]
    assert set(torch.serialization.get_safe_globals()) == before
    for more, name in (
        (Namespace(path=tmp_path), "pathlib.PosixPath"),
        (Namespace(hook=Harmful()), "posix.mkdir"),
        (np.float64(3), "numpy._core.multiarray.scalar"),
        (np.zeros(3), "numpy._core.multiarray._reconstruct"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ):
        with pytest.raises(InputError) as caught:
            read_torch(content | {"more": more}, tmp_path)
        assert f"it holds {name};" in str(caught.value)
        assert str(caught.value).isprintable()
        assert set(torch.serialization.get_safe_globals()) == before


def test_what_the_user_allows_stays_allowed(tmp_path):
    torch = pytest.importorskip("torch")
    with torch.serialization.safe_globals([Namespace]):
        read_torch(weights("a"), tmp_path)
        assert Namespace in torch.serialization.get_safe_globals()


def test_a_name_in_a_pickle_can_not_write_to_the_terminal(model, tmp_path):
    harm = b"cos\n\x1b[31mred\n."
    (tmp_path / "a.pth").write_bytes(b"\x80\x02" + harm)
    with pytest.raises(InputError) as caught:
        se_keras.load_weights(model, tmp_path / "a.pth")
    assert str(caught.value).isprintable()


def test_a_true_archive_is_refused(model, tmp_path):
    pytest.importorskip("torch")
    for mode in ("w", "w:gz"):
        with tarfile.open(tmp_path / "a.pth.tar", mode) as archive:
            archive.add(__file__)
        with pytest.raises(InputError, match=r"a\.pth\.tar is an archive: unpack it"):
            se_keras.load_weights(model, tmp_path / "a.pth.tar")


def test_what_training_left_is_ignored_with_its_reason(model, tmp_path):
    write_trained(model, tmp_path / "a.keras")
    plan = se_keras.load_weights(made(), tmp_path / "a.keras")
    reasons = {ignored.source.split("/")[0]: ignored.reason for ignored in plan.ignored}
    assert reasons == {"optimizer": "state of training"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_half_precision_of_keras_is_read(name, dtype, model, tmp_path):
    half = made(dtype=dtype)
    half.set_weights(model.get_weights())
    (write_keras if name == "a.keras" else write_weights)(half, tmp_path / name)
    check_half(half, tmp_path / name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_of_torch_is_read(dtype, model, tmp_path):
    torch = pytest.importorskip("torch")

    def halved(state):
        kind = getattr(torch, dtype)
        return {k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}

    half = made(dtype=dtype)
    half.set_weights(model.get_weights())
    write_torch(model, tmp_path / "a.pth", wrap=halved)
    check_half(half, tmp_path / "a.pth")


def check_half(half, path):
    fresh = se_keras.create(ROW, **OPTIONS)
    se_keras.load_weights(fresh, path)
    for a, b in zip(half.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(a.astype("float32"), b)


# --- our own files are as strict -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
@pytest.mark.parametrize("change", [{"depths": (1, 1, 1, 2)}, {"widths": (8, 8, 8, 24)}])
def test_our_own_files_of_another_network_are_refused(change, name, tmp_path):
    """Keras itself would load the layers of a deeper network that have a place here."""
    other = made(replace(ROW, **change), include_top=False)
    (write_keras if name == "a.keras" else write_weights)(other, tmp_path / name)
    model = made(include_top=False)
    before = model.get_weights()
    with pytest.raises(InputError, match="does not fit tiny; nothing was loaded"):
        se_keras.load_weights(model, tmp_path / name)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_a_file_of_a_model_tells_v1_from_v1_5(name, model, tmp_path):
    legacy = made(LEGACY)
    legacy.save(tmp_path / name)
    with pytest.raises(InputError, match=r"stride of units  on the 1x1    +on the 3x3"):
        se_keras.load_weights(model, tmp_path / name)
    se_keras.load_weights(legacy, tmp_path / name)


def backbone(name="backbone"):
    return se_keras.create(
        "seresnet20", input_shape=(8, 8, 3), include_top=False, pooling="avg", name=name
    )


def functional():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Normalization(name="standardize")(image)  # it counts, in an integer
    return keras.Model(image, keras.layers.Dense(3, name="head")(backbone()(x)))


def sequential():
    head = keras.Sequential([keras.layers.Dense(3, name="logits")], name="head")
    model = keras.Sequential([keras.layers.Dense(3), backbone(), head])
    model.build((None, 8, 8, 3))
    return model


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = backbone()
        self.head = keras.layers.Dense(3, name="head")

    def call(self, x):
        return self.head(self.inner(x))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3)))
    return model


@pytest.mark.parametrize("build", [functional, sequential, subclassed])
def test_any_model_takes_its_own_file(build, tmp_path):
    model = build()
    set_random_weights(model)
    model.save_weights(tmp_path / "a.weights.h5")
    before = model.get_weights()
    set_random_weights(model, 2)
    se_keras.load_weights(model, tmp_path / "a.weights.h5")
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_of_one_name_in_two_models_are_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    twins = [backbone(name)(image) for name in ("left", "right")]
    model = keras.Model(image, keras.layers.Concatenate()(twins))
    model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match=r"some variables of .* have the same path"):
        se_keras.load_weights(model, tmp_path / "a.weights.h5")


def test_layers_that_a_file_can_not_tell_apart_are_refused(tmp_path):
    parts = [keras.Sequential([keras.layers.Dense(2, name="dense")]) for _ in range(2)]
    model = keras.Sequential(parts)
    model.build((None, 2))
    model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match="missing     dense/2"):
        se_keras.load_weights(model, tmp_path / "a.weights.h5")


# --- the network within a fine-tuned model -------------------------------------------------------


def flat():
    inner = backbone()
    return keras.Model(inner.input, keras.layers.Dense(3, name="head")(inner.output))


def videos():
    film = keras.Input((2, 8, 8, 3))
    return keras.Model(film, keras.layers.Dense(3)(keras.layers.TimeDistributed(backbone())(film)))


def slow(*rows):
    rows = [row if isinstance(row, tuple) else (row,) for row in rows]
    return [pytest.param(*row, marks=pytest.mark.slow) for row in rows]


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (functional, "tuned.keras"),
        *slow(
            (sequential, "tuned.keras"),
            (subclassed, "tuned.weights.h5"),
            (flat, "tuned.keras"),
            (videos, "tuned.keras"),
            (functional, "tuned.h5"),
            (sequential, "tuned.h5"),
            (flat, "tuned.h5"),
        ),
    ],
)
def test_a_backbone_is_found_within_a_model_that_was_trained_with_it(build, name, tmp_path):
    tuned = build()
    set_random_weights(tuned)
    tuned.compile("sgd", "mse")
    tuned.optimizer.build(tuned.trainable_variables)
    (write_weights if name.endswith(".weights.h5") else write_keras)(tuned, tmp_path / name)
    found = se_keras.create(
        "seresnet20", input_shape=(8, 8, 3), include_top=False, weights=tmp_path / name
    )
    expected = {variable.path.rpartition("backbone/")[2]: variable for variable in tuned.weights}
    for variable in found.weights:
        np.testing.assert_array_equal(array(variable), array(expected[variable.path]))
    plan = se_keras.load_weights(found, tmp_path / name)
    reasons = {row.reason for row in plan.ignored}
    assert reasons - {"state of training"} == {"not a part of the network"}
    outside = {row.source for row in plan.ignored if "state" not in row.reason}
    assert len(outside) == len(tuned.weights) - len(found.weights)


@pytest.mark.slow
def test_a_whole_network_needs_the_classifier_of_a_tuned_model_or_a_fresh_one(tmp_path):
    functional().save(tmp_path / "tuned.keras")
    options = {"input_shape": (8, 8, 3), "weights": tmp_path / "tuned.keras"}
    with pytest.raises(InputError, match=r"no classifier of one layer: `fresh_classifier=True`"):
        se_keras.create("seresnet20", **options)
    se_keras.create("seresnet20", fresh_classifier=True, classes=7, **options)


def nested(row):
    image = keras.Input((32, 32, 3))
    return keras.Model(image, keras.layers.Dense(3)(made(row, include_top=False)(image)))


@pytest.mark.parametrize(
    ("row", "se", "message"),
    [
        (LEGACY, True, "stride of units  on the 1x1"),
        *slow(
            (replace(ROW, depths=(1, 1, 1, 2)), True, "unexpected  stage5_block2_conv1/0"),
            (replace(ROW, widths=(8, 8, 8, 24)), True, "other shape"),
            (ROW, False, "unexpected  stage2_block1_se/expand/0"),
        ),
    ],
)
def test_a_backbone_of_another_network_is_refused(row, se, message, tmp_path):
    nested(row).save(tmp_path / "tuned.keras")
    backbone = se_keras.create(ROW, include_top=False, se=se)
    with pytest.raises(InputError, match=message):
        se_keras.load_weights(backbone, tmp_path / "tuned.keras")


@pytest.mark.parametrize(
    ("name", "second"),
    [("twins.weights.h5", "functional_1"), *slow(("twins.h5", "teacher"))],
)
def test_one_of_two_backbones_is_not_guessed(name, second, tmp_path):
    image = keras.Input((32, 32, 3))
    twins = [made(include_top=False, name=name) for name in ("student", "teacher")]
    both = keras.layers.Concatenate()([twin(image) for twin in twins])
    whole = keras.Model(image, both)
    (whole.save if name == "twins.h5" else whole.save_weights)(tmp_path / name)
    with pytest.raises(InputError, match=rf"unexpected  layers/{second}/.*/vars/0"):
        se_keras.load_weights(twins[0], tmp_path / name)


# --- weights that are split over several files ---------------------------------------------------


def change_index(path, **changes):
    """Write the index with other files for some tensors; `None` leaves a tensor out."""
    index = json.loads(path.read_text())
    listed = index["weight_map"] | changes
    index["weight_map"] = {name: shard for name, shard in listed.items() if shard is not None}
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("../a-00001-of-00003.safetensors", "must be the name of a file in the same folder"),
        ("/tmp/a.safetensors", "must be the name of a file in the same folder"),
        ("C:\\a.safetensors", "must be the name of a file in the same folder"),
        ("a.npz", "must be the name of a file in the same folder"),
        ("\x1b[31m.bin", "must be the name of a file in the same folder"),
        (7, "must be the name of a file in the same folder"),
        (["a-00001-of-00003.safetensors"], "must be the name of a file in the same folder"),
        ("b.safetensors", "lists b.safetensors, which is not in the same folder"),
        (
            "a-00002-of-00003.safetensors",
            r"must list each tensor of .* once, but differs in conv1.weight",
        ),
        (None, r"must list each tensor of .* once, but differs in conv1.weight"),
    ],
)
def test_an_index_of_other_files_is_refused(shard, message, model, tmp_path):
    path = tmp_path / "a.safetensors.index.json"
    write_shards(model, path)
    (tmp_path / "a.npz").touch()
    change_index(path, **{"conv1.weight": shard})
    with pytest.raises(InputError, match=message) as caught:
        se_keras.load_weights(model, path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"weight_map": {}}', b'{"weight_map": [1]}', b"\xff", b"[" * 100_000],
)
def test_an_index_that_lists_nothing_is_refused(content, model, tmp_path):
    path = tmp_path / "a.safetensors.index.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a whole index of weights"):
        se_keras.load_weights(model, path)


def test_parts_that_keras_did_not_list_so_are_refused(model, tmp_path):
    path = tmp_path / "a.weights.json"
    write_weights_in_parts(model, path)
    index = json.loads(path.read_text())
    place, first = next(iter(index["weight_map"].items()))
    for shard, message in (
        ("../a_00000.weights.h5", "must be the name of a file in the same folder"),
        ("a_00000.npz", "must be the name of a file in the same folder"),
        ([first, "/a_00000.weights.h5"], "must be the name of a file in the same folder"),
        ("b.weights.h5", "lists b.weights.h5, which is not in the same folder"),
        ([first, "a_00001.weights.h5"], "and its files differ in "),
        ([], "and its files differ in "),
    ):
        change_index(path, **{place: shard})
        with pytest.raises(InputError, match=message):
            se_keras.load_weights(model, path)
    change_index(path, **{place: first})
    se_keras.load_weights(model, path)


def test_a_part_that_is_there_twice_is_refused(model, tmp_path):
    path = tmp_path / "a.weights.json"
    write_weights_in_parts(model, path)
    shutil.copy(tmp_path / "a_00000.weights.h5", tmp_path / "b.weights.h5")
    index = json.loads(path.read_text())["weight_map"]
    parts = {name: part if isinstance(part, list) else [part] for name, part in index.items()}
    for shards in parts.values():
        shards += ["b.weights.h5"] * ("a_00000.weights.h5" in shards)
    change_index(path, **parts)
    with pytest.raises(InputError, match=r"does not fit .*vars/0 is in several files"):
        se_keras.load_weights(model, path)


# --- broken files --------------------------------------------------------------------------------


WHOLE = [kind for kind in KINDS if kind[1] not in (write_trained, write_lightning_checkpoint)]


@pytest.mark.parametrize(("name", "write"), WHOLE, ids=[name for name, _ in WHOLE])
def test_a_truncated_file_is_refused(name, write, model, tmp_path):
    write(model, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    before = model.get_weights()
    for part in (0, 0.01, 0.5, 0.999):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(InputError, match=name):
            se_keras.load_weights(model, tmp_path / name)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("suffix", READERS)
def test_a_web_page_is_refused(suffix, tmp_path):
    if READERS[suffix] is open_torch:
        pytest.importorskip("torch")
    path = tmp_path / f"a{suffix}"
    path.write_text("<!DOCTYPE html><html><body>Not found</body></html>\n" * 50)
    with pytest.raises(InputError, match="is not a whole"):
        se_keras.load_weights(made(), path)


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(zipped, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Harmful()}, "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"a\.pth .* they can run code"):
        se_keras.load_weights(made(), "a.pth")
    assert not Path("harm").exists()


def test_a_torch_file_of_something_else_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    for content in ([1, 2], {"epoch": 3}, torch.zeros(3)):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(InputError, match="must hold a state_dict"):
            se_keras.load_weights(made(), tmp_path / "a.pth")


def test_a_zip_that_is_no_keras_file_is_refused(tmp_path):
    for names in ((), ("config.json",), ("model.weights.h5",)):
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            for name in names:
                archive.writestr(name, "{}")
        with pytest.raises(InputError, match=r"a\.keras is not a"):
            se_keras.load_weights(made(), tmp_path / "a.keras")


def test_an_h5_file_of_something_else_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["images"] = np.zeros((3, 3))
    with pytest.raises(InputError, match="none of the known schemes"):
        se_keras.load_weights(made(), tmp_path / "a.weights.h5")


def test_torch_missing_says_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'se_keras\[torch\]'") as caught:
        se_keras.load_weights(made(), tmp_path / "a.pth")
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a.safetensors", "there is no file 'a.safetensors'"),
        (".", "there is no file '.'"),
        ("a.onnx", r"the file of weights must end with .*\.safetensors, .* got 'a.onnx'"),
    ],
)
def test_what_is_no_source_is_refused(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.onnx").touch()
    with pytest.raises(InputError, match=message):
        se_keras.load_weights(made(), source)


def test_a_file_is_closed_behind_its_reader(model, tmp_path):
    for name, write in KINDS:
        if write not in (write_safetensors, write_weights, write_keras):
            continue
        write(model, tmp_path / name)
        with open_file(tmp_path / name, called=name) as checkpoint:
            assert len(checkpoint.tensors) >= len(model.weights)
        os.remove(tmp_path / name)  # Windows refuses it for an open file
    save_file({"x": np.zeros(1)}, tmp_path / "a.safetensors")
