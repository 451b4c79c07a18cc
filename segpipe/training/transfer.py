"""Begin with the weights of an earlier model: what fits is taken over, and its stages may learn later or more slowly."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segpipe.errors import ConfigError
from segpipe.package.model_file import load_model
from segpipe.plan.plan import Plan
from segpipe.settings import TrainingSettings
from segpipe.training.checkpoint import network_weights
from segpipe.training.run_folder import RunFolder, read_plan

log = logging.getLogger(__name__)

_ENCODER = re.compile(r"^backbone\.(?:(?P<first>first)|encoder\.(?P<stage>\d+)|(?:down|left)\.(?P<below>\d+))\.")
_NAMED = 6
"""Layers that the warning names."""


@dataclass(frozen=True)
class Source:
    """Weights by name, and the plan of the network that they belong to, where it is known."""

    path: Path
    weights: dict[str, Tensor]
    plan: Plan | None


@dataclass(frozen=True)
class Transfer:
    """Names of layers: taken as they are, adapted to another number of input channels, and left with fresh weights (and why)."""

    taken: tuple[str, ...]
    adapted: tuple[str, ...]
    left: tuple[str, ...]


def read_source(path: Path) -> Source:
    """Weights of a model file, a checkpoint (its averaged weights), or a run folder (its last checkpoint, else its model file).

    Raises:
        ConfigError: nothing there.
        ModelError: it cannot be read.
    """
    path = find_source(path)
    if path.suffix == ".ckpt":
        plan = RunFolder(path.parent.parent).plan
        return Source(path, network_weights(path), read_plan(plan) if plan.exists() else None)
    model = load_model(path)
    network: Any = model.network
    return Source(path, dict(network.state_dict()), model.plan)


def find_source(path: Path) -> Path:
    """The file that `read_source` reads.

    Raises:
        ConfigError: nothing there.
    """
    if not path.exists():
        raise ConfigError(f"training.init is {path}, which does not exist; give a model.ts, a checkpoint, or the folder of a run")
    if path.is_dir():
        run = RunFolder(path)
        path = run.last if run.last.exists() else run.model
        if not path.exists():
            raise ConfigError(
                f"training.init is {run.root}, which holds neither checkpoints/last.ckpt nor model.ts: give the folder of a run"
            )
    return path


def take_over(network: nn.Module, plan: Plan, source: Source) -> Transfer:
    """Copy into `network` every weight whose name and shape fit; the first layer is adapted to another number of channels.

    An input channel that the source knows by its name keeps its weights, any other one gets their mean; all are scaled by the number
    of channels there over here, so that the sum over the channels stays as large.

    Raises:
        ConfigError: no convolution fits.
    """
    own = network.state_dict()
    taken, adapted, left = [], [], []
    with torch.no_grad():
        for name, weight in own.items():
            found = source.weights.get(name)
            if found is not None and found.shape == weight.shape:
                weight.copy_(found)
                taken.append(name)
            elif found is not None and _is_input(name, weight, found, plan):
                weight.copy_(_adapted(found, plan, source.plan))
                adapted.append(name)
            else:
                left.append(f"{name} ({_shape(weight)}, there {'none' if found is None else _shape(found)})")
    if not any(own[name].ndim > 2 for name in (*taken, *adapted)):
        raise ConfigError(f"training.init: no layer of {source.path} fits this network: {_cure(source.plan)}")
    return Transfer(tuple(taken), tuple(adapted), tuple(left))


def _is_input(name: str, weight: Tensor, found: Tensor, plan: Plan) -> bool:
    """Whether it is a convolution on the image itself, alike but for the number of channels."""
    alike = weight.ndim == found.ndim > 2 and weight.shape[0] == found.shape[0] and weight.shape[2:] == found.shape[2:]
    return alike and stage_of(name) == 0 and weight.shape[1] == len(plan.channels)


def _adapted(found: Tensor, plan: Plan, before: Plan | None) -> Tensor:
    """(F, C there, ...) -> (F, C here, ...)."""
    names = [channel.name.lower() for channel in before.channels] if before is not None else []
    mean = found.mean(dim=1)
    here = [channel.name.lower() for channel in plan.channels]
    columns = [found[:, names.index(name)] if name in names else mean for name in here]
    return torch.stack(columns, dim=1) * (found.shape[1] / len(here))


def _shape(weight: Tensor) -> str:
    return "x".join(map(str, weight.shape)) or "scalar"


def _cure(plan: Plan | None) -> str:
    if plan is None:
        return "train with the network settings of that run"
    kernels, strides = ([list(stage) for stage in rows] for rows in (plan.network.kernels, plan.network.strides))
    words = {"name": plan.network.name, "features": list(plan.network.features), "kernels": kernels, "strides": strides}
    settings = " ".join(f"network.{key}={value}".replace(" ", "") for key, value in words.items())
    return f"its network is plan.dims={plan.dims} {settings}; set the same, or train by the plan of its run: plan.file=RUN/plan.json"


def begin_with(network: nn.Module, plan: Plan, init: str) -> None:
    """Take over what fits from the model or checkpoint `init`, and tell what did and what did not.

    Raises:
        ConfigError, ModelError: see `read_source` and `take_over`.
    """
    source = read_source(Path(init))
    found = take_over(network, plan, source)
    all_ = len(found.taken) + len(found.adapted) + len(found.left)
    log.info("training.init: %d of %d weights taken from %s", len(found.taken), all_, source.path)
    if found.adapted:
        log.info("training.init: adapted to %d input channel(s): %s", len(plan.channels), ", ".join(found.adapted))
    if found.left:
        more = f" and {len(found.left) - _NAMED} more" if len(found.left) > _NAMED else ""
        log.warning("training.init: with fresh weights begin %s%s", ", ".join(found.left[:_NAMED]), more)
    if len(found.left) * 2 > all_:
        log.warning("training.init: most of %s does not fit; %s", source.path, _cure(source.plan))
    _tell_normalisation(plan, source)


def _tell_normalisation(plan: Plan, source: Source) -> None:
    before = {channel.name.lower(): channel.normalisation for channel in source.plan.channels} if source.plan is not None else {}
    for channel in plan.channels:
        kind = before.get(channel.name.lower(), channel.normalisation)
        if kind != channel.normalisation:
            log.warning("training.init: %s is normalised as %s here, as %s there", channel.name, channel.normalisation, kind)


def stage_of(name: str) -> int | None:
    """Encoder stage (0 the finest) that a weight belongs to; None for the decoder, the heads, and a user's own network."""
    match = _ENCODER.match(name)
    if match is None:
        return None
    if match["first"]:
        return 0
    return int(match["stage"]) if match["stage"] else int(match["below"]) + 1


class Stages:
    """Which encoder stages learn when, and how fast (gradual unfreezing and discriminative rates: Howard and Ruder 2018).

    Args:
        network: whose weights `stage_of` tells apart.
        thaw: for each encoder stage, finest first, the share of the budget after which it learns (0 from the start, 1 never).
        rates: for each encoder stage, factor on the learning rate. Stages beyond either list learn from the start, with factor 1.

    Raises:
        ConfigError: a list is longer than the network has stages.
    """

    def __init__(self, network: nn.Module, settings: TrainingSettings) -> None:
        self.thaw, self.rates = tuple(settings.thaw), tuple(settings.stage_lr)
        self._names = {id(weight): stage_of(name) for name, weight in network.named_parameters()}
        count = 1 + max((stage for stage in self._names.values() if stage is not None), default=-1)
        for key, values in (("thaw", self.thaw), ("stage_lr", self.rates)):
            if len(values) > count:
                raise ConfigError(f"training.{key} has {len(values)} numbers; the network has {count} encoder stages: give at most {count}")
        parts = dict(network.named_modules())
        self._modules = {stage: [parts[name] for name in parts if _is_part(name, stage)] for stage in range(count)}

    def factor(self, weight: Tensor) -> float:
        """On the learning rate."""
        stage = self._names.get(id(weight))
        return 1.0 if stage is None or stage >= len(self.rates) else self.rates[stage]

    def is_frozen(self, weight: Tensor, progress: float) -> bool:
        """Whether a weight stands still at `progress` (0..1) of the budget."""
        stage = self._names.get(id(weight))
        return stage is not None and self._frozen(stage, progress)

    def settle(self, progress: float) -> None:
        """Frozen stages drop nothing out and keep their running statistics; all others train."""
        for stage in range(len(self.thaw)):
            for module in self._modules[stage]:
                module.train(not self._frozen(stage, progress))

    def _frozen(self, stage: int, progress: float) -> bool:
        return stage < len(self.thaw) and (progress < self.thaw[stage] or self.thaw[stage] >= 1.0)


def _is_part(name: str, stage: int) -> bool:
    """Whether a module is the whole of a stage, or one of the two that make it up."""
    return stage_of(f"{name}.") == stage and name.count(".") == (1 if name == "backbone.first" else 2)


def learning_groups(weights: Sequence[Tensor], stages: Stages, weight_decay: float) -> list[dict[str, object]]:
    """Groups of the optimiser: by factor on the learning rate; norms, biases and slopes carry no weight decay.

    Decay would pull them towards a network that does nothing.
    """
    groups = []
    for factor in sorted({stages.factor(weight) for weight in weights}, reverse=True):
        own = [weight for weight in weights if stages.factor(weight) == factor]
        groups.append({"params": [w for w in own if w.ndim > 1], "weight_decay": weight_decay, "factor": factor})
        groups.append({"params": [w for w in own if w.ndim <= 1], "weight_decay": 0.0, "factor": factor})
    return [group for group in groups if group["params"]]
