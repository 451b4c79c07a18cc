"""The averaged network follows as torch's own averaging does, and goes on after a restart."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from segpipe.training.average import RunningAverage


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.Conv3d(3, 2, 1))


def wander(net: nn.Module, step: int) -> None:
    random = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.add_(1 if tensor.dtype == torch.long else torch.randn(tensor.shape, generator=random))


def theirs(net: nn.Module, decay: float) -> AveragedModel:
    def average(kept: Any, current: Any, updates: Any) -> None:
        share = 1.0 - min(decay, (1.0 + float(updates)) / (10.0 + float(updates)))
        for old, new in zip(kept, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, share)
            else:
                old.copy_(new)

    return AveragedModel(net, multi_avg_fn=average, use_buffers=True)


def test_it_follows_as_torchs_own_does() -> None:
    net = network()
    ours, other = RunningAverage(net, 0.9), theirs(net, 0.9)
    for step in range(30):
        wander(net, step)
        ours.update(net)
        other.update_parameters(net)
    assert ours.state_dict().keys() == other.state_dict().keys()
    for name, value in other.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert not any(weight.requires_grad for weight in ours.parameters())


def test_it_goes_on_where_a_checkpoint_was_written() -> None:
    net = network()
    whole, half = RunningAverage(net, 0.9), RunningAverage(net, 0.9)
    for step in range(10):
        wander(net, step)
        whole.update(net)
        if step < 5:
            half.update(net)
        if step == 4:
            again = RunningAverage(network(), 0.9)
            again.load_state_dict(half.state_dict())
        if step >= 5:
            again.update(net)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_it_follows_buffers_that_a_move_has_made_anew() -> None:
    net = network()
    average = RunningAverage(net, 0.0)
    average.update(net)
    net.double()
    average.double()
    wander(net, 1)
    average.update(net)
    for value, other in zip(average.module.buffers(), net.buffers(), strict=True):
        assert value.dtype == other.dtype
