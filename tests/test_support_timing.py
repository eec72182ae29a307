"""`support/timing.py`: calls that take turns, and their recorded times."""

from se_keras.support.timing import seconds_in_turn


def test_calls_take_turns_and_their_first_is_not_kept():
    now, order = [0.0], []

    def call(name, *durations):
        remaining = iter(durations)

        def run():
            order.append(name)
            now[0] += next(remaining)

        return run

    calls = [call("a", 100.0, 1.0, 2.0), call("b", 200.0, 3.0, 4.0)]
    assert seconds_in_turn(calls, 2, lambda: now[0]) == [[1.0, 2.0], [3.0, 4.0]]
    assert order == ["a", "b", "a", "b", "a", "b"]
