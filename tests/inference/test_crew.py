"""What a command hears of its workers; what becomes of them when they end is in `test_call` and `test_supervise`."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from segpipe.inference.crew import Crew, Worker
from segpipe.inference.messages import Message, Order

LINE: Message = {"log": ["segpipe.x", logging.INFO, "fp32 is used"]}


class Told:
    """A worker that has nothing behind it."""

    ready = False


def crew_that_hears(*said: tuple[Told, Message]) -> Crew:
    crew = Crew(Order(("m.ts",), "out"), 2)
    crew.workers = cast(list[Worker], list(dict.fromkeys(worker for worker, _ in said)))
    for worker, message in said:
        crew._events.put((cast(Worker, worker), message, 0.0))
    return crew


def test_what_every_worker_says_while_it_loads_is_shown_once(caplog: pytest.LogCaptureFixture) -> None:
    one, other = Told(), Told()
    crew = crew_that_hears((one, LINE), (other, LINE), (other, {"log": ["segpipe.x", logging.INFO, "something else"]}))
    with caplog.at_level(logging.INFO):
        assert crew.event(0.0) is None
    assert caplog.messages == ["fp32 is used", "something else"]


def test_what_workers_say_of_their_scans_is_shown_each_time(caplog: pytest.LogCaptureFixture) -> None:
    one, other = Told(), Told()
    one.ready = other.ready = True
    with caplog.at_level(logging.INFO):
        crew_that_hears((one, LINE), (other, LINE)).event(0.0)
    assert caplog.messages == ["fp32 is used"] * 2


@pytest.mark.parametrize("ahead", [True, False])
def test_a_worker_tells_whether_it_takes_scans_ahead(ahead: bool) -> None:
    worker: Any = Told()
    crew = crew_that_hears((worker, {"ready": {}, "ahead": ahead}))
    said = crew.event(1.0)
    assert said is not None and said[1] is not None
    crew.welcome(*cast(Any, said))
    assert worker.ready and crew.ahead is ahead
