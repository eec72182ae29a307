"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP, all alike.

The first one raises `Stopped` in the main thread, so that what is begun is put away. Python loses
an exception that comes in a callback of its own, such as those of an import: it is raised again
until the command has seen it. A second signal ends the process at once, also in compiled code.
"""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# Seconds after which an exception that was lost is raised again.
AGAIN = 0.5


class Stopped(KeyboardInterrupt):
    """A signal, `number`, asks the process to end."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def exit_code(number: int) -> int:
    """Return what a shell gives for a process that a signal ended.

    Example:

    >>> from se_keras.support.signals import exit_code
    >>> exit_code(15)
    143
    """
    return 128 + number


def signal_of(error: BaseException) -> int:
    """Return the number of the signal that an error stands for; 0 for other errors.

    Example:

    >>> from se_keras.support.signals import Stopped, signal_of
    >>> signal_of(Stopped(15)), signal_of(KeyboardInterrupt()), signal_of(ValueError())
    (15, 2, 0)
    """
    if isinstance(error, Stopped):
        return error.number
    return int(signal.SIGINT) if isinstance(error, KeyboardInterrupt) else 0


def end_at_once_on_signals() -> None:
    """End the process on a signal without a traceback, as long as nothing is begun."""
    for number in _unignored():
        signal.signal(number, lambda number, frame: os._exit(exit_code(number)))


def _unignored() -> list[int]:
    """Return the signals but those that the process is told to ignore, as by nohup."""
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


class Signals:
    """Inside, a signal raises `Stopped`; outside of the main thread nothing happens.

    Attributes:
        number: of the signal that came; 0 where none did.
    """

    def __init__(self) -> None:
        self.number = 0
        self.before: dict[int, Any] = {}

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
        signal.set_wakeup_fd(self.wakeup)
        for number, handler in self.before.items():
            signal.signal(number, handler)
        os.close(self.writer)
        sys.unraisablehook = self.hook

    def seen(self) -> None:
        """Raise nothing any more: the command has seen the signal."""
        if hasattr(signal, "setitimer") and self.before:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
        raise Stopped(number)

    def _insist(self, number: int, frame: FrameType | None) -> None:
        if not _is_on_its_way(sys.exc_info()[1]):
            raise Stopped(self.number)

    def _say(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, Stopped):  # which comes again
            self.hook(unraisable)


def _is_on_its_way(handled: BaseException | None) -> bool:
    """Return whether what is being handled, or was when it came up, is a `Stopped`."""
    while handled is not None and not isinstance(handled, Stopped):
        handled = handled.__context__
    return handled is not None


def _end_at_second(reader: int) -> None:
    """Wait for signals in a thread of its own: compiled code may keep the main thread busy."""
    came = 0
    while numbers := os.read(reader, 64):
        for number in numbers:
            came += number in [getattr(signal, name, 0) for name in NAMES]
            if came > 1:
                os._exit(exit_code(number))
    os.close(reader)
