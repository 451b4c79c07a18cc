"""The bargain between a call and whoever segments its scans; `test_call` shows the rest with real workers."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, cast

import pytest

from segpipe.errors import ConfigError, ModelError
from segpipe.inference.crew import Crew
from segpipe.inference.engine import Processes, told_facts
from segpipe.inference.messages import Message, error_to_json

READY: Message = {
    "ready": {
        "channels": ["T2"],
        "labels": [[0, "background"]],
        "pictures": False,
        "sha256": "abc",
        "options": "fp32",
        "task": "t",
        "table": [],
        "series": [["T2", "t2*"]],
    },
    "passes": 1,
}


class OneWorker:
    """A crew of one, which says what it was given to say."""

    def __init__(self, *says: Message | None) -> None:
        self._says = deque(says)
        self.ready = False

    def event(self, seconds: float) -> tuple[Any, Message | None]:
        return self, self._says.popleft()

    def welcome(self, worker: Any, ready: Message) -> None:
        worker.ready = True

    def code(self) -> int:
        return 3


def processes(*says: Message | None) -> Processes:
    return Processes(cast(Crew, OneWorker(*says)))


def test_the_facts_are_those_of_the_first_worker_that_is_ready(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "segpipe")
    facts = processes(READY).facts()
    assert (facts.channels, facts.labels, facts.sha256, facts.options) == (("T2",), ((0, "background"),), "abc", "fp32")
    assert facts.series == (("T2", "t2*"),)
    assert not caplog.messages
    told_facts({**READY, "passes": 8})
    assert "each window goes through networks 8 times" in caplog.text


def test_a_worker_that_ends_or_refuses_before_it_is_ready_ends_the_call() -> None:
    with pytest.raises(ConfigError, match="ended by itself .exit code 3.*: it had not loaded the model yet"):
        processes(None).facts()
    with pytest.raises(ModelError, match="no such file"):
        processes({"refused": error_to_json(ModelError("m.ts: no such file"), False)}).facts()
