"""A user's own network trains like ours; what is none is refused."""

from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from segpipe.errors import ConfigError
from segpipe.plan.plan import Plan
from segpipe.training.custom import build_callback, build_trainable, check_callback, check_network


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


class Wanting(pl.Callback):
    """A callback that cannot be built without an argument."""

    def __init__(self, path: str) -> None:
        super().__init__()


def test_a_callback_that_wants_an_argument_or_is_none_is_refused_without_building_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.training.custom.Wanting", Wanting, raising=False)
    with pytest.raises(ConfigError, match=r"training\.callback .*Wanting: cannot be built with \(\): missing a required argument: 'path'"):
        build_callback("segpipe.training.custom.Wanting")
    with pytest.raises(ConfigError, match=r"is no callback; must be a class derived from pytorch_lightning\.Callback"):
        check_callback("segpipe.settings.Settings")
    with pytest.raises(ConfigError, match="is a int; must be a class"):
        check_callback("segpipe.training.finish.FEW_STEPS")
    check_callback("pytorch_lightning.Callback")


def test_a_network_that_takes_other_arguments_is_refused_without_building_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.training.custom.Wanting", Wanting, raising=False)
    monkeypatch.setattr("segpipe.training.custom.TinyForTest", Tiny, raising=False)
    with pytest.raises(ConfigError, match=r"network\.target .*Wanting: cannot be built with \(in_channels, classes, dims\)"):
        check_network("segpipe.training.custom.Wanting")
    check_network("segpipe.training.custom.TinyForTest")
