"""Time functions that are compared with each other."""

import time
from collections.abc import Callable, Sequence


def seconds_in_turn(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Time calls in turn, so that other work of the machine affects all of them alike.

    Args:
        calls: functions without arguments.
        rounds: number of timings of each call, after one untimed call.
        clock: function that returns the time in seconds.

    Returns:
        The seconds of each call, one number for each round.

    Example:

    >>> from se_keras.support.timing import seconds_in_turn
    >>> ticks = iter(range(100))
    >>> seconds_in_turn([lambda: None, lambda: next(ticks)], 2, lambda: next(ticks))
    [[1, 1], [2, 2]]
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for call, times in zip(calls, seconds, strict=True):
            start = clock()
            call()
            times.append(clock() - start)
    return seconds
