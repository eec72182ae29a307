"""Measure everything that the tables of README and `docs/` show, in one run.

python -m benchmarks.all [--run NAME] [--only STEP ...] [--python NAME=PATH ...] [--publish]
python -m benchmarks.all --dry-run    the steps, with estimates of their time on two cores
python -m benchmarks.all --quick      every step on small networks, to see that it works

The files of a run are in `runs/NAME`. Every row has the name of the run. `run.csv` has a row for
each step: versions, processor, load before and after, and the share of the machine's time that
other processes took. A stopped run continues under the same name with the next row of its step.
`--publish` copies each file whose steps are all done into `benchmarks/results/`, and writes the
tables; it refuses a quick run.
"""

import argparse
import datetime
import importlib.metadata
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import describe_machine, file_run, read_rows, write_rows
from se_keras.support.errors import InputError
from se_keras.support.tables import format_table

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
RUN_FILE = "run.csv"
QUICK = "quick"
PACKAGES = (
    "keras",
    "tensorflow",
    "onnxruntime",
    "openvino",
    "nncf",
    "ai-edge-litert",
    "tf2onnx",
    "numpy",
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measurement.

    Attributes:
        name: name of the step for `--only`.
        module: module of `benchmarks` that measures it.
        file: CSV file that it writes, in the folder of the run.
        arguments: arguments of its command.
        quick: arguments of its command in a quick run; `None` if a quick run leaves it out.
        named: whether its rows have the name of the run.
        minutes: estimated time on two cores of a quiet machine.
    """

    name: str
    module: str
    file: str
    arguments: str = ""
    quick: str | None = None
    named: bool = True
    minutes: int

    def command(self, folder: Path, run: str, quick: bool, more: Sequence[str] = ()) -> list[str]:
        words = ((self.quick or "") if quick else self.arguments).split()
        out = ["--out", str(folder / self.file), *(["--run", run] if self.named else [])]
        return [sys.executable, "-m", f"benchmarks.{self.module}", *words, *more, *out]


# Steps that take `--python NAME=PATH`.
WITH_PEERS = ("peers", "folder_training")
SMALL = "--threads 1 --formats onnx --precisions float32 --batches 1 --rounds 1"
STEPS = (
    Step(
        name="engines",
        module="bench",
        file="bench.csv",
        arguments="seresnet50 --threads 1 --batches 1,8 --rounds 9",
        quick=f"seresnet20 {SMALL}",
        minutes=25,
    ),
    Step(
        name="families",
        module="bench",
        file="families.csv",
        arguments="semobilenet seresnext50_32x4d --threads 1 --precisions float32 "
        "--formats tf_saved_model,onnx,openvino --batches 1,8 --rounds 6",
        quick=f"seresnet32 {SMALL}",
        minutes=20,
    ),
    Step(
        name="senet154",
        module="bench",
        file="families.csv",
        # Two processes of TensorFlow would need 20 GB.
        arguments="senet154 --threads 1 --precisions float32 --formats onnx,openvino --batches 1 "
        "--rounds 6",
        quick=f"seresnet32 {SMALL}",
        minutes=10,
    ),
    Step(
        name="sizes",
        module="bench",
        file="sizes.csv",
        arguments="seresnet50 --threads 1 --formats openvino --precisions float32,int8 "
        "--sizes 128,224,448 --batches 1,8,32 --rounds 3",
        quick=f"seresnet20 {SMALL}",
        minutes=25,
    ),
    Step(
        name="peers",
        module="peers",
        file="peers.csv",
        arguments="--threads 1 --rounds 6",
        quick="--threads 1 --engines onnx --batches 1 --size 32 --rounds 1",
        minutes=50,
    ),
    Step(name="layer", module="layer_speed", file="layer_speed.csv", quick="--rounds 1", minutes=3),
    Step(name="memory", module="memory", file="memory.csv", quick="seresnet20", minutes=30),
    Step(
        name="folder",
        module="folder_training",
        file="folder_training.csv",
        quick="--images 300 --steps 1 --rounds 1",
        minutes=12,
    ),
    Step(
        name="training",
        module="training_step",
        file="training_step.csv",
        quick="--batch 1 --rounds 1",
        minutes=5,
    ),
    Step(
        name="xla",
        module="training_xla",
        file="training_xla.csv",
        quick="seresnet20 --rounds 1",
        minutes=12,
    ),
    Step(
        name="paired",
        module="paired",
        file="paired.csv",
        quick="seresnet20 --formats onnx",
        minutes=120,
    ),
    Step(
        name="digits",
        module="study",
        file="study_digits.csv",
        arguments="digits",
        quick="digits --images 50 --epochs 1 --seeds 0",
        minutes=15,
    ),
    Step(
        name="fashion_mnist",
        module="study",
        file="study_fashion_mnist.csv",
        arguments="fashion_mnist",
        quick="fashion_mnist --images 50 --epochs 1 --seeds 0",
        minutes=15,
    ),
    Step(name="inserting", module="insert_study", file="insert_study.csv", named=False, minutes=25),
    Step(name="tuning", module="fine_tuning", file="fine_tuning.csv", named=False, minutes=20),
)


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A row of `run.csv`.

    Attributes:
        run, step, file: name of the run, name of the step, and its file.
        began: date and time of the start, UTC.
        minutes, cpu_minutes: time that the step took, and CPU time of its processes.
        load_before, load_after: load of the machine, mean of a minute.
        others: share of the machine's time that other processes took, %; `None` if unknown.
        code: exit code; 0 if the step is done.
        versions, machine: versions of the packages; the processor.
    """

    run: str
    step: str
    file: str
    began: str
    minutes: float
    cpu_minutes: float
    load_before: float
    load_after: float
    others: float | None
    code: int
    versions: str
    machine: str


# --- how loaded the machine is -------------------------------------------------------------------


def machine_seconds() -> tuple[float, float] | None:
    """Return the busy seconds and all seconds of all processors; `None` without /proc."""
    try:
        line = Path("/proc/stat").read_text("utf-8").splitlines()[0]
    except OSError:
        return None
    ticks = list(map(int, line.split()[1:9]))  # the first fields include the time of guests
    idle = ticks[3] + ticks[4]
    per_second = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - idle) / per_second, sum(ticks) / per_second


def share_of_others(
    before: tuple[float, float] | None, after: tuple[float, float] | None, own: float
) -> float | None:
    """Return the percentage of the time between two states that other processes computed.

    Args:
        before, after: results of `machine_seconds`.
        own: CPU seconds of the measurement itself.

    Example:

    >>> from benchmarks.all import share_of_others
    >>> share_of_others((10.0, 100.0), (40.0, 160.0), own=24.0)  # 6 of 60 seconds
    10.0
    """
    if before is None or after is None or after[1] <= before[1]:
        return None
    busy, whole = (last - first for first, last in zip(before, after, strict=True))
    return round(100 * max(0.0, busy - own) / whole, 1)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


# --- the run -------------------------------------------------------------------------------------


def take_step(step: Step, command: Sequence[str], run: str) -> StepRow:
    """Carry out a step; return its row, with the load of the machine."""
    print(f"== {step.name}: {' '.join(command[1:])}", flush=True)
    began, machine, own = time.time(), machine_seconds(), _children_seconds()
    load = os.getloadavg()[0]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    seconds = _children_seconds() - own
    return StepRow(
        run=run,
        step=step.name,
        file=step.file,
        began=datetime.datetime.fromtimestamp(began, datetime.UTC).isoformat(" ", "minutes")[:16],
        minutes=round((time.time() - began) / 60, 1),
        cpu_minutes=round(seconds / 60, 1),
        load_before=round(load, 2),
        load_after=round(os.getloadavg()[0], 2),
        others=share_of_others(machine, machine_seconds(), seconds),
        code=code,
        versions=versions(),
        machine=describe_machine(),
    )


def go_on(
    steps: Sequence[Step], folder: Path, run: str, quick: bool, pythons: Sequence[str] = ()
) -> list[StepRow]:
    """Carry out the steps that are not done yet.

    Raises:
        InputError: if the folder has another run, other versions or another machine.
    """
    path = folder / RUN_FILE
    rows = read_rows(StepRow, path)
    file_run(path, rows, run)
    for old in rows:
        if (old.versions, old.machine) != (versions(), describe_machine()):
            raise InputError(
                f"{path} is of {old.versions} on {old.machine}; here are {versions()} on "
                f"{describe_machine()}: give the run another name."
            )
    done = {row.step for row in rows if row.code == 0}
    for step in steps:
        if step.name in done:
            continue
        more = [word for one in pythons for word in ("--python", one)]
        more = more if step.module in WITH_PEERS else []
        rows.append(take_step(step, step.command(folder, run, quick, more), run))
        write_rows(StepRow, path, rows)
    return rows


def publish(folder: Path, results: Path = RESULTS) -> list[str]:
    """Copy each file whose steps are all done, and its pictures; return the names of the files.

    Files of earlier runs that are not replaced keep their steps in the published `run.csv`.

    Raises:
        InputError: if none is done.
    """
    done = {row.step: row for row in read_rows(StepRow, folder / RUN_FILE) if row.code == 0}
    files = dict.fromkeys(step.file for step in STEPS)
    whole = [f for f in files if {step.name for step in STEPS if step.file == f} <= done.keys()]
    if not whole:
        raise InputError(f"{folder} has no file whose steps are all done.")
    for name in whole:
        for path in folder.glob(f"{Path(name).stem}*"):
            if path.suffix in (".csv", ".png") and path.stem.removesuffix("-growth") == name[:-4]:
                shutil.copy(path, results / path.name)
    rows = {row.step: row for row in read_rows(StepRow, results / RUN_FILE)}
    rows.update({name: row for name, row in done.items() if row.file in whole})
    ordered = [rows[step.name] for step in STEPS if step.name in rows]
    write_rows(StepRow, results / RUN_FILE, ordered)
    return whole


def table(rows: Sequence[StepRow]) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a row for each step that was carried out."""
    header = ["step", "run", "began, UTC", "minutes", "CPU minutes", "load", "others"]
    return header, [
        [
            *(row.step, row.run, row.began, f"{row.minutes:.0f}", f"{row.cpu_minutes:.0f}"),
            f"{row.load_before:.1f} to {row.load_after:.1f}",
            "" if row.others is None else f"{row.others:.0f} %",
        ]
        for row in rows
        if row.code == 0
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--run", metavar="NAME", help="name of the run (default: the date; quick for --quick)"
    )
    parser.add_argument("--only", nargs="+", metavar="STEP", choices=[s.name for s in STEPS])
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    steps = [
        step
        for step in STEPS
        if step.name in (options.only or [step.name]) and not (options.quick and step.quick is None)
    ]
    run = options.run or (QUICK if options.quick else datetime.date.today().isoformat())
    folder = Path("runs") / run
    if options.dry_run:
        _print_plan(steps, folder, run, options.quick)
        return 0
    if options.publish and options.quick:
        parser.error("--publish: a quick run has no results")
    try:
        rows = go_on(steps, folder.absolute(), run, options.quick, options.python)
        print(format_table(*table(rows)))
        if options.publish:
            print("published:", ", ".join(publish(folder)))
            command = [sys.executable, "-m", "benchmarks.tables", "--write"]
            return subprocess.run(command, cwd=ROOT, check=False).returncode
    except InputError as error:
        parser.error(str(error))
    done = {row.step for row in rows if row.code == 0}
    return 0 if {step.name for step in steps} <= done else 1


def minutes_of(steps: Sequence[Step], results: Path = RESULTS) -> list[tuple[float, str]]:
    """Return the minutes of each step: measured by the published run, or estimated."""
    measured = {row.step: row.minutes for row in read_rows(StepRow, results / RUN_FILE)}
    return [
        (measured[step.name], "measured") if step.name in measured else (step.minutes, "estimated")
        for step in steps
    ]


def _print_plan(steps: Sequence[Step], folder: Path, run: str, quick: bool) -> None:
    minutes = minutes_of(steps)
    lines = [
        [step.name, f"{number:.0f}", how, " ".join(step.command(folder, run, quick)[1:])]
        for step, (number, how) in zip(steps, minutes, strict=True)
    ]
    print(format_table(["step", "minutes", "", "command"], lines))
    print(f"together {sum(number for number, _ in minutes) / 60:.1f} hours without --quick")


if __name__ == "__main__":
    sys.exit(main())
