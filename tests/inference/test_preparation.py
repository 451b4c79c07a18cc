"""The first stage of a scan needs no network and no GPU."""

from __future__ import annotations

import pytest
import torch

from segpipe.errors import DataError
from segpipe.inference.need import Asked
from segpipe.inference.preparation import Preparation
from segpipe.plan.plan import Plan

from .conftest import blocks_volume

GPU = torch.device("cuda")


@pytest.fixture
def preparation(plan: Plan) -> Preparation:
    return Preparation([[plan]], [], GPU, Asked(0, 0.5, False, False))


def test_a_scan_is_prepared_without_waiting_for_the_gpu(preparation: Preparation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("the GPU may be at the scan before"))
    ready = preparation.prepare(blocks_volume(), False)
    assert ready.prepared[0].image.device.type == "cpu"
    assert ready.seconds["prepare"] > 0


def test_the_memory_that_is_full_is_the_processors(preparation: Preparation, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("segpipe.inference.preparation.prepare", full)
    with pytest.raises(DataError, match="out of memory on cpu in the phase 'prepare': leave out --probabilities"):
        preparation.prepare(blocks_volume(), False)
