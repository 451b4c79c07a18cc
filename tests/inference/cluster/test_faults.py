"""What Ray raises, in words of our own; `test_ray_cluster` meets the real ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from segpipe.inference.cluster.faults import lost


class _RayError(Exception):
    pass


NAMES = ("TaskCancelledError", "WorkerCrashedError", "RayActorError", "OutOfMemoryError", "NodeDiedError", "ObjectLostError")
KINDS = {name: type(name, (_RayError,), {}) for name in (*NAMES, "TaskUnschedulableError", "ActorUnschedulableError")}
RAY = SimpleNamespace(exceptions=SimpleNamespace(**KINDS))


@pytest.mark.parametrize(
    ("name", "kind", "how"),
    [
        ("ObjectLostError", "input", "a node that is lost"),
        ("ActorUnschedulableError", "place", "its node is lost"),
        ("OutOfMemoryError", "process", "the memory of its node was full: lower --batch or --workers"),
        ("NodeDiedError", "process", "ended with its node"),
        ("WorkerCrashedError", "process", "was killed or has crashed"),
        ("RayActorError", "process", "was killed or has crashed"),
        ("TaskCancelledError", "process", "was ended"),
    ],
)
def test_each_end_is_of_a_kind_and_has_words(name: str, kind: str, how: str) -> None:
    found = lost(RAY, KINDS[name]("a long\ntext of Ray's"))
    assert found.kind == kind and how in found.how and "\n" not in found.how


def test_both_at_once_is_a_lost_input() -> None:
    class Both(KINDS["ObjectLostError"], KINDS["WorkerCrashedError"]):  # type: ignore[name-defined, misc]
        """As Ray raises what a task was given and cannot have."""

    assert lost(RAY, Both()).kind == "input"


def test_a_node_without_segpipe_is_told_and_another_fault_by_its_last_line() -> None:
    text = "Traceback\n  File x\nModuleNotFoundError: No module named 'segpipe'\n\nmore"
    for error in (KINDS["RayActorError"](text), _RayError(text)):
        assert "cannot import segpipe" in lost(RAY, error).how and lost(RAY, error).kind == "fault"
    assert lost(RAY, _RayError("Traceback\n  File x\nKeyError: 'y'\n")).how == "KeyError: 'y'"
    assert lost(RAY, _RayError("")).how
