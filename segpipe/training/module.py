"""The Lightning module: one step of training, and the averaged network that is validated and exported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from segpipe.errors import DataError
from segpipe.patches.augment import Augment
from segpipe.plan.plan import Plan
from segpipe.settings import TrainingSettings
from segpipe.training.average import RunningAverage
from segpipe.training.in_flight import InFlight, Taken
from segpipe.training.loss import loss_of
from segpipe.training.schedule import Budget, lr_factor
from segpipe.training.seed import derived_seed, generator, seed_global
from segpipe.training.step_loss import StepLoss
from segpipe.training.transfer import Stages, learning_groups

_LOOK = "look at these cases with `segpipe inspect`, or lower training.lr"


class SegmentationModule(pl.LightningModule):
    """Trains a network on augmented patches.

    Args:
        network: has `forward_all(x) -> [logits]`, finest first, and `steps`, for each of these the voxels of x in one of its voxels.
        plan: its `dims` says how patches meet the network.
        augment: applied to the batch where the batch is.
        settings: optimiser, loss, averaging.
        budget: says how far the run is.
        seed: of augmentation and dropout.

    Attributes:
        losses: of the steps since they were last cleared; on a GPU those of the last few steps come later, see `settle`.
        stopped_by: name of the signal that ends the run early (`SIGTERM`), or the empty string; see `stop`.
    """

    def __init__(self, network: nn.Module, plan: Plan, augment: Augment, settings: TrainingSettings, budget: Budget, seed: int) -> None:
        super().__init__()
        self.network = network
        self.averaged = RunningAverage(network, settings.ema) if settings.ema else None
        self.loss = loss_of(plan, settings)
        self.plan, self.augment, self.settings, self.budget, self.seed = plan, augment, settings, budget, seed
        self.losses: list[float] = []
        self.stopped_by = ""
        self.stages = Stages(network, settings)
        self.step_loss = StepLoss(network, self.loss, plan, settings)
        self._in_flight = InFlight()
        self._at, self._progress = "", 0.0
        self._loss: Tensor | None = None

    def inference_network(self) -> nn.Module:
        """The network that is validated and exported: averaged weights where averaging is on."""
        return self.network if self.averaged is None else self.averaged.module

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        step = int(self.global_step)
        self._progress = self._share(step)
        rate = self._rate(step)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = rate * group["factor"]
        self.budget.rates.append(rate)
        self.budget.shares.append(self._progress)
        self.stages.settle(self._progress)
        # Dropout draws from the global generator: tie it to the step, so that a resumed run drops the same channels.
        seed_global(derived_seed(self.seed, "dropout", step, self.global_rank), self.device)

    def _share(self, step: int) -> float:
        """Share of the budget (0..1) that is spent, the same in all processes."""
        progress = self.budget.share(step)
        if self.trainer.world_size > 1 and self.budget.is_timed:
            progress = float(self.trainer.strategy.broadcast(progress))
        return progress

    def _rate(self, step: int) -> float:
        if self.budget.replay:
            return self.budget.replay[min(step, len(self.budget.replay) - 1)]
        return self.settings.lr * lr_factor(self._progress, self.settings.schedule, self.settings.warmup)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        random = generator(self.seed, "augment", batch["step"], self.global_rank)
        with torch.no_grad():
            image, label = self.augment(batch["image"], batch["label"], random)
        if self.plan.dims == 2:
            image, label = image.squeeze(-1), label.squeeze(-1)
        loss = self.step_loss(image, label, self._all_agree)
        self._at = f"at step {batch['step']} with patches of {', '.join(sorted(set(batch['cases'])))}"
        self._loss = loss.detach()
        return loss

    def _all_agree(self, yes: bool) -> bool:
        return bool(self.trainer.strategy.reduce_boolean_decision(yes)) if self.trainer.world_size > 1 else yes

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        weights: list[Tensor] = [weight for group in optimizer.param_groups for weight in group["params"]]
        for weight in weights:
            if self.stages.is_frozen(weight, self._progress):
                weight.grad = None  # the optimiser passes over it: neither moments nor decay move it
        norm = nn.utils.clip_grad_norm_(weights, gradient_clip_val or math.inf)
        if self._loss is not None:
            self._look_at(self._in_flight.put(self._loss, norm, self._at))

    def settle(self) -> None:
        """Look at the steps that a GPU may still be busy with: before anything that came of them is validated or kept.

        Raises:
            DataError: one of them went wrong.
        """
        self._look_at(self._in_flight.settle())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.settle()  # whoever asks for the checkpoint

    def _look_at(self, steps: Sequence[Taken]) -> None:
        """Note the losses, and refuse a step after which the weights are, or would be, worthless."""
        alone = self.trainer.world_size == 1
        for step in steps:
            wrong = "" if math.isfinite(step.loss) else f"the loss became {step.loss}"
            # A finite loss may have gradients that are not: clipped by their norm, they would make every weight NaN. Several
            # processes share their gradients, so that each comes here; the one whose loss went wrong says so.
            if not math.isfinite(step.norm) or (wrong and alone):
                self._refuse(wrong or (f"the gradients became {step.norm}" if alone else ""), step.at)
            self.losses.append(step.loss)

    def _refuse(self, wrong: str, at: str) -> None:
        """End the run with the step and the cases; of several processes the first speaks for all."""
        found = [f"{wrong} {at}" if wrong else ""]
        if self.trainer.world_size > 1:
            found = [""] * self.trainer.world_size
            torch.distributed.all_gather_object(found, f"{wrong} {at}" if wrong else "")
        if not self.trainer.is_global_zero:
            raise SystemExit(DataError.exit_code)
        raise DataError(f"{'; '.join(filter(None, found)) or f'the gradients became infinite or NaN {at}'}: {_LOOK}")

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # Here and not in `on_train_batch_end`, which Lightning calls after the callbacks: a checkpoint that is written at a
        # validation holds the average of its own step, or a resumed run would miss one update.
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:
            self.averaged.update(self.network)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        done = bool(self.stopped_by) or self.budget.progress(int(self.global_step)) >= 1.0
        if self.trainer.world_size > 1:
            done = bool(self.trainer.strategy.reduce_boolean_decision(done, all=False))
        if done:
            self._share_signal()
            self.trainer.should_stop = True

    def _share_signal(self) -> None:
        """A signal may have reached one rank only, and the first must know it: its exit code is that of the command."""
        if self.trainer.world_size > 1:
            found = [""] * self.trainer.world_size
            torch.distributed.all_gather_object(found, self.stopped_by)
            self.stopped_by = next(filter(None, found), "")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        weights = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        groups = learning_groups(weights, self.stages, self.settings.weight_decay)
        if self.settings.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=self.settings.lr, momentum=self.settings.momentum, nesterov=self.settings.momentum > 0)
        return torch.optim.AdamW(groups, lr=self.settings.lr, fused=True)
