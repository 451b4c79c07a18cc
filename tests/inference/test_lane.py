"""A thread that does one thing after the other."""

from __future__ import annotations

import threading

import pytest

from segpipe.inference.lane import Lane

pytestmark = pytest.mark.timeout(30)


def test_tasks_are_done_in_order_and_all_before_the_end() -> None:
    done: list[int] = []
    faults: list[BaseException] = []
    lane = Lane("one", 2, faults.append)
    lane.start()
    for number in range(50):
        lane.give(lambda number=number: done.append(number))  # type: ignore[misc]
    lane.close()
    assert done == list(range(50)) and not faults


def test_a_full_lane_takes_nothing_more_and_a_free_one_does() -> None:
    lane, gate, begun = Lane("one", 1, lambda error: None), threading.Event(), threading.Event()
    lane.start()

    def wait() -> None:
        begun.set()
        gate.wait(20)

    assert lane.offer(wait)
    assert begun.wait(20)
    assert lane.offer(begun.clear) and not lane.offer(begun.clear)
    gate.set()
    lane.close()
    assert not begun.is_set()


def test_after_a_fault_nothing_is_done_and_nobody_waits() -> None:
    done: list[int] = []
    faults: list[BaseException] = []
    lane = Lane("one", 1, faults.append)
    lane.start()

    def fails() -> None:
        raise KeyboardInterrupt

    lane.give(fails)
    for number in range(10):
        lane.give(lambda number=number: done.append(number))  # type: ignore[misc]
    lane.close()
    assert not done and [type(fault) for fault in faults] == [KeyboardInterrupt]


def test_what_waits_can_be_dropped() -> None:
    done: list[int] = []
    lane, gate, begun = Lane("one", 0, lambda error: None), threading.Event(), threading.Event()
    lane.start()

    def wait() -> None:
        begun.set()
        gate.wait(20)
        done.append(0)

    lane.give(wait)
    lane.give(lambda: done.append(1))
    assert begun.wait(20)
    lane.drop()
    gate.set()
    lane.close()
    assert done == [0]


def test_a_lane_that_was_never_started_is_closed_at_once() -> None:
    lane = Lane("one", 1, lambda error: None)
    lane.give(lambda: None)
    lane.close()
