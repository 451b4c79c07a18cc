"""Numbers of steps come in order, each with its own words; on a CPU at once, on a GPU a few steps later."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from segpipe.training import in_flight
from segpipe.training.in_flight import InFlight, Taken


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value)


def test_on_a_cpu_each_step_is_read_at_once() -> None:
    flight = InFlight()
    assert flight.put(scalar(0.5), scalar(2.0), "first") == [Taken(0.5, 2.0, "first")]
    assert flight.put(scalar(float("inf")), scalar(3.0), "second") == [Taken(float("inf"), 3.0, "second")]
    assert flight.settle() == []


class Event:
    """Of a GPU: notes when it was waited for."""

    waited: ClassVar[list[int]] = []
    made = 0

    def __init__(self) -> None:
        self.number = Event.made
        Event.made += 1

    def synchronize(self) -> None:
        Event.waited.append(self.number)


def test_steps_of_a_gpu_are_read_when_as_many_follow_as_may_be_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    Event.waited, Event.made = [], 0
    flight: Any = InFlight(2)
    found = []
    for step in range(5):  # as `put` does it with a GPU's tensors
        flight._unread.append((torch.tensor([float(step), 1.0]), Event(), f"step {step}"))
        found.append([taken.at for taken in flight._read(flight._depth)])
    assert found == [[], [], ["step 0"], ["step 1"], ["step 2"]]
    assert [taken.at for taken in flight.settle()] == ["step 3", "step 4"]
    assert Event.waited == [0, 1, 2, 3, 4]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpus_numbers_are_the_right_ones() -> None:
    flight = InFlight()
    found = [taken for step in range(9) for taken in flight.put(scalar(float(step)).cuda(), scalar(2.0 * step).cuda(), str(step))]
    assert len(found) == 9 - in_flight.DEPTH
    assert found + flight.settle() == [Taken(float(step), 2.0 * step, str(step)) for step in range(9)]
