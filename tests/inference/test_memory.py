"""A failed allocation becomes a line with the option to lower; other faults pass."""

import pytest
import torch

from segpipe.errors import DataError
from segpipe.inference.memory import memory_guard

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("phase", "device", "batch", "cure"),
    [
        ("network", CPU, 0, "use --batch 1"),
        ("network", CPU, 8, "lower --batch from 8 to 4"),
        ("network", GPU, 1, "use --device cpu"),
        ("network", CPU, 1, "leave out --probabilities"),
        ("restore", GPU, 8, "use --device cpu"),
        ("prepare", CPU, 8, "more memory"),
    ],
)
def test_the_cure_fits_the_phase(phase: str, device: torch.device, batch: int, cure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    with pytest.raises(DataError, match=f"out of memory on {device} in the phase '{phase}': .*{cure}"), memory_guard(phase, device, batch):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    assert bool(emptied) == (device.type == "cuda")


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_each_kind_of_failed_allocation_is_known(error: BaseException) -> None:
    with pytest.raises(DataError, match="out of memory"), memory_guard("network", CPU, 0):
        raise error


def test_other_faults_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), memory_guard("network", CPU, 0):
        raise RuntimeError("shapes differ")
