"""Show the progress of a run: a bar for each epoch on a terminal, a line in a log file."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

import keras

from se_keras.train.choosing import best_epoch

# Seconds between two updates of a bar, and its width.
PAUSE, BAR = 0.1, 20
# The smallest share of time spent waiting for images that is reported.
WAITING = 0.05


class Progress(keras.callbacks.Callback):
    """A callback that shows each epoch; it must follow the callback that completes `history`.

    Args:
        epochs: maximum number of epochs of the run.
        steps: number of steps in an epoch.
        history: rows of `history.csv`, a list that grows.
        stream: output stream; `None` for the standard output.
        clock: function that returns the time in seconds.
        end: last epoch of this stage, whose speed does not predict the next stage's; `None` if it
            is the last stage.
    """

    def __init__(
        self,
        epochs: int,
        steps: int,
        history: Sequence[dict[str, float]],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        end: int | None = None,
    ):
        super().__init__()
        self.epochs, self.steps, self.history = epochs, steps, history
        self.stream, self.clock = stream or sys.stdout, clock
        self.on_terminal = self.stream.isatty()
        self.end = end or epochs
        self.seconds: list[float] = []
        self.first_step: float | None = None
        self.drawn, self.width = 0.0, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch, self.begun = epoch + 1, self.clock()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = self.clock()
        if self.first_step is None:
            self.first_step = now - self.begun
        self.trained = now
        if not self.on_terminal or now - self.drawn < PAUSE:
            return
        self.drawn = now
        share = (batch + 1) / self.steps
        done = "#" * round(BAR * share)
        loss = f", loss {float(logs['loss']):.4f}" if logs else ""
        text = f"Epoch {self.epoch} of {self.epochs} [{done:-<{BAR}}] {share:.0%}{loss}"
        self._show(text + self._left(1 - share), end="")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.seconds.append(self.clock() - self.begun - self._compiling())
        row = self.history[-1]
        best = " (the best so far)" if best_epoch(self.history) == len(self.history) else ""
        waiting = row["waiting_for_input"]
        waited = f", {waiting:.0%} of the time waiting for them" if waiting >= WAITING else ""
        self._show(
            f"Epoch {self.epoch} of {self.epochs}: loss {row['loss']:.4f}, accuracy "
            f"{row['accuracy']:.1%}; validation {row['val_loss']:.4f}, {row['val_accuracy']:.1%}"
            f"{best}; {row['images_per_second']:,.0f} images/s{waited}{self._left(0)}",
            end="\n",
        )

    def _left(self, of_epoch: float) -> str:
        """Return the time until the last epoch in words; the run may end earlier."""
        known = self.seconds[1:] or self.seconds
        epochs = self.end - self.epoch + of_epoch
        if not known or not epochs:
            return ""
        of_stage = " of this stage" if self.end < self.epochs else ""
        return f"; {in_words(epochs * sum(known) / len(known))} left{of_stage}"

    def _compiling(self) -> float:
        """Return the extra time of the first step, which compiles the model."""
        if self.seconds or self.first_step is None or self.steps == 1:
            return 0.0
        others = (self.trained - self.begun - self.first_step) / (self.steps - 1)
        return max(0.0, self.first_step - others)

    def _show(self, text: str, end: str) -> None:
        if self.on_terminal:
            # The part of a line beyond the width of the terminal would not be overwritten.
            columns = shutil.get_terminal_size().columns - 1
            line = text if end else text[:columns]
            self.stream.write("\r" + line.ljust(self.width) + end)
            self.width = 0 if end else len(line)
        else:
            self.stream.write(text + end)
        self.stream.flush()


def in_words(seconds: float) -> str:
    """Return a time for people, in its two largest units.

    Example:

    >>> from se_keras.train.progress import in_words
    >>> in_words(4.2), in_words(130), in_words(7260)
    ('4 s', '2 min 10 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {of_hour} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
