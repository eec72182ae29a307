"""A process that runs one network on request, and reports the time.

Runs as a script, `python -P worker.py SPECIFICATION`, with a `Specification` of `benchmarks.timing`
as JSON. It reads numbers of calls as lines from standard input, and answers each with a line of
JSON.
"""

import json
import os
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

# With one thread, the processor time, which other processes hardly change.
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}

Run = Callable[[Sequence[np.ndarray]], object]


def claim_output() -> TextIO:
    """Keep standard output for answers; output of libraries goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def noise(shape: Sequence[int], dtype: str) -> np.ndarray:
    """Return images of noise, the same in every process."""
    rng = np.random.default_rng(0)
    if "int" in dtype:
        return rng.integers(0, 256, shape).astype(dtype)
    return rng.random(shape, "float32").astype(dtype)


def serve_turns(run: Run, arrays: Sequence[np.ndarray], clock: str, answers: TextIO) -> None:
    """Run once, report that, and then answer until standard input ends."""
    run(arrays)
    answers.write("ready\n")
    for line in sys.stdin:
        seconds = seconds_of(lambda: run(arrays), int(line), clock)
        answers.write(json.dumps({"seconds": seconds, "peak": peak_memory()}) + "\n")


def seconds_of(call: Callable[[], object], calls: int, clock: str) -> float:
    """Return the total seconds of this many calls."""
    now = CLOCKS[clock]
    start = now()
    for _ in range(calls):
        call()
    return now() - start


def peak_memory() -> int | None:
    """Return the peak of resident bytes; `None` if /proc does not have it.

    `getrusage` would include the memory of the parent process at the start of this process.
    """
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return sizes[0] if sizes else None


def load(format: str, path: str, precision: str, threads: int) -> Run:
    """Return the function of an engine for an exported file."""
    # Skip the package's `__init__`, which imports Keras and TensorFlow: their memory is not the
    # engine's.
    package = types.ModuleType("se_keras")
    package.__path__ = [str(Path(__file__).parents[1] / "se_keras")]
    sys.modules["se_keras"] = package
    from se_keras.deploy.engines import find_engine

    return find_engine(format).load(path, precision, threads)


def main() -> None:
    answers = claim_output()
    given = json.loads(sys.argv[1])
    run = load(*(given[name] for name in ("format", "path", "precision", "threads")))
    serve_turns(run, [noise(given["shape"], given["dtype"])], given["clock"], answers)


if __name__ == "__main__":
    main()
