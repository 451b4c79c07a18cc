"""Training on a GPU: no step makes the processor wait, a replayed step learns what the step itself learns, and what went wrong is found."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segpipe.dataset.phantom import write_phantom
from segpipe.errors import DataError
from segpipe.network.build import build_network
from segpipe.package.model_file import load_model
from segpipe.plan.plan import NetworkPlan, Plan
from segpipe.settings import AugmentSettings, Effect, Settings, TrainingSettings
from segpipe.training.captured import Captured
from segpipe.training.checkpoint import network_weights
from segpipe.training.loss import loss_of
from segpipe.training.run import run_training
from segpipe.training.step_loss import StepLoss
from tests.training.given import tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]

CALLBACKS = '''
import os, signal, warnings
import pytorch_lightning as pl
import torch

class NoWaits(pl.Callback):
    """A wait for the GPU within a step is an error, once everything has been reserved and recorded."""
    def on_train_batch_start(self, trainer, pl_module, batch, *rest):
        with warnings.catch_warnings(action="ignore"):  # that it does not see every wait
            torch.cuda.set_sync_debug_mode("error" if 5 <= trainer.global_step < trainer.max_steps - 1 else "default")

class Poison(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, *rest):
        if batch["step"] == 7:
            batch["image"].fill_(float("nan"))

class Stopper(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, *rest):
        if pl_module.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
'''
ALWAYS = {
    "rotate": Effect(0.5, -20, 20),
    "scale": Effect(0.5, 0.8, 1.2),
    "elastic": Effect(0.5, 0.5, 1.0),
    "flip": Effect(0.5),
    "crop": Effect(0.5, -0.2, 0.2),
    "whitening": Effect(0.5, -0.2, 0.2),
    "noise": Effect(0.5, 0.0, 0.1),
    "channel_shift": Effect(0.5, -0.2, 0.2),
    "brightness": Effect(0.5, 0.8, 1.2),
    "contrast": Effect(0.5, 0.8, 1.2),
    "gamma": Effect(0.5, 0.8, 1.2),
    "blur": Effect(0.5, 0.3, 0.8),
    "low_resolution": Effect(0.5, 0.5, 1.0),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_phantom(folder, "prostate", cases=4, seed=3, size="small")
    return folder


@pytest.fixture
def callbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "segpipe_gpu_callbacks.py").write_text(CALLBACKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("segpipe_gpu_callbacks", None)
    yield
    torch.cuda.set_sync_debug_mode("default")


def settings(data: Path, run: Path, **training: Any) -> Settings:
    return tiny(data, run, "cuda", AugmentSettings(**ALWAYS), {"max_steps": 12, "validate_steps": 100, "overlays": 1} | training)


def network(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    spec = {"norm": "batch", "dropout": 0.3, "convolutions": 1} | changes
    return build_network(NetworkPlan("unet", (4, 6), ((3,) * 3,) * 2, ((1,) * 3, (2,) * 3), deep_supervision=True, **spec), 1, 2, 3).cuda()


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 1, 8, 8, 6, generator=generator)
    return image.cuda(), (image[:, 0] > 0.5).to(torch.uint8).cuda()


def learned(plan: Plan, graph: bool, bf16: bool, **changes: Any) -> tuple[list[float], list[Tensor]]:
    """Losses of five steps, the third to fifth with the encoder's first stage frozen; weights and buffers after them."""
    net = network(**changes)
    step_loss = StepLoss(net, loss_of(plan, TrainingSettings()).cuda(), plan, TrainingSettings(cuda_graph=graph))
    optimiser = torch.optim.SGD(net.parameters(), 0.05)
    losses = []
    for step in range(5):
        torch.manual_seed(step)
        if step == 2:
            net.backbone.encoder[0].eval()
        optimiser.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            total = step_loss(*batch(step))
        total.backward()
        optimiser.step()
        losses.append(float(total.detach()))
        assert (step_loss._captured._recorded is not None) == graph
        del total  # as a training does: what it holds belongs to the stream of its own step
    return losses, [*net.parameters(), *net.buffers()]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("changes", [{}, {"norm": "instance", "dropout": 0.0}])
def test_replayed_steps_learn_what_the_steps_themselves_learn(
    make_plan: Any, bf16: bool, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="segpipe"):
        losses, tensors = learned(make_plan(3), True, bf16, **changes)
    assert not caplog.records
    expected, others = learned(make_plan(3), False, bf16, **changes)
    assert len(set(losses)) == 5
    assert losses == pytest.approx(expected, abs=2e-2 if bf16 else 1e-4)
    for found, other in zip(tensors, others, strict=True):
        torch.testing.assert_close(found, other, atol=2e-2 if bf16 else 1e-4, rtol=5e-2 if bf16 else 1e-3)


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    net = network(norm="instance", dropout=0.0)

    def waiting(image: Tensor, label: Tensor) -> Tensor:
        heads = net.forward_all(image)  # type: ignore[operator]
        return heads[0].square().mean() * float(label.sum())

    captured, dropout = Captured(net, True), nn.Dropout3d()
    with caplog.at_level(logging.WARNING, logger="segpipe"):
        for step in range(3):
            image, label = batch(step)
            assert float(captured(waiting, image, label).detach()) == pytest.approx(float(waiting(image, label).detach()), rel=1e-4)
            dropout(image)  # a recording that failed must leave the generator usable
    assert [record.message.partition(": ")[0] for record in caplog.records] == ["training.cuda_graph"]


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("workers", [0, 2])
def test_no_step_makes_the_processor_wait(data: Path, tmp_path: Path, precision: str, workers: int) -> None:
    wanted = settings(data, tmp_path / "run", precision=precision, workers=workers, callback="segpipe_gpu_callbacks.NoWaits")
    done = run_training(wanted, "")
    assert done is not None
    assert done.steps == 12
    assert all(torch.isfinite(value).all() for value in network_weights(tmp_path / "run/checkpoints/last.ckpt").values())
    assert "cuda" in (tmp_path / "run/environment.json").read_text()
    load_model(tmp_path / "run/model.ts")  # on a processor


@pytest.mark.usefixtures("callbacks")
def test_a_loss_that_is_not_finite_is_found_a_few_steps_later_and_named_by_its_own(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the loss became nan at step 7 .*prostate_00"):
        run_training(settings(data, tmp_path / "run", callback="segpipe_gpu_callbacks.Poison"), "")
    with pytest.raises(DataError, match=r"the loss became nan at step 7 .*prostate_00"):  # the last step: nothing follows that would look
        run_training(settings(data, tmp_path / "last", max_steps=8, callback="segpipe_gpu_callbacks.Poison"), "")
    assert not (tmp_path / "last/model.ts").exists()


def test_the_same_seed_gives_the_same_weights(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_training(settings(data, tmp_path / name, precision="bf16"), "")
    one, two = (network_weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_stages_that_thaw_are_recorded_anew(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = []
    record = Captured._record
    monkeypatch.setattr(Captured, "_record", lambda self, *call: recorded.append(record(self, *call)) or recorded[-1])
    run_training(settings(data, tmp_path / "run", thaw=[0.5, 0.25]), "")
    assert len(recorded) == 3
    assert all(one is not None for one in recorded)


@pytest.mark.usefixtures("callbacks")
def test_a_stopped_training_goes_on(data: Path, tmp_path: Path) -> None:
    wanted = settings(data, tmp_path / "run", callback="segpipe_gpu_callbacks.Stopper")
    first = run_training(wanted, "")
    assert first is not None
    assert first.steps == 6
    again = run_training(dataclasses.replace(wanted, training=dataclasses.replace(wanted.training, callback="", resume="auto")), "")
    assert again is not None
    assert again.steps == 12
