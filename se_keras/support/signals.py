"""Handle Ctrl-C, SIGTERM and SIGHUP alike: each ends a command.

The first signal raises `Stopped` in the main thread, so that the command can clean up. Python loses
an exception that is raised within some of its own callbacks, for example during an import, so it is
raised again until the command has seen it. A second signal ends the process at once, even in
compiled code.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# Seconds until a lost exception is raised again.
AGAIN = 0.5


class Stopped(KeyboardInterrupt):
    """A signal, `number`, asks the process to end."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def exit_code(number: int) -> int:
    """Return the shell's exit code for a process that a signal ended.

    Example:

    >>> from se_keras.support.signals import exit_code
    >>> exit_code(15)
    143
    """
    return 128 + number


def signal_of(error: BaseException) -> int:
    """Return the number of the signal that stops the command; 0 for other errors.

    Compiled code may have turned `Stopped` into an error of its own, so any error counts after a
    signal.

    Example:

    >>> from se_keras.support.signals import Stopped, signal_of
    >>> signal_of(Stopped(15)), signal_of(KeyboardInterrupt()), signal_of(ValueError())
    (15, 2, 0)
    """
    if Signals.number:
        return Signals.number
    if isinstance(error, Stopped):
        return error.number
    return int(signal.SIGINT) if isinstance(error, KeyboardInterrupt) else 0


def stop_if_asked() -> None:
    """Raise `Stopped` again if a signal has come; for code that catches any error and goes on.

    Example:

    >>> from se_keras.support.signals import stop_if_asked
    >>> stop_if_asked()
    """
    if Signals.number:
        raise Stopped(Signals.number)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let `Stopped` be raised only after a block, which must not be interrupted.

    TensorFlow, for example, crashes if an exception comes while it is being imported.
    """
    waits = threading.current_thread() is threading.main_thread()  # which alone gets signals
    Signals.waiting += waits
    try:
        yield
    finally:
        Signals.waiting -= waits


def end_at_once_on_signals() -> None:
    """End the process on a signal without a traceback, while there is nothing to clean up."""
    for number in _unignored():
        signal.signal(number, lambda number, frame: os._exit(exit_code(number)))


def _unignored() -> list[int]:
    """Return the signals that the process does not ignore (as it does under nohup)."""
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


class Signals:
    """A context in which a signal raises `Stopped`; without effect outside of the main thread.

    Attributes:
        number: number of the received signal; 0 if there was none.
        waiting: number of blocks of `signals_wait` that the process is in.
    """

    number = 0
    waiting = 0

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.handled: BaseException | None = None

    def __enter__(self) -> "Signals":
        if threading.current_thread() is not threading.main_thread():
            return self
        self.hook, sys.unraisablehook = sys.unraisablehook, self._say
        reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        threading.Thread(target=_end_at_second, args=(reader,), daemon=True).start()
        for number in _unignored():
            self.before[number] = signal.signal(number, self._stop)
        if hasattr(signal, "SIGALRM"):
            self.before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._insist)
        self.wakeup = signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.before:
            return
        self.seen()
        Signals.number = 0
        signal.set_wakeup_fd(self.wakeup)
        for number, handler in self.before.items():
            signal.signal(number, handler)
        os.close(self.writer)
        sys.unraisablehook = self.hook

    def seen(self) -> None:
        """Stop raising: the command has seen the signal."""
        if hasattr(signal, "setitimer") and self.before:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        Signals.number = Signals.number or number
        self.handled = sys.exception()
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
            if Signals.waiting:
                return  # `_insist` raises it
        raise Stopped(number)

    def _insist(self, number: int, frame: FrameType | None) -> None:
        # Any other error that is being handled came after the signal: `Stopped`, or what compiled
        # code made of it. Let its handlers clean up.
        if not Signals.waiting and sys.exception() in (None, self.handled):
            raise Stopped(self.number)

    def _say(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, Stopped):  # `Stopped` is raised again anyway
            self.hook(unraisable)


def _end_at_second(reader: int) -> None:
    """Wait for signals in a separate thread: compiled code may block the main thread."""
    came = 0
    while numbers := os.read(reader, 64):
        for number in numbers:
            came += number in [getattr(signal, name, 0) for name in NAMES]
            if came > 1:
                os._exit(exit_code(number))
    os.close(reader)
