"""The benchmark: its plan, arithmetic with given clocks, resuming, and engines that break."""

import csv
import dataclasses
import doctest
import importlib
import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from checks import refused, set_random_weights

import se_keras
from benchmarks import peer_side, peers, tables, timing
from benchmarks.bench import main
from benchmarks.measure import run_benchmark
from benchmarks.plan import plan_benchmark
from benchmarks.results import Result, describe_machine, read_rows, write_rows
from benchmarks.timing import (
    TURN_SECONDS,
    Specification,
    Worker,
    WorkerError,
    alternate,
    compare,
)
from benchmarks.training_step import narrow_map, own_map, rewritten
from benchmarks.worker import noise
from se_keras.deploy.engines import ENGINES, find_engine
from se_keras.support.errors import InputError, MissingExtraError

# Seconds of the engines of `clocks` for one image; a product of matrices takes 0.5.
SECONDS = {"se": 3.0, "plain": 2.0}


class Clock:
    """A worker whose times are given."""

    peak_memory = 5_000_000

    def __init__(self, *seconds):
        self.seconds, self.turns, self.calls = list(seconds), 0, []
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed = True

    def turn(self, calls):
        self.calls.append(calls)
        self.turns += 1
        return calls * self.seconds[min(self.turns, len(self.seconds)) - 1]


# --- arithmetic ----------------------------------------------------------------------------------


def test_ratios_are_paired():
    # A machine that gets slower from round to round: the quotient of the medians is not the ratio.
    times = compare([2.2, 3.3, 5.5, 8.8, 11.0], [2.0, 3.0, 5.0, 10.0, 10.0])
    assert times.seconds == 5.5
    assert times.against_seconds == 5.0
    assert times.ratio == pytest.approx(1.1)
    assert (times.ratio_low, times.ratio_high) == pytest.approx((1.1, 1.1))
    spread = compare([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    assert (spread.ratio_low, spread.ratio, spread.ratio_high) == (2.0, 3.0, 4.0)


def test_contenders_take_turns_and_the_first_is_not_kept():
    order = []

    class Named(Clock):
        def turn(self, calls):
            order.append(self)
            return super().turn(calls)

    a, b = Named(100.0, 1.0, 2.0, 3.0), Named(100.0, 10.0, 20.0, 30.0)
    seconds = alternate([a, b], rounds=3)
    assert order == [a, b, a, b, b, a, a, b]
    assert seconds.tolist() == [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]


def test_a_short_call_is_repeated_within_a_turn():
    fast, slow = Clock(TURN_SECONDS / 8), Clock(TURN_SECONDS * 3)
    seconds = alternate([fast, slow], rounds=2)
    assert fast.calls == [1, 8, 8]
    assert slow.calls == [1, 1, 1]
    assert seconds[:, 0] == pytest.approx(TURN_SECONDS / 8)


# --- workers -------------------------------------------------------------------------------------


def tiny(path, **options):
    """A network with SE and every kind of layer that matters, as a .keras file."""
    x = image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = se_keras.se_block(x, ratio=2) if options.get("se", True) else x
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    keras.Model(image, keras.layers.Dense(4)(x)).save(path)
    return str(path)


def given(**options):
    usual = {
        "format": "onnx",
        "precision": "float32",
        "path": "missing.onnx",
        "threads": 1,
        "shape": (2, 8, 8, 3),
        "dtype": "float32",
        "clock": "cpu",
    }
    return Specification(**{**usual, **options})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    model = keras.saving.load_model(tiny(folder / "tiny.keras"))
    se_keras.export(model, folder / "tiny.onnx", "onnx")
    return str(folder / "tiny.onnx")


@pytest.mark.parametrize("clock", ["cpu", "wall"])
def test_a_worker_runs_a_file(exported, clock):
    with Worker(given(path=exported, clock=clock).command()) as worker:
        once, often = worker.turn(1), worker.turn(300)
        assert 0 < once < often
        assert worker.peak_memory > 10e6


def test_a_worker_brings_only_its_engine(exported):
    # TensorFlow alone would be more than 200 MB.
    code = (
        "import json, runpy, sys; sys.argv = sys.argv[1:]; sys.stdin.close();"
        "sys.stdin = open('/dev/null'); runpy.run_path(sys.argv[0], run_name='__main__');"
        "assert not {'keras', 'tensorflow'} & set(sys.modules), 'brought'; sys.exit('alone')"
    )
    _, _, worker, specification = given(path=exported).command()
    command = [sys.executable, "-P", "-c", code, worker, specification]
    with pytest.raises(WorkerError, match="alone"), Worker(command) as started:
        started.turn(1)  # it has said that it is ready


def test_a_worker_that_breaks_is_named_by_its_last_line(tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no graph")
    with (
        pytest.raises(WorkerError, match=r"bad\.onnx"),
        Worker(given(path=str(bad)).command()),
    ):
        pass
    with (
        pytest.raises(WorkerError, match="code 7"),
        Worker([sys.executable, "-c", "import os; os._exit(7)"]),
    ):
        pass


def test_what_a_library_prints_is_no_answer():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import worker;"
        "answers = worker.claim_output(); print('a banner');"
        "worker.serve_turns(lambda arrays: print('chatter'), [], 'wall', answers)"
    )
    folder = str(timing.WORKER.parent)
    with Worker([sys.executable, "-c", code, folder]) as worker:
        assert worker.turn(3) > 0


# --- the plan ------------------------------------------------------------------------------------


def test_the_plan_has_a_row_for_each_form_engine_precision_batch_and_size():
    plan = plan_benchmark(
        ["seresnet20", "MobileNetV3Small"], batches=[1, 8], sizes=[32, 64], threads=1
    )
    targets = {(row.format, row.precision) for row in plan.runs}
    assert targets == {
        *(("tf_saved_model", p) for p in ("float32", "bfloat16")),
        *(("onnx", p) for p in ("float32", "int8")),
        *(("openvino", p) for p in ("float32", "bfloat16", "int8")),
        *(("litert", p) for p in ("float32", "int8")),
    }
    # 9 targets, 2 batches, 2 sizes; as built and optimized, or only optimized against as built.
    assert len(plan.runs) == len(set(plan.runs)) == 9 * 2 * 2 * (2 + 1)
    forms = {(run.model, run.form, run.against) for run in plan.runs}
    assert forms == {
        ("seresnet20", "as built", "plain twin"),
        ("seresnet20", "optimized", "plain twin"),
        ("MobileNetV3Small", "optimized", "as built"),
    }
    assert len(str(plan).splitlines()) == 1 + len(plan.runs)


def test_a_format_that_is_not_installed_is_left_out_unless_it_is_asked_for(monkeypatch):
    broken = dataclasses.replace(find_engine("litert"), modules=("no_such_package",))
    rows = tuple(broken if row.format == "litert" else row for row in ENGINES)
    monkeypatch.setattr("se_keras.deploy.engines.ENGINES", rows)
    monkeypatch.setattr("benchmarks.plan.ENGINES", rows)
    plan = plan_benchmark(["seresnet20"])
    assert {run.format for run in plan.runs} == {"tf_saved_model", "onnx", "openvino"}
    (sentence,) = plan.left_out
    assert "se_keras[litert]" in sentence
    assert sentence in str(plan)
    with pytest.raises(MissingExtraError, match="no_such_package"):
        plan_benchmark(["seresnet20"], formats=["litert"])


def test_files_say_their_size(tmp_path):
    path = tiny(tmp_path / "tiny.keras")
    assert {run.size for run in plan_benchmark([path]).runs} == {8}
    with pytest.raises(InputError, match="8 x 8"):
        plan_benchmark([path], sizes=[16])
    plain = plan_benchmark([tiny(tmp_path / "plain.keras", se=False)])
    assert {run.against for run in plain.runs} == {"as built"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("seresnet51", "seresnet51"),
        ("missing.keras", "missing.keras"),
        ("seresnet20 --formats caffe", "caffe"),
        ("seresnet20 --precisions float8", "float8"),
        ("seresnet20 --formats onnx --precisions bfloat16", "bfloat16"),
        ("seresnet20 --batches 0", "batches"),
        ("seresnet20 --batches few", "few"),
        ("seresnet20 --sizes -1,2", "sizes"),
        ("seresnet20 --threads 0", "threads"),
        ("seresnet20 --rounds 0", "rounds"),
        ("seresnet20 --out other.csv", "other.csv"),
        ("vector.keras", "vector.keras"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("a,b\n1,2\n")
    x = keras.Input((4,))
    keras.Model(x, keras.layers.Dense(2)(x)).save("vector.keras")
    before = sorted(tmp_path.rglob("*"))
    line = refused(main, arguments.split(), capsys)
    assert line.startswith("python -m benchmarks.bench: ")
    assert named in line
    assert sorted(tmp_path.rglob("*")) == before


# --- the pass ------------------------------------------------------------------------------------


def is_product(specification):
    return specification.shape[-1] == 2048


@pytest.fixture
def clocks(monkeypatch):
    """Replace exports by file names, and record the started workers."""
    started = []

    def write(files, plain, form):
        return Path(f"{'plain' if plain else 'se'}, {form}")

    def start(specification):
        started.append(specification)
        if is_product(specification):
            return Clock(0.5 if len(specification.shape) == 2 else 0.6)
        network, _ = specification.path.split(", ")
        return Clock(SECONDS[network] * specification.shape[0])

    monkeypatch.setattr("benchmarks.measure.Files._write", write)
    return start, started


def tiny_plan(tmp_path, **options):
    choice = {"formats": ["onnx", "openvino"], "precisions": ["float32"], "batches": [1, 4]}
    return plan_benchmark([tiny(tmp_path / "tiny.keras")], threads=1, **(choice | options))


def test_each_run_has_its_row_with_all_figures(tmp_path, clocks):
    start, started = clocks
    plan = tiny_plan(tmp_path)
    report = run_benchmark(plan, tmp_path / "out" / "bench.csv", rounds=3, start=start)
    assert report.failures == ()
    assert [r.values for r in report.results] == [run.values for run in plan.runs]
    row = report.results[2]
    assert (row.form, row.batch, row.format) == ("as built", 4, "onnx")
    assert (row.ms, row.against_ms) == (12000, 8000)
    assert (row.ratio, row.ratio_low, row.ratio_high) == (1.5, 1.5, 1.5)
    assert (row.clock, row.rounds, row.threads) == ("cpu", 3, 1)
    assert (row.memory_mb, row.against_memory_mb) == (5.0, 5.0)
    # 8*8 pixels, 3*3*3 inputs, 8 filters; SE 8 -> 4 -> 8; 8 -> 4 classes.
    macs = 64 * 27 * 8 + 2 * 8 * 4 + 8 * 4
    assert row.mega_macs == round(macs / 1e6, 3)
    assert row.gflops == round(2 * macs * 4 / 12 / 1e9, 2)
    assert row.limit_gflops == round(2 * 2048**3 / 0.5 / 1e9, 1)
    assert row.engine == find_engine("onnx").description
    assert row.machine == describe_machine()
    # Both networks in the same form; the limit, by two products in five rounds, once an engine.
    pairs = [s.path for s in started if not is_product(s)]
    assert pairs[:4] == ["se, as built", "plain, as built", "se, optimized", "plain, optimized"]
    assert sum(map(is_product, started)) == 2 * 2 * 2

    with open(report.files[0], newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [field.name for field in dataclasses.fields(Result)]
    assert all(value for line in lines for value in line.values())
    assert read_rows(Result, report.files[0]) == list(report.results)
    assert len(str(report).splitlines()) == 1 + len(plan.runs)
    assert [path.name for path in report.files] == ["bench.csv", "bench.png", "bench-growth.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in report.files[1:])
    assert sorted((tmp_path / "out").iterdir()) == sorted(report.files)


def test_every_third_round_has_new_processes(tmp_path, clocks):
    start, started = clocks
    clock_of_the_second = iter([1.0, 1.05, 4.0])

    def slows(specification):
        if specification.path == "se, optimized":
            return Clock(next(clock_of_the_second) * SECONDS["plain"])
        return start(specification)

    plan = tiny_plan(tmp_path, formats=["onnx"], batches=[1])
    report = run_benchmark(plan, tmp_path / "bench.csv", rounds=8, start=slows)
    assert [s.path for s in started].count("plain, optimized") == 3
    # Ratios of three, three and two rounds: 1, 1.05 and 4.
    assert (report.results[1].ratio, report.results[1].ratio_high) == (1.05, 1.7875)
    # Those of the other pair agree after two.
    assert [row.rounds for row in report.results] == [6, 8]


def test_rows_that_are_there_are_not_run_again(tmp_path, clocks, capsys):
    start, started = clocks
    out = tmp_path / "bench.csv"
    run_benchmark(tiny_plan(tmp_path, formats=["onnx"]), out, rounds=1, start=start)
    assert len(capsys.readouterr().out.splitlines()) == 4
    done = read_rows(Result, out)
    # One is of another version of the engine: it stays, and is no row of this plan.
    write_rows(Result, out, [dataclasses.replace(done[0], engine="onnxruntime 0.1"), *done[1:]])
    started.clear()
    report = run_benchmark(tiny_plan(tmp_path), out, rounds=1, start=start)
    assert len(report.results) == 8
    assert [s.format for s in started if not is_product(s)] == ["onnx"] * 2 + ["openvino"] * 8
    assert len(read_rows(Result, out)) == 9
    started.clear()
    assert run_benchmark(tiny_plan(tmp_path), out, rounds=1, start=start).results == report.results
    assert started == []


def test_rows_are_written_one_by_one_and_a_broken_engine_is_named(tmp_path, clocks):
    start, _ = clocks
    out = tmp_path / "bench.csv"
    seen = []

    def breaks(specification):
        seen.append(len(read_rows(Result, out)))
        if specification.format == "onnx" and specification.path == "plain, optimized":
            raise WorkerError("Illegal instruction")
        return start(specification)

    report = run_benchmark(tiny_plan(tmp_path), out, rounds=1, start=breaks)
    (failure,) = report.failures
    assert all(word in failure for word in ("onnx", "float32", "Illegal instruction", "tiny.keras"))
    assert [r.format for r in report.results] == ["onnx"] + ["openvino"] * 4
    assert max(seen) == 4
    # A later run makes up for what is missing.
    assert len(run_benchmark(tiny_plan(tmp_path), out, rounds=1, start=start).results) == 8


def test_a_model_without_se_is_compared_with_itself_as_built(tmp_path, clocks):
    start, started = clocks
    plan = plan_benchmark(
        [tiny(tmp_path / "plain.keras", se=False)],
        formats=["litert"],
        precisions=["int8"],
        batches=[2],
    )
    (result,) = run_benchmark(plan, tmp_path / "bench.csv", rounds=1, start=start).results
    assert [s.path for s in started if not is_product(s)] == ["se, optimized", "se, as built"]
    assert (result.ratio, result.against) == (1.0, "as built")


@pytest.mark.slow
def test_the_command_line_measures_in_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.networks.PRODUCT", 32)
    tiny("tiny.keras")
    command = "tiny.keras --formats onnx --precisions float32,int8 --batches 2 --rounds 2"
    assert main([*command.split(), "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert not Path("runs").exists()
    assert main([*command.split(), "--threads", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [str(Path(line)) for line in out[-3:]] == [
        "runs/bench.csv",
        "runs/bench.png",
        "runs/bench-growth.png",
    ]
    rows = read_rows(Result, "runs/bench.csv")
    assert [(r.form, r.precision) for r in rows] == [
        ("as built", "float32"),
        ("optimized", "float32"),
        ("as built", "int8"),
        ("optimized", "int8"),
    ]
    for row in rows:
        assert row.ms > 0
        assert row.memory_mb > 10
        assert f"{row.ratio:.3f}" in "\n".join(out)


def test_the_command_line_names_what_broke(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.networks.PRODUCT", 32)
    monkeypatch.setattr("benchmarks.measure.Worker", _broken_worker)
    tiny("tiny.keras")
    command = "tiny.keras --formats onnx --precisions float32 --batches 2"
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m benchmarks.bench: ")
    assert "onnx in float32 broke: no such instruction" in line


def test_the_command_line_is_stopped(monkeypatch, capsys):
    def stopped(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.bench.run_benchmark", stopped)
    assert main(["seresnet20", "--formats", "onnx"]) == 130
    assert capsys.readouterr().err == "\npython -m benchmarks.bench: stopped\n"


def _broken_worker(command):
    assert json.loads(command[-1])["format"] == "onnx"
    raise WorkerError("no such instruction")


# --- the peers, and README -----------------------------------------------------------------------


def test_every_peer_has_its_maker():
    makers = {"pytorch": peer_side.RUNS}
    for peer in peers.PEERS:
        assert peer.maker in makers.get(peer.engine, peer_side.EXPORTS)


@pytest.mark.slow
def test_the_stock_peer_computes_se():
    network, plain = (peer_side._stock(name, 32) for name in ("se", "plain"))
    counts = [se_keras.count(model) for model in (network, plain)]
    # The paper's 2.5 million parameters more, in four stages of 3, 4, 6 and 3 units.
    widths = 3 * [256] + 4 * [512] + 6 * [1024] + 3 * [2048]
    more = sum(2 * w * (w // 16) + w // 16 + w for w in widths)
    assert counts[0].trainable - counts[1].trainable == more
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds.count("Multiply") == 16


@pytest.mark.slow
def test_the_step_with_stock_layers_is_that_of_the_same_network():
    model = se_keras.create("seresnet20", input_shape=(16, 16, 3), classes=4)
    set_random_weights(model)
    own, narrow = (rewritten(model, source) for source in (own_map, narrow_map))
    se = [layer for layer in model.layers if isinstance(layer, se_keras.SqueezeExcite)]
    gates = [layer for layer in own.layers if isinstance(layer, keras.Model)]
    for layer, gate in zip(se, gates, strict=True):
        gate.set_weights(layer.get_weights())
    x = np.random.default_rng(0).random((2, 16, 16, 3), "float32")
    np.testing.assert_allclose(own(x), model(x), atol=1e-5)
    assert narrow.count_params() == own.count_params()
    assert not any(
        isinstance(layer, se_keras.SqueezeExcite) for layer in (*own.layers, *narrow.layers)
    )


def test_peers_are_compared_with_ours_in_the_same_rounds(monkeypatch):
    seconds = {("se_keras", "se"): 2.0, ("se_keras", "plain"): 1.0, (peers.INSERTED, "se"): 1.5}
    started = []

    def start(peer, network, setting, exports, python):
        if "timm" in peer.name and network == "plain":
            raise WorkerError("no converter")
        started.append(Clock(seconds.get((peer.name, network), 3.0)))
        return started[-1]

    monkeypatch.setattr(peers, "start", start)
    setting = peers.Setting(engine="onnx", batch=2, size=224, threads=1, rounds=4, run="1")
    found = [(peer, "python", "1.0") for peer in peers.PEERS if peer.engine == "onnx"]
    rows = peers.measure(setting, found, None)
    assert [(row.peer, row.precision) for row in rows] == [
        ("se_keras", "float32"),
        ("se_keras", "int8"),
        (peers.INSERTED, "float32"),
        ("keras.applications, four stock layers", "float32"),
    ]
    # Ours is the network with the same stride.
    assert [row.stride for row in rows] == ["3x3", "3x3", "1x1", "1x1"]
    assert [row.to_ours for row in rows] == [1.0, 1.0, 1.0, 2.0]
    assert [row.ratio for row in rows] == [2.0, 2.0, 0.5, 1.0]
    assert all(setting.fits(row) for row in rows)
    # Twice, after three rounds and after one; and the one whose plain network broke, once.
    assert len(started) == 2 * 2 * len(rows) + 1
    assert all(worker.closed for worker in started)


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_peer_that_breaks_takes_no_other_with_it(monkeypatch, when):
    started = []

    def start(peer, network, setting, exports, python):
        started.append(peer.name)
        if peer.name == peers.INSERTED and (when == "at once" or started.count(peer.name) > 2):
            raise WorkerError("killed")
        return Clock(3.0 if "stock" in peer.name else 2.0)

    monkeypatch.setattr(peers, "start", start)
    setting = peers.Setting(engine="litert", batch=2, size=224, threads=1, rounds=4, run="1")
    found = [(peer, "python", "1.0") for peer in peers.PEERS if peer.engine == "litert"]
    rows = peers.measure(setting, found, None)
    # The stock layers have no export of ours with their stride to be compared with.
    assert [(row.peer, row.ms, row.to_ours) for row in rows] == [
        ("se_keras", 2000, 1.0),
        ("se_keras", 2000, 1.0),
        ("keras.applications, four stock layers", 3000, None),
    ]


def test_a_missing_peer_is_named(capsys):
    found = peers.found_peers({"timm": "/no/such/python"})
    assert "pytorch" not in found
    assert "skipped: timm, eager: /no/such/python" in capsys.readouterr().out


def test_the_tables_of_the_pages_are_those_of_the_csv_files_and_the_catalog():
    texts = [page.read_text("utf-8") for page in tables.PAGES]
    assert texts == list(map(tables.with_tables, texts)), "python -m benchmarks.tables --write"
    found = [name for text in texts for name, *_ in tables.MARKS.findall(text)]
    assert sorted(found) == sorted(tables.TABLES)
    whole = "\n".join(texts)
    stale = whole.replace("TensorFlow float32", "TensorFlow float16", 1)
    assert stale != whole == tables.with_tables(stale)
    with pytest.raises(ValueError, match="no table 'speed: rations'"):
        tables.with_tables("<!-- speed: rations -->\n<!-- end -->")


@pytest.mark.parametrize(
    "row",
    [
        "| `seresnet50` | `SEResNet50` | 224 | 28,088,024 | 4,091,699,200 |",
        "| `seresnet50` * | timm/seresnet50.ra2_in1k | 224 | 0.875 | bicubic | 80.26 "
        "| 288 | 0.95 | 81.29 |",
        "| `cm_seresnet18` * | seresnet18_imagenet_1000.h5 | 224 | 0.875 | bilinear | 69.41 "
        "|  |  |  |",
    ],
)
def test_a_row_of_the_catalog(row):
    assert row in "\n".join([tables.networks(), tables.weights()]).splitlines()


def test_noise_is_the_same_in_every_process():
    floats, integers = noise((2, 3), "float32"), noise((200,), "uint8")
    assert floats.dtype == np.float32
    assert (floats == noise((2, 3), "float32")).all()
    assert 0 <= floats.min() < floats.max() < 1
    assert integers.dtype == np.uint8
    assert integers.max() > 200


@pytest.mark.parametrize("name", ["networks", "plan", "results", "timing"])
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_the_commands_of_the_pages_are_there():
    text = "\n".join(page.read_text("utf-8") for page in tables.PAGES)
    names = set(re.findall(r"python -m (benchmarks\.\w+)", text))
    assert len(names) >= 7
    for name in names:
        assert callable(importlib.import_module(name).main)
