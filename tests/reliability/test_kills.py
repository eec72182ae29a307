"""Killed or stopped commands, or commands on a full disk, leave nothing half done, and continue."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from commands import COMMANDS, assert_nothing_else, assert_nothing_half
from contents import contents
from forks import SEED, moments

# The default run has a slice of it in test_support.py, test_support_signals.py and test_cli.py.
pytestmark = pytest.mark.reliability

SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
ROOMS = (100, 20_000, 400_000, 1_000_000)
MOST_CHANGES = 400
UNREAD = [("train anew", "run/settings.json"), ("train anew", "run/report.json")]
UNREAD += [("train further", "run/report.json")]
TARGETS = {name: command for name, command in COMMANDS.items() if not command.copied}


@pytest.fixture(scope="session")
def unbroken(forks, workplace, tmp_path_factory):
    """What a command leaves that nothing stops, how long it takes, and what was there before."""
    known = {}

    def run(name):
        if name not in known:
            command = COMMANDS[name]
            place = command.prepare(forks, workplace, tmp_path_factory.mktemp("whole") / "place")
            target = place / command.target
            old = contents(target) if target.exists() else None
            ended = command.run(forks, workplace, place)
            assert ended.code == 0, ended
            assert_nothing_else(command, workplace, place)
            known[name] = contents(target), ended.seconds, old
        return known[name]

    return run


def stopped(name, forks, unbroken, workplace, folder, **how):
    """Stop a command, look at what it left, and let it go on; return how it ended."""
    command = COMMANDS[name]
    whole, _, old = unbroken(name)
    place = command.prepare(forks, workplace, folder / "place")
    ended = command.run(forks, workplace, place, **how)
    assert_nothing_half(command, place, whole, old)
    # Only what ends the process at once leaves anything beside the target.
    cleans_up = ended.code >= 0 and "again" not in how
    assert_nothing_else(command, workplace, place, ended=cleans_up)
    if ended.code:
        assert command.go_on(forks, workplace, place) == whole, f"{name} {how}"
        assert_nothing_else(command, workplace, place)
    else:
        assert contents(place / command.target) == whole, f"{name} {how}"
    shutil.rmtree(folder)
    return ended


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_leaves_nothing_half(name, forks, unbroken, workplace, tmp_path):
    for turn, after in enumerate(moments(name, unbroken(name)[1])):
        ended = stopped(name, forks, unbroken, workplace, tmp_path / str(turn), after=after)
        assert ended.code in (-signal.SIGKILL, 0), ended.err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_between_two_changes_of_a_folder(name, forks, unbroken, workplace, tmp_path):
    """At ten of all renames and removals; at the end if the command has fewer."""
    generator = random.Random(f"{SEED} {name}")
    most, turns = MOST_CHANGES, 0
    while turns < 10:
        number = generator.randint(1, most)
        at = f"{number} {generator.choice(['before', 'after'])}"
        if _killed(name, forks, unbroken, workplace, tmp_path / str(turns), at) == "killed":
            turns += 1
        else:
            most = number - 1  # the command has less changes


def _killed(name, forks, unbroken, workplace, folder, at):
    ended = stopped(name, forks, unbroken, workplace, folder, at=at)
    assert ended.code in (-signal.SIGKILL, 0), ended.err
    return "killed" if ended.code else "ended"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_stops_in_a_line(name, number, forks, unbroken, workplace, tmp_path):
    times = [{"after": after} for after in moments(f"{name} {number}", unbroken(name)[1], 3)]
    generator = random.Random(f"{SEED} {name} {number}")
    changes = [f"{generator.randint(1, 12)} after", f"{generator.randint(1, 99)} before"]
    places = [{"at": change} for change in changes]
    for turn, how in enumerate(times + places):
        how |= {"number": signal.Signals[number]}
        ended = stopped(name, forks, unbroken, workplace, tmp_path / str(turn), **how)
        assert ended.code in (0, SIGNALS[number]), ended
        lines = list(filter(None, ended.err.splitlines()))
        is_train = COMMANDS[name].is_train
        # Before it has begun, or with the command's lines.
        assert len(lines) in ((0, 2) if is_train else (0, 1)) or not ended.code, ended.err
        assert not lines or not ended.code or lines[-1] == "se-keras: stopped"
        if lines and ended.code and is_train:
            assert "--resume" in lines[0] or "The run has not started" in lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_signal_ends_at_once(name, forks, unbroken, workplace, tmp_path):
    """Even during the cleanup."""
    generator = random.Random(f"{SEED} {name} second")
    seconds = unbroken(name)[1]
    for turn in range(3):
        number = generator.choice(list(SIGNALS))
        after, again = generator.uniform(0, seconds), generator.uniform(0, 0.1)
        how = {"after": after, "again": again, "number": signal.Signals[number]}
        ended = stopped(name, forks, unbroken, workplace, tmp_path / str(turn), **how)
        assert ended.code in (0, SIGNALS[number]), ended
        assert "Traceback" not in ended.err
        assert ended.seconds < after + again + 2 or not ended.code


@pytest.mark.parametrize("name", ["train", "explain", "ONNX"])
def test_a_signal_while_all_is_loaded(name, unbroken, workplace, forks, tmp_path):
    """In processes that load Keras themselves."""
    command = COMMANDS[name]
    whole, _, old = unbroken(name)
    for turn, after in enumerate(moments(f"{name} loads", 9, 4)):
        number = random.Random(f"{SEED} {name} {turn}").choice(list(SIGNALS))
        place = command.prepare(forks, workplace, tmp_path / str(turn) / "place")
        (place.parent / "tmp").mkdir()
        process = subprocess.Popen(
            [sys.executable, "-m", "se_keras", *command.words(workplace)],
            cwd=place,
            env=dict(os.environ, PYTHONPATH=os.getcwd(), TMPDIR=str(place.parent / "tmp")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(after)
        process.send_signal(signal.Signals[number])
        _, err = process.communicate()
        # Python itself ends without a word before it has read the first line of the package.
        assert process.returncode in (0, SIGNALS[number], -signal.Signals[number]), err
        assert "Traceback" not in err or after < 0.3
        assert_nothing_half(command, place, whole, old)
        assert_nothing_else(command, workplace, place, ended=True)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_room_is_one_line(name, room, forks, unbroken, workplace, tmp_path):
    """A limit of file size makes each writer fail as a full disk does."""
    ended = stopped(name, forks, unbroken, workplace, tmp_path / "a", room=room)
    assert not ended.code or ended.line


@contextmanager
def disk(folder, size):
    """A disk of its own, of some bytes."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(options, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("it needs root to mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line(name, forks, unbroken, workplace, tmp_path):
    """On a disk that only this command writes to."""
    command = COMMANDS[name]
    whole, _, old = unbroken(name)
    generator = random.Random(f"{SEED} {name} disk")
    for turn in range(4):
        pages = generator.choice([1, 2, 4, 8, 16, 64, 256, 400, 600])
        folder = tmp_path / str(turn)
        with disk(folder, 2**26):
            place = command.prepare(forks, workplace, folder / "place")
            used = sum(-(-x.stat().st_size // 4096) + 1 for x in place.rglob("*")) + 4
            _resize(folder, (used + pages) * 4096)
            ended = command.run(forks, workplace, place)
            assert not ended.code or ended.line
            assert_nothing_half(command, place, whole, old)
            assert_nothing_else(command, workplace, place)
            _resize(folder, 2**26)
            if ended.code:
                assert command.go_on(forks, workplace, place) == whole
            assert_nothing_else(command, workplace, place)


def _resize(folder, size):
    options = ["mount", "-o", f"remount,size={size}", str(folder)]
    subprocess.run(options, check=True)


@pytest.mark.parametrize("name", TARGETS)
def test_a_folder_that_can_not_be_written(name, forks, workplace, tmp_path):
    command = COMMANDS[name]
    if command.before:
        pytest.skip("the same as without what was before")
    place = command.prepare(forks, workplace, tmp_path / "place")
    for folder, end in {"read": 0o500, "file": None, "link": None, "loop": None}.items():
        path = place / folder
        if end:
            path.mkdir(end)
        elif folder == "file":
            path.write_text("mine")
        else:
            path.symlink_to("nowhere/at/all" if folder == "link" else "loop")
        words = command.words(workplace)
        words = [f"{folder}/{word}" if word == command.target else word for word in words]
        ended = forks.run(*words, folder=place, obedient=True)
        if folder == "link" and not ended.code:
            shutil.rmtree(place / "nowhere")  # what was missing is made
        else:
            assert ended.line
        assert (place / "file").read_text() == "mine" if folder == "file" else True
        assert not list(path.iterdir()) if end else True
        path.rmdir() if end else path.unlink()
    assert_nothing_else(command, workplace, place)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_is_something_else(name, forks, workplace, tmp_path):
    command = COMMANDS[name]
    if command.before:
        pytest.skip("the same as without what was before")
    place = command.prepare(forks, workplace, tmp_path / "place")
    target = place / command.target
    is_file = "." in command.target
    for kind in ("other", "gone", "loop", "long"):
        words = command.words(workplace)
        if kind == "other" and is_file:
            (target / "mine").mkdir(parents=True)
        elif kind == "other":
            target.write_text("mine")
        elif kind == "gone":
            target.symlink_to("nowhere")
        elif kind == "loop":
            target.symlink_to(target.name)
        else:
            words = [word.replace(command.target, "x" * 300 + command.target) for word in words]
        ended = forks.run(*words, folder=place)
        assert ended.line
        if kind == "other":
            assert (target / "mine").is_dir() if is_file else target.read_text() == "mine"
        else:
            assert target.is_symlink() or kind == "long"
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    assert_nothing_else(command, workplace, place)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_may_not_be_read(name, forks, workplace, tmp_path):
    command = COMMANDS[name]
    place = command.prepare(forks, workplace, tmp_path / "place")
    words = " ".join(command.words(workplace))
    read = [file for file in ("model.keras", "plain.keras", "some.weights.h5") if file in words]
    read += ["photos/dark/3.png", "photos/light", "photos"] if "photos" in words else []
    read += [f"run/{file}" for file in ("settings.json", "report.json") if command.copied]
    for file in read:
        mode = (place / file).stat().st_mode
        (place / file).chmod(0)
        ended = command.run(forks, workplace, place, obedient=True)
        (place / file).chmod(mode)
        # To begin a run anew nothing of the old one need be read; the others are classified.
        assert not ended.code or ended.code == 2, ended
        assert "Traceback" not in ended.err
        if name == "predict":
            assert "can't" in ended.err or "denied" in ended.err
            (place / command.target).unlink(missing_ok=True)
        elif ended.code:
            assert ended.line
        else:
            # Nor the report of a run that goes on.
            assert (name, file) in UNREAD


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_goes_meanwhile(name, forks, unbroken, workplace, tmp_path):
    """The target's folder, with the target in it, at four moments."""
    command = COMMANDS[name]
    whole, seconds, _ = unbroken(name)
    for turn, after in enumerate(moments(f"{name} goes", seconds, 4)):
        place = command.prepare(forks, workplace, tmp_path / str(turn) / "place")
        words = [f"deep/{x}" if x == command.target else x for x in command.words(workplace)]
        (place / "deep").mkdir()
        if (place / command.target).exists():
            (place / command.target).rename(place / "deep" / command.target)
        ended = forks.run(*words, folder=place, after=after, gone="deep")
        if ended.code:
            assert ended.line
        elif (place / "deep" / command.target).exists():  # it went before it was looked for
            assert contents(place / "deep" / command.target) == whole
        shutil.rmtree(place)


@pytest.mark.parametrize("kind", ["gone", "edited"])
@pytest.mark.parametrize("name", ["train", "explain", "evaluate", "predict", "ONNX int8"])
def test_an_image_that_goes_or_changes_meanwhile(name, kind, forks, unbroken, workplace, tmp_path):
    command = COMMANDS[name]
    whole, seconds, _ = unbroken(name)
    generator = random.Random(f"{SEED} {name} {kind}")
    for turn, after in enumerate(moments(f"{name} {kind}", seconds, 5)):
        image = f"photos/{generator.choice(['dark', 'light'])}/{generator.randrange(12)}.png"
        place = command.prepare(forks, workplace, tmp_path / str(turn) / "place")
        ended = command.run(forks, workplace, place, after=after, **{kind: image})
        if ended.code and name == "predict":
            assert "the others are classified" in ended.err or "There is no" in ended.err
        elif ended.code:
            assert image.rpartition("/")[2] in ended.line or "image" in ended.line
        elif kind == "edited":
            # It may go before it is listed.
            assert contents(place / command.target) == whole
        shutil.rmtree(place)


@pytest.mark.parametrize("name", TARGETS)
def test_two_at_the_same_time(name, forks, unbroken, workplace, tmp_path):
    """The second command is refused, the first is not disturbed, and its lock ends with it."""
    from se_keras.support.files import claimed
    from se_keras.train.run_folder import locked

    whole, _, old = unbroken(name)
    command = COMMANDS[name]
    place = command.prepare(forks, workplace, tmp_path / "place")
    with (locked if command.is_train else claimed)(place / command.target):
        ended = command.run(forks, workplace, place)
    assert "another process is" in ended.line
    assert_nothing_half(command, place, whole, old)
    assert_nothing_else(command, workplace, place)
    assert command.run(forks, workplace, place).code == 0
    assert contents(place / command.target) == whole
