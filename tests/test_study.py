"""`benchmarks.study`: its runs, also continued after a kill, and its tables."""

import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from checks import TESTS

from benchmarks import seeds, study
from benchmarks.results import read_rows, write_rows
from se_keras.support.errors import InputError
from se_keras.support.plotting import save_figure

DIGITS = study.STUDIES["digits"]
TINY = replace(
    DIGITS,
    network=replace(DIGITS.network, depths=(1,), widths=(8,), stem_widths=(8,)),
    images=100,
    epochs=2,
    variants=DIGITS.variants[:2],
)
TINY_RUNS = [(name, seed) for seed in (0, 1) for name in ("plain", "SE")]


def go_on_with_the_tiny_study(path):
    return study.go_on(TINY, [0, 1], Path(path))


def run_of(variant, seed, error):
    return study.Run("first", variant, seed, TINY.images, TINY.epochs, 1000, error, 1.0, "1.0 0.5")


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_study_goes_on_with_the_next_run(tmp_path, capsys):
    path = tmp_path / "study.csv"
    code = (
        "import sys; sys.path.append(sys.argv[2]); import test_study;"
        "test_study.go_on_with_the_tiny_study(sys.argv[1])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, path, TESTS.parent],
        cwd=TESTS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while child.poll() is None and not path.exists():
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    message = child.communicate()[1]
    assert child.returncode == -signal.SIGKILL, message
    before = path.read_text()
    done = [(run.variant, run.seed) for run in read_rows(study.Run, path)]
    assert 0 < len(done) < len(TINY_RUNS)
    assert done == TINY_RUNS[: len(done)]

    runs = go_on_with_the_tiny_study(path)
    assert path.read_text().startswith(before)
    assert read_rows(study.Run, path) == runs
    assert [(run.variant, run.seed) for run in runs] == TINY_RUNS
    assert len(capsys.readouterr().out.splitlines()) == len(TINY_RUNS) - len(done)
    # The result of a run does not depend on earlier runs in the process.
    again = study.run_one(TINY, TINY.variants[0], 0, "second", tmp_path / "kept.npz")
    np.testing.assert_allclose(*(study.losses([r], "plain", [0]) for r in (runs[0], again)), 1e-3)
    assert again.error == pytest.approx(runs[0].error, abs=0.5)


def test_runs_of_another_budget_are_refused(tmp_path):
    path = tmp_path / "study.csv"
    write_rows(study.Run, path, [run_of("plain", 0, 1.0)])
    with pytest.raises(InputError, match="100 images and 2 epochs, but the study has 100 and 3"):
        study.go_on(replace(TINY, epochs=3), [0], path)


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_next_epoch(tmp_path, monkeypatch):
    """It loads the weights and momenta of the last epoch; the result is the same, bit by bit."""
    path = tmp_path / "study.csv"
    train, epochs = study._epoch, []
    one = replace(TINY, variants=TINY.variants[1:])

    def stops(model, images, batch, seed):
        epochs.append(seed)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return train(model, images, batch, seed)

    monkeypatch.setattr(study, "_epoch", stops)
    with pytest.raises(KeyboardInterrupt):
        study.go_on(one, [0], path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.partial.npz"]
    (resumed,) = study.go_on(one, [0], path)
    assert epochs == [(0, 0), (0, 1), (0, 1)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.csv"]
    (whole,) = study.go_on(one, [0], tmp_path / "other.csv", resumed.run)
    assert replace(resumed, cpu_seconds=0) == replace(whole, cpu_seconds=0)


def test_an_epoch_is_kept_with_its_weights_and_momenta_for_its_own_run_alone(tmp_path):
    def compiled():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        model.compile(keras.optimizers.SGD(momentum=0.9))
        return model

    first, second, third = compiled(), compiled(), compiled()
    kept, what = tmp_path / "kept.npz", ("SE", 0, 100, 2)
    assert study._restore(first, kept, what) == ([], 0.0)
    first.optimizer.apply([np.ones(v.shape, "float32") for v in first.trainable_variables])
    study._keep(first, kept, what, [0.5], 3.0)
    assert study._restore(second, kept, what) == ([0.5], 3.0)
    states = [[v.numpy() for v in study._state(model)] for model in (first, second)]
    for mine, given in zip(*states, strict=True):
        np.testing.assert_array_equal(mine, given)
    assert int(second.optimizer.iterations.numpy()) == 1
    for other in (("plain", 0, 100, 2), ("SE", 1, 100, 2), ("SE", 0, 100, 3)):
        assert study._restore(third, kept, other) == ([], 0.0)


def test_a_file_has_rows_of_one_run(tmp_path):
    path = tmp_path / "study.csv"
    first, second = run_of("plain", 0, 1.0), replace(run_of("SE", 0, 1.0), run="second")
    write_rows(study.Run, path, [first])
    with pytest.raises(InputError, match=r"rows of the run 'first', not of 'second'"):
        study.go_on(TINY, [0], path, "second")
    write_rows(study.Run, path, [first, second])
    with pytest.raises(InputError, match="run 'first' and 'second': one file holds one run"):
        study.go_on(TINY, [0], path)


def test_digits_are_split_by_the_seed():
    train, test = study.digits(3, 500)
    assert (len(train.labels), len(test.labels)) == (500, 1297)
    whole = study.load_digits()
    pixels, labels = (np.concatenate(parts) for parts in zip(train, test, strict=True))
    rows = np.column_stack([pixels.reshape(1797, 64) * 16, labels])
    expected = np.column_stack([whole.data, whole.target])
    assert Counter(map(tuple, rows)) == Counter(map(tuple, expected))
    assert not np.array_equal(train.labels, study.digits(4, 500)[0].labels)


def test_the_variants_of_a_seed_see_the_same_batches():
    """Each image once an epoch, in another order each epoch."""

    class Recorder:
        def __init__(self):
            self.seen = []

        def train_on_batch(self, pixels, labels):
            self.seen.append(labels)
            return float(labels[-1])

    train = study.Images(np.zeros((6, 1, 1, 1)), np.arange(6))
    first, second = Recorder(), Recorder()
    for model in (first, second):
        for epoch in (0, 1):
            assert study._epoch(model, train, 3, (0, epoch)) == model.seen[-1][-1]
    np.testing.assert_array_equal(first.seen, second.seen)
    epochs = np.reshape(first.seen, (2, 6))
    np.testing.assert_array_equal(np.sort(epochs), [np.arange(6)] * 2)
    assert not np.array_equal(*epochs)


# --- tables --------------------------------------------------------------------------------------


def test_the_interval_is_students():
    """t(0.975, 4 degrees of freedom) = 2.776 from the printed tables; s / sqrt(5) = 70.71."""
    assert seeds.with_interval(np.array([100, 200, 300, 400, 500])) == "300.00 ± 196.32"
    assert seeds.with_interval(np.array([2.0])) == "2.00 ± ?"


def test_differences_are_those_within_a_seed():
    """A seed that is hard for both does not widen the intervals; an incomplete seed is left out."""
    runs = [run_of("plain", 1, 8.0), run_of("SE", 0, 1.0), run_of("plain", 0, 2.0)]
    runs += [run_of("SE", 1, 7.0), run_of("plain", 2, 50.0)]
    header, (plain, se) = study.table(TINY, runs)
    assert header[2:5] == ["test error, %", "minus plain", "minus SE"]
    # t(0.975, 1) = 12.706, s / sqrt(2) = 3
    assert plain[2:5] == ["5.00 ± 38.12", "", "1.00 ± 0.00"]
    assert se[2:5] == ["4.00 ± 38.12", "-1.00 ± 0.00", ""]


def test_curves_are_drawn_beside_the_results(tmp_path):
    runs = [run_of(variant, seed, 1.0) for variant, seed in TINY_RUNS]
    save_figure(study.draw(TINY, runs), tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = study.draw(TINY, runs).axes
    assert [line.get_label() for line in axes.lines] == ["plain", "SE"]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 1.0], [2, 0.5]])


def test_each_table_of_the_paper_has_a_panel():
    panels = [
        axes.get_title() for axes in study.draw(DIGITS, read_rows(study.Run, DIGITS.path)).axes
    ]
    assert panels == list(dict.fromkeys(variant.source for variant in DIGITS.variants))


# --- the results in the repository ---------------------------------------------------------------


# These take hours: the command is there, the results are not.
NOT_RUN = {"fashion_mnist_20", "fashion_mnist_56"}


@pytest.mark.parametrize("name", sorted(set(study.STUDIES) - NOT_RUN))
def test_the_results_are_those_of_the_study(name):
    one = study.STUDIES[name]
    runs = read_rows(study.Run, one.path)
    expected = [(variant.name, seed) for seed in one.seeds for variant in one.variants]
    assert sorted((run.variant, run.seed) for run in runs) == sorted(expected)
    assert {(run.images, run.epochs) for run in runs} == {(one.images, one.epochs)}


def test_the_parameters_of_the_ratios_are_the_papers():
    """Paper, eq. 5: 2 / r * sum of C^2, here over one unit of 64, 128 and 256 channels."""
    parameters = {run.variant: run.parameters for run in read_rows(study.Run, DIGITS.path)}
    squares = 64**2 + 128**2 + 256**2
    for variant, ratio in (("SE", 16), *((f"ratio {r}", r) for r in (2, 4, 8, 32))):
        assert parameters[variant] - parameters["plain"] == 2 * squares // ratio


@pytest.fixture
def beside(monkeypatch, tmp_path):
    """`beside(seeds, failing)`: the seeds whose processes are started, and the file of the rows."""
    path = tmp_path / "study.csv"

    def run_all(seeds, failing=()):
        started = []

        def run(command, env, check):
            given = dict(zip(command[4::2], command[5::2], strict=True))
            seed = int(given["--seeds"])
            started.append(seed)
            part = Path(given["--out"])
            if seed in failing:
                return subprocess.CompletedProcess(command, 1)
            write_rows(study.Run, part, [run_of(v, seed, 1.0) for v in ("plain", "SE")])
            part.with_suffix(".png").touch()
            return subprocess.CompletedProcess(command, 0)

        monkeypatch.setattr(subprocess, "run", run)
        study.go_on_beside(TINY, seeds, path, "first", {"images": TINY.images}, 1)
        return started

    return run_all, path


def test_seeds_beside_each_other_are_one_file_in_the_end(beside, tmp_path):
    run_all, path = beside
    write_rows(study.Run, path, [run_of("plain", 0, 1.0)])
    assert run_all([0, 1, 2]) == [1, 2]  # seed 0 goes on in this process
    found = [(run.variant, run.seed) for run in read_rows(study.Run, path)]
    assert found == [("plain", 0), ("plain", 1), ("SE", 1), ("plain", 2), ("SE", 2)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.csv"]


def test_the_rows_of_other_seeds_stay_when_a_process_fails(beside, tmp_path):
    run_all, path = beside
    with pytest.raises(InputError, match="1 of 2 processes failed"):
        run_all([1, 2], failing=[2])
    assert not path.exists()
    assert len(read_rows(study.Run, tmp_path / "study.seed1.csv")) == 2
