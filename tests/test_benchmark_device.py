"""The benchmark for a GPU: its rows, and how it continues after a stop and a failure."""

import itertools

import pytest

from benchmarks import device_step
from benchmarks.device_step import Row, main
from benchmarks.results import read_rows
from benchmarks.timing import WorkerError


class Turns:
    """A worker whose times are given: SE takes 1.5 times as long."""

    def __init__(self, network, works, se):
        self.works, self.number = works, 0
        self.seconds = 1.5 if se else 1.0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    close = __exit__

    def turn(self, calls):
        if self.works[self.number].batch == 256:
            raise WorkerError("RESOURCE_EXHAUSTED: Out of memory")
        return calls * self.seconds


@pytest.fixture
def measured(monkeypatch, capsys, tmp_path):
    """`measured(*options)`: what `main` prints, says on the side, and starts; and its rows."""
    started = []
    monkeypatch.setattr(device_step, "DeviceWorker", Turns)
    monkeypatch.setattr(device_step, "find_device", lambda maker: f"a device of {maker}")
    measure = device_step.measure
    monkeypatch.setattr(
        device_step, "measure", lambda work, *rest: started.append(work) or measure(work, *rest)
    )

    def run(*options):
        started.clear()
        main([*options, "--networks", "semobilenet", "--out", str(tmp_path / "a.csv")])
        return *capsys.readouterr(), len(started), read_rows(Row, tmp_path / "a.csv")

    return run


MAKERS = [maker for maker in device_step.CHOICES["makers"] if maker != "timm"]


def test_a_row_has_the_ratio_to_the_plain_twin(measured):
    printed, said, _, rows = measured("--batches", "64")
    assert said.count(": 1500.0 ms, 1.500 to plain") == len(rows)
    assert len(rows) == len(MAKERS) * 3 * 2  # three works in two precisions
    assert {(row.ms, row.plain_ms, row.ratio) for row in rows} == {(1500, 1000, 1.5)}
    line = next(line for line in printed.splitlines() if "bfloat16" in line)
    assert "1.500 (1.500 to 1.500)" in line
    assert line.endswith(" 43")  # images a second: 64 / 1.5


def test_what_fails_is_named_and_what_is_there_is_not_run_again(measured):
    chosen = ("--works", "training", "--precisions", "float32")
    _, said, started, rows = measured(*chosen)
    assert (started, len(rows)) == (2 * len(MAKERS), len(MAKERS))
    assert [line for line in said.splitlines() if line.startswith("not")] == [
        f"not measured: semobilenet, {maker}, training, float32, 256: "
        "RESOURCE_EXHAUSTED: Out of memory"
        for maker in MAKERS
    ]
    _, _, started, again = measured(*chosen, "--batches", "64", "32")
    assert started == len(MAKERS)
    assert again[: len(rows)] == rows


@pytest.mark.slow
@pytest.mark.parametrize("maker", MAKERS)
def test_two_processes_take_turns_in_every_work(maker, tmp_path, capsys):
    chosen = ["--makers", maker, "--networks", "semobilenet", "--size", "32"]
    main([*chosen, "--batches", "2", "--rounds", "2", "--out", str(tmp_path / "a.csv")])
    assert "not measured" not in capsys.readouterr().err
    rows = read_rows(Row, tmp_path / "a.csv")
    works = itertools.product(device_step.CHOICES["works"], device_step.CHOICES["precisions"])
    assert [(row.work, row.precision) for row in rows] == list(works)
    assert all(row.plain_ms > 0 and row.ratio_low <= row.ratio <= row.ratio_high for row in rows)


def test_nothing_measured_is_an_error(measured):
    with pytest.raises(SystemExit, match="Nothing was measured"):
        measured("--batches", "256")
