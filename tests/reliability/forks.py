"""Commands in processes that are killed, stopped or short of room, each forked from one that has
loaded Keras: the whole of TensorFlow is loaded once, not for each of some hundred commands.

As a program it is that process: a JSON object a line in, one a line out.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SEED = int(os.environ.get("RELIABILITY_SEED", "0"))
LIMIT = 300  # seconds after which a command hangs


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The result of a command: its exit code, output and duration."""

    code: int
    out: str
    err: str
    seconds: float


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

    def run(self, *arguments, folder, after=None, number=signal.SIGKILL, room=None, again=None):
        """Run a command in a folder.

        `number` is the signal that it gets `after` so many seconds, and once more `again` so many
        later; `room` is the most bytes that it can write to a file.
        """
        task = {
            "arguments": list(map(str, arguments)),
            "folder": str(folder),
            "after": after,
            "number": int(number),
            "again": again,
            "room": room,
        }
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
    logs = [Path(task["folder"]).parent / f"{os.getpid()}.{name}" for name in ("out", "err")]
    for log in logs:
        log.touch()  # a kill may come before the child has opened them
    begun = time.monotonic()
    child = os.fork()
    if not child:
        _command(task, logs)
    code = _wait(child, begun, task)
    out, err = (log.read_text(errors="replace") for log in logs)
    for log in logs:
        log.unlink()
    return {"code": code, "out": out, "err": err, "seconds": time.monotonic() - begun}


def _wait(child, begun, task):
    signals = [] if task["after"] is None else [task["after"]]
    signals += [] if task["again"] is None else [task["after"] + task["again"]]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - begun
        if signals and passed > signals[0]:
            os.kill(child, task["number"])
            del signals[0]
        elif passed > LIMIT:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def _command(task, logs):
    code = 1
    try:
        for stream, log in enumerate(logs, start=1):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.chdir(task["folder"])
        if task["room"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (task["room"],) * 2)
        import keras

        from se_keras.cli import main

        keras.utils.set_random_seed(0)  # what `insert` draws
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
