"""Commands in processes that are killed, stopped or short of room, each forked from one that has
loaded Keras: the whole of TensorFlow is loaded once, not for each of some hundred commands.

As a program it is that process: a JSON object a line in, one a line out.
"""

import ctypes
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SEED = int(os.environ.get("RELIABILITY_SEED", "0"))
LIMIT = 300  # seconds after which a command hangs
# What changes a folder, by the name that `os` has for it.
CHANGES = ("replace", "mkdir", "rmdir", "unlink")
# Linux' numbers: a process without these obeys what files permit, root too.
OVERRIDE, CAPABILITIES = (1 << 1) | (1 << 2), 0x20080522


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The result of a command: its exit code, output and duration."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def line(self):
        """Return the one line of an error."""
        assert self.code == 2, self
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Forks:
    """The process that has loaded Keras."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what TensorFlow says while it is loaded
            text=True,
        )

    def run(self, *arguments, folder, number=signal.SIGKILL, **options):
        """Run a command in a folder.

        `number` is the signal that it gets, `after` so many seconds or `at` the change of a folder
        with this number, before or after it ("3 before"), and once more `again` so many seconds
        later. `gone` is what is deleted in place of that, `edited` what gets other bytes. `room`
        is the most bytes that it can write to a file; with `obedient` it obeys what files permit.
        """
        known = dict.fromkeys(["after", "at", "again", "gone", "edited", "room", "obedient"])
        assert options.keys() <= known.keys()
        task = known | options | {"number": int(number), "folder": str(folder)}
        task["arguments"] = list(map(str, arguments))
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return Ended(**json.loads(self.process.stdout.readline()))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def moments(name, seconds, count=10):
    """Return random times within a command, from a seed and a name."""
    generator = random.Random(f"{SEED} {name}")
    return [generator.uniform(0, seconds) for _ in range(count)]


# --- the process ---------------------------------------------------------------------------------


def _serve(lines, answers):
    for line in lines:
        print(json.dumps(_fork(json.loads(line))), file=answers, flush=True)


def _fork(task):
    beside = Path(task["folder"]).parent
    logs = [beside / f"{os.getpid()}.{name}" for name in ("out", "err")]
    for log in logs:
        log.touch()  # a kill may come before the child has opened them
    ready, begin = os.pipe()
    child = os.fork()
    if not child:
        os.close(ready)
        _command(task, logs, begin)
    os.close(begin)
    os.read(ready, 1)
    begun = time.monotonic()
    code = _wait(child, begun, task)
    os.close(ready)
    out, err = (log.read_text(errors="replace") for log in logs)
    for log in logs:
        log.unlink()
    return {"code": code, "out": out, "err": err, "seconds": time.monotonic() - begun}


def _wait(child, begun, task):
    signals = [] if task["after"] is None else [task["after"]]
    signals += [] if task["again"] is None else [(task["after"] or 0) + task["again"]]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - begun
        if signals and passed > signals[0]:
            _disturb(child, task)
            del signals[0]
        elif passed > LIMIT:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def _disturb(process, task):
    folder = Path(task["folder"])
    if task["gone"]:
        path = folder / task["gone"]
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    elif task["edited"]:
        (folder / task["edited"]).write_bytes(b"edited")
    else:
        os.kill(process, task["number"])


def _command(task, logs, begin):
    code = 1
    try:
        for stream, log in enumerate(logs, start=1):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.chdir(task["folder"])
        _move_home(logs[0].parent)
        if task["room"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (task["room"],) * 2)
        import keras

        from se_keras.cli import main
        from se_keras.support.signals import end_at_once_on_signals

        keras.utils.set_random_seed(0)  # what `insert` draws
        end_at_once_on_signals()
        if task["obedient"]:
            _obey()
        if task["at"]:
            _disturb_at(task)
        os.write(begin, b".")
        try:
            code = main(task["arguments"])
        except SystemExit as error:
            code = error.code
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def _move_home(folder):
    for variable, name in {"HOME": "home", "TMPDIR": "tmp"}.items():
        (folder / name).mkdir(exist_ok=True)
        os.environ[variable] = str(folder / name)
    tempfile.tempdir = None


def _disturb_at(task):
    """Disturb before or after one of the changes of a folder."""
    wanted, when = task["at"].split()
    count = 0

    def counted(change):
        def counting(*arguments, **options):
            nonlocal count
            count += 1
            is_wanted = count == int(wanted)
            if is_wanted and when == "before":
                _disturb(os.getpid(), task)
            try:
                change(*arguments, **options)
            finally:  # also of a folder that is there already
                if is_wanted and when == "after":
                    _disturb(os.getpid(), task)

        return counting

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


def _obey():
    """Give up root's right to read and write every file."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    assert libc.capget(header, sets) == 0
    sets[0] &= ~OVERRIDE
    sets[1] &= ~OVERRIDE
    assert libc.capset(header, sets) == 0


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["MPLBACKEND"] = "Agg"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import keras  # noqa: F401

    import se_keras.cli
    import se_keras.deploy.export
    import se_keras.explain
    import se_keras.surgery
    import se_keras.train.run  # noqa: F401

    _serve(sys.stdin, os.fdopen(os.dup(1), "w"))
