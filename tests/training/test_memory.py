"""A failed allocation names what was too much and the setting to lower; whole scans get another cure than patches."""

import dataclasses
from pathlib import Path

import pytest
import torch

from segpipe.dataset.case import Case
from segpipe.errors import ConfigError
from segpipe.package.precision import Compute
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
from segpipe.settings import InferenceSettings
from segpipe.training import data, validation
from segpipe.training.memory import loader_advice, memory_advice, smaller_step

PLAN = Plan(
    task="test",
    dims=3,
    channels=(Channel("MR", "zscore"),),
    labels=(Label(0, 0, "background"), Label(1, 1, "one")),
    orient=True,
    axes=(0, 1, 2),
    spacing_mm=None,
    patch_size=(32, 32, 8),
    batch_size=4,
    nonzero=False,
    flips=(True, True, True),
    network=NetworkPlan("unet", (4,), ((3, 3, 3),), ((1, 1, 1),)),
)


def test_the_step_is_halved_and_then_the_patch() -> None:
    assert "plan.batch_size=2" in smaller_step(PLAN)
    assert "plan.patch_size=[24, 24, 8]" in smaller_step(dataclasses.replace(PLAN, batch_size=1))


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 bytes")]
)
def test_failed_allocations_become_one_line_and_other_faults_pass(error: BaseException) -> None:
    with pytest.raises(ConfigError, match="^not enough memory for it: do less$"), memory_advice("for it", "do less"):
        raise error
    with pytest.raises(RuntimeError, match="shapes differ"), memory_advice("for it", "do less"):
        raise RuntimeError("shapes differ")


def test_a_scan_that_is_too_large_to_prepare_or_to_validate_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(data, "open_case", fail)
    with pytest.raises(ConfigError, match="^not enough memory to prepare the case big: .*take the case big out"):
        data.prepare_case(Case("big", (Path("big.nii.gz"),), None), PLAN)
    monkeypatch.setattr(validation, "predict_indices", fail)
    case = data.TrainingCase("big", None, {})  # type: ignore[arg-type]  # never reached
    with pytest.raises(ConfigError, match="^not enough memory to validate the case big as a whole: set inference.batch=1"):
        validation.validate(torch.nn.Identity(), [case], PLAN, InferenceSettings(), Compute("cpu", False))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
        ConnectionResetError(104, "Connection reset by peer"),
        EOFError(),
    ],
)
def test_a_loader_process_that_was_ended_is_told_with_fewer_of_them(error: Exception) -> None:
    with pytest.raises(ConfigError, match=r"^a loader process was ended, .*: set training\.workers=2"), loader_advice(4):
        raise error
    with pytest.raises(type(error)), loader_advice(0):
        raise error


def test_a_fault_inside_a_loader_process_is_none_of_its_end() -> None:
    with pytest.raises(RuntimeError, match="^Caught"), loader_advice(2):
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.")
