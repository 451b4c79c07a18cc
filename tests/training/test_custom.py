"""A user's own network trains like ours; what is none is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from segpipe.errors import ConfigError
from segpipe.plan.plan import Plan
from segpipe.training.custom import build_callback, build_trainable


class Tiny(nn.Conv3d):
    """What a user may bring."""

    def __init__(self, in_channels: int, classes: int, dims: int) -> None:
        super().__init__(in_channels, classes, 1)


def test_a_class_of_the_users_own_gets_one_head(make_plan: Callable[[int], Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.training.custom.TinyForTest", Tiny, raising=False)
    network = build_trainable(make_plan(3), "segpipe.training.custom.TinyForTest")
    x = torch.zeros(1, 1, 4, 4, 4)
    assert torch.equal(network.forward_all(x)[0], network(x))
    assert network(x).shape == (1, 2, 4, 4, 4)


def test_without_a_target_the_plan_builds_the_network(make_plan: Callable[[int], Plan]) -> None:
    assert build_trainable(make_plan(2))(torch.zeros(1, 1, 9, 7)).shape == (1, 2, 9, 7)


@pytest.mark.parametrize("target", ["nothing.Here", "segpipe.errors.ConfigError", "segpipe.settings.Settings"])
def test_what_is_no_network_is_refused(make_plan: Callable[[int], Plan], target: str) -> None:
    with pytest.raises(ConfigError, match=r"network\.target"):
        build_trainable(make_plan(3), target)


def test_no_callback_is_none() -> None:
    assert build_callback("") == []
