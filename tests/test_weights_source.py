"""Test the parsing of `weights=`."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import se_keras
from se_keras.models.recipes import find_recipe
from se_keras.support.errors import InputError
from se_keras.weights import hub, presets
from se_keras.weights.hub import HubFile, ReleaseFile
from se_keras.weights.source import parse_source, split_name

A3 = "seresnet50.a3_in1k"
RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Make every network access fail, because parsing needs none."""
    for name in ("fetch", "fetch_config", "cached_config"):
        monkeypatch.delattr(hub, name)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (A3, HubFile(repo=f"timm/{A3}")),
        (f"hf://timm/{A3}", HubFile(repo=f"timm/{A3}")),
        (f"hf://timm/{A3}@v1", HubFile(repo=f"timm/{A3}", revision="v1")),
        (
            f"hf://timm/{A3}/pytorch_model.bin",
            HubFile(repo=f"timm/{A3}", file="pytorch_model.bin"),
        ),
        (
            f"hf://timm/{A3}@v1/pytorch_model.bin",
            HubFile(repo=f"timm/{A3}", revision="v1", file="pytorch_model.bin"),
        ),
    ],
)
def test_a_published_set_is_known_by_its_name_and_its_address(text, place):
    source = parse_source(text)
    assert source.published == place
    assert source.preset == presets.preset_of(A3)
    assert source.pixels.size == 160
    assert source.labels[1] == ("n01443537", "goldfish")
    assert source.architecture == source.recipe.name == "seresnet50"
    assert source.model_name("seresnet50") == A3
    assert source.origin is source
    assert str(source) == text


def test_a_set_of_a_release_is_known_by_its_name_and_its_address():
    address = f"{RELEASE}/seresnet18-4bb0ce65.pth"
    for text in ("legacy_seresnet18.in1k", f"{address}#sha256=4bb0ce65"):
        source = parse_source(text)
        assert source.published == ReleaseFile(
            address=address, algorithm="sha256", digits="4bb0ce65"
        )
        assert source.model_name("legacy_seresnet18") == "legacy_seresnet18.in1k"


def test_imagenet_is_the_best_of_the_recipe():
    source = parse_source("imagenet", "seresnet50")
    assert source.preset.name == "seresnet50.ra2_in1k"
    assert str(source) == "imagenet"
    with pytest.raises(InputError, match=r"name the network .*'seresnet50\.a1_in1k'"):
        parse_source("imagenet")
    with pytest.raises(InputError, match="no weights are published for seresnet152"):
        parse_source("imagenet", "seresnet152")


def test_another_repository_is_no_preset():
    source = parse_source("hf://me/flowers@v2/best/a.safetensors")
    assert source.published == HubFile(repo="me/flowers", revision="v2", file="best/a.safetensors")
    assert source.preset is None


def test_a_source_is_taken_as_it_is():
    source = parse_source(A3)
    assert parse_source(source) is source
    assert se_keras.pixels_of(source) is source.pixels
    assert hash(source) == hash(parse_source(A3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.text = "another"


@pytest.mark.parametrize(
    ("text", "path", "key"),
    [
        ("a.pth", "a.pth", None),
        ("a.pth::ema", "a.pth", "ema"),
        ("b::c.pth", "b::c.pth", None),
        ("b::c.pth::ema", "b::c.pth", "ema"),
        ("~/a.pth", "home/a.pth", None),
        ("~/a.pth::state_dict", "home/a.pth", "state_dict"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file(text, path, key, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("home").mkdir()
    for file in ("a.pth", "b::c.pth", "home/a.pth"):
        Path(file).touch()
    source = parse_source(kind(text))
    assert source.path.resolve() == (tmp_path / path).resolve()
    assert (source.key, source.preset, source.published) == (key, None, None)
    assert (source.labels, source.architecture, source.origin) == (None, None, None)
    assert source.pixels.unknown
    with pytest.raises(InputError, match="does not name its network"):
        assert source.recipe


@pytest.mark.parametrize(
    ("text", "place", "key"),
    [
        ("hf://me/x@v1/a.pth::ema", HubFile(repo="me/x", revision="v1", file="a.pth"), "ema"),
        (
            "http://[::1]:80/a.pth#md5=0123456789",
            ReleaseFile(address="http://[::1]:80/a.pth", algorithm="md5", digits="0123456789"),
            None,
        ),
    ],
)
def test_a_key_of_a_published_file(text, place, key):
    source = parse_source(text)
    assert (source.published, source.key) == (place, key)


def test_a_path_is_never_a_name():
    for text in ("imagenet", A3):
        with pytest.raises(InputError, match="there is no file"):
            parse_source(Path(text), "seresnet50")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("seresnet50.a1_in1", "no file 'seresnet50.a1_in1'.*Did you mean.* 'seresnet50.a1_in1k'"),
        (f"timm/{A3}", f"Did you mean .*'hf://timm/{A3}'"),
        (A3.upper(), f"Did you mean '{A3}'"),
        ("ImageNet", "Did you mean 'imagenet'"),
        ("seresnet50", r"must name weights, got the network .*published .*'seresnet50.a1_in1k'"),
        ("seresnet32", r"must name weights, got the network 'seresnet32'\.$"),
        ("missing.pth", r"there is no file 'missing.pth'\.$"),
        ("missing.pth::ema", "there is no file 'missing.pth::ema'"),
        ("", "must be None, 'imagenet', .* got ''"),
        ("a\0b", "must be None, 'imagenet', .* got 'a"),
        ("~nobody-of-this-name/a.pth", "there is no file '~nobody"),
        ("s3://bucket/a.pth", "must be None, 'imagenet', .* got 's3://bucket/a.pth'"),
        ("hf://timm", "must be hf://owner/repo"),
        ("hf://me/x@main/../../a.pth", "must be hf://owner/repo"),
        ("https://example.org/a.pth", "a file's name and its hash"),
        ("https://example.org/..#md5=0123456789", "a file's name and its hash"),
        ("https://[example.org/a.pth#md5=0123456789", "a file's name and its hash"),
        (None, "must be None, 'imagenet', .* got None"),
        (7, "must be None, 'imagenet', .* got 7"),
        (b"a.pth", "must be None, 'imagenet', .* got b'a.pth'"),
    ],
)
def test_what_is_no_source_is_refused(given, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_source(given)
    assert "\n" not in str(caught.value)


@pytest.fixture
def architecture(monkeypatch, tmp_path):
    """Provide a repository with this `architecture` and weights with unknown names."""
    config = {}
    save_file({"blocks.0.weight": np.zeros(2)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(hub, "fetch_config", lambda place: config, raising=False)
    fetched = hub.Fetched(path=tmp_path / "model.safetensors", config=config)
    monkeypatch.setattr(hub, "fetch", lambda place: fetched, raising=False)
    return config


def test_a_network_that_we_do_not_have_says_who_has_it(architecture):
    architecture["architecture"] = "efficientnet_b0"
    address = "hf://timm/efficientnet_b0.ra_in1k@v1"
    says = (
        r"it is for 'efficientnet_b0', a network that se_keras does not have\. If timm has it, "
        r"timm\.create_model\('hf-hub:timm/efficientnet_b0\.ra_in1k@v1', pretrained=True\)"
    )
    with pytest.raises(InputError, match=says):
        assert parse_source(address).recipe
    with pytest.raises(
        InputError, match=rf"none of the known schemes.* According to its source, {says}"
    ):
        se_keras.create("seresnet20", weights=address, input_shape=(8, 8, 3))


def test_the_plain_twin_of_a_row_says_how_it_is_built(architecture):
    architecture["architecture"] = "resnet50"
    with pytest.raises(InputError, match=r"'resnet50', which is create\('seresnet50', se=False\)"):
        assert parse_source("hf://timm/resnet50.a1_in1k").recipe


def test_a_network_that_we_have_is_found(architecture):
    architecture["architecture"] = "senet154"
    assert parse_source("hf://me/x").recipe is find_recipe("senet154")


# --- the name of a model -------------------------------------------------------------------------


def test_a_name_of_another_repository_leads_to_it_and_asks_nobody(monkeypatch):
    name = parse_source("hf://me/flowers@v2/a.safetensors").model_name("seresnet50")
    recipe, source = split_name(name)
    assert recipe == "seresnet50"
    assert source.published == HubFile(repo="me/flowers", revision="v2")
    monkeypatch.setattr(hub, "cached_config", lambda place: None, raising=False)
    assert "come from hf://me/flowers@v2; pass that" in source.pixels.origin
    assert source.labels is None


@pytest.mark.parametrize(
    "source",
    ["hf://a--b/c", "hf://me/flowers@r%C3%A9v", "https://example.org/a.h5#md5=0123456789", "a.h5"],
)
def test_a_source_that_no_name_can_hold_gives_none(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.h5").touch()
    assert parse_source(source).model_name("seresnet20") is None


# --- one set of several --------------------------------------------------------------------------


def test_a_key_picks_one_set_of_a_file(tmp_path):
    torch = pytest.importorskip("torch")
    sets = {name: {"x": torch.full((2,), value)} for name, value in (("a", 1.0), ("b", 2.0))}
    torch.save({**sets, "epoch": 3}, tmp_path / "sets.pth")
    for name, value in (("a", 1.0), ("b", 2.0)):
        with parse_source(f"{tmp_path}/sets.pth::{name}").open() as checkpoint:
            np.testing.assert_array_equal(checkpoint.tensors["x"].read(), [value, value])
    source = parse_source(f"{tmp_path}/sets.pth::epoch")
    with pytest.raises(InputError, match="no weights 'epoch': it has 'a', 'b'"), source.open():
        pass
    save_file({"x": np.zeros(2)}, tmp_path / "sets.safetensors")
    source = parse_source(f"{tmp_path}/sets.safetensors::a")
    with pytest.raises(InputError, match="no weights 'a': no name of a tensor"), source.open():
        pass


def test_a_parsed_source_builds_and_loads(tmp_path):
    donor = se_keras.create("seresnet20", input_shape=(8, 8, 3))
    donor.save_weights(tmp_path / "a.weights.h5")
    source = parse_source(tmp_path / "a.weights.h5")
    built = se_keras.create("seresnet20", weights=source, input_shape=(8, 8, 3))
    plan = se_keras.load_weights(built, source)
    assert len(plan.assignments) == 133
    for ours, theirs in zip(built.weights, donor.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
