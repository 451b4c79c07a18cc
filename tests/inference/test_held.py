"""The scans that one worker has in hand."""

from __future__ import annotations

from pathlib import Path

from segpipe.inference.claims import Claim
from segpipe.inference.gather import Examination
from segpipe.inference.held import MOST_IN_HAND, Hands, Held


def hands_with(*cases: str, now: float = 0.0) -> Hands:
    hands = Hands()
    for case in cases:
        hands.take(Claim(Examination(case, (Path(f"/in/{case}.nii"),)), None), now)
    return hands


def held(hands: Hands, case: str) -> Held:
    found = hands.get(case)
    assert found is not None
    return found


def seconds(hands: Hands) -> dict[str, float]:
    return {one.claim.scan.case: one.seconds for one in hands.all}


def test_only_the_time_in_which_a_stage_is_at_a_scan_counts() -> None:
    hands = hands_with("a", "b", now=100.0)
    held(hands, "a").enter("network")
    hands.count(110.0)
    held(hands, "b").enter("read")
    hands.count(112.0)
    held(hands, "b").enter("")
    hands.count(150.0)
    assert seconds(hands) == {"a": 50.0, "b": 2.0}
    held(hands, "a").enter("")
    held(hands, "b").enter("network")
    hands.count(151.0)
    assert seconds(hands) == {"a": 50.0, "b": 3.0}


def test_while_no_stage_is_at_any_scan_the_first_one_is_waited_for() -> None:
    hands = hands_with("a", "b", now=100.0)
    hands.count(107.0)
    assert seconds(hands) == {"a": 7.0, "b": 0.0}
    hands.leave(held(hands, "a"))
    hands.count(108.0)
    assert seconds(hands) == {"b": 1.0}


def test_time_before_a_scan_was_taken_and_a_clock_that_is_a_moment_late_count_nothing() -> None:
    hands = Hands()
    hands.count(50.0)
    hands.take(Claim(Examination("a", ()), None), 100.0)
    hands.count(99.9)
    assert seconds(hands) == {"a": 0.0}
    hands.count(101.0)
    assert seconds(hands) == {"a": 1.0}


def test_another_scan_may_come_once_the_networks_have_begun_with_the_last_one_and_three_are_the_most() -> None:
    hands = hands_with("a")
    for stage in ("read", ""):
        assert not hands.room
        held(hands, "a").enter(stage)
    assert not hands.room
    held(hands, "a").enter("network")
    assert hands.room
    held(hands, "a").enter("")  # it waits for another one's blocks, and is not ahead again
    assert hands.room and not held(hands, "a").ahead
    hands.take(Claim(Examination("b", ()), None), 0.0)
    held(hands, "b").enter("write")  # it could not be read
    hands.take(Claim(Examination("c", ()), None), 0.0)
    held(hands, "c").enter("network")
    assert len(hands) == MOST_IN_HAND and not hands.room


def test_a_scan_is_behind_another_one_once_it_is_read_and_the_networks_are_not_done() -> None:
    hands = hands_with("a", "b")
    held(hands, "a").enter("network")
    assert hands.behind is None
    held(hands, "b").enter("read")
    assert hands.behind is None
    held(hands, "b").enter("")
    assert hands.behind is held(hands, "b")
    held(hands, "a").enter("write")
    assert hands.behind is None
