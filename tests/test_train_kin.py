"""Runs of networks that have SE's kin: `attention` from the command line to the report."""

import keras
import pytest

import se_keras
from se_keras.cli import main
from se_keras.layers import GATES
from se_keras.support import files
from se_keras.train import TrainConfig
from se_keras.train.start import start_of


def kinds(model):
    return {type(layer) for layer in model.layers if isinstance(layer, tuple(GATES.values()))}


def test_the_setting_is_what_create_takes():
    assert TrainConfig(attention="ge").network_options == {"attention": "ge"}
    asked = {"attention": "scse", "ratio": 4, "placement": "pre"}
    assert TrainConfig(**asked).network_options == asked
    assert TrainConfig().network_options == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "cbam"}, r"`attention` must be one of \('se', 'eca', .*, got 'cbam'"),
        ({"attention": "eca", "no_se": True}, "`attention` need SE blocks, but `no_se`"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(se_keras.InputError, match=message):
        TrainConfig(**options)


def test_published_weights_with_other_gates_are_refused_without_a_download():
    for weights, kind in (("seresnet50.a1_in1k", "eca"), ("ecaresnet50t.a1_in1k", "se")):
        with pytest.raises(se_keras.InputError, match=f"`attention` must be .*, got '{kind}'"):
            start_of(TrainConfig(weights=weights, attention=kind))
    assert start_of(TrainConfig(weights="ecaresnet50t.a1_in1k", attention="eca")) is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--attention eca --ratio 8", "--ratio 8 is an option of --attention se or 'scse' or 'ge'"),
        ("--attention eca --model FILE.keras", "--attention, .* need a network by its name"),
    ],
)
def test_the_command_refuses_in_one_line(words, message, tmp_path, capsys):
    file = tmp_path / "FILE.keras"
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]).save(file)
    given = words.replace("FILE.keras", str(file)).split()
    assert main(["train", "--out", str(tmp_path / "run"), *given]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eca", "ge"])
def test_a_run_records_its_kind_goes_on_and_is_compared(kind, tmp_path, capsys):
    runs = [str(tmp_path / name) for name in (kind, "se")]
    asked = ["--attention", kind]
    for out, options in zip(runs, (asked, []), strict=True):
        assert main(["train", "--out", out, "--epochs", "1", *options]) == 0
    assert main(["train", "--out", runs[0], "--resume", "--epochs", "2"]) == 0
    model = keras.models.load_model(f"{runs[0]}/model.keras")
    assert kinds(model) == {GATES[kind]}
    assert files.read_json(tmp_path / kind / "settings.json")["attention"] == kind
    assert files.read_json(tmp_path / kind / "report.json")["settings"]["attention"] == kind
    assert "attention" in (tmp_path / kind / "report.html").read_text()
    capsys.readouterr()
    assert main(["compare", *runs, "-o", str(tmp_path / "both.png")]) == 0
    assert f"attention  {kind}" in " ".join(capsys.readouterr().out.split()).replace(" ", "  ")
    assert main(["count", runs[0]]) == 0
