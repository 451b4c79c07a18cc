"""The cluster as the command sees it, with somebody else at the other end of the pipe."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from typing import Any, cast

import pytest

from segpipe.errors import ConfigError, ModelError
from segpipe.inference.cluster.faults import Lost
from segpipe.inference.cluster.fleet import Event, Fleet
from segpipe.inference.cluster.room import Node, Wish
from segpipe.inference.crew import Crew
from segpipe.inference.messages import Message, error_to_json

TWO = [Node("1", "one", 3), Node("2", "two", 3)]
READY = {"ready": {"sha256": "abc", "options": "fp32"}, "passes": 1, "node": "x"}


class Bridge:
    """What would speak to the cluster; keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.says: deque[Message | None] = deque()
        self.workers = [self]
        self.closed = False

    def send(self, message: Message) -> None:
        self.heard.append(message)

    def event(self, seconds: float) -> tuple[Any, Message | None] | None:
        return (self, self.says.popleft()) if self.says else None

    def code(self) -> int:
        return 1

    def dismiss(self, worker: Any) -> None:
        self.workers.remove(worker)

    def close(self) -> None:
        self.closed = True

    def nodes(self, *nodes: Node) -> None:
        self.says.append({"nodes": [dataclasses.asdict(node) for node in nodes]})

    def said(self, job: int, **message: Any) -> None:
        self.says.append({"of": job, "said": message})

    def died(self, job: int, kind: Any, how: str = "was killed") -> None:
        self.says.append({"of": job, "died": dataclasses.asdict(Lost(kind, how))})

    @property
    def starts(self) -> list[Message]:
        return [message["start"] for message in self.heard if "start" in message]


def fleet(wish: Wish | None = None, device: str = "auto") -> tuple[Fleet, Bridge]:
    bridge = Bridge()
    return Fleet(cast(Crew, bridge), wish or Wish(), device), bridge


def test_each_seat_gets_networks_and_the_decision_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "segpipe")
    ours, bridge = fleet(Wish(workers=9, threads=1))
    bridge.nodes(*TWO)
    assert ours.event(0) is None
    assert [(start["node"], start["cpus"], start["gpu"]) for start in bridge.starts] == [("1", 1, False), ("2", 1, False)] * 2
    assert "4 copies of the networks (9 were asked for; there is no room for more) on 2 node(s), with 1 core(s) each" in caplog.text
    assert ours.room == 0 and not ours.ready
    bridge.said(bridge.starts[0]["job"], end=READY)
    ours.event(0)
    assert len(ours.ready) == 1 and ours.room == 2 + 2
    bridge.nodes(*TWO)
    ours.event(0)
    assert len(bridge.starts) == 4  # nothing new


def test_a_node_that_comes_later_gets_networks_too() -> None:
    ours, bridge = fleet()
    bridge.nodes(TWO[0])
    bridge.nodes(*TWO)
    ours.event(0)
    assert [start["node"] for start in bridge.starts] == ["1", "2"]


def test_a_dismissed_copy_is_replaced_and_never_by_more_cores_than_there_are() -> None:
    ours, bridge = fleet(Wish(workers=2))
    bridge.nodes(*TWO)
    ours.event(0)
    ours.dismiss(ours.copies[0])
    assert len(bridge.starts) == 3 and bridge.heard[-2] == {"end": bridge.starts[0]["actor"]}
    bridge.nodes(TWO[1])  # two are wanted on one node now, of which one has both cores
    ours.event(0)
    assert len(bridge.starts) == 3


def test_a_cluster_without_room_and_one_without_a_gpu_are_refused() -> None:
    ours, bridge = fleet(Wish(threads=8))
    bridge.nodes(*TWO)
    with pytest.raises(ConfigError, match="8 core"):
        ours.event(0)
    ours, bridge = fleet(device="cuda")
    bridge.nodes(*TWO)
    with pytest.raises(ConfigError, match="GPU"):
        ours.event(0)


@pytest.mark.parametrize(("key", "told"), [("sha256", "another file at the model's path"), ("options", "leave out --compile")])
def test_nodes_that_do_not_agree_are_named(key: str, told: str) -> None:
    ours, bridge = fleet()
    bridge.nodes(*TWO)
    ours.event(0)
    bridge.said(bridge.starts[0]["job"], end=READY)
    bridge.said(bridge.starts[1]["job"], end={**READY, "ready": {**READY["ready"], key: "other"}})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="node two has") as caught:
        ours.event(0)
    assert told in str(caught.value) and "node one" in str(caught.value) and "other" in str(caught.value)


def test_what_nodes_refuse_is_raised_as_it_was() -> None:
    ours, bridge = fleet()
    bridge.nodes(*TWO)
    ours.event(0)
    bridge.said(bridge.starts[0]["job"], refused=error_to_json(ModelError("node one: m.ts: no such file"), False))
    with pytest.raises(ModelError, match="node one: m.ts: no such file"):
        ours.event(0)


def test_a_copy_that_does_not_start_leaves_the_work_to_the_others(caplog: pytest.LogCaptureFixture) -> None:
    ours, bridge = fleet()
    bridge.nodes(*TWO)
    ours.event(0)
    bridge.said(bridge.starts[0]["job"], end=READY)
    bridge.died(bridge.starts[1]["job"], "process")
    ours.event(0)
    assert (
        len(bridge.starts) == 2
        and len(ours.copies) == 1
        and "the networks on node two: their process was killed; 1 go(es) on" in caplog.text
    )


def test_three_that_do_not_start_with_no_other_end_the_call_but_a_lost_node_does_not_count() -> None:
    ours, bridge = fleet()
    bridge.nodes(TWO[0])
    ours.event(0)
    for _ in range(9):
        bridge.died(bridge.starts[-1]["job"], "place")
        bridge.nodes(TWO[0])
        ours.event(0)
    for _ in range(2):
        bridge.died(bridge.starts[-1]["job"], "process")
        ours.event(0)
    bridge.died(bridge.starts[-1]["job"], "process")
    with pytest.raises(ConfigError, match="node one: their process was killed; they had not loaded the model yet"):
        ours.event(0)


def test_a_fault_on_a_node_ends_the_call() -> None:
    ours, bridge = fleet()
    bridge.nodes(TWO[0])
    ours.event(0)
    bridge.died(bridge.starts[0]["job"], "fault", "a node cannot import segpipe")
    with pytest.raises(ConfigError, match="cannot import segpipe"):
        ours.event(0)


def test_a_cluster_that_is_gone_ends_the_call_in_one_line() -> None:
    ours, bridge = fleet()
    bridge.says.append(None)
    with pytest.raises(ConfigError, match="the Ray cluster could not be joined .*the same command goes on"):
        ours.event(0)
    assert not ours.alive and not bridge.workers


def test_jobs_are_numbered_and_what_they_say_comes_through(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "segpipe")
    ours, bridge = fleet()
    first, second = ours.submit("read", scan={"case": "a"}), ours.submit("write", of=1)
    assert bridge.heard == [{"read": {"job": first, "scan": {"case": "a"}}}, {"write": {"job": second, "of": 1}}]
    for node in ("n", "m"):
        bridge.said(first, log=[["segpipe.x", logging.INFO, "a scan takes 3 GB"], ["segpipe.x", logging.WARNING, f"unlike {node}"]])
    bridge.said(first, begun="n")
    assert ours.event(0) == Event(first, {"begun": "n"})
    assert caplog.messages == ["a scan takes 3 GB", "unlike n", "unlike m"]
    bridge.died(second, "input")
    found = ours.event(0)
    assert found is not None and found.lost is not None and found.lost.kind == "input"
    bridge.says.append(None)
    ours.close()
    assert bridge.heard[-1] == {"leave": True} and bridge.closed
