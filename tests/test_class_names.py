"""Compare `decode_predictions` with keras.applications."""

import keras
import numpy as np
import pytest

import se_keras
from se_keras.class_names import labels_of
from se_keras.support.errors import InputError
from se_keras.weights import hub


def test_the_names_of_imagenet():
    labels = labels_of("imagenet")
    assert len(labels) == len({number for number, _ in labels}) == 1000
    # Identifiers are in order (ILSVRC 2012), and some classes have numbers that everybody knows.
    assert [number for number, _ in labels] == sorted(number for number, _ in labels)
    assert labels[0] == ("n01440764", "tench")
    assert labels[207] == ("n02099601", "golden retriever")
    assert labels[281] == ("n02123045", "tabby")
    assert labels[954] == ("n07753592", "banana")
    assert labels[999] == ("n15075141", "toilet tissue")


def test_the_likeliest_come_first():
    scores = np.zeros((2, 1000), "float32")
    scores[0, [207, 1, 999]] = 0.5, 0.3, 0.2
    scores[1, 954] = 1
    first, second = se_keras.decode_predictions(keras.ops.convert_to_tensor(scores), top=3)
    assert [name for _, name, _ in first] == ["golden retriever", "goldfish", "toilet tissue"]
    assert [score for *_, score in first] == pytest.approx([0.5, 0.3, 0.2])
    assert second[0] == ("n07753592", "banana", 1.0)
    assert len(se_keras.decode_predictions(scores)[0]) == 5


def test_as_keras_applications_decodes(monkeypatch):
    # Its own list is a download: here it is ours, in its form.
    index = {str(i): [number, name] for i, (number, name) in enumerate(labels_of("imagenet"))}
    decode = keras.applications.imagenet_utils.decode_predictions
    monkeypatch.setitem(decode.__globals__, "CLASS_INDEX", index)
    scores = np.random.default_rng(0).uniform(size=(3, 1000))
    expected = decode(scores, top=4)
    assert se_keras.decode_predictions(scores, top=4) == expected


FLOWERS = {
    "num_classes": 3,
    "label_names": ["rose", "tulip", "daisy"],
    "label_descriptions": {"rose": "a red rose"},
}


@pytest.fixture
def flowers(monkeypatch):
    """Provide a repository of the hub with this config; test_hub.py tests the download."""
    config = dict(FLOWERS)
    monkeypatch.setattr(hub, "fetch_config", lambda source: config)
    return config


def test_a_repository_names_its_classes(flowers):
    decoded = se_keras.decode_predictions(
        np.array([[0.7, 0.1, 0.2]]), model_or_source="hf://me/flowers"
    )
    assert decoded == [
        [("rose", "a red rose", 0.7), ("daisy", "daisy", 0.2), ("tulip", "tulip", 0.1)]
    ]
    flowers["label_names"] = {"0": "rose", "2": "daisy"}
    assert labels_of("hf://me/flowers") == (
        ("rose", "a red rose"),
        ("class 1", "class 1"),
        ("daisy", "daisy"),
    )


def test_published_weights_have_the_names_of_imagenet():
    assert labels_of("hf://timm/seresnet50.a1_in1k") is labels_of("imagenet")


def test_names_that_nobody_gave_are_refused(flowers):
    del flowers["label_names"]
    with pytest.raises(InputError, match="the class names of hf://me/flowers are unknown"):
        se_keras.decode_predictions(np.ones((1, 3)), "hf://me/flowers")


@pytest.mark.parametrize("shape", [(1000,), (1, 999), (1, 1, 1000)])
def test_predictions_of_another_number_of_classes_are_refused(shape):
    with pytest.raises(ValueError, match=r"`predictions` must have the shape \(N, 1000\)"):
        se_keras.decode_predictions(np.zeros(shape))


@pytest.mark.parametrize("top", [0, -1, 1.5, True, "5"])
def test_top_is_a_positive_number(top):
    with pytest.raises(ValueError, match="`top` must be a positive integer"):
        se_keras.decode_predictions(np.zeros((1, 1000)), top=top)


@pytest.mark.parametrize("names", ['"cat"', "5", "[1, 2]", '["cat", null]', '{"0": "cat"}', "null"])
def test_a_report_with_other_names_is_refused(names, tmp_path):
    (tmp_path / "report.json").write_text(f'{{"class_names": {names}}}')
    with pytest.raises(InputError, match=r"report\.json: `class_names` must be a list of texts"):
        se_keras.decode_predictions(np.ones((1, 2)), tmp_path)


def test_a_run_names_its_classes(tmp_path):
    (tmp_path / "report.json").write_text('{"class_names": ["cat", "dog"]}')
    (tmp_path / "model.keras").touch()
    scores = np.array([[0.25, 0.75]])
    for source in (tmp_path, str(tmp_path / "model.keras")):
        assert se_keras.decode_predictions(scores, source, top=1) == [[("dog", "dog", 0.75)]]
