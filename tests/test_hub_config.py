"""The `config.json` of a repository: valid values, and values that one line refuses."""

import json
import re

import pytest

from se_keras.support.errors import InputError
from se_keras.weights.hub_config import MAX_BYTES, read_config, read_json_object
from se_keras.weights.preprocessing import Pixels, SecondSize

SOURCE = "hf://me/flowers"
IMAGE = {
    "input_size": [3, 192, 192],
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bilinear",
    "mean": [0.5, 0.4, 0.3],
    "std": [0.1, 0.2, 0.3],
}
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("within", [False, True])
def test_images_are_read_from_the_top_and_from_below(within):
    content = {"architecture": "a", **({"pretrained_cfg": IMAGE} if within else IMAGE)}
    assert read_config(content, SOURCE).pixels == Pixels(
        size=192,
        crop=0.9,
        interpolation="bilinear",
        mean=(0.5, 0.4, 0.3),
        std=(0.1, 0.2, 0.3),
        origin=SOURCE,
    )


def test_the_second_size_is_read():
    test = {"test_input_size": [3, 256, 256], "test_crop_pct": 1.0}

    def second(change):
        return read_config(IMAGE | test | change, SOURCE).pixels.second

    assert second({}) == SecondSize(size=256, crop=1.0, top1=None)
    assert second({"test_crop_pct": None}).crop == 0.9
    for size in (None, [1, 256, 256], [3, 256, 224]):
        assert second({"test_input_size": size}) is None
    assert second({"test_crop_pct": 1.15}) is None


def test_what_is_left_out_is_unknown():
    config = read_config({}, SOURCE)
    assert (config.architecture, config.num_classes, config.labels) == (None, None, None)
    for name in IMAGE.keys() - {"crop_mode"}:
        for content in ({k: v for k, v in IMAGE.items() if k != name}, IMAGE | {name: None}):
            pixels = read_config(content, SOURCE).pixels
            assert pixels.unknown
            assert pixels.origin.endswith(f"it lacks {name}")


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": [1, 192, 192], "mean": [0.5], "std": [0.5]},
        {"input_size": [3, 192, 160]},
        {"crop_pct": 1.15},  # as timm's volo_d5_448.sail_in1k
        {"crop_mode": "squash"},
        {"interpolation": "random"},
    ],
    ids=str,
)
def test_images_that_are_prepared_otherwise_are_unknown(change):
    pixels = read_config(IMAGE | change, SOURCE).pixels
    assert pixels.unknown
    assert pixels.origin.startswith("hf://me/flowers: its config.json asks for images that")


NAMES = ["rose", "dahlia", "daisy"]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"label_names": NAMES}, NAMES),
        ({"num_classes": 3, "label_names": NAMES}, NAMES),
        (
            {"num_classes": 3, "label_names": {"0": "rose", "2": "daisy"}},
            ["rose", "class 1", "daisy"],
        ),
        ({"num_classes": 3, "label_names": []}, None),
        ({"num_classes": 3, "label_names": {}}, None),
        ({"num_classes": 3, "label_names": None}, None),
        ({"num_classes": 3}, None),
        ({"label_names": ["Rosé", "日日草"]}, ["Rosé", "日日草"]),
    ],
)
def test_names_of_classes(content, names):
    labels = read_config(content, SOURCE).labels
    assert labels == (names and tuple((name, name) for name in names))


def test_descriptions_of_classes():
    content = {"label_names": NAMES, "label_descriptions": {"rose": "a red rose", "oak": "a tree"}}
    assert read_config(content, SOURCE).labels[:2] == (("rose", "a red rose"), ("dahlia", "dahlia"))


def wrong(name, *values, **beside):
    return [(name, {name: value, **beside}) for value in values]


def in_a_row(*values):
    return [[0.5, value, 0.5] for value in values]


NO_FRACTIONS = [0.5, [0.5], [0.5] * 4, "0.5", {}, *in_a_row(NAN, INF, 1e9, 10**400, "0.5", None)]
WRONG = [
    *wrong("num_classes", "3", None, -1, 200_001, 10**12, 10**400, 1.5, True, [3], NAN, INF, {}),
    *wrong("architecture", 5, "", ["seresnet50"], "a\nb", "\x1b[31m", "a" * 1001),
    *wrong("label_names", "hello", 5, True, [1, 2, 3], [["a"]], ["a", None], ["a\nb"]),
    *wrong("label_names", ["\x1b[2J"], [""], {"0": "a"}),
    *wrong("label_names", NAMES[:2], [*NAMES, "oak"], {"0": 1}, num_classes=3),
    *wrong("label_names", {"3": "a"}, {"-1": "a"}, {"x": "a"}, {"1.0": "a"}, num_classes=3),
    *wrong("label_names", {" 1": "a"}, {"01": "a"}, {"": "a"}, {"²": "a"}, num_classes=3),
    *wrong("label_names", {"9" * 5000: "a"}, num_classes=3),
    *wrong("label_names", ["a"], num_classes=0),
    *wrong("label_descriptions", ["a"], "a", 5, {"a": 1}, {"a": {"b": "c"}}, label_names=["a"]),
    *wrong("pretrained_cfg", None, [], "a", 5),
    *wrong("input_size", "large", 224, [192, 192], [3, 192, 192, 1], [3, 0, 0], [3, -1, -1]),
    *wrong("input_size", [0, 192, 192], [3, 10**9, 10**9], [3, 192.0, 192.0], [3, INF, INF]),
    *wrong("input_size", [3, NAN, NAN], [3, "192", "192"], [3, None, None], [[3], 192, 192], {}),
    *wrong("crop_pct", 0, -0.9, 1e-9, 2.5, 10**400, NAN, INF, "wide", True, [0.9]),
    *wrong("mean", *NO_FRACTIONS),
    *wrong("std", *NO_FRACTIONS, *in_a_row(0, -0.1, 1e-320, 1e-9)),
    *wrong("interpolation", 5, [], "a\nb"),
    *wrong("crop_mode", 5, [], "a\nb"),
    *wrong("test_input_size", "large", [256], [3, 0, 0], [3, INF, INF]),
    *wrong("test_crop_pct", 0, 2.5, 1e-9, "wide", NAN),
]


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(("name", "change"), WRONG, ids=range(len(WRONG)))
def test_what_may_not_be_is_refused_in_one_line(name, change, within):
    """The line names the repository, the field, the valid values, and the (shortened) value."""
    of_image = within and name in {*IMAGE, "test_input_size", "test_crop_pct"}
    content = {"pretrained_cfg": IMAGE | change} if of_image else IMAGE | change
    with pytest.raises(InputError) as caught:
        read_config(content, SOURCE)
    message = str(caught.value)
    field = f"pretrained_cfg.{name}" if of_image else name
    assert message.startswith(f"hf://me/flowers: `{field}` of its config.json must be ")
    assert re.search(r", got .+\.$", message)
    assert message.isprintable()
    assert len(message) < 400


def test_a_count_that_is_just_in_bounds_is_taken():
    content = {"num_classes": 200_000, "label_names": {"199999": "last"}}
    assert read_config(content, SOURCE).labels[-2:] == (("class 199998",) * 2, ("last", "last"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deep"),
        (" " * MAX_BYTES + "{}", "must have at most 16,777,216 bytes, got 16,777,218"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
    ],
    ids=["list", "object", "large", "other", "null"],
)
def test_a_file_that_is_no_such_object_is_refused(text, words, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_json_object(tmp_path / "config.json", SOURCE)
    assert str(caught.value).startswith(SOURCE)


def test_numbers_that_json_does_not_know_reach_the_checks(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(IMAGE | {"crop_pct": NAN}))
    content = read_json_object(tmp_path / "config.json", SOURCE)
    with pytest.raises(InputError, match=r"`crop_pct` of its config.json must be .*, got nan"):
        read_config(content, SOURCE)
