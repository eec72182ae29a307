"""Killed or stopped commands, or commands on a full disk, leave nothing half done, and continue."""

import shutil
import signal

import pytest
from contents import contents
from forks import moments
from work import TRAIN

# The default run has a slice of it in test_support.py, test_support_signals.py and test_cli.py.
pytestmark = pytest.mark.reliability

COMMANDS = {
    "train": (TRAIN, "run"),
    "insert": (("insert", "plain.keras", "-o", "new.keras", "--ratio", "4"), "new.keras"),
    "convert": (("convert", "some.weights.h5", "new.keras", "--model", "seresnet20"), "new.keras"),
    "export": (("export", "model.keras", "-o", "served"), "served"),
    "explain": (("explain", "model.keras", "--data", "photos", "--out", "ex"), "ex"),
    "prune": (
        ("explain", "model.keras", "--data", "photos", "--out", "ex", "--keep", "0.5"),
        "ex",
    ),
    "evaluate": (("evaluate", "model.keras", "--data", "photos", "--out", "ev"), "ev"),
}
ROOMS = (100, 20_000, 400_000, 1_000_000)
SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


@pytest.fixture(scope="session")
def unbroken(forks, workplace, tmp_path_factory):
    """Return the output and duration of each uninterrupted command, which runs once."""
    known = {}

    def run(name):
        if name not in known:
            folder = tmp_path_factory.mktemp("unbroken") / "place"
            shutil.copytree(workplace, folder)
            arguments, target = COMMANDS[name]
            ended = forks.run(*arguments, folder=folder)
            assert ended.code == 0, ended.err
            known[name] = contents(folder / target), ended.seconds
        return known[name]

    return run


def again(forks, name, place):
    """Continue after a stop, or start again, to the end."""
    arguments, target = COMMANDS[name]
    more = ["--resume"] if name == "train" else []
    ended = forks.run(*arguments, *more, folder=place)
    assert ended.code == 0, ended.err
    return contents(place / target)


def assert_nothing_half(name, place, whole):
    """Check that targets are complete or absent, and that an unfinished run has no results."""
    target = place / COMMANDS[name][1]
    if name == "train":
        assert not (target / "report.json").exists() or contents(target) == whole
    elif target.exists():
        assert contents(target) == whole


def assert_nothing_beside(place, workplace, target):
    names = {path.name for path in place.iterdir()} - {path.name for path in workplace.iterdir()}
    assert names <= {target, f"{target}.report.json"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_leaves_nothing_half(name, forks, unbroken, workplace, tmp_path):
    whole, seconds = unbroken(name)
    for number, after in enumerate(moments(name, seconds)):
        place = shutil.copytree(workplace, tmp_path / str(number) / "place")
        killed = forks.run(*COMMANDS[name][0], folder=place, after=after)
        assert killed.code in (-signal.SIGKILL, 0), killed.err
        assert_nothing_half(name, place, whole)
        if killed.code:
            if (place / COMMANDS[name][1]).exists() and name != "train":
                continue  # killed after the renaming
            assert again(forks, name, place) == whole, f"killed after {after:.3f} s"
        assert_nothing_beside(place, workplace, COMMANDS[name][1])
        shutil.rmtree(place)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_stops_in_a_line(name, number, forks, unbroken, workplace, tmp_path):
    whole, seconds = unbroken(name)
    for turn, after in enumerate(moments(f"{name} {number}", seconds, 4)):
        place = shutil.copytree(workplace, tmp_path / str(turn) / "place")
        after = max(after, 0.05)  # before that the command has not begun
        ended = forks.run(
            *COMMANDS[name][0], folder=place, after=after, number=signal.Signals[number]
        )
        assert "Traceback" not in ended.err
        if ended.code:
            assert ended.code == SIGNALS[number], ended
            assert "stopped" in ended.err
            assert (
                name != "train" or "--resume" in ended.err or "The run has not started" in ended.err
            )
        assert_nothing_half(name, place, whole)
        assert_nothing_beside(place, workplace, COMMANDS[name][1])
        if ended.code and not (name != "train" and (place / COMMANDS[name][1]).exists()):
            assert again(forks, name, place) == whole, f"stopped after {after:.3f} s"
        shutil.rmtree(place)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_signal_ends_at_once(name, forks, unbroken, place):
    _, seconds = unbroken(name)
    ended = forks.run(
        *COMMANDS[name][0],
        folder=place,
        after=seconds / 2,
        again=0.05,
        number=signal.SIGTERM,
    )
    assert ended.code in (143, 0)
    assert ended.seconds < seconds / 2 + 2 or ended.code == 0


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_room_is_one_line(name, room, forks, unbroken, workplace, tmp_path):
    """A limit of file size stops each writer, like a full disk."""
    whole, _ = unbroken(name)
    place = shutil.copytree(workplace, tmp_path / "place")
    ended = forks.run(*COMMANDS[name][0], folder=place, room=room)
    assert_nothing_half(name, place, whole)
    assert_nothing_beside(place, workplace, COMMANDS[name][1])
    if ended.code:
        assert ended.code == 2, ended.err
        assert len(ended.err.strip().splitlines()) == 1, ended.err
        assert again(forks, name, place) == whole
    else:
        assert contents(place / COMMANDS[name][1]) == whole


@pytest.mark.parametrize("name", COMMANDS)
def test_two_at_the_same_time(name, forks, unbroken, workplace, tmp_path):
    """The second command is refused, the first is not disturbed, and its lock ends with it."""
    from se_keras.support.files import claimed
    from se_keras.train.run_folder import locked

    whole, _ = unbroken(name)
    place = shutil.copytree(workplace, tmp_path / "place")
    arguments, target = COMMANDS[name]
    with (locked if name == "train" else claimed)(place / target):
        ended = forks.run(*arguments, folder=place)
    assert ended.code == 2
    assert "another process is" in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert_nothing_beside(place, workplace, target)
    assert forks.run(*arguments, folder=place).code == 0
    assert contents(place / target) == whole
