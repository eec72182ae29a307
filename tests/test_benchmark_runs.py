"""Paired tests, memory, published figures, and the run of everything."""

import dataclasses
import doctest
import importlib
import re
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import all as whole_run
from benchmarks import (
    folder_training,
    memory,
    paired,
    published,
    tables,
    training_step,
    training_xla,
)
from benchmarks.measure import _optimize_by
from benchmarks.networks import APPLICATIONS, open_network
from benchmarks.results import BY_KERAS, Result, file_run, read_rows, write_rows
from benchmarks.timing import WorkerError, answer_of
from benchmarks.worker import noise
from se_keras import se_block
from se_keras.deploy.engines import find_engine
from se_keras.rewrite.optimize import RULES, optimize
from se_keras.support.errors import InputError


def tiny(path):
    x = image = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, padding="same")(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(se_block(x, ratio=2)))
    keras.Model(image, keras.layers.Dense(4)(x)).save(path)
    return str(path)


# --- paired tests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "rank", "coverage"),
    # Exact coverages of the sign test's intervals, from printed tables (Conover, table A3).
    [(6, 1, 0.9688), (7, 1, 0.9844), (8, 1, 0.9922), (9, 2, 0.9609), (12, 3, 0.9614)],
)
def test_the_interval_is_that_of_the_sign_test(count, rank, coverage):
    ratios = np.arange(1, count + 1) / 10
    assert paired.interval(np.flip(ratios)) == (rank / 10, (count + 1 - rank) / 10)
    # Of random halves so many intervals hold the median, whatever the values.
    below = np.random.default_rng(0).binomial(count, 0.5, 200_000)
    held = np.mean((below >= rank) & (below <= count - rank))
    assert held == pytest.approx(coverage, abs=2e-3)


def test_a_verdict_needs_all_of_six_pairs():
    assert paired.judge([1.01, 1.2, 1.1, 1.02, 1.03, 1.3]) == "slower"
    assert paired.judge([0.99, 0.8, 0.9, 0.98, 0.97, 0.7]) == "faster"
    assert paired.judge([1.01, 1.2, 1.1, 1.02, 1.03, 0.99]) == "no difference"


@pytest.fixture
def pairs(monkeypatch, tmp_path):
    """What each new process takes for a call, in order; and which were started."""
    started = []

    def measure(ratios, **options):
        left = iter(ratios)
        optimized = {}

        def start(given):
            started.append(given.path)
            pair = (len(started) - 1) // 2
            if pair not in optimized:
                optimized[pair] = next(left)
            return Process(optimized[pair] if given.path == "optimized" else 1.0)

        planned = paired.plan([tiny(tmp_path / "tiny.keras")], ["onnx"], [1])
        in_this_process = partial(paired.measure_job, start=start)
        return paired.go_on(planned, tmp_path / "paired.csv", measure=in_this_process, **options)

    monkeypatch.setattr("benchmarks.measure.Files._write", lambda files, plain, form: Path(form))
    monkeypatch.setattr(paired, "same_file", lambda first, second: False)
    return measure, started


class Process:
    peak_memory = 1

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def turn(self, calls):
        return calls * self.seconds


def test_each_pair_has_new_processes_and_every_other_begins_as_built(pairs, tmp_path):
    measure, started = pairs
    (row,) = measure([0.9, 0.8, 0.7, 0.95, 0.9, 0.9])
    assert started == ["optimized", "as built", "as built", "optimized"] * 3
    assert (row.ratio, row.ratio_low, row.ratio_high) == (0.9, 0.7, 0.95)
    assert row.ratios == "0.9 0.8 0.7 0.95 0.9 0.9"
    assert (row.verdict, row.ms, row.against_ms) == ("faster", 900, 1000)
    assert read_rows(paired.Row, tmp_path / "paired.csv") == [row]
    assert measure([]) == [row]  # nothing is measured again


@pytest.mark.parametrize(
    ("again", "verdict"),
    [([1.1, 1.2, 1.1, 1.1, 1.1, 1.1], "slower"), ([1.1, 1.2, 1.1, 1.1, 1.1, 0.9], "no difference")],
)
def test_what_is_slower_is_measured_twice(pairs, again, verdict):
    measure, started = pairs
    (row,) = measure([1.1] * 6 + again)
    assert row.verdict == verdict
    assert len(started) == 2 * 12
    assert len(row.ratios.split()) == 12


def test_fewer_pairs_can_say_nothing(pairs):
    measure, _ = pairs
    with pytest.raises(InputError, match="`pairs` must be at least 6, got 5"):
        measure([], pairs=5)


def test_what_breaks_is_named_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.measure.Files._write", lambda files, plain, form: Path(form))
    monkeypatch.setattr(paired, "same_file", lambda first, second: False)

    def start(given):
        if given.format == "onnx":
            raise WorkerError("no such instruction")
        return Process(1.0)

    planned = paired.plan([tiny(tmp_path / "tiny.keras")], ["onnx", "openvino"], [1])
    in_this_process = partial(paired.measure_job, start=start)
    rows = paired.go_on(planned, tmp_path / "paired.csv", measure=in_this_process)
    assert [row.format for row in rows] == ["openvino"]
    assert "onnx broke: no such instruction" in capsys.readouterr().out


@pytest.mark.parametrize("format", ["onnx", "tf_saved_model"])
def test_a_file_that_optimize_leaves_as_it_is_is_not_measured(tmp_path, format):
    x = image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(x))).save(tmp_path / "a.keras")
    (job,) = paired.pending(
        paired.plan([str(tmp_path / "a.keras")], [format], [1, 2]), [""], [], "first", 6
    )
    assert paired.Job.from_json(job.to_json()) == job

    def start(given):
        raise AssertionError("a process was started")

    rows = list(paired.measure_job(job, start))
    assert [(row.batch, row.verdict, row.ratio) for row in rows] == [
        (1, "same file", None),
        (2, "same file", None),
    ]
    write_rows(paired.Row, tmp_path / "paired.csv", rows)
    assert read_rows(paired.Row, tmp_path / "paired.csv") == rows
    assert "same file" in paired.table(rows)


@pytest.mark.slow
def test_a_saved_model_is_measured_against_keras_own_export(tmp_path):
    planned = paired.plan(["seresnet20"], ["tf_saved_model"], [1], against=BY_KERAS)
    loaded = {}

    def start(given):
        run = find_engine(given.format).load(Path(given.path), given.precision)
        loaded[given.path] = run([noise(given.shape, given.dtype)])[0]
        return Process(1.0)

    measure = partial(paired.measure_job, start=start)
    (row,) = paired.go_on(planned, tmp_path / "paired.csv", measure=measure)
    assert (row.against, row.verdict) == ("Keras' export", "no difference")
    ours, keras_own = loaded.values()
    np.testing.assert_allclose(ours, keras_own, atol=1e-5)
    assert "Keras' export" in paired.table([row])


@pytest.mark.parametrize(
    "words", ["--formats onnx --by-keras", "--batches 8", "--sizes 64 --formats onnx"]
)
def test_an_option_that_would_change_nothing_is_refused(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["paired", *words.split()])
    monkeypatch.setattr(paired, "go_on", lambda *given: pytest.fail("it measures"))
    with pytest.raises(SystemExit, match="2"):
        paired.main()
    assert words.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "planned"),
    [
        ("--by-keras --batches 1,8", [("seresnet50", 1), ("seresnet50", 8)]),
        ("seresnet20 --by-keras --sizes 32", [("seresnet20", 1)]),
    ],
)
def test_the_plan_against_keras_own_export(words, planned, monkeypatch):
    monkeypatch.setattr("sys.argv", ["paired", *words.split()])
    found = []
    monkeypatch.setattr(paired, "go_on", lambda runs, *rest: found.extend(runs) or [])
    paired.main()
    assert [(run.model, run.batch) for run in found] == planned
    assert {(run.format, run.against) for run in found} == {("tf_saved_model", BY_KERAS)}


@pytest.mark.parametrize(
    ("code", "message"),
    [("raise SystemExit('no room')", "a step: no room"), ("raise SystemExit(3)", "code 3")],
)
def test_a_process_that_fails_is_named_with_its_last_line(code, message):
    with pytest.raises(InputError, match=message):
        answer_of([sys.executable, "-c", code], "a step")
    assert answer_of([sys.executable, "-c", "print('a note\\n{}')"], "a step") == {}


def test_lanes_stay_on_their_cores_and_share_the_networks(tmp_path, pairs, monkeypatch):
    measure, _ = pairs
    (row,) = measure([0.9] * 6)
    monkeypatch.setattr(paired, "cores_of", lambda lanes: list(range(lanes)))
    taken = []

    def measure_job(job):
        taken.append((job.tasks[0][0].model, job.core, job.lanes))
        for run, _ in job.tasks:
            if (run.model, run.format, job.lanes) == ("VGG16", "openvino", 2):
                yield "it needs the whole memory"
            else:
                engine = find_engine(run.format).description
                own = {"model": run.model, "format": run.format, "size": run.size}
                yield dataclasses.replace(row, engine=engine, **own)

    names = ["MobileNet", "VGG16", "ResNet50", "Xception"]
    planned = paired.plan(names, ["onnx", "openvino"], [1])
    out = tmp_path / "all.csv"
    rows = paired.go_on(planned, out, measure=measure_job, run=row.run)
    assert len(rows) == len(read_rows(paired.Row, out)) == len(planned)
    assert sorted(model for model, *_ in taken[:4]) == sorted(names)
    assert {(core, lanes) for _, core, lanes in taken[:4]} <= {(0, 2), (1, 2)}
    assert taken[4:] == [("VGG16", 0, 1)]
    with pytest.raises(InputError, match="`lanes`"):
        paired.go_on(planned, out, lanes=0)


def test_a_rule_is_left_out(tmp_path):
    model = open_network(tiny(tmp_path / "tiny.keras"), None).build(8)

    def kinds(made):
        return sorted(type(layer).__name__ for layer in made.layers)

    assert kinds(_optimize_by(RULES, model)) == kinds(optimize(model, verbose=False))
    without = kinds(_optimize_by(RULES[:5] + RULES[6:], model))
    assert "BatchNormalization" in without
    assert "SqueezeExcite" not in without


def test_every_network_of_keras_is_there_at_its_own_size():
    builders = {name for name in dir(keras.applications) if name[0].isupper()}
    assert builders == set(APPLICATIONS)
    assert len(paired.MODELS) == len(set(paired.MODELS)) == 40 + 5
    # The size of the images that Keras builds for when it is not told.
    source = {
        "EfficientNetB7": 600,
        "EfficientNetV2S": 384,
        "NASNetLarge": 331,
        "Xception": 299,
        "VGG16": 224,
    }
    assert {name: open_network(name, None).sizes for name in source} == {
        name: (size,) for name, size in source.items()
    }


# --- training from a folder ----------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """`trained(**options)`: rows, and the processes that were started."""
    started = []
    speeds = {"se_keras": 60.0, "keras": 40.0, "timm": 30.0}

    def call(way, folder, steps, python):
        started.append((way.name, python))
        assert len(list(folder.glob("*/*.jpg"))) == 8
        speed = speeds[way.side] + len(started)
        found = dict.fromkeys(("images_per_cpu_second", "reading_per_second"), 2 * speed)
        first = {"first_pass_s": 7.0} if way.side == "se_keras" else {}
        return {"images_per_second": speed, "waiting": 0.25, **found, **first}

    def versions(python, packages):
        return None if python == "bare" and "timm" in packages else "some 1.0"

    monkeypatch.setattr(folder_training, "call", call)
    monkeypatch.setattr(folder_training, "versions", versions)

    def run(**options):
        given = {"images": 8, "steps": 2, "rounds": 2, **options}
        rows = folder_training.go_on(tmp_path / "photos", tmp_path / "folder.csv", **given)
        return rows, started

    return run


def test_ways_to_train_take_turns_and_a_stopped_run_goes_on(trained, capsys):
    rows, started = trained(rounds=1, python="bare")
    names = [way.name for way in folder_training.WAYS]
    assert [row.way for row in rows] == names[:2]
    assert capsys.readouterr().out.count("left out: timm, DataLoader") == 2
    rows, started = trained(python="other")
    # The rest of the first round, then the second in reverse order; each peer in its interpreter.
    assert [name for name, _ in started] == [*names, *names[::-1]]
    assert {python for name, python in started if "timm" in name} == {"other"}
    assert len(rows) == len(started) == 8
    header, lines = folder_training.table(rows)
    assert [line[0] for line in lines] == names
    first = dict(zip(header, lines[0], strict=True))
    # Processes 1 and 8: 61 and 68 images a second.
    assert first["images/s"] == "64.5 (61.0 to 68.0)"
    assert first["waiting"] == "25.0 (25.0 to 25.0) %"
    assert first["first pass, s"] == "7 (7 to 7)"


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_process_says_what_an_operation_needs(tmp_path):
    rows = {}
    run = "load and run, tf_saved_model"
    for operation in ("build the model", run, "train, batch 4, one epoch"):
        rows[operation] = memory.measure("seresnet20", operation, "first")
    built, run, trained = rows.values()
    assert built.weights_mb == pytest.approx(4e-6 * 275_000, abs=0.1)
    assert 100 < built.before_mb < built.peak_mb
    assert 1 < built.more_mb < run.more_mb < trained.more_mb


def test_memory_goes_on_with_the_next_row(tmp_path, monkeypatch, capsys):
    calls = []

    def call(model, operation, folder, when="--in-process"):
        calls.append((operation, when))
        if "litert" in operation:
            raise InputError("no LiteRT")
        return {"before": 100e6, "peak": 350e6}

    monkeypatch.setattr(memory, "call", call)
    rows = memory.go_on(["seresnet20"], tmp_path / "memory.csv")
    # The file that is loaded is written by another process.
    load = "load_weights, Keras' h5 file"
    first = [("build the model", "--in-process"), (load, "--before"), (load, "--in-process")]
    assert calls[:3] == first
    assert [row.operation for row in rows] == [n for n in memory.OPERATIONS if "litert" not in n]
    assert {row.more_mb for row in rows} == {250}
    assert "no LiteRT" in capsys.readouterr().out
    calls.clear()
    memory.go_on(["seresnet20"], tmp_path / "memory.csv")
    assert calls == [("export, litert", "--in-process"), ("load and run, litert", "--before")]
    header, lines = memory.table(rows)
    assert header == ["MB", "`seresnet20`, weights 1 MB"]
    assert ["export, onnx", "250"] in lines


# --- published figures ---------------------------------------------------------------------------


def test_published_errors_are_those_in_the_names_of_the_logs():
    """Pytorchcv's files are named `resnet20_cifar10-0597-HASH`, where 0597 is 5.97 %."""
    pairs = published.read_pairs()
    assert len(pairs) == 3 * 12 + 6
    for pair in pairs:
        for log, error in ((pair.log, pair.error), (pair.se_log, pair.se_error)):
            digits = re.fullmatch(r".*/(?:se)?(?:pre)?resnet\w+-(\d{4})-\w+\.pth\.log", log)[1]
            assert float(digits) / 100 == error
        assert "/se" in pair.se_log
        assert "/se" not in pair.log
        assert pair.se_parameters > pair.parameters


def test_the_summary_counts_pairs():
    one = published.read_pairs()[0]
    pairs = [
        dataclasses.replace(one, error=5.0, se_error=error) for error in (4.0, 4.5, 4.9, 4.9, 5.4)
    ]
    _, (row,) = published.summary(pairs)
    # Four of five or more either way: 2 * (5 + 1) / 32.
    assert row[1:] == ["4 of 5", "-0.26", "-1.00 to +0.40", "0.375"]


# --- training ------------------------------------------------------------------------------------


def test_trainings_with_xla_and_without_take_turns(tmp_path, monkeypatch):
    calls = []

    def call(*given):
        calls.append(given)
        return {"first_s": 2.0 if given[-1] else 1.0, "later_ms": float(len(calls))}

    monkeypatch.setattr(training_xla, "call", call)
    trainings = [("seresnet20", 8, 128)]
    rows = training_xla.go_on(tmp_path / "xla.csv", 3, trainings)
    assert calls == [("seresnet20", 8, 128, xla) for xla in (False, True)] * 3
    _, (line,) = training_xla.table(rows)
    assert line[3:] == ["1.0 (1.0 to 1.0)", "2.0 (2.0 to 2.0)", "3 (1 to 5)", "4 (2 to 6)"]
    assert training_xla.go_on(tmp_path / "xla.csv", 3, trainings) == rows
    assert len(calls) == 6  # nothing is measured again


def test_a_training_step_is_compared_with_the_network_without_se():
    seconds = {"without SE": [1.0, 2.0, 4.0], "`SqueezeExcite`": [1.1, 2.4, 4.0]}
    rows = training_step.rows_of(seconds, 8, "first")
    _, lines = training_step.table(rows)  # ratios of 1.1, 1.2 and 1.0
    assert lines[1] == ["`SqueezeExcite`", "8", "2400", "1.100 (1.050 to 1.150)"]


@pytest.mark.slow
def test_a_training_is_timed_in_a_process_of_its_own():
    found = training_xla.call("seresnet20", 8, 4, False)
    assert found["first_s"] > found["later_ms"] / 1000 > 0


# --- the run of everything -----------------------------------------------------------------------


@pytest.fixture
def taken(monkeypatch):
    """The steps that were carried out, and the exit codes of steps that fail."""
    steps, codes = [], {}

    def take(step, command, run):
        steps.append(step.name)
        values = {"began": "", "minutes": 1.0, "cpu_minutes": 1.0, "load_before": 0.0}
        return whole_run.StepRow(
            run=run,
            step=step.name,
            file=step.file,
            load_after=0.0,
            others=None,
            code=codes.get(step.name, 0),
            versions=whole_run.versions(),
            machine=whole_run.describe_machine(),
            **values,
        )

    monkeypatch.setattr(whole_run, "take_step", take)
    return steps, codes


def test_a_run_goes_on_with_what_is_not_done(tmp_path, taken):
    steps, codes = taken
    codes["families"] = 2
    whole_run.go_on(whole_run.STEPS[:3], tmp_path, "first", False)
    codes.clear()
    steps.clear()
    whole_run.go_on(whole_run.STEPS[:4], tmp_path, "first", False)
    assert steps == ["families", "sizes"]
    with pytest.raises(InputError, match="run 'first', not of 'second'"):
        whole_run.go_on(whole_run.STEPS, tmp_path, "second", False)


def test_a_run_has_one_set_of_versions(tmp_path, taken, monkeypatch):
    whole_run.go_on(whole_run.STEPS[:1], tmp_path, "first", False)
    monkeypatch.setattr(whole_run, "versions", lambda: "keras 9.0")
    with pytest.raises(InputError, match=r"here are keras 9\.0"):
        whole_run.go_on(whole_run.STEPS, tmp_path, "first", False)


def test_whole_files_are_published(tmp_path, taken):
    _, codes = taken
    folder, results = tmp_path / "run", tmp_path / "results"
    folder.mkdir()
    results.mkdir()
    earlier = whole_run.go_on(whole_run.STEPS[:2], tmp_path / "earlier", "earlier", False)
    write_rows(whole_run.StepRow, results / "run.csv", earlier)
    codes["senet154"] = 2  # the other half of families.csv
    whole_run.go_on(whole_run.STEPS[:4], folder, "first", False)
    for name in ("families.csv", "families.png", "sizes.csv", "sizes.png", "sizes-growth.png"):
        (folder / name).write_text(name)
    assert whole_run.publish(folder, results) == ["bench.csv", "sizes.csv"]
    names = {path.name for path in results.iterdir()}
    assert names == {"sizes.csv", "sizes.png", "sizes-growth.png", "run.csv"}
    steps = [(row.step, row.run) for row in read_rows(whole_run.StepRow, results / "run.csv")]
    assert steps == [("engines", "first"), ("families", "earlier"), ("sizes", "first")]


def test_the_plan_has_the_minutes_that_were_measured(tmp_path, taken):
    rows = whole_run.go_on(whole_run.STEPS[:1], tmp_path, "first", False)
    write_rows(whole_run.StepRow, tmp_path / "run.csv", [dataclasses.replace(rows[0], minutes=7.0)])
    found = whole_run.minutes_of(whole_run.STEPS[:2], tmp_path)
    assert found == [(7.0, "measured"), (whole_run.STEPS[1].minutes, "estimated")]


def test_the_machine_is_described_by_what_others_compute(tmp_path):
    step = whole_run.Step(name="nothing", module="none", file="none.csv", minutes=0)
    row = whole_run.take_step(step, ["true", "-c"], "first")
    assert row.code == 0
    assert row.load_before >= 0
    assert whole_run.share_of_others((0, 0), (4, 8), own=3) == 12.5
    assert whole_run.share_of_others(None, None, own=3) is None


def test_tables_refuse_rows_of_several_runs(tmp_path):
    path = tables.RESULTS / "bench.csv"
    rows = read_rows(Result, path)
    assert list(tables._rows(Result, path)) == rows
    mixed = tmp_path / "bench.csv"
    write_rows(Result, mixed, [dataclasses.replace(rows[0], run="later"), *rows[1:]])
    with pytest.raises(InputError, match="has rows of the run 'later' and"):
        tables._rows(Result, mixed)


def test_new_rows_belong_to_the_run_of_the_file():
    (row,) = read_rows(Result, tables.RESULTS / "bench.csv")[:1]
    assert file_run("a.csv", [row], None) == row.run
    assert file_run("a.csv", [row], row.run) == row.run
    assert file_run("a.csv", [], "mine") == "mine"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", file_run("a.csv", [], None))
    with pytest.raises(InputError, match=r"a\.csv has rows of the run"):
        file_run("a.csv", [row], "other")


@pytest.mark.parametrize("name", ["paired", "all"])
def test_docstring_examples(name):
    found = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
