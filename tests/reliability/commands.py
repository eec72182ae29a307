"""The commands that write, and the files that each may leave after a stop and at its end."""

import shutil
import sys
from dataclasses import dataclass

from contents import contents
from work import TRAIN

PARTIAL, OLD = ".partial-", ".old"
MODEL, PHOTOS, EXPLAIN = "model.keras", ("--data", "photos"), ("explain", "model.keras")


@dataclass(frozen=True)
class Command:
    """A command in a place that has `workplace`.

    Attributes:
        arguments: of the command line; {runs} is the folder of two finished runs, one and two.
        target: what it writes.
        more: of the command that goes on after a stop.
        before: arguments of a command whose result is there before this one.
        copied: a finished run that is at the target before.
    """

    arguments: tuple[str, ...]
    target: str
    more: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    copied: str = ""

    @property
    def is_train(self):
        return self.arguments[0] == "train"

    def prepare(self, forks, workplace, place):
        """Make a place that the command is to run in; return the place."""
        shutil.copytree(workplace, place, ignore=shutil.ignore_patterns("runs"))
        if self.copied:
            shutil.copytree(workplace / "runs" / self.copied, place / self.target)
        if self.before:
            ended = forks.run(*self.before, folder=place)
            assert ended.code == 0, ended
        return place

    def run(self, forks, workplace, place, **options):
        return forks.run(*self.words(workplace), folder=place, **options)

    def go_on(self, forks, workplace, place):
        """Continue after a stop, or start again, to the end; return the files."""
        ended = forks.run(*self.words(workplace), *self.more, folder=place)
        if not self.is_train and "exists already" in ended.err:
            return contents(place / self.target)  # it was at its end
        assert ended.code == 0, ended
        return contents(place / self.target)

    def words(self, workplace):
        return [word.format(runs=workplace / "runs") for word in self.arguments]


COMMANDS = {
    "train": Command(TRAIN, "run", more=("--resume",)),
    "train further": Command(
        ("train", "--out", "run", "--resume", "--epochs", "3"), "run", copied="one"
    ),
    "train anew": Command((*TRAIN, "--overwrite"), "run", copied="two"),
    "insert": Command(("insert", "plain.keras", "-o", "new.keras", "--ratio", "4"), "new.keras"),
    "convert": Command(
        ("convert", "some.weights.h5", "new.keras", "--model", "seresnet20"), "new.keras"
    ),
    "convert again": Command(
        ("convert", "some.weights.h5", "new.keras", "--model", "seresnet20"),
        "new.keras",
        before=("insert", "plain.keras", "-o", "new.keras"),
    ),
    "convert to timm": Command(
        ("convert", "{runs}/named.keras", "new.safetensors", "--to", "timm"), "new.safetensors"
    ),
    "SavedModel": Command(("export", MODEL, "-o", "served"), "served"),
    "SavedModel again": Command(
        ("export", MODEL, "-o", "served"),
        "served",
        before=("export", "plain.keras", "-o", "served"),
    ),
    "ONNX": Command(("export", MODEL, "-f", "onnx", "-o", "new.onnx"), "new.onnx"),
    "ONNX int8": Command(
        ("export", MODEL, *("-f", "onnx", "-p", "int8", "--calibration", "photos", "-o"), "8.onnx"),
        "8.onnx",
    ),
    "OpenVINO": Command(("export", MODEL, "-f", "openvino", "-o", "vino"), "vino"),
    "LiteRT": Command(("export", MODEL, "-f", "litert", "-o", "new.tflite"), "new.tflite"),
    "explain": Command((*EXPLAIN, *PHOTOS, "--out", "ex", "--cam"), "ex"),
    "prune": Command((*EXPLAIN, *PHOTOS, "--out", "ex", "--keep", "0.5"), "ex"),
    "evaluate": Command(("evaluate", MODEL, *PHOTOS, "--out", "ev"), "ev"),
    "predict": Command(("predict", MODEL, "photos", "--csv", "a.csv"), "a.csv"),
    "compare": Command(("compare", "{runs}/one", "{runs}/two", "-o", "both.png"), "both.png"),
}


def assert_nothing_half(command, place, whole, old):
    """Check that a target is complete or unchanged, and that only a finished run has a report."""
    target = place / command.target
    if command.is_train:
        found = contents(target) if (target / "report.json").exists() else whole
        # The next command removes what a kill leaves of files that are being written.
        assert {k: v for k, v in found.items() if PARTIAL not in k} in (whole, old)
        return
    found = contents(target) if target.exists() else None
    kept = place / (PARTIAL + command.target) / OLD
    if found is None and kept.exists() and sys.platform != "linux":
        # Only Linux replaces a folder in one step; the next command puts it back.
        found = {name.replace(OLD, target.name, 1): x for name, x in contents(kept).items()}
    assert found in (whole, old)


def assert_nothing_else(command, workplace, place, ended=True):
    """Check that only the target is new, and that all other files are unchanged."""
    added = {path.name for path in place.iterdir()} - {path.name for path in workplace.iterdir()}
    allowed = {command.target, f"{command.target}.report.json"}
    partial = {PARTIAL + name for name in allowed}
    assert added <= allowed | (set() if ended else partial), added
    for file in workplace.rglob("*"):
        inside = file.relative_to(workplace)
        if file.is_file() and inside.parts[0] != "runs":
            there = (place / inside).stat()
            assert (there.st_size, there.st_mtime_ns) == (
                file.stat().st_size,
                file.stat().st_mtime_ns,
            )
    if ended:
        assert not list(place.rglob(PARTIAL + "*"))
        assert not [*(place.parent / "tmp").iterdir(), *(place.parent / "home").iterdir()]
